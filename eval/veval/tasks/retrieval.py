"""Retrieval: a query is correct among k when one of the k nearest gallery videos has its class.

Büchler et al. (ECCV 2018) and Xu et al. (VCOP, CVPR 2019) introduced it, with cosines of the mean feature of ten clips.

Q queries   G gallery   K clips of a video   D feature   N neighbours
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from veval.evaluation import Progress, nothing
from veval.features.table import PART, Features, Ints, by_video, refuse_unusable
from veval.results.neighbours import Found
from veval.tasks.neighbours import Nearest, nearest
from vprep.errors import UsageError

Level = Literal["video", "clip"]
LeaveOut = Literal["nothing", "same content"]

KS = (1, 5, 10, 20, 50)
SHOWN = 50  # neighbours that are returned, at least


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieved:
    """The nearest neighbours of the queries, and which queries were correct.

    On the level of clips each clip is a query: `first` and `neighbours` have K rows for each of `keys`, whose
    neighbours are clips of the gallery, K for each video.
    """

    ks: tuple[int, ...]
    keys: list[str]  # of the queries with a label
    label: Ints
    gallery_keys: list[str]
    gallery_label: Ints
    clips: int  # K, and 1 on the level of videos
    first: Ints  # rank of the nearest neighbour of the same class, from 1; 0: none among those found
    neighbours: Nearest
    counts: dict[str, Any]  # further entries of a result
    duplicates: list[tuple[str, str]]  # query and gallery videos of the same content

    def hits(self, k: int) -> NDArray[np.float64]:
        """Return for each query video whether it was correct; with several clips, the share of correct clips."""
        correct = (self.first > 0) & (self.first <= k)
        return np.asarray(correct.reshape(len(self.keys), self.clips).mean(axis=1))

    def percent(self) -> dict[int, float]:
        return {k: 100 * float(self.hits(k).mean()) for k in self.ks}

    def entries(self) -> dict[str, Any]:
        """Return the entries of a result at its top level."""
        return {f"top{k}": value for k, value in self.percent().items()} | self.counts

    def videos(self) -> list[dict[str, Any]]:
        """Return for each query the rank of its first correct neighbour, which gives the hits of every k."""
        ranks = self.first.reshape(len(self.keys), self.clips).tolist()
        return [
            {"key": key, "label": label, "first": rank if self.clips > 1 else rank[0]}
            for key, label, rank in zip(self.keys, self.label.tolist(), ranks, strict=True)
        ]

    def with_neighbours(self, keep: int) -> dict[str, Any]:
        """Return the entries of a result that list the queries, each with its `keep` nearest neighbours."""
        found = Found(
            row=self.neighbours.row, similarity=self.neighbours.similarity, clips=self.clips,
            gallery_keys=self.gallery_keys, gallery_label=self.gallery_label,
        )  # fmt: skip
        of_videos, listed = found.entries(keep)
        pairs = zip(self.videos(), of_videos or [{}] * len(self.keys), strict=True)
        return {**listed, "videos": [video | more for video, more in pairs]}


def retrieve(
    queries: Features,
    gallery: Features,
    *,
    ks: Sequence[int] = KS,
    level: Level = "video",
    leave_out: LeaveOut = "nothing",
    keep: int = 0,
    part: int = PART,
    device: str = "cpu",
    progress: Progress = nothing,
) -> Retrieved:
    """Search the labelled videos of the gallery for each labelled query.

    At least `keep` neighbours of each query are returned. With leave_out="same content", a query is not compared with
    the gallery's video of its key or of its content. A k larger than the gallery counts the complete gallery.
    """
    _refuse_impossible(queries, gallery, ks, level, leave_out)
    rows = queries.labelled()
    labelled, clips = queries.taken(rows) if len(rows) < len(queries.keys) else queries, 1
    queries_QD, gallery_GD = by_video(labelled), by_video(gallery)
    if level == "clip":
        clips = queries.clips
        queries_QD, gallery_GD = (side.features.reshape(-1, side.features.shape[2]) for side in (labelled, gallery))
    hidden = gallery.label < 0
    size = clips * int((~hidden).sum())
    same = _duplicates(labelled, gallery)
    left_out = _pairs_left_out(labelled, gallery, same) if leave_out == "same content" else same[:0]
    left_out_P2 = _of_clips(left_out, clips)
    found = nearest(
        queries_QD, gallery_GD, min(max(SHOWN, keep, *ks), size), hidden_G=hidden.repeat(clips), left_out=left_out_P2,
        part=part, device=device, progress=progress,
    )  # fmt: skip
    counts = {
        "queries": len(labelled.keys) * clips,
        "gallery": size,
        "queries_without_label": len(queries.keys) - len(rows),
        "gallery_without_label": int(hidden.sum()),
        "queries_of_absent_class": clips * int((~np.isin(labelled.label, gallery.label)).sum()),
        "duplicates": len(same),
        "left_out": leave_out,
        "larger_than_gallery": [f"top{k}" for k in ks if k > size],
    }
    return Retrieved(
        ks=tuple(ks),
        keys=labelled.keys,
        label=labelled.label,
        gallery_keys=gallery.keys,
        gallery_label=gallery.label,
        clips=clips,
        first=_first_correct(found.row, labelled.label.repeat(clips), gallery.label.repeat(clips)),
        neighbours=found,
        counts=counts,
        duplicates=[(labelled.keys[query], gallery.keys[other]) for query, other in same],
    )


def _refuse_impossible(queries: Features, gallery: Features, ks: Sequence[int], level: str, leave_out: str) -> None:
    for name, word, known in (("level", level, get_args(Level)), ("leave_out", leave_out, get_args(LeaveOut))):
        if word not in known:
            raise UsageError(f"{name} is '{word}'; there are {', '.join(known)}")
    if not ks or min(ks) < 1:
        raise UsageError(f"ks are {list(ks)}; one or more are needed, each at least 1")
    for features, name in ((queries, "queries"), (gallery, "gallery")):
        if not len(features.labelled()):
            raise UsageError(f"none of the {len(features.keys)} {name} has a label; choose a split that has some")
    if queries.features.shape[-1] != gallery.features.shape[-1]:
        widths = f"{queries.features.shape[-1]} numbers, those of the gallery {gallery.features.shape[-1]}"
        raise UsageError(f"features of the queries have {widths}; extract both with the same weights and protocol")
    if level == "clip" and (queries.features.ndim != 3 or queries.clips != gallery.clips):
        counts = [features.clips if features.features.ndim == 3 else "no" for features in (queries, gallery)]
        raise UsageError(
            f"level is 'clip', and the queries have {counts[0]} clips each, the gallery {counts[1]}; "
            "extract the same number of both, or use level=video"
        )
    refuse_unusable(queries, "queries")
    refuse_unusable(gallery, "gallery")


def _first_correct(row_QN: Ints, label_Q: Ints, label_G: Ints) -> Ints:
    correct_QN = (label_G[row_QN] == label_Q[:, None]) & (row_QN >= 0)
    return np.where(correct_QN.any(axis=1), correct_QN.argmax(axis=1) + 1, 0)


def _pairs_left_out(queries: Features, gallery: Features, duplicates: Ints) -> Ints:
    return np.unique(np.concatenate([_pairs(queries.keys, gallery.keys), duplicates]), axis=0)


def _pairs(queries: Sequence[str], gallery: Sequence[str]) -> Ints:
    """Return pairs (query, gallery row) of equal words; an empty word equals no other."""
    rows: defaultdict[str, list[int]] = defaultdict(list)
    for row, word in enumerate(gallery):
        rows[word].append(row)
    found = [(query, row) for query, word in enumerate(queries) if word for row in rows.get(word, [])]
    return np.array(found, np.int64).reshape(-1, 2)


def _duplicates(queries: Features, gallery: Features) -> Ints:
    """Return pairs of videos with the same content; a query is no duplicate of itself."""
    if queries.group is None or gallery.group is None:
        return np.empty((0, 2), np.int64)
    found = _pairs(queries.group, gallery.group)
    return found[[queries.keys[query] != gallery.keys[row] for query, row in found]]


def _of_clips(pairs_P2: Ints, clips: int) -> Ints:
    """Return the pairs of clips for pairs of videos: each clip of a query with each clip of its gallery video."""
    query, row = (pairs_P2[:, column, None, None] * clips for column in (0, 1))
    each = np.arange(clips)
    left, right = np.broadcast_arrays(query + each[:, None], row + each)
    return np.stack([left.ravel(), right.ravel()], axis=1)
