"""Bring the description of a set in a store to this machine: its dataset.json and its index.

Both are kept in the cache under the hash of the set, and fetched again only when they are others in the store.
"""

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from vprep.atomic import atomic_write
from vprep.errors import UsageError, writing
from vprep.format import DATASET, INDEX, read_dataset
from vprep.hashing import hash_file, hash_of
from vprep.limits import MOST_DATASET
from vprep.store import Location, MissingError, Store
from vprep.store.named import in_store
from vprep.text import brief
from vtrain.data.cache import locks
from vtrain.data.cache.place import CachePlace
from vtrain.data.cache.remote import ATTEMPTS, RemoteShard

SETS = "sets"
HASH = re.compile("[0-9a-f]{32}")
COPIED = "copy it there again, or make it in a local copy of the set with vprep index, and copy that"
OTHERS = 10_000  # further objects of a folder that are looked through for shards


@dataclass(frozen=True, slots=True)
class RemoteSet:
    """A set in a store."""

    store: Store
    folder: Path  # of the local copies of its dataset.json and index
    place: CachePlace

    @property
    def url(self) -> str:
        return str(self.store.location)

    def shard(self, entry: dict[str, Any]) -> RemoteShard:
        """Return the shard that an entry of dataset.json describes; its hash is to be a name in the cache."""
        if not HASH.fullmatch(entry["hash"]):
            raise UsageError(f"{self.url}/{DATASET} has no usable hash of {brief(entry['name'])}; {COPIED}")
        return RemoteShard(self.store, entry["name"], entry["bytes"], entry["hash"], entry["videos"])

    def refuse_missing(self, shards: Sequence[dict[str, Any]]) -> None:
        """Refuse shards that are missing, or have another size, where the store can say what it holds."""
        if not self.store.location.is_listed:
            return
        sizes = {head.name: head.size for head in islice(self.store.list(), len(shards) + OTHERS)}
        if len(sizes) == len(shards) + OTHERS:
            return
        for shard in shards:
            found, where = sizes.get(shard["name"]), f"{self.url}/{shard['name']}"
            if found is None:
                raise UsageError(f"{where} is missing; copy it there again")
            if found != shard["bytes"]:
                raise UsageError(
                    f"{where} is not the shard that the set was finished with: it has {found} bytes, and "
                    f"{shard['bytes']} in {DATASET}; copy it there again"
                )


def open_remote(location: Location, place: CachePlace) -> RemoteSet:
    """Return the set at `location`, whose description is then on this machine, complete and verified."""
    store, sets = Store(location), place.path / SETS
    name = hash_of(str(location).encode())
    with writing(place.path, "name another folder: --cache DIR"):
        sets.mkdir(mode=0o700, parents=True, exist_ok=True)
        with locks.alone(sets / f"{name}.lock"):
            folder = _known(store, sets, sets / f"{name}.json") or _fetched(store, sets, name)
    return RemoteSet(store, folder, place)


def _known(store: Store, sets: Path, note: Path) -> Path | None:
    """Return the folder of the set's description if it is here and the store has the same; else None."""
    try:
        known = json.loads(note.read_bytes())
        folder: Path = sets / Path(known["set"]).name
        etag = known["etag"]
        if etag is None or not _has_index(folder, read_dataset(folder)):
            return None
    except (OSError, ValueError, KeyError, TypeError, UsageError):  # not here, or damaged
        return None
    head = store.head(DATASET)
    return folder if head is not None and head.etag == etag else None


def _fetched(store: Store, sets: Path, name: str) -> Path:
    """Fetch the description of a set and return its folder; it is complete, or its dataset.json is absent."""
    head = store.head(DATASET)
    if head is None:
        raise UsageError(
            f"no set in {store.location}: it has no {DATASET}; one is made with: vprep shard VIDEOS --out "
            f"{store.location}"
        )
    if head.size > MOST_DATASET:
        raise UsageError(
            f"{store.location / DATASET} has {head.size} bytes and is not the {DATASET} of a set; name another place"
        )
    text = store.read(DATASET, head.etag)
    info = _checked(store, text, sets / f".{name}")
    folder = sets / str(info["hash"])
    folder.mkdir(mode=0o700, exist_ok=True)
    if not _has_index(folder, info):
        _fetch_index(store, folder, info)
    _write(folder / DATASET, text)
    note = {"url": str(store.location), "etag": head.etag, "set": info["hash"]}
    _write(sets / f"{name}.json", json.dumps(note).encode())
    return folder


def _checked(store: Store, text: bytes, draft: Path) -> dict[str, Any]:
    """Return the content of a dataset.json, which is checked as one in a folder is."""
    shutil.rmtree(draft, ignore_errors=True)  # left by a process that was killed
    draft.mkdir(mode=0o700)
    try:
        (draft / DATASET).write_bytes(text)
        return read_dataset(draft)
    except UsageError as error:
        raise UsageError(in_store(str(error), draft, store.location)) from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _fetch_index(store: Store, folder: Path, info: dict[str, Any]) -> None:
    """Fetch the index; once more where it is not the one that dataset.json lists."""
    for _ in range(ATTEMPTS):
        try:
            store.download(INDEX, folder / INDEX)
        except MissingError:
            raise UsageError(f"{store.location / INDEX} is missing; {COPIED}") from None
        if _has_index(folder, info):
            return
    (folder / INDEX).unlink(missing_ok=True)
    raise UsageError(
        f"{store.location / INDEX} is not the file that the set was finished with; wait until nobody writes to the "
        f"set, then find out with: vprep verify {store.location}"
    )


def _has_index(folder: Path, info: dict[str, Any]) -> bool:
    """Return whether the folder has the index that a dataset.json lists."""
    path = folder / INDEX
    listed = [file["hash"] for file in info["files"] if file["name"] == INDEX]
    return path.is_file() and listed == [hash_file(path)]


def _write(path: Path, data: bytes) -> None:
    with atomic_write(path) as file:
        file.write(data)
