"""The format as other programs read it: WebDataset, ffmpeg, tar, and the readers in its page."""

import itertools
import json
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import xxhash

from vprep.errors import UsageError
from vprep.format import INDEX_SCHEMA, jpeg_size, read_dataset, shard_name, split_frames, write_dataset
from vprep.hashing import hash_of
from vprep.video.ffmpeg import bundled

PAGE = Path(__file__).parents[2] / "data_shards" / "README.md"
Rows = Callable[[Path], dict[str, dict[str, Any]]]


def jpeg(height: int, width: int, seed: int = 0) -> bytes:
    picture = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return cv2.imencode(".jpg", picture)[1].tobytes()


def test_shard_names_of_a_set_have_the_same_number_of_digits_at_least_three() -> None:
    assert (shard_name(7, 10), shard_name(7, 1000), shard_name(7, 1001)) == ("007.tar", "007.tar", "0007.tar")


def test_a_stream_of_jpegs_is_split_into_its_jpegs() -> None:
    pictures = [jpeg(20, 30, seed) for seed in range(50)]
    offsets = split_frames(b"".join(pictures))
    assert [end - begin for begin, end in itertools.pairwise(offsets)] == [len(one) for one in pictures]


def test_the_size_of_a_jpeg_is_read_from_its_header() -> None:
    assert jpeg_size(jpeg(20, 30)) == (20, 30)
    assert jpeg_size(b"\xff\xd8\xff") is None


def test_a_dataset_file_with_one_byte_changed_is_refused(tmp_path: Path) -> None:
    text = write_dataset({"schema": 1, "videos": 3})
    (tmp_path / "dataset.json").write_bytes(text.replace(b"3", b"4", 1))
    with pytest.raises(UsageError) as refused:
        read_dataset(tmp_path)
    path = tmp_path / "dataset.json"
    assert (
        str(refused.value) == f"{path} was altered: its hash does not match; make it again with: vprep index {tmp_path}"
    )


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dataset.json").write_bytes(write_dataset({"schema": 2}))
    with pytest.raises(UsageError) as refused:
        read_dataset(tmp_path)
    assert str(refused.value) == f"{tmp_path / 'dataset.json'} has schema 2; this version reads schema 1"


def test_webdataset_opens_the_shards(small_shards: Path, rows: Rows) -> None:
    # webdataset loads torch, which prints warnings; a process of its own keeps them out of the test.
    program = """
import json, sys, webdataset as wds
for sample in wds.WebDataset(sorted(sys.argv[1:]), shardshuffle=False):
    info = json.loads(sample["json"])
    print(json.dumps([sample["__key__"], info["source"], len(sample["mjpeg"])]))
"""
    words = [sys.executable, "-W", "ignore", "-c", program, *map(str, small_shards.glob("*.tar"))]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    seen = [json.loads(line) for line in done.stdout.splitlines()]
    assert seen == [[row["key"], row["source"], row["size"]] for row in rows(small_shards).values()]


def test_a_member_taken_out_of_a_shard_plays_in_ffmpeg(small_shards: Path, rows: Rows, tmp_path: Path) -> None:
    row = next(iter(rows(small_shards).values()))
    with tarfile.open(small_shards / row["shard"]) as tar:
        tar.extract(f"{row['key']}.mjpeg", tmp_path, filter="data")
    words = [bundled(), "-v", "error", "-i", tmp_path / f"{row['key']}.mjpeg", "-f", "framemd5", "-"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert sum(not line.startswith("#") for line in done.stdout.splitlines()) == row["frames"]


def test_a_tar_has_no_time_and_no_owner(small_shards: Path) -> None:
    with tarfile.open(small_shards / "000.tar") as tar:
        for info in tar:
            assert (info.mtime, info.uid, info.gid, info.uname, info.gname, info.mode) == (0, 0, 0, "", "", 0o644)


def test_the_json_of_a_video_equals_its_row_of_the_index(small_shards: Path, rows: Rows) -> None:
    for row in rows(small_shards).values():
        with tarfile.open(small_shards / row["shard"]) as tar:
            member = tar.extractfile(f"{row['key']}.json")
            assert member is not None
            info = json.loads(member.read())
        assert info.pop("schema") == 1
        assert info == {name: row[name] for name in row if name not in ("shard", "offset", "size")}


def test_hash_and_offsets_of_a_row_match_the_bytes(small_shards: Path, rows: Rows) -> None:
    for row in rows(small_shards).values():
        data = (small_shards / row["shard"]).read_bytes()[row["offset"] : row["offset"] + row["size"]]
        assert hash_of(data) == row["hash"]
        assert split_frames(data) == row["frame_offsets"]


def test_every_frame_has_a_check_of_its_bytes(small_shards: Path, rows: Rows) -> None:
    for row in rows(small_shards).values():
        data = (small_shards / row["shard"]).read_bytes()[row["offset"] : row["offset"] + row["size"]]
        frames = [data[begin:end] for begin, end in itertools.pairwise(row["frame_offsets"])]
        assert row["frame_checks"] == "".join(f"{xxhash.xxh3_64_intdigest(frame) & 0xFFFFFFFF:08x}" for frame in frames)


def code_blocks() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


def test_the_readers_in_the_format_page_read_the_shards(small_shards: Path, rows: Rows) -> None:
    by_index, by_webdataset = code_blocks()
    row = next(iter(rows(small_shards).values()))
    names: dict[str, Any] = {}
    exec(by_index, names)  # noqa: S102
    pictures = list(names["frames"](small_shards, row["key"], [0, row["frames"] - 1]))
    assert [picture.shape for picture in pictures] == [(128, 171, 3)] * 2
    program = by_webdataset + "\nimport sys\nprint([len(pictures) for _, pictures in videos(sys.argv[1])])"
    words = [sys.executable, "-W", "ignore", "-c", program, str(small_shards / "000.tar")]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    expected = [row["frames"] for row in rows(small_shards).values() if row["shard"] == "000.tar"]
    assert json.loads(done.stdout) == expected


def test_the_format_page_names_every_column_and_every_file(small_shards: Path) -> None:
    page = PAGE.read_text()
    for name in INDEX_SCHEMA.names:
        assert f"`{name}`" in page
    for name in (
        pq.read_schema(small_shards / "failures.parquet").names + pq.read_schema(small_shards / "plan.parquet").names
    ):
        assert name in page
    for path in small_shards.iterdir():
        assert path.name in page or path.suffix == ".tar"
    for name in json.loads((small_shards / "dataset.json").read_text()):
        assert name in page
