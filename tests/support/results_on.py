"""Results of Pace's R(2+1)D, pre-trained and fine-tuned on UCF101, which a paper has a number for."""

import copy
import json
from typing import Any

OF_DATA = ("classes", "failures", "fold", "name", "videos")
PROTOCOL = {"clips": 10, "frames": 16, "size": 112, "crop": "centre", "fusion": "softmax", "level": "video"}


def ucf101(
    kind: str = "finetune",
    *,
    seed: int = 0,
    learned: int = 9537,
    tuned: int = 9537,
    held_out: int = 0,
    **changes: object,
) -> dict[str, Any]:
    """Return a result; `changes` are of its data and of its top, `learned` and `tuned` the videos of the trainings."""
    data: dict[str, Any] = {
        "hash": "d",
        "name": "UCF101",
        "split": "test",
        "fold": 1,
        "subset": None,
        "videos": {"test": 3783},
    }
    protocol: dict[str, Any] = dict(PROTOCOL)
    if kind == "retrieval":
        data["split"] = "test,train"
        protocol |= {"pool": "pool5", "pools": "pool5"}
    weights = {
        "path": "runs/pace/last.pt",
        "method": "pace",
        "recipe": "pace-r2plus1d-ucf101",
        "backbone": "r2plus1d",
        "step": 4200,
        "epochs": 18,
        "seed": seed,
        "data": {"name": "UCF101", "videos": learned},
    }
    fine_tuned = {"seed": 0, "data": {"videos": tuned}, "by": {"data": {"hold_out": held_out}}}
    return {
        "schema": 1,
        "kind": kind,
        "protocol": protocol,
        "weights": weights,
        "data": data | {name: changes.pop(name) for name in OF_DATA if name in changes},
        "top1": 20.0,
        **({"fine_tuned": fine_tuned} if kind == "finetune" else {}),
        **changes,
    }


def bases() -> list[dict[str, Any]]:
    """Results of every shape: with two pools, with predictions, with hits; and networks from scratch."""
    near = {"neighbours": [1, 0], "similarity": [0.5, -0.25]}
    videos = [{"key": f"v_A_g0{n}_c01", "label": 0, "first": n, "pools": {"gap": n + 1}, **near} for n in range(1, 5)]
    gallery = [{"key": "v_A_g01_c02", "label": 0}, {"key": "v_B_g01_c01", "label": 1}]
    kept: dict[str, Any] = {"keep": 2, "gallery_videos": gallery, "class_names": ["A", "B"]}
    kept |= {"same_content": [{"query": "v_A_g01_c01", "gallery": "v_A_g01_c02"}]}
    pools = {"gap": {"top1": 50.0, "top5": 75.0, "intervals": {"top1": [20.0, 80.0]}}}
    listed = {
        **kept,
        "videos": videos,
        "pools": pools,
        "top5": 100.0,
        "intervals": {"top1": [0, 50]},
        "bootstrap": "groups",
    }
    named = [{"key": f"v_A_g0{n}_c01", "class": "A", "named": "AB"[n % 2]} for n in range(4)]
    tested = {"predictions": named, "videos": 4, "per_class": {"A": 50.0, "B": None}, "confusion": [[2, 2], [0, 0]]}
    counted = {"test": 3783, "train": 9537}
    found = [ucf101("retrieval", videos=counted) | listed, ucf101(dropped=[{"key": "v", "split": "test"}]) | tested]
    for one in found[:2]:
        scratch = copy.deepcopy(one)
        scratch["weights"] |= {"path": "random", "method": "random", "recipe": None, "epochs": None, "data": None}
        found.append(scratch)
    return json.loads(json.dumps(found))  # type: ignore[no-any-return]
