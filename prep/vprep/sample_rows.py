"""Turn a sample of a tar into its row of the index, and check that everything in the row is true of its frames.

A sample by another program has a row when it holds JPEG pictures: one packed member (.mjpeg), or one member per
frame. In the latter case `offset` and `size` span all of them, and a frame's bytes reach to the start of the next
one: a JPEG decoder stops at the end marker and does not read the tar header behind it.
"""

import re
from itertools import pairwise
from typing import IO, Any

import pyarrow as pa

from vprep.format import INDEX_SCHEMA, JSON_FIELDS, SCHEMA, checks_of, jpeg_header, jpeg_size, split_frames
from vprep.hashing import hash_of
from vprep.json_text import is_count, parse_json
from vprep.limits import MOST_FPS, MOST_JSON, MOST_KEY, MOST_LABEL, MOST_PIXELS, MOST_SIDE, MOST_VIDEO
from vprep.tar_samples import Sample

FRAME = re.compile(r"(?:^|.*\.)(?:jpg|jpeg)$")
DEFAULT_FPS = 25.0
_OUTSIDE = re.compile(r"^/|(?:^|/)\.{1,2}(?:/|$)|\\|[\x00-\x1f\x7f]")  # as a path, such a key leads elsewhere


class SampleError(Exception):
    """A sample that cannot be in an index; the message says why."""


def row_of(file: IO[bytes], sample: Sample) -> dict[str, Any] | None:
    """Return the row of a sample without its shard; None when it holds no JPEG frames."""
    packed = [member for member in sample.members if member[0] == "mjpeg"]
    frames = packed or [member for member in sample.members if FRAME.match(member[0])]
    if not frames:
        return None
    _check_key(sample.key)
    info = _json_of(file, sample)
    begin = frames[0][1]
    size = frames[-1][1] + frames[-1][2] - begin
    if size > MOST_VIDEO:
        raise SampleError(f"its frames take {size} bytes, and {MOST_VIDEO} is the most")
    data = _read(file, begin, size)
    if info.get("schema") == SCHEMA and "frame_offsets" in info:
        columns = _own_columns(info, sample.key, data)
    else:
        columns = _columns_of(info, file, sample, [at - begin for _, at, _ in frames], data)
    return columns | {"key": sample.key, "offset": begin, "size": size}


def _check_key(key: str) -> None:
    if not key or len(key) > MOST_KEY or _OUTSIDE.search(key):
        raise SampleError(f"its name must have 1 to {MOST_KEY} characters, without .. and without / at its start")
    if key != key.encode("utf-8", "replace").decode():
        raise SampleError("its name is not in UTF-8")


def _json_of(file: IO[bytes], sample: Sample) -> dict[str, Any]:
    for extension, at, size in sample.members:
        if extension == "json":
            if size > MOST_JSON:
                raise SampleError(f"its json has {size} bytes, and {MOST_JSON} is the most")
            try:
                info = parse_json(_read(file, at, size))
            except ValueError as error:
                raise SampleError(f"its json cannot be read: {error}") from None
            if not isinstance(info, dict):
                raise SampleError(f"its json holds a {type(info).__name__}; an object is needed")
            return info
    return {}


def _own_columns(info: dict[str, Any], key: str, data: bytes) -> dict[str, Any]:
    """Return the columns in the json of a sample by vprep, after a comparison with its frames."""
    row = {name: info.get(name) for name in JSON_FIELDS}
    for name, value in row.items():
        if value is not None and not _fits(value, INDEX_SCHEMA.field(name).type):
            raise SampleError(f"its json has {name} {_shown(value)}, which is no {INDEX_SCHEMA.field(name).type}")
    if row["hash"] != hash_of(data):
        raise SampleError("its frames differ from what was written")
    if row["key"] != key:
        raise SampleError(f"its json is that of {_shown(row['key'])}")
    offsets = row["frame_offsets"] or []
    if not is_ascending(offsets, len(data)) or row["frames"] != len(offsets) - 1:
        raise SampleError(f"its json has {row['frames']} frames and offsets that do not fit the bytes of its frames")
    if row["frame_checks"] != checks_of(data, offsets):
        raise SampleError("its json has checks of other frames")
    if row["frames"] and common_size(data, offsets) != (row["height"], row["width"]):
        raise SampleError(f"its json has frames of {row['height']}x{row['width']}, and their own size is another one")
    _check_rate(row["fps"])
    _check_label(row["label"])
    return row


