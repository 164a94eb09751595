"""The index rebuilt from tars, those of vprep and others."""

import io
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from vprep.errors import UsageError, WorkError
from vprep.index import index

Content = Callable[[Path], dict[str, bytes]]


def jpeg(seed: int) -> bytes:
    return cv2.imencode(".jpg", np.random.default_rng(seed).integers(0, 256, (24, 32, 3), np.uint8))[1].tobytes()


def write_tar(path: Path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def pictures(folder: Path, row: dict[str, Any]) -> list[np.ndarray | None]:
    data = (folder / row["shard"]).read_bytes()[row["offset"] : row["offset"] + row["size"]]
    pairs = zip(row["frame_offsets"], row["frame_offsets"][1:], strict=False)
    return [cv2.imdecode(np.frombuffer(data[begin:end], np.uint8), cv2.IMREAD_COLOR) for begin, end in pairs]


@pytest.fixture
def copy(small_shards: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_shards, tmp_path / "copy"))


@pytest.mark.parametrize("lost", [["index.parquet"], ["dataset.json"], ["index.parquet", "dataset.json"]])
def test_lost_index_files_are_rebuilt_byte_for_byte(
    lost: list[str], copy: Path, small_shards: Path, content: Content
) -> None:
    for name in lost:
        (copy / name).unlink()
    index(copy)
    assert content(copy) == content(small_shards)


def test_lost_failures_are_rebuilt_from_the_plan(
    make_video: Callable[..., Path], tmp_path: Path, run_vprep: Callable[..., object]
) -> None:
    make_video(tmp_path / "videos" / "good.mp4")
    (tmp_path / "videos" / "bad.mp4").touch()
    run_vprep("shard", tmp_path / "videos", "--out", tmp_path / "out", "--max-failures", "100%")
    (tmp_path / "out" / "failures.parquet").unlink()
    (tmp_path / "out" / "dataset.json").unlink()
    assert index(tmp_path / "out")["failures"] == 1
    (failure,) = pq.read_table(tmp_path / "out" / "failures.parquet").to_pylist()
    assert (failure["source"], failure["cause"]) == ("bad.mp4", "unknown")


def test_an_altered_tar_is_refused(copy: Path) -> None:
    data = bytearray((copy / "001.tar").read_bytes())
    data[5000] ^= 1
    (copy / "001.tar").write_bytes(data)
    with pytest.raises(WorkError) as refused:
        index(copy)
    assert str(refused.value) == (
        f"{copy / '001.tar'} is not the file that dataset.json lists; vprep verify {copy} says what is wrong with it"
    )


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.999])
def test_a_truncated_tar_is_refused_even_when_its_size_is_unknown(keep: float, copy: Path) -> None:
    (copy / "dataset.json").unlink()
    data = (copy / "000.tar").read_bytes()
    (copy / "000.tar").write_bytes(data[: int(len(data) * keep) // 512 * 512])
    with pytest.raises(WorkError, match=r"000\.tar"):
        index(copy)


def test_a_damaged_header_does_not_end_a_tar_early(copy: Path) -> None:
    (copy / "dataset.json").unlink()
    row = pq.read_table(copy / "index.parquet").to_pylist()[1]
    data = bytearray((copy / "000.tar").read_bytes())
    data[row["offset"] - 512 + 3] ^= 1
    (copy / "000.tar").write_bytes(data)
    with pytest.raises(WorkError, match="is cut off or damaged"):
        index(copy)


def test_webdataset_tars_with_one_jpeg_per_member_get_an_index(tmp_path: Path) -> None:
    members = {f"{key}.{n:03}.jpg": jpeg(n) for key in ("a", "b") for n in range(5)}
    write_tar(tmp_path / "x.tar", members | {"b.cls": b"7", "b.json": json.dumps({"fps": 12}).encode()})
    info = index(tmp_path)
    a, b = pq.read_table(tmp_path / "index.parquet").to_pylist()
    assert (info["videos"], a["key"], b["key"]) == (2, "a", "b")
    assert (a["frames"], a["height"], a["width"], a["fps"], a["label"]) == (5, 24, 32, 25.0, None)
    assert (b["frames"], b["fps"], b["label"]) == (5, 12.0, 7)
    expected = [cv2.imdecode(np.frombuffer(jpeg(n), np.uint8), cv2.IMREAD_COLOR) for n in range(5)]
    assert all((one == other).all() for one, other in zip(pictures(tmp_path, b), expected, strict=True))


def test_webdataset_tars_with_packed_jpegs_get_an_index(tmp_path: Path) -> None:
    write_tar(tmp_path / "x.tar", {"clips/a.mjpeg": jpeg(0) + jpeg(1), "clips/a.json": b'{"class_name": "wave"}'})
    index(tmp_path)
    (row,) = pq.read_table(tmp_path / "index.parquet").to_pylist()
    assert (row["key"], row["frames"], row["class_name"]) == ("clips/a", 2, "wave")


def test_samples_without_pictures_are_counted(tmp_path: Path) -> None:
    write_tar(tmp_path / "x.tar", {"a.mjpeg": jpeg(0) + jpeg(1), "b.mp4": b"x", "c.mp4": b"y"})
    assert index(tmp_path)["skipped"] == {"mp4": 2}


def test_tars_without_jpegs_are_refused_and_get_no_index(tmp_path: Path) -> None:
    write_tar(tmp_path / "x.tar", {"a.mp4": b"x"})
    with pytest.raises(UsageError) as refused:
        index(tmp_path)
    assert str(refused.value) == (
        f"no sample in {tmp_path} holds JPEG frames (its members: mp4); vprep shard makes such tars"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["x.tar"]


def test_a_folder_without_tars_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as refused:
        index(tmp_path)
    assert str(refused.value) == f"no tars in {tmp_path}; name a folder that holds shards"
