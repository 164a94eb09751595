"""The format of torch.save before PyTorch 1.6: pickles one after another, then the bytes of the storages.

It has no checksums: of a changed file, only what contradicts itself can be noticed.
"""

import io
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from vtrain.torch_file import limits
from vtrain.torch_file.unpickler import Reader, flat

MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of a file
PICKLES = 5  # the magic number, the version, the machine, the object and the names of its storages


def read_legacy(path: Path, *, tensors: bool = True) -> Any:  # noqa: ANN401  any saved object
    """Return the saved object, with objects of unknown classes empty; without `tensors`, each of them is None."""
    with path.open("rb") as file:
        _check(io.BytesIO(file.read(limits.BYTES)))
        file.seek(0)
        if Reader(file).load() != MAGIC:
            raise ValueError("it does not begin like one")
        Reader(file).load()  # version of the format
        if not Reader(file).load().get("little_endian", True):
            raise ValueError("it was written on a big-endian machine")
        return _object(file, path.stat().st_size) if tensors else Reader(file, lambda _: None).load()


def _check(head: io.BytesIO) -> None:
    if head.getvalue().startswith(b"PK\x03\x04"):
        raise ValueError("it is a zip file without its end: the file is incomplete")
    if not head.getvalue().startswith(b"\x80"):
        raise ValueError("it does not begin like one")
    for _ in range(PICKLES):
        limits.check(head)


def _object(file: IO[bytes], size: int) -> Any:  # noqa: ANN401
    flats: dict[str, Tensor] = {}

    def storage_of(pid: Any) -> Tensor:  # noqa: ANN401
        _, dtype, key, _, count, view = pid
        if key not in flats:
            if not 0 <= count * dtype.itemsize <= size - sum(each.nbytes for each in flats.values()):
                raise ValueError(f"a storage of {count} elements is larger than the file")
            flats[key] = torch.zeros(count, dtype=dtype)
        return flats[key] if view is None else flats[key][view[1] : view[1] + view[2]]

    found = Reader(file, storage_of).load()
    for key in Reader(file).load():
        count, storage = int.from_bytes(file.read(8), "little"), flats[key]
        if count != len(storage):
            raise ValueError(f"a storage has {count} elements instead of {len(storage)}")
        storage.copy_(flat(bytearray(file.read(count * storage.itemsize)), storage.dtype, count))
    return found
