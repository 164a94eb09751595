"""Mutations of files as a stranger would make them who wants to be believed; each depends on its seed alone.

mutate_bytes   any file: cut, flipped, overwritten, repeated, random
mutate_value   a JSON value: wrong types, absurd numbers, strange names, entries that are missing
mutate_text    the same as JSON text, with what only a text can hold: deep brackets, keys that appear twice
mutate_table   a table of a parquet file: its columns, types, values, rows and metadata
mutate_parquet the same for the bytes of a parquet file
mutate_zip     the members of a zip, written again with the right sizes and checksums
mutate_tar     the members of a tar, written again with the right checksums of its headers
"""

import io
import json
import math
import random
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

DEEP = (5_000, 200_000)  # brackets
MANY = 1000  # values, of which a JSON value is not made larger by 1,000
STAND_IN = "@@{}@@"  # for brackets that no Python value could hold
NAMES = (
    *("", "..", "../../x", "/etc/passwd", "a/../../b", ".", "a\0b", "a\nb", "\x1b[2J", "\u00e9", "e\u0301", "con"),
    *("x" * 5000, "\U0001f4a5", "canary", "canary:make"),
)
NUMBERS = (
    *(-1, 0, 1, 7, 255, 256, -(2**31), 2**31 - 1, 2**31, 2**32, 2**40, 2**63 - 1, 2**63, -(2**63), 10**30),
    *(0.5, -0.0, 1e-300, 1e308, math.nan, math.inf, -math.inf),
)
OTHERS: tuple[Any, ...] = (None, True, False, [], {}, [[]], [None], {"a": 1}, {"": {}}, "1", "nan", "null")
Piece = list[str | int]  # the keys that lead to a value


def mutate_bytes(data: bytes, seed: int) -> bytes:
    """Return the bytes with one to three changes."""
    rng = random.Random(f"bytes {seed}")
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        data = rng.choice(CHANGES)(data, rng)
    return data


def mutate_value(value: Any, seed: int) -> Any:  # noqa: ANN401  what JSON holds
    """Return a JSON value in which one to three entries are replaced, renamed, removed or repeated."""
    rng = random.Random(f"value {seed}")
    value = json.loads(json.dumps(value))
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        value = _changed(value, rng)
    return value


def mutate_text(value: Any, seed: int) -> bytes:  # noqa: ANN401  what JSON holds
    """Return a JSON value as the bytes of a file, with the value or its text changed."""
    rng = random.Random(f"text {seed}")
    how = rng.randrange(8)
    if how == 0:
        return mutate_bytes(json.dumps(value).encode(), seed)
    if how == 1:
        return json.dumps(value).encode(rng.choice(("utf-16", "utf-32", "utf-8-sig")))
    if how == 2:  # every key twice, the second with another value
        text: str = json.dumps(value)
        other = json.dumps(mutate_value(value, seed))
        return f"{text[:-1]},{other[1:]}".encode() if len(text) > 2 and other.startswith("{") else other.encode()
    if how == 3:
        depth, (begin, end) = rng.choice(DEEP), rng.choice((("[", "]"), ('{"a":', "}")))
        stand_in: str = STAND_IN.format(depth)
        deep: str = begin * depth + ("1" if begin != "[" else "") + end * depth
        text = json.dumps(_put(json.loads(json.dumps(value)), rng.choice(list(_paths(value))), stand_in))
        return text.replace(json.dumps(stand_in), deep).encode()
    return json.dumps(mutate_value(value, seed)).encode()


def mutate_table(table: pa.Table, seed: int) -> pa.Table:
    """Return the table with one to three changes to its columns, types, values, rows or metadata."""
    rng = random.Random(f"table {seed}")
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        table = rng.choice(TABLE_CHANGES)(table, rng)
    return table


def mutate_parquet(data: bytes, seed: int) -> bytes:
    """Return a parquet file whose table is changed and whose format is right, or, one time in four, damaged bytes."""
    if random.Random(f"parquet {seed}").randrange(4) == 0:
        return mutate_bytes(data, seed)
    sink = io.BytesIO()
    # Not read_table, which refuses two columns of one name.
    pq.write_table(mutate_table(pq.ParquetFile(io.BytesIO(data)).read(), seed), sink)
    return sink.getvalue()


