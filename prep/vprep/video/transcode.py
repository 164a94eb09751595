"""Turn one video file into JPEG frames of one size, or into a failure with a cause."""

import threading
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import ffmpeg as builder

from vprep.format import checks_of, jpeg_size, split_frames
from vprep.hashing import hash_of
from vprep.layouts.listing import Entry
from vprep.layouts.walk import path_of
from vprep.settings import NATIVE, Settings
from vprep.video import ffmpeg_log
from vprep.video.failures import Failure, failure_of, most_frames, unreadable
from vprep.video.ffmpeg import Ffmpeg, Outcome, run
from vprep.video.rate import stored_rate
from vprep.video.source_file import SourceFile, read_source

# Containers only: no format that lists other files (hls, concat, dash, sdp, image2, ...).
CONTAINERS = "mov,avi,matroska,mpeg,mpegts,mpegvideo,m4v,h264,hevc,asf,flv,ogg,gif,mxf,dv,rm,nut,ivf,yuv4mpegpipe"
MAX_PIXELS = 1 << 26
# The decoders of these codecs silently fill some damage with older content of the memory.
SILENT = {"hevc", "vp8"}
STEADY_MEMORY = {"GLIBC_TUNABLES": "glibc.malloc.perturb=165"}
MOST_HELD = 256 << 20  # bytes of raw pictures that may be kept
NUMBERED = "1/25"  # time base where times are frame numbers; the encoder refuses two frames of the same time
_HERE = "file:HERE"


@dataclass(frozen=True, slots=True)
class Video:
    """The frames of a video; `columns` are those of vprep.format's JSON_FIELDS that come from the video itself."""

    columns: dict[str, Any]
    mjpeg: bytes


def transcode(
    root: Path,
    entry: Entry,
    settings: Settings,
    ffmpeg: Ffmpeg,
    *,
    timeout: float,
    stop: threading.Event | None = None,
) -> Video | Failure:
    """Return the frames of the video `entry` below `root`, or why it has none.

    A damaged video is decoded a second time, in a way that gives the same frames each time.
    """
    path = path_of(root, entry.source)
    try:
        file = read_source(path)
    except OSError as error:
        return unreadable(error)
    if file.size == 0:
        return Failure("zero_bytes", "the file is empty")
    argv = command(path, settings, ffmpeg, entry.start, entry.end)
    deadline = time.monotonic() + timeout  # for all decodes of the video together
    outcome, report = _decode(argv, deadline, stop)
    result = _result(outcome, report, file, entry, settings, timeout)
    if isinstance(result, Failure) or not (result.columns["damaged"] or report.codec in SILENT):
        return result
    if _raw_bytes(report) > MOST_HELD:
        again = run(argv, timeout=deadline - time.monotonic(), stop=stop)
        if again.timed_out:
            return _result(again, report, file, entry, settings, timeout)
        same = again.output == outcome.output
        return result if same else Failure("unstable", "it is damaged and decodes to other pictures each time")
    steady = run(_steady(argv), timeout=deadline - time.monotonic(), stop=stop, env=STEADY_MEMORY)
    return _result(steady, report, file, entry, settings, timeout)


def _decode(argv: list[str], deadline: float, stop: threading.Event | None) -> tuple[Outcome, ffmpeg_log.Report]:
    """Run ffmpeg, again up to four times when its log cannot be trusted."""
    for _ in range(5):
        outcome = run(argv, timeout=deadline - time.monotonic(), stop=stop)
        report = ffmpeg_log.read(outcome.log)
        if not report.garbled or outcome.code < 0:
            break
    return outcome, report


def _result(
    outcome: Outcome, report: ffmpeg_log.Report, file: SourceFile, entry: Entry, settings: Settings, timeout: float
) -> Video | Failure:
    """Return the video that ffmpeg has written, or its failure."""
    offsets = split_frames(outcome.output)
    frames = len(offsets) - 1
    failure = failure_of(outcome, report, frames, file, settings, timeout)
    if failure:
        return failure
    rate = stored_rate(settings, report, entry, frames)
    if isinstance(rate, Failure):
        return rate
    seconds = None if entry.start is not None else frames / rate
    columns = _columns(outcome.output, offsets, report, rate)
    columns |= {"source_bytes": file.size, "source_hash": file.hash, "damaged": _damaged(report, file, seconds)}
    return Video(columns, outcome.output)


