"""Retrieval: a query is right among k if one of the k nearest videos of the gallery has its class.

Büchler et al. (ECCV 2018) and Xu et al. (VCOP, CVPR 2019) began it, with cosines of the mean feature of ten clips.

Q queries   G gallery   K clips of a video   D feature   N neighbours
"""

import importlib.util
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from veval.features.table import PART, Features, Ints, by_video, refuse_unusable
from veval.tasks.neighbours import Nearest, nearest
from vprep.errors import UsageError

Level = Literal["video", "clip"]
LeaveOut = Literal["nothing", "same key", "same content"]
ENGINES = ("exact", "faiss")

KS = (1, 5, 10, 20, 50)
SHOWN = 50  # neighbours that are told of, at least


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieved:
    """Which queries were right, and what lay nearest to them.

    On the level of clips each clip is a query: `first` and `neighbours` have K rows for each of `keys`, whose
    neighbours are clips of the gallery, K for each video.
    """

    ks: tuple[int, ...]
    keys: list[str]  # of the queries with a label
    label: Ints
    gallery_keys: list[str]
    clips: int  # K, and 1 on the level of videos
    first: Ints  # the place of the nearest neighbour of the same class, from 1; 0 is none among those looked at
    neighbours: Nearest
    facts: dict[str, Any]  # counts, as they go into a result
    duplicates: list[tuple[str, str]]  # query and gallery videos of the same content

    def hits(self, k: int) -> NDArray[np.float64]:
        """For each query video whether it was right; of its clips, how many of them."""
        right = (self.first > 0) & (self.first <= k)
        return np.asarray(right.reshape(len(self.keys), self.clips).mean(axis=1))

    def percent(self) -> dict[int, float]:
        return {k: 100 * float(self.hits(k).mean()) for k in self.ks}

    def entries(self) -> dict[str, Any]:
        """What a result of retrieval holds at its top."""
        return {f"top{k}": value for k, value in self.percent().items()} | self.facts

    def videos(self) -> list[dict[str, Any]]:
        """Of each query the place of its first right neighbour, which tells the hits of every k."""
        places = self.first.reshape(len(self.keys), self.clips).tolist()
        return [
            {"key": key, "label": label, "first": place if self.clips > 1 else place[0]}
            for key, label, place in zip(self.keys, self.label.tolist(), places, strict=True)
        ]


def retrieve(
    queries: Features,
    gallery: Features,
    *,
    ks: Sequence[int] = KS,
    level: Level = "video",
    leave_out: LeaveOut = "nothing",
    engine: str = "exact",
    part: int = PART,
    device: str = "cpu",
) -> Retrieved:
    """Look for each labelled query among the labelled videos of the gallery.

    `leave_out`: a query does not meet the gallery's video of its key, or none of its content either. A k beyond the
    gallery's size looks at all of it.
    """
    _refuse_impossible(queries, gallery, ks, level, leave_out, engine)
    rows = queries.labelled()
    asked, clips = queries.taken(rows) if len(rows) < len(queries.keys) else queries, 1
    tables = [by_video(asked), by_video(gallery)]
    if level == "clip":
        clips = queries.clips
        tables = [features.features.reshape(-1, features.features.shape[2]) for features in (asked, gallery)]
    hidden = gallery.label < 0
    depth = min(max(SHOWN, *ks), clips * int((~hidden).sum()))
    left_out = _of_clips(pairs_to_leave_out(asked, gallery, leave_out), clips)
    same = _duplicates(asked, gallery)
    search = nearest if engine == "exact" else by_faiss
    found = search(
        tables[0], tables[1], depth, hidden_G=hidden.repeat(clips), left_out=left_out, part=part, device=device
    )
    facts = {
        "queries": len(asked.keys) * clips,
        "gallery": int((~hidden).sum()) * clips,
        "queries_without_label": len(queries.keys) - len(rows),
        "gallery_without_label": int(hidden.sum()),
        "queries_of_absent_class": clips * int((~np.isin(asked.label, gallery.label)).sum()),
        "duplicates": len(same),
        "left_out": leave_out,
        "larger_than_gallery": [f"top{k}" for k in ks if k > clips * int((~hidden).sum())],
    }
    return Retrieved(
        ks=tuple(ks),
        keys=asked.keys,
        label=asked.label,
        gallery_keys=gallery.keys,
        clips=clips,
        first=_first_right(found.row, asked.label.repeat(clips), gallery.label.repeat(clips)),
        neighbours=found,
        facts=facts,
        duplicates=[(asked.keys[query], gallery.keys[other]) for query, other in same],
    )


