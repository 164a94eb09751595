"""The videos of gpu.py, as shards: small ones, made on the spot, or those of a folder."""

import subprocess
import sys
from pathlib import Path

CLASSES, PER_CLASS, SECONDS = 16, 40, 2.5  # made in a minute: one thread draws 700 frames a second
SMALL = (4, 6, 0.8)


def made_set(work: Path, small: bool, clips: Path | None = None) -> Path:
    """Make and shard the videos, or shard those of `clips`, unless an earlier phase has; return the set's folder."""
    out, videos = work / "set", work / "videos"
    if not (out / "dataset.json").exists():
        classes, each, seconds = map(str, SMALL if small else (CLASSES, PER_CLASS, SECONDS))
        if clips is None:
            vprep("synth", "--out", videos, "--classes", classes, "--per-class", each, "--seconds", seconds)
        vprep("shard", clips or videos, "--out", out, *(["--size", "32x43"] if small else []))
    return out


def vprep(*words: object) -> None:
    subprocess.run([sys.executable, "-m", "vprep.cli", *map(str, words)], check=True, stdin=subprocess.DEVNULL)
