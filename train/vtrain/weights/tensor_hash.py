"""Hash tensors, not their file: equal weights have equal hashes, however they were stored."""

from collections.abc import Mapping

import torch
import xxhash
from torch import Tensor


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Return the XXH3 of the tensors' names, types, shapes and values, as 32 hexadecimal digits."""
    state = xxhash.xxh3_128()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        state.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        state.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return state.hexdigest()