def pairs_to_leave_out(queries: Features, gallery: Features, leave_out: LeaveOut) -> Ints:
    """Which (query, gallery row) do not meet."""
    own = _pairs(queries.keys, gallery.keys)
    if leave_out == "same content":
        return np.unique(np.concatenate([own, _duplicates(queries, gallery)]), axis=0)
    return own if leave_out == "same key" else own[:0]


def by_faiss(
    queries_QD: NDArray[np.float32],
    gallery_GD: NDArray[np.float32],
    depth: int,
    *,
    hidden_G: NDArray[np.bool_],
    left_out: Ints,
    part: int = PART,
    device: str = "cpu",
) -> Nearest:
    """The same by the library faiss, which promises no order of rows that are equally near."""
    faiss: Any = importlib.import_module("faiss")
    unit_QD, unit_GD = queries_QD.copy(), gallery_GD.copy()
    faiss.normalize_L2(unit_QD)
    faiss.normalize_L2(unit_GD)
    index = faiss.IndexFlatIP(unit_GD.shape[1])
    index.add(unit_GD)
    most = max(Counter(left_out[:, 0].tolist()).values(), default=0) + int(hidden_G.sum())
    near_QN, row_QN = index.search(unit_QD, min(depth + most, len(unit_GD)))
    closed = hidden_G[row_QN] | (row_QN < 0)
    for query, row in left_out:
        closed[query] |= row_QN[query] == row
    near_QN[closed], row_QN[closed] = -np.inf, -1
    order_QN = np.argsort(-near_QN, axis=1, kind="stable")[:, :depth]
    return Nearest(
        row=np.take_along_axis(row_QN, order_QN, axis=1), similarity=np.take_along_axis(near_QN, order_QN, axis=1)
    )


def _refuse_impossible(
    queries: Features, gallery: Features, ks: Sequence[int], level: str, leave_out: str, engine: str
) -> None:
    for name, word, known in (
        ("level", level, get_args(Level)),
        ("leave_out", leave_out, get_args(LeaveOut)),
    ):
        if word not in known:
            raise UsageError(f"{name} is '{word}'; there are {', '.join(known)}")
    refuse_engine(engine)
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


def refuse_engine(engine: str) -> None:
    if engine not in ENGINES:
        raise UsageError(f"engine is '{engine}'; there are {', '.join(ENGINES)}")
    if engine == "faiss" and importlib.util.find_spec("faiss") is None:
        raise UsageError("engine is 'faiss', which is not installed: pip install faiss-cpu, or use engine=exact")


def _first_right(row_QN: Ints, label_Q: Ints, label_G: Ints) -> Ints:
    right_QN = (label_G[row_QN] == label_Q[:, None]) & (row_QN >= 0)
    return np.where(right_QN.any(axis=1), right_QN.argmax(axis=1) + 1, 0)


def _pairs(queries: Sequence[str], gallery: Sequence[str]) -> Ints:
    """Which (query, gallery row) have the same word; an empty one is the same as none."""
    places: defaultdict[str, list[int]] = defaultdict(list)
    for row, word in enumerate(gallery):
        places[word].append(row)
    found = [(query, row) for query, word in enumerate(queries) if word for row in places.get(word, [])]
    return np.array(found, np.int64).reshape(-1, 2)


def _duplicates(queries: Features, gallery: Features) -> Ints:
    """Videos of the same content; a query itself, where it is in the gallery, is no duplicate."""
    if queries.group is None or gallery.group is None:
        return np.empty((0, 2), np.int64)
    found = _pairs(queries.group, gallery.group)
    return found[[queries.keys[query] != gallery.keys[row] for query, row in found]]


def _of_clips(pairs_P2: Ints, clips: int) -> Ints:
    """Each clip of one video with each of the other."""
    query, row = (pairs_P2[:, column, None, None] * clips for column in (0, 1))
    each = np.arange(clips)
    left, right = np.broadcast_arrays(query + each[:, None], row + each)
    return np.stack([left.ravel(), right.ravel()], axis=1)
