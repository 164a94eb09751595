"""Results of PRP's C3D on UCF101, and of the same network from scratch, with any changes."""

from typing import Any

from veval.results.data_sets import DATA_SETS

Result = dict[str, Any]

RETRIEVAL = {
    "name": "vcop",
    "clips": 10,
    "frames": 16,
    "size": 112,
    "pools": "pool5",
    "pool": "pool5",
    "level": "video",
}
FINETUNE = {"name": "pace", "clips": 10, "frames": 16, "size": 112, "crop": "centre", "fusion": "softmax"}


def made(kind: str = "retrieval", protocol: Result | None = None, **changes: object) -> Result:
    """PRP's C3D on UCF101; `changes` are of the weights, the data and the top, wherever the word is."""
    weights = {
        "path": "runs/prp/last.pt",
        "hash": "0123456789abcdef",
        "method": "prp",
        "recipe": "prp-c3d-ucf101",
        "backbone": "c3d",
        "settings": {},
        "step": 4200,
        "epochs": 300.0,
        "seed": 0,
        "data": {"name": "UCF101", "videos": 9537},
    }
    data = {"shards": "ucf", "hash": "d", "name": "UCF101", "split": "train,test", "fold": 1, "subset": None}
    more = ("kept", "kept_step", "hash_of")
    of_weights = {name: changes.pop(name) for name in list(changes) if name in (*weights, *more)}
    of_data = {name.removeprefix("on_"): changes.pop(name) for name in list(changes) if name.startswith("on_")}
    known = DATA_SETS.get(str(of_data.get("name", "UCF101")).lower(), DATA_SETS["ucf101"])
    fold = int(str(of_data.get("fold", 1))) - 1
    data["videos"] = {"test": known.test[fold], "train": known.train[fold]}
    if kind in ("finetune", "test"):
        data["split"] = "test"
    return {
        "schema": 1,
        "kind": kind,
        "protocol": dict(RETRIEVAL if kind == "retrieval" else FINETUNE) | (protocol or {}),
        "weights": weights | of_weights,
        "data": data | of_data,
        "top1": 20.0,
        **changes,
    }


def scratch(kind: str = "retrieval", **changes: object) -> Result:
    untrained: Result = {
        "path": "random",
        "method": "random",
        "recipe": None,
        "step": None,
        "epochs": None,
        "data": None,
    }
    return made(kind, **{**untrained, **changes})


def videos_of(hits: str) -> list[Result]:
    return [{"key": f"v{n}", "label": 0, "first": int(hit)} for n, hit in enumerate(hits)]


def films_of(hits: str, **more: object) -> list[Result]:
    """Two clips of each film."""
    return [
        {"key": f"v_A_g{n // 2:02}_c{n % 2:02}", "label": 0, "first": int(hit), **more} for n, hit in enumerate(hits)
    ]
