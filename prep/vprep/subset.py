"""Select a part of a set, by a rule that a paper can name.

kinetics100        the 100 classes whose training videos take the fewest bytes (the rule of RSPNet's authors)
mini-kinetics200   the 200 classes with the most training videos, or exactly the videos of the authors' id lists
classes:FILE       the classes of a file, one name per line
keys:FILE          the videos of a file, one key per line

The result is a parquet file of key, shard, label, class_name and source_label. Its labels count from 0, in the order
of the class names.
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vprep.atomic import atomic_write
from vprep.errors import UsageError, close_to, writing
from vprep.format import INDEX_SCHEMA, read_dataset
from vprep.hashing import hash_of
from vprep.index_rows import batches
from vprep.layouts.classes import class_of_folder, read_classes, spellings
from vprep.layouts.kinetics import ID_LENGTH, youtube_id
from vprep.layouts.lists import bad_line, lines

ID_LISTS = ("train_ytid_list.txt", "val_ytid_list.txt")

SHOWN = 3  # unknown names in a message
COLUMNS = ("key", "shard", "label", "class_name", "split1", "source", "source_bytes")
SUBSET_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("shard", pa.string()),
        ("label", pa.int32()),
        ("class_name", pa.string()),
        ("source_label", pa.int32()),
    ]
)


Choose = Callable[[pa.Table, Path, Path], pa.Table]
"""A rule: it takes all rows, the folder of the set and the file behind its colon, and returns the chosen rows."""


def subset(folder: Path, rule: str, out: Path, *, ids: Path | None = None) -> dict[str, Any]:
    """Write the videos that `rule` chooses to `out`, and return their counts."""
    choose, file = _read_rule(rule)
    if ids is not None and rule != "mini-kinetics200":
        raise UsageError(f"--ids is only for --rule mini-kinetics200, and the rule is '{rule}'; leave --ids out")
    listed = None if ids is None else _read_ids(ids)
    empty = pa.schema([INDEX_SCHEMA.field(name) for name in COLUMNS]).empty_table()
    rows = pa.concat_tables([empty, *batches(folder, COLUMNS)])
    chosen = choose(rows, folder, file) if listed is None else _with_ids(rows, folder, listed)
    notes = {"rule": rule, "set": _hash(folder)}
    info: dict[str, Any] = {"rule": rule, "out": str(out), "set": notes["set"], "videos": chosen.num_rows}
    if listed is not None:
        notes["ids"] = hash_of("\n".join(sorted(listed)).encode())
        info |= {"ids": len(listed), "ids_absent": len(listed - set(map(youtube_id, chosen["source"].to_pylist())))}
    table = _relabelled(chosen)
    _write(table.replace_schema_metadata(notes), out)
    return info | {"classes": pc.count_distinct(table["class_name"]).as_py()}


def _read_rule(text: str) -> tuple[Choose, Path]:
    name, colon, file = text.partition(":")
    choose = RULES.get(name + colon)
    if choose is None or bool(colon) != bool(file):
        rules = ", ".join(f"{name}FILE" if name.endswith(":") else name for name in RULES)
        raise UsageError(f"no rule '{text}'; there are {rules}")
    return choose, Path(file)


def _training(rows: pa.Table) -> pa.Table:
    """Return the training videos with a class; all videos with a class when the set has no splits."""
    with_class = rows.filter(pc.is_valid(rows["class_name"]))
    if rows["split1"].null_count == rows.num_rows:
        return with_class
    return with_class.filter(pc.equal(with_class["split1"], "train"))


def _ranked(rows: pa.Table, folder: Path, weights: Counter[str], count: int, rule: str) -> pa.Table:
    """Return the rows of the `count` classes with the largest weights."""
    if len(weights) < count:
        what = f"{folder} has {len(weights)} classes with training videos"
        raise UsageError(f"{what}, and rule {rule} needs {count} or more; use another set, or classes:FILE")
    names = sorted(weights, key=lambda name: (-weights[name], name))[:count]
    return rows.filter(pc.is_in(rows["class_name"], pa.array(names)))


def _kinetics100(rows: pa.Table, folder: Path, _: Path) -> pa.Table:
    training = _training(rows)
    if training["source_bytes"].null_count:
        what = f"the index of {folder} lacks the size of {training['source_bytes'].null_count} source files"
        raise UsageError(f"{what}, which rule kinetics100 needs; use a set made by vprep shard")
    weights: Counter[str] = Counter()
    for name, size in zip(training["class_name"].to_pylist(), training["source_bytes"].to_pylist(), strict=True):
        weights[name] -= size
    return _ranked(rows, folder, weights, 100, "kinetics100")


def _mini_kinetics200(rows: pa.Table, folder: Path, _: Path) -> pa.Table:
    return _ranked(rows, folder, Counter(_training(rows)["class_name"].to_pylist()), 200, "mini-kinetics200")


def _read_ids(path: Path) -> set[str]:
    files = [path / name for name in ID_LISTS] if path.is_dir() else [path]
    ids = set()
    for file in files:
        for number, line in lines(file):
            if len(line) != ID_LENGTH:
                raise bad_line(file, number, f"'{line}' where a YouTube id of {ID_LENGTH} characters is needed")
            ids.add(line)
    return ids


def _with_ids(rows: pa.Table, folder: Path, ids: set[str]) -> pa.Table:
    chosen = rows.filter(pa.array([youtube_id(source) in ids for source in rows["source"].to_pylist()], pa.bool_()))
    if not chosen.num_rows:
        raise UsageError(f"none of the {len(ids)} ids is in {folder}; its files must be named by their YouTube ids")
    return chosen


def _by_classes(rows: pa.Table, folder: Path, file: Path) -> pa.Table:
    known = [name for name in pc.unique(rows["class_name"]).to_pylist() if name is not None]
    spelt = spellings(known)
    wanted = {name: class_of_folder(name, spelt) for name in read_classes(file)}
    _refuse_unknown("classes", [name for name, found in wanted.items() if found is None], known, folder, file)
    return rows.filter(pc.is_in(rows["class_name"], pa.array([name for name in wanted.values() if name])))


def _by_keys(rows: pa.Table, folder: Path, file: Path) -> pa.Table:
    wanted = [line for _, line in lines(file)]
    if not wanted:
        raise UsageError(f"{file} is empty; a list of keys has one key per line")
    known = set(rows["key"].to_pylist())
    _refuse_unknown("keys", [key for key in wanted if key not in known], sorted(known), folder, file)
    return rows.filter(pc.is_in(rows["key"], pa.array(wanted)))


def _refuse_unknown(kind: str, names: list[str], known: list[str], folder: Path, file: Path) -> None:
    if names:
        few = ", ".join(f"'{name}'" for name in names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
        raise UsageError(f"{len(names)} {kind} of {file} are not in {folder}: {few}{close_to(names[0], known)}")


def _relabelled(rows: pa.Table) -> pa.Table:
    names = rows["class_name"].to_pylist()
    labels = {name: label for label, name in enumerate(sorted({name for name in names if name is not None}))}
    columns = [rows["key"], rows["shard"], [labels.get(name) for name in names], names, rows["label"]]
    return pa.table(columns, schema=SUBSET_SCHEMA)


def _hash(folder: Path) -> str:
    try:
        return str(read_dataset(folder)["hash"])
    except UsageError:
        return ""


def _write(table: pa.Table, out: Path) -> None:
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(out) as file:
            pq.write_table(table, file, compression="zstd")


RULES: dict[str, Choose] = {
    "kinetics100": _kinetics100,
    "mini-kinetics200": _mini_kinetics200,
    "classes:": _by_classes,
    "keys:": _by_keys,
}
