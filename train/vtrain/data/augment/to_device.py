"""Sends small arrays to a device while the host goes on."""

import torch
from torch import Tensor

from vtrain.data.augment.config import Array


def send(array: Array, device: torch.device) -> Tensor:
    """Return the array on the device. It is pinned first: else CUDA may wait for all work that is queued."""
    tensor = torch.from_numpy(array)
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)
