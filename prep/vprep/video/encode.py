"""Pictures go into ffmpeg, a whole film comes out."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from vprep.atomic import atomic_write
from vprep.errors import WorkError
from vprep.video.ffmpeg import find

DEADLINE = 600.0  # seconds; an hour of small frames takes one of them


def encode(pictures: bytes, out: Path, *, source: Sequence[str], film: Sequence[str]) -> None:
    """Make `out` of `pictures`; `source` are ffmpeg's words for what they are, `film` for what they become."""
    with atomic_write(out) as file:
        argv = [find().path, "-v", "error", "-y", *source, "-i", "pipe:0", *film, f"file:{file.name}"]
        try:
            done = subprocess.run(argv, input=pictures, capture_output=True, timeout=DEADLINE, check=False)
        except subprocess.TimeoutExpired:
            raise WorkError(f"{out} could not be encoded within {DEADLINE:g} s; try a shorter video") from None
        if done.returncode != 0:
            said = done.stderr.decode("utf-8", "replace").strip().split("\n")[-1]
            raise WorkError(f"{out} could not be encoded ({said}); vprep doctor tells what this ffmpeg can do")
