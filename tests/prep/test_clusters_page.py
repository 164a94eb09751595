"""The set-ups of docs/clusters.md make the same bytes, by the commands as they stand on the page."""

from collections.abc import Callable
from pathlib import Path

import pytest
from clusters_page import blocks, machine_of, run
from store_server import Bucket

FROM_VIDEOS = ("000.tar", "index.parquet", "failures.parquet")
MakeVideo = Callable[..., Path]
Content = Callable[[Path], dict[str, bytes]]

# What SLURM's command does for these lines: it starts the array's tasks together, and what depends on them after them.
SBATCH = """#!/bin/sh
case "$*" in
    *--array=0-99%20*) set -- "${3}";
        for i in 0 1 2; do SLURM_ARRAY_TASK_ID=$i SLURM_ARRAY_TASK_COUNT=3 bash "$1" >&2 & done; wait; echo 4711;;
    "--dependency=afterany:4711 --wrap "*) sh -c "$3";;
    *) echo "sbatch: $*" >&2; exit 1;;
esac
"""


@pytest.fixture
def machine(make_video: MakeVideo, tmp_path: Path) -> dict[str, str]:
    """The environment of a machine with the commands of the page, and videos for it."""
    for number in range(6):
        make_video(tmp_path / "my videos" / f"v{number}.mp4", seconds=(6 + number) / 25)
    folders = {"VIDEOS": str(tmp_path / "my videos"), "SHARDS": str(tmp_path / "my shards")}
    return machine_of(tmp_path / "bin", sbatch=SBATCH) | folders


def test_a_job_array_makes_the_bytes_of_one_machine(machine: dict[str, str], content: Content, tmp_path: Path) -> None:
    (alone,) = blocks("Shards on one machine")
    run(alone, tmp_path, machine | {"SHARDS": str(tmp_path / "alone")})
    script, submit = blocks("Shards by SLURM")
    (tmp_path / "shard.sh").write_text(script)
    run(submit, tmp_path, machine)
    assert content(tmp_path / "my shards") == content(tmp_path / "alone")
    assert "dataset.json" in content(tmp_path / "alone")


@pytest.mark.slow
def test_an_object_store_holds_the_bytes_of_one_machine(
    machine: dict[str, str], content: Content, s3: Bucket, tmp_path: Path
) -> None:
    (alone,) = blocks("Shards on one machine")
    run(alone, tmp_path, machine)
    s3.put_folder("videos", tmp_path / "my videos")
    whole, parts = blocks("Object stores")
    run(whole, tmp_path, machine | s3.env | {"BUCKET": s3.name})
    run(parts, tmp_path, machine | s3.env | {"BUCKET": s3.name})
    here = content(tmp_path / "my shards")
    for there in (s3.content("shards"), s3.content("by-parts")):
        assert {name: there[name] for name in FROM_VIDEOS} == {name: here[name] for name in FROM_VIDEOS}
        assert set(there) == set(here)
