"""benchmarks/gpu.py on a CPU: all phases run, one that ends early hides no other, and what it wrote stays."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run the program with results in `tmp_path`; nothing of this tree is on Python's path."""

    def started(*words: object) -> "subprocess.CompletedProcess[str]":
        argv = [sys.executable, "benchmarks/gpu.py", "--device", "cpu", "--small", "--out", tmp_path, *words]
        env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
        return subprocess.run(list(map(str, argv)), capture_output=True, text=True, timeout=400, cwd=ROOT, env=env)

    return started


def rows(folder: Path, table: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
    return [row for row in found if row["table"] == table]


@pytest.mark.slow
def test_a_phase_that_is_out_of_time_is_ended_and_the_others_run(run: Run, tmp_path: Path) -> None:
    done = run("--only", "right,fast", "--limit", "right=0.2")
    assert done.returncode == 1, done.stderr
    assert {row["phase"]: row["ended"] for row in rows(tmp_path, "phases")} == {"right": "out of time", "fast": "done"}
    measured = rows(tmp_path, "fast")
    assert {row["backbone"] for row in measured} == {"tiny", "tsm18"}
    assert all(row["clips_per_s"] > 0 and 0 < row["share"] < 2 for row in measured)
    assert {row["stem"] for row in measured} == {3, 4}
    assert [row["backbone"] for row in rows(tmp_path, "fastest")] == ["tiny", "tsm18"]
    table = (tmp_path / "table.md").read_text()
    assert "| right | out of time | " in table
    assert table.strip() == done.stdout.strip()


@pytest.mark.slow
def test_every_phase_runs_and_one_that_fails_says_why_and_keeps_what_it_wrote(run: Run, tmp_path: Path) -> None:
    done = run()
    assert done.returncode == 0, done.stdout
    again = run("--only", "learned", "--clips", tmp_path / "none")
    assert again.returncode == 1
    ended = {row["phase"]: row for row in rows(tmp_path, "phases")}
    assert {name: row["ended"] for name, row in ended.items()} == {
        "right": "done", "fast": "done", "fed": "done", "learned": "failed (1)",
    }, done.stdout  # fmt: skip
    assert f"{tmp_path / 'none'}" in ended["learned"]["said"]
    assert [row["outcome"] for row in rows(tmp_path, "right")].count("passed") == 1
    ratios = {row["measured"]: row["value"] for row in rows(tmp_path, "fed")}
    assert 0 < ratios["fed from shards / fed from memory"] < 2
    assert ratios["workers that keep up with the model"] > 0
    learned = {(row["network"], row["task"]): row for row in rows(tmp_path, "learned")}
    assert set(learned) == {(net, task) for net in ("pace", "rspnet", "scratch") for task in ("retrieval", "finetune")}
    assert all(row["low"] <= row["top1"] <= row["high"] for row in learned.values())


def test_missing_packages_are_named_in_one_line(tmp_path: Path) -> None:
    argv = [sys.executable, "-E", "-S", str(ROOT / "benchmarks" / "gpu.py"), "--out", str(tmp_path / "none")]
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("packages are missing: torch>=2.10 webdataset>=1.0.2 ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--only", "wrong"), "no phase 'wrong'; there are right, fast, fed, learned"),
        (("--limit", "fast"), "--limit is a phase and its seconds, as in fast=200; the phases are right, "),
        (("--limit", "slow=3"), "--limit is a phase and its seconds, as in fast=200; the phases are right, "),
    ],
)
def test_wrong_words_are_refused(words: tuple[str, ...], message: str, run: Run, tmp_path: Path) -> None:
    done = run(*words)
    assert done.returncode == 2
    assert message in done.stderr
    assert not list(tmp_path.iterdir())
