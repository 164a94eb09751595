"""Read ffmpeg's log of one file, written with `-v repeat+level+verbose`.

ffprobe would give the same values in JSON, but no wheel has a static build of it, and a second process per video would
cost a tenth of the total time.
"""

import re
from dataclasses import dataclass

# Errors for a file that ends before its content does.
_TRUNCATED = ("partial file", "File ended prematurely", "moov atom not found", "truncated", "Truncated")
_VIDEO = re.compile(r"^\[info\] {1,4}Stream #0:\d+.*?: Video: (.*)$", re.MULTILINE)
_AUDIO = re.compile(r"^\[info\] {1,4}Stream #0:\d+.*?: Audio: ", re.MULTILINE)
_DURATION = re.compile(r"^\[info\] {1,4}Duration: (\d+):(\d\d):(\d\d(?:\.\d+)?)", re.MULTILINE)
_ROTATION = re.compile(r"rotation of (-?\d+(?:\.\d+)?) degrees")
_READ = re.compile(r"\(video\): \d+ packets read \(\d+ bytes\); (\d+) frames decoded;(?: (\d+) decode errors;)?")
_VARIABLE = re.compile(r"VFR:[\d.]+ \((\d+)/\d+\)")
_STEPS = re.compile(r" min: (\d+) max: (\d+) avg: \d+")
_TIME_BASE = re.compile(r"\] \[verbose\] w:\d+ h:\d+ .*? tb:(\d+)/(\d+)")
# ffmpeg writes its description of the output in pieces, all of it indented. A line of another thread can fall between
# two pieces, without the tag that marks it as an error; then the next piece begins a line of its own, not indented.
_OUTPUT = re.compile(r"^\[info\] {3}Stream #0:0: Video: mjpeg.* tbn", re.MULTILINE)
_BROKEN = re.compile(r"^\[info\] (?! {2})", re.MULTILINE)
_ERROR = re.compile(r"^(?:\[[^\]]* @ [^\]]*\] )*\[(?:error|fatal|panic)\] (.*)$", re.MULTILINE)
ROUNDING = 0.002  # seconds; containers that count milliseconds put 30 fps at 33 and 34


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The values in ffmpeg's log of one file."""

    opened: bool
    codec: str | None
    fps: float | None
    seconds: float | None
    height: int | None
    width: int | None
    rotation: int
    """Degrees clockwise by which the stored picture was turned to stand upright."""

    variable_rate: bool
    audio: bool
    decoded: int
    damaged: int
    """Frames that could not be decoded, or only in part."""

    truncated: bool
    garbled: bool
    """Whether threads wrote at the same time, so that an error may have been missed."""

    errors: tuple[str, ...]
    """ffmpeg's own error lines, without addresses."""


def read(log: str) -> Report:
    """Return the values in ffmpeg's log."""
    head, _, work = log.partition("Stream mapping:")
    video = next((line for line in _VIDEO.findall(head) if "(attached pic)" not in line), None)
    fps = re.search(r"([\d.]+)(k?) fps", video or "")
    size = re.search(r", (\d+)x(\d+)", video or "")
    done = _READ.search(work)
    errors = tuple(_plain(line) for line in _ERROR.findall(log))
    return Report(
        opened="Input #0," in head,
        codec=video.split()[0].rstrip(",") if video else None,
        fps=float(fps[1]) * (1000 if fps[2] else 1) if fps else None,
        seconds=_seconds(head),
        height=int(size[2]) if size else None,
        width=int(size[1]) if size else None,
        rotation=_rotation(head),
        variable_rate=_is_variable(work),
        audio=bool(_AUDIO.search(head)),
        decoded=int(done[1]) if done else 0,
        damaged=(int(done[2] or 0) if done else 0) + work.count("corrupt decoded frame"),
        truncated=any(word in line for line in errors for word in _TRUNCATED),
        garbled=_is_garbled(work),
        errors=errors,
    )


def _seconds(head: str) -> float | None:
    found = _DURATION.search(head)
    return int(found[1]) * 3600 + int(found[2]) * 60 + float(found[3]) if found else None


def _rotation(head: str) -> int:
    found = _ROTATION.search(head)
    # The display matrix counts anticlockwise, the column rotation clockwise.
    return round(-float(found[1])) % 360 if found else 0


def _is_garbled(work: str) -> bool:
    """Return whether a line of another thread fell into the description of the output."""
    _, found, rest = work.partition("Output #0,")
    description = rest.partition("[info] frame=")[0]
    return bool(found) and (_BROKEN.search(description) is not None or not _OUTPUT.search(description))


def _is_variable(work: str) -> bool:
    """Return whether the steps between frames differ by more than the rounding of their clock."""
    seen, steps, base = _VARIABLE.findall(work), _STEPS.findall(work), _TIME_BASE.findall(work)
    if not seen or seen[-1] == "0" or not steps or not base:
        return False
    shortest, longest = (int(ticks) for ticks in steps[-1])
    return (longest - shortest) * int(base[-1][0]) / int(base[-1][1]) > ROUNDING


def _plain(line: str) -> str:
    return re.sub(r"\[[^\]]* @ 0x[0-9a-f]+\] ", "", line).strip()
