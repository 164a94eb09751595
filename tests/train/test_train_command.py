"""The commands of training as people type them."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from commands import vtrain
from small_recipes import assert_same
from terminals import BAR, on_terminal

from vtrain import cli
from vtrain.overrides import change
from vtrain.recipes import find
from vtrain.training.inputs import command_of

SMALL = ("--recipe", "tiny", "backbone_settings.width=4", "frames=4", "size=16", "steps=4", "workers=0", "save_every=2")


def test_a_training_is_one_command_and_prints_the_next_command(shards: Path, tmp_path: Path) -> None:
    done = vtrain("pace", "--shards", shards, *SMALL, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (run,) = (tmp_path / "runs").iterdir()
    assert run.name.startswith("pace-")
    assert done.stdout.splitlines()[-1] == f"next: veval retrieval --weights runs/{run.name} --shards {shards}"
    assert " of pace-tiny (changed: " in done.stdout
    assert "step 4/4" in done.stderr
    assert torch.load(run / "last.pt", weights_only=True)["step"] == 4


def test_json_is_one_object(shards: Path, tmp_path: Path) -> None:
    done = vtrain("pace", "--shards", shards, *SMALL, "--json", cwd=tmp_path)
    summary = done.json
    assert (summary["method"], summary["recipe"], summary["steps"]) == ("pace", "pace-tiny", 4)
    assert "step 4" not in done.stderr


def test_a_terminal_shows_a_bar_with_loss_speed_waiting_and_the_time_left(shards: Path, tmp_path: Path) -> None:
    words = ("pace", "--shards", shards, *SMALL, "log_every=2")
    shown, narrow = (
        on_terminal(*words, "--out", str(columns), cwd=tmp_path, columns=columns, main=cli.main).stdout
        for columns in (160, 80)
    )
    assert BAR in shown
    assert re.search(r"4/4 0:00 left, epoch \d\.\d, loss \d+\.\d{3}, .*\d+ clips/s, waiting \d+%", shown), shown
    assert re.search(r"4/4 0:00 left, epoch \d\.\d, loss \d+\.\d{3}", narrow), narrow
    assert BAR not in on_terminal(*words, "--out", "json", "--json", cwd=tmp_path, columns=160, main=cli.main).stdout


def test_the_best_epoch_is_printed_where_it_is_kept(shards: Path, tmp_path: Path) -> None:
    words = (*SMALL, "batch=10", "keep=best", "best_by=loss", "--out", "run")  # 20 videos: two epochs
    done = vtrain("pace", "--shards", shards, *words, cwd=tmp_path)
    best = torch.load(tmp_path / "run" / "best.pt", weights_only=True)["best"]
    assert done.stdout.splitlines()[1] == f"best.pt: lowest loss, {best['value']:.4g}, at step {best['step']}"
    exported = vtrain("export", "run", "--out", "net.safetensors", cwd=tmp_path)
    kept = f"lowest loss, {best['value']:.4g}, at step {best['step']}"
    assert exported.stdout.splitlines()[0] == f"weights run/best.pt ({kept})"
    again = vtrain("pace", "--resume", "--out", "run", "--json", cwd=tmp_path)
    assert again.json["best"] == best


def test_a_note_says_once_how_the_set_differs_from_that_of_the_recipe(shards: Path, tmp_path: Path) -> None:
    words = [word if word != "size=16" else "size=26" for word in SMALL]
    said = vtrain("pace", "--shards", shards, *words, "stored.short_side=32", cwd=tmp_path).stderr.splitlines()
    assert said[0] == (
        "In this set 100% of the crops are smaller than 26 pixels and are enlarged. "
        "This recipe expects a set made with: vprep shard VIDEOS --short-side 32 --out DIR"
    )
    assert [line.split()[0] for line in said[1:]] == ["computing", "step"]


def test_a_tiny_recipe_expects_nothing_of_the_set(shards: Path, tmp_path: Path) -> None:
    words = [word if word != "size=16" else "size=40" for word in SMALL]
    said = vtrain("pace", "--shards", shards, *words, cwd=tmp_path).stderr.splitlines()
    assert [line.split()[0] for line in said] == ["computing", "step"]


def test_a_recipe_of_a_run_is_trained_again_from_its_file(shards: Path, tmp_path: Path) -> None:
    first = vtrain("pace", "--shards", shards, *SMALL, "--out", "a", "--json", cwd=tmp_path).json
    again = vtrain("pace", "--recipe", "a/recipe.json", "--out", "b", "--json", cwd=tmp_path).json
    assert again["loss"] == first["loss"]


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


OUTSIDE = ("--backbone", "my_nets:build", "backbone_settings.width=4")


@pytest.fixture
def outside(shards: Path, tmp_path: Path) -> Path:
    """A folder with a backbone from outside, and a run with it."""
    shutil.copy(Path(__file__).parents[2] / "examples" / "my_nets.py", tmp_path)
    words = ("--recipe", "tiny", *OUTSIDE, "frames=4", "size=16", "batch=2", "steps=4", "workers=1", "save_every=2")
    done = vtrain("pace", "--shards", shards, *words, "keep_every=2", "--out", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return tmp_path


def test_the_next_command_names_a_backbone_from_outside_too(outside: Path, shards: Path) -> None:
    done = vtrain("pace", "--resume", "--out", "run", *OUTSIDE[:2], cwd=outside)
    assert done.stdout.splitlines()[-1] == (
        f"next: veval retrieval --weights run --backbone my_nets:build --shards {shards}"
    )


def test_a_backbone_from_outside_is_in_the_recipe_under_its_word(outside: Path) -> None:
    assert json.loads((outside / "run" / "recipe.json").read_text())["backbone"] == "my_nets:build"
    assert torch.load(outside / "run" / "last.pt", weights_only=True)["backbone"] == "my_nets:build"


def test_a_run_with_a_backbone_from_outside_resumes_when_the_backbone_is_named(outside: Path) -> None:
    wanted = torch.load(outside / "run" / "last.pt", weights_only=True)
    shutil.copy(outside / "run" / "kept" / "step_0000002.pt", outside / "run" / "last.pt")
    refused = vtrain("pace", "--resume", "--out", "run", cwd=outside)
    assert refused.returncode == 2
    assert refused.stderr == (
        "vtrain: backbone 'my_nets:build' is code from outside vtrain, which a name in a file does not import; if you "
        "trust it, allow it: on a command line by --backbone my_nets:build, in Python by "
        "vtrain.backbones.allow('my_nets:build')\n"
    )
    other = vtrain("pace", "--resume", "--out", "run", "--backbone", "c3d", cwd=outside)
    assert other.stderr.startswith("vtrain: --backbone c3d with --resume, which continues with the run's own recipe; ")
    resumed = vtrain("pace", "--resume", "--out", "run", *OUTSIDE[:2], cwd=outside)
    assert resumed.returncode == 0, resumed.stderr
    assert_same(torch.load(outside / "run" / "last.pt", weights_only=True), wanted)


def test_a_recipe_file_imports_its_backbone_only_when_the_command_names_it(outside: Path) -> None:
    words = ("pace", "--recipe", "run/recipe.json", "--out", "again")
    refused = vtrain(*words, cwd=outside)
    assert (refused.returncode, "allow it: on a command line by --backbone" in refused.stderr) == (2, True)
    assert vtrain(*words, *OUTSIDE[:2], cwd=outside).returncode == 0


def test_the_benchmark_and_the_export_take_a_backbone_from_outside(outside: Path) -> None:
    words = ("pace", "--recipe", "tiny", *OUTSIDE, "frames=4", "size=16", "batch=2", "--seconds", 0.2, "--json")
    assert vtrain("bench", "step", *words, cwd=outside).json["backbone"] == "my_nets:build"
    refused = vtrain("export", "run", "--out", "x.safetensors", cwd=outside)
    assert "allow it: on a command line by --backbone my_nets:build" in refused.stderr
    done = vtrain("export", "run", "--out", "x.safetensors", *OUTSIDE[:2], cwd=outside)
    assert done.returncode == 0, done.stderr


def test_the_command_that_resumes_a_run_names_its_backbone_from_outside() -> None:
    recipe = change(find("pace", "tiny"), ["backbone=my_nets:build"])
    assert command_of(recipe) == "pace --backbone my_nets:build"


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
