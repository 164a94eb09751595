"""ASCNet's recipes. Huang et al. (ICCV 2021); tables 1, 2 and 4.

The authors released no code, so all recipes follow the text, and BYOL where the text leaves something open.
It does not say how frames were stored: `stored` is that of RSPNet, whose authors are partly the same.
Mini-Kinetics-200 is Kinetics-400 with data.subset, a file of `vprep subset --rule mini-kinetics200`.
"""

from dataclasses import replace

from vtrain.methods.ascnet import ONLINE, TARGET, Config, Sampling
from vtrain.optim.config import Optim
from vtrain.optim.schedule import Schedule
from vtrain.recipes.names import Row, by_name, rows
from vtrain.recipes.recipe import Recipe
from vtrain.recipes.rspnet import AUTHORS

ABLATIONS = {
    # Tables 1a and 1b are with speeds 1 and 2.
    "acp": Row("ACP alone (table 1a)", ("tasks=acp", "speeds=1,2"), "UCF101 64.76"),
    "scp": Row("SCP alone (table 1a)", ("tasks=scp", "speeds=1,2"), "UCF101 43.40"),
    "acp-sp": Row("ACP and SP (table 1b)", ("tasks=acp+sp", "speeds=1,2"), "UCF101 68.93"),
    "same": Row("clips of the same video (table 1b)", ("instances=same", "speeds=1,2"), "UCF101 69.20"),
    "different": Row("clips of any other video (table 1b)", ("instances=different", "speeds=1,2"), "UCF101 69.55"),
    "1-2": Row("speeds 1 and 2 (tables 1a to 1c)", ("speeds=1,2",), "UCF101 70.71"),
    # Readings of what the text leaves open, for the numbers of the main row.
    "feature": Row("motion features kept in the memory", ("memory=feature",)),
    "both": Row("both directions as in BYOL", ("direction=both",)),
    "1-1": Row("one speed (table 1c)", ("speeds=1,1",), "UCF101 64.52"),
    "1-4": Row("speeds 1 and 4 (table 1c)", ("speeds=1,4",), "UCF101 70.50"),
    "batch256": Row("batches of 256 (table 1d)", ("batch=256",), "UCF101 72.13"),
    "batch1024": Row("batches of 1024 (table 1d)", ("batch=1024",), "UCF101 72.20"),
    "jitter": Row("jitter alone (table 1e)", ("grey=0", "blur=0", "solarise=0"), "UCF101 62.43"),
    "jitter-blur": Row("jitter and blur (table 1e)", ("grey=0", "solarise=0"), "UCF101 64.55"),
    "jitter-blur-grey": Row("jitter, blur and grey (table 1e)", ("solarise=0",), "UCF101 67.22"),
}

TABLE_4 = {
    "100epochs": Row("100 epochs (table 4)", ("epochs=100",), "UCF101 76.34"),
    "300epochs": Row("300 epochs (table 4)", ("epochs=300",), "UCF101 81.31"),
    "400epochs": Row("400 epochs (table 4)", ("epochs=400",), "UCF101 81.50"),
}


def pretraining(backbone: str, data: str, size: int = 112) -> Recipe:
    """Return pre-training as in the text; the blur's kernel is a tenth of the side, as in BYOL."""
    looks = tuple(replace(config, size=size, blur_kernel=size // 10 | 1) for config in (ONLINE, TARGET))
    return Recipe(
        name=f"ascnet-{backbone}-{data}",
        method=Config(sampling=Sampling(looks=looks)),
        backbone=backbone,
        stored=AUTHORS,
        batch=512,
        epochs=200,
        optim=Optim(name="lars", weight_decay=1e-6, exclude="bias and norm"),
        schedule=Schedule(lr=0.3, scaling="linear 128", warmup=10),
        batch_norm="sync",
    )


def resnet3d18_k400() -> Recipe:
    """ASCNet, ResNet-18, Kinetics-400: UCF101 80.5, HMDB51 52.3 in the paper."""
    return pretraining("resnet3d18", "k400")


def s3dg_k400() -> Recipe:
    """ASCNet, S3D-G, Kinetics-400: UCF101 90.8, HMDB51 60.5 in the paper.

    The paper's 64 frames are taken to be those of fine-tuning, as with RSPNet.
    """
    return pretraining("s3dg", "k400", size=224)


def r2plus1d_k400() -> Recipe:
    """ASCNet, R(2+1)D, Kinetics-400: no number in the paper."""
    return pretraining("r2plus1d", "k400")


def resnet3d18_minik200() -> Recipe:
    """ASCNet, ResNet-18, Mini-Kinetics-200: UCF101 72.16 in the paper."""
    return pretraining("resnet3d18", "minik200")


def r2plus1d_minik200() -> Recipe:
    """ASCNet, R(2+1)D, Mini-Kinetics-200: UCF101 75.95 in the paper."""
    return pretraining("r2plus1d", "minik200")


def s3dg_minik200() -> Recipe:
    """ASCNet, S3D-G of 112 pixels a side, Mini-Kinetics-200: UCF101 75.04 in the paper."""
    return pretraining("s3dg", "minik200")


RECIPES = by_name(resnet3d18_k400, s3dg_k400, r2plus1d_k400, resnet3d18_minik200, r2plus1d_minik200, s3dg_minik200)
RECIPES |= rows(resnet3d18_minik200, ABLATIONS) | rows(resnet3d18_k400, TABLE_4)
