"""Estimate the size of a set from a sample of its videos.

The number of shards needs only the headers (9 ms a video). `vprep plan` reports disk and time, so it transcodes its
sample and discards the frames.
"""

import math
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vprep.layouts.listing import Entry, Listing
from vprep.layouts.walk import path_of
from vprep.progress import tracked
from vprep.settings import NATIVE, RATES, Settings
from vprep.sharding.plan import Planned, interleaved, keys_of
from vprep.sharding.videos import Videos
from vprep.sharding.worker_pool import in_order
from vprep.store import MissingError
from vprep.summary import class_sizes
from vprep.video import ffmpeg_log
from vprep.video.failures import Failure
from vprep.video.ffmpeg import Ffmpeg, run
from vprep.video.transcode import CONTAINERS, Video, transcode

HEADERS = 32  # videos whose headers are read for the number of shards
BYTES_PER_PIXEL = 0.24  # of JPEG at quality 3, over real clips; see benchmarks/LOG.md
BYTES_PER_SECOND = 60_000  # of a source whose header has no duration


def shard_count(
    ordered: Sequence[Entry], videos: Videos, settings: Settings, ffmpeg: Ffmpeg, *, workers: int, timeout: float
) -> int:
    """Return how many shards of about `settings.shard_mb` the videos will fill."""
    sample = ordered[:HEADERS]
    stop = threading.Event()
    headers = in_order(
        lambda entry: _header(videos, entry, ffmpeg, timeout, stop),
        sample,
        workers=workers,
        size=lambda _: 0,
        stop=stop,
    )
    reports = list(tracked(headers, len(sample), "headers"))
    pairs = list(zip(sample, reports, strict=True))
    lengths = [_length(entry, report) for entry, report in pairs]
    seconds = sum(lengths)
    total_bytes = sum(max(entry.bytes, 0) for entry in ordered)
    sampled_bytes = sum(max(entry.bytes, 0) for entry in sample)
    scale = total_bytes / sampled_bytes if sampled_bytes else 0.0
    expected = seconds * scale * _rate(settings, lengths, reports) * _frame_bytes(settings, reports)
    return min(len(ordered), max(1, math.ceil(expected / (settings.shard_mb * 1_000_000))))


def plan_report(
    listing: Listing,
    videos: Videos,
    settings: Settings,
    ffmpeg: Ffmpeg,
    *,
    sample: int,
    workers: int,
    timeout: float,
) -> dict[str, Any]:
    """Return what `vprep shard` with the same options would find and make."""
    ordered = interleaved(map(Planned, keys_of(listing.entries), listing.entries), settings.seed)
    entries = [video.entry for video in ordered]
    shards = settings.shards or shard_count(entries, videos, settings, ffmpeg, workers=workers, timeout=timeout)
    sampled, began = entries[:sample], time.monotonic()
    results = _transcode_all(sampled, videos, settings, ffmpeg, workers=workers, timeout=timeout)
    took, scale = time.monotonic() - began, len(entries) / len(sampled)
    stored = [info for info in results if isinstance(info, dict)]
    return _listing_info(listing, videos) | {
        "sample": _sample_info(results, stored) | {"seconds": round(took, 2)},
        "hours": round(sum(info["frames"] / info["fps"] for info in stored) * scale / 3600, 3),
        "shards": shards,
        "disk_bytes": round(sum(info["stored"] for info in stored) * scale),
        "seconds": round(took * scale, 1),
        "workers": workers,
    }


def _listing_info(listing: Listing, videos: Videos) -> dict[str, Any]:
    """Return the counts that are known without opening a video."""
    return {
        "source": str(videos),
        "layout": listing.layout,
        "videos": len(listing.entries),
        "classes": len(listing.classes),
        "class_sizes": class_sizes(_videos_per_class(listing), listing.classes),
        "splits": _splits(listing),
        "source_bytes": sum(max(entry.bytes, 0) for entry in listing.entries),
        "empty": sum(1 for entry in listing.entries if entry.bytes == 0),
        "missing": len(listing.missing),
        "missing_examples": listing.missing[:5],
        "unlisted": len(listing.unlisted),
        "unlisted_examples": listing.unlisted[:5],
        "ignored_files": listing.ignored,
        "duplicates": duplicates(listing.entries, videos),
    }


