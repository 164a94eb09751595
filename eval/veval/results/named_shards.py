"""The shards that a result names. A result may be a stranger's, so it opens no network."""

from collections.abc import Mapping
from typing import Any

from vprep.errors import UsageError, WorkError
from vprep.text import brief
from vtrain.data.shard_set import ShardSet
from vtrain.data.shard_spec import is_in_store


def open_named(result: Mapping[str, Any]) -> ShardSet:
    """Open the shards that a result names; refuse a store, and shards that have changed since the result was made."""
    data = result["data"]
    spec = data.get("shards")
    if not isinstance(spec, str) or not spec:
        raise UsageError("the result names no shards; name them with --shards")
    if is_in_store(spec):
        raise UsageError(f"the shards that the result names are in a store: {brief(spec)}; name them with --shards")
    try:
        opened = ShardSet.open(spec)
    except (UsageError, WorkError) as error:
        why = f"the shards that the result names cannot be opened ({error})"
        raise UsageError(f"{why}; name them with --shards") from None
    if not _are_the_same(opened, data):
        why = f"{spec} holds other videos than those that the result is about"
        raise UsageError(f"{why}; name its shards with --shards")
    return opened


def _are_the_same(opened: ShardSet, data: Mapping[str, Any]) -> bool:
    """Return whether shards hold the videos that a result was measured on, as far as the result says."""
    if data.get("hash") in (None, opened.fingerprint):
        return True
    known, fold = data.get("fingerprints"), data.get("fold") or 1
    if not isinstance(known, dict) or not known or data.get("subset"):
        return False
    try:
        return all(opened.select(_split(name), fold=fold).fingerprint == hash_ for name, hash_ in known.items())
    except UsageError:  # there is no such split any more
        return False


def _split(name: str) -> str | None:
    return None if name == "all" else name
