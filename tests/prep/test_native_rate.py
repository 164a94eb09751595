"""Sets in which each video keeps its own frame rate."""

import json
import shutil
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from vprep.errors import UsageError
from vprep.layouts.listing import Entry
from vprep.settings import Settings, read_fps
from vprep.sharding.estimate import shard_count
from vprep.sharding.videos import LocalVideos
from vprep.video.failures import MAX_FRAMES, Failure, most_frames
from vprep.video.ffmpeg import find
from vprep.video.transcode import Video, transcode

MakeVideo = Callable[..., Path]
RunVprep = Callable[..., subprocess.CompletedProcess[str]]
Content = Callable[[Path], dict[str, bytes]]
Rows = Callable[[Path], dict[str, dict[str, Any]]]

NATIVE = Settings(fps="native")


def stored(path: Path, settings: Settings = NATIVE, **part: float) -> Video | Failure:
    return transcode(path.parent, Entry(source=path.name, bytes=0, **part), settings, find(), timeout=60)


def columns(path: Path, settings: Settings = NATIVE, **part: float) -> dict[str, Any]:
    video = stored(path, settings, **part)
    assert isinstance(video, Video), video
    return video.columns


def pictures(video: Video) -> list[np.ndarray]:
    ends = pairwise(video.columns["frame_offsets"])
    return [cv2.imdecode(np.frombuffer(video.mjpeg[begin:end], np.uint8), cv2.IMREAD_COLOR) for begin, end in ends]


