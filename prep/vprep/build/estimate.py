"""What a set will need, from a look at some of its videos.

For the number of shards the headers are enough (9 ms a video). `vprep plan` tells people about disk and time,
so it really transcodes its sample, and throws the frames away.
"""

import math
import os
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vprep.build.plan import Planned, keys_of, mixed
from vprep.build.worker_pool import in_order
from vprep.format import hash_file, hash_of
from vprep.layouts.listing import Entry, Listing
from vprep.layouts.walk import path_of
from vprep.settings import Settings
from vprep.video import ffmpeg_log
from vprep.video.failures import Failure
from vprep.video.ffmpeg import Ffmpeg, run
from vprep.video.transcode import CONTAINERS, Video, transcode

HEADERS = 32  # videos whose headers are read for the number of shards
BYTES_PER_PIXEL = 0.24  # of JPEG at quality 3, over real clips; see benchmarks/LOG.md
BYTES_PER_SECOND = 60_000  # of a source whose header tells no duration
ENDS = 64 << 10  # bytes at the beginning and end of a file that are compared before the whole


def shard_count(
    ordered: Sequence[Entry], root: Path, settings: Settings, ffmpeg: Ffmpeg, *, workers: int, timeout: float
) -> int:
    """How many shards of about `settings.shard_mb` the videos will fill."""
    sample = ordered[:HEADERS]
    stop = threading.Event()
    reports = list(
        in_order(
            lambda entry: _header(path_of(root, entry.source), ffmpeg, timeout, stop),
            sample,
            workers=workers,
            size=lambda _: 0,
            stop=stop,
        )
    )
    pairs = list(zip(sample, reports, strict=True))
    seconds = sum(_length(entry, report) for entry, report in pairs)
    total_bytes = sum(max(entry.bytes, 0) for entry in ordered)
    sampled_bytes = sum(max(entry.bytes, 0) for entry in sample)
    scale = total_bytes / sampled_bytes if sampled_bytes else 0.0
    expected = seconds * scale * settings.fps * _frame_bytes(settings, [report for _, report in pairs])
    return min(len(ordered), max(1, math.ceil(expected / (settings.shard_mb * 1_000_000))))


def plan_report(
    listing: Listing,
    root: Path,
    settings: Settings,
    ffmpeg: Ffmpeg,
    *,
    sample: int,
    workers: int,
    timeout: float,
) -> dict[str, Any]:
    """What `vprep shard` would find and make, with the same words."""
    ordered = mixed(map(Planned, keys_of(listing.entries), listing.entries), settings.seed)
    entries = [video.entry for video in ordered]
    shards = settings.shards or shard_count(entries, root, settings, ffmpeg, workers=workers, timeout=timeout)
    tried, began = entries[:sample], time.monotonic()
    results = _try(tried, root, settings, ffmpeg, workers=workers, timeout=timeout)
    took, share = time.monotonic() - began, len(entries) / len(tried)
    videos = [facts for facts in results if isinstance(facts, dict)]
    return _listed(listing, root) | {
        "sample": _oddities(results, videos) | {"seconds": round(took, 2)},
        "hours": round(sum(facts["frames"] / facts["fps"] for facts in videos) * share / 3600, 3),
        "shards": shards,
        "disk_bytes": round(sum(facts["stored"] for facts in videos) * share),
        "seconds": round(took * share, 1),
        "workers": workers,
    }


def _listed(listing: Listing, root: Path) -> dict[str, Any]:
    """What is known without opening a video."""
    return {
        "source": str(root),
        "layout": listing.layout,
        "videos": len(listing.entries),
        "classes": len(listing.classes),
        "class_sizes": _class_sizes(listing),
        "splits": _splits(listing),
        "source_bytes": sum(max(entry.bytes, 0) for entry in listing.entries),
        "empty": sum(1 for entry in listing.entries if entry.bytes == 0),
        "missing": len(listing.missing),
        "missing_examples": listing.missing[:5],
        "unlisted": len(listing.unlisted),
        "unlisted_examples": listing.unlisted[:5],
        "ignored_files": listing.ignored,
        "duplicates": duplicates(listing.entries, root),
    }


