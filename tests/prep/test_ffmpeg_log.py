"""What can be known from ffmpeg's log, which several of its threads write at once."""

import pytest

from vprep.video import ffmpeg_log

LOST = "stream 0, offset 0x1b30: partial file"
TAGGED = f"[in#0/mov @ 0x55b2bbc736c0] [error] {LOST}"
LOG = """\
[info] Input #0, mov, from 'file:a.mp4':
[info]   Duration: 00:00:01.20, start: 0.000000, bitrate: 44 kb/s
[info]   Stream #0:0: Video: h264, yuv420p, 96x64, 25 fps, 25 tbr, 12800 tbn
[info] Stream mapping:
{before}[info] Output #0, mjpeg, to 'pipe:1':
[info]   Metadata:
[info]     minor_version   : 512{in_metadata}
[info]   Stream #0:0: Video: mjpeg, yuv420p, 171x128{in_stream}, q=2-31, 25 fps, 25 tbn
[info]     Side data:
[info]       CPB properties: bitrate max/min/avg: 0/0/200000 buffer size: 0 vbv_delay: {in_side_data}N/A
[info] frame=   10 fps=0.0 q=3.0 Lsize=      52KiB time=00:00:00.40
[info]     a line after the description
"""
PLACES = ("in_metadata", "in_stream", "in_side_data")
CLEAN = dict.fromkeys(("before", *PLACES), "")


def test_an_error_between_lines_of_other_threads_is_read() -> None:
    report = ffmpeg_log.read(LOG.format_map(CLEAN | {"before": f"{TAGGED}\n"}))
    assert (report.errors, report.truncated, report.garbled) == ((LOST,), True, False)


def test_a_clean_log_is_not_garbled() -> None:
    report = ffmpeg_log.read(LOG.format_map(CLEAN))
    assert (report.errors, report.truncated, report.garbled) == ((), False, False)


@pytest.mark.parametrize("place", PLACES)
def test_an_error_that_falls_into_a_line_of_another_thread_makes_the_log_garbled(place: str) -> None:
    # ffmpeg writes no tag in the middle of a line, and one before the piece that follows.
    report = ffmpeg_log.read(LOG.format_map(CLEAN | {place: f"{LOST}\n[info] "}))
    assert (report.errors, report.garbled) == ((), True)
