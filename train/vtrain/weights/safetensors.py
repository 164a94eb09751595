"""The safetensors format, read and written: 8 bytes of length, a JSON header of that length, the tensors' bytes.

A file is not trusted: the ranges in its header must cover its data exactly, without gaps or overlaps.
"""

import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vprep.atomic import atomic_write
from vprep.errors import UsageError

DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16,
    "I64": torch.int64, "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8,
    "BOOL": torch.bool,
}  # fmt: skip
WORDS = {dtype: word for word, dtype in DTYPES.items()}
MOST = 100_000_000  # bytes of a header, as the format's own reader has it


def write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """`path` becomes a whole file, or stays what it was."""
    # The largest items first, so that every tensor begins at a multiple of the size of its items.
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].element_size(), item[0]))
    header: dict[str, Any] = {"__metadata__": metadata}
    begin = 0
    for name, tensor in ordered:
        end = begin + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": WORDS[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with atomic_write(path) as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for _, tensor in ordered:
            file.write(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors by name, and the file's metadata."""
    data = bytearray(path.read_bytes())
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or length > min(MOST, len(data) - 8):
        raise UsageError(f"{path}: its header of {length} bytes is not there; the file is cut or no safetensors file")
    try:
        header = json.loads(data[8 : 8 + length].decode(), object_pairs_hook=unique)
        metadata = {str(name): str(value) for name, value in header.pop("__metadata__", {}).items()}
        parts = {str(name): part(facts) for name, facts in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(f"{path}: its header is not that of a safetensors file ({error})") from None
    at, body = 0, torch.frombuffer(data, dtype=torch.uint8)[8 + length :]
    tensors = {}
    for name, (dtype, shape, begin, end) in sorted(parts.items(), key=lambda item: item[1][2:]):
        if begin != at or end - begin != math.prod(shape) * dtype.itemsize or end > len(body):
            raise UsageError(f"{path}: tensor '{name}' is said to lie in bytes [{begin}, {end}), which cannot be")
        tensors[name], at = body[begin:end].clone().view(dtype).reshape(shape), end
    if at != len(body):
        raise UsageError(f"{path}: {len(body) - at} bytes behind the last tensor belong to none")
    return tensors, metadata


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name is there twice")
    return found


def part(facts: dict[str, Any]) -> tuple[torch.dtype, list[int], int, int]:
    """dtype, shape, and the half-open range of bytes."""
    begin, end = facts["data_offsets"]
    numbers = [begin, end, *facts["shape"]]
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise ValueError("a shape or an offset is no whole number")
    return DTYPES[facts["dtype"]], numbers[2:], begin, end
