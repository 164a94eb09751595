"""The causes for which a video cannot be used, each with a message of ffmpeg or the system.

zero_bytes  missing  unreadable  changed    the file
not_a_video  truncated  corrupt         its content
no_video_stream  unknown_codec
too_short  too_long  no_rate  timeout  crashed   the result of decoding it; unstable comes from comparing two decodes
"""

import signal
from collections import Counter
from dataclasses import dataclass

from vprep.errors import reason
from vprep.settings import NATIVE, Settings
from vprep.video import ffmpeg_log
from vprep.video.ffmpeg import Outcome
from vprep.video.source_file import SourceFile

MAX_SECONDS = 3600  # a video is held in memory: 0.45 GB at 128x171 and 25 fps
MAX_FRAMES = 90_000  # of a video that keeps its own rate: an hour at 25 fps
MAX_DAMAGED_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Failure:
    """A video that could not be used; `cause` is one of the words above, `detail` is a message."""

    cause: str
    detail: str


def most_frames(settings: Settings) -> int:
    """Return the largest number of frames that a video may have."""
    return MAX_FRAMES if settings.fps == NATIVE else round(MAX_SECONDS * settings.fps)


def unreadable(error: OSError) -> Failure:
    """Return the failure of a file that could not be read."""
    if isinstance(error, FileNotFoundError):
        return Failure("missing", "the file does not exist")
    return Failure("unreadable", reason(error))


def failure_of(
    outcome: Outcome, report: ffmpeg_log.Report, frames: int, file: SourceFile, settings: Settings, timeout: float
) -> Failure | None:
    """Return why the `frames` frames by ffmpeg are no usable video; None when they are usable."""
    return _unopened(outcome, report, file) or _undecoded(outcome, report, frames, settings, timeout)


def _unopened(outcome: Outcome, report: ffmpeg_log.Report, file: SourceFile) -> Failure | None:
    """Return why ffmpeg could not open the file; None when it could."""
    if report.opened or outcome.timed_out or outcome.code < 0:
        return None
    error = report.errors[0] if report.errors else f"ffmpeg ended with code {outcome.code}"
    if file.is_container:
        return Failure("truncated" if report.truncated or file.is_short else "corrupt", error)
    if "whitelist" in error:
        error = "its format is no container of videos"
    return Failure("not_a_video", error)


def _undecoded(
    outcome: Outcome, report: ffmpeg_log.Report, frames: int, settings: Settings, timeout: float
) -> Failure | None:
    """Return why decoding gave no usable video; None when it did."""
    error = _main_error(outcome, report)
    if outcome.timed_out:
        return Failure("timeout", f"not done after {timeout:g} s")
    if outcome.code < 0:
        return Failure("crashed", f"ffmpeg was ended by {signal.Signals(-outcome.code).name}")
    if report.codec is None:
        return Failure("no_video_stream", "none of its streams is a video")
    if frames > most_frames(settings):
        most = f"{MAX_FRAMES} frames" if settings.fps == NATIVE else f"{MAX_SECONDS} s"
        return Failure("too_long", f"longer than {most}; cut it, or list parts of it in a csv")
    if frames < 2:
        return _too_few(report, frames, error)
    if outcome.code != 0:
        return Failure("corrupt", error)
    if report.damaged > MAX_DAMAGED_SHARE * max(report.decoded, 1):
        return Failure("corrupt", f"{report.damaged} of {report.decoded} frames are damaged")
    return None


def _main_error(outcome: Outcome, report: ffmpeg_log.Report) -> str:
    """Return ffmpeg's most frequent error; which error came first depends on the timing of its threads."""
    if not report.errors:
        return f"ffmpeg ended with code {outcome.code}"
    return min(Counter(report.errors).items(), key=lambda error: (-error[1], error[0]))[0]


def _too_few(report: ffmpeg_log.Report, frames: int, error: str) -> Failure:
    if "Decoder not found" in error or "no decoder found" in error:
        return Failure("unknown_codec", error)
    if report.errors:
        cause = "truncated" if report.truncated else "corrupt"
        return Failure(cause, error if frames else "no frame could be decoded")
    return Failure("too_short", f"{frames} frames; at least 2 are needed")
