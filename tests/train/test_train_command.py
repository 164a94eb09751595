"""The commands of training as people type them."""

import json
from pathlib import Path

import pytest
import torch
from commands import vtrain

SMALL = ("--recipe", "tiny", "backbone_settings.width=4", "frames=4", "size=16", "steps=4", "workers=0", "save_every=2")


def test_a_training_is_one_command_and_prints_the_next_command(shards: Path, tmp_path: Path) -> None:
    done = vtrain("pace", "--shards", shards, *SMALL, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "runs").iterdir()
    assert run.name.startswith("pace-")
    assert done.stdout.splitlines()[-1] == f"next: veval retrieval --weights runs/{run.name}"
    assert "step 4/4" in done.stderr
    assert torch.load(run / "last.pt", weights_only=True)["step"] == 4


def test_json_is_one_object(shards: Path, tmp_path: Path) -> None:
    summary = vtrain("pace", "--shards", shards, *SMALL, "--json", cwd=tmp_path).json
    assert (summary["method"], summary["recipe"], summary["steps"]) == ("pace", "pace-tiny", 4)


def test_a_warning_names_clips_that_are_larger_than_the_frames(shards: Path, tmp_path: Path) -> None:
    words = [word if word != "size=16" else "size=26" for word in SMALL]
    said = vtrain("pace", "--shards", shards, *words, cwd=tmp_path).stderr.splitlines()
    assert said[0].startswith("clips of 26 pixels are enlarged from frames of 24; ")
    assert len(said) == 2


def test_a_recipe_of_a_run_is_trained_again_from_its_file(shards: Path, tmp_path: Path) -> None:
    first = vtrain("pace", "--shards", shards, *SMALL, "--out", "a", "--json", cwd=tmp_path).json
    again = vtrain("pace", "--recipe", "a/recipe.json", "--out", "b", "--json", cwd=tmp_path).json
    assert again["loss"] == first["loss"]


def test_resuming_refuses_settings_that_would_change_the_result(shards: Path, tmp_path: Path) -> None:
    assert vtrain("pace", "--shards", shards, *SMALL, cwd=tmp_path).returncode == 0
    (run,) = (tmp_path / "runs").iterdir()
    refused = vtrain("pace", "--resume", "lr=1", cwd=tmp_path)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == (
        "vtrain: lr=1 with --resume, which continues with the run's own recipe; only workers, log_every, save_every, "
        "keep_every may change: leave it out, or start another run\n"
    )
    other = vtrain("prp", "--resume", "--out", run, cwd=tmp_path)
    assert other.stderr == f"vtrain: {run} is a run of pace; write: vtrain pace --resume\n"
    none = vtrain("prp", "--resume", cwd=tmp_path)
    assert none.stderr == "vtrain: no run of prp in runs/ has saved its state; name the folder of a run by --out\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("pace", "--recipe", "tiny", "save_evry=3"), "no setting 'save_evry'; did you mean 'save_every'?"),
        (("pace", "--recipe", "tiny", "steps"), "'steps' is no setting; settings are written key=value"),
        (("pace", "--recipe", "tiney"), "no recipe 'tiney'; did you mean 'pace-tiny'? vtrain recipes lists them all"),
        (
            ("pace", "--recipe", "tiny"),
            "no folder '{here}/data_shards'; a set is made with: vprep shard VIDEOS --out {here}/data_shards",
        ),
    ],
)
def test_a_wrong_command_is_one_sentence(words: tuple[str, ...], said: str, tmp_path: Path) -> None:
    done = vtrain(*words, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"vtrain: {said.format(here=tmp_path)}\n")
    assert not (tmp_path / "runs").exists()


def test_recipes_are_listed_and_shown_as_they_are_changed(tmp_path: Path) -> None:
    names = [row["name"] for row in vtrain("recipes", "--json", cwd=tmp_path).json["recipes"]]
    assert {"rspnet-r2plus1d-k400", "pace-tiny"} <= set(names)
    shown = vtrain("recipes", "pace-tiny", "lr=0.5", cwd=tmp_path).stdout.splitlines()
    assert "schedule.lr=0.5" in shown
    assert json.loads(vtrain("recipes", "pace-tiny", "--json", cwd=tmp_path).stdout)["name"] == "pace-tiny"


def test_the_step_of_a_method_is_timed_without_shards(tmp_path: Path) -> None:
    words = ("pace", *SMALL[:-1], "batch=2", "--seconds", 0.2, "--json")
    assert vtrain("bench", "step", *words, cwd=tmp_path).json["method"] == "pace"


def test_model_loader_and_both_are_timed_on_shards(shards: Path, tmp_path: Path) -> None:
    words = ("pace", *SMALL[:-1], "batch=2", "--shards", shards, "--seconds", 0.2)
    done = vtrain("bench", "all", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "together" in done.stdout
