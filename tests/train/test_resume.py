"""A training that was stopped or killed and resumed ends as an undisturbed training does, bit for bit."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from random import Random

import pytest
from small_recipes import METHODS, assert_same, begin, lines, saved, small, until

from vtrain.overrides import as_json, change
from vtrain.recipes.recipe import Recipe
from vtrain.run_folder import write_json
from vtrain.training.inputs import recipe_in
from vtrain.training.train import train

STEPS = 6
Undisturbed = Callable[..., Path]


@pytest.fixture(scope="module")
def undisturbed(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """The folder of a training that is done in one go. The state of each step is kept, and lines do not come with it:
    what a line tells of has been saved in part with the step before."""
    done: dict[tuple[str, ...], Path] = {}

    def folder(method: str, *changes: str) -> Path:
        asked = (method, *changes)
        if asked not in done:
            done[asked] = tmp_path_factory.mktemp(method) / "run"
            recipe = small(method, shards, f"steps={STEPS}", "log_every=4", "save_every=3", "keep_every=1", *changes)
            train(recipe, done[asked])
        return done[asked]

    return folder


def killed_behind(run: Path, step: int, folder: Path) -> Recipe:
    """Make `folder` what a kill leaves after `step` was saved and later lines of metrics were written."""
    folder.mkdir()
    for name in ("recipe.json", "metrics.jsonl", "environment.json"):
        shutil.copy(run / name, folder)
    shutil.copy(run / "kept" / f"step_{step:07}.pt", folder / "last.pt")
    return recipe_in(folder)


def assert_same_run(found: Path, wanted: Path) -> None:
    assert lines(found) == lines(wanted)
    assert_same(saved(found), saved(wanted))


ANY_STEP = [
    pytest.param(method, step, marks=[] if method == "rspnet" or step in (2, 5) else pytest.mark.slow)
    for method in METHODS
    for step in range(1, STEPS + 1)
]


@pytest.mark.parametrize(("method", "step"), ANY_STEP)
def test_stopped_after_any_step_and_resumed_the_end_is_the_same(
    method: str, step: int, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    wanted = undisturbed(method)
    recipe = killed_behind(wanted, step, tmp_path / "run")
    summary = train(recipe, tmp_path / "run", resume=True)
    assert summary["steps"] == STEPS
    assert_same_run(tmp_path / "run", wanted)


VARIANTS = {
    "accumulated": ("rspnet", "batch=8", "accumulate=2"),
    "accumulated with dropout": ("supervised", "accumulate=2"),
    "plateau": (
        "prp", "schedule.kind=plateau", "schedule.patience=0", "schedule.warmup=0", "data.hold_out=14",
        "validate.every=1", "batch=6", "schedule.lr=0.3",
    ),
    "epochs are repeated": ("pace", "repeat=3", "steps=none", "epochs=1", "schedule.per=epoch", "batch=10"),
    "validated and watched": ("ascnet", "data.hold_out=5", "validate.every=0.3", "watch.every=0.2"),
    "bank of all videos": ("ascnet", "queue=64", "direction=both"),
    "memory of clips": ("ascnet", "memory=clip"),
    "memory of features": ("ascnet", "memory=feature", "tasks=scp", "direction=both"),
    "adamw": ("prp", "optim.name=adamw"),
    "bad videos are skipped": ("pace", "data.on_error=skip"),
}  # fmt: skip
OFTEN = ("accumulated", "plateau", "validated and watched")
WITH_SETTINGS = [
    pytest.param(variant, step, id=f"{name}-{step}", marks=[] if name in OFTEN and step == 5 else pytest.mark.slow)
    for name, variant in VARIANTS.items()
    for step in (1, 4, 5)
]


@pytest.mark.parametrize(("variant", "step"), WITH_SETTINGS)
def test_resuming_gives_the_same_end_with_other_settings_too(
    variant: tuple[str, ...], step: int, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    wanted = undisturbed(*variant)
    recipe = killed_behind(wanted, step, tmp_path / "run")
    train(recipe, tmp_path / "run", resume=True)
    assert_same_run(tmp_path / "run", wanted)


def test_the_learning_rate_of_a_plateau_did_go_down_in_that_test(undisturbed: Undisturbed) -> None:
    rates = {line["lr"] for line in lines(undisturbed(*VARIANTS["plateau"]))}
    assert len(rates) > 1


@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_workers_may_change(workers: int, undisturbed: Undisturbed, tmp_path: Path) -> None:
    """With dropout: the start of a worker must not change its random numbers."""
    wanted = undisturbed("supervised")
    recipe = killed_behind(wanted, 2, tmp_path / "run")
    train(change(recipe, [f"workers={workers}"]), tmp_path / "run", resume=True)
    assert_same_run(tmp_path / "run", wanted)


def killed_until_done(recipe: Recipe, folder: Path, rng: Random, kills: int, longest: float) -> list[int]:
    """Train in processes that are killed after a random while, with other workers each time. At which steps they were
    saved when they were killed."""
    steps = []
    for number in count():
        if not (folder / "last.pt").exists():
            shutil.rmtree(folder, ignore_errors=True)
        changed = change(recipe, [f"workers={rng.choice([0, 0, 1, 2])}", f"save_every={rng.choice([1, 1, 2, 3])}"])
        process = begin(changed, folder, resume=folder.exists())
        if number < kills:
            process.join(rng.uniform(0.02, longest))
            process.kill()
        process.join()
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        if (folder / "last.pt").exists():
            steps.append(saved(folder)["step"])  # it is whole, whenever the kill came
    return steps


@pytest.mark.slow
def test_a_training_killed_at_any_moment_resumes_to_the_same_end(
    undisturbed: Undisturbed, shards: Path, tmp_path: Path
) -> None:
    settings = ("steps=20", "log_every=3")
    wanted = undisturbed("pace", *settings)
    recipe = small("pace", shards, *settings)
    steps = killed_until_done(recipe, tmp_path / "run", Random(3), 8, 0.8)
    assert steps == sorted(steps)
    assert_same_run(tmp_path / "run", wanted)
    assert not list((tmp_path / "run").glob(".*draft"))


@pytest.mark.slow
@pytest.mark.parametrize("settings", [*((method,) for method in METHODS), *VARIANTS.values()], ids=" ".join)
def test_every_method_and_setting_killed_at_any_moment_resumes_to_the_same_end(
    settings: tuple[str, ...], undisturbed: Undisturbed, shards: Path, tmp_path: Path
) -> None:
    longer = (*settings, *(() if "steps=none" in settings else ("steps=25",)), "log_every=4")
    wanted = undisturbed(*longer)
    rng = Random(str(settings))
    for round in range(3):
        folder = tmp_path / str(round)
        killed_until_done(small(settings[0], shards, *longer[1:]), folder, rng, 10, 1.2)
        assert_same_run(folder, wanted)


def test_a_training_killed_while_it_saves_resumes_from_the_state_before(
    undisturbed: Undisturbed, shards: Path, tmp_path: Path
) -> None:
    wanted = undisturbed("supervised", "steps=20")
    recipe, folder = small("supervised", shards, "steps=20", "save_every=1", "log_every=4"), tmp_path / "run"
    drafts = 0
    while drafts < 3:
        process = begin(recipe, folder, resume=folder.exists())
        while process.is_alive():
            if (folder / "last.pt").exists() and any(folder.glob(".last.pt.*draft")):
                process.kill()
                break
            time.sleep(0.0005)
        process.join()
        drafts += len(list(folder.glob(".last.pt.*draft")))
        if process.exitcode == 0:  # it was faster: once more
            shutil.rmtree(folder)
            continue
        saved(folder)
    train(recipe, folder, resume=True)
    assert_same_run(folder, wanted)
    assert not list(folder.glob(".*draft"))


PROGRAM = """
import sys
from pathlib import Path
import torch
from vprep.errors import exit_code
from vtrain.training.inputs import recipe_in
from vtrain.training.train import train
torch.set_num_threads(1)
sys.exit(exit_code("vtrain", lambda: train(recipe_in(Path(sys.argv[1])), Path(sys.argv[2]))))
"""


def started(recipe: Recipe, folder: Path, *, real: bool, words: Path) -> tuple[int, Callable[[], int | None]]:
    """Start a training; return the number of its process, and a function that waits for its exit code."""
    if real:
        write_json(words.parent / "recipe.json", as_json(recipe))
        argv = [sys.executable, "-c", PROGRAM, str(words.parent), str(folder)]
        with words.open("w") as file:
            process = subprocess.Popen(argv, stderr=file, start_new_session=True)
        number, wait = process.pid, lambda: process.wait(60)
    else:
        fork = begin(recipe, folder, words=words)
        assert fork.pid is not None

        def wait() -> int | None:
            fork.join(60)
            return fork.exitcode

        number = fork.pid
    until(lambda: (folder / "metrics.jsonl").exists() and len(lines(folder)) >= 3)
    return number, wait


def children(number: int) -> list[int]:
    found = subprocess.run(["pgrep", "-P", str(number)], capture_output=True, text=True)
    return [int(word) for word in found.stdout.split()]


def alive(number: int) -> bool:
    try:
        return "zombie" not in Path(f"/proc/{number}/status").read_text()
    except OSError:
        return False


@pytest.mark.parametrize("real", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["forked", "real"])
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_saves_and_says_how_to_continue(name: str, real: bool, shards: Path, tmp_path: Path) -> None:
    """A Ctrl-C and a closed terminal reach the workers, too."""
    recipe = small("supervised", shards, "steps=100000", "workers=2", "log_every=1", "save_every=100000")
    folder, words = tmp_path / "run", tmp_path / "words"
    number, wait = started(recipe, folder, real=real, words=words)
    workers = children(number)
    assert len(workers) == 2
    os.kill(number, signal.SIGTERM) if name == "SIGTERM" else os.killpg(number, signal.Signals[name])
    assert wait() == 128 + signal.Signals[name]
    step = saved(folder)["step"]
    (said,) = [line for line in words.read_text().splitlines() if not line.startswith(("computing ", "step "))]
    assert said == (
        f"vtrain: stopped at step {step} of 100000, which is saved; continue with: vtrain supervised --resume {folder}"
    )
    until(lambda: not any(map(alive, workers)))
    end = step + 3
    shorter = change(recipe, [f"steps={end}", "schedule.kind=constant"])
    train(change(shorter, ["workers=0"]), folder, resume=True)
    assert [line["step"] for line in lines(folder)] == list(range(1, end + 1))


@pytest.mark.slow
def test_a_scheduler_that_ends_the_workers_too_leaves_the_last_step_saved(shards: Path, tmp_path: Path) -> None:
    """While the training waits for its workers, which are stopped."""
    rest = ("workers=2", "log_every=1", "save_every=100000", "schedule.kind=constant")
    recipe = small("pace", shards, "steps=100000", *rest)
    folder, words = tmp_path / "run", tmp_path / "words"
    number, wait = started(recipe, folder, real=False, words=words)
    workers = children(number)
    step = stopped(workers, folder)
    os.killpg(number, signal.SIGTERM)
    for worker in workers:
        os.kill(worker, signal.SIGCONT)
    assert wait() == 143
    step += 1  # the one that it waited for
    assert saved(folder)["step"] == step
    assert words.read_text().splitlines()[-1] == (
        f"vtrain: stopped at step {step} of 100000, which is saved; continue with: vtrain pace --resume {folder}"
    )
    until(lambda: not any(map(alive, workers)))
    shorter = change(recipe, [f"steps={step + 2}", "workers=0"])
    train(shorter, folder, resume=True)
    train(shorter, tmp_path / "wanted")
    assert_same(saved(folder)["model"], saved(tmp_path / "wanted")["model"])


def stopped(workers: list[int], folder: Path) -> int:
    """Stop the workers; return the step at which the training has used up their batches."""
    for worker in workers:
        os.kill(worker, signal.SIGSTOP)
    step = -1
    while step != (step := lines(folder)[-1]["step"]):
        time.sleep(0.3)
    return int(step)


def test_a_training_that_was_stopped_resumes_to_the_same_end(shards: Path, tmp_path: Path) -> None:
    recipe = small("pace", shards, "steps=50", "log_every=7", "save_every=1000", "workers=1")
    train(recipe, tmp_path / "wanted")
    folder = tmp_path / "run"
    for step in (3, 15, 30):
        process = begin(recipe, folder, resume=folder.exists())
        until(lambda step=step: reached(folder, step))
        os.kill(process.pid, signal.SIGTERM)  # type: ignore[arg-type]
        process.join()
        assert process.exitcode == 143
        assert step <= saved(folder)["step"] < 50
    train(recipe, folder, resume=True)
    assert lines(folder) == lines(tmp_path / "wanted")
    assert_same(saved(folder), saved(tmp_path / "wanted"))


def reached(folder: Path, step: int) -> bool:
    return (folder / "metrics.jsonl").exists() and any(line["step"] >= step for line in lines(folder))


def test_a_second_ctrl_c_ends_it_at_once(shards: Path, tmp_path: Path) -> None:
    """With stopped workers, so that the first Ctrl-C has to wait."""
    recipe = small("supervised", shards, "steps=100000", "workers=2", "save_every=100000")
    folder, words = tmp_path / "run", tmp_path / "words"
    number, wait = started(recipe, folder, real=False, words=words)
    workers = children(number)
    stopped(workers, folder)
    os.kill(number, signal.SIGINT)
    time.sleep(0.3)
    assert alive(number)
    os.kill(number, signal.SIGINT)
    for worker in workers:
        os.kill(worker, signal.SIGCONT)
    assert wait() == 130
    assert words.read_text().splitlines()[-1].startswith("vtrain: stopped at once; no state is saved yet: ")
    assert not (folder / "last.pt").exists()
    until(lambda: not any(map(alive, workers)))
