"""The format of torch.save since PyTorch 1.6: a zip of data.pkl and a file for each storage, none of them compressed.

torch.load checks no checksum and inflates what is compressed, so `open_checked` looks at the file before it is used.
"""

import io
import os
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from vtrain.torch_file import limits
from vtrain.torch_file.unpickler import Reader, flat

PIECE = 1 << 20  # bytes that are read at once
LISTED_BYTES = 8 << 20  # of the table of contents, at most: some 100,000 members
PICKLE = "/data.pkl"


class _Bounded(io.BufferedReader):
    """A file that refuses to be read in large pieces while a zip is opened: there, only a table of contents is one."""

    opening = True

    def read(self, size: int | None = -1, /) -> bytes:
        if self.opening and size is not None and size > LISTED_BYTES:
            raise zipfile.BadZipFile(f"its table of contents takes {size} bytes")
        return super().read(size)


@contextmanager
def bounded_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip of no absurd number of members, each of them once."""
    with path.open("rb", buffering=0) as raw, _Bounded(raw) as file, zipfile.ZipFile(file) as archive:
        file.opening = False
        if len(set(archive.namelist())) != len(archive.namelist()):
            raise ValueError("it holds a file twice")
        yield archive


@contextmanager
def open_checked(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip whose members are stored as they are, each once and apart, and whose pickle is within the limits."""
    with bounded_zip(path) as archive:
        members, size = archive.infolist(), size_of(archive)
        if any(member.compress_type or member.file_size != member.compress_size for member in members):
            raise ValueError("it is compressed, which no checkpoint of torch is")
        if sum(member.file_size for member in members) > size:
            raise ValueError("its parts overlap")
        order = f"{folder_of(archive)}byteorder"
        if order in archive.namelist() and archive.read(order) != b"little":
            raise ValueError("it was written on a big-endian machine")
        limits.check(io.BytesIO(pickle_in(archive)))
        yield archive


def size_of(archive: zipfile.ZipFile) -> int:
    """Return the size of the file that is open, also if another has taken its place meanwhile."""
    return os.fstat(archive.fp.fileno()).st_size if archive.fp else 0


def folder_of(archive: zipfile.ZipFile) -> str:
    """Return the folder in the zip that holds the saved object."""
    found = [name.removesuffix("data.pkl") for name in archive.namelist() if name.endswith(PICKLE)]
    if len(found) != 1:
        raise ValueError(f"it holds {len(found)} files data.pkl instead of one")
    return found[0]


def pickle_in(archive: zipfile.ZipFile) -> bytes:
    """Return the pickle, whose checksum is checked."""
    member = archive.getinfo(f"{folder_of(archive)}data.pkl")
    if member.file_size > limits.BYTES:
        raise ValueError(f"its pickle takes {member.file_size} bytes")
    return archive.read(member)


def check_sums(archive: zipfile.ZipFile) -> None:
    """Refuse the zip if the content of a member is not what its checksum says."""
    for member in archive.infolist():
        with archive.open(member) as file:
            while file.read(PIECE):
                pass


def read_archive(archive: zipfile.ZipFile, *, tensors: bool = True) -> Any:  # noqa: ANN401  any saved object
    """Return the saved object, with objects of unknown classes empty; without `tensors`, each of them is None."""
    folder = folder_of(archive)
    flats: dict[str, Tensor] = {}

    def storage(pid: Any) -> Tensor:  # noqa: ANN401
        _, dtype, key, _, count = pid
        if key not in flats:
            flats[key] = flat(bytearray(archive.read(f"{folder}data/{key}")), dtype, count)
        return flats[key]

    chosen: Callable[[Any], Tensor | None] = storage if tensors else lambda _: None
    return Reader(io.BytesIO(pickle_in(archive)), chosen).load()
