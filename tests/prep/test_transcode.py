"""One video at a time, from real files made for the purpose."""

import itertools
import subprocess
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from vprep.hashing import hash_of
from vprep.layouts.listing import Entry
from vprep.settings import Settings
from vprep.video.failures import Failure
from vprep.video.ffmpeg import bundled, find
from vprep.video.transcode import Video, transcode

MakeVideo = Callable[..., Path]


def result_of(path: Path, *, start: float | None = None, end: float | None = None, **settings: int) -> Video | Failure:
    entry = Entry(source=path.name, bytes=0, start=start, end=end)
    return transcode(path.parent, entry, Settings(**settings), find(), timeout=60)


def video_of(path: Path, *, start: float | None = None, end: float | None = None, **settings: int) -> Video:
    result = result_of(path, start=start, end=end, **settings)
    assert isinstance(result, Video), result
    return result


def picture(video: Video, number: int) -> np.ndarray:
    begin, end = video.columns["frame_offsets"][number : number + 2]
    decoded = cv2.imdecode(np.frombuffer(video.mjpeg[begin:end], np.uint8), cv2.IMREAD_COLOR)
    assert decoded is not None
    return decoded


def ffmpegs_own_count(path: Path) -> int:
    words = [bundled(), "-v", "error", "-i", f"file:{path}", "-vf", "fps=25", "-f", "framemd5", "-"]
    lines = subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()
    return sum(not line.startswith("#") for line in lines)


@pytest.mark.parametrize("rate", ["10", "12.5", "24000/1001", "25", "30000/1001", "50", "60"])
def test_the_number_of_frames_is_25_times_the_duration_as_ffmpeg_counts_them(
    rate: str, make_video: MakeVideo, tmp_path: Path
) -> None:
    path = make_video(tmp_path / "a.mp4", rate=rate, seconds=3)
    frames = video_of(path).columns["frames"]
    assert abs(frames - 75) <= 1
    assert frames == ffmpegs_own_count(path)


def test_frame_i_shows_the_source_at_i_over_fps_seconds(make_video: MakeVideo, tmp_path: Path) -> None:
    # Grey that brightens by 100 per second, as video levels: at t seconds luma is 16 + 100 t.
    path = tmp_path / "a.mkv"
    words = [
        bundled(),
        "-v",
        "error",
        "-f",
        "lavfi",
        "-i",
        "color=black:s=64x64:r=50:d=2,geq=lum='16+100*T':cb=128:cr=128",
    ]
    subprocess.run([*words, "-c:v", "ffv1", str(path)], check=True)
    video = video_of(path)
    for number in (0, 10, 25, 40):
        full_range = 100 * (number / 25) * 255 / 219
        assert picture(video, number).mean() == pytest.approx(full_range, abs=2)


@pytest.mark.parametrize(("degrees", "turned"), [(0, 0), (90, 270), (180, 180), (270, 90)])
def test_a_rotated_video_stands_upright(degrees: int, turned: int, make_video: MakeVideo, tmp_path: Path) -> None:
    upright = make_video(tmp_path / "upright.mp4", size="128x128")
    stored = {0: "null", 90: "transpose=clock", 180: "hflip,vflip", 270: "transpose=cclock"}[degrees]
    turned_file = make_video(tmp_path / "stored.mp4", "-vf", stored, size="128x128")
    path = tmp_path / "rotated.mp4"
    words = [bundled(), "-v", "error", "-display_rotation", str(degrees), "-i", turned_file, "-c", "copy", path]
    subprocess.run(words, check=True)
    video = video_of(path)
    assert video.columns["rotation"] == turned
    difference = picture(video, 5).astype(int) - picture(video_of(upright), 5)
    assert np.abs(difference).mean() < 4


def test_uneven_frames_are_a_variable_rate_and_even_ones_in_milliseconds_are_not(
    make_video: MakeVideo, tmp_path: Path
) -> None:
    even = make_video(tmp_path / "even.webm", rate="30", seconds=2)  # webm counts 33 and 34 ms
    uneven = make_video(tmp_path / "uneven.mkv", "-vf", "select='not(between(n,10,14))'", "-fps_mode", "vfr", seconds=2)
    assert not video_of(even).columns["variable_rate"]
    assert video_of(uneven).columns["variable_rate"]
    assert video_of(uneven).columns["frames"] == 50


@pytest.mark.parametrize("size", ["1x1", "3x5", "171x129", "640x32"])
def test_frames_have_the_given_size_whatever_the_source_has(size: str, make_video: MakeVideo, tmp_path: Path) -> None:
    path = make_video(
        tmp_path / "a.mkv", "-c:v", "ffv1", "-pix_fmt", "yuv444p", "-vf", f"scale={size.replace('x', ':')}"
    )
    video = video_of(path)
    assert picture(video, 0).shape == (128, 171, 3)
    assert (video.columns["height"], video.columns["width"]) == (128, 171)


@pytest.mark.parametrize(("size", "stored"), [("320x240", (60, 80)), ("240x320", (80, 60)), ("100x100", (60, 60))])
def test_short_side_keeps_the_aspect_ratio(
    size: str, stored: tuple[int, int], make_video: MakeVideo, tmp_path: Path
) -> None:
    video = video_of(make_video(tmp_path / "a.mp4", size=size), short_side=60)
    assert picture(video, 0).shape[:2] == stored


