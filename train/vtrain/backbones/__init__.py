"""The networks that learn: a clip in, feature maps out. Heads belong to the methods."""

import inspect
from collections.abc import Callable
from typing import Any

from vprep.errors import UsageError
from vtrain.backbones.backbone import Backbone as Backbone
from vtrain.backbones.c3d import c3d
from vtrain.backbones.r2plus1d import r2plus1d, r2plus1d18
from vtrain.backbones.r3d import r3d, r3d18, tiny
from vtrain.backbones.resnet3d import resnet3d18, resnet3d34
from vtrain.backbones.s3dg import s3d, s3dg, s3dg_pace
from vtrain.backbones.tsm import tsm18

BACKBONES: dict[str, Callable[..., Backbone]] = {
    "c3d": c3d,
    "r3d": r3d,
    "r2plus1d": r2plus1d,
    "resnet3d18": resnet3d18,
    "resnet3d34": resnet3d34,
    "r3d18": r3d18,
    "r2plus1d18": r2plus1d18,
    "s3dg": s3dg,
    "s3dg_pace": s3dg_pace,
    "s3d": s3d,
    "tsm18": tsm18,
    "tiny": tiny,
}


def backbone(name: str, **settings: Any) -> Backbone:  # noqa: ANN401  what a setting holds, its backbone says
    """A new network with random weights."""
    if name not in BACKBONES:
        raise UsageError(f"no backbone '{name}'; there are {', '.join(BACKBONES)}")
    known = inspect.signature(BACKBONES[name]).parameters
    for word in settings:
        if word not in known:
            there = f"it has {', '.join(known)}" if known else "it has none"
            raise UsageError(f"backbone '{name}' has no setting '{word}'; {there}")
    return BACKBONES[name](**settings)
