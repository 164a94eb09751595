"""Read tensors by name from any file with weights. Nothing in a file is executed.

A .safetensors file is read by the package of that name, and a checkpoint of torch by `vtrain.torch_file`.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from vprep.errors import UsageError
from vtrain import torch_file
from vtrain.torch_file.unpickler import STORAGES

PLAIN = (str, int, float, bool, type(None))
HEADER_BYTES = 8 << 20  # of a .safetensors file, at most: 100 for each tensor


@dataclass(frozen=True, slots=True)
class Contents:
    """The tensors of a file, nested names joined by dots, and its plain values, nested as in the file."""

    tensors: dict[str, Tensor]
    values: dict[str, Any]


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a .safetensors file, or of a checkpoint of torch of any age."""
    return read(path).tensors


def read(path: Path) -> Contents:
    """Return what a .safetensors file or a checkpoint of torch holds."""
    if not path.is_file():
        raise UsageError(f"{path} is not a file")
    with path.open("rb") as file:
        head = file.read(9)
    if head[8:] == b"{":  # the length of a header, then its JSON
        return read_safetensors(path, int.from_bytes(head[:8], "little"))
    try:
        found = load(path)
    except UsageError as error:
        raise UsageError(f"{error}; name a good file") from None
    tensors: dict[str, Tensor] = {}
    try:
        collect(found, "", tensors)
    except ValueError as error:
        raise UsageError(f"{path}: the names of its tensors are ambiguous ({error})") from None
    if not tensors:
        raise UsageError(f"{path} holds no tensors")
    return Contents(tensors, plain(found) if isinstance(found, dict) else {})


def load(path: Path) -> Any:  # noqa: ANN401  any saved object
    """Return the object that torch.save wrote to `path`; an error says what is wrong, and the caller what to do."""
    try:
        return torch_file.read(path)
    except torch_file.UnreadableError as error:
        raise UsageError(f"{path} cannot be read as a checkpoint of torch ({error})") from None


def read_safetensors(path: Path, header: int) -> Contents:
    """Return the tensors, each in memory of its own, and the metadata of a .safetensors file."""
    try:
        if header > HEADER_BYTES:
            raise ValueError(f"its header takes {header} bytes")
        with safe_open(path, framework="pt") as file:
            # The package maps the file into memory. A copy stays good when the file is changed later.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118  it is no mapping
            values = dict(file.metadata() or {})
    except (SafetensorError, ValueError, TypeError, RuntimeError, AttributeError) as error:
        raise UsageError(f"{path} is not a readable safetensors file ({error}); use a good copy of it") from None
    refuse_dtypes(path, tensors)
    return Contents(tensors, values)


def refuse_dtypes(path: Path, tensors: dict[str, Tensor]) -> None:
    """Refuse tensors of types that no network here computes with, such as float8 and complex numbers."""
    for name, tensor in tensors.items():
        if tensor.dtype not in STORAGES.values():
            word = str(tensor.dtype).removeprefix("torch.")
            raise UsageError(f"{path}: tensor '{name}' is {word}; convert it to float32 first")


def collect(found: Any, prefix: str, tensors: dict[str, Tensor]) -> None:  # noqa: ANN401
    """Add all tensors in `found` to `tensors`, under the keys that lead to them."""
    if isinstance(found, Tensor):
        name = prefix.removesuffix(".")
        if name in tensors:
            raise ValueError(f"'{name}' appears twice")
        tensors[name] = found.detach()
        return
    items = found.items() if isinstance(found, dict) else enumerate(found) if isinstance(found, list | tuple) else ()
    for key, value in items:
        collect(value, f"{prefix}{key}.", tensors)


def plain(found: dict[Any, Any]) -> dict[str, Any]:
    """Return the entries that JSON can hold."""
    return {str(key): plain_value(value) for key, value in found.items() if is_plain(value) or isinstance(value, dict)}


def is_plain(value: Any) -> bool:  # noqa: ANN401
    if isinstance(value, list | tuple):
        return all(isinstance(each, dict) or is_plain(each) for each in value)
    return isinstance(value, PLAIN)


def plain_value(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, dict):
        return plain(value)
    return type(value)(plain_value(each) for each in value) if isinstance(value, list | tuple) else value
