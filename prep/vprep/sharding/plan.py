"""The plan of a set: its videos with their keys, in their order, divided into shards. It is made once."""

import itertools
import json
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from vprep.atomic import atomic_create
from vprep.errors import UsageError
from vprep.format import PLAN, PLAN_SCHEMA, ROWS_PER_GROUP, shard_name
from vprep.json_text import parse_json
from vprep.layouts.listing import Entry
from vprep.settings import Settings
from vprep.sharding.destination import Destination
from vprep.store import Location, place
from vprep.tables import by_shard, opened
from vprep.text import brief

ETAG = pa.field("etag", pa.string())  # a column of a plan whose videos are in a store
LONGEST_KEY = 93  # with `.mjpeg` it fits the 100 bytes of a tar header
STEM = 60  # characters kept of a name to which a hash is added


@dataclass(frozen=True, slots=True)
class Planned:
    """One video with its key, the name it has in the set."""

    key: str
    entry: Entry


@dataclass(frozen=True, slots=True)
class Plan:
    """The plan of a set without its videos, which stay in the plan's file and are read shard by shard."""

    settings: Settings
    root: Path | Location
    classes: list[str]
    shards: dict[str, int]
    """Number of videos of each shard by its name, in order."""

    @property
    def videos(self) -> int:
        return sum(self.shards.values())


def keys_of(entries: Sequence[Entry]) -> list[str]:
    """Return a key for each entry: its file's name without dots and slashes, with a hash where names are the same."""
    plain = [_plain_key(entry) for entry in entries]
    keys = plain
    for digits in (8, 32):
        seen = Counter(keys)
        keys = [
            key if seen[key] == 1 and len(key) <= LONGEST_KEY else f"{short[:STEM]}-{_identity(entry)[:digits]}"
            for key, short, entry in zip(keys, plain, entries, strict=True)
        ]
        if len(set(keys)) == len(keys):
            return keys
    twice = next(key for key, count in Counter(keys).items() if count > 1)
    raise UsageError(f"the source names a video twice; its key is '{twice}': keep one")


def interleaved(planned: Iterable[Planned], seed: int) -> list[Planned]:
    """Return the videos in an order whose every stretch holds each class in about its share of the set.

    The videos of a class are shuffled; the i-th of n goes near i / n of the whole order. Both the shuffle and the
    position depend only on a hash of seed and key.
    """
    classes: dict[str | None, list[tuple[int, Planned]]] = defaultdict(list)
    for video in planned:
        classes[video.entry.class_name].append((xxhash.xxh3_64_intdigest(f"{seed}/{video.key}".encode()), video))
    positions: list[tuple[float, str, Planned]] = []
    for members in classes.values():
        members.sort(key=lambda member: (member[0], member[1].key))
        for rank, (number, video) in enumerate(members):
            positions.append(((rank + (number & 0xFFFFFFFF) / 2**32) / len(members), video.key, video))
    positions.sort(key=lambda position: position[:2])
    return [video for _, _, video in positions]


