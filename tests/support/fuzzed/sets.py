"""The files of a set: its tars, its index, its failures and dataset.json, with hashes and sizes that are right again.

Whole sets, with every command that reads or changes them, are in hostile_sets.
"""

import io
import json
import tarfile
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
from mutate import mutate_bytes, mutate_parquet, mutate_tar, mutate_text, mutate_value
from rehash import rehash

from fuzzed import Kind
from fuzzed.lists import mutate_lines
from vprep.format import FAILURES_SCHEMA, PLAN, write_dataset
from vprep.index import index
from vprep.layouts.listing import Entry
from vprep.settings import Settings
from vprep.sharding.destination import LocalSet
from vprep.sharding.plan import Planned, keys_of, planned_videos, read_plan, write_plan
from vprep.stats import stats
from vprep.subset import subset
from vprep.summary import verify_text
from vprep.verify import verify
from vtrain.data import EvenClips, ShardSet, open_shards

FILES = ("index.parquet", "failures.parquet", "dataset.json")


def _make(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        rng = np.random.default_rng(0)
        with tarfile.open(folder / "000.tar", "w") as tar:
            for key, label in (("a", 0), ("b", 1)):
                info = json.dumps({"fps": 25, "label": label, "class_name": f"class {key}"}).encode()
                jpegs = [cv2.imencode(".jpg", rng.integers(0, 256, (24, 32, 3), np.uint8))[1].tobytes() for _ in "1234"]
                for suffix, data in (("json", info), ("mjpeg", b"".join(jpegs))):
                    member = tarfile.TarInfo(f"{key}.{suffix}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
        pq.write_table(FAILURES_SCHEMA.empty_table(), folder / "failures.parquet")
        index(folder)
        return folder / name

    return make


def _make_plan(folder: Path) -> Path:
    """Leave the plan of a set whose shards are still to be made."""
    (folder / "videos").mkdir()
    entries = [Entry(source=f"{name}.mp4", bytes=1, class_name=name, label=label) for label, name in enumerate("ab")]
    for entry in entries:
        (folder / "videos" / entry.source).write_bytes(b"x")
    planned = [[Planned(key, entry)] for key, entry in zip(keys_of(entries), entries, strict=True)]
    write_plan(LocalSet(folder), Settings(), str(folder / "videos"), ["a", "b"], planned)
    return folder / PLAN


def _read_plan(path: Path) -> object:
    return read_plan(path.parent), list(planned_videos(path.parent))


def _make_subset(folder: Path) -> Path:
    _make("index.parquet")(folder)
    (folder / "classes.txt").write_text("class a\n")
    subset(folder, f"classes:{folder / 'classes.txt'}", folder / "subset.parquet")
    return folder / "subset.parquet"


def _select_subset(path: Path) -> object:
    return ShardSet.open(path.parent).select(subset=path)


def _make_names(rule: str, content: str) -> Callable[[Path], Path]:
    """Leave a set and the list of names of a rule."""

    def make(folder: Path) -> Path:
        _make("index.parquet")(folder)
        (folder / f"{rule}.txt").write_text(content)
        return folder / f"{rule}.txt"

    return make


def _subset_by(path: Path) -> object:
    return subset(path.parent, f"{path.stem}:{path}", path.parent / "subset.parquet")


def _mutate_dataset(content: bytes, seed: int) -> bytes:
    info = json.loads(content)
    changed = mutate_value(info, seed)
    try:
        return write_dataset(changed) if seed % 2 and isinstance(changed, dict) else mutate_text(info, seed)
    except (ValueError, RecursionError):  # what nobody can write with a hash
        return mutate_text(info, seed)


def _mutate_tar(content: bytes, seed: int) -> bytes:
    return mutate_tar(content, seed, _member) if seed % 4 else mutate_bytes(content, seed)


def _member(name: str, data: bytes, seed: int) -> bytes:
    return mutate_text(json.loads(data), seed) if name.endswith(".json") else mutate_bytes(data, seed)


def _believed(read: Callable[[Path], object], path: Path) -> object:
    if path.suffix != ".json":
        rehash(path.parent)
    return read(path.parent)


def _readers(*names: str) -> dict[str, Callable[[Path], object]]:
    return {name: lambda path, name=name: _believed(READERS[name], path) for name in names}  # type: ignore[misc]


def _index_anew(path: Path) -> object:
    """Index the tars as those of a stranger, and read what came out."""
    folder = path.parent
    for name in FILES:
        (folder / name).unlink(missing_ok=True)
    index(folder)
    return [READERS[name](folder) for name in ("verify", "load")]


READERS: dict[str, Callable[[Path], object]] = {
    "verify": lambda folder: [verify_text(verify(folder, depth)) for depth in ("sizes", "frames")],
    "stats": stats,
    "select": lambda folder: ShardSet.open(folder).select(),
    "load": lambda folder: list(islice(open_shards(folder, EvenClips(clips=1, frames=2), batch=2, epochs=1), 2)),
}

KINDS = [
    Kind(
        name="dataset.json",
        make=_make("dataset.json"),
        mutate=_mutate_dataset,
        readers=_readers("verify", "stats", "select", "load"),
    ),
    Kind(
        name="index.parquet",
        make=_make("index.parquet"),
        mutate=mutate_parquet,
        readers=_readers("verify", "stats", "select", "load"),
    ),
    Kind(
        name="failures.parquet",
        make=_make("failures.parquet"),
        mutate=mutate_parquet,
        readers=_readers("stats"),
    ),
    Kind(name="plan.parquet", make=_make_plan, mutate=mutate_parquet, readers={"read": _read_plan}),
    Kind(name="subset.parquet", make=_make_subset, mutate=mutate_parquet, readers={"select": _select_subset}),
    Kind(
        name="list of classes",
        make=_make_names("classes", "class a\nclass b\n"),
        mutate=mutate_lines,
        readers={"vprep subset": _subset_by},
    ),
    Kind(
        name="list of keys",
        make=_make_names("keys", "a\nb\n"),
        mutate=mutate_lines,
        readers={"vprep subset": _subset_by},
    ),
    Kind(name="tar", make=_make("000.tar"), mutate=_mutate_tar, readers=_readers("verify", "load")),
    Kind(name="tar of another tool", make=_make("000.tar"), mutate=_mutate_tar, readers={"index": _index_anew}),
]
