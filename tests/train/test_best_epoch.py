"""keep=best: the state of the best epoch is in best.pt, is the right one also after a kill, and stands for the run.

An epoch of `shards` is 20 videos; with 4 of them in a batch it is 5 steps."""

import os
import shutil
import signal
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
import torch
from small_recipes import assert_same, lines, saved, small

from vprep.atomic import move_into_place
from vprep.errors import UsageError
from vtrain import load_backbone, run_folder
from vtrain.overrides import change
from vtrain.recipes.recipe import Recipe
from vtrain.run_folder import Best, best_in, weights_file
from vtrain.training.inputs import recipe_in
from vtrain.training.train import train
from vtrain.weights import load_weights

METRICS = {"loss": "epoch_loss", "held_out_loss": "held_out_loss"}
PART = 5  # steps of an epoch


def keeping(by: str, shards: Path, *words: str) -> Recipe:
    """Return a recipe of four epochs, of which the third is the best."""
    own = {
        "loss": ("lr=0.01", "warmup=4", "seed=1"),
        "held_out_loss": ("lr=0.03", "warmup=0", "optim.momentum=0", "data.hold_out=5", "validate.every=1", "batch=3"),
    }
    settings = ("steps=20", "schedule.kind=constant", "keep_every=1", "keep=best", f"best_by={by}")
    return small("supervised", shards, *settings, *own[by], *words)


