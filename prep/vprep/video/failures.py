"""Why a video could not be used: one word out of a few, and what ffmpeg or the system said.

zero_bytes  missing  unreadable         the file
not_a_video  truncated  corrupt         what is in it
no_video_stream  unknown_codec
too_short  too_long  timeout  crashed   what came of decoding it; unstable comes from comparing two decodes
"""

import signal
from collections import Counter
from dataclasses import dataclass

from vprep.settings import Settings
from vprep.video import ffmpeg_log
from vprep.video.ffmpeg import Outcome
from vprep.video.source_file import File

MAX_SECONDS = 3600  # a video is held in memory: 0.45 GB at 128x171 and 25 fps
MAX_BAD_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Failure:
    """A video that could not be used; `cause` is one of a few words, `detail` is ffmpeg's or the system's."""

    cause: str
    detail: str


def most_frames(settings: Settings) -> int:
    """How many frames a video may have."""
    return round(MAX_SECONDS * settings.fps)


def unread(error: OSError) -> Failure:
    """Why the file could not be read."""
    if isinstance(error, FileNotFoundError):
        return Failure("missing", "the file is not there")
    return Failure("unreadable", (error.strerror or str(error)).lower())


def failure_of(
    outcome: Outcome, report: ffmpeg_log.Report, frames: int, file: File, settings: Settings, timeout: float
) -> Failure | None:
    """Why an ffmpeg that has ended has made no video of `frames` frames, if it has not."""
    return _unopened(outcome, report, file) or _undecoded(outcome, report, frames, settings, timeout)


def _unopened(outcome: Outcome, report: ffmpeg_log.Report, file: File) -> Failure | None:
    """Why ffmpeg did not even begin, if it did not."""
    if report.opened or outcome.timed_out or outcome.code < 0:
        return None
    trouble = report.troubles[0] if report.troubles else f"ffmpeg ended with code {outcome.code}"
    if file.is_container:
        return Failure("truncated" if report.cut or file.is_short else "corrupt", trouble)
    if "whitelist" in trouble:
        trouble = "its format is no container of videos"
    return Failure("not_a_video", trouble)


def _undecoded(
    outcome: Outcome, report: ffmpeg_log.Report, frames: int, settings: Settings, timeout: float
) -> Failure | None:
    """Why there is no video, if there is none."""
    trouble = _trouble(outcome, report)
    if outcome.timed_out:
        return Failure("timeout", f"not done after {timeout:g} s")
    if outcome.code < 0:
        return Failure("crashed", f"ffmpeg was ended by {signal.Signals(-outcome.code).name}")
    if report.codec is None:
        return Failure("no_video_stream", "none of its streams is a video")
    if frames > most_frames(settings):
        return Failure("too_long", f"longer than {MAX_SECONDS} s; cut it, or name parts of it in a csv")
    if frames < 2:
        return _too_few(report, frames, trouble)
    if outcome.code != 0:
        return Failure("corrupt", trouble)
    if report.bad > MAX_BAD_SHARE * max(report.decoded, 1):
        return Failure("corrupt", f"{report.bad} of {report.decoded} frames are damaged")
    return None


def _trouble(outcome: Outcome, report: ffmpeg_log.Report) -> str:
    """What ffmpeg complained of most; which complaint came first depends on the timing of its threads."""
    if not report.troubles:
        return f"ffmpeg ended with code {outcome.code}"
    return min(Counter(report.troubles).items(), key=lambda said: (-said[1], said[0]))[0]


def _too_few(report: ffmpeg_log.Report, frames: int, trouble: str) -> Failure:
    if "Decoder not found" in trouble or "no decoder found" in trouble:
        return Failure("unknown_codec", trouble)
    if report.troubles:
        return Failure("truncated" if report.cut else "corrupt", "no frame could be decoded" if not frames else trouble)
    return Failure("too_short", f"{frames} frames; at least 2 are wanted")
