"""Results, features and a set as a page shows them, without any training: what is near is made up."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from results_on import ucf101

from veval.features import feature_file
from veval.results import result
from vtrain.data.shard_set import ShardSet

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


def features(
    path: Path, videos: Sequence[Video], splits: Sequence[str], *, dim: int = 16, scale: float = 1,
    info: Mapping[str, object] | None = None,
) -> Path:  # fmt: skip
    """Write made-up features, in which videos of a class are near each other."""
    rng = np.random.default_rng(0)
    label = np.array([number for _, number in videos], np.int64)
    centres = rng.standard_normal((label.max() + 1, dim))
    array = (scale * (centres[label] + 0.4 * rng.standard_normal((len(videos), dim)))).astype(np.float32)
    parts = []
    for split in dict.fromkeys(splits):
        rows = [row for row, own in enumerate(splits) if own == split]
        parts.append(path.with_name(f"{path.stem}-{split}.part.parquet"))
        feature_file.write_part(
            parts[-1], [videos[row][0] for row in rows], label[rows], split, {"pool5": array[rows]}, []
        )
    feature_file.merge(parts, {"pool5": (dim,)}, dict(info or {"made": "up"}), path)
    return path


HOSTILE = "<script>alert(1)</script>"
HOSTILE_KEYS = ("'\"><img src=x onerror=alert(1)>", "two\nlines\u2028", "]]></script><b>", "\u202eback")


def of_set(shards: Path) -> tuple[list[Video], list[Video], list[str]]:
    """Return the tested videos, the others, and the names of the classes of a set."""
    rows = pq.read_table(shards / "index.parquet", columns=["key", "label", "class_name", "split1"]).to_pylist()
    names = dict(sorted((row["label"], row["class_name"]) for row in rows))
    sides = [[(row["key"], row["label"]) for row in rows if row["split1"] == split] for split in ("test", "train")]
    return sides[0], sides[1], list(names.values())


def report_of(folder: Path, shards: Path) -> tuple[list[Path], Path]:
    """Write results of a network and of the same from scratch, and features, about a set; one class is hostile."""
    queries, gallery, classes = of_set(shards)
    classes[0] = HOSTILE
    queries += [(key, number % len(classes)) for number, key in enumerate(HOSTILE_KEYS)]
    data = {"shards": str(shards), "name": "synth", "split": "test,train", "fold": 1, "subset": None}
    data["hash"] = ShardSet.open(str(shards)).fingerprint
    copies = [{"query": queries[0][0], "gallery": gallery[0][0]}]
    learned = retrieval(queries, gallery, classes, data=data, same_content=copies)
    learned["videos"][0] |= {"neighbours": [0, 1, 2, 3, 4], "first": 1}
    tested = [{"key": key, "class": classes[label], "named": classes[place % len(classes)]}
              for place, (key, label) in enumerate(queries)]  # fmt: skip
    tuned = ucf101("finetune", top5=90.0, predictions=tested, class_names=classes) | {"data": data, "videos": 8}
    files = written(folder, learned=learned, scratch=from_scratch(learned), tuned=tuned)
    splits = ["test"] * len(queries) + ["train"] * len(gallery)
    return files, features(folder / "features.parquet", [*queries, *gallery], splits)
