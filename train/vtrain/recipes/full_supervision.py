"""Recipes for pre-training on labels: "fully supervised" in RSPNet's table 3 and ASCNet's table 2.

No paper says how these networks were trained. The settings are those of the code of Hara, Kataoka, Satoh: Can
spatiotemporal 3D CNNs retrace the history of 2D CNNs and ImageNet? (CVPR 2018), which ASCNet cites for its row. Clips
are of the size in the tables, and frames are stored as by RSPNet's authors. Pixels are normalised as in all fine-tuning
here, by ImageNet's mean and deviation.
"""

from dataclasses import replace

from vtrain.data.sampling import PLAIN, OneClip
from vtrain.methods.supervised import Config
from vtrain.optim.config import Optim
from vtrain.optim.schedule import Schedule
from vtrain.recipes.names import by_name
from vtrain.recipes.recipe import Recipe
from vtrain.recipes.rspnet import AUTHORS


def pretraining(backbone: str, data: str, frames: int = 16, size: int = 112) -> Recipe:
    return Recipe(
        name=f"supervised-{backbone}-{data}",
        method=Config(sampling=OneClip(frames=frames, looks=(replace(PLAIN, size=size),))),
        backbone=backbone,
        stored=AUTHORS,
        batch=128,
        epochs=200,
        optim=Optim(weight_decay=1e-3),
        schedule=Schedule(kind="step", lr=0.1, milestones=(50, 100, 150)),
    )


def resnet3d18_k400() -> Recipe:
    """Training on labels, ResNet-18, Kinetics-400: then UCF101 84.4, HMDB51 56.4, SSv2 43.7 in the paper."""
    return pretraining("resnet3d18", "k400")


def s3dg_k400() -> Recipe:
    """Training on labels, S3D-G, Kinetics-400: then UCF101 96.8, HMDB51 75.9, SSv2 56.8 in the paper."""
    return pretraining("s3dg", "k400", frames=64, size=224)


def c3d_sports1m() -> Recipe:
    """Training on labels, C3D, Sports-1M: then SSv2 47.0 in the paper."""
    return pretraining("c3d", "sports1m")


RECIPES = by_name(resnet3d18_k400, s3dg_k400, c3d_sports1m)
