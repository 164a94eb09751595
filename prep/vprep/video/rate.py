"""The frame rate of stored frames."""

from vprep.layouts.listing import Entry
from vprep.settings import NATIVE, RATES, Settings
from vprep.video.failures import Failure
from vprep.video.ffmpeg_log import Report


def stored_rate(settings: Settings, report: Report, entry: Entry, frames: int) -> float | Failure:
    """Return the frames per second of a video's stored frames, or the failure of a video without a plausible rate.

    A video that keeps its own rate has the average rate that its container declares, as decord's `get_avg_fps` returns
    it. If that rate is not plausible, its `frames` frames are divided by its duration.
    """
    if settings.fps != NATIVE:
        return settings.fps
    low, high = RATES
    seconds = report.seconds if entry.start is None or entry.end is None else entry.end - entry.start
    measured = round(frames / seconds, 2) if seconds else None
    for rate in (report.fps, measured):
        if rate is not None and low <= rate <= high:
            return rate
    declared = "no frame rate" if report.fps is None else f"{report.fps:g} frames per second"
    return Failure("no_rate", f"it declares {declared}, and its duration gives none from {low:g} to {high:g}")
