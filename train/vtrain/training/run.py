"""All that changes in a training, and is saved: weights, optimiser, step, sums. The loader's place follows from the
step; a step's random numbers do, too."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from math import inf
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from vtrain.data.batch import Bad, Batch
from vtrain.distributed import gather, gather_objects, rank, world
from vtrain.methods.method import Method

Outputs = dict[str, Tensor]
NEVER = 2**62


@dataclass(frozen=True, slots=True)
class Place:
    """Where is computed, in what, and by how many processes clips are read."""

    device: torch.device
    precision: torch.dtype
    workers: int

    def autocast(self) -> AbstractContextManager[None]:
        half = self.precision != torch.float32
        return torch.autocast(self.device.type, self.precision) if half else nullcontext()


class RunningMeans:
    """What the steps gave since it was last read. It stays on the device, so that no step waits for it."""

    def __init__(self, device: torch.device) -> None:
        self.names: list[str] = []
        self.values = torch.zeros(0, device=device)
        self.steps = 0
        self.first_bad = torch.full((), NEVER, device=device)  # the first step whose loss was not finite

    def add(self, step: int, outputs: Outputs) -> None:
        if not self.steps:
            self.names = sorted(outputs)
            self.values = torch.zeros(len(outputs), device=self.values.device)
        self.values += torch.stack([outputs[name].detach().float() for name in self.names])
        self.steps += 1
        bad = torch.where(outputs["loss"].detach().isfinite(), NEVER, step)
        self.first_bad = torch.minimum(self.first_bad, bad)

    def means(self) -> dict[str, float]:
        """Over the steps and all ranks; the device is waited for."""
        values = self.values / max(1, self.steps)
        if world() > 1:
            dist.all_reduce(values)
            values /= world()
        return dict(zip(self.names, values.tolist(), strict=True))

    def bad_step(self) -> int | None:
        first = self.first_bad.clone()
        if world() > 1:
            dist.all_reduce(first, dist.ReduceOp.MIN)
        return None if first.item() == NEVER else int(first.item())

    def clear(self) -> None:
        self.steps = 0

    def state(self) -> dict[str, Any]:
        """One row of values for each rank; all of them have to ask."""
        return {"names": self.names, "values": gather(self.values[None]), "steps": self.steps}

    def load(self, state: dict[str, Any]) -> None:
        self.names, self.steps = list(state["names"]), int(state["steps"])
        rows = state["values"].to(self.values.device)
        self.values = rows[rank()].clone() if len(rows) == world() else rows.mean(0)


class Run:
    """`module` is the method as it is saved; `model` the same as it is called."""

    def __init__(self, module: nn.Module, model: nn.Module, optimizer: Optimizer, device: torch.device) -> None:
        self.module = module
        self.method = cast(Method, module)
        self.model = model
        self.optimizer = optimizer
        self.step = 0
        self.validation_losses: list[float] = []  # one for each validation; a plateau schedule goes by them
        self.sums = RunningMeans(device)
        self.bad: dict[str, Bad] = {}  # videos that could not be read, by key; the loader adds to them

    def state(self) -> dict[str, Any]:
        """What is saved; all ranks have to ask for it."""
        return {
            "step": self.step,
            "model": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "validation_losses": self.validation_losses,
            "sums": self.sums.state(),
            "bad": bad_of_all_ranks(self.bad),
        }

    def load(self, state: dict[str, Any]) -> None:
        self.module.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = int(state["step"])
        self.validation_losses = list(state["validation_losses"])
        self.sums.load(state["sums"])
        # Runs that were saved before version 0.2 do not have them.
        self.bad |= {fields[1]: Bad(*fields) for fields in state.get("bad", [])}

    def alone(self) -> AbstractContextManager[None]:
        """Gradients are not yet exchanged with other processes."""
        return self.model.no_sync() if isinstance(self.model, DistributedDataParallel) else nullcontext()

    def share_statistics(self) -> None:
        """Give the first rank's running statistics of batch norm to all.

        They are those that are saved; so what is seen in eval mode is the same in a training that was resumed.
        """
        if world() > 1:
            for norm in self.module.modules():
                if isinstance(norm, _BatchNorm):
                    for buffer in norm.buffers():
                        dist.broadcast(buffer, 0)

    def finite(self) -> bool:
        """Whether all that is saved is, on every rank; the device is waited for."""
        inner = [value for state in self.optimizer.state.values() for value in state.values()]
        kinds: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
        for one in (*self.module.parameters(), *self.module.buffers(), *inner):
            if isinstance(one, Tensor) and one.is_floating_point():
                kinds.setdefault((one.device, one.dtype), []).append(one.detach())
        largest = [one.float() for alike in kinds.values() for one in torch._foreach_norm(alike, inf)]
        well = torch.stack([one.to(self.sums.values.device) for one in largest]).isfinite().all().float()
        if world() > 1:
            dist.all_reduce(well, dist.ReduceOp.MIN)
        return bool(well.item())


def bad_of_all_ranks(bad: dict[str, Bad]) -> list[list[str]]:
    """Return the bad videos of all ranks as plain lists, each video once; all ranks must call this."""
    found = {key: one for mine in gather_objects(bad) for key, one in mine.items()}
    return [[one.shard, one.key, one.what, one.instead] for one in found.values()]


Observation = Callable[[Run], dict[str, float]]  # what is seen of videos that are not learned from


def facts_of(batch: Batch) -> dict[str, Tensor]:
    """What a method is told of its clips."""
    return {"row": batch.row, "label": batch.label, "valid": batch.valid, "speed": batch.speed, **batch.targets}
