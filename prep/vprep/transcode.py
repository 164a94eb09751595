"""One video file becomes JPEG frames of one size at one rate, or a failure with a cause."""

import errno
import signal
import stat
import threading
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import ffmpeg as builder
import xxhash

from vprep import probe
from vprep.entry import Entry
from vprep.ffmpeg import Ffmpeg, Outcome, run
from vprep.format import hash_of, jpeg_size, split_frames
from vprep.layouts.walk import path_of
from vprep.settings import Settings

# Containers, and nothing that is a list of other files (hls, concat, dash, sdp, image2, ...).
CONTAINERS = "mov,avi,matroska,mpeg,mpegts,mpegvideo,m4v,h264,hevc,asf,flv,ogg,gif,mxf,dv,rm,nut,ivf,yuv4mpegpipe"
# How they begin; ffmpeg also takes the file's name into account, and calls a text named .mp4 a cut mp4.
MAGIC = (b"RIFF", b"\x1aE\xdf\xa3", b"FLV", b"OggS", b"GIF8", b"0&\xb2u", b"\0\0\1\xba", b"\x06\x0e+4")
BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"wide", b"skip")
MAX_SECONDS = 3600  # a video is held in memory: 0.45 GB at 128x171 and 25 fps
MAX_PIXELS = 1 << 26
MAX_BAD_SHARE = 0.5
# The decoders of these paint over some damage with whatever memory held, and say nothing.
SILENT = {"hevc", "vp8"}
_HERE = "file:HERE"


@dataclass(frozen=True, slots=True)
class Video:
    """A video that was made into frames; `facts` are the columns of vprep.format's JSON_FIELDS that it decides."""

    facts: dict[str, Any]
    mjpeg: bytes


@dataclass(frozen=True, slots=True)
class Failure:
    """A video that could not be used; `cause` is one of a few words, `detail` is ffmpeg's or the system's."""

    cause: str
    detail: str


def transcode(
    root: Path,
    entry: Entry,
    settings: Settings,
    ffmpeg: Ffmpeg,
    *,
    timeout: float,
    stop: threading.Event | None = None,
) -> Video | Failure:
    """The frames of the video that `entry` names below `root`."""
    path = path_of(root, entry.source)
    try:
        size, digest, is_container = _fingerprint(path)
    except OSError as error:
        return _unread(error)
    if size == 0:
        return Failure("zero_bytes", "the file is empty")
    argv = command(path, settings, ffmpeg, entry.start, entry.end)
    outcome = run(argv, timeout=timeout, stop=stop)
    report = probe.read(outcome.words)
    offsets = split_frames(outcome.output)
    frames = len(offsets) - 1
    failure = _unopened(outcome, report, is_container) or _failure(outcome, report, frames, settings, timeout)
    if failure:
        return failure
    damaged = _damaged(report, None if entry.start is not None else frames / settings.fps)
    if damaged or report.codec in SILENT:
        again = run(argv, timeout=timeout, stop=stop)
        if again.output != outcome.output:
            if again.timed_out:
                return Failure("timeout", f"not done after {timeout:g} s")
            return Failure("unstable", f"decoded twice, to different pictures; {_trouble(again, report)}")
    facts = _facts(outcome.output, offsets, report, settings)
    facts |= {"source_bytes": size, "source_hash": digest, "damaged": damaged}
    return Video(facts, outcome.output)


def command(path: Path, settings: Settings, ffmpeg: Ffmpeg, start: float | None, end: float | None) -> list[str]:
    """The arguments of the one ffmpeg that demuxes, decodes, resamples, resizes and encodes a video."""
    argv = [f"file:{path}" if word == _HERE else word for word in _template(settings, ffmpeg.path)]
    if start is not None and end is not None:
        at = argv.index("-i")
        argv[at:at] = ["-ss", f"{start:g}", "-t", f"{end - start:g}"]
    return argv


@cache
def _template(settings: Settings, ffmpeg: str) -> list[str]:
    source = builder.input(
        _HERE,
        hide_banner=None,
        nostdin=None,
        v="repeat+level+verbose",
        threads=1,
        filter_complex_threads=1,
        max_pixels=MAX_PIXELS,
        format_whitelist=CONTAINERS,
        protocol_whitelist="file,pipe",
    )
    width, height = _size(settings)
    frames = (
        source["V:0"]
        .filter("vfrdet")
        .filter("fps", fps=f"{settings.fps:g}")
        # bitexact: the same pixels on every x86-64 processor, at no cost. JPEG means BT.601 and full range.
        # bilinear is what the papers' own code resizes with; its triangle widens with the ratio, so nothing aliases.
        .filter("scale", width, height, flags="bilinear+bitexact", out_range="full", out_color_matrix="bt601")
        .filter("setsar", 1)
        .filter("format", "yuv420p")
    )
    jpegs = {
        "f": "mjpeg",
        "c:v": "mjpeg",
        "q:v": settings.quality,
        "flags": "+bitexact",
        "fps_mode": "passthrough",
    }
    # Huffman tables of each picture's own would save 6 % of the bytes and cost 11 % more work.
    limit = {"frames:v": _most_frames(settings) + 1, "threads:v": 1, "huffman": "default"}
    words: list[str] = builder.output(frames, "pipe:1", **jpegs, **limit).compile(cmd=ffmpeg)
    return words


