"""What a training keeps when it is resumed, what it leaves as it was, and how often it opens its files."""

import ctypes
import os
import shutil
import struct
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from commands import vtrain
from small_recipes import assert_same, damaged, lines, saved, small

from vprep.errors import WorkError
from vtrain.overrides import change
from vtrain.recipes.recipe import Recipe
from vtrain.training.inputs import recipe_in
from vtrain.training.train import train

SKIP = ("data.on_error=skip", "data.budget=0.1", "batch=5", "steps=8")  # an epoch is 20 videos, of which 2 may be bad


@pytest.fixture
def copy(shards: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(shards, tmp_path / "set"))


def resumable(copy: Path, folder: Path) -> Recipe:
    """Train for two epochs, in which two videos are bad; return the recipe of two more."""
    recipe = small("pace", copy, *SKIP)
    with damaged(copy, (3, 11)):
        train(recipe, folder)
    assert lines(folder)[-1]["skipped"] == 2
    return change(recipe, ["steps=16"])


def test_a_resumed_training_continues_to_count_bad_videos(copy: Path, tmp_path: Path) -> None:
    longer = resumable(copy, tmp_path / "run")
    train(longer, tmp_path / "run", resume=True)
    assert [line["skipped"] for line in lines(tmp_path / "run")[8:]] == [2] * 8
    assert len(saved(tmp_path / "run")["bad"]) == 2


def test_a_resumed_training_does_not_get_its_budget_of_bad_videos_again(copy: Path, tmp_path: Path) -> None:
    longer = resumable(copy, tmp_path / "run")
    with damaged(copy, (7,)), pytest.raises(WorkError) as error:
        train(longer, tmp_path / "run", resume=True)
    assert str(error.value).startswith("3 of 20 videos are bad, and 2 were allowed; the last: ")


def test_a_run_that_met_a_bad_video_goes_on_without_it_as_it_was_told(copy: Path, tmp_path: Path) -> None:
    recipe, run = small("pace", copy, *SKIP[1:], "save_every=1"), tmp_path / "run"
    with damaged(copy, (3,)):
        with pytest.raises(WorkError, match=r"skip bad videos with: data\.on_error=skip"):
            train(recipe, run)
        assert vtrain("pace", "--resume", run, "data.on_error=skip", cwd=tmp_path).returncode == 0
    assert (saved(run)["step"], len(saved(run)["bad"])) == (8, 1)
    assert recipe_in(run).data.on_error == "skip"


def test_a_state_without_bad_videos_as_older_versions_saved_it_is_resumed(copy: Path, tmp_path: Path) -> None:
    longer = resumable(copy, tmp_path / "run")
    state = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    del state["bad"], state["protocol"]
    torch.save(state, tmp_path / "run" / "last.pt")
    with damaged(copy, (7,)):
        assert train(longer, tmp_path / "run", resume=True)["steps"] == 16
    assert [line["skipped"] for line in lines(tmp_path / "run")[8:]][-1] == 1


def test_a_resumed_training_does_not_need_the_weights_that_it_began_with(shards: Path, tmp_path: Path) -> None:
    train(small("pace", shards, "steps=1"), tmp_path / "first")
    recipe = small("supervised", shards, "steps=4", "schedule.kind=constant", f"weights={tmp_path / 'first'}")
    train(recipe, tmp_path / "wanted")
    train(change(recipe, ["steps=2"]), tmp_path / "run")
    shutil.rmtree(tmp_path / "first")
    train(recipe, tmp_path / "run", resume=True)
    assert_same(saved(tmp_path / "run")["model"], saved(tmp_path / "wanted")["model"])


# What it leaves as it was


@pytest.mark.parametrize("resume", [False, True])
def test_a_training_leaves_the_settings_of_its_process_as_they_were(resume: bool, shards: Path, tmp_path: Path) -> None:
    recipe = small("supervised", shards, "steps=3", "data.hold_out=5", "validate.every=0.1", "watch.every=0.1")
    if resume:
        train(change(recipe, ["steps=2"]), tmp_path / "run")
    torch.manual_seed(5)
    before = settings()
    train(recipe, tmp_path / "run", resume=resume)
    assert settings() == before
    assert torch.rand(1).item() == torch.rand(1, generator=torch.Generator().manual_seed(5)).item()


def test_a_training_that_fails_leaves_them_too(copy: Path, tmp_path: Path) -> None:
    before = settings()
    with damaged(copy, (1,)), pytest.raises(WorkError):
        train(small("pace", copy, "steps=20"), tmp_path / "run")
    assert settings() == before


def settings() -> list[object]:
    return [
        torch.get_rng_state().tolist(),
        list(warnings.filters),
        torch.backends.cudnn.benchmark,
        torch.is_grad_enabled(),
        torch.get_num_threads(),
        dist.is_initialized(),
        {name: value for name, value in os.environ.items() if not name.startswith("PYTEST")},
    ]


# How often it opens its files


IN_OPEN, IN_NONBLOCK, EVENT = 0x20, 0o4000, struct.Struct("iIII")


@contextmanager
def opened(folder: Path) -> Iterator[Counter[str]]:
    """Count how often each file of a folder is opened meanwhile, by Python or by a library: the kernel tells."""
    libc = ctypes.CDLL(None, use_errno=True)
    watch = libc.inotify_init1(IN_NONBLOCK) if hasattr(libc, "inotify_init1") else -1
    if watch < 0 or libc.inotify_add_watch(watch, bytes(folder), IN_OPEN) < 0:
        pytest.skip("the kernel does not tell which files are opened here")
    counts: Counter[str] = Counter()
    try:
        yield counts
        data, at = os.read(watch, 1 << 20), 0
        while at < len(data):
            *_, length = EVENT.unpack_from(data, at)
            counts[data[at + EVENT.size : at + EVENT.size + length].rstrip(b"\0").decode()] += 1
            at += EVENT.size + length
    finally:
        os.close(watch)


@pytest.mark.parametrize(
    "words",
    [(), ("stored.short_side=256", "stored.fps=native"), ("data.hold_out=5", "validate.every=0.5", "watch.every=0.5")],
)
def test_a_training_reads_the_index_of_a_set_once_and_looks_again_whether_its_description_is_the_same(
    words: tuple[str, ...], copy: Path, tmp_path: Path
) -> None:
    with opened(copy) as counts:
        train(small("supervised", copy, "steps=4", *words), tmp_path / "run")
    assert (counts["dataset.json"], counts["index.parquet"]) == (2, 1)
    assert sum(counts[f"00{number}.tar"] for number in range(6)) > 0
