"""The files of a run, what a training refuses to do with them, and what a full disk does."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from own_disk import on_a_disk
from small_recipes import METHODS, assert_same, begin, lines, saved, small, until

from vprep.errors import UsageError, WorkError
from vtrain import load_backbone, run_folder
from vtrain.backbones import backbone
from vtrain.overrides import as_json, change, from_json
from vtrain.recipes.recipe import Recipe
from vtrain.training.inputs import recipe_in
from vtrain.training.log import Metrics
from vtrain.training.train import train

ALL_FILES = {".lock", "environment.json", "kept", "last.pt", "metrics.jsonl", "recipe.json"}


@pytest.fixture(scope="module")
def run(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six steps of pace prediction. Tests that change the folder copy it first."""
    folder = tmp_path_factory.mktemp("runs") / "pace"
    recipe = small("pace", shards, "steps=6", "log_every=2", "save_every=2", "keep_every=4", "data.hold_out=5")
    summary = train(change(recipe, ["validate.every=0.5"]), folder)
    assert summary["run"] == str(folder)
    return folder


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    subprocess.run(["cp", "-r", run, tmp_path / "run"], check=True)
    return tmp_path / "run"


def test_a_run_s_folder_holds_these_files(run: Path) -> None:
    assert {path.name for path in run.iterdir()} == ALL_FILES
    assert [path.name for path in (run / "kept").iterdir()] == ["step_0000004.pt"]
    assert torch.load(run / "kept" / "step_0000004.pt", weights_only=True)["step"] == 4


def test_the_last_state_opens_without_pickle_and_says_what_it_is(run: Path, shards: Path) -> None:
    state = torch.load(run / "last.pt", weights_only=True)
    assert state["step"] == 6
    assert (state["method"], state["backbone"], state["settings"]) == ("pace", "tiny", {"width": 4})
    assert (state["clip"], state["normalisation"]) == ([4, 16, 16], "imagenet")
    assert state["data"]["videos"] == 15  # 20 of the split, 5 of them held out
    assert state["data"]["split"] == "train"
    assert from_json(Recipe, state["recipe"]) == recipe_in(run)
    assert recipe_in(run).data.shards == str(shards)


def test_a_line_of_the_metrics_has_these_numbers(run: Path) -> None:
    found = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in found] == [2, 4, 6]
    for line in found:
        assert line["epoch"] == round(line["step"] * 4 / 15, 4)
        for name in ("loss", "pace", "contrast", "pace_accuracy", "lr", "clips_per_s", "wait", "memory_mb", "skipped"):
            assert isinstance(line[name], int | float), name
        assert line["loss"] == pytest.approx(line["pace"] + 0.1 * line["contrast"], rel=1e-5)
        assert 0 <= line["wait"] <= 1
        assert 0 <= line["pace_accuracy"] <= 1
    assert [sorted(line) for line in found if "held_out_loss" in line] == [
        sorted({*found[0], "held_out_loss", "held_out_pace", "held_out_contrast", "held_out_pace_accuracy"})
    ] * len([line for line in found if "held_out_loss" in line])
    assert "held_out_loss" in found[-1]


def test_a_line_is_the_mean_of_the_steps_since_the_one_before(run: Path, shards: Path, tmp_path: Path) -> None:
    train(change(recipe_in(run), ["log_every=1", "validate.every=0"]), tmp_path / "each")
    each = lines(tmp_path / "each")
    for line in lines(run):
        two = [one for one in each if line["step"] - 2 < one["step"] <= line["step"]]
        for name in ("loss", "pace", "contrast", "pace_accuracy"):
            assert line[name] == pytest.approx(sum(one[name] for one in two) / 2, rel=1e-6)


@pytest.mark.parametrize(
    "method", [pytest.param(method, marks=[] if method == "ascnet" else pytest.mark.slow) for method in METHODS]
)
def test_the_recipe_in_the_folder_trains_to_the_same_losses_again(method: str, shards: Path, tmp_path: Path) -> None:
    """From any folder, because the paths in it are absolute."""
    nearby = Path(os.path.relpath(shards))
    train(small(method, nearby, "steps=3"), tmp_path / "one")
    kept = json.loads((tmp_path / "one" / "recipe.json").read_text())
    recipe = from_json(Recipe, kept)
    assert as_json(recipe) == kept
    train(recipe, tmp_path / "two")
    assert lines(tmp_path / "two") == lines(tmp_path / "one")
    assert_same(saved(tmp_path / "two"), saved(tmp_path / "one"))
    assert (tmp_path / "two" / "recipe.json").read_bytes() == (tmp_path / "one" / "recipe.json").read_bytes()


