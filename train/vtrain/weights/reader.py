"""Any file with weights, as tensors by name. Nothing in a file is ever executed."""

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vprep.errors import UsageError
from vtrain.weights import pickled, safetensors

PLAIN = (str, int, float, bool, type(None))


@dataclass(frozen=True, slots=True)
class Contents:
    """The tensors of a file, with dots between the words of nested names; and its plain values, nested as they were."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint of torch, of any age, or of a .safetensors file."""
    return read(path).tensors


def read(path: Path) -> Contents:
    if not path.is_file():
        raise UsageError(f"{path} is not a file")
    with path.open("rb") as file:
        head = file.read(9)
    if head[8:] == b"{":  # a header of JSON behind its length
        tensors, facts = safetensors.read(path)
        return Contents(tensors, dict(facts))
    found = load(path)
    tensors = {}
    try:
        collect(found, "", tensors)
    except (RecursionError, ValueError) as error:
        raise UsageError(f"{path}: its tensors have no clear names ({error})") from None
    if not tensors:
        raise UsageError(f"{path} holds no tensors")
    return Contents(tensors, plain(found) if isinstance(found, dict) else {})


def load(path: Path) -> Any:  # noqa: ANN401  whatever was saved
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of deprecated storages, which an old file cannot help
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # it says no to much that is harmless; the other reader knows what to say
        return pickled.read(path)


def collect(found: Any, before: str, tensors: dict[str, Tensor]) -> None:  # noqa: ANN401
    if isinstance(found, Tensor):
        name = before.removesuffix(".")
        if name in tensors:
            raise ValueError(f"'{name}' is there twice")
        tensors[name] = found.detach()
        return
    items = found.items() if isinstance(found, dict) else enumerate(found) if isinstance(found, list | tuple) else ()
    for key, value in items:
        collect(value, f"{before}{key}.", tensors)


def plain(found: dict[Any, Any]) -> dict[str, Any]:
    """What JSON could hold too."""
    return {str(key): kept(value) for key, value in found.items() if is_plain(value) or isinstance(value, dict)}


def is_plain(value: Any) -> bool:  # noqa: ANN401
    if isinstance(value, list | tuple):
        return all(isinstance(one, dict) or is_plain(one) for one in value)
    return isinstance(value, PLAIN)


def kept(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, dict):
        return plain(value)
    return type(value)(kept(one) for one in value) if isinstance(value, list | tuple) else value
