"""Rebuild the index of a set from its tars, or make one for other WebDataset tars."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vprep.atomic import atomic_write
from vprep.duplicates import Seen
from vprep.errors import UsageError, WorkError
from vprep.format import (
    DATASET,
    FAILURES,
    FAILURES_SCHEMA,
    FROM_INDEX,
    INDEX,
    INDEX_SCHEMA,
    read_dataset,
    unfinished_set,
    write_dataset,
)
from vprep.hashing import hash_file
from vprep.index_rows import batches
from vprep.progress import tracked
from vprep.sample_rows import SampleError, row_of
from vprep.sharding.assemble import IndexWriter, Totals, dataset_info
from vprep.sharding.destination import WORK
from vprep.sharding.lock import only_writer
from vprep.sharding.plan import known_columns, planned_videos, read_plan
from vprep.tar_samples import samples
from vprep.text import brief


def index(folder: Path) -> dict[str, Any]:
    """Write index.parquet and dataset.json for the tars in `folder`."""
    tars = sorted(folder.glob("*.tar")) if folder.is_dir() else []
    if not tars:
        raise UsageError(f"no tars in {folder}; name a folder that holds shards")
    if (folder / WORK).exists():
        raise UsageError(unfinished_set(folder))
    with only_writer(folder, "make the folder writable, or index a copy of it"):
        return _index(folder, tars)


def _index(folder: Path, tars: list[Path]) -> dict[str, Any]:
    plan, before = read_plan(folder), _before(folder)
    digests = _refuse_changed(folder, tars, before, can_be_made_again=plan is not None)
    read = _Read()
    with atomic_write(folder / INDEX) as file, IndexWriter(file) as writer:
        for tar in tracked(tars, len(tars), "tars"):
            writer.add(read.shard(tar, digests[tar]))
        read.refuse_nothing(folder)
    if plan is not None and not (folder / FAILURES).exists():
        _rebuild_failures(folder)
    settings = plan.settings.as_dict() if plan else before.get("settings", {"layout": FROM_INDEX})
    made_by_shard = settings.get("layout") != FROM_INDEX
    classes = plan.classes if plan else before["classes"] if made_by_shard else read.classes()
    info = dataset_info(folder, settings, classes, read.shards, read.totals)
    with atomic_write(folder / DATASET) as file:
        file.write(write_dataset(info))
    return info | {"skipped": dict(read.skipped), "same_content": read.seen.same_content()}


def _before(folder: Path) -> dict[str, Any]:
    """Return the content of dataset.json before; empty when it is lost or cannot be read."""
    try:
        return read_dataset(folder)
    except UsageError:
        return {}


def _refuse_changed(
    folder: Path, tars: list[Path], before: dict[str, Any], *, can_be_made_again: bool
) -> dict[Path, str]:
    """Refuse tars that are not those that dataset.json lists; return the hash of each."""
    digests = {}
    hashes = {shard["name"]: shard["hash"] for shard in before.get("shards", [])}
    for tar in tracked(tars, len(tars), "hashes"):
        if not tar.is_file():
            raise UsageError(f"{tar} is no file; a set's tars must be regular files")
        digests[tar] = hash_file(tar)
        if hashes.pop(tar.name, digests[tar]) != digests[tar]:
            raise WorkError(
                f"{tar} is not the file that {DATASET} lists; vprep verify {folder} says what is wrong with it"
            )
    if hashes and can_be_made_again:
        raise WorkError(f"{folder / min(hashes)} is missing; run vprep shard again: only missing shards are made again")
    if hashes:
        raise WorkError(
            f"{folder / min(hashes)}, which {DATASET} lists, is missing; put it back, or remove {DATASET} to index "
            f"the tars that there are"
        )
    return digests


class _Read:
    """What was found in the tars of a folder, added up tar by tar."""

    def __init__(self) -> None:
        self.totals = Totals()
        self.shards: list[dict[str, Any]] = []
        self.skipped: Counter[str] = Counter()
        self.seen = Seen()
        self._names: dict[int | None, set[str]] = defaultdict(set)  # of classes, by label

    def shard(self, tar: Path, digest: str) -> pa.Table:
        """Return the rows of a tar."""
        rows = list(self._rows(tar))
        table = pa.Table.from_pylist(rows, schema=INDEX_SCHEMA)
        self.totals.add(table)
        self.seen.add(table)
        for row in rows:
            if row["class_name"]:
                self._names[row["label"]].add(row["class_name"])
        entry = {"name": tar.name, "bytes": tar.stat().st_size, "hash": digest, "videos": len(rows)}
        self.shards.append(entry)
        return table

    def refuse_nothing(self, folder: Path) -> None:
        """Refuse tars without a video, and tars with two videos of one key."""
        if not self.totals.counts["videos"]:
            found = f"its members: {', '.join(sorted(self.skipped)[:3])}" if self.skipped else "it is empty"
            raise UsageError(f"no sample in {folder} holds JPEG frames ({found}); vprep shard makes such tars")
        twice = self.seen.key_twice()
        if twice is not None:
            raise WorkError(f"two samples in {folder} have the key '{twice}'; a key must be unique: rename one of them")

    def classes(self) -> list[str]:
        """Return the names of the classes by label, or sorted when no video has a label."""
        named = {label: names for label, names in self._names.items() if label is not None}
        for label, names in named.items():
            if len(names) > 1:
                first, second = sorted(names)[:2]
                raise WorkError(f"label {label} is class '{first}' and class '{second}'; give each class its own label")
        if not named:
            return sorted(self._names[None])
        return [min(named.get(label, {str(label)})) for label in range(max(named) + 1)]

    def _rows(self, tar: Path) -> Iterator[dict[str, Any]]:
        with tar.open("rb") as file:
            for sample in samples(tar):
                try:
                    row = row_of(file, sample)
                except SampleError as error:
                    raise WorkError(f"{tar}, video '{brief(sample.key)}': {error}") from None
                if row is None:
                    self.skipped["+".join(sorted({extension for extension, _, _ in sample.members}))] += 1
                else:
                    yield row | {"shard": tar.name}


def _rebuild_failures(folder: Path) -> None:
    """Write the failures: the planned videos without a row. Their causes are no longer known."""
    there = {key for table in batches(folder, ["key"]) for key in table["key"].to_pylist()}
    rows = [
        row | {"cause": "unknown", "detail": f"{FAILURES} was lost"}
        for name, videos in planned_videos(folder)
        for row in (known_columns(video) | {"shard": name} for video in videos)
        if row["key"] not in there
    ]
    with atomic_write(folder / FAILURES) as file:
        pq.write_table(pa.Table.from_pylist(rows, schema=FAILURES_SCHEMA), file, compression="zstd")