@pytest.fixture(scope="module")
def native_shards(videos: Path, run_vprep: RunVprep, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("sets") / "native"
    done = run_vprep("shard", videos, "--out", out, "--shards", 3, "--fps", "native", "--short-side", 48)
    assert done.returncode == 0, done.stderr
    return out


@pytest.mark.parametrize(
    ("rate", "declared"), [("10", 10), ("24000/1001", 23.98), ("25", 25), ("30000/1001", 29.97), ("60", 60)]
)
def test_every_frame_of_the_source_is_stored_once(
    rate: str, declared: float, make_video: MakeVideo, tmp_path: Path
) -> None:
    path = make_video(tmp_path / "a.mp4", rate=rate, seconds=2)
    source = cv2.VideoCapture(str(path))
    frames = []
    while (read := source.read())[0]:
        frames.append(read[1])
    video = stored(path, Settings(fps="native", height=64, width=96))
    assert isinstance(video, Video)
    assert (video.columns["frames"], video.columns["fps"]) == (len(frames), declared)
    for number, shown in enumerate(pictures(video)):
        differences = [np.abs(shown.astype(int) - frame).mean() for frame in frames]
        assert np.argmin(differences) == number


def test_frames_of_a_variable_rate_are_stored_once_at_their_mean_rate(make_video: MakeVideo, tmp_path: Path) -> None:
    drop = ("-vf", "select='not(between(n,10,14))'", "-fps_mode", "vfr")
    row = columns(make_video(tmp_path / "uneven.mp4", *drop, seconds=2))
    assert (row["frames"], row["variable_rate"]) == (45, True)
    assert row["fps"] == row["source_fps"] == pytest.approx(45 / 2, abs=0.01)


def test_frames_with_the_same_time_are_all_stored(make_video: MakeVideo, tmp_path: Path) -> None:
    same = ("-vf", "settb=1/1000,setpts=0", "-enc_time_base", "1/1000", "-fps_mode", "passthrough", "-c:v", "ffv1")
    assert columns(make_video(tmp_path / "same.mkv", *same))["frames"] == 25


def test_a_part_of_a_video_has_the_frames_between_its_ends(make_video: MakeVideo, tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", rate="30", seconds=3)
    row = columns(path, start=1.0, end=2.5)
    assert (row["frames"], row["fps"]) == (45, 30)


def test_an_animation_keeps_its_rate(make_video: MakeVideo, tmp_path: Path) -> None:
    row = columns(make_video(tmp_path / "a.gif", rate="10", seconds=1.2))
    assert (row["frames"], row["fps"]) == (12, 10)


def vp8(make_video: MakeVideo, path: Path, rate: int, scale: int) -> Path:
    """Write a VP8 stream that declares `rate` / `scale` frames per second and no duration."""
    data = bytearray(make_video(path.with_suffix(".ivf"), "-c:v", "libvpx").read_bytes())
    data[16:24] = struct.pack("<II", rate, scale)
    path.write_bytes(data)
    return path


OUTSIDE = "and its duration gives none from 0.1 to 240"


@pytest.mark.parametrize(
    ("rate", "scale", "failure"),
    [
        (10**9, 1, Failure("no_rate", f"it declares no frame rate, {OUTSIDE}")),
        (1, 10**9, Failure("no_rate", f"it declares no frame rate, {OUTSIDE}")),
        (0, 0, Failure("not_a_video", "Invalid frame rate")),
    ],
)
def test_an_impossible_rate_without_a_duration_is_a_cause_of_failure(
    rate: int, scale: int, failure: Failure, make_video: MakeVideo, tmp_path: Path
) -> None:
    path = vp8(make_video, tmp_path / "a.webm", rate, scale)
    assert stored(path) == failure


def test_a_rate_above_the_greatest_is_a_cause_of_failure_that_names_it(make_video: MakeVideo, tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", rate="1000", seconds=0.1)
    assert stored(path) == Failure("no_rate", f"it declares 1000 frames per second, {OUTSIDE}")
    assert columns(path, Settings())["fps"] == 25.0


def test_a_video_may_have_as_many_frames_as_an_hour_has_at_25_a_second() -> None:
    assert most_frames(NATIVE) == most_frames(Settings()) == MAX_FRAMES == 90_000


def test_the_number_of_shards_is_estimated_from_the_videos_rates(make_video: MakeVideo, tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", rate="5", seconds=4)
    entries = [Entry(source=path.name, bytes=path.stat().st_size)] * 2000

    def shards(fps: float | str) -> int:
        settings = Settings(fps=fps, shard_mb=1)  # type: ignore[arg-type]
        return shard_count(entries, LocalVideos(tmp_path), settings, find(), workers=1, timeout=60)

    assert shards(25.0) == pytest.approx(5 * shards("native"), abs=5)


def test_another_number_of_workers_makes_the_same_bytes(
    videos: Path, native_shards: Path, run_vprep: RunVprep, content: Content, tmp_path: Path
) -> None:
    words = ("--shards", 3, "--fps", "native", "--short-side", 48, "--workers", 4)
    assert run_vprep("shard", videos, "--out", tmp_path / "out", *words).returncode == 0
    assert content(tmp_path / "out") == content(native_shards)


def test_a_killed_run_that_is_resumed_makes_the_same_bytes(
    videos: Path, native_shards: Path, content: Content, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    words = ["--out", str(out), "--shards", "3", "--fps", "native", "--short-side", "48", "--workers", "1"]
    argv = [sys.executable, "-m", "vprep.cli", "shard", str(videos), *words]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not list(out.glob("*.tar")):
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "dataset.json").exists()
    subprocess.run(argv, check=True, capture_output=True)
    assert content(out) == content(native_shards)


def test_the_settings_say_native_and_each_video_its_rate(native_shards: Path, rows: Rows) -> None:
    assert json.loads((native_shards / "dataset.json").read_bytes())["settings"]["fps"] == "native"
    assert {row["fps"] for row in rows(native_shards).values()} == {10, 15, 25, 29.97, 50}
    assert {(row["height"], row["width"]) for row in rows(native_shards).values()} == {(48, 72)}


def test_other_commands_read_a_native_set(native_shards: Path, run_vprep: RunVprep, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(native_shards, tmp_path / "set"))
    for words in (("verify", copy, "--depth", "frames"), ("show", copy, "--out", tmp_path / "a.mp4")):
        done = run_vprep(*words)
        assert done.returncode == 0, done.stderr
    before = (copy / "dataset.json").read_bytes()
    (copy / "index.parquet").unlink()
    (copy / "dataset.json").unlink()
    assert run_vprep("index", copy).returncode == 0
    assert (copy / "dataset.json").read_bytes() == before


def test_hours_are_counted_at_each_videos_rate(native_shards: Path, small_shards: Path, run_vprep: RunVprep) -> None:
    hours = [json.loads(run_vprep("stats", out, "--json").stdout)["hours"] for out in (native_shards, small_shards)]
    assert hours[0] == pytest.approx(hours[1], rel=0.05)


def test_a_set_is_not_continued_with_another_rate(videos: Path, native_shards: Path, run_vprep: RunVprep) -> None:
    done = run_vprep("shard", videos, "--out", native_shards, "--shards", 3, "--short-side", 48)
    assert done.returncode == 2
    assert f"{native_shards} was made with fps native, and this command has 25.0; choose another --out" in done.stderr


@pytest.mark.parametrize("text", ["Native", "", "25 fps", "1/2"])
def test_a_rate_that_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        read_fps(text)
    assert str(refused.value) == f"--fps is '{text}'; it must be a number from 0.1 to 240, or native"


@pytest.mark.parametrize("text", ["nan", "inf", "0", "-1", "1e9"])
def test_a_rate_out_of_range_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"--fps is .*; it must be a number from 0\.1 to 240"):
        Settings(fps=read_fps(text))
