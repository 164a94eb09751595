"""The processes of a training: their device, what they share, and the settings that hold while a training lasts."""

import atexit
import os
import re
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist

from vprep.errors import UsageError, WorkError
from vprep.signals import heard_while_waiting, when_parent_ends
from vtrain.distributed import rank, world
from vtrain.machine import kept_memory

Decided = TypeVar("Decided")

NETWORK = ("gloo", "nccl", "tcpstore", "connection closed by peer", "connection reset by peer", "broken pipe")

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
    local = int(os.environ.get("LOCAL_RANK", 0))
    device = torch.device("cuda", local) if torch.cuda.is_available() else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    with training_settings(device), _process_group(device):
        yield device


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
    """Join the processes that torchrun has started; do nothing in a single process or where a group exists."""
    if int(os.environ.get("WORLD_SIZE", 1)) == 1 or dist.is_initialized():
        yield
        return
    if "TORCHELASTIC_RUN_ID" in os.environ:
        when_parent_ends()(signal.SIGTERM)  # a torchrun that is killed ends nobody
    with _network_errors_named():
        try:
            with heard_while_waiting():
                dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
                # Each process waits here for all others: one that refused and left earlier would count as a failure.
                dist.barrier(device_ids=[device.index] if device.type == "cuda" else None)
            GROUPS.append(dist.group.WORLD)
            yield
        finally:
            if dist.is_initialized():
                dist.destroy_process_group()


@contextmanager
def _network_errors_named() -> Iterator[None]:
    """Turn an error of the exchange with other processes into one sentence."""
    try:
        yield
    except RuntimeError as error:
        if not is_of_network(error):
            raise
        raise WorkError(
            f"another process is gone or cannot be reached ({said(error)}); what was saved stays: run all processes "
            "again, a training that has saved with --resume, a fine-tuning of veval with --into"
        ) from None


def said(error: RuntimeError) -> str:
    """Return the network's own words in an error of torch."""
    words = re.search(r"connection (closed|reset) by peer|timed out[^.:]*|broken pipe", str(error), re.IGNORECASE)
    return words[0].lower() if words else str(error).splitlines()[0][:80]


def is_of_network(error: RuntimeError) -> bool:
    """Return whether an error came from the exchange with other processes; torch has no class of its own for some."""
    words = str(error).lower()
    return isinstance(error, dist.DistError) or any(word in words for word in NETWORK)


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
