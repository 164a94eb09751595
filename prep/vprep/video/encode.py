"""Encode pictures into a video file with ffmpeg."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from vprep.atomic import atomic_write
from vprep.errors import WorkError
from vprep.video.ffmpeg import find

PROBE = 1 << 20  # bytes that a disk must still take, if it is not to blame
DEADLINE = 600.0  # seconds; an hour of small frames takes one second


def encode(pictures: bytes, out: Path, *, input_options: Sequence[str], output_options: Sequence[str]) -> None:
    """Write `pictures` as the video `out`; ffmpeg's options describe the pictures and the video."""
    with atomic_write(out) as file:
        output = [*output_options, f"file:{file.name}"]
        argv = [find().path, "-v", "error", "-y", *input_options, "-i", "pipe:0", *output]
        try:
            done = subprocess.run(argv, input=pictures, capture_output=True, timeout=DEADLINE, check=False)
        except subprocess.TimeoutExpired:
            raise WorkError(f"{out} could not be encoded within {DEADLINE:g} s; try a shorter video") from None
        if done.returncode != 0:
            _raise_if_full(file)
            last = done.stderr.decode("utf-8", "replace").strip().split("\n")[-1]
            raise WorkError(f"{out} could not be encoded ({last}); vprep doctor shows what this ffmpeg can do")


def _raise_if_full(file: IO[bytes]) -> None:
    """Let the system itself say that the disk is full, which ffmpeg does not always."""
    file.seek(0, os.SEEK_END)
    file.write(bytes(PROBE))
    file.flush()