@pytest.fixture(scope="module", params=METRICS)
def by(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def run(by: str, shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four epochs in one go. The state of each step is kept. Tests that change the folder copy it."""
    folder = tmp_path_factory.mktemp("best") / "run"
    train(keeping(by, shards), folder)
    return folder


def state_of(path: Path) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(path, weights_only=True)
    return state


def kept(run: Path, step: int) -> Path:
    return run / "kept" / f"step_{step:07}.pt"


def numbers_of(run: Path, by: str) -> dict[int, float]:
    """Return the number of each epoch that decides which is the best, by the epoch's last step."""
    return {line["step"]: line[METRICS[by]] for line in lines(run) if METRICS[by] in line}


def test_the_state_of_the_epoch_with_the_lowest_number_is_in_best_pt(run: Path, by: str) -> None:
    numbers = numbers_of(run, by)
    assert list(numbers) == [PART, 2 * PART, 3 * PART, 4 * PART]
    step = min(numbers, key=lambda step: numbers[step])
    assert PART < step < 4 * PART, "a best epoch at the beginning or the end would show little"
    assert best_in(run / "best.pt") == Best(by=by, value=numbers[step], step=step)
    assert_same(state_of(run / "best.pt"), state_of(kept(run, step)))
    assert saved(run)["best"] == {"by": by, "value": numbers[step], "step": step}
    assert saved(run)["step"] == 4 * PART


def test_the_loss_of_an_epoch_is_the_mean_over_its_steps_however_often_lines_are_written(
    shards: Path, tmp_path: Path
) -> None:
    recipe = keeping("loss", shards, "accumulate=2")
    train(recipe, tmp_path / "each")
    train(change(recipe, ["log_every=3"]), tmp_path / "third")
    found = lines(tmp_path / "each")
    for step, loss in numbers_of(tmp_path / "each", "loss").items():
        of_epoch = [line["loss"] for line in found if step - PART < line["step"] <= step]
        assert loss == pytest.approx(sum(of_epoch) / PART, rel=1e-6)
    assert numbers_of(tmp_path / "third", "loss") == numbers_of(tmp_path / "each", "loss")


def test_only_complete_epochs_have_a_loss(shards: Path, tmp_path: Path) -> None:
    """Of 20 videos in batches of 8, epochs end in the third, fifth and eighth step."""
    train(keeping("loss", shards, "steps=9", "batch=8", "lr=0.01"), tmp_path / "run")
    numbers, found = numbers_of(tmp_path / "run", "loss"), [line["loss"] for line in lines(tmp_path / "run")]
    wanted = {3: sum(found[:3]) / 3, 5: sum(found[3:5]) / 2, 8: sum(found[5:8]) / 3}
    assert numbers == {step: pytest.approx(loss, rel=1e-6) for step, loss in wanted.items()}


@pytest.mark.parametrize(("change", "step"), [(0.0, 1), (1e-9, 2 * PART)], ids=["equal", "lower"])
def test_of_equally_good_epochs_the_first_is_kept(change: float, step: int, shards: Path, tmp_path: Path) -> None:
    """Take the loss of the second epoch as that of an earlier one, and train the second epoch again."""
    train(keeping("loss", shards, "steps=10", "lr=0.01"), tmp_path / "wanted")
    folder = killed_behind(tmp_path / "wanted", PART, tmp_path / "run")
    tie = numbers_of(tmp_path / "wanted", "loss")[2 * PART] + change
    state = state_of(kept(folder, 1)) | {"best": {"by": "loss", "value": tie, "step": 1}}
    torch.save(state, folder / "best.pt")
    state = state_of(folder / "last.pt") | {"best": {"by": "loss", "value": tie, "step": 1}}
    torch.save(state, folder / "last.pt")
    train(recipe_in(folder), folder, resume=True)
    found = best_in(folder / "best.pt")
    assert found is not None
    assert found.step == step


def test_a_loss_that_is_not_finite_is_never_the_best(shards: Path, tmp_path: Path) -> None:
    """The held-out loss of weights that are finite may be infinite, or not a number."""
    recipe = keeping("held_out_loss", shards, "lr=1e30", "batch=15", "steps=1")
    train(recipe, tmp_path / "run")
    (line,) = lines(tmp_path / "run")
    assert line["held_out_loss"] is None
    assert (saved(tmp_path / "run")["best"], (tmp_path / "run" / "best.pt").exists()) == (None, False)


# Kills. last.pt is written first, then best.pt


def killed_behind(run: Path, step: int, folder: Path) -> Path:
    """Make `folder` what a kill leaves after `step` was saved."""
    shutil.copytree(run, folder)
    shutil.copy(kept(run, step), folder / "last.pt")
    (folder / "best.pt").unlink(missing_ok=True)
    best = state_of(folder / "last.pt")["best"]
    if best is not None:
        shutil.copy(kept(run, best["step"]), folder / "best.pt")
    return folder


def assert_same_run(found: Path, wanted: Path) -> None:
    assert lines(found) == lines(wanted)
    assert_same(saved(found), saved(wanted))
    assert_same(state_of(found / "best.pt"), state_of(wanted / "best.pt"))


@pytest.mark.parametrize("step", [1, PART - 1, PART, 2 * PART, 2 * PART + 3, 4 * PART])
def test_killed_after_any_step_and_resumed_the_best_epoch_is_the_same(step: int, run: Path, tmp_path: Path) -> None:
    folder = killed_behind(run, step, tmp_path / "run")
    train(recipe_in(folder), folder, resume=True)
    assert_same_run(folder, run)


def killed_at(recipe: Recipe, folder: Path, rename: Callable[[Path], bool], *, resume: bool = False) -> None:
    """Train in a process that kills itself just before it gives a file its name, where `rename` says so."""

    def work() -> None:
        def kill(draft: Path, path: Path) -> None:
            if rename(path):
                os.kill(os.getpid(), signal.SIGKILL)
            move_into_place(draft, path)

        run_folder.move_into_place = kill
        torch.set_num_threads(1)
        train(recipe, folder, resume=resume)

    process = get_context("fork").Process(target=work)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


def test_killed_between_the_last_and_the_first_best_state_the_last_is_the_best(
    run: Path, by: str, shards: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    killed_at(keeping(by, shards), folder, lambda path: path.name == "best.pt")
    assert not (folder / "best.pt").exists()
    assert (saved(folder)["step"], saved(folder)["best"]["step"]) == (PART, PART)
    assert weights_file(folder) == folder / "last.pt"
    train(recipe_in(folder), folder, resume=True)
    assert_same_run(folder, run)
    assert not list(folder.glob(".*draft"))


def test_killed_between_the_last_and_a_better_best_state_neither_is_lost(
    run: Path, by: str, shards: Path, tmp_path: Path
) -> None:
    """best.pt still holds the older epoch then, and last.pt the better one."""
    folder = tmp_path / "run"
    killed_at(keeping(by, shards), folder, lambda path: path.name == "best.pt" and path.exists())
    older, newer = best_in(folder / "best.pt"), best_in(folder / "last.pt")
    assert older is not None
    assert newer is not None
    assert newer.value < older.value
    assert weights_file(folder) == folder / "last.pt"
    info = load_backbone(folder)[1]
    assert (info.is_best, info.step) == (True, newer.step)
    killed_at(recipe_in(folder), folder, lambda path: path.name == "best.pt", resume=True)  # while it is repaired
    assert (best_in(folder / "best.pt"), weights_file(folder)) == (older, folder / "last.pt")
    train(recipe_in(folder), folder, resume=True)
    assert_same_run(folder, run)


def test_killed_before_the_last_state_the_epoch_is_done_again(run: Path, by: str, shards: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"

    def at_the_best(path: Path) -> bool:
        best = state_of(run / "best.pt")["step"]
        return path.name == "last.pt" and kept(folder, best).exists()

    killed_at(keeping(by, shards), folder, at_the_best)
    best = state_of(run / "best.pt")["step"]
    assert saved(folder)["step"] == best - 1
    assert weights_file(folder).name == "best.pt"
    train(recipe_in(folder), folder, resume=True)
    assert_same_run(folder, run)


@pytest.mark.slow
def test_killed_at_any_moment_a_run_has_the_best_of_its_epochs(
    run: Path, by: str, shards: Path, tmp_path: Path
) -> None:
    """Whichever file stands for the run is complete and of the lowest epoch that its last state knows of."""
    folder, numbers, kills = tmp_path / "run", numbers_of(run, by), 0
    for wait in (0.03, 0.06, 0.1, 0.05, 0.15, 0.08, 0.2, 0.12, 0.3, 0.5, 200):  # the training takes 0.2 s and more
        process = get_context("fork").Process(target=trained, args=(keeping(by, shards), folder))
        process.start()
        process.join(wait)
        process.kill()
        process.join()
        kills += process.exitcode == -signal.SIGKILL
        if (folder / "last.pt").exists():
            done = {step: value for step, value in numbers.items() if step <= saved(folder)["step"]}
            found = best_in(weights_file(folder))
            lowest = min(done, key=lambda step: done[step], default=None)
            assert (None if found is None else found.step) == lowest
    assert kills >= 2
    assert_same_run(folder, run)


def trained(recipe: Recipe, folder: Path) -> None:
    torch.set_num_threads(1)
    if not (folder / "last.pt").exists():
        shutil.rmtree(folder, ignore_errors=True)
    train(recipe, folder, resume=folder.exists())


def test_without_best_pt_the_best_of_the_other_epochs_is_kept(
    run: Path, by: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = killed_behind(run, 2 * PART + 1, tmp_path / "run")
    (folder / "best.pt").unlink()
    train(recipe_in(folder), folder, resume=True)
    said = f"{folder / 'best.pt'} is not there any more; the best of the epochs to come will be kept\n"
    assert said in capsys.readouterr().err
    numbers = {step: value for step, value in numbers_of(run, by).items() if step > 2 * PART}
    assert best_in(folder / "best.pt") == Best(
        by=by, value=min(numbers.values()), step=min(numbers, key=lambda step: numbers[step])
    )


def test_the_best_epoch_is_kept_also_on_a_file_system_without_links(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    train(keeping("loss", shards, "keep_every=0"), tmp_path / "run")
    numbers = numbers_of(tmp_path / "run", "loss")
    found = best_in(tmp_path / "run" / "best.pt")
    assert found is not None
    assert found.value == min(numbers.values())
    assert weights_file(tmp_path / "run") == tmp_path / "run" / "best.pt"


# Which weights stand for the run


def test_the_folder_of_a_run_stands_for_its_best_epoch_and_a_file_for_itself(
    run: Path, by: str, shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best, last = state_of(run / "best.pt"), state_of(run / "last.pt")
    for word, state in ((run, best), (run / "best.pt", best), (run / "last.pt", last)):
        net, info = load_backbone(word)
        inside = {f"backbone.{name}": tensor for name, tensor in net.state_dict().items()}
        assert_same(inside, {name: state["model"][name] for name in inside})
        assert (info.step, info.is_best) == (state["step"], state is best)
    lowest = f"lowest {by}, {best['best']['value']:.4g}, at step {best['step']}"
    assert load_backbone(run)[1].epoch == lowest
    assert load_backbone(run / "last.pt")[1].epoch == f"step 20; lowest {by} at step {best['step']}"

    words = ("steps=1", "schedule.lr=0", f"weights={run}")
    train(small("pace", shards, *words), tmp_path / "next")
    assert f"initial weights: {run} ({lowest})\n" in capsys.readouterr().err
    begun = load_backbone(tmp_path / "next")[0]
    for (name, weight), other in zip(begun.named_parameters(), load_backbone(run)[0].parameters(), strict=True):
        assert torch.equal(weight, other), name


def test_before_an_epoch_has_ended_the_last_state_stands_for_the_run(shards: Path, tmp_path: Path) -> None:
    train(keeping("loss", shards, "steps=3"), tmp_path / "run")
    assert weights_file(tmp_path / "run") == tmp_path / "run" / "last.pt"
    info = load_backbone(tmp_path / "run")[1]
    assert (info.step, info.is_best, info.epoch) == (3, False, "step 3; no best epoch yet")


def test_a_run_that_keeps_the_last_state_has_no_best_one(shards: Path, tmp_path: Path) -> None:
    train(keeping("held_out_loss", shards, "keep=last"), tmp_path / "run")
    assert (saved(tmp_path / "run")["best"], (tmp_path / "run" / "best.pt").exists()) == (None, False)
    assert "epoch_loss" not in lines(tmp_path / "run")[-1]
    assert load_backbone(tmp_path / "run")[1].epoch == ""


def test_a_run_that_was_saved_before_there_were_best_epochs_is_resumed(shards: Path, tmp_path: Path) -> None:
    recipe = small("supervised", shards, "steps=8", "keep_every=3")
    train(recipe, tmp_path / "wanted")
    folder = killed_behind(tmp_path / "wanted", 3, tmp_path / "run")
    state = state_of(folder / "last.pt")
    del state["best"], state["sums"]["epoch_loss"], state["sums"]["epoch_steps"]
    for name in ("keep", "best_by"):
        del state["recipe"][name]
    torch.save(state, folder / "last.pt")
    run_folder.write_json(folder / "recipe.json", state["recipe"])
    assert recipe_in(folder).keep == "last"
    assert load_backbone(folder)[1].epoch == ""
    train(recipe_in(folder), folder, resume=True)
    assert_same(saved(folder)["model"], saved(tmp_path / "wanted")["model"])


def test_a_lost_last_state_can_be_replaced_by_the_best(run: Path, tmp_path: Path) -> None:
    folder = killed_behind(run, 4 * PART, tmp_path / "run")
    (folder / "last.pt").unlink()
    with pytest.raises(UsageError) as error:
        train(recipe_in(folder), folder, resume=True)
    others = f"best.pt or a state of {folder / 'kept'}"
    assert str(error.value) == f"{folder} has no last.pt; copy {others} to last.pt to continue from there"
    with pytest.raises(UsageError) as error:
        train(recipe_in(folder), folder)
    assert str(error.value).startswith(f"{folder} exists already; ")
    load_weights(load_backbone(folder)[0], "tiny", folder)  # best.pt
    (folder / "last.pt").write_bytes(b"half")
    with pytest.raises(UsageError) as error:
        train(recipe_in(folder), folder, resume=True)
    assert str(error.value).endswith(f"; replace it by best.pt or a state of {folder / 'kept'}")
    shutil.copy(folder / "best.pt", folder / "last.pt")
    train(recipe_in(folder), folder, resume=True)
    assert_same_run(folder, run)


# A best.pt that has changed


def refused_best(folder: Path) -> str:
    before = (folder / "best.pt").read_bytes(), (folder / "last.pt").read_bytes()
    with pytest.raises(UsageError) as error:
        train(recipe_in(folder), folder, resume=True)
    assert ((folder / "best.pt").read_bytes(), (folder / "last.pt").read_bytes()) == before
    return str(error.value)


def test_a_best_state_that_is_damaged_or_of_another_run_is_left_alone(run: Path, tmp_path: Path) -> None:
    folder = killed_behind(run, 2 * PART + 1, tmp_path / "run")
    advice = "move it away to continue: the best epoch to come will be kept there"
    whole = (folder / "best.pt").read_bytes()
    (folder / "best.pt").write_bytes(whole[:-7])
    assert refused_best(folder) == f"{folder / 'best.pt'} is damaged; {advice}"
    other = state_of(kept(run, PART))
    best = {**other["best"], "value": 0.001, "step": PART}
    for change_of in ({"best": best, "data": other["data"] | {"hash": "x"}}, {"best": best}):
        torch.save(other | change_of, folder / "best.pt")
        assert refused_best(folder) == f"{folder / 'best.pt'} is of another run; {advice}"
    (folder / "best.pt").write_bytes(whole)
    train(recipe_in(folder), folder, resume=True)
    assert_same_run(folder, run)


def test_from_a_kept_state_a_run_comes_to_the_same_best_epoch_again(run: Path, tmp_path: Path) -> None:
    """Also where kept states are missing, which no training reads."""
    folder = Path(shutil.copytree(run, tmp_path / "run"))
    shutil.copy(kept(folder, PART), folder / "last.pt")
    shutil.rmtree(folder / "kept")
    train(recipe_in(folder), folder, resume=True)
    assert_same_run(folder, run)
