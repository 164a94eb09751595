"""Check that the content of a dataset.json has the right types, before any of it is used."""

import math
from collections.abc import Callable, Iterator
from typing import Any

from vprep.json_text import is_count
from vprep.limits import MOST_NAME, MOST_SIDE

_Right = Callable[[object], bool]


def dataset_fault(info: object) -> str:
    """Return what is wrong with the content of a dataset.json; empty when nothing is."""
    if not isinstance(info, dict):
        return "it holds no object"
    return next(_faults(info), "")


def _faults(info: dict[str, Any]) -> Iterator[str]:
    for name, (right, wanted) in _FIELDS.items():
        if name not in info and name not in _REQUIRED:
            continue
        if not right(info.get(name)):
            yield f"its '{name}' is not {wanted}"
    for name in ("files", "shards"):
        entries = info.get(name)
        names = [entry["name"] for entry in entries] if isinstance(entries, list) and _is_files(entries) else []
        if len(set(names)) < len(names):
            yield f"its '{name}' has a name twice"


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_plain_name(value: object) -> bool:
    if not isinstance(value, str) or value in ("", ".", "..") or set(value) & {"/", "\\", "\0"}:
        return False
    return len(value.encode("utf-8", "replace")) <= MOST_NAME


def _is_file(value: object) -> bool:
    return isinstance(value, dict) and _is_plain_name(value.get("name")) and is_count(value.get("bytes"))


def _is_files(value: object) -> bool:
    return isinstance(value, list) and all(_is_file(each) and _is_text(each.get("hash")) for each in value)


def _is_shards(value: object) -> bool:
    if not isinstance(value, list) or not _is_files(value):
        return False
    return all(each["name"].endswith(".tar") and is_count(each.get("videos")) for each in value)


def _is_splits(value: object) -> bool:
    if not isinstance(value, dict) or not all(isinstance(counts, dict) for counts in value.values()):
        return False
    return all(is_count(count) for counts in value.values() for count in counts.values())


def _is_settings(value: object) -> bool:
    if not isinstance(value, dict):
        return False
    sides = [value.get(name) for name in ("height", "width", "short_side")]
    fps = value.get("fps", "native")
    rate = fps == "native" or (type(fps) in (int, float) and math.isfinite(fps) and fps > 0)
    return (
        all(side is None or is_count(side, MOST_SIDE) for side in sides) and rate and _is_text(value.get("layout", ""))
    )


_REQUIRED = ("videos", "classes", "shards")
_COUNT = (is_count, "a number from 0 on")
_FIELDS: dict[str, tuple[_Right, str]] = {
    **dict.fromkeys(("videos", "failures", "frames", "damaged", "bytes"), _COUNT),
    "classes": (_is_texts, "a list of names"),
    "settings": (_is_settings, "an object of settings as vprep shard writes them"),
    "splits": (_is_splits, "an object of counts"),
    "files": (_is_files, "a list of name, bytes and hash, with plain file names"),
    "shards": (_is_shards, "a list of name, bytes, hash and videos, with plain names of tars"),
}
