"""The map of features: a point for each video, a region that one moves, and the videos in it.

V videos
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from veval.features.feature_file import FeatureTables
from veval.features.table import Features, by_video, refuse_unusable
from veval.page.embedding import embed
from veval.page.films import Films
from veval.page.request import Method
from vprep.errors import UsageError
from vprep.page.document import Section
from vprep.page.html import Element, el
from vprep.page.pictures import spaced
from vprep.text import one_line

MOST_POINTS = 2000
UNKNOWN = "no label"
FEWEST = 10  # videos for which t-SNE and UMAP make sense
MOST_COLOURS = 8  # more classes are not told apart by colours
WIDTH, HEIGHT, EDGE = 720, 480, 14
DATA = "map-data"
SHAPES = ("M-4 0A4 4 0 1 0 4 0A4 4 0 1 0-4 0Z", "M-3.5-3.5H3.5V3.5H-3.5Z", "M0-4.6L4.4 3.4H-4.4Z", "M0-5L5 0 0 5-5 0Z")

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureMap:
    """What the map shows."""

    keys: list[str]
    classes: list[str]  # of each video
    splits: list[str]
    places: NDArray[np.float64]  # [V, 2], in pixels
    total: int  # videos with features
    pool: str
    how: str


def make(tables: FeatureTables, name_of: Callable[[int], str], first: Sequence[str], method: Method) -> FeatureMap:
    """Return the map of the videos with features: of all, or of MOST_POINTS, those of `first` before others."""
    if not tables.keys:
        raise UsageError("the file of --features holds no videos; make it again with: veval features")
    pool = next(iter(tables.arrays))
    method = method if len(tables.keys) >= FEWEST else "pca"
    chosen = _chosen(tables.keys, first)
    whole = Features(keys=tables.keys, label=tables.label, features=tables.arrays[pool])
    refuse_unusable(whole, "--features")
    found = embed(by_video(whole if method == "pca" else whole.taken(chosen)), method)
    places = found.places[chosen] if method == "pca" else found.places
    return FeatureMap(
        keys=[tables.keys[row] for row in chosen],
        classes=[name_of(label) if label >= 0 else UNKNOWN for label in tables.label[chosen].tolist()],
        splits=[str(tables.split[row]) for row in chosen],
        places=_in_pixels(places),
        total=len(tables.keys),
        pool=pool,
        how=found.how,
    )


def section(found: FeatureMap) -> Section:
    """Return the map as a part of the page."""
    counts = Counter(found.classes)
    order = sorted(counts)
    sampled = (
        f"{len(found.keys)} of {found.total} videos are drawn: those of the gallery, and others at even distances."
        if len(found.keys) < found.total
        else f"All {found.total} videos with features are drawn."
    )
    return Section(
        identifier="map",
        title="Map of features",
        lead=f"Each point is a video; near points have similar features. {found.how}",
        body=[
            el("p", sampled, f" Features: {found.pool}.", class_="note"),
            _controls(order, sorted(set(found.splits))),
            el("div", el("div", _plot(found, order), class_="map-side"), _beside(), class_="map"),
        ],
    )


def absent() -> Section:
    """Return what the page says without features."""
    words = el("p", "There is no map without features: make them with ", el("code", "veval features --out FILE"),
               ", and add ", el("code", "--features FILE"), ".")  # fmt: skip
    return Section(identifier="map", title="Map of features", body=words)


def data(found: FeatureMap, films: Films) -> dict[str, object]:
    """Return what the script needs of each point, beside its place."""
    order = sorted(set(found.classes))
    number = {name: index for index, name in enumerate(order)}
    return {
        "classes": [one_line(name) for name in order],
        "points": [
            [one_line(key), number[name], films.number.get(key, -1), split]
            for key, name, split in zip(found.keys, found.classes, found.splits, strict=True)
        ],
    }


def _controls(classes: Sequence[str], splits: Sequence[str]) -> Element:
    named = [el("option", "All classes", value="")]
    named += [el("option", one_line(name), value=str(number)) for number, name in enumerate(classes)]
    halves = [el("option", "All splits", value=""), *(el("option", split, value=split) for split in splits)]
    return el(
        "div",
        el("label", "Class", el("select", named, id="map-class")),
        el("label", "Split", el("select", halves, id="map-split")) if len(splits) > 1 else None,
        class_="controls",
        id="map-controls",
        hidden=True,
    )


def _plot(found: FeatureMap, order: Sequence[str]) -> Iterator[Element]:
    has_colours = len(order) <= MOST_COLOURS
    number = {name: index for index, name in enumerate(order)}
    shapes = (el("path", id=f"shape-{index}", d=shape) for index, shape in enumerate(SHAPES))
    points = (_point(place, number[name], has_colours) for place, name in zip(found.places, found.classes, strict=True))
    picture = el(
        "svg",
        el("title", "Map of features"),
        el("desc", f"{len(found.keys)} videos of {len(order)} classes as points."),
        el("defs", shapes),
        el("g", points, id="points"),
        el("rect", id="region", class_="region", width=0, height=0, hidden=True),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
    )
    yield el("div", picture, id="map-area", class_="map-area")
    yield (
        _legend(order)
        if has_colours
        else el(
            "p", f"{len(order)} classes are too many for colours: choose one, and its videos stand out.", class_="note"
        )
    )


def _point(place: NDArray[np.float64], number: int, has_colours: bool) -> Element:
    shape = number % len(SHAPES) if has_colours else 0
    return el(
        "use",
        href=f"#shape-{shape}",
        x=round(float(place[0]), 1),
        y=round(float(place[1]), 1),
        class_=f"c{number + 1}" if has_colours else None,
    )


def _legend(order: Sequence[str]) -> Element:
    def entry(number: int, name: str) -> Element:
        mark = el("use", href=f"#shape-{number % len(SHAPES)}", x=7, y=7)
        picture = el("svg", mark, width=14, height=14, viewBox="0 0 14 14", aria_hidden="true", class_=f"c{number + 1}")
        return el("li", picture, " ", one_line(name))

    return el("ul", (entry(number, name) for number, name in enumerate(order)), class_="legend")


def _beside() -> Element:
    """Return where the videos of the region are listed."""
    return el(
        "div",
        el("p", "Draw a box with the mouse or a finger. Keys: the arrows move the box, + and - change its size, "
           "Escape removes it.", class_="note", id="map-help"),
        el("p", id="map-count", role="status"),
        el("ul", id="map-videos", class_="videos", tabindex=0, aria_label="Videos in the box"),
        class_="map-list",
    )  # fmt: skip


def _chosen(keys: Sequence[str], first: Sequence[str]) -> Ints:
    """Return the rows of at most MOST_POINTS videos, in the order of the file."""
    if len(keys) <= MOST_POINTS:
        return np.arange(len(keys))
    wanted = set(first)
    kept = [row for row, key in enumerate(keys) if key in wanted][:MOST_POINTS]
    others = [row for row, key in enumerate(keys) if key not in wanted]
    return np.sort(np.array(kept + [others[place] for place in spaced(len(others), MOST_POINTS - len(kept))], np.int64))


def _in_pixels(place_V2: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return places within the picture. Outliers stay at its edge, or all others would be one dot."""
    low_2, high_2 = np.percentile(place_V2, [0.5, 99.5], axis=0)
    share_V2 = np.clip((place_V2 - low_2) / np.maximum(high_2 - low_2, 1e-9), 0, 1)
    size_2 = np.array([WIDTH, HEIGHT]) - 2 * EDGE
    return np.asarray(EDGE + np.column_stack([share_V2[:, 0], 1 - share_V2[:, 1]]) * size_2)
