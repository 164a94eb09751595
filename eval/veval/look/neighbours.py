"""The nearest videos of queries (RSPNet's figure 4, ASCNet's figure 3, PRP's figure 7), from a result of retrieval.

T frames of a tile, H W height and width
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from veval.look.figure import Figure, Pixels, Row, Tile
from veval.results.neighbours import Neighbour, Neighbours, Query
from vprep.errors import UsageError, WorkError, close_to
from vtrain.data.dataset import Videos
from vtrain.data.frames import read_frames
from vtrain.data.order import seed_from
from vtrain.data.shard_reader import BadSampleError, ShardReader

Order = Literal["random", "worst"]
FRAMES, SECONDS = 12, 2.0  # of a tile that plays, from the middle of the video
TILE = 176
EXPLAINED = "A tick and a solid border: the query's class. A cross and a dashed border: another class."


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which queries to show, and how many neighbours of each."""

    keys: Sequence[str] = ()
    classes: Sequence[str] = ()
    count: int = 4
    order: Order = "random"
    seed: int = 0
    neighbours: int = 5

    def queries(self, found: Neighbours) -> list[Query]:
        """Return the queries to show."""
        if self.keys:
            return [self._query(key, found) for key in self.keys]
        known = {query.label for query in found.queries}
        for name in self.classes:
            if name not in known:
                raise UsageError(f"no query of the result is of class '{name}'{close_to(name, known)}")
        rest = [query for query in found.worst_first() if not self.classes or query.label in self.classes]
        if self.order == "random":
            rest.sort(key=lambda query: seed_from(self.seed, "look", query.key, query.clip))
        return rest[: self.count]

    def _query(self, key: str, found: Neighbours) -> Query:
        query = next((query for query in found.queries if query.key == key), None)
        if query is None:
            raise UsageError(f"the result has no query '{key}'{close_to(key, [query.key for query in found.queries])}")
        return query


@dataclass(slots=True)
class Pictures:
    """Frames of videos, which several rows may show."""

    videos: Videos
    moves: bool
    _reader: ShardReader = field(init=False)
    _rows: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self._reader = ShardReader(self.videos)
        self._rows = {key: row for row, key in enumerate(self.videos.keys.to_pylist())}

    def of(self, key: str) -> tuple[Pixels | None, str]:
        """Return the frames [T, H, W, 3] of a video; None and a reason where there are none."""
        row = self._rows.get(key)
        if row is None:
            return None, "not in the shards"
        numbers = _middle(int(self.videos.frames[row]), float(self.videos.fps[row]), FRAMES if self.moves else 1)
        try:
            shown = read_frames(self.videos, self._reader, row, sorted(set(numbers)))
        except (BadSampleError, WorkError):
            return None, "cannot be read"
        return np.stack(shown).astype(np.uint8), ""


def figure(
    result: Mapping[str, Any], found: Neighbours, videos: Videos, asked: Asked, *, tile: int | None = None,
    moves: bool = False,
) -> Figure:  # fmt: skip
    """Return the figure: a row for each query, with its neighbours, the nearest first."""
    pictures, shown = Pictures(videos, moves), min(asked.neighbours, found.keep)
    queries = asked.queries(found)
    weights, data = result["weights"], result["data"]
    near = "cosine of " + (found.pool or "features") + f" on the level of {found.level}s"
    return Figure(
        title="Nearest videos",
        columns=["query", *(f"{number + 1}. neighbour" for number in range(shown))],
        rows=[_row(query, shown, pictures) for query in queries],
        about=[_about(query, shown) for query in queries],
        notes=[
            f"{EXPLAINED} Below each picture: {near}, class and name.",
            f"weights {weights.get('path')} ({weights.get('method')}, {weights.get('backbone')}), data "
            f"{data.get('name')}, fold {data.get('fold')}, top-1 {result['top1']:.1f} % of {result['queries']} queries",
        ],
        tile=tile or TILE,
        seconds=SECONDS,
    )


def _row(query: Query, shown: int, pictures: Pictures) -> Row:
    seen, why = pictures.of(query.key)
    tiles = [Tile(clip=seen, still=_still(seen), caption="\n".join(filter(None, (query.label, query.key, why))))]
    tiles += [_tile(neighbour, pictures) for neighbour in query.neighbours[:shown]]
    right = sum(neighbour.is_correct for neighbour in query.neighbours[:shown])
    clip = f", clip {query.clip}" if query.clip else ""
    return Row(label=f"{query.key}{clip}: {right} of {len(tiles) - 1} are of its class", tiles=tiles)


def _tile(neighbour: Neighbour, pictures: Pictures) -> Tile:
    seen, why = pictures.of(neighbour.key)
    same = "same content" if neighbour.same_content else "same film" if neighbour.same_film else ""
    near = ", ".join(filter(None, (f"{neighbour.similarity:.3f}", same, why)))
    return Tile(
        clip=seen,
        still=_still(seen),
        mark="right" if neighbour.is_correct else "wrong",
        caption="\n".join((near, neighbour.label, neighbour.key)),
    )


def _still(seen: Pixels | None) -> int:
    return 0 if seen is None else len(seen) // 2


def _middle(frames: int, fps: float, count: int) -> list[int]:
    """Return evenly spaced frames from the middle of a video, at its own speed."""
    length = max(1, min(frames, round(SECONDS * (fps if fps > 0 else 25))))
    first = (frames - length) // 2
    return [first + length // 2] if count == 1 else [first + number * length // count for number in range(count)]


def _about(query: Query, shown: int) -> dict[str, Any]:
    return {
        "key": query.key,
        "class": query.label,
        "clip": query.clip,
        "first": query.first,
        "neighbours": [
            {
                "key": neighbour.key, "class": neighbour.label, "similarity": neighbour.similarity,
                "correct": neighbour.is_correct, "same_content": neighbour.same_content,
                "same_film": neighbour.same_film,
            }
            for neighbour in query.neighbours[:shown]
        ],
    }  # fmt: skip
