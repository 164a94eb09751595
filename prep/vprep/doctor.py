"""Check that this machine can make shards: try what vprep depends on, instead of only looking up versions."""

import fcntl
import itertools
import os
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from cv2.typing import MatLike

from vprep.atomic import atomic_write, is_running
from vprep.checks import Check, version_numbers
from vprep.errors import UsageError, reason
from vprep.format import split_frames
from vprep.layouts.listing import Entry
from vprep.memory import free_memory
from vprep.processors import processors
from vprep.settings import Settings
from vprep.text import byte_size
from vprep.video.failures import Failure
from vprep.video.ffmpeg import VARIABLE, Ffmpeg, find, run
from vprep.video.transcode import transcode

DISTRIBUTION = "playspeed"
PYTHON = (3, 11)
FILTERS = ("fps", "scale", "vfrdet", "setsar", "format")
DECODERS = ("h264", "hevc", "vp8", "vp9", "av1", "mpeg4")
SLOW_TORCH = "torch 2.9 turns cuDNN off for half-precision conv3d, and training is slow: install 2.10 or later"
MOST_DIFFERENCE = 3.0  # levels between a picture and its JPEG; about 1 is usual
LOW_MEMORY, LOW_DISK = 2e9, 10e9
TRIED = ".vprep-doctor-"  # folder in which file operations are tried; its name goes on with a process number
DEADLINE = 60.0


def run_checks(out: Path | None = None) -> list[Check]:
    """Return the results of all checks; `out` is the folder whose disk is tried, by default the current one."""
    folder = _existing(out or Path())
    return [_python(), *_packages(), *_ffmpeg(), _processors(), _memory(), _disk(folder), *_files(folder)]


def _python() -> Check:
    wanted = ".".join(map(str, PYTHON))
    fits = sys.version_info[:2] >= PYTHON
    return Check("python", fits, platform.python_version(), "" if fits else f"Python {wanted} or later is needed")


def _packages() -> list[Check]:
    """Check the installed version of each required package; none of them is imported."""
    required = [line for line in metadata.requires(DISTRIBUTION) or [] if "extra ==" not in line]
    return [_package(line) for line in sorted(required)]


def _package(requirement: str) -> Check:
    name = re.split(r"[^A-Za-z0-9._-]", requirement, maxsplit=1)[0]
    least = re.search(r">=\s*([\d.]+)", requirement)
    # vprep does not need these two: a machine that only makes shards works without them.
    lacking = None if name in ("torch", "webdataset") else False
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Check(name, lacking, "not installed", f"pip install '{requirement}'")
    if name == "torch" and version.startswith("2.9."):
        return Check(name, None, version, SLOW_TORCH)
    if least and version_numbers(version) < version_numbers(least[1]):
        return Check(name, lacking, version, f"pip install '{requirement}'")
    return Check(name, True, version)


def _ffmpeg() -> list[Check]:
    find.cache_clear()  # the variable may have changed since
    try:
        ffmpeg = find()
    except UsageError as error:
        found, _, advice = str(error).partition("; ")
        return [Check("ffmpeg", False, found, advice)]
    other = f"name another ffmpeg in {VARIABLE}, or unset it to use that of imageio-ffmpeg"
    encoders, decoders, filters = (_listed(ffmpeg, what) for what in ("-encoders", "-decoders", "-filters"))
    return [
        Check("ffmpeg", True, f"{ffmpeg.version} at {ffmpeg.path}"),
        _has("ffmpeg encoders", ("mjpeg",), encoders, False, f"frames are stored as mjpeg: {other}"),
        _has("ffmpeg H.264 encoder", ("libx264",), encoders, None, f"synth and show --out x.mp4 need it: {other}"),
        _has("ffmpeg filters", FILTERS, filters, False, f"frames are made with them: {other}"),
        _has("ffmpeg decoders", DECODERS, decoders, None, f"videos of these kinds will fail: {other}"),
        _round_trip(ffmpeg, other),
    ]


def _listed(ffmpeg: Ffmpeg, what: str) -> set[str]:
    """Return the names of ffmpeg's filters or codecs, and of the formats that the codecs are for."""
    text = run([ffmpeg.path, "-hide_banner", what], timeout=DEADLINE).output.decode("utf-8", "replace")
    return set(re.findall(r"^ [A-Z.|]+ +(\S+)", text, re.MULTILINE)) | set(re.findall(r"\(codec (\S+)\)", text))


def _has(name: str, wanted: tuple[str, ...], there: set[str], lacking: bool | None, advice: str) -> Check:
    if absent := [word for word in wanted if word not in there]:
        return Check(name, lacking, f"no {', '.join(absent)}", advice)
    return Check(name, True, ", ".join(wanted))