def _size(settings: Settings) -> tuple[str, str]:
    if settings.short_side is None:
        return str(settings.width), str(settings.height)
    side, tall = settings.short_side, "lt(iw*sar,ih)"
    return f"if({tall},{side},round(iw*sar/ih*{side}))", f"if({tall},round(ih/(iw*sar)*{side}),{side})"


def _most_frames(settings: Settings) -> int:
    return round(MAX_SECONDS * settings.fps)


def _fingerprint(path: Path) -> tuple[int, str, bool]:
    """Size and hash of a file, and whether it begins as containers of videos do."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(errno.EINVAL, "it is no regular file")
    state = xxhash.xxh3_128()
    size = 0
    with path.open("rb") as file:
        head = file.read(16)
        file.seek(0)
        while piece := file.read(1 << 22):
            state.update(piece)
            size += len(piece)
    return size, state.hexdigest(), head.startswith(MAGIC) or head[4:8] in BOXES


def _unread(error: OSError) -> Failure:
    if isinstance(error, FileNotFoundError):
        return Failure("missing", "the file is not there")
    return Failure("unreadable", (error.strerror or str(error)).lower())


def _unopened(outcome: Outcome, report: probe.Report, is_container: bool) -> Failure | None:
    """Why ffmpeg did not even begin, if it did not."""
    if report.opened or outcome.timed_out or outcome.code < 0:
        return None
    trouble = _trouble(outcome, report)
    if is_container:
        return Failure("truncated" if report.cut else "corrupt", trouble)
    if "whitelist" in trouble:
        trouble = "its format is no container of videos"
    return Failure("not_a_video", trouble)


def _failure(outcome: Outcome, report: probe.Report, frames: int, settings: Settings, timeout: float) -> Failure | None:
    """Why there is no video, if there is none."""
    trouble = _trouble(outcome, report)
    if outcome.timed_out:
        return Failure("timeout", f"not done after {timeout:g} s")
    if outcome.code < 0:
        return Failure("crashed", f"ffmpeg was ended by {signal.Signals(-outcome.code).name}")
    if report.codec is None:
        return Failure("no_video_stream", "none of its streams is a video")
    if frames > _most_frames(settings):
        return Failure("too_long", f"longer than {MAX_SECONDS} s; cut it, or name parts of it in a csv")
    if frames < 2:
        return _too_few(report, frames, trouble)
    if outcome.code != 0:
        return Failure("corrupt", trouble)
    if report.bad > MAX_BAD_SHARE * max(report.decoded, 1):
        return Failure("corrupt", f"{report.bad} of {report.decoded} frames are damaged; {trouble}")
    return None


def _trouble(outcome: Outcome, report: probe.Report) -> str:
    return report.troubles[0] if report.troubles else f"ffmpeg ended with code {outcome.code}"


def _too_few(report: probe.Report, frames: int, trouble: str) -> Failure:
    if "Decoder not found" in trouble or "Decoding requested, but no decoder" in trouble or report.codec == "none":
        return Failure("unknown_codec", trouble)
    if report.troubles:
        return Failure("truncated" if report.cut else "corrupt", trouble)
    return Failure("too_short", f"{frames} frames; at least 2 are wanted")


def _damaged(report: probe.Report, seconds: float | None) -> int:
    """How many frames of the source are damaged or lost; at least 1 if ffmpeg complained at all.

    `seconds` is what came out of a whole file; None for a part of one, whose length tells nothing.
    """
    if not report.troubles and not report.bad:
        return 0
    lost = 0
    if report.cut and report.seconds and report.fps and seconds is not None:
        lost = max(0, round((report.seconds - seconds) * report.fps))
    return max(1, report.bad + lost)


def _facts(mjpeg: bytes, offsets: list[int], report: probe.Report, settings: Settings) -> dict[str, Any]:
    height, width = jpeg_size(mjpeg[: offsets[1]]) or (0, 0)
    return {
        "frames": len(offsets) - 1,
        "fps": settings.fps,
        "height": height,
        "width": width,
        "codec": report.codec,
        "source_fps": report.fps,
        "source_seconds": report.seconds,
        "source_height": report.height,
        "source_width": report.width,
        "rotation": report.rotation,
        "variable_rate": report.variable_rate,
        "audio": report.audio,
        "hash": hash_of(mjpeg),
        "frame_offsets": offsets,
    }