def test_short_side_respects_pixels_that_are_not_square(make_video: MakeVideo, tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", "-vf", "setsar=2", size="100x100")
    assert picture(video_of(path, short_side=60), 0).shape[:2] == (60, 120)


@pytest.mark.parametrize("matrix", ["bt709", "smpte170m"])
def test_colours_are_right_for_every_colour_matrix_of_the_source(matrix: str, tmp_path: Path) -> None:
    path = tmp_path / "a.mkv"
    words = [bundled(), "-v", "error", "-f", "lavfi", "-i", "color=c=0xC83214:s=64x64:d=0.5"]
    convert = f"scale=out_color_matrix={matrix}:out_range=tv,format=yuv444p"
    subprocess.run(
        [*words, "-vf", convert, "-colorspace", matrix, "-color_range", "tv", "-c:v", "ffv1", path], check=True
    )
    assert picture(video_of(path), 3).mean(axis=(0, 1)) == pytest.approx((0x14, 0x32, 0xC8), abs=4)


def test_sound_is_recorded_in_a_column_and_not_stored(make_video: MakeVideo, tmp_path: Path) -> None:
    silent = make_video(tmp_path / "silent.mp4")
    loud = make_video(tmp_path / "loud.mp4", "-f", "lavfi", "-i", "sine=duration=1")
    assert not video_of(silent).columns["audio"]
    assert video_of(loud).columns["audio"]
    assert video_of(loud).mjpeg == video_of(silent).mjpeg


def test_a_part_of_a_file_is_a_video(make_video: MakeVideo, tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", seconds=3)
    whole, part = video_of(path), video_of(path, start=1.0, end=2.2)
    assert part.columns["frames"] == 30
    assert np.abs(picture(part, 0).astype(int) - picture(whole, 25)).mean() < 1


def test_frames_follow_each_other_and_the_hash_covers_them(make_video: MakeVideo, tmp_path: Path) -> None:
    video = video_of(make_video(tmp_path / "a.mp4"))
    offsets = video.columns["frame_offsets"]
    assert offsets[0] == 0
    assert offsets[-1] == len(video.mjpeg)
    for begin, end in itertools.pairwise(offsets):
        assert video.mjpeg[begin : begin + 2] == b"\xff\xd8"
        assert video.mjpeg[end - 2 : end] == b"\xff\xd9"
    assert video.columns["hash"] == hash_of(video.mjpeg)


def test_a_better_quality_takes_more_bytes(make_video: MakeVideo, tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4")
    sizes = [len(video_of(path, quality=quality).mjpeg) for quality in (2, 5, 31)]
    assert sizes == sorted(sizes, reverse=True)


def test_a_cover_picture_is_not_the_video(make_video: MakeVideo, tmp_path: Path) -> None:
    cover = make_video(tmp_path / "cover.png", "-frames:v", "1", size="16x16")
    path = make_video(
        tmp_path / "a.mp4",
        "-i",
        str(cover),
        "-map",
        "1",
        "-map",
        "0",
        "-c:v:0",
        "png",
        "-disposition:v:0",
        "attached_pic",
    )
    assert video_of(path).columns["codec"] == "h264"
    assert video_of(path).columns["frames"] == 25


def test_a_damaged_video_is_kept_and_its_damage_counted(make_video: MakeVideo, tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mkv", "-c:v", "libx264", seconds=3)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 40] = bytes(40)
    path.write_bytes(data)
    assert 0 < video_of(path).columns["damaged"] < 75


def test_the_lost_frames_of_a_truncated_video_count_as_damage(make_video: MakeVideo, tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", "-movflags", "+faststart", "-g", "10", seconds=4)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    info = video_of(path).columns
    assert info["frames"] + info["damaged"] == pytest.approx(100, abs=3)


def failing(tmp_path: Path, make_video: MakeVideo) -> dict[str, Path]:
    names = ("empty", "text", "cut", "sound", "one", "gone", "folder", "list", "half")
    files = {name: tmp_path / f"{name}.mp4" for name in names}
    files["empty"].touch()
    files["text"].write_text("no video at all\n" * 100)
    whole = make_video(tmp_path / "whole.mp4").read_bytes()
    files["cut"].write_bytes(whole[: len(whole) // 2])
    subprocess.run([bundled(), "-v", "error", "-f", "lavfi", "-i", "sine=duration=1", files["sound"]], check=True)
    make_video(files["one"], "-frames:v", "1")
    files["folder"].mkdir()
    files["list"].write_text(f"ffconcat version 1.0\nfile {tmp_path}/whole.mp4\n")
    return files


@pytest.mark.parametrize(
    ("name", "cause", "detail"),
    [
        ("empty", "zero_bytes", "the file is empty"),
        ("text", "not_a_video", "moov atom not found"),
        ("cut", "truncated", "moov atom not found"),
        ("sound", "no_video_stream", "none of its streams is a video"),
        ("one", "too_short", "1 frames; at least 2 are needed"),
        ("gone", "missing", "the file does not exist"),
        ("folder", "unreadable", "it is not a regular file"),
        ("list", "not_a_video", "its format is no container of videos"),
    ],
)
def test_a_video_that_cannot_be_used_has_a_cause(
    name: str, cause: str, detail: str, make_video: MakeVideo, tmp_path: Path
) -> None:
    assert result_of(failing(tmp_path, make_video)[name]) == Failure(cause, detail)


@pytest.mark.slow
def test_a_timeout_is_a_cause_of_failure(make_video: MakeVideo, tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", size="640x480", seconds=20)
    result = transcode(path.parent, Entry(source=path.name, bytes=0), Settings(), find(), timeout=0.1)
    assert result == Failure("timeout", "not done after 0.1 s")
