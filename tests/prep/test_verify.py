"""Damage at every byte of a set is found, and its shard and video are named."""

import contextlib
import json
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from vprep.verify import verify

RunVprep = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def harmed(small_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the set that the tests damage and restore."""
    folder = tmp_path_factory.mktemp("harmed") / "out"
    shutil.copytree(small_shards, folder)
    return folder


@contextlib.contextmanager
def replaced(path: Path, data: bytes | None) -> Iterator[None]:
    """Replace the bytes of a file, or remove it, inside a block."""
    good = path.read_bytes()
    try:
        if data is None:
            path.unlink()
        else:
            path.write_bytes(data)
        yield
    finally:
        path.write_bytes(good)


def wrong(folder: Path, depth: str) -> list[tuple[str, str | None]]:
    """Return the problems that verify finds, each as file and key."""
    return [(item["file"], item["key"]) for item in verify(folder, depth, workers=2)["wrong"]]


def flipped(data: bytes, at: int, bit: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


def owners(folder: Path, name: str) -> list[tuple[int, int, str]]:
    """Return the bytes [begin, end) of each video in a shard: headers, json, padding and frames."""
    rows = [row for row in pq.read_table(folder / "index.parquet").to_pylist() if row["shard"] == name]
    spans, begin = [], 0
    for row in sorted(rows, key=lambda row: row["offset"]):
        end = row["offset"] + row["size"]
        spans.append((begin, end, row["key"]))
        begin = end + -end % 512
    return spans


@pytest.mark.parametrize("depth", ["hashes", "frames"])
@pytest.mark.parametrize("number", [0, *(pytest.param(number, marks=pytest.mark.slow) for number in (1, 2))])
def test_a_flipped_bit_anywhere_in_a_shard_is_found_with_its_video(
    number: int, depth: str, small_shards: Path, harmed: Path
) -> None:
    rng = random.Random(f"{number} {depth}")
    path = harmed / f"00{number}.tar"
    data, spans = path.read_bytes(), owners(small_shards, path.name)
    places: list[tuple[int, str | None]] = [(rng.randrange(begin, end), key) for begin, end, key in spans * 5]
    places += [(begin + rng.randrange(512), key) for begin, _, key in spans]  # the header of the json
    places += [(end, None) for _, end, _ in spans if end % 512]  # the padding after the frames
    places += [(len(data) - back, None) for back in (1, 512, 1024)]  # the trailer
    for at, key in places:
        with replaced(path, flipped(data, at, rng.randrange(8))):
            expected = [(path.name, None)] + ([(path.name, key)] if key else [])
            assert wrong(harmed, depth) == expected, at


@pytest.mark.parametrize(
    ("name", "depth", "places"),
    [
        ("index.parquet", "hashes", 300),
        ("index.parquet", "frames", 40),
        ("failures.parquet", "hashes", 60),
        ("plan.parquet", "hashes", 60),
    ],
)
def test_a_flipped_bit_anywhere_in_a_table_is_found(name: str, depth: str, places: int, harmed: Path) -> None:
    rng = random.Random(name)
    data = (harmed / name).read_bytes()
    for at in rng.sample(range(len(data)), places):
        with replaced(harmed / name, flipped(data, at, rng.randrange(8))):
            assert (name, None) in wrong(harmed, depth), at


def test_a_flipped_bit_anywhere_in_dataset_json_is_found(harmed: Path) -> None:
    rng = random.Random(1)
    path = harmed / "dataset.json"
    data = path.read_bytes()
    for at in rng.sample(range(len(data)), 150):
        with replaced(path, flipped(data, at, rng.randrange(8))):
            assert wrong(harmed, "sizes") == [("dataset.json", None)], at


@pytest.mark.parametrize("depth", ["sizes", "hashes", "frames"])
def test_a_truncated_shard_is_found_with_the_videos_that_it_lost(depth: str, small_shards: Path, harmed: Path) -> None:
    spans = owners(small_shards, "001.tar")
    data = (harmed / "001.tar").read_bytes()
    for number, (_, end, _) in enumerate(spans):
        with replaced(harmed / "001.tar", data[: end - 1]):
            behind = [("001.tar", key) for _, _, key in spans[number:]]
            assert wrong(harmed, depth) == [("001.tar", None), *behind]


@pytest.mark.parametrize("depth", ["sizes", "hashes", "frames"])
def test_missing_and_additional_files_are_found(depth: str, harmed: Path) -> None:
    for name in ("001.tar", "failures.parquet", "plan.parquet"):
        with replaced(harmed / name, None):
            assert wrong(harmed, depth) == [(name, None)]
    with replaced(harmed / "index.parquet", None):
        assert ("index.parquet", None) in wrong(harmed, depth)
    (harmed / "003.tar").write_bytes(bytes(1024))
    assert wrong(harmed, depth) == [("003.tar", None)]
    (harmed / "003.tar").unlink()


def test_an_older_index_or_one_of_another_set_is_found(
    videos: Path, harmed: Path, run_vprep: RunVprep, tmp_path: Path
) -> None:
    shutil.copytree(videos, tmp_path / "fewer")
    next((tmp_path / "fewer").rglob("*.avi")).unlink()
    assert run_vprep("shard", videos, "--out", tmp_path / "other", "--shards", 3, "--seed", 1).returncode == 0
    assert run_vprep("shard", tmp_path / "fewer", "--out", tmp_path / "older", "--shards", 3).returncode == 0
    for name in ("other", "older"):
        with replaced(harmed / "index.parquet", (tmp_path / name / "index.parquet").read_bytes()):
            for depth in ("hashes", "frames"):
                assert ("index.parquet", None) in wrong(harmed, depth)


@pytest.mark.parametrize(
    ("name", "harm", "code"),
    [
        ("001.tar", lambda data: flipped(data, len(data) // 2, 3), 1),
        ("001.tar", lambda data: data[: len(data) // 2], 1),
        ("001.tar", lambda data: None, 1),
        ("index.parquet", lambda data: data[:-1], 1),
        ("index.parquet", lambda data: b"", 1),
        ("dataset.json", lambda data: flipped(data, len(data) // 2, 0), 1),
        ("dataset.json", lambda data: b"", 1),
        ("dataset.json", lambda data: None, 2),
    ],
)
def test_the_exit_code_says_whether_the_set_is_intact(
    name: str, harm: Callable[[bytes], bytes | None], code: int, harmed: Path, run_vprep: RunVprep
) -> None:
    assert run_vprep("verify", harmed, "--depth", "hashes").returncode == 0
    with replaced(harmed / name, harm((harmed / name).read_bytes())):
        done = run_vprep("verify", harmed, "--json")
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    if code == 1:
        found: Sequence[dict[str, Any]] = json.loads(done.stdout)["wrong"]
        assert name in {item["file"] for item in found}