def mutate_zip(data: bytes, seed: int, change: Callable[[str, bytes, int], bytes] | None = None) -> bytes:
    """Return a zip with changed members and right checksums. `change` turns a member's name and bytes into others."""
    rng = random.Random(f"zip {seed}")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    at = rng.randrange(len(members))
    name, content = members[at]
    how = rng.randrange(8)
    if how == 0:
        members.pop(at)
    elif how == 1:
        members.append((name, mutate_bytes(content, seed)))  # twice
    elif how == 2:
        members[at] = (rng.choice(NAMES) or "x", content)
    elif how == 3:
        members += [(f"{name}{number}", b"") for number in range(300)]
    else:
        members[at] = (name, change(name, content, seed) if change else mutate_bytes(content, seed))
    kind = zipfile.ZIP_DEFLATED if how == 4 else zipfile.ZIP_STORED
    sink = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(sink, "w", kind) as archive:
        warnings.simplefilter("ignore")  # about a name that is there twice
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name.replace("\0", "0")), content, kind)
    return sink.getvalue()


def mutate_tar(data: bytes, seed: int, change: Callable[[str, bytes, int], bytes] | None = None) -> bytes:
    """Return a tar with changed members and right headers. `change` turns a member's name and bytes into others."""
    rng = random.Random(f"tar {seed}")
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        members = [(member, archive.extractfile(member).read()) for member in archive if member.isfile()]  # type: ignore[union-attr]
    at = rng.randrange(len(members))
    member, content = members[at]
    how = rng.randrange(8)
    if how == 0:
        members.pop(at)
    elif how == 1:
        members.insert(rng.randrange(len(members)), (member, mutate_bytes(content, seed)))  # twice
    elif how == 2:
        member.name = rng.choice(NAMES).replace("\0", "0") or "x"
    elif how == 3:
        member.type = rng.choice((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE))
        member.linkname, content = rng.choice(("/etc/passwd", "../../x", member.name)), b""
        members[at] = (member, content)
    elif how == 4:
        rng.shuffle(members)
    else:
        members[at] = (member, change(member.name, content, seed) if change else mutate_bytes(content, seed))
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w", format=tarfile.GNU_FORMAT) as archive:
        for member, content in members:
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return sink.getvalue()


# ---- bytes


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _flipped(data: bytes, rng: random.Random) -> bytes:
    piece = bytearray(data)
    for _ in range(rng.choice((1, 1, 10, 100)) if piece else 0):
        piece[rng.randrange(len(piece))] ^= 1 << rng.randrange(8)
    return bytes(piece)


def _overwritten(data: bytes, rng: random.Random) -> bytes:
    """Write a number that means something else, as an offset or a length would, over some bytes."""
    at, value = rng.randrange(len(data) + 1), rng.choice((0, 1, 2**31 - 1, 2**32 - 1, 2**40, 2**63, 2**64 - 1))
    width = rng.choice((1, 2, 4, 8))
    return data[:at] + (value % (1 << 8 * width)).to_bytes(width, rng.choice(("little", "big"))) + data[at + width :]


def _repeated(data: bytes, rng: random.Random) -> bytes:
    begin = rng.randrange(len(data) + 1)
    piece = data[begin : begin + rng.choice((1, 16, 512, 4096))]
    at = rng.randrange(len(data) + 1)
    return data[:at] + piece * rng.choice((1, 2, 100)) + data[at:]


def _random(data: bytes, rng: random.Random) -> bytes:
    length = rng.choice((0, 1, 16, 256, 4096))
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.randbytes(length) + data[at + length :]


def _removed(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data) + 1)
    return data[:at] + data[at + rng.choice((1, 16, 512, 4096)) :]


def _swapped(data: bytes, rng: random.Random) -> bytes:
    first, second = sorted(rng.randrange(len(data) + 1) for _ in range(2))
    return data[:first] + data[second:] + data[first:second]


CHANGES = (_cut, _flipped, _overwritten, _repeated, _random, _removed, _swapped)

# ---- JSON


def _paths(value: Any, before: Piece | None = None) -> Iterator[Piece]:  # noqa: ANN401
    """Yield the keys that lead to each value in a JSON value, those of the value itself first."""
    before = before or []
    yield before
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from _paths(inner, [*before, key])


def _put(value: Any, path: Piece, new: Any) -> Any:  # noqa: ANN401
    if not path:
        return new
    value[path[0]] = _put(value[path[0]], path[1:], new)
    return value


def _at(value: Any, path: Piece) -> Any:  # noqa: ANN401
    for key in path:
        value = value[key]
    return value


