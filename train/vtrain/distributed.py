"""Communication between the processes of a training. In a single process, nothing is exchanged."""

import os
from collections import deque
from types import TracebackType
from typing import Self, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

Item = TypeVar("Item")


def world() -> int:
    """Return how many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Return this process's number, counted from 0."""
    return dist.get_rank() if world() > 1 else 0


def local_world() -> int:
    """Return how many processes of the training are on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", 1))


@torch.no_grad()
def gather(part: Tensor) -> Tensor:
    """Return the parts of all ranks, concatenated in the order of the ranks, without gradient.

    All parts must have the same shape, as the loader's batches have.
    """
    if world() == 1:
        return part.detach()
    part = part.contiguous()
    gathered = part.new_empty(world() * len(part), *part.shape[1:])
    # As bytes: not every backend knows every type. Newer torch has another name for it, which 2.10 does not know.
    gather_all = getattr(dist, "all_gather_single", dist.all_gather_into_tensor)
    gather_all(gathered.view(torch.uint8), part.view(torch.uint8))
    return gathered


def gather_objects(item: Item) -> list[Item]:
    """Return the items of all ranks, in the order of the ranks."""
    if world() == 1:
        return [item]
    items: list[Item | None] = [None] * world()
    dist.all_gather_object(items, item)
    return cast(list[Item], items)


def first_says(value: bool) -> bool:
    """Return on all ranks what the first rank says. With several ranks this waits for the device."""
    if world() == 1:
        return value
    said = torch.tensor(int(value), device="cuda" if dist.get_backend() == "nccl" else "cpu")
    dist.broadcast(said, 0)
    return bool(said.item())


def own(gathered: Tensor) -> Tensor:
    """Return this rank's part of a gathered tensor."""
    return gathered.tensor_split(world())[rank()]


class Vote:
    """Lets all ranks stop after the same step, whenever each of them was asked to.

    After each step the ranks exchange what they were asked, and no step waits for it: they act on what they exchanged
    LATER steps ago. In a single process, what it was asked counts at once.
    """

    LATER = 2

    def __init__(self, asked: list[int], device: torch.device) -> None:
        self._asked = asked
        self._device = device if world() > 1 and dist.get_backend() == "nccl" else torch.device("cpu")
        self._pending: deque[_Exchange] = deque()

    def result(self) -> int:
        """Call this once after each step: return the number of the signal by which all ranks stop now, or 0."""
        number = max(self._asked, default=0)
        if world() == 1:
            return number
        self._pending.append(_Exchange(number, self._device))
        return self._pending.popleft().largest() if len(self._pending) > self.LATER else 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for what is still being exchanged, and so for all ranks: whoever leaves earlier breaks off the rest."""
        if error is None and world() > 1:
            for exchange in (*self._pending, _Exchange(0, self._device)):
                exchange.largest()


class _Exchange:
    """A number of each rank, of which all ranks get the largest."""

    def __init__(self, number: int, device: torch.device) -> None:
        self._number = torch.tensor(number, device=device)
        self._work = dist.all_reduce(self._number, dist.ReduceOp.MAX, async_op=True)
        self._event: torch.Event | None = None
        if device.type == "cuda":
            self._work.wait()  # on a GPU only the GPU waits
            self._number = self._number.to("cpu", non_blocking=True)
            self._event = torch.Event(device)
            self._event.record()

    def largest(self) -> int:
        if self._event is None:
            self._work.wait()
        else:
            self._event.synchronize()
        return int(self._number)
