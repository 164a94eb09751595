"""Small arrays go to the device without anyone waiting for it."""

import torch
from torch import Tensor

from vtrain.data.augment.config import Array


def send(array: Array, device: torch.device) -> Tensor:
    """The array on the device; from memory that is not pinned, CUDA may first wait for all that is under way."""
    tensor = torch.from_numpy(array)
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)
