"""Files of features."""

import io
import json
from pathlib import Path

import numpy as np
from mutate import mutate_bytes, mutate_parquet, mutate_text, mutate_zip

from fuzzed import Kind
from veval.features import feature_file
from veval.features.resume import INFO as PARTS_INFO
from veval.features.resume import Parts, open_parts, plan_parts
from veval.features.table import refuse_unusable
from veval.tasks.retrieval import retrieve

INFO = {
    "weights": {"path": "last.pt", "hash": "ab", "hash_of": "tensors", "method": "pace"},
    "protocol": {"clips": 2},
    "data": {"name": "UCF101"},
}


def make_parquet(folder: Path) -> Path:
    rows, shapes = 6, {"gap": (4,), "clips": (2, 4)}
    arrays = {name: np.random.default_rng(0).random((rows, *shape), np.float32) for name, shape in shapes.items()}
    label, parts = np.arange(rows) % 3, []
    for split in ("train", "test"):
        parts.append(folder / f"{split}.parquet")
        feature_file.write_part(parts[-1], [f"{split}{row}" for row in range(rows)], label, split, arrays, [])
    feature_file.merge(parts, shapes, INFO, folder / "f.parquet")
    feature_file.merge(parts, shapes, INFO, folder / "f.npz")
    return folder / "f.parquet"


def make_npz(folder: Path) -> Path:
    make_parquet(folder)
    return folder / "f.npz"


def mutate_array(name: str, content: bytes, seed: int) -> bytes:
    """Change an array in an .npz file: its bytes, or the JSON that it holds."""
    if not name.startswith(feature_file.INFO) or seed % 2:
        return mutate_bytes(content, seed)
    sink = io.BytesIO()
    text = mutate_text(json.loads(str(np.load(io.BytesIO(content)))), seed).decode("utf-8", "replace")
    np.save(sink, np.array(text))
    return sink.getvalue()


def mutate_npz(good: bytes, seed: int) -> bytes:
    return mutate_bytes(good, seed) if seed % 4 == 0 else mutate_zip(good, seed, mutate_array)


def search(path: Path) -> object:
    tables = feature_file.read(path)
    queries, gallery = tables.of("test"), tables.of("train")
    for name, features in {"queries": queries, "gallery": gallery}.items():
        refuse_unusable(features, name)
    return retrieve(queries, gallery, ks=(1,))


READERS = {"info": feature_file.read_info, "search": search}


def make_parts(folder: Path) -> Path:
    """Leave what a stopped `veval features` leaves, and return the description of its parts."""
    make_parquet(folder)
    open_parts(_parts(folder), 0, 1.0, lambda: False)
    return folder / "f.parquet.parts" / PARTS_INFO


def _parts(folder: Path) -> Parts:
    return plan_parts(folder / "f.parquet", {"train": 6, "test": 6}, 4, INFO)


def mutate_json(good: bytes, seed: int) -> bytes:
    return mutate_text(json.loads(good), seed)


KINDS = [
    Kind(
        name="features-parts",
        make=make_parts,
        mutate=mutate_json,
        readers={"go on": lambda path: open_parts(_parts(path.parent.parent), 0, 1.0, lambda: False)},
    ),
    Kind(name="features", make=make_parquet, mutate=mutate_parquet, readers=READERS),
    Kind(name="features-npz", make=make_npz, mutate=mutate_npz, readers=READERS),
]