def _columns_of(
    info: dict[str, Any], file: IO[bytes], sample: Sample, begins: list[int], data: bytes
) -> dict[str, Any]:
    """Return the columns of a sample by another program."""
    offsets = [*begins, len(data)] if len(begins) > 1 else split_frames(data)
    if not is_ascending(offsets, len(data)):
        raise SampleError("it has an empty frame")
    height, width = common_size(data, offsets) if data else (None, None)
    fps = info.get("fps", DEFAULT_FPS)
    _check_rate(fps)
    return dict.fromkeys(JSON_FIELDS) | {
        "source": _text(info.get("source")) or sample.key,
        "label": _label_of(info, file, sample),
        "class_name": _text(info.get("class_name")),
        "frames": len(offsets) - 1,
        "fps": float(fps),
        "height": height,
        "width": width,
        "damaged": 0,
        "hash": hash_of(data),
        "frame_offsets": offsets,
        "frame_checks": checks_of(data, offsets),
    }


def _label_of(info: dict[str, Any], file: IO[bytes], sample: Sample) -> int | None:
    if "label" in info:
        label = info["label"]
    else:
        texts = (_read(file, at, min(size, 32)) for extension, at, size in sample.members if extension == "cls")
        label = next(texts, b"").decode("ascii", "replace").strip()
    if isinstance(label, str):
        label = int(label) if re.fullmatch(r"-?[0-9]{1,32}", label) else None
    _check_label(label)
    return None if label is None else int(label)


def _check_rate(fps: object) -> None:
    if not isinstance(fps, int | float) or isinstance(fps, bool) or not 0 < fps <= MOST_FPS:
        raise SampleError(f"its fps is {_shown(fps)}; it must be a number above 0, at most {MOST_FPS:g}")


def _check_label(label: object) -> None:
    if label is not None and not is_count(label, MOST_LABEL):
        raise SampleError(f"its label is {_shown(label)}; it must be a whole number from 0 to {MOST_LABEL}")


def is_ascending(offsets: list[int], size: int) -> bool:
    """Return whether frame offsets begin with 0, end with the size of the frames, and every frame has bytes."""
    return bool(offsets) and offsets[0] == 0 and offsets[-1] == size and all(a < b for a, b in pairwise(offsets))


def common_size(data: bytes, offsets: list[int]) -> tuple[int, int]:
    """Return the height and width in the headers of all frames; nothing is decoded."""
    found, known = None, b""  # the bytes of a frame up to its size; most frames of a video share them
    for number, (begin, end) in enumerate(pairwise(offsets)):
        if known and end - begin >= len(known) and data.startswith(known, begin):
            continue
        at = jpeg_header(jpeg := data[begin:end])
        if at is None:
            raise SampleError(f"its frame {number} is no JPEG")
        height, width = size = jpeg_size(jpeg) or (0, 0)
        if not (min(size) > 0 and max(size) <= MOST_SIDE and height * width <= MOST_PIXELS):
            raise SampleError(f"its frame {number} claims {height}x{width} pixels")
        if found is not None and size != found:
            raise SampleError(f"its frame {number} has {height}x{width} pixels, and the first {found[0]}x{found[1]}")
        found, known = size, jpeg[: at + 9]
    return found or (0, 0)


def _fits(value: object, kind: pa.DataType) -> bool:
    """Return whether a value of a json fits a column."""
    if pa.types.is_list(kind):
        return isinstance(value, list) and all(is_count(each, MOST_VIDEO) for each in value)
    if pa.types.is_integer(kind):
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << (kind.bit_width - 1)
    if pa.types.is_floating(kind):
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15
    if pa.types.is_boolean(kind):
        return isinstance(value, bool)
    return _text(value) is not None


def _text(value: object) -> str | None:
    """Return a text that UTF-8 can hold; None for anything else."""
    return value if isinstance(value, str) and value == value.encode("utf-8", "replace").decode() else None


def _shown(value: object) -> str:
    """Return the beginning of a value as it can be printed."""
    return ascii(value)[:60]


def _read(file: IO[bytes], at: int, size: int) -> bytes:
    file.seek(at)
    return file.read(size)