def _hostile(rng: random.Random, was: Any) -> Any:  # noqa: ANN401
    """Return a value to stand where `was` stood: often of its type, so that it comes further."""
    kind = type(was)
    if kind in (int, float) and rng.randrange(4):
        return rng.choice((*NUMBERS, was + 1, -was, was * 1000))
    if kind is str and rng.randrange(4):
        return rng.choice((*NAMES, was.upper(), f"{was}x", f"../{was}", was * 2))
    return deepcopy(rng.choice((*NUMBERS, *NAMES, *OTHERS)))  # a copy, since later changes go into it


def _changed(value: Any, rng: random.Random) -> Any:  # noqa: ANN401
    paths = list(_paths(value))
    path, many = rng.choice(paths), 1000 if len(paths) < MANY else 2  # two times 1,000 would be a file of 40 MB
    found = _at(value, path)
    how = rng.randrange(6)
    if how == 0 and path and isinstance(inside := _at(value, path[:-1]), dict):
        inside[rng.choice(NAMES)] = inside.pop(path[-1])
    elif how == 1 and path:
        del _at(value, path[:-1])[path[-1]]
    elif how == 2 and isinstance(found, list):
        found *= rng.choice((2, many))
    elif how == 3 and isinstance(found, dict):
        found |= {f"more{number}": _hostile(rng, 0) for number in range(rng.choice((1, many)))}
    else:
        return _put(value, path, _hostile(rng, found))
    return value


# ---- tables


def _without_column(table: pa.Table, rng: random.Random) -> pa.Table:
    return table.remove_column(rng.randrange(table.num_columns)) if table.num_columns > 1 else table


def _renamed_column(table: pa.Table, rng: random.Random) -> pa.Table:
    names = list(table.column_names)
    names[rng.randrange(len(names))] = rng.choice((*NAMES, rng.choice(names)))
    return table.rename_columns(names)


def _other_type(table: pa.Table, rng: random.Random) -> pa.Table:
    at, rows = rng.randrange(table.num_columns), table.num_rows
    column = rng.choice((
        pa.nulls(rows), pa.array([str(row) for row in range(rows)]), pa.array([row + 0.5 for row in range(rows)]),
        pa.array([[row] for row in range(rows)]), pa.array([{"a": row} for row in range(rows)]),
        pa.array([b"\xff"] * rows), pa.array([True] * rows), pa.array([2**63 - 1] * rows),
        pa.array(["x"] * rows).dictionary_encode(),
    ))  # fmt: skip
    return table.set_column(at, table.column_names[at], column)


def _other_values(table: pa.Table, rng: random.Random) -> pa.Table:
    """Put other values of the column's type, or nulls, into some rows."""
    at = rng.randrange(table.num_columns)
    kind, values = table.schema.field(at).type, table.column(at).to_pylist()
    for row in range(len(values)):
        if rng.randrange(2):
            values[row] = rng.choice((None, *(_hostile(rng, values[row]) for _ in range(3))))
    safe = [value if _fits(value, kind) else None for value in values]
    safe = safe if _fits(safe, pa.list_(kind)) else [None] * len(safe)
    return table.set_column(at, table.schema.field(at), pa.array(safe, kind))


def _fits(value: Any, kind: pa.DataType) -> bool:  # noqa: ANN401
    try:
        pa.array([value], kind)
    except (pa.ArrowException, OverflowError, ValueError, TypeError):
        return False
    return True


def _other_rows(table: pa.Table, rng: random.Random) -> pa.Table:
    how, rows = rng.randrange(4), list(range(table.num_rows))
    if how == 0:
        return table.slice(0, 0)
    if how == 1:
        rows = rows[::-1]
    elif how == 2 and rows:
        rows = [rng.choice(rows) for _ in rows]
    else:
        rows = rows * (50 if len(rows) < 100 else 2)
    return table.take(pa.array(rows, pa.int64()))


def _other_metadata(table: pa.Table, rng: random.Random) -> pa.Table:
    found = dict(table.schema.metadata or {b"": b"{}"})
    key = rng.choice(sorted(found))
    try:
        found[key] = mutate_text(json.loads(found[key]), rng.randrange(2**32))
    except (ValueError, RecursionError):
        found[key] = mutate_bytes(found[key], rng.randrange(2**32))
    return table.replace_schema_metadata({} if rng.randrange(6) == 0 else found)


TABLE_CHANGES = (
    *(_without_column, _renamed_column, _other_type, _other_values, _other_values, _other_rows, _other_metadata),
)
