"""Something-Something V2: `<id>.webm`, and json lists of {"id": "1", "template": "Pushing [something]"}."""

import re
from pathlib import Path
from typing import Any, NamedTuple

from vprep.errors import UsageError
from vprep.layouts.by_name import Listed, Names, match
from vprep.layouts.classes import read_classes, spellings, unknown_class
from vprep.layouts.listing import Listing
from vprep.layouts.lists import SPLIT_WORDS, find, none_found, read_json
from vprep.layouts.source import Source

_PREFIX = "something-something-v2-"
_LIST = re.compile(rf"(?:{_PREFIX})?(train|val|validation|test)\.json")
_LABELS = re.compile(rf"(?:{_PREFIX})?labels\.json")
_FIRST_BYTES = 4096  # enough of a json to recognise such a list


class _Row(NamedTuple):
    video: Any
    template: Any


def fits(source: Source) -> bool:
    """Return whether the lists are there; a json without the usual prefix must also begin like such a list."""
    return any(path.name.startswith(_PREFIX) or _begins_as_a_list(path) for path in find(source, _LIST))


def read(source: Source) -> Listing:
    """Return every video with its class and its split; the videos of the test list have no class."""
    lists = find(source, _LIST)
    if not lists:
        raise none_found(source, "ssv2", f"{_PREFIX}train.json, {_PREFIX}validation.json or {_PREFIX}test.json")
    names = Names()
    for path in lists:
        _add(names, path)
    used = sorted({video.class_name for video in names.listed.values() if video.class_name is not None})
    labels = source.labels or next(iter(find(source, _LABELS)), None)
    classes = used if labels is None else read_classes(labels)
    if labels is not None and (extra := sorted(set(used) - set(classes))):
        raise unknown_class("class", extra[0], classes, labels)
    return match(source, names, classes, spellings(classes))


def _add(names: Names, path: Path) -> None:
    """Add the entries of one list to `names`."""
    kind = _LIST.fullmatch(path.name)
    rows = read_json(path, lambda entry: _Row(entry.get("id"), entry.get("template")))
    if kind is None or not isinstance(rows, list):
        raise UsageError(f'{path} is not a list of entries; [{{"id": "1", "template": "..."}}, ...] is needed')
    split = SPLIT_WORDS[kind[1]]
    for number, row in enumerate(rows, 1):
        if not isinstance(row, _Row) or not isinstance(row.video, str | int):
            raise UsageError(f"{path}, entry {number}: no id; each entry needs one")
        if not isinstance(row.template, str) and split != "test":
            raise UsageError(f"{path}, entry {number}: no template; each entry of the {split} list needs one")
        class_name = row.template.replace("[", "").replace("]", "") if isinstance(row.template, str) else None
        names.add(path, number, Listed(str(row.video), class_name), 0, split)


def _begins_as_a_list(path: Path) -> bool:
    with path.open("rb") as file:
        first = file.read(_FIRST_BYTES).lstrip()
    return first.startswith(b"[") and b'"id"' in first
