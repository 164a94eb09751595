"""The index rebuilt from tars, those of vprep and others."""

import gzip
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
from vprep.summary import index_text

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


def foreign(folder: Path, info: object, **more: bytes) -> Path:
    """Write a tar of another tool: one video of three frames and a json."""
    text = info if isinstance(info, bytes) else json.dumps(info).encode()
    folder.mkdir(exist_ok=True)
    write_tar(folder / "x.tar", {f"a.{n:03}.jpg": jpeg(n) for n in range(3)} | {"a.json": text} | more)
    return folder


def refusal(folder: Path) -> str:
    with pytest.raises((UsageError, WorkError)) as refused:
        index(folder)
    return str(refused.value)


FPS = "it must be a number above 0, at most 1000"
LABEL = "it must be a whole number from 0 to 999999"


@pytest.mark.parametrize(
    ("info", "what"),
    [
        ({"fps": "25"}, f"its fps is '25'; {FPS}"),
        ({"fps": -1}, f"its fps is -1; {FPS}"),
        ({"fps": True}, f"its fps is True; {FPS}"),
        (b'{"fps": NaN}', f"its fps is nan; {FPS}"),
        (b'{"fps": 1e999}', f"its fps is inf; {FPS}"),
        ({"fps": 10**400}, f"its fps is 1{'0' * 59}; {FPS}"),
        ({"label": 10**12}, f"its label is 1000000000000; {LABEL}"),
        ({"label": -5}, f"its label is -5; {LABEL}"),
        ({"label": "-5"}, f"its label is -5; {LABEL}"),
        ({"label": 2.5}, f"its label is 2.5; {LABEL}"),
        ([1, 2], "its json holds a list; an object is needed"),
        (b'{"fps": 1, "fps": 2}', "its json cannot be read: the name 'fps' is twice in one object"),
        (b"[" * 5_000, "its json cannot be read: its brackets are nested too deeply"),
        (b'{"a":' * 200_000, "its json cannot be read: its brackets are nested too deeply"),
    ],
)
def test_a_value_that_cannot_be_true_is_refused_with_its_tar_and_video(info: object, what: str, tmp_path: Path) -> None:
    assert refusal(foreign(tmp_path, info)) == f"{tmp_path / 'x.tar'}, video 'a': {what}"
    assert [path.name for path in tmp_path.iterdir()] == ["x.tar"]


@pytest.mark.parametrize("key", ["../../x", "/etc/x", "a/../b", "a/./b", "a\\b", "a\tb"])
def test_a_key_that_leads_elsewhere_as_a_path_is_refused(key: str, tmp_path: Path) -> None:
    write_tar(tmp_path / "x.tar", {f"{key}.jpg": jpeg(0)})
    assert "its name must have 1 to 1000 characters" in refusal(tmp_path)


def test_two_samples_of_one_key_are_refused(tmp_path: Path) -> None:
    write_tar(tmp_path / "x.tar", {"a.000.jpg": jpeg(0), "b.000.jpg": jpeg(1), "a.001.jpg": jpeg(2)})
    assert refusal(tmp_path) == f"two samples in {tmp_path} have the key 'a'; a key must be unique: rename one of them"


def test_the_same_content_twice_is_counted(tmp_path: Path) -> None:
    write_tar(tmp_path / "x.tar", {"a.jpg": jpeg(0), "b.jpg": jpeg(1), "c.jpg": jpeg(0)})
    info = index(tmp_path)
    assert info["same_content"] == 1
    assert "same content as another video: 1 video;" in index_text(tmp_path, info)


def own_video(folder: Path) -> tuple[dict[str, Any], bytes]:
    """Return the json and the frames of the first video of a set."""
    with tarfile.open(folder / "000.tar") as tar:
        first, second = (tar.extractfile(member).read() for member in tar.getmembers()[:2])  # type: ignore[union-attr]
    return json.loads(first), second


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"frames": 10**9}, "its json has 1000000000 frames and offsets that do not fit"),
        ({"fps": "x"}, "its json has fps 'x', which is no double"),
        ({"fps": -1.0}, "its fps is -1.0"),
        ({"label": 10**12}, "its json has label 1000000000000, which is no int32"),
        ({"label": -5}, "its label is -5"),
        ({"height": 2**31 - 1}, "its json has frames of 2147483647x"),
        ({"height": None}, "its json has frames of Nonex"),
        ({"frame_offsets": [0, 2**40]}, "which is no list"),
        ({"frame_offsets": [0, -5, 7]}, "which is no list"),
        ({"frame_offsets": None}, "offsets that do not fit"),
        ({"frame_checks": "0" * 8}, "its json has checks of other frames"),
        ({"hash": None}, "its frames differ from what was written"),
        ({"hash": 5}, "its json has hash 5, which is no string"),
        ({"source": "\ud800"}, "its json has source '\\ud800', which is no string"),
        ({"key": "another"}, "its json is that of 'another'"),
    ],
)
def test_a_json_of_vprep_that_is_not_true_of_its_frames_is_refused(
    change: dict[str, Any], what: str, small_shards: Path, tmp_path: Path
) -> None:
    info, mjpeg = own_video(small_shards)
    key = info["key"]
    write_tar(tmp_path / "x.tar", {f"{key}.json": json.dumps(info | change).encode(), f"{key}.mjpeg": mjpeg})
    said = refusal(tmp_path)
    assert said.startswith(f"{tmp_path / 'x.tar'}, video '{key}': its ")
    assert what in said


