"""`vtrain METHOD --resume RUN` as people type it: which run is meant, its new length, and where its set is now."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from commands import vtrain
from small_recipes import assert_same

SMALL = ("--recipe", "tiny", "backbone_settings.width=4", "frames=4", "size=16", "workers=0", "save_every=2", "batch=4")


@pytest.fixture(scope="module")
def set_of_videos(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(shards, tmp_path_factory.mktemp("resumed") / "set"))


@pytest.fixture(scope="module")
def finished(set_of_videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four steps in `runs/`."""
    here = tmp_path_factory.mktemp("finished")
    done = vtrain("pace", "--shards", set_of_videos, *SMALL, "steps=4", "--out", "runs/a=1", cwd=here)
    assert done.returncode == 0, done.stderr
    return here / "runs" / "a=1"


@pytest.fixture
def here(finished: Path, tmp_path: Path) -> Path:
    """A folder with a copy of the run, as `runs/a=1`."""
    shutil.copytree(finished, tmp_path / "runs" / "a=1")
    return tmp_path


def state(folder: Path) -> dict[str, object]:
    return dict(torch.load(folder / "last.pt", weights_only=True))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


FINISHED = "were done before; nothing was trained or changed (steps=N makes it longer)"


@pytest.mark.parametrize("words", [("runs/a=1",), (), ("--out", "runs/a=1"), ("runs/a=1/",), ("workers=1", "runs/a=1")])
def test_resuming_a_finished_run_says_so_and_changes_nothing(words: tuple[str, ...], here: Path) -> None:
    before = contents(here / "runs")
    done = vtrain("pace", "--resume", *words, cwd=here)
    assert done.returncode == 0, done.stderr
    first = done.stdout.splitlines()[0]
    assert first.startswith("runs/a=1: all 4 steps of pace-tiny (changed: ")
    assert first.endswith(FINISHED)
    assert contents(here / "runs") == before


WRONG = {
    ("pace", "--resume", "runs/b"): (
        "there is no run in runs/b; --resume takes the folder of a run: settings are written key=value"
    ),
    ("pace", "--resume", "runs/a=1/last.pt"): (
        "there is no run in runs/a=1/last.pt; --resume takes the folder of a run: did you mean --resume runs/a=1?"
    ),
    ("pace", "--resume", "runs"): "there is no runs/recipe.json; name a run's folder or a recipe.json",
    ("pace", "--resume", "runs/a=1", "runs/b"): (
        "--resume continues one run, and 2 are named: runs/a=1, runs/b; name one"
    ),
    ("pace", "--resume", "runs/a=1", "--out", "runs/b"): (
        "--resume names runs/a=1 and --out runs/b; name one of them"
    ),
    ("prp", "--resume", "runs/a=1"): "runs/a=1 is a run of pace; write: vtrain pace --resume runs/a=1",
    ("prp", "--resume"): "there is no run of prp in runs/; name the folder of a run: --resume RUN",
    ("pace", "runs/a=1"): "'runs/a=1' is no setting; to continue a run: vtrain pace --resume runs/a=1",
    ("pace", "--resume", "runs/a=1", "lr=1"): (
        "lr=1 with --resume, which continues with the run's own recipe; only workers, log_every, save_every, "
        "save_minutes, keep_every, data.on_error, data.budget and its length (steps or epochs) may change: leave it "
        "out, or start another run"
    ),
    ("pace", "--resume", "runs/a=1", "steps=3"): (
        "the run has done 4 of 4 steps, and its new length is 3; write more than 4, or leave the length out"
    ),
}  # fmt: skip


@pytest.mark.parametrize("words", WRONG, ids=" ".join)
def test_a_wrong_word_with_resume_is_one_sentence(words: tuple[str, ...], here: Path) -> None:
    before = contents(here / "runs")
    done = vtrain(*words, cwd=here)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"vtrain: {WRONG[words]}\n")
    assert contents(here / "runs") == before


@pytest.mark.parametrize(("length", "steps"), [("steps=6", 6), ("epochs=2", 10)])  # 20 videos, 4 in a step
def test_a_finished_run_is_lengthened(length: str, steps: int, here: Path) -> None:
    done = vtrain("pace", "--resume", "runs/a=1", length, "--json", cwd=here)
    assert (done.json["steps"], done.json["trained"]) == (steps, steps - 4)
    assert state(here / "runs" / "a=1")["step"] == steps
    recipe = json.loads((here / "runs" / "a=1" / "recipe.json").read_text())
    assert recipe["steps"] == (steps if "steps" in length else None)
    assert recipe["earlier_lengths"] == [{"until": 4, "steps": 4}]
    assert recipe["save_every"] == 2
    (said,) = [line for line in done.stderr.splitlines() if "lengthened" in line]
    assert said.startswith(
        f"the run is lengthened from 4 to {steps} steps: its cosine now ends there, so the learning "
    )


def test_epochs_count_also_where_a_recipe_has_steps(set_of_videos: Path, tmp_path: Path) -> None:
    done = vtrain("pace", "--shards", set_of_videos, *SMALL, "epochs=1", "--out", "run", "--json", cwd=tmp_path)
    assert done.json["steps"] == 5


def test_the_newest_run_may_be_one_that_was_killed_before_it_saved(here: Path) -> None:
    unsaved = here / "runs" / "later"
    unsaved.mkdir()
    shutil.copy(here / "runs" / "a=1" / "recipe.json", unsaved)
    (unsaved / ".lock").touch()
    hint = vtrain("pace", "--resume", "later", cwd=here)
    assert hint.stderr.endswith("takes the folder of a run: did you mean --resume runs/later?\n")
    done = vtrain("pace", "--resume", "--json", cwd=here)
    assert (done.json["run"], done.json["trained"]) == ("runs/later", 4)
    assert_same(state(unsaved), state(here / "runs" / "a=1"))


def test_a_set_that_has_moved_is_named_by_shards_and_then_noted(
    here: Path, set_of_videos: Path, small_shards: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "moved"
    set_of_videos.rename(moved)
    try:
        gone = vtrain("pace", "--resume", "runs/a=1", "steps=5", cwd=here)
        assert (gone.returncode, gone.stderr) == (
            2,
            f"vtrain: runs/a=1 was trained on {set_of_videos}, which is not there any more; if it has moved, name it: "
            "--shards NEW\n",
        )
        other = vtrain("pace", "--resume", "runs/a=1", "steps=5", "--shards", small_shards, cwd=here)
        assert other.returncode == 2
        named = vtrain("pace", "--resume", "runs/a=1", "steps=5", "--shards", "moved", cwd=here)
        assert named.returncode == 0, named.stderr
        again = vtrain("pace", "--resume", "runs/a=1", "steps=6", cwd=here)
        assert again.returncode == 0, again.stderr
    finally:
        moved.rename(set_of_videos)


def test_resuming_finds_the_newest_run_of_the_method_whatever_its_folder_is_called(
    here: Path, set_of_videos: Path
) -> None:
    for name, method in (("wednesday", "pace"), ("pace-not", "supervised")):
        words = (*SMALL, "steps=1", "--out", f"runs/{name}")
        done = vtrain(method, "--shards", set_of_videos, *words, cwd=here)
        assert done.returncode == 0, done.stderr
    (here / "runs" / "broken").mkdir()
    (here / "runs" / "broken" / "recipe.json").write_text("[]")
    (here / "runs" / "broken" / "last.pt").touch()
    assert vtrain("pace", "--resume", "--json", cwd=here).json["run"] == "runs/wednesday"
