"""Everything that changes in a training and is saved: weights, optimiser, step, running means, bad videos.

The loader's position and the random numbers of a step follow from the step.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from math import inf
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from vtrain.data.batch import Bad, Batch
from vtrain.data.fetch import ClipFetcher
from vtrain.distributed import gather, gather_objects, rank, world
from vtrain.methods.method import Method
from vtrain.run_folder import Best

Outputs = dict[str, Tensor]
NEVER = 2**62


@dataclass(frozen=True, slots=True)
class Place:
    """Device, precision and number of loader workers."""

    device: torch.device
    precision: torch.dtype
    workers: int

    def autocast(self) -> AbstractContextManager[None]:
        half = self.precision != torch.float32
        return torch.autocast(self.device.type, self.precision) if half else nullcontext()


class RunningMeans:
    """Means of the steps' outputs since they were last cleared, and the mean loss of the epoch.

    They stay on the device, so no step waits for it.
    """

    def __init__(self, device: torch.device) -> None:
        self.names: list[str] = []
        self.values = torch.zeros(0, device=device)
        self.steps = 0
        self.epoch_loss = torch.zeros(1, dtype=torch.float64, device=device)  # sum over the steps of the epoch
        self.epoch_steps = 0
        self.first_bad = torch.full((), NEVER, device=device)  # the first step whose loss was not finite

    def add(self, step: int, outputs: Outputs) -> None:
        if not self.steps:
            self.names = sorted(outputs)
            self.values = torch.zeros(len(outputs), device=self.values.device)
        self.values += torch.stack([outputs[name].detach().float() for name in self.names])
        self.steps += 1
        self.epoch_loss += outputs["loss"].detach()
        self.epoch_steps += 1
        bad = torch.where(outputs["loss"].detach().isfinite(), NEVER, step)
        self.first_bad = torch.minimum(self.first_bad, bad)

    def means(self) -> dict[str, float]:
        """Return the means over the steps and all ranks. This waits for the device."""
        values = self.values / max(1, self.steps)
        if world() > 1:
            dist.all_reduce(values)
            values /= world()
        return dict(zip(self.names, values.tolist(), strict=True))

    def end_epoch(self) -> float:
        """Return the mean loss over the epoch's steps and all ranks, and begin the next epoch.

        This waits for the device.
        """
        total, steps = self.epoch_loss, self.epoch_steps * world()
        if world() > 1:
            dist.all_reduce(total)
        self.epoch_loss, self.epoch_steps = torch.zeros_like(total), 0
        return total.item() / max(1, steps)

    def bad_step(self) -> int | None:
        """Return the first step whose loss was not finite, on any rank; None when there was none."""
        first = self.first_bad.clone()
        if world() > 1:
            dist.all_reduce(first, dist.ReduceOp.MIN)
        return None if first.item() == NEVER else int(first.item())

    def clear(self) -> None:
        self.steps = 0

    def state(self) -> dict[str, Any]:
        """Return the state to save, with a row of values for each rank; all ranks must call this."""
        return {
            "names": self.names,
            "values": gather(self.values[None]),
            "steps": self.steps,
            "epoch_loss": gather(self.epoch_loss[None]),
            "epoch_steps": self.epoch_steps,
        }

    def load(self, state: dict[str, Any]) -> None:
        self.names, self.steps = list(state["names"]), int(state["steps"])
        self.values = self._own(state["values"])
        if "epoch_loss" in state:  # runs that were saved before version 0.2 do not have it
            self.epoch_loss, self.epoch_steps = self._own(state["epoch_loss"]), int(state["epoch_steps"])

    def _own(self, rows: Tensor) -> Tensor:
        """Return this rank's row; with another number of ranks than those that saved the rows, their mean."""
        rows = rows.to(self.values.device)
        return rows[rank()].clone() if len(rows) == world() else rows.mean(0)


