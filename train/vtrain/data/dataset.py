"""The selected videos as arrays: all that the loader needs to find and decode a video, about 70 bytes each."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from vprep.errors import UsageError
from vprep.hashing import hash_of
from vtrain.data.cache.remote import Remote
from vtrain.data.order import seed_from
from vtrain.data.sampling import Video
from vtrain.data.shard_spec import Part

PER_VIDEO = ("shard", "offset", "frames", "label", "fps", "height", "width")  # the arrays of `Videos`
NO_LABEL = -1  # in an array of labels


@dataclass(frozen=True, eq=False)
class FrameIndex:
    """Byte offsets and checksums of all frames, for shards that do not hold these beside the frames.

    The shards of vprep hold them. For shards of other tools, these columns of the index are kept in memory.
    """

    starts: npt.NDArray[np.int64]  # where each video begins in `offsets`; one entry more than there are videos
    offsets: npt.NDArray[np.uint32]  # of frames, counted from the video's own offset; one more than its frames
    checks: list[str]  # one string for each video

    def of(self, row: int) -> tuple[list[int], str]:
        """Return the offsets and the checks of one video."""
        return self.offsets[self.starts[row] : self.starts[row + 1]].tolist(), self.checks[row]

    def take(self, rows: npt.NDArray[np.integer[Any]]) -> "FrameIndex":
        """Return the entries of the videos `rows`."""
        starts, ends = self.starts[rows], self.starts[rows + 1]
        numbers = np.concatenate([np.arange(a, b) for a, b in zip(starts, ends, strict=True)] or [rows[:0]])
        counts = np.concatenate([[0], np.cumsum(ends - starts)])
        return FrameIndex(counts, self.offsets[numbers], [self.checks[row] for row in rows])


@dataclass(frozen=True, eq=False)
class Videos:
    """Videos of one or more sets, in the order of their indexes."""

    paths: list[Path]  # of the shards
    sizes: list[int]  # of the shards in bytes
    keys: pa.StringArray
    shard: npt.NDArray[np.int32]  # index into `paths`
    offset: npt.NDArray[np.int64]  # of the first frame's bytes in the shard
    frames: npt.NDArray[np.int32]
    label: npt.NDArray[np.int32]
    fps: npt.NDArray[np.float32]
    height: npt.NDArray[np.int16]
    width: npt.NDArray[np.int16]
    classes: list[str] | None  # names by label; None if the sets have different classes
    frame_index: FrameIndex | None  # None when the shards hold these themselves
    remote: Remote | None = None  # None when all shards are on this machine

    def __len__(self) -> int:
        return len(self.offset)

    @property
    def fingerprint(self) -> str:
        """A hash of the keys, labels and byte positions in the index, which identify the content."""
        numbers = (self.shard, self.offset, self.frames, self.label)
        names = "\n".join(self.keys.to_pylist()).encode() + repr(self.sizes).encode()
        return hash_of(names + b"".join(array.tobytes() for array in numbers))

    @property
    def frame_sizes(self) -> list[tuple[int, int]]:
        """Each height and width of frames in pixels, once."""
        return [(tall, wide) for tall, wide in np.unique(np.stack([self.height, self.width]), axis=1).T.tolist()]

    def name_of(self, shard: int) -> str:
        """Return the path of a shard, or its URL."""
        found = None if self.remote is None else self.remote.shards[shard]
        return str(self.paths[shard]) if found is None else found.url

    def set_of(self, shard: int) -> str:
        """Return the path or the URL of the folder that a shard is in."""
        return folder_of(self.name_of(shard))

    def take(self, rows: npt.NDArray[np.integer[Any]]) -> "Videos":
        """Return the videos `rows`, in that order."""
        chosen = {name: getattr(self, name)[rows] for name in PER_VIDEO}
        frame_index = None if self.frame_index is None else self.frame_index.take(rows)
        remote = None if self.remote is None else self.remote.take(rows)
        return replace(self, keys=self.keys.take(pa.array(rows)), frame_index=frame_index, remote=remote, **chosen)

    def __getitem__(self, row: int) -> Video:
        label = int(self.label[row])
        return Video(
            key=self.keys[row].as_py(),
            frames=int(self.frames[row]),
            fps=float(self.fps[row]),
            height=int(self.height[row]),
            width=int(self.width[row]),
            label=None if label == NO_LABEL else label,
        )


def videos_of(parts: list[Part], tables: list[pa.Table], classes: list[str] | None) -> Videos:
    """Make `Videos` of rows of the index, one table for each part; without `classes` no video has a label."""
    rows = pa.concat_tables(tables, promote_options="default")
    label = as_array(rows["label"], NO_LABEL, np.int32)
    return Videos(
        paths=[part.folder / shard["name"] for part in parts for shard in part.shards],
        sizes=[shard["bytes"] for part in parts for shard in part.shards],
        keys=pa.concat_arrays(rows["key"].chunks) if rows["key"].num_chunks else pa.array([], pa.string()),
        shard=_shard_numbers(parts, tables),
        offset=as_array(rows["offset"], 0, np.int64),
        frames=as_array(rows["frames"], 0, np.int32),
        label=label if classes is not None else np.full_like(label, NO_LABEL),
        fps=as_array(rows["fps"], 0, np.float32),
        height=as_array(rows["height"], 0, np.int16),
        width=as_array(rows["width"], 0, np.int16),
        classes=classes,
        frame_index=_frame_index(rows),
        remote=_remote(parts, rows),
    )


def folder_of(shard: str) -> str:
    """Return the folder in the path or the URL of a shard."""
    return shard.rpartition("/")[0]


def _remote(parts: list[Part], rows: pa.Table) -> Remote | None:
    """Return what is to be known of shards in stores; None when no part has any."""
    place = next((part.remote.place for part in parts if part.remote is not None), None)
    if place is None:
        return None
    shards = [None if part.remote is None else part.remote.shard(shard) for part in parts for shard in part.shards]
    return Remote(shards, as_array(rows["size"], 0, np.int64), pa.concat_arrays(rows["hash"].chunks), place)


def _shard_numbers(parts: list[Part], tables: list[pa.Table]) -> npt.NDArray[np.int32]:
    """Return for each row the number of its shard, counted through all parts."""
    numbers, first = [np.empty(0, np.int32)], 0
    for part, table in zip(parts, tables, strict=True):
        names = pa.array([shard["name"] for shard in part.shards])
        numbers.append(first + as_array(pc.index_in(table["shard"], names), 0, np.int32))
        first += len(part.shards)
    return np.concatenate(numbers)


def as_array(column: pa.ChunkedArray, null: int, kind: type[np.number[Any]]) -> npt.NDArray[Any]:
    """Return a column as an array of `kind`, with `null` for what is not known."""
    return pc.fill_null(column, null).to_numpy().astype(kind)  # type: ignore[no-any-return]


def _frame_index(rows: pa.Table) -> FrameIndex | None:
    """Return the frame index of the rows that have one; other rows have no offsets and no checks."""
    if "frame_offsets" not in rows.column_names:
        return None
    offsets, checks = rows["frame_offsets"], rows["frame_checks"]
    lengths = as_array(pc.list_value_length(offsets), 0, np.int64)
    flat = pc.list_flatten(offsets).to_numpy().astype(np.uint32)
    return FrameIndex(np.concatenate([[0], np.cumsum(lengths)]), flat, [text or "" for text in checks.to_pylist()])


By = Literal["video", "group"]

GROUP = re.compile(r"_g(\d+)_c\d+")  # UCF101: the clips of a group were cut from the same film


def held_out(videos: Videos, count: int, by: By = "video", seed: int = 0) -> tuple[Videos, Videos]:
    """Hold out `count` random videos: return the other videos, then the held-out ones.

    With by="group" complete groups are held out until there are at least `count` videos. The clips of a group are
    similar: with some of them in the training set, a measurement on the others says little. For the same reason videos
    that have the same key in several sets are held out together.
    """
    if not 0 <= count < len(videos):
        raise UsageError(f"data.hold_out is {count} of {len(videos)} videos; it must be from 0 to {len(videos) - 1}")
    keys = videos.keys.to_pylist()
    groups = keys if by == "video" else [_group(key) for key in keys]
    order = sorted(set(groups), key=lambda group: seed_from(seed, "held out", group))
    rows: dict[str, list[int]] = {}
    for row, group in enumerate(groups):
        rows.setdefault(group, []).append(row)
    held: list[int] = []
    for group in order:
        if len(held) >= count:
            break
        held += rows[group]
    if count and len(held) == len(videos):
        raise UsageError(f"the {len(order)} groups are too large to hold out {count} videos; set data.hold_out lower")
    kept = np.ones(len(videos), bool)
    kept[held] = False
    return videos.take(np.flatnonzero(kept)), videos.take(np.flatnonzero(~kept))


def _group(key: str) -> str:
    found = GROUP.search(key)
    if found is None:
        raise UsageError(f"video '{key}' has no group in its name, as in v_Archery_g01_c02; set data.hold_out_by=video")
    return found[1]