def _round_trip(ffmpeg: Ffmpeg, advice: str) -> Check:
    """Transcode one second of a test picture in the same way as a video, and compare the frames with the original."""
    name, settings = "round trip", Settings()
    scale = f"scale={settings.width}:{settings.height}"
    with tempfile.TemporaryDirectory(prefix="vprep-doctor-") as folder:
        original = Path(folder) / "test.mp4"
        quiet = [ffmpeg.path, "-v", "error", "-nostdin"]
        picture = ["-f", "lavfi", "-i", "testsrc2=size=342x256:rate=25:duration=1"]
        encoded = run([*quiet, *picture, "-c:v", "mpeg4", "-q:v", "2", f"file:{original}"], timeout=DEADLINE)
        if encoded.code != 0:
            return Check(name, False, f"no test video: {encoded.log.strip()}", advice)
        entry = Entry(source=original.name, bytes=original.stat().st_size)
        video = transcode(Path(folder), entry, settings, ffmpeg, timeout=DEADLINE)
        raw = ["-i", f"file:{original}", "-vf", scale, "-f", "rawvideo", "-pix_fmt", "bgr24", "pipe:1"]
        plain = run([*quiet, *raw], timeout=DEADLINE)
    if isinstance(video, Failure):
        return Check(name, False, f"{video.cause}: {video.detail}", advice)
    expected = np.frombuffer(plain.output, np.uint8).reshape(-1, settings.height, settings.width, 3)
    return _compared(name, video.mjpeg, expected, advice)


def _compared(name: str, mjpeg: bytes, expected: np.ndarray[Any, np.dtype[np.uint8]], advice: str) -> Check:
    offsets = split_frames(mjpeg)
    jpegs = [np.frombuffer(mjpeg[begin:end], np.uint8) for begin, end in itertools.pairwise(offsets)]
    pictures = [cv2.imdecode(jpeg, cv2.IMREAD_COLOR) for jpeg in jpegs]
    decoded = [picture for picture in pictures if picture is not None]
    if len(decoded) != len(expected):
        return Check(name, False, f"{len(decoded)} frames of {len(expected)} came back", advice)
    pairs = list(zip(decoded, expected, strict=True))
    light = float(np.mean([cv2.absdiff(_grey(picture), _grey(wanted)) for picture, wanted in pairs]))
    # The median: JPEG keeps colours at half the resolution, so they differ much along the edges of the test picture.
    colour = float(np.median([cv2.absdiff(picture, wanted) for picture, wanted in pairs]))
    found = f"{len(pairs)} frames, light {light:.1f} and colours {colour:.1f} levels off"
    return Check(name, True, found) if max(light, colour) <= MOST_DIFFERENCE else Check(name, False, found, advice)


def _grey(picture: MatLike) -> MatLike:
    return cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)


def _processors() -> Check:
    usable, present = len(processors()), os.cpu_count() or 1
    limit = f" of {present}: affinity or the container's quota excludes the others" if usable < present else ""
    return Check("processors", True, f"{usable} usable{limit}")


def _memory() -> Check:
    free = free_memory()
    if free is None:
        return Check("memory", None, "unknown on this system")
    fits = True if free >= LOW_MEMORY else None
    return Check("memory", fits, f"{byte_size(free)} free", "" if fits else "use fewer --workers for long videos")


def _existing(folder: Path) -> Path:
    """Return the folder itself, or the nearest one above it that exists."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())


def _disk(folder: Path) -> Check:
    free = shutil.disk_usage(folder).free
    fits = True if free >= LOW_DISK else None
    advice = "" if fits else "vprep plan estimates the size of a set"
    return Check("disk", fits, f"{byte_size(free)} free at {folder}", advice)


def _files(folder: Path) -> list[Check]:
    """Try the file operations that keep a set safe, in a folder that is removed afterwards."""
    tries: dict[str, Callable[[Path], None]] = {"fsync and rename": _rename, "lock": _lock}
    try:
        _remove_left(folder)
        with tempfile.TemporaryDirectory(prefix=f"{TRIED}{os.getpid()}-", dir=folder) as inner:
            return [_tried(name, attempt, Path(inner)) for name, attempt in tries.items()]
    except OSError as error:
        return [Check("files", False, f"cannot write to {folder}: {reason(error)}", "choose another --out")]


def _remove_left(folder: Path) -> None:
    """Remove the folders of doctors that were killed."""
    for left in folder.glob(f"{TRIED}*-*"):
        number = left.name.removeprefix(TRIED).partition("-")[0]
        if number.isdigit() and not is_running(int(number)):
            shutil.rmtree(left, ignore_errors=True)


def _tried(name: str, attempt: Callable[[Path], None], folder: Path) -> Check:
    try:
        attempt(folder)
    except OSError as error:
        found = f"fails at {folder.parent}: {reason(error)}"
        return Check(name, False, found, "a set is not safe on such a disk; choose another --out")
    return Check(name, True, "work")


def _rename(folder: Path) -> None:
    for _ in range(2):  # the second time over an existing file
        with atomic_write(folder / "file") as file:
            file.write(b"complete")


def _lock(folder: Path) -> None:
    with (folder / "lock").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
