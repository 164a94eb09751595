"""Find values in rows of an index that cannot be true of any video, whole columns at a time."""

import math
from collections.abc import Callable, Iterator

import pyarrow as pa
import pyarrow.compute as pc

from vprep.limits import MOST_FPS, MOST_LABEL, MOST_PIXELS, MOST_SIDE, MOST_VIDEO
from vprep.text import brief


def row_faults(rows: pa.Table, shard_bytes: int | None = None) -> Iterator[tuple[str, str]]:
    """Yield the key and the fault of the first wrong row for each rule; only the columns that are there are checked.

    `shard_bytes` is the size of the shard when all rows are of one.
    """
    rules = dict(_RULES)
    if shard_bytes is not None and {"offset", "size"} <= set(rows.column_names):
        rules["offset"] = (_within(0, shard_bytes), f"must be a place in a shard of {shard_bytes} bytes")
    for name, (right, wanted) in rules.items():
        if name not in rows.column_names:
            continue
        good = pc.fill_null(right(rows[name]), _FALSE)
        if not pc.all(good, min_count=0).as_py():
            at = pc.index(good, False).as_py()
            yield _key(rows, at), f"has {name} {_shown(rows[name][at].as_py())}, which {wanted}"
    yield from _size_faults(rows)


def _size_faults(rows: pa.Table) -> Iterator[tuple[str, str]]:
    """Yield videos whose frames are too large, or more than their bytes; a video without frames needs no size."""
    if {"height", "width", "frames"} <= set(rows.column_names):
        height, width = (rows[name].cast(pa.int64()) for name in ("height", "width"))
        sides = pc.and_(_SIDE(height), _SIDE(width))
        right = pc.and_kleene(sides, pc.less_equal(pc.multiply(height, width), _PIXELS))
        right = pc.or_kleene(pc.fill_null(right, _FALSE), pc.equal(rows["frames"], _ZERO))
        yield from _first_false(rows, right, ("height", "width"))
    if {"size", "frames"} <= set(rows.column_names):
        yield from _first_false(rows, pc.less_equal(rows["frames"].cast(pa.int64()), rows["size"]), ("frames", "size"))


def _first_false(rows: pa.Table, right: pa.ChunkedArray, names: tuple[str, str]) -> Iterator[tuple[str, str]]:
    good = pc.fill_null(right, _FALSE)
    if pc.all(good, min_count=0).as_py():
        return
    at = pc.index(good, False).as_py()
    first, second = (rows[name][at].as_py() for name in names)
    yield _key(rows, at), f"has {names[0]} {_shown(first)} and {names[1]} {_shown(second)}, which cannot be"


def _shown(value: object) -> str:
    return "null" if value is None else brief(str(value))


def _key(rows: pa.Table, at: int) -> str:
    key = rows["key"][at].as_py() if "key" in rows.column_names else None
    return "(no key)" if key is None else brief(key)


def _within(low: float, high: float) -> Callable[[pa.ChunkedArray], pa.ChunkedArray]:
    least, most = pa.scalar(low), pa.scalar(high)  # made once: Arrow looks for pandas at each conversion
    return lambda column: pc.and_(pc.greater_equal(column, least), pc.less_equal(column, most))


def _known(right: Callable[[pa.ChunkedArray], pa.ChunkedArray]) -> Callable[[pa.ChunkedArray], pa.ChunkedArray]:
    return lambda column: pc.or_kleene(pc.is_null(column), right(column))


_ZERO, _FALSE, _PIXELS = pa.scalar(0), pa.scalar(False), pa.scalar(MOST_PIXELS)
_SIDE = _within(1, MOST_SIDE)
_NUMBER = (_known(_within(-1e12, 1e12)), "must be a number")
_RULES: dict[str, tuple[Callable[[pa.ChunkedArray], pa.ChunkedArray], str]] = {
    "key": (lambda column: pc.greater(pc.binary_length(column), _ZERO), "must be a name"),
    "shard": (lambda column: pc.match_substring_regex(column, r"^[^/\\]+\.tar$"), "must be the name of a tar"),
    "offset": (_within(0, 1 << 62), "must be from 0 on"),
    "size": (_within(0, MOST_VIDEO), f"must be from 0 to {MOST_VIDEO}"),
    "frames": (_within(0, 1 << 31), "must be from 0 on"),
    "fps": (_within(math.ulp(0), MOST_FPS), f"must be above 0, at most {MOST_FPS:g}"),
    "label": (_known(_within(0, MOST_LABEL)), f"must be from 0 to {MOST_LABEL}"),
    **dict.fromkeys(
        ("start", "end", "source_fps", "source_seconds"), (_known(_within(-1e12, 1e12)), "must be a number")
    ),
}
