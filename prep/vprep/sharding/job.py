"""Where and how a set is made."""

import threading
from dataclasses import dataclass, field
from pathlib import Path

from vprep.sharding.destination import Destination
from vprep.sharding.videos import Videos
from vprep.video.ffmpeg import Ffmpeg


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Where and how a set is made; its bytes depend on none of this."""

    out: Destination
    videos: Videos
    ffmpeg: Ffmpeg
    workers: int
    timeout: float
    scratch: Path | None = None
    """Where files on their way to a store or from it are put; None for TMPDIR."""

    stop: threading.Event = field(default_factory=threading.Event)