def test_a_picture_that_claims_billions_of_pixels_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    huge = bytearray(jpeg(0))
    at = huge.index(b"\xff\xc0")
    huge[at + 5 : at + 9] = (65_000).to_bytes(2, "big") * 2
    write_tar(tmp_path / "x.tar", {"a.mjpeg": jpeg(1) + bytes(huge)})
    assert refusal(tmp_path) == f"{tmp_path / 'x.tar'}, video 'a': its frame 1 claims 65000x65000 pixels"


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(kind: bytes, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        info = tarfile.TarInfo("a.jpg")
        info.type, info.linkname = kind, "/etc/passwd"
        tar.addfile(info)
    assert refusal(tmp_path) == (
        f"{tmp_path / 'x.tar'}, member 'a.jpg': it is a link or a device; pack the files themselves"
    )


def test_a_member_that_claims_a_negative_size_does_not_loop_for_ever(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        for number in range(2):
            info = tarfile.TarInfo(f"{number}.jpg")
            info.size, info.pax_headers = len(jpeg(0)), {"size": "-1536"} if number else {}
            tar.addfile(info, io.BytesIO(jpeg(0)))
    assert "x.tar is cut off, damaged or no plain tar" in refusal(tmp_path)


@pytest.mark.parametrize("size", [300, 700, 1024, 2000])
def test_a_cut_tar_is_one_sentence(size: int, copy: Path) -> None:
    (copy / "dataset.json").unlink()
    (copy / "000.tar").write_bytes((copy / "000.tar").read_bytes()[:size])
    said = refusal(copy)
    assert said.startswith(f"{copy / '000.tar'} is cut off")
    assert "\n" not in said


def test_a_compressed_tar_is_refused_and_not_unpacked(copy: Path) -> None:
    (copy / "dataset.json").unlink()
    (copy / "000.tar").write_bytes(gzip.compress((copy / "000.tar").read_bytes()))
    assert refusal(copy).startswith(f"{copy / '000.tar'} is cut off, damaged or no plain tar")


def test_a_listed_tar_that_is_missing_does_not_leave_the_set_silently(copy: Path, tmp_path: Path) -> None:
    (copy / "001.tar").unlink()
    assert refusal(copy) == f"{copy / '001.tar'} is missing; run vprep shard again: only missing shards are made again"
    other = foreign(tmp_path / "other", {})
    index(other)
    (other / "x.tar").rename(other / "y.tar")
    assert refusal(other) == (
        f"{other / 'x.tar'}, which dataset.json lists, is missing; put it back, or remove dataset.json to index the "
        "tars that there are"
    )


def test_a_set_whose_plan_is_lost_keeps_its_settings_and_classes(copy: Path) -> None:
    before = json.loads((copy / "dataset.json").read_bytes())
    (copy / "plan.parquet").unlink()
    (copy / "index.parquet").unlink()
    info = index(copy)
    assert (info["settings"], info["classes"]) == (before["settings"], before["classes"])


def test_classes_of_other_tars_follow_their_labels(tmp_path: Path) -> None:
    videos = {"a": (2, "wave"), "b": (0, "clap"), "c": (2, "wave")}
    members = {f"{key}.jpg": jpeg(number) for number, key in enumerate(videos)}
    texts = {f"{key}.json": json.dumps({"label": label, "class_name": name}) for key, (label, name) in videos.items()}
    for key in videos:
        members[f"{key}.json"] = texts[f"{key}.json"].encode()
    write_tar(tmp_path / "x.tar", dict(sorted(members.items())))
    assert index(tmp_path)["classes"] == ["clap", "1", "wave"]


def test_one_label_for_two_classes_is_refused(tmp_path: Path) -> None:
    members = {}
    for key, name in (("a", "wave"), ("b", "clap")):
        members |= {f"{key}.jpg": jpeg(0), f"{key}.json": json.dumps({"label": 1, "class_name": name}).encode()}
    write_tar(tmp_path / "x.tar", members)
    assert refusal(tmp_path) == "label 1 is class 'clap' and class 'wave'; give each class its own label"