def command(path: Path, settings: Settings, ffmpeg: Ffmpeg, start: float | None, end: float | None) -> list[str]:
    """Return the arguments of the ffmpeg that demuxes, decodes, resamples, resizes and encodes a video."""
    argv = [f"file:{path}" if word == _HERE else word for word in _template(settings, ffmpeg.path)]
    if start is not None and end is not None:
        at = argv.index("-i")
        argv[at:at] = ["-ss", f"{start:g}", "-t", f"{end - start:g}"]
    return argv


def _steady(argv: list[str]) -> list[str]:
    """Return the arguments with every picture kept to the end, so that no picture reuses the memory of an older one.

    Where a decoder leaves a part of a picture empty, the content of memory shows. Which older picture was there
    depends on the timing of ffmpeg's threads; memory that was never used does not.
    """
    kept = "[0:V:0]split[kept][shown];[kept]reverse,nullsink;[shown]"
    return [f"{kept}{word.removeprefix('[0:V:0]')}" if word.startswith("[0:V:0]") else word for word in argv]


def _raw_bytes(report: ffmpeg_log.Report) -> int:
    return 2 * (report.height or 0) * (report.width or 0) * report.decoded


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
        _at_its_rate(source["V:0"].filter("vfrdet"), settings)
        # bitexact gives the same pixels on every x86-64 processor, at no cost. JPEG means BT.601 and full range.
        # The papers' code resizes with bilinear; its triangle widens with the ratio, so nothing aliases.
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
        **({"enc_time_base": NUMBERED} if settings.fps == NATIVE else {}),
    }
    # Huffman tables for each picture would save 6 % of the bytes and cost 11 % more work.
    limit = {"frames:v": most_frames(settings) + 1, "threads:v": 1, "huffman": "default"}
    words: list[str] = builder.output(frames, "pipe:1", **jpegs, **limit).compile(cmd=ffmpeg)
    return words


def _at_its_rate(frames: Any, settings: Settings) -> Any:  # noqa: ANN401  a stream of ffmpeg-python, which has no types
    """Return the frames at the set's rate, or every decoded frame once, whatever its time."""
    if settings.fps != NATIVE:
        return frames.filter("fps", fps=f"{settings.fps:g}")
    return frames.filter("settb", NUMBERED).filter("setpts", "N")


def _size(settings: Settings) -> tuple[str, str]:
    if settings.short_side is None:
        return str(settings.width), str(settings.height)
    side, tall = settings.short_side, "lt(iw*sar,ih)"
    return f"if({tall},{side},round(iw*sar/ih*{side}))", f"if({tall},round(ih/(iw*sar)*{side}),{side})"


def _damaged(report: ffmpeg_log.Report, file: SourceFile, seconds: float | None) -> int:
    """Return how many frames of the source are damaged or lost; at least 1 if ffmpeg reported an error.

    `seconds` is the length of the frames when the entire file was decoded; None for a part of it.
    """
    truncated = report.truncated or file.is_short
    if not report.errors and not report.damaged and not truncated:
        return 0
    lost = 0
    if truncated and report.seconds and report.fps and seconds is not None:
        lost = max(0, round((report.seconds - seconds) * report.fps))
    return max(1, report.damaged + lost)


def _columns(mjpeg: bytes, offsets: list[int], report: ffmpeg_log.Report, rate: float) -> dict[str, Any]:
    height, width = jpeg_size(mjpeg[: offsets[1]]) or (0, 0)
    return {
        "frames": len(offsets) - 1,
        "fps": rate,
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
        "frame_checks": checks_of(mjpeg, offsets),
    }