def test_another_seed_gives_another_training(run: Path, tmp_path: Path) -> None:
    train(change(recipe_in(run), ["seed=1"]), tmp_path / "run")
    assert lines(tmp_path / "run")[0]["loss"] != lines(run)[0]["loss"]


def test_the_environment_of_each_start_is_kept(copy: Path) -> None:
    (first,) = json.loads((copy / "environment.json").read_text())
    assert first["step"] == 0
    assert first["versions"]["torch"] == str(torch.__version__)
    train(change(recipe_in(copy), ["steps=8"]), copy, resume=True)
    assert [one["step"] for one in json.loads((copy / "environment.json").read_text())] == [0, 6]


def test_a_run_can_be_named_wherever_a_file_of_weights_can(run: Path) -> None:
    net, info = load_backbone(run)
    inside = {
        name.removeprefix("backbone."): tensor
        for name, tensor in torch.load(run / "last.pt", weights_only=True)["model"].items()
        if name.startswith("backbone.")
    }
    assert_same(dict(net.state_dict()), inside)
    assert not net.training
    assert (info["backbone"], info["clip"], info["normalisation"]) == ("tiny", [4, 16, 16], "imagenet")


def test_a_training_begins_with_the_weights_it_is_given(run: Path, shards: Path, tmp_path: Path) -> None:
    recipe = small("supervised", shards, "steps=1", "schedule.lr=0", f"weights={run}")
    train(recipe, tmp_path / "run")
    begun, given = load_backbone(tmp_path / "run")[0], load_backbone(run)[0]
    fresh = backbone("tiny", width=4)
    for (name, weight), other in zip(begun.named_parameters(), given.parameters(), strict=True):
        assert torch.equal(weight, other), name
        assert weight.ndim == 1 or not torch.equal(weight, fresh.get_parameter(name))


def refused(recipe: Recipe, folder: Path, *, resume: bool = False) -> str:
    with pytest.raises(UsageError) as error:
        train(recipe, folder, resume=resume)
    return str(error.value)


