"""`veval` on shards in an object store: the numbers of the same shards on a disk."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from commands import begin, veval
from store_server import SECRET, Bucket

from veval.results.result import metrics

WORDS = ("clips=2", "--workers", "1")


def numbers(found: dict[str, Any]) -> dict[str, Any]:
    """Return what does not depend on where the shards are, on when they were read, and on names of files."""
    data = {name: value for name, value in found["data"].items() if name != "shards"}
    return {"data": data} | {name: found.get(name) for name in (*metrics(found), "videos", "predictions", "dropped")}


def test_a_retrieval_on_a_store_is_that_on_a_disk(
    stored: Bucket, shards: Path, store_env: dict[str, str], place: Path, tmp_path: Path
) -> None:
    words = ("retrieval", "--weights", place / "runs" / "newer", *WORDS, "--json")
    local = veval(*words, "--shards", shards, "--out", "local.json", cwd=tmp_path).json
    done = veval(*words, "--shards", stored.url("set"), "--out", "remote.json", cwd=tmp_path, env=store_env)
    assert numbers(done.json) == numbers(local)
    assert done.json["data"]["shards"] == stored.url("set")
    assert SECRET not in done.stderr + (tmp_path / "remote.json").read_text()
    stored.seen()
    page = veval("report", "remote.json", "--html", "page.html", cwd=tmp_path, env=store_env)
    assert page.returncode == 0, page.stderr
    assert stored.seen() == [], "a result, which may be a stranger's, opens no network"


def test_a_shard_that_is_gone_ends_an_evaluation_with_one_sentence(
    stored: Bucket, store_env: dict[str, str], place: Path, tmp_path: Path
) -> None:
    stored.delete("set/001.tar")
    words = ("features", "--weights", place / "runs" / "newer", *WORDS)
    done = veval(*words, "--shards", stored.url("set"), cwd=tmp_path, env=store_env)
    assert (done.returncode, done.stderr) == (
        2, f"veval: {stored.url('set/001.tar')} is missing; copy it there again\n"
    )  # fmt: skip


@pytest.mark.slow
def test_a_store_that_is_away_while_features_are_computed_changes_nothing(
    stored: Bucket, shards: Path, store_env: dict[str, str], place: Path, tmp_path: Path
) -> None:
    words = ("retrieval", "--weights", place / "runs" / "newer", *WORDS, "--json")
    local = veval(*words, "--shards", shards, "--out", "local.json", cwd=tmp_path).json
    printed = tmp_path / "printed"
    printed.mkdir()
    more = ("--shards", stored.url("set"), "--out", "remote.json")
    process = begin(*words, *more, cwd=tmp_path, env=store_env, printed=printed)
    while not any("index.parquet" in line for line in stored.seen()):
        time.sleep(0.01)
    began = time.monotonic()
    stored.away(10)
    process.join()
    assert process.exitcode == 0, (printed / "stderr").read_text()
    assert time.monotonic() - began > 9, "it needed the store"
    assert numbers(json.loads((printed / "stdout").read_text())) == numbers(local)


@pytest.mark.slow
def test_a_network_is_fine_tuned_and_tested_on_a_store_as_on_a_disk(
    stored: Bucket, shards: Path, store_env: dict[str, str], place: Path, tmp_path: Path
) -> None:
    few = ("steps=4", "batch=4", "test.clips=2", "--recipe", "finetune-tiny")
    words = ("finetune", "--weights", place / "runs" / "newer", *few, "--workers", "1", "--json")
    found = {}
    for name, spec in (("local", str(shards)), ("remote", stored.url("set"))):
        tuned = veval(
            *words, "--shards", spec, "--into", name, "--out", f"{name}.json", cwd=tmp_path, env=store_env
        ).json
        tested = ("test", "--weights", name, "clips=2", "--workers", "1", "--json", "--out", f"{name}2.json")
        found[name] = [numbers(tuned), numbers(veval(*tested, "--shards", spec, cwd=tmp_path, env=store_env).json)]
    assert found["remote"] == found["local"]
