"""Open a file of torch.save of any age."""

import os
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, cast

import torch
from torch import Tensor

from vprep.text import brief
from vtrain.torch_file.archive import check_sums, open_checked, read_archive
from vtrain.torch_file.legacy import read_legacy
from vtrain.torch_file.limits import DEPTH, OBJECTS
from vtrain.torch_file.unpickler import CallRefusedError

TIMES, ROOM = 4, 1 << 30  # tensors may take so many times their file, as tied ones do, and so many bytes more


class UnreadableError(Exception):
    """The file is damaged, or no file of torch.save, or one that is not to be trusted. The message is why."""


def read(path: Path) -> Any:  # noqa: ANN401  any saved object
    """Return the object that torch.save wrote to `path`, with its tensors on the CPU.

    Objects of classes that torch.load(weights_only=True) does not know are empty.
    """
    try:
        found = _read_zip(path) if _is_zip(path) else read_legacy(path)
        refuse_absurd(found, path.stat().st_size)
    except Exception as error:  # a damaged file can raise anything
        raise UnreadableError(_reason(error)) from None
    return found


def read_values(path: Path) -> Any:  # noqa: ANN401  any saved object
    """Return the same object without reading its tensors: each of them is None. Other checksums are not checked."""
    try:
        if not _is_zip(path):
            return read_legacy(path, tensors=False)
        with open_checked(path) as archive:
            return read_archive(archive, tensors=False)
    except Exception as error:
        raise UnreadableError(_reason(error)) from None


def refuse_absurd(found: Any, size: int) -> None:  # noqa: ANN401
    """Refuse an object that a file of `size` bytes cannot hold honestly: too large, too deep, or not what it seems."""
    objects, room = 0, TIMES * size + ROOM
    waiting = [(found, 0)]
    while waiting:
        node, depth = waiting.pop()
        objects += 1
        room -= node.numel() * node.element_size() if isinstance(node, Tensor) else 0
        if objects > OBJECTS or depth > DEPTH or room < 0:
            raise ValueError("its objects would take far more memory than the file")
        if isinstance(node, Tensor) and (node.device.type != "cpu" or node.layout != torch.strided):
            raise ValueError("it holds a tensor without its numbers")
        if isinstance(node, OrderedDict) and vars(node).keys() - {"_metadata"}:
            raise ValueError("it replaces the methods of a dictionary")
        waiting += [(inner, depth + 1) for inner in _inside(node)]


def _inside(node: Any) -> Iterable[Any]:  # noqa: ANN401
    if isinstance(node, dict):
        return [*dict.keys(node), *dict.values(node)]
    return node if isinstance(node, list | tuple | set | frozenset) else ()


def _is_zip(path: Path) -> bool:
    if not path.exists():
        raise ValueError("it is not there")
    if not path.is_file():
        raise ValueError("it is not a file")
    return zipfile.is_zipfile(path)


def _read_zip(path: Path) -> Any:  # noqa: ANN401
    with open_checked(path) as archive:
        check_sums(archive)
        try:
            # The file that was checked, also if a training has put another in its place meanwhile.
            with open(os.dup(cast(IO[bytes], archive.fp).fileno()), "rb") as file, warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about the deprecated storages of old files
                return torch.load(file, map_location="cpu", weights_only=True)
        except Exception:  # torch refuses harmless files too; the other reader says what is wrong with a file
            return read_archive(archive)


def _reason(error: Exception) -> str:
    """Return why a file cannot be read, as a part of a sentence."""
    if isinstance(error, CallRefusedError):
        return f"it asks for {error} to be called when it is read; nothing was called"
    if isinstance(error, zipfile.BadZipFile) and "Bad CRC-32" in str(error):
        return "it is damaged: its content is not what its checksum says"
    return brief(str(error).splitlines()[0]) if str(error) else type(error).__name__
