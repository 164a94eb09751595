"""A training in two processes equals that of a single process; one of them writes, and they stop together."""

import faulthandler
import json
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.context import ForkProcess
from pathlib import Path

import pytest
import torch
from small_recipes import assert_same, begin, damaged, lines, saved, small, until

from vprep.errors import exit_code
from vtrain.overrides import change
from vtrain.recipes.recipe import Recipe
from vtrain.run_folder import Best, best_in
from vtrain.training.inputs import recipe_in
from vtrain.training.train import train

pytestmark = pytest.mark.slow

# Small steps, and nothing that a rank computes of its own part of a batch: two ways to add are all that differs.
GENTLE = ("batch=8", "schedule.lr=0.001", "steps=3")
ALIKE = {
    "rspnet": ("tau=1", "margin=4"),  # its groups of batch norm are the same on one rank and on two
    "ascnet": ("batch_norm=sync",),
    "prp": ("batch_norm=sync",),
    "pace": ("batch_norm=sync", "contrast=none"),
    "supervised": ("batch_norm=sync", "dropout=0"),
}


@dataclass(frozen=True, slots=True)
class Ranks:
    """Two processes that train together, and their files of stderr."""

    processes: list[ForkProcess]
    words: list[Path]

    def codes(self) -> list[int | None]:
        for process in self.processes:
            process.join(120)
        return [process.exitcode for process in self.processes]

    def sentences(self) -> list[str]:
        """Of each one, without its progress."""
        return [
            "\n".join(line for line in path.read_text().splitlines() if not line.startswith("step "))
            for path in self.words
        ]


@contextmanager
def two(recipe: Recipe, folder: Path, *, resume: bool = False) -> Iterator[Ranks]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [folder.with_name(f"{folder.name}-{rank}.txt") for rank in range(2)]
    processes = [
        multiprocessing.get_context("fork").Process(target=_train, args=(rank, port, recipe, folder, resume, said))
        for rank, said in enumerate(words)
    ]
    for process in processes:
        process.start()
    try:
        yield Ranks(processes, words)
    finally:
        for process in processes:
            process.kill()
            process.join()