def test_a_folder_that_is_not_empty_is_refused_and_left_as_it_is(run: Path, shards: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").touch()
    (tmp_path / "file").touch()
    for folder in (run, tmp_path / "other", tmp_path / "file"):
        said = refused(small("pace", shards), folder)
        assert said == f"{folder} exists already; continue its run with --resume {folder}, or choose another --out"
    assert [path.name for path in (tmp_path / "other").iterdir()] == ["thesis.tex"]


def stopped_early(shards: Path, folder: Path) -> Recipe:
    """Leave the folder of a run whose loss was not finite at its first step; return a recipe that trains."""
    recipe = small("pace", shards, "steps=4", "log_every=1", "save_every=4")
    with pytest.raises(WorkError):
        train(change(recipe, ["schedule.lr=1e30"]), folder)
    assert not (folder / "last.pt").exists()
    return recipe


def test_a_run_takes_the_place_of_one_that_stopped_before_it_saved(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    recipe = stopped_early(shards, folder)
    assert lines(folder)
    (folder / ".last.pt.123.draft").write_bytes(b"half")
    capsys.readouterr()
    train(recipe, folder)
    said = f"the run in {folder} stopped before it saved; this run takes its place\n"
    assert capsys.readouterr().err.startswith(said)
    train(recipe, tmp_path / "fresh")
    assert recipe_in(folder) == recipe_in(tmp_path / "fresh")
    assert lines(folder) == lines(tmp_path / "fresh")
    assert len(json.loads((folder / "environment.json").read_text())) == 1
    assert {path.name for path in folder.iterdir()} == {path.name for path in (tmp_path / "fresh").iterdir()}


def test_a_run_that_stopped_early_is_left_where_its_folder_holds_anything_else(shards: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    recipe = stopped_early(shards, folder)
    for other in ("notes.txt", "kept/step_0000002.pt"):
        (folder / other).parent.mkdir(exist_ok=True)
        (folder / other).touch()
        before = {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")}
        assert refused(recipe, folder).startswith(f"{folder} exists already; ")
        assert {path: path.is_file() and path.read_bytes() for path in folder.rglob("*")} == before
        (folder / other).unlink()
    (folder / ".lock").unlink()  # then it may be a recipe that a user has written
    assert refused(recipe, folder).startswith(f"{folder} exists already; ")


def test_a_run_that_has_not_saved_yet_keeps_its_folder(shards: Path, tmp_path: Path) -> None:
    folder, recipe = tmp_path / "run", small("pace", shards, "steps=100000", "save_every=100000", "log_every=1")
    first = begin(recipe, folder)
    until((folder / "metrics.jsonl").exists)
    before = (folder / "recipe.json").read_bytes()
    said = refused(change(recipe, ["seed=1"]), folder)
    assert said == f"another process trains in {folder}; wait for its end, or train in another folder"
    assert first.is_alive()
    assert (folder / "recipe.json").read_bytes() == before
    first.kill()
    first.join()
    assert train(change(recipe, ["steps=1"]), folder)["steps"] == 1


def test_an_empty_folder_is_used_and_missing_parents_are_made(shards: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "a" / "b" / "run"):
        train(small("supervised", shards, "steps=1"), folder)
        assert (folder / "last.pt").exists()


def test_what_cannot_be_trained_leaves_no_folder(shards: Path, tmp_path: Path) -> None:
    for words in (["batch=3", "accumulate=2"], ["data.split=other"], ["watch.every=1", "watch.queries=other"]):
        refused(small("supervised", shards, *words), tmp_path / "run")
        assert not (tmp_path / "run").exists()


def test_resuming_without_a_run_is_refused(shards: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert refused(small("pace", shards), folder, resume=True) == f"there is no run in {folder}; name a run's folder"


def test_a_run_that_was_killed_before_it_saved_begins_again_when_it_is_resumed(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also with weights to begin with, which a later resume does not read."""
    train(small("supervised", shards, "steps=1"), tmp_path / "first")
    words = (f"weights={tmp_path / 'first'}", "steps=100000", "save_every=100000", "log_every=1", "save_minutes=0")
    folder, recipe = tmp_path / "run", small("supervised", shards, *words, "schedule.kind=constant")
    process = begin(recipe, folder)
    until(lambda: (folder / "metrics.jsonl").exists() and len(lines(folder)) >= 2)
    process.kill()
    process.join()
    assert not (folder / "last.pt").exists()
    again = change(recipe_in(folder), ["steps=3"])
    assert train(again, folder, resume=True)["trained"] == 3
    said = f"the run in {folder} stopped before it saved: it begins again by its recipe\n"
    assert said in capsys.readouterr().err
    train(again, tmp_path / "wanted")
    assert lines(folder) == lines(tmp_path / "wanted")
    assert_same(saved(folder), saved(tmp_path / "wanted"))
    assert len(json.loads((folder / "environment.json").read_text())) == 2


def test_a_run_whose_last_state_alone_is_missing_does_not_begin_again(copy: Path) -> None:
    (copy / "last.pt").unlink()
    said = refused(recipe_in(copy), copy, resume=True)
    assert said == f"{copy} has no last.pt; copy a state of {copy / 'kept'} to last.pt to continue from there"


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04" + bytes(1000)])
def test_a_file_that_is_no_state_is_refused_and_a_kept_state_can_replace_it(content: bytes, copy: Path) -> None:
    (copy / "last.pt").write_bytes(content)
    said = refused(recipe_in(copy), copy, resume=True)
    assert said.startswith(f"{copy / 'last.pt'} ")
    assert said.endswith(f"; replace it by a state of {copy / 'kept'}")
    assert "weights_only" not in said
    (copy / "kept" / "step_0000004.pt").replace(copy / "last.pt")
    assert train(recipe_in(copy), copy, resume=True)["steps"] == 6


def test_a_run_resumes_with_the_same_videos_only(copy: Path, small_shards: Path) -> None:
    before = (copy / "last.pt").read_bytes()
    recipe = change(
        recipe_in(copy), [f"data.shards={small_shards}", "data.split=all", "data.hold_out=0", "validate.every=0"]
    )
    assert refused(recipe, copy, resume=True) == (
        f"{copy} was trained on 15 videos of other shards than these 12; name its own shards, or start from its "
        f"weights: --weights {copy}"
    )
    assert (copy / "last.pt").read_bytes() == before


def test_shards_that_have_moved_are_still_the_same_videos(copy: Path, shards: Path, tmp_path: Path) -> None:
    (tmp_path / "moved").symlink_to(shards)
    recipe = change(recipe_in(copy), [f"data.shards={tmp_path / 'moved'}", "steps=7"])
    assert train(recipe, copy, resume=True)["steps"] == 7


def test_a_run_resumes_with_the_network_that_it_began_with_only(copy: Path) -> None:
    said = refused(change(recipe_in(copy), ["backbone_settings.width=8"]), copy, resume=True)
    assert said.startswith(f"{copy / 'last.pt'} was not saved by a training with recipe.json (")
    assert said.endswith("); restore the recipe that the run began with")


def test_resuming_a_finished_training_changes_nothing(copy: Path) -> None:
    before = saved(copy), lines(copy)
    assert train(recipe_in(copy), copy, resume=True)["steps"] == 6
    assert_same((saved(copy), lines(copy)), before)


@pytest.mark.parametrize(
    "end", ['{"step": 5, "lo', '{"step": 4}', '{"step": 6}\n{"step": 8}\n', "\0\0\0\0", "é", "7\n[]\n{}\n"]
)
def test_lines_after_the_last_state_are_removed_and_no_line_is_there_twice(end: str, copy: Path) -> None:
    path = copy / "metrics.jsonl"
    whole = lines(copy)
    first = path.read_text().splitlines(keepends=True)[:2]
    path.write_text("".join(first[: 1 if "4" in end else 2]) + end)
    (copy / "kept" / "step_0000004.pt").replace(copy / "last.pt")
    train(recipe_in(copy), copy, resume=True)
    assert [line["step"] for line in lines(copy)] == [2, 4, 6]
    assert lines(copy)[2:] == whole[2:]


def test_a_number_that_is_not_finite_is_null(tmp_path: Path) -> None:
    metrics = Metrics(tmp_path / "metrics.jsonl", 0)
    metrics.write({"step": 1, "loss": 0.5, "held_out_loss": float("nan"), "held_out_rate": float("inf"), "skipped": 0})
    metrics.close()
    said = (tmp_path / "metrics.jsonl").read_text()
    assert said == '{"step": 1, "loss": 0.5, "held_out_loss": null, "held_out_rate": null, "skipped": 0}\n'


def test_drafts_of_a_killed_training_are_removed_when_it_resumes(copy: Path) -> None:
    for draft in (copy / ".last.pt.123.draft", copy / "kept" / ".step_0000008.pt.123.draft"):
        draft.write_bytes(b"half")
    train(recipe_in(copy), copy, resume=True)
    assert not list(copy.rglob("*.draft"))


def test_a_state_is_kept_also_on_a_file_system_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    run_folder.save(tmp_path, {"step": 3, "model": {}}, keep=True)
    assert (tmp_path / "last.pt").read_bytes() == (tmp_path / "kept" / "step_0000003.pt").read_bytes()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_second_training_in_a_folder_is_refused(shards: Path, tmp_path: Path) -> None:
    folder, recipe = tmp_path / "run", small("pace", shards, "steps=10000", "save_every=2")
    first = begin(recipe, folder)
    until((folder / "last.pt").exists)
    draft = folder / ".last.pt.1.draft"  # as the first writes them
    draft.touch()
    before = {name: (folder / name).read_bytes() for name in ("recipe.json", "environment.json")}
    for resume, changed in ((True, recipe), (True, change(recipe, ["steps=20000"])), (False, recipe)):
        said = refused(changed, folder, resume=resume)
        assert said == SECOND[resume].format(folder=folder)
    assert first.is_alive()
    assert draft.exists()
    assert {name: (folder / name).read_bytes() for name in before} == before
    first.kill()
    first.join()
    longer = change(recipe, [f"steps={saved(folder)['step'] + 1}"])
    assert train(longer, folder, resume=True)["trained"] == 1  # the lock is gone with its holder
    assert not draft.exists()


SECOND = {
    True: "another process trains in {folder}; wait for its end, or train in another folder",
    False: "{folder} exists already; continue its run with --resume {folder}, or choose another --out",
}


def test_of_several_trainings_that_begin_at_once_in_a_folder_one_goes_on(shards: Path, tmp_path: Path) -> None:
    recipe, folder = small("pace", shards, "steps=40"), tmp_path / "run"
    words = [tmp_path / f"{number}.txt" for number in range(3)]
    processes = [begin(change(recipe, [f"seed={number}"]), folder, words=said) for number, said in enumerate(words)]
    for process in processes:
        process.join()
    assert sorted(process.exitcode for process in processes) == [0, 2, 2]  # type: ignore[type-var]
    (seed,) = [number for number, process in enumerate(processes) if process.exitcode == 0]
    assert (recipe_in(folder).seed, saved(folder)["recipe"]["seed"], saved(folder)["step"]) == (seed, seed, 40)
    assert len(json.loads((folder / "environment.json").read_text())) == 1
    for number in {0, 1, 2} - {seed}:
        assert len(words[number].read_text().splitlines()) == 1


def failed(recipe: Recipe, folder: Path, *, resume: bool = False) -> tuple[str, str]:
    """Return the kind and the message of the error that ends a training."""
    try:
        train(recipe, folder, resume=resume)
    except (UsageError, WorkError, OSError) as error:
        return type(error).__name__, str(error)
    return "", ""


@pytest.mark.parametrize("keep", ["0", "1"])
def test_a_full_disk_leaves_the_older_state_and_the_run_resumes_when_there_is_space(
    keep: str, run: Path, shards: Path, tmp_path: Path
) -> None:
    recipe = small("pace", shards, "steps=6", "save_every=2", f"keep_every={keep}")
    size = (run / "last.pt").stat().st_size
    folder = tmp_path / "disk"
    name = "last.pt" if keep == "0" else "kept/step_0000002.pt"

    def act(mount: Callable[[str], None]) -> Any:  # noqa: ANN401  what JSON holds
        words = failed(recipe, folder)
        left = sorted(path.name for path in folder.rglob("*.*") if path.name != ".lock")
        step = saved(folder)["step"]
        mount(f"remount,size={20 * size}")
        train(recipe, folder, resume=True)
        return words, left, step, lines(folder)

    # Space for one state and a half. The last state is stored once, although it has two names.
    (kind, words), left, step, numbers = on_a_disk(folder, size * 3 // 2 + 30_000, act)
    assert kind == "WorkError"
    first = 2 if keep == "0" else 1
    assert step == first
    name = "last.pt" if keep == "0" else "kept/step_0000002.pt"
    assert words == (
        f"step {2 * first} could not be saved to {folder / name} (no space left on device); the last good state is "
        f"{folder / 'last.pt'}, of step {first}: fix that and continue with: vtrain pace --resume {folder}"
    )
    assert not [one for one in left if one.startswith(".")]
    train(recipe, tmp_path / "wanted")
    assert numbers == lines(tmp_path / "wanted")


def test_a_full_disk_before_the_first_state_is_one_sentence(run: Path, shards: Path, tmp_path: Path) -> None:
    recipe, folder = small("pace", shards, "steps=3", "save_every=1"), tmp_path / "disk"
    words = on_a_disk(folder, (run / "last.pt").stat().st_size // 2, lambda mount: failed(recipe, folder))
    assert words == [
        "WorkError",
        f"step 1 could not be saved to {folder / 'last.pt'} (no space left on device); no state is saved yet: fix "
        f"that and continue with: vtrain pace --resume {folder}",
    ]


def test_a_full_disk_stops_the_metrics_with_a_sentence(shards: Path, tmp_path: Path) -> None:
    recipe, folder = small("supervised", shards, "steps=200", "save_every=1000"), tmp_path / "disk"

    def act(mount: Callable[[str], None]) -> Any:  # noqa: ANN401  what JSON holds
        words = failed(recipe, folder)
        return words, (folder / "metrics.jsonl").read_text()

    (kind, words), written = on_a_disk(folder, 16384, act)
    assert kind == "WorkError"
    assert words == (
        f"{folder / 'metrics.jsonl'} cannot be written (no space left on device); no state is saved yet: fix that and "
        f"continue with: vtrain supervised --resume {folder}"
    )
    assert len(written) % 4096 == 0


def test_a_folder_that_cannot_be_written_is_one_sentence(shards: Path, tmp_path: Path) -> None:
    recipe, folder = small("supervised", shards, "steps=3"), tmp_path / "disk"

    def act(mount: Callable[[str], None]) -> Any:  # noqa: ANN401  what JSON holds
        train(recipe, folder)
        mount("remount,ro")
        return failed(change(recipe, ["steps=4"]), folder, resume=True)

    advice = "copy the run to where you can write, and name the copy"
    sentence = f"cannot write to {folder}: read-only file system; {advice}"
    assert on_a_disk(folder, 10_000_000, act) == ["UsageError", sentence]


@pytest.mark.parametrize("name", [".lock", "metrics.jsonl"])
def test_a_link_in_a_run_of_a_stranger_is_not_written_through(name: str, run: Path, tmp_path: Path) -> None:
    folder, mine = Path(shutil.copytree(run, tmp_path / "run")), tmp_path / "mine.txt"
    content = (run / "metrics.jsonl").read_bytes()
    mine.write_bytes(content)
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(mine)
    recipe = recipe_in(folder)
    with pytest.raises(WorkError, match=re.escape(f"{folder / name} is a link, or not a plain file")):
        train(replace(recipe, steps=recipe.steps + 1), folder, resume=True)
    assert mine.read_bytes() == content
