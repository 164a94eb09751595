"""Read the samples of a tar by WebDataset's rule: the name up to its first dot is the key."""

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from vprep.errors import WorkError
from vprep.format import BLOCK, TRAILER
from vprep.text import brief

# What Python's tarfile raises for headers that are damaged or made to mislead it.
_TAR_ERRORS = (tarfile.TarError, ArithmeticError, LookupError, TypeError, ValueError, RecursionError)


@dataclass(slots=True)
class Sample:
    """The members of one key in the order of the tar, each with its extension, first byte and size."""

    key: str
    members: list[tuple[str, int, int]] = field(default_factory=list)


def samples(tar: Path) -> Iterator[Sample]:
    """Yield the samples of a tar; a tar that is cut off, damaged or not plain raises a WorkError that names it.

    Python's tarfile silently treats a damaged header as the end of the archive, so the end is checked.
    """
    if not tar.is_file():
        raise WorkError(f"{tar} is no file; a set's tars must be regular files")
    sample, end = None, 0
    for info in _members(tar):
        end = info.offset_data + -(-info.size // BLOCK) * BLOCK
        if info.isdir():
            continue
        key, extension = _key(info.name)
        if sample is None or sample.key != key:
            if sample is not None:
                yield sample
            sample = Sample(key)
        sample.members.append((extension, info.offset_data, info.size))
    with tar.open("rb") as file:
        file.seek(end)
        if file.read(len(TRAILER)) != TRAILER:
            raise WorkError(f"{tar} is cut off or damaged at byte {end}; the rest of it cannot be read")
    if sample is not None:
        yield sample


def _members(tar: Path) -> Iterator[tarfile.TarInfo]:
    """Yield the headers of a tar in its order; links, devices, sparse and compressed files are refused."""
    size, end = tar.stat().st_size, 0
    try:
        with tarfile.open(tar, "r:") as archive:
            while (info := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # tarfile keeps every header: gigabytes for 10 million
                if info.size < 0 or info.offset_data < end:
                    raise tarfile.HeaderError(f"member '{brief(info.name)}' claims bytes that are not its own")
                if info.offset_data + info.size > size:
                    raise tarfile.HeaderError(f"it ends inside member '{brief(info.name)}'")
                if not (info.isdir() or (info.isreg() and not info.issparse())):
                    kind = "sparse" if info.issparse() else "a link or a device"
                    raise WorkError(f"{tar}, member '{brief(info.name)}': it is {kind}; pack the files themselves")
                end = info.offset_data + info.size
                yield info
    except _TAR_ERRORS as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise WorkError(f"{tar} is cut off, damaged or no plain tar ({why}); the rest of it cannot be read") from None


def _key(name: str) -> tuple[str, str]:
    folder, _, file = name.rpartition("/")
    stem, _, extension = file.partition(".")
    return f"{folder}/{stem}" if folder else stem, extension.lower()