def _try(
    entries: Sequence[Entry], root: Path, settings: Settings, ffmpeg: Ffmpeg, *, workers: int, timeout: float
) -> list[dict[str, Any] | Failure]:
    """The facts of some videos, and how many bytes they would take."""
    stop = threading.Event()

    def facts_of(entry: Entry) -> dict[str, Any] | Failure:
        result = transcode(root, entry, settings, ffmpeg, timeout=timeout, stop=stop)
        return result.facts | {"stored": len(result.mjpeg)} if isinstance(result, Video) else result

    return list(in_order(facts_of, entries, workers=workers, size=lambda _: 0, stop=stop))


def _oddities(results: Sequence[dict[str, Any] | Failure], videos: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "videos": len(results),
        "failures": dict(Counter(result.cause for result in results if isinstance(result, Failure))),
        "rotated": sum(1 for facts in videos if facts["rotation"]),
        "variable_rate": sum(1 for facts in videos if facts["variable_rate"]),
        "silent": sum(1 for facts in videos if not facts["audio"]),
        "damaged": sum(1 for facts in videos if facts["damaged"]),
    }


def duplicates(entries: Sequence[Entry], root: Path) -> list[list[str]]:
    """Groups of videos with the same content. Only files of the same size are read, and at first only their ends."""
    groups: dict[Any, list[str]] = defaultdict(list)
    for source, size in {entry.source: entry.bytes for entry in entries}.items():
        if size > 0:
            groups[size].append(source)
    for fingerprint in (_ends, hash_file):
        finer: dict[Any, list[str]] = defaultdict(list)
        for size, sources in groups.items():
            for source in sources if len(sources) > 1 else ():
                try:
                    finer[size, fingerprint(path_of(root, source))].append(source)
                except OSError:
                    continue
        groups = finer
    return sorted(sorted(sources) for sources in groups.values() if len(sources) > 1)


def _ends(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(ENDS)
        file.seek(max(0, os.fstat(file.fileno()).st_size - ENDS))
        return hash_of(head + file.read(ENDS))


def _header(path: Path, ffmpeg: Ffmpeg, timeout: float, stop: threading.Event) -> ffmpeg_log.Report:
    argv = [ffmpeg.path, "-hide_banner", "-nostdin", "-v", "repeat+level+verbose"]
    argv += ["-format_whitelist", CONTAINERS, "-protocol_whitelist", "file,pipe", "-i", f"file:{path}"]
    return ffmpeg_log.read(run(argv, timeout=timeout, stop=stop).words)


def _length(entry: Entry, report: ffmpeg_log.Report) -> float:
    if entry.start is not None and entry.end is not None:
        return entry.end - entry.start
    return report.seconds if report.seconds is not None else max(entry.bytes, 0) / BYTES_PER_SECOND


def _frame_bytes(settings: Settings, reports: Sequence[ffmpeg_log.Report]) -> float:
    """Bytes of one JPEG, by its area and quality."""
    area: float = settings.height * settings.width
    if settings.short_side is not None:
        shapes = [(report.height, report.width) for report in reports if report.height and report.width]
        aspects = [max(shape) / min(shape) for shape in shapes] or [4 / 3]
        area = settings.short_side**2 * sum(aspects) / len(aspects)
    return float(BYTES_PER_PIXEL * area * (3 / settings.quality) ** 0.7)


def _class_sizes(listing: Listing) -> dict[str, Any] | None:
    sizes = Counter(entry.class_name for entry in listing.entries if entry.class_name is not None)
    if not sizes:
        return None
    ranked = sorted(sizes.items(), key=lambda pair: (pair[1], pair[0]))
    return {
        "least": list(ranked[0]),
        "most": list(ranked[-1]),
        "without_videos": len(set(listing.classes) - set(sizes)),
    }


def _splits(listing: Listing) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for fold in range(3):
        counts = Counter(entry.splits[fold] for entry in listing.entries if entry.splits[fold] is not None)
        if counts:
            found[f"split{fold + 1}"] = {str(split): count for split, count in sorted(counts.items(), key=str)}
    return found
