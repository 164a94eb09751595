"""The processes of a training: their device, what they share, and the settings that hold while a training lasts."""

import atexit
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist

from vprep.errors import UsageError
from vprep.signals import heard_while_waiting
from vtrain.distributed import rank, world
from vtrain.machine import kept_memory
from vtrain.meeting import Meeting, joined, meeting, telling

Decided = TypeVar("Decided")

# Process groups are kept until everything that used them is gone. When DDP drops the last reference to a group, torch
# (2.13) waits for gloo's threads while it holds Python's lock, which these threads may want: some trainings never
# ended, and some aborted when this happened while Python exited.
GROUPS: list[Any] = []
atexit.register(GROUPS.clear)


@contextmanager
def processes() -> Iterator[torch.device]:
    """Yield the device of this process, which may be one of several under torchrun.

    When the block ends, memory, cuDNN, random state, warnings and the process group are as before.
    """
    with nullcontext() if dist.is_initialized() else joined():
        device = _device()
        with training_settings(device), _process_group(device):
            yield device


def _device() -> torch.device:
    """Return this process's GPU, which is that of its number on this node, or the CPU when there is no GPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    local, gpus = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
    if local >= gpus:
        raise UsageError(
            f"process {local} of this node, counted from 0, has no GPU of its own: the node has {gpus}; start as many "
            f"processes as each node has GPUs: --nproc-per-node {gpus}"
        )
    device = torch.device("cuda", local)
    torch.cuda.set_device(device)
    return device


@contextmanager
def training_settings(device: torch.device) -> Iterator[None]:
    """Apply the settings that make training fast on `device`, and hide a groundless warning of torch, for the block."""
    before = torch.backends.cudnn.benchmark
    cuda = device.type == "cuda"
    with warnings.catch_warnings(), torch.random.fork_rng([device] if cuda else []), kept_memory(not cuda):
        # It concerns 1x1x1 convolutions, whose weights have the same layout in memory for any strides.
        warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
        torch.backends.cudnn.benchmark = cuda or before
        try:
            yield
        finally:
            torch.backends.cudnn.benchmark = before


@contextmanager
def _process_group(device: torch.device) -> Iterator[None]:
    """Exchange tensors with the processes that have met; do nothing in a single process or where a group exists."""
    met = meeting()
    if met is None or dist.is_initialized():
        yield
        return
    try:
        with telling(met):  # of an error, before the others see that the group is gone
            with heard_while_waiting():
                _open_group(met, device)
            GROUPS.append(dist.group.WORLD)
            yield
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _open_group(met: Meeting, device: torch.device) -> None:
    dist.init_process_group(
        "nccl" if device.type == "cuda" else "gloo", store=cast(Any, met.store), rank=met.rank, world_size=met.world,
        timeout=met.stuck_after,
    )  # fmt: skip
    # Each process waits here for all others: one that refused and left earlier would count as a failure.
    dist.barrier(device_ids=[device.index] if device.type == "cuda" else None)


def first_decides(act: Callable[[], Decided]) -> Decided:
    """Let the first rank call `act`; return on all ranks what it returned, or raise the UsageError that it raised."""
    decided: list[Any] = [None, None]
    if rank() == 0:
        try:
            decided[0] = act()
        except UsageError as error:
            decided[1] = str(error)
    if world() > 1:
        dist.broadcast_object_list(decided)
    if decided[1] is not None:
        raise UsageError(decided[1])
    return cast(Decided, decided[0])


def agreed_folder(folder: Path | None, method: str) -> Path:
    """Return the run's folder, the same on all ranks; by default its name is made of the method and the time."""
    named = [str(folder or Path("runs") / f"{method}-{time.strftime('%Y%m%d-%H%M%S')}")]
    if world() > 1:
        dist.broadcast_object_list(named)
    return Path(named[0])