class Run:
    """The state of a training. `module` is the method that is saved, `model` the same method, wrapped for calls."""

    def __init__(self, module: nn.Module, model: nn.Module, optimizer: Optimizer, device: torch.device) -> None:
        self.module = module
        self.method = cast(Method, module)
        self.model = model
        self.optimizer = optimizer
        self.step = 0
        self.initial: str | None = None  # hash of the backbone's weights that it began with; None: random ones
        self.validation_losses: list[float] = []  # one for each validation; a plateau schedule uses them
        self.means = RunningMeans(device)
        self.best: Best | None = None  # the best epoch so far, where the recipe keeps it
        self.bad: dict[str, Bad] = {}  # videos that could not be read, by key; the loader adds to them
        self.fetch: ClipFetcher | None = None  # reads clips that the method chooses within a step

    def state(self) -> dict[str, Any]:
        """Return the state to save; all ranks must call this."""
        self.share_bad()
        return {
            "step": self.step,
            "initial": self.initial,
            "model": self.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "validation_losses": self.validation_losses,
            "sums": self.means.state(),
            "best": None if self.best is None else asdict(self.best),
            "bad": [[video.shard, video.key, video.what, video.instead] for video in self.bad.values()],
        }

    def load(self, state: dict[str, Any]) -> None:
        self.module.load_state_dict(state["model"])
        options = [{**group, "params": None} for group in self.optimizer.param_groups]
        self.optimizer.load_state_dict(state["optimizer"])
        for group, own in zip(self.optimizer.param_groups, options, strict=True):
            group |= own | {"params": group["params"]}  # they follow from the recipe, and not from the file
        self.step = int(state["step"])
        self.initial = state.get("initial")
        self.validation_losses = list(state["validation_losses"])
        self.means.load(state["sums"])
        self.best = Best.read(state.get("best"))
        # Runs that were saved before version 0.2 do not have them.
        self.bad |= {fields[1]: Bad(*fields) for fields in state.get("bad", [])}

    def share_bad(self) -> None:
        """Share the bad videos of each rank with all ranks; all ranks must call this.

        The budget and the count then hold for the whole training, and a resumed training begins with the same videos.
        """
        if world() > 1:
            for of_rank in gather_objects(self.bad):
                for key, video in of_rank.items():
                    self.bad.setdefault(key, video)

    def alone(self) -> AbstractContextManager[None]:
        """Return a context in which gradients are not exchanged with other processes."""
        return self.model.no_sync() if isinstance(self.model, DistributedDataParallel) else nullcontext()

    def share_statistics(self) -> None:
        """Send the first rank's running statistics of batch norm to all ranks.

        These are saved, so evaluation during training gives the same numbers in a resumed training.
        """
        if world() > 1:
            for norm in self.module.modules():
                if isinstance(norm, _BatchNorm):
                    for buffer in norm.buffers():
                        dist.broadcast(buffer, 0)

    def finite(self) -> bool:
        """Return whether the state to save is finite on every rank. This waits for the device."""
        inner = [value for state in self.optimizer.state.values() for value in state.values()]
        kinds: dict[tuple[torch.device, torch.dtype], list[Tensor]] = {}
        for tensor in (*self.module.parameters(), *self.module.buffers(), *inner):
            if isinstance(tensor, Tensor) and tensor.is_floating_point():
                kinds.setdefault((tensor.device, tensor.dtype), []).append(tensor.detach())
        largest = [norm.float() for alike in kinds.values() for norm in torch._foreach_norm(alike, inf)]
        finite = torch.stack([norm.to(self.means.values.device) for norm in largest]).isfinite().all().float()
        if world() > 1:
            dist.all_reduce(finite, dist.ReduceOp.MIN)
        return bool(finite.item())


Observation = Callable[[Run], dict[str, float]]  # a measurement on videos that the network does not learn from


def targets_of(batch: Batch) -> dict[str, Tensor]:
    """Return a method's targets: those of the plan, and each video's row, label, validity and speed."""
    return {"row": batch.row, "label": batch.label, "valid": batch.valid, "speed": batch.speed, **batch.targets}
