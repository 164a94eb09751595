"""What the commands that make sets have in common: their settings, their engine, and where they read and write."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from vprep import signals
from vprep.errors import UsageError
from vprep.settings import Settings, read_fps, read_size
from vprep.sharding import destination, videos
from vprep.sharding.destination import Destination
from vprep.sharding.engines import Engine
from vprep.sharding.job import Job
from vprep.store import Location
from vprep.video import ffmpeg


def refuse_beside_assemble(source: str | None, engine: str, part: str | None) -> None:
    """Refuse what makes shards beside the option that makes none."""
    if source is not None or part is not None or engine != "local":
        raise UsageError("--assemble names a set whose parts are made; leave out SOURCE, --part and --engine")


def required(source: str | None) -> str:
    """Return the source; refuse a command without one."""
    if source is None:
        raise UsageError("SOURCE is missing; name the folder of videos, as in: vprep shard VIDEOS --out SET")
    return source


def engine_of(name: str, ray_address: str | None, part: str | None) -> Engine:
    """Return the engine of a name; what another engine needs is not imported."""
    if name == "ray":
        if part is not None:
            raise UsageError("--part makes a part on this machine, and --engine ray makes all; choose one of them")
        from vprep.sharding.engines.ray import on_cluster

        return on_cluster(ray_address)
    if ray_address is not None:
        raise UsageError("--ray-address is for --engine ray; add that, or leave --ray-address out")
    from vprep.sharding.engines.local import transcode_shards

    return transcode_shards


def resumable(out: Destination) -> contextlib.AbstractContextManager[None]:
    """Let a signal say what is complete and how to continue."""

    def sentence() -> str:
        complete = f"{len(list(out.folder.glob('*.tar')))} shards" if out.is_local else "the finished shards"
        return f"stopped; {complete} in {out} are complete: run the same command again to continue"

    return signals.explained(sentence)


def settings_of(
    size: str, short_side: int | None, fps: str, quality: int, shards: int | None, shard_mb: int, seed: int
) -> Settings:
    """Return the settings that the options name."""
    height, width = read_size(size)
    return Settings(
        height=height,
        width=width,
        short_side=short_side,
        fps=read_fps(fps),
        quality=quality,
        shards=shards,
        shard_mb=shard_mb,
        seed=seed,
    )


@contextlib.contextmanager
def opened_job(
    out: Path | Location, source: Path | Location, workers: int, timeout: float, scratch: Path | None
) -> Iterator[Job]:
    """Open the places of a set and of its videos for the length of a block."""
    root = source.resolve() if isinstance(source, Path) else source
    found = ffmpeg.find()
    with destination.opened(out, scratch) as made, videos.opened(root, scratch) as below:
        yield Job(out=made, videos=below, ffmpeg=found, workers=workers, timeout=timeout, scratch=scratch)
