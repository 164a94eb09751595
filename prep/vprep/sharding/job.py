"""Where and how a set is made."""

import threading
from dataclasses import dataclass, field
from pathlib import Path

from vprep.video.ffmpeg import Ffmpeg


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Where and how a set is made; its bytes depend on none of this."""

    out: Path
    root: Path
    ffmpeg: Ffmpeg
    workers: int
    timeout: float
    stop: threading.Event = field(default_factory=threading.Event)