def _train(rank: int, port: int, recipe: Recipe, folder: Path, resume: bool, words: Path) -> None:
    """Train as one of them; the environment is what torchrun sets."""
    os.environ |= {
        "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo",
    }  # fmt: skip
    os.dup2(os.open(words, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    torch.set_num_threads(1)
    faulthandler.dump_traceback_later(60, exit=True, file=sys.stderr)  # one that waits for ever says where
    os._exit(exit_code("vtrain", lambda: train(recipe, folder, resume=resume)))


def trained(recipe: Recipe, folder: Path, *, resume: bool = False) -> Path:
    with two(recipe, folder, resume=resume) as ranks:
        assert ranks.codes() == [0, 0], ranks.sentences()
    return folder


@pytest.mark.parametrize(
    "method", [pytest.param(method, marks=pytest.mark.slow if method in ("prp", "pace") else []) for method in ALIKE]
)
def test_two_ranks_with_half_the_batch_each_are_one_process_with_all_of_it(
    method: str, shards: Path, tmp_path: Path
) -> None:
    """The same videos, the same gradients, and so the same weights, queue and memory."""
    recipe = small(method, shards, *GENTLE, *ALIKE[method])
    trained(recipe, tmp_path / "two")
    train(recipe, tmp_path / "one")
    assert_close(tmp_path / "two", tmp_path / "one")


@pytest.mark.slow
@pytest.mark.parametrize("settings", ["accumulate=2", "optim.name=lars", "log_every=2"])
def test_two_ranks_equal_one_process_with_other_settings_too(settings: str, shards: Path, tmp_path: Path) -> None:
    """Batch norm is left out, because it sees fewer clips in parts of the batch."""
    recipe = small("supervised", shards, *GENTLE, "dropout=0", "batch_norm=sync", settings)
    trained(recipe, tmp_path / "two")
    train(recipe, tmp_path / "one")
    assert_close(tmp_path / "two", tmp_path / "one")


def assert_close(found: Path, wanted: Path) -> None:
    """Compare two runs, but for statistics of batch norm, which each rank has of its own clips."""
    for one, other in zip(lines(found), lines(wanted), strict=True):
        assert one["step"] == other["step"]
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
    one, other = saved(found), saved(wanted)
    own = one["recipe"]["batch_norm"] == "own"
    assert one["model"].keys() == other["model"].keys()
    for name, tensor in other["model"].items():
        if not (own and name.rpartition(".")[2] in ("running_mean", "running_var", "num_batches_tracked")):
            torch.testing.assert_close(one["model"][name], tensor, rtol=1e-3, atol=1e-4, msg=partial(named, name))


def named(name: str, said: str) -> str:
    return f"{name}: {said}"


def test_only_the_first_rank_writes(shards: Path, tmp_path: Path) -> None:
    recipe = small("supervised", shards, "steps=4", "log_every=2", "workers=1", "keep_every=2")
    with two(recipe, tmp_path / "run") as ranks:
        assert ranks.codes() == [0, 0]
        first, second = (path.read_text() for path in ranks.words)
    assert "step 4/4" in first
    assert second == ""
    assert [line["step"] for line in lines(tmp_path / "run")] == [2, 4]
    assert len(json.loads((tmp_path / "run" / "environment.json").read_text())) == 1
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["run"]


LONG = ("batch=8", "log_every=3", "save_every=4", "data.hold_out=6", "validate.every=1", "watch.every=2")


@pytest.fixture(scope="module", params=[pytest.param("rspnet", marks=pytest.mark.slow), "ascnet"])
def undisturbed(request: pytest.FixtureRequest, shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve steps of two ranks with measurements; each rank has its own batch norm."""
    folder = tmp_path_factory.mktemp("ranks") / "run"
    return trained(small(request.param, shards, "steps=12", *LONG, "keep_every=1"), folder)


@pytest.mark.parametrize("step", [4, 7])
def test_two_ranks_that_resume_come_to_the_same_end(step: int, undisturbed: Path, tmp_path: Path) -> None:
    folder = resumable(undisturbed, step, tmp_path / "run")
    trained(change(recipe_in(folder), ["keep_every=0"]), folder, resume=True)
    assert lines(folder) == lines(undisturbed)
    assert_same(saved(folder), saved(undisturbed))


def test_bad_videos_are_counted_over_all_ranks_and_after_a_resume_too(shards: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(shards, tmp_path / "set"))
    words = ("batch=4", "steps=10", "data.on_error=skip", "data.budget=0.2", "keep_every=5")
    with damaged(copy, (2, 5, 11)):
        trained(small("pace", copy, *words), tmp_path / "wanted")
        folder = resumable(tmp_path / "wanted", 5, tmp_path / "run")
        trained(recipe_in(folder), folder, resume=True)
    assert lines(folder)[-1]["skipped"] == len(saved(folder)["bad"]) == 3
    assert lines(folder) == lines(tmp_path / "wanted")
    assert saved(folder)["bad"] == saved(tmp_path / "wanted")["bad"]


def resumable(run: Path, step: int, folder: Path) -> Path:
    """Make `folder` what a run leaves that was killed after it had saved `step`."""
    folder.mkdir()
    for name in ("recipe.json", "metrics.jsonl", "environment.json"):
        shutil.copy(run / name, folder)
    shutil.copy(run / "kept" / f"step_{step:07}.pt", folder / "last.pt")
    return folder


@pytest.mark.parametrize("by", ["loss", "held_out_loss"])
def test_two_ranks_keep_the_best_epoch_that_one_process_keeps(by: str, shards: Path, tmp_path: Path) -> None:
    """Also after a kill that came between the last and the best state."""
    words = ("steps=12", "keep=best", f"best_by={by}", "keep_every=1", "data.hold_out=4", "validate.every=1")
    recipe = small("supervised", shards, *GENTLE, *ALIKE["supervised"], *words)
    two_ranks, one = trained(recipe, tmp_path / "two"), tmp_path / "one"
    train(recipe, one)
    numbers, wanted = ([line for line in lines(run) if line["step"] % 2 == 0] for run in (two_ranks, one))
    metric = recipe.best_metric
    assert [line[metric] for line in numbers] == pytest.approx([line[metric] for line in wanted], rel=1e-4)
    best = min(numbers, key=lambda line: line[metric])
    assert best_in(two_ranks / "best.pt") == Best(by=by, value=best[metric], step=best["step"])
    folder = resumable(two_ranks, best["step"], tmp_path / "run")
    trained(change(recipe_in(folder), ["keep_every=0"]), folder, resume=True)
    for name in ("last.pt", "best.pt"):
        found, undisturbed = (torch.load(run / name, weights_only=True) for run in (folder, two_ranks))
        assert_same(found["model"], undisturbed["model"])
        assert found["best"] == undisturbed["best"]


@pytest.mark.parametrize("asked", [(0, 1), (1,)], ids=["both", "one"])
def test_all_ranks_stop_together(asked: tuple[int, ...], shards: Path, tmp_path: Path) -> None:
    recipe, folder = small("supervised", shards, "steps=100000", "log_every=3", "save_every=100000"), tmp_path / "run"
    with two(recipe, folder) as ranks:
        until(lambda: (folder / "metrics.jsonl").exists() and len(lines(folder)) >= 2)
        numbers = [process.pid for process in ranks.processes if process.pid is not None]
        for number in numbers:
            os.kill(number, signal.SIGSTOP)  # so that neither is done before the other gets the signal
        for rank in asked:
            os.kill(numbers[rank], signal.SIGHUP)
        for number in numbers:
            os.kill(number, signal.SIGCONT)
        assert ranks.codes() == [129, 129], ranks.sentences()
        step = saved(folder)["step"]
        assert ranks.sentences()[0].splitlines()[-1] == (
            f"vtrain: stopped at step {step} of 100000, which is saved; continue with: "
            f"vtrain supervised --resume {folder}"
        )
        assert "stopped at" not in ranks.sentences()[1]  # one sentence for all


def test_a_scheduler_that_ends_all_processes_of_all_ranks_leaves_the_last_step_saved(
    shards: Path, tmp_path: Path
) -> None:
    words = ("steps=100000", "log_every=1", "save_every=100000", "workers=2")
    recipe, folder = small("supervised", shards, *words), tmp_path / "run"
    with two(recipe, folder) as ranks:
        until(lambda: (folder / "metrics.jsonl").exists() and len(lines(folder)) >= 2)
        numbers = [process.pid for process in ranks.processes if process.pid is not None]
        workers = [worker for number in numbers for worker in children(number)]
        assert len(workers) == 4
        for number in workers + numbers:  # the workers first
            os.kill(number, signal.SIGTERM)
        assert ranks.codes() == [143, 143], ranks.sentences()
        step = saved(folder)["step"]
        assert step == lines(folder)[-1]["step"]
        assert f"stopped at step {step} of 100000, which is saved" in ranks.sentences()[0].splitlines()[-1]
        until(lambda: not any(Path(f"/proc/{number}").exists() for number in workers))


def test_when_a_rank_is_killed_the_others_end_with_one_sentence(shards: Path, tmp_path: Path) -> None:
    recipe, folder = small("supervised", shards, "steps=100000", "save_every=1", "workers=1"), tmp_path / "run"
    with two(recipe, folder) as ranks:
        until((folder / "last.pt").exists)
        workers = children(ranks.processes[1].pid or 0)
        ranks.processes[1].kill()
        assert ranks.codes() == [1, -signal.SIGKILL]
        said = ranks.sentences()[0].splitlines()[-1]
        assert said.startswith("vtrain: another process is gone or cannot be reached (connection ")
        assert said.endswith(
            "what was saved stays: run all processes again, a training that has saved with --resume, a fine-tuning of "
            "veval with --into"
        )
        assert "Traceback" not in ranks.sentences()[0]
        until(lambda: not any(Path(f"/proc/{number}").exists() for number in workers))


def children(number: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(number)], capture_output=True, text=True)
    return [int(word) for word in found.stdout.split()]


def test_a_batch_that_cannot_be_divided_is_refused_in_a_sentence(shards: Path, tmp_path: Path) -> None:
    with two(small("supervised", shards, "batch=5"), tmp_path / "run") as ranks:
        assert ranks.codes() == [2, 2]
        for said in ranks.sentences():
            assert said == (
                "vtrain: batch is 5 for 2 processes x accumulate=1; it is divided evenly among them: set batch=4 or 6, "
                "or other processes"
            )
    assert not (tmp_path / "run").exists()


def test_what_the_first_rank_refuses_all_refuse(shards: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "file").touch()
    with two(small("supervised", shards), tmp_path / "run") as ranks:
        assert ranks.codes() == [2, 2]
        folder = tmp_path / "run"
        said = f"vtrain: {folder} exists already; continue its run with --resume {folder}, or choose another --out"
        assert ranks.sentences() == [said, said]


def test_a_folder_in_which_another_trains_is_refused_by_all(shards: Path, tmp_path: Path) -> None:
    recipe, folder = small("supervised", shards, "steps=100000", "save_every=1"), tmp_path / "run"
    other = begin(recipe, folder)
    until((folder / "last.pt").exists)
    with two(recipe, folder, resume=True) as ranks:
        assert ranks.codes() == [2, 2]
        assert all("another process trains in " in said for said in ranks.sentences())
    other.kill()
    other.join()


def test_a_loss_that_is_not_finite_stops_all_ranks(shards: Path, tmp_path: Path) -> None:
    with two(small("supervised", shards, "steps=30", "schedule.lr=1e30", "log_every=5"), tmp_path / "run") as ranks:
        assert ranks.codes() == [1, 1]
        assert all("not finite since step" in said for said in ranks.sentences())


def test_a_rank_that_dies_does_not_leave_the_other_waiting(shards: Path, tmp_path: Path) -> None:
    recipe, folder = small("supervised", shards, "steps=100000"), tmp_path / "run"
    with two(recipe, folder) as ranks:
        until((folder / "last.pt").exists)
        ranks.processes[1].kill()
        assert ranks.codes()[0] == 1
    saved(folder)


def test_two_ranks_save_by_the_first_one_s_clock_after_the_same_step(shards: Path, tmp_path: Path) -> None:
    """They ask it where a line is written: nowhere else does a step wait for another rank."""
    words = ("steps=100000", "save_every=100000", "log_every=3", "save_minutes=0.0002", "schedule.kind=constant")
    recipe, folder = small("supervised", shards, *words), tmp_path / "run"
    with two(recipe, folder) as ranks:
        until((folder / "last.pt").exists)
        for process in ranks.processes:
            process.kill()
            process.join()
    step = saved(folder)["step"]
    assert step % 3 == 0
    trained(change(recipe, [f"steps={step + 2}", "save_minutes=0"]), folder, resume=True)
    assert saved(folder)["step"] == step + 2


def test_two_ranks_begin_a_run_again_that_was_killed_before_it_saved(shards: Path, tmp_path: Path) -> None:
    recipe, folder = (
        small("supervised", shards, "steps=100000", "save_minutes=0", "save_every=100000"),
        tmp_path / "run",
    )
    with two(recipe, folder) as ranks:
        until(lambda: (folder / "metrics.jsonl").exists() and len(lines(folder)) >= 2)
        for process in ranks.processes:
            process.kill()
            process.join()
    assert not (folder / "last.pt").exists()
    trained(change(recipe, ["steps=2"]), folder, resume=True)
    assert [line["step"] for line in lines(folder)] == [1, 2]
    trained(change(recipe, ["steps=4"]), folder, resume=True)
    assert [line["step"] for line in lines(folder)] == [1, 2, 3, 4]
    assert recipe_in(folder).steps == 4
