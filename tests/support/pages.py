"""Results, features and a set as a page shows them, without any training: what is near is made up."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from results_on import ucf101

from veval.features import feature_file
from veval.results import result

Result = dict[str, Any]
Video = tuple[str, int]  # key and label


def retrieval(
    queries: Sequence[Video], gallery: Sequence[Video], classes: Sequence[str], *, keep: int = 5, seed: int = 0,
    **changes: object,
) -> Result:  # fmt: skip
    """A result in which the neighbours of each query are drawn: half of them of its class."""
    rng = np.random.default_rng(seed)
    labels = np.array([label for _, label in gallery])
    of_class = {label: np.flatnonzero(labels == label) for label in np.unique(labels)}
    videos = []
    for key, label in queries:
        near = [
            int(rng.choice(of_class[label])) if rng.random() < 0.5 else int(rng.integers(len(gallery)))
            for _ in range(keep)
        ]
        right = [place for place, row in enumerate(near, 1) if labels[row] == label]
        cosine = np.sort(rng.uniform(0.6, 1, keep))[::-1].round(4).tolist()
        first = right[0] if right else 0
        videos.append({"key": key, "label": label, "first": first, "neighbours": near, "similarity": cosine})
    hits = [video["first"] for video in videos]
    top = {f"top{k}": 100 * float(np.mean([0 < first <= k for first in hits])) for k in (1, 5)}
    listed = {"key": "", "label": 0}
    gallery_videos = [listed | {"key": key, "label": label} for key, label in gallery]
    whole = {"class_names": list(classes), "gallery_videos": gallery_videos, "keep": keep}
    return ucf101("retrieval") | top | whole | {"videos": videos} | changes


def from_scratch(of: Result, seed: int = 1) -> Result:
    """The result of the same network from random weights."""
    weights = of["weights"] | {"path": "random", "method": "random", "recipe": None, "epochs": None, "data": None}
    videos = [(video["key"], video["label"]) for video in of["videos"]]
    gallery = [(video["key"], video["label"]) for video in of["gallery_videos"]]
    return retrieval(videos, gallery, of["class_names"], seed=seed, weights=weights, data=of["data"])


def written(folder: Path, **results: Result) -> list[Path]:
    """Write results to files of their names."""
    paths = []
    for name, one in results.items():
        paths.append(folder / f"{name}.json")
        result.write(paths[-1], json.loads(json.dumps(one)))
    return paths


def features(path: Path, videos: Sequence[Video], splits: Sequence[str], *, dim: int = 16) -> Path:
    """Write made-up features, in which videos of a class are near each other."""
    rng = np.random.default_rng(0)
    label = np.array([number for _, number in videos], np.int64)
    centres = rng.standard_normal((label.max() + 1, dim))
    array = (centres[label] + 0.4 * rng.standard_normal((len(videos), dim))).astype(np.float32)
    parts = []
    for split in dict.fromkeys(splits):
        rows = [row for row, own in enumerate(splits) if own == split]
        parts.append(path.with_name(f"{path.stem}-{split}.part.parquet"))
        feature_file.write_part(
            parts[-1], [videos[row][0] for row in rows], label[rows], split, {"pool5": array[rows]}, []
        )
    feature_file.merge(parts, {"pool5": (dim,)}, {"made": "up"}, path)
    return path
