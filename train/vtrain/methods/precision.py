"""The precision in which losses are computed, also under autocast."""

import torch
from torch import Tensor

HALF = (torch.float16, torch.bfloat16)


def at_least_float32(numbers: Tensor) -> Tensor:
    """Return numbers of half precision in float32, and all others, those in float64 too, as they are."""
    return numbers.float() if numbers.dtype in HALF else numbers