def _transcode_all(
    entries: Sequence[Entry], videos: Videos, settings: Settings, ffmpeg: Ffmpeg, *, workers: int, timeout: float
) -> list[dict[str, Any] | Failure]:
    """Return for each video its columns of the index and the bytes that it would take, or its failure."""
    stop = threading.Event()

    def info_of(entry: Entry) -> dict[str, Any] | Failure:
        with videos.at_hand(entry) as (root, local):
            result = transcode(root, local, settings, ffmpeg, timeout=timeout, stop=stop)
        return result.columns | {"stored": len(result.mjpeg)} if isinstance(result, Video) else result

    results = in_order(info_of, entries, workers=workers, size=lambda _: 0, stop=stop)
    return list(tracked(results, len(entries), "videos"))


def _sample_info(results: Sequence[dict[str, Any] | Failure], videos: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "videos": len(results),
        "failures": dict(Counter(result.cause for result in results if isinstance(result, Failure))),
        "rotated": sum(1 for info in videos if info["rotation"]),
        "variable_rate": sum(1 for info in videos if info["variable_rate"]),
        "silent": sum(1 for info in videos if not info["audio"]),
        "damaged": sum(1 for info in videos if info["damaged"]),
    }


def duplicates(entries: Sequence[Entry], videos: Videos) -> list[list[str]]:
    """Return the groups of videos with the same content. Only files of the same size are read, and their ends first."""
    groups: dict[Any, list[str]] = defaultdict(list)
    for source, size in {entry.source: entry.bytes for entry in entries}.items():
        if size > 0:
            groups[size].append(source)
    for fingerprint in (videos.ends, videos.content):
        finer: dict[Any, list[str]] = defaultdict(list)
        for size, sources in groups.items():
            for source in sources if len(sources) > 1 else ():
                try:
                    finer[size, fingerprint(source)].append(source)
                except (OSError, MissingError):
                    continue
        groups = finer
    return sorted(sorted(sources) for sources in groups.values() if len(sources) > 1)


def _header(videos: Videos, entry: Entry, ffmpeg: Ffmpeg, timeout: float, stop: threading.Event) -> ffmpeg_log.Report:
    with videos.at_hand(entry) as (root, local):
        return _header_of(path_of(root, local.source), ffmpeg, timeout, stop)


def _header_of(path: Path, ffmpeg: Ffmpeg, timeout: float, stop: threading.Event) -> ffmpeg_log.Report:
    argv = [ffmpeg.path, "-hide_banner", "-nostdin", "-v", "repeat+level+verbose"]
    argv += ["-format_whitelist", CONTAINERS, "-protocol_whitelist", "file,pipe", "-i", f"file:{path}"]
    return ffmpeg_log.read(run(argv, timeout=timeout, stop=stop).log)


def _length(entry: Entry, report: ffmpeg_log.Report) -> float:
    if entry.start is not None and entry.end is not None:
        return entry.end - entry.start
    return report.seconds if report.seconds is not None else max(entry.bytes, 0) / BYTES_PER_SECOND


def _rate(settings: Settings, lengths: Sequence[float], reports: Sequence[ffmpeg_log.Report]) -> float:
    """Return the estimated frames per second of the set, for native rates the mean over the time of the sample."""
    if settings.fps != NATIVE:
        return settings.fps
    low, high = RATES
    rates = [report.fps if report.fps is not None and low <= report.fps <= high else 25.0 for report in reports]
    frames = sum(length * rate for length, rate in zip(lengths, rates, strict=True))
    return frames / sum(lengths) if sum(lengths) else 25.0


def _frame_bytes(settings: Settings, reports: Sequence[ffmpeg_log.Report]) -> float:
    """Return the estimated bytes of one JPEG, by its area and quality."""
    area: float = settings.height * settings.width
    if settings.short_side is not None:
        shapes = [(report.height, report.width) for report in reports if report.height and report.width]
        aspects = [max(shape) / min(shape) for shape in shapes] or [4 / 3]
        area = settings.short_side**2 * sum(aspects) / len(aspects)
    return float(BYTES_PER_PIXEL * area * (3 / settings.quality) ** 0.7)


def _videos_per_class(listing: Listing) -> Counter[str]:
    return Counter(entry.class_name for entry in listing.entries if entry.class_name is not None)


def _splits(listing: Listing) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for fold in range(3):
        counts = Counter(entry.splits[fold] for entry in listing.entries if entry.splits[fold] is not None)
        if counts:
            found[f"split{fold + 1}"] = {str(split): count for split, count in sorted(counts.items(), key=str)}
    return found
