"""Batches are copied one ahead of use; their order, errors and end are those of the loader."""

import threading
import time
from collections.abc import Generator
from itertools import islice
from pathlib import Path

import pytest
import torch
from devices import every_device, needs_gpu

from vprep.errors import WorkError
from vtrain.data import Batch, OneClip, open_shards
from vtrain.data.prefetch import on_device, prefetch


def test_items_keep_their_order_and_are_made_before_they_are_asked_for() -> None:
    made: list[int] = []
    seen = threading.Event()

    def items() -> Generator[int, None, None]:
        for number in range(5):
            made.append(number)
            if number == 2:
                seen.set()
            yield number

    stream = prefetch(items())
    assert next(stream) == 0
    assert seen.wait(5)  # 1 is in the queue, 2 waits until it has space
    time.sleep(0.05)
    assert made == [0, 1, 2]
    assert list(stream) == [1, 2, 3, 4]


def test_an_error_is_raised_after_the_items_before_it() -> None:
    def items() -> Generator[int, None, None]:
        yield 1
        raise WorkError("000.tar is gone")

    stream = prefetch(items())
    assert next(stream) == 1
    with pytest.raises(WorkError) as error:
        next(stream)
    assert str(error.value) == "000.tar is gone"


def test_a_closed_stream_ends_its_thread_and_closes_its_source() -> None:
    closed = threading.Event()

    def items() -> Generator[int, None, None]:
        try:
            while True:
                yield 0
        finally:
            closed.set()

    stream = prefetch(items())
    next(stream)
    stream.close()
    assert closed.is_set()
    assert not [thread for thread in threading.enumerate() if thread.name == "vtrain prefetch"]


class Copies:
    """Stands for a device: copies batches, and records the order of copies and uses."""

    def __init__(self, device: torch.device) -> None:
        self.done: list[str] = []
        made.append(self)

    def start(self, batch: Batch) -> tuple[Batch, int]:
        self.done.append(f"copy {batch.position}")
        copy = batch.to(torch.device("cpu"))
        copy.clips = batch.clips.clone()
        return copy, batch.position

    def finish(self, copy: Batch, ready: int) -> Batch:
        self.done.append(f"use {ready}")
        return copy


made: list[Copies] = []


def test_a_batch_is_copied_before_the_one_before_it_is_used_up(shards: Path) -> None:
    loader = open_shards(shards, OneClip(frames=2), batch=10, epochs=1, workers=1)
    wanted = [batch.clips.clone() for batch in open_shards(shards, OneClip(frames=2), batch=10, epochs=1)]
    batches = []
    for batch in on_device(loader._host_batches(), torch.device("meta"), Copies):
        time.sleep(0.1)
        batches.append(batch.clips)
    assert all(torch.equal(one, other) for one, other in zip(batches, wanted, strict=True))
    done = made[-1].done
    assert done.index("copy 20") < done.index("use 20")
    assert done.index("copy 20") <= done.index("use 10") + 1


def test_what_only_the_host_needs_stays_on_the_host(shards: Path) -> None:
    (batch,) = islice(open_shards(shards, OneClip(frames=2), batch=3), 1)
    moved = batch.to(torch.device("meta"))
    assert {name for name, value in vars_of(moved).items() if value.device.type == "meta"} == {
        "clips",
        "label",
        "row",
        "valid",
        "speed",
    }
    assert all(value.device.type == "cpu" for value in moved.augmentation.values())


def vars_of(batch: Batch) -> dict[str, torch.Tensor]:
    names = ("clips", "label", "row", "valid", "frame", "speed", "group")
    return {name: getattr(batch, name) for name in names}


@every_device
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_on_a_device_are_those_of_the_host(workers: int, device: torch.device, shards: Path) -> None:
    host = [batch.clips.clone() for batch in open_shards(shards, OneClip(frames=2), batch=10, epochs=2)]
    loader = open_shards(shards, OneClip(frames=2), batch=10, epochs=2, workers=workers, device=device)
    for batch, wanted in zip(loader, host, strict=True):
        assert batch.clips.device == device
        assert torch.equal(batch.clips.cpu(), wanted)


@needs_gpu
@pytest.mark.parametrize("workers", [0, 3])
def test_no_buffer_is_filled_again_before_its_copy_to_a_busy_gpu_is_complete(
    workers: int, device: torch.device, shards: Path
) -> None:
    """Other copies keep the bus busy, so that the loader's copies wait while its workers fill the next buffers."""
    plan = OneClip(frames=16)
    host = [batch.clips.clone() for batch in open_shards(shards, plan, batch=15, epochs=20)]
    others, aside = torch.empty(128 << 20, dtype=torch.uint8).pin_memory(), torch.cuda.Stream(device)
    kept = []
    for batch in open_shards(shards, plan, batch=15, epochs=20, workers=workers, device=device):
        with torch.cuda.stream(aside):
            others.to(device, non_blocking=True)
        kept.append(batch.clips.clone())  # queued behind the copy; the host does not wait
    assert len(kept) == len(host) == 40
    assert [number for number, clips in enumerate(kept) if not torch.equal(clips.cpu(), host[number])] == []
