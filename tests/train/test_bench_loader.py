"""vtrain bench loader: where the time goes, as tables and as JSON."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from commands import vtrain
from devices import every_device

from vtrain.bench.options import plan_of
from vtrain.data.sampling import EvenClips, OneClip
from vtrain.methods import METHODS
from vtrain.recipes import find


@every_device
def test_every_stage_and_every_number_of_workers_is_timed(
    device: torch.device, shards: Path, command: Callable[..., tuple[int, str, str]]
) -> None:
    words = ("--workers", "0,1", "--seconds", 0.2, "--device", device, "--json")
    code, stdout, stderr = command("bench", "loader", "--shards", shards, "--method", "ascnet", *words)
    assert code == 0, stderr
    measured = json.loads(stdout)
    sent = ["transfer"] if device.type == "cuda" else []
    assert list(measured["stages_ms"]) == ["plan", "read", "decode", "assemble", "collate", *sent, "augment"]
    assert all(value >= 0 for value in measured["stages_ms"].values())
    assert measured["stages_ms"]["decode"] > 0
    assert [row["workers"] for row in measured["sweep"]] == [0, 1]
    for row in measured["sweep"]:
        assert row["clips_per_s"] == pytest.approx(2 * row["samples_per_s"], rel=0.01)
        assert row["samples_per_s"] > 0
    assert measured["bottleneck"] in measured["stages_ms"]
    assert measured["advice"]
    assert measured["frames_decoded"] == 5  # every fourth of the 20 that these videos have, in a loop


def test_without_json_the_output_is_tables_and_advice(shards: Path) -> None:
    done = vtrain(
        "bench", "loader", "--shards", f"{shards}/<000..002>.tar", "--workers", "0", "--seconds", 0.2, cwd=shards
    )
    assert done.returncode == 0, done.stderr
    assert "rspnet, batches of 8" in done.stdout
    assert "bottleneck: " in done.stdout
    assert "clips/s" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--workers", "all"), "--workers is 'all'; write numbers with commas, as in 0,1,4"),
        (("--fold", "4"), "--fold is 4; there are 1, 2 and 3"),
    ],
)
def test_a_wrong_option_is_refused_in_one_sentence_with_exit_code_2(
    shards: Path, words: tuple[str, str], message: str
) -> None:
    done = vtrain("bench", "loader", "--shards", shards, *words, cwd=shards)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"vtrain: {message}\n")


def test_every_method_has_clips_to_measure_and_so_have_fine_tuning_and_testing() -> None:
    assert [plan_of(method) for method in METHODS] == [find(method).method.plan() for method in METHODS]
    assert (plan_of("finetune"), plan_of("test")) == (OneClip(), EvenClips())


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("--device", "tpu9"), "there is no device 'tpu9' ("),
        (("--method", "moco"), "'moco'; there are rspnet, ascnet, prp, pace, "),
    ],
)
def test_a_device_or_method_that_is_not_there_is_refused_in_one_sentence(
    shards: Path, words: tuple[str, str], part: str
) -> None:
    done = vtrain("bench", "loader", "--shards", shards, *words, cwd=shards)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("vtrain: ")
    assert part in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_missing_set_is_refused_in_one_sentence(tmp_path: Path) -> None:
    done = vtrain("bench", "loader", "--shards", tmp_path / "none", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"vtrain: no folder '{tmp_path}/none'; a set is made with: vprep shard VIDEOS --out {tmp_path}/none\n"
    )


def test_a_damaged_shard_ends_the_command_with_exit_code_1(shards: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(shards, tmp_path / "set"))
    for path in folder.glob("*.tar"):
        data = bytearray(path.read_bytes())
        data[0:512] = data[0:512][::-1]
        path.write_bytes(data)
    done = vtrain("bench", "loader", "--shards", folder, "--workers", "1", "--seconds", 0.2, cwd=shards)
    assert (done.returncode, done.stdout) == (1, "")
    assert "does not hold video" in done.stderr
    assert done.stderr.count("\n") == 1


def test_help_starts_without_loading_torch() -> None:
    program = """
import sys
from vtrain import cli
try:
    cli.main(["--help"])
except SystemExit as end:
    assert not end.code
assert not {"torch", "webdataset", "pyarrow"} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "bench" in done.stdout