def divide(ordered: list[Planned], shards: int) -> list[list[Planned]]:
    """Return the videos in `shards` stretches whose lengths differ by one at most."""
    if shards > len(ordered):
        raise UsageError(f"{len(ordered)} videos do not fill {shards} shards; use --shards {len(ordered)} or fewer")
    cuts = [number * len(ordered) // shards for number in range(shards + 1)]
    return [ordered[begin:end] for begin, end in itertools.pairwise(cuts)]


def write_plan(
    out: Destination, settings: Settings, root: str, classes: list[str], shards: list[list[Planned]]
) -> Plan:
    """Write the plan of a set; raise FileExistsError if there is one by then."""
    notes = {"settings": settings.as_dict(), "root": root, "classes": classes}
    # Bytes of the folder's name that are not UTF-8 become escapes, which json reads back.
    text = json.dumps(notes, ensure_ascii=False).encode(errors="backslashreplace")
    of_store = any(video.entry.etag is not None for videos in shards for video in videos)
    schema = (PLAN_SCHEMA.append(ETAG) if of_store else PLAN_SCHEMA).with_metadata({"plan": text})
    with atomic_create(out.folder / PLAN) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for rows in _batches(shards):
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
    if not out.keep(PLAN, create=True):
        (out.folder / PLAN).unlink()
        raise FileExistsError(f"{out} has a plan")
    sizes = {shard_name(number, len(shards)): len(videos) for number, videos in enumerate(shards)}
    return Plan(settings, place(root), classes, sizes)


def read_plan(folder: Path) -> Plan | None:
    """Return the plan in a set's folder; None when there is none yet."""
    path = folder / PLAN
    if not path.exists():
        return None
    try:
        with opened(path, PLAN_SCHEMA, _lost(folder)) as table:
            notes = parse_json(table.metadata[b"plan"])
            shards = Counter(table.read(["shard"])["shard"].to_pylist())
        plan = Plan(Settings(**notes["settings"]), place(notes["root"]), notes["classes"], dict(shards))
        _check(plan)
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise UsageError(f"{path} cannot be read ({brief(first)}); {_lost(folder)}") from None
    return plan


def plan_of(out: Destination) -> Plan | None:
    """Return the plan of a set that is written; None when there is none yet."""
    out.fetch(PLAN)
    return read_plan(out.folder)


def planned_videos(folder: Path, shards: set[str] | None = None) -> Iterator[tuple[str, list[Planned]]]:
    """Yield each shard's name and videos from the plan's file: all shards, or those in `shards`."""
    path = folder / PLAN
    with opened(path, PLAN_SCHEMA, _lost(folder)) as plan:
        schema = PLAN_SCHEMA.append(ETAG) if ETAG.name in plan.names else PLAN_SCHEMA
    with opened(path, schema, _lost(folder)) as plan:
        for name, table in by_shard(plan.batches()):
            if shards is None or name in shards:
                yield name, [_planned(folder, row) for row in table.to_pylist()]


def _lost(folder: Path) -> str:
    return f"move {folder} away and make the set again"


def _check(plan: Plan) -> None:
    """Refuse a plan that would write other files than the shards of its set."""
    if not all(isinstance(name, str) for name in plan.classes) or isinstance(plan.classes, str):
        raise ValueError("its classes are no list of names")
    names = [shard_name(number, len(plan.shards)) for number in range(len(plan.shards))]
    if list(plan.shards) != names:
        wrong = next(name for name, wanted in zip(plan.shards, names, strict=True) if name != wanted)
        raise ValueError(f"it names the shard {ascii(wrong)[:40]}")


def _planned(folder: Path, row: dict[str, Any]) -> Planned:
    """Return the video of a row; its key is the name of a tar's member, and its source is below the videos' folder."""
    key, source = row["key"], row["source"]
    if key is None or not re.fullmatch(r"[^/.\\\x00-\x1f]{1,93}", key):
        raise UsageError(f"{folder / PLAN} names a video {ascii(key)[:60]}, which is no key; {_lost(folder)}")
    if source is None or "\0" in source or source.startswith("/") or ".." in source.split("/"):
        raise UsageError(f"{folder / PLAN} names the file {ascii(source)[:60]}; {_lost(folder)}")
    return Planned(key, entry_of(row))


def known_columns(planned: Planned) -> dict[str, Any]:
    """Return the columns of the index that are known before the video is opened."""
    entry = planned.entry
    return {
        "key": planned.key,
        "source": entry.source,
        "start": entry.start,
        "end": entry.end,
        "label": entry.label,
        "class_name": entry.class_name,
        **{f"split{fold}": split for fold, split in enumerate(entry.splits, 1)},
    }


def entry_of(row: dict[str, Any]) -> Entry:
    """Return the entry that a row of the plan was made from."""
    return Entry(
        source=row["source"],
        bytes=row["source_bytes"],
        class_name=row["class_name"],
        label=row["label"],
        splits=(row["split1"], row["split2"], row["split3"]),
        start=row["start"],
        end=row["end"],
        etag=row.get("etag"),
    )


def _batches(shards: list[list[Planned]]) -> Iterator[list[dict[str, Any]]]:
    rows: list[dict[str, Any]] = []
    for number, shard in enumerate(shards):
        name = shard_name(number, len(shards))
        rows += [
            known_columns(video) | {"shard": name, "source_bytes": video.entry.bytes, "etag": video.entry.etag}
            for video in shard
        ]
        if len(rows) >= ROWS_PER_GROUP:
            yield rows
            rows = []
    yield rows


def _plain_key(entry: Entry) -> str:
    stem = os.path.splitext(PurePosixPath(entry.source).name)[0]
    key = re.sub(r"[^A-Za-z0-9_-]", "_", stem) or "video"
    if entry.start is not None and entry.end is not None:
        key += f"-{round(entry.start * 1000)}-{round(entry.end * 1000)}"
    return key


def _identity(entry: Entry) -> str:
    return xxhash.xxh3_128_hexdigest(f"{entry.source}\n{entry.start}\n{entry.end}".encode())
