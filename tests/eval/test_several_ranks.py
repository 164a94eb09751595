"""Several ranks that share an evaluation: the numbers of one process, each printed and written once; and lost ranks."""

import json
import shutil
import signal
import socket
from pathlib import Path
from typing import Any

import pytest
from commands import veval
from rank_processes import Ranks, ranks
from small_recipes import lines, until

from veval import cli
from veval.features import extract

pytestmark = pytest.mark.slow

HOST = socket.gethostname()
TUNED = "runs/finetuned/tuned"
# What depends on the moment, and on the file that the ranks share.
OF_THE_MOMENT = ("made", "seconds")
SHARED = {"retrieval": "--features", "linear": "--features", "knn": "--features", "test": "--logits"}


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extract, "PART_VIDEOS", 3)  # of the forked processes, too


def shared(count: int, *words: object, here: Path, name: str, env: dict[str, str] | None = None) -> Any:  # noqa: ANN401
    return ranks(cli.main, count, *words, "--workers", 0, cwd=here, printed=here / name, env=env)


def printed(found: Ranks) -> list[str]:
    return [(folder / "stdout").read_text() for folder in found.printed]


def numbers(text: str) -> dict[str, Any]:
    return {name: value for name, value in json.loads(text).items() if name not in OF_THE_MOMENT}


@pytest.mark.parametrize("task", SHARED)
def test_four_ranks_have_the_result_of_one_process(task: str, here: Path) -> None:
    """Equal numbers, a result that is printed once and written once."""
    words = (task, "--weights", TUNED if task == "test" else "runs/newer", "--json")
    with shared(4, *words, SHARED[task], "shared.parquet", here=here, name="four") as found:
        assert found.codes() == [0] * 4, found.said(0)
        first, *others = printed(found)
    assert others == ["", "", ""]
    assert len(list((here / "results").iterdir())) == 1
    alone = veval(*words, "--workers", 0, cwd=here)
    assert numbers(first) == numbers(alone.stdout)
    assert not (here / "shared.parquet.parts").exists()


def test_features_that_two_ranks_began_are_finished_by_four(here: Path) -> None:
    """What was computed when one rank was killed is not computed again."""
    words = ("features", "--weights", "runs/newer", "clips=4")
    assert veval(*words, "--out", "alone.parquet", cwd=here).returncode == 0
    parts = here / "f.parquet.parts"
    with shared(2, *words, "--out", "f.parquet", here=here, name="two", env={"VTRAIN_LOST_AFTER": "4"}) as found:
        until(lambda: list(parts.glob("*.parquet")))
        found.send(signal.SIGSTOP, 1)
        assert found.codes(0) == [1]
        assert f"rank 1 on {HOST} has given no sign of life for 4 s; what was saved stays" in found.said(0)[0]
    before = {path: path.stat().st_mtime_ns for path in parts.glob("*.parquet")}
    assert before
    with shared(4, *words, "--out", "f.parquet", here=here, name="four") as found:
        assert found.codes() == [0] * 4, found.said(0)
    assert (here / "f.parquet").read_bytes() == (here / "alone.parquet").read_bytes()


def test_two_ranks_fine_tune_as_one_process_does(here: Path) -> None:
    """Losses to within 1e-4 of their size; the first rank decides on the best epoch, tests, prints and writes."""
    words = (
        "finetune", "--weights", "runs/newer", "batch=8", "steps=4", "log_every=1", "batch_norm=sync", "dropout=0",
        "keep=best", "best_by=loss", "schedule.lr=0.001", "--json",
    )  # fmt: skip
    with shared(2, *words, "--into", "two", here=here, name="printed") as found:
        assert found.codes() == [0, 0], found.said(0)
        first, second = printed(found)
    assert second == ""
    alone = veval(*words, "--into", "one", "--workers", 0, cwd=here)
    two, one = json.loads(first), json.loads(alone.stdout)
    assert [line["loss"] for line in lines(here / "two")] == pytest.approx(
        [line["loss"] for line in lines(here / "one")], rel=1e-4
    )
    assert (two["protocol"], two["predictions"]) == (one["protocol"], one["predictions"])
    assert [epoch["step"] for epoch in two["tried"]] == [epoch["step"] for epoch in one["tried"]]
    assert len(list((here / "results").iterdir())) == 2


def test_a_fine_tuning_of_two_ranks_ends_when_the_one_that_tests_is_killed(here: Path) -> None:
    """The training is finished then, and is only tested again."""
    words = ("finetune", "--weights", "runs/newer", "--into", "tuned", "batch=8", "steps=2", "test.clips=2000")
    with shared(2, *words, here=here, name="killed") as found:
        until(lambda: "testing 8 videos" in (found.printed[0] / "stderr").read_text())
        found.send(signal.SIGKILL, 0)
        assert found.codes(1) == [1]
        (said,) = found.said(1)
        assert said.startswith("veval: another process is gone or cannot be reached (connection ")
        assert "; what was saved stays: run all processes again" in said
    with shared(2, *words[:-1], "test.clips=2", here=here, name="again") as found:
        assert found.codes() == [0, 0], found.said(0)


@pytest.mark.parametrize("missing", ["features", "weights"])
def test_what_one_node_does_not_see_is_said_at_once(missing: str, here: Path, tmp_path: Path) -> None:
    other = tmp_path / "other node"
    (other / "runs").mkdir(parents=True)
    (other / "data_shards").symlink_to(here / "data_shards")
    if missing == "features":
        shutil.copytree(here / "runs" / "newer", other / "runs" / "newer")
    words = ("features", "--weights", "runs/newer", "--out", "f.parquet", "--workers", 0)
    with ranks(cli.main, 2, *words, cwd=here, folders=[here, other], printed=here / "printed") as found:
        codes, (first,), (second,) = found.codes(), found.said(0), found.said(1)
    if missing == "features":
        assert codes == [2, 2]
        assert first == second
        assert first.startswith("veval: f.parquet.parts differs between the processes: ")
        assert first.endswith(f", no such folder for rank 1 on {HOST}; name a file in a folder that all nodes share")
    else:
        assert codes == [1, 2]
        assert first == f"veval: rank 1 on {HOST} ended first: {second.removeprefix('veval: ')}"
