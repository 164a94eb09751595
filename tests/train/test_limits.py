"""Numbers of workers and sizes of buffers beyond the machine, and steps of several epochs."""

from pathlib import Path

import pytest

from vprep.errors import UsageError
from vprep.memory import free_memory, memory, memory_with_swap, size
from vprep.processors import demand_workers, most_workers
from vtrain.bench.options import read_workers
from vtrain.data.buffers import PER_WORKER, PREFETCHED, Buffers
from vtrain.data.loader import open_shards
from vtrain.data.sampling import EvenClips
from vtrain.training.advice import epochs_in_a_step


def test_far_more_workers_than_processors_are_refused(shards: Path) -> None:
    demand_workers(most_workers())
    with pytest.raises(UsageError) as error:
        demand_workers(most_workers() + 1)
    assert str(error.value).endswith(f"at most {most_workers()} workers can be of use here")
    with pytest.raises(UsageError, match="--workers is 100000"):
        read_workers("1,100000")
    with pytest.raises(UsageError, match="workers is 100000"):
        open_shards(str(shards), EvenClips(), batch=2, workers=100_000)


def test_clips_that_do_not_fit_are_refused_before_a_buffer_is_made(shards: Path) -> None:
    with pytest.raises(UsageError) as error:
        open_shards(str(shards), EvenClips(clips=1_000_000_000), batch=2, epochs=1)
    assert "frames of a video in all its clips would fit: take fewer clips or frames" in str(error.value)


def test_the_number_of_videos_that_would_fit_fits() -> None:
    shape = (1, 16, 128, 171, 3)
    with pytest.raises(UsageError) as error:
        Buffers(10**9, shape, 0).demand_memory()
    fitting = int(str(error.value).split("; ")[1].split()[0])
    Buffers(fitting, shape, 0).demand_memory()
    assert fitting > 1


def test_workers_fill_what_they_make_ahead_and_in_time_all_their_buffers() -> None:
    buffers = Buffers(4, (1, 8, 16, 16, 3), 2)
    assert buffers.of_batch == 0  # of a single part, which stays where its worker wrote it
    assert buffers.of_workers(0) == 2 * PREFETCHED * buffers.chunk
    assert buffers.of_workers(1000) == 2 * PER_WORKER * buffers.chunk


def test_a_step_that_shows_videos_several_times_is_said() -> None:
    assert epochs_in_a_step(12, 12) == ""
    assert epochs_in_a_step(1000, 12) == (
        "batch=1000 of 12 videos: a step is 83.3 epochs, and shows each video 83 or 84 times"
    )
    assert epochs_in_a_step(24, 12).endswith("a step is 2.0 epochs, and shows each video 2 times")


def test_the_limit_of_a_nested_group_counts(tmp_path: Path) -> None:
    membership, group = tmp_path / "membership", tmp_path / "groups" / "job"
    membership.write_text("0::/job/step\n")
    group.mkdir(parents=True)
    (group / "memory.max").write_text("1048576\n")
    (group / "memory.current").write_text("1000\n")
    assert memory(tmp_path / "groups", membership) == 1 << 20
    assert free_memory(tmp_path / "groups", membership) == (1 << 20) - 1000
    assert memory_with_swap() >= memory()


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (2_400_000, "2.4 MB"), (4.453e14, "445.3 TB"), (1.5e23, "1.5e+08 PB")]
)
def test_sizes_have_units(count: float, text: str) -> None:
    assert size(count) == text
