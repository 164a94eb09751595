"""The neighbours of each query in a result of retrieval.

A result has two lists. `gallery_videos` are the videos that are a neighbour of any query, with key and label.
`videos` are the queries, each with `neighbours`, the numbers of gallery videos, nearest first, and `similarity`, the
cosine of each. On the level of clips both are lists with an entry for each clip of the query, and a gallery video may
come several times. They stand in the result itself, so that one file can be moved and shown; the names of the gallery
are there once, so that the lists of UCF101's 3,783 queries have 1.5 MB.

Q queries, which are clips on the level of clips   N neighbours   K clips of a video
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veval.features.films import film_of
from veval.results.check import videos_of
from veval.results.class_names import name_of
from vprep.errors import UsageError

KEEP = 10
LARGEST = 16 << 20  # bytes of both lists; half of what a result may have
DECIMALS = 6

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a search found: gallery rows, -1 where there are no more, and their cosines."""

    row: Ints  # [Q, N]
    similarity: NDArray[np.float32]  # [Q, N]
    clips: int  # K; a row counts clips, too
    gallery_keys: Sequence[str]
    gallery_label: Ints

    def entries(self, keep: int) -> tuple[list[dict[str, Any]], dict[str, Any]]:
        """Return what a result holds of `keep` neighbours: an entry for each query video, and further lists.

        Where they would be too large for a result, fewer are kept.
        """
        videos, gallery = self._lists(keep)
        while keep and len(json.dumps([videos, gallery])) > LARGEST:
            keep //= 2
            videos, gallery = self._lists(keep)
        return videos, {"keep": keep, "gallery_videos": gallery}

    def _lists(self, keep: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        row_QN = self.row[:, :keep]
        listed, number_QN = np.unique(row_QN[row_QN >= 0] // self.clips), np.full(row_QN.shape, -1)
        number_QN[row_QN >= 0] = np.searchsorted(listed, row_QN[row_QN >= 0] // self.clips)
        of_clips = [
            (number_N[number_N >= 0].tolist(), [round(float(value), DECIMALS) for value in near_N[number_N >= 0]])
            for number_N, near_N in zip(number_QN, self.similarity[:, :keep], strict=True)
        ]
        gallery = [{"key": self.gallery_keys[row], "label": int(self.gallery_label[row])} for row in listed.tolist()]
        return list(self._of_videos(of_clips)) if keep else [], gallery

    def _of_videos(self, of_clips: Sequence[tuple[list[int], list[float]]]) -> Iterator[dict[str, Any]]:
        for begin in range(0, len(of_clips), self.clips):
            numbers, near = zip(*of_clips[begin : begin + self.clips], strict=True)
            single = self.clips == 1
            yield {
                "neighbours": numbers[0] if single else list(numbers),
                "similarity": near[0] if single else list(near),
            }


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """A gallery video beside a query."""

    key: str
    label: str  # name of its class
    similarity: float  # cosine
    is_correct: bool  # of the query's class
    same_content: bool  # the same frames as the query, or the query itself
    same_film: bool  # cut from the same film as the query, as the names of both say


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A query with its neighbours, the nearest first."""

    key: str
    label: str
    clip: int  # number of the clip, from 0; always 0 on the level of videos
    first: int  # rank of the nearest neighbour of the same class, from 1; 0: none among those that were searched
    neighbours: tuple[Neighbour, ...]

    @property
    def is_correct(self) -> bool:
        return self.first == 1


def lateness(query: Query) -> float:
    """Return a number that is lowest for the queries with the latest correct neighbour, or none."""
    return -query.first if query.first else float("-inf")


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbours:
    """All queries of a result of retrieval."""

    queries: list[Query]
    keep: int  # neighbours that the result keeps of each query; fewer where the gallery has fewer
    pool: str | None  # whose features were searched
    level: str  # video or clip
    left_out: str  # "same content" where copies of the query were not searched

    def worst_first(self) -> list[Query]:
        """Return the queries in the order of their rank, those with the latest correct neighbour first."""
        return sorted(self.queries, key=lateness)


def read_neighbours(result: Mapping[str, Any]) -> Neighbours:
    """Return the neighbours in a result that `veval.results.result.read` returned."""
    if result["kind"] != "retrieval" or not result.get("keep") or not result.get("gallery_videos"):
        what = "that does not search" if result["kind"] != "retrieval" else "of an older version, or of --keep 0"
        raise UsageError(f"a result of {result['kind']} {what} lists no neighbours; run veval retrieval again")
    gallery = _Gallery(result)
    return Neighbours(
        queries=[query for video in videos_of(result) if "neighbours" in video for query in gallery.queries(video)],
        keep=result["keep"],
        pool=result["protocol"].get("pool"),
        level=str(result["protocol"].get("level") or "video"),
        left_out=str(result.get("left_out") or "nothing"),
    )


class _Gallery:
    """The gallery videos of a result, with what makes the queries' neighbours from them."""

    def __init__(self, result: Mapping[str, Any]) -> None:
        self._result = result
        self._videos = result["gallery_videos"]
        self._films = [film_of(video["key"]) for video in self._videos]
        pairs = result.get("same_content") or []
        self._copies = {(pair["query"], pair["gallery"]) for pair in pairs}

    def queries(self, video: Mapping[str, Any]) -> Iterator[Query]:
        """Yield the query of a video, or of each of its clips."""
        of_clips = isinstance(video["first"], list)
        lists = [video[name] if of_clips else [video[name]] for name in ("first", "neighbours", "similarity")]
        for clip, (first, numbers, near) in enumerate(zip(*lists, strict=True)):
            pairs = zip(numbers, near, strict=True)
            yield Query(
                key=video["key"],
                label=name_of(self._result, video["label"]),
                clip=clip,
                first=first,
                neighbours=tuple(self._neighbour(video, number, similarity) for number, similarity in pairs),
            )

    def _neighbour(self, query: Mapping[str, Any], number: int, similarity: float) -> Neighbour:
        key, label = self._videos[number]["key"], self._videos[number]["label"]
        film = self._films[number]
        return Neighbour(
            key=key,
            label=name_of(self._result, label),
            similarity=similarity,
            is_correct=label == query["label"],
            same_content=key == query["key"] or (query["key"], key) in self._copies,
            same_film=film is not None and film == film_of(query["key"]),
        )
