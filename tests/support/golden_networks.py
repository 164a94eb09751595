"""Weights for the authors' networks that follow from the tensors' names, by the rule of tests/train/golden."""

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

FOLDER = Path(__file__).parents[1] / "train" / "golden"
# What the authors' networks compute when filled by the rule of `filled`: names and shapes of their checkpoints, and
# the global average of the last map; of PRP also the logits of the rate head and the rebuilt clip.
GOLDEN = json.loads((FOLDER / "architectures.json").read_text())
NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
Shapes = dict[str, list[int]]


def golden(name: str) -> dict[str, Any]:
    return next(network for network in GOLDEN if network["name"] == name)


def shapes(network: dict[str, Any]) -> Shapes:
    """`bn1 norm 64` stands for the five tensors of a batch norm."""
    found: Shapes = {}
    for line in network["tensors"]:
        for entry in line.split("; "):
            name, *numbers = entry.split(" ")
            if numbers[:1] == ["norm"]:
                found |= {f"{name}.{word}": [int(numbers[1])] for word in NORM[:-1]} | {f"{name}.{NORM[-1]}": []}
            else:
                found[name] = [int(number) for number in numbers]
    return found


def filled(name: str, shape: list[int]) -> Tensor:
    """Return the numbers that follow from the name: computed in float64, then rounded to float32."""
    if name.endswith("num_batches_tracked"):
        return torch.tensor(0)
    rng = np.random.RandomState(zlib.crc32(f"dev{name}".encode()) & 0x7FFFFFFF)
    numbers = rng.standard_normal(shape).astype(np.float32).astype(np.float64)
    if name.endswith("running_var"):
        numbers = np.abs(numbers) * 0.5 + 0.5
    elif name.endswith("running_mean"):
        numbers = numbers * 0.1
    elif len(shape) == 1:
        numbers = float(name.endswith("weight")) + 0.1 * numbers
    else:
        numbers = numbers * np.sqrt(2 / np.prod(shape[1:]))
    return torch.from_numpy(numbers.astype(np.float32))
