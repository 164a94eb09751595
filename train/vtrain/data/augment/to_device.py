"""Send small arrays to a device while the host continues."""

import torch
from torch import Tensor

from vtrain.data.augment.config import Array


def send(array: Array, device: torch.device) -> Tensor:
    """Return the array on the device. It is pinned first: otherwise CUDA may wait for all queued work."""
    tensor = torch.from_numpy(array)
    return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)
