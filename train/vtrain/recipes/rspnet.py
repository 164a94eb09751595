"""RSPNet's recipes. Chen et al. (AAAI 2021); tables 1 and 2.

The authors' code reads every frame at the videos' own rate, from videos that their script has made 256 pixels high; the
text has 25 frames a second. `stored` says so. Kinetics-100 of table 1 is Kinetics-400 with data.subset, a file of
`vprep subset --rule kinetics100`.
"""

from dataclasses import replace
from typing import NamedTuple

from vtrain.data.stored import Stored
from vtrain.methods.rspnet import RELEASED, Config, Sampling
from vtrain.optim.schedule import Schedule
from vtrain.recipes.names import Row, by_name, rows
from vtrain.recipes.recipe import Recipe

AUTHORS = Stored(short_side=256, fps="native")


class Choice(NamedTuple):
    """The settings of the authors' code for a backbone."""

    lr: float  # for 64 clips
    batch: int  # on 4 GPUs, as in their README
    frames: int = 16
    size: int = 112


CHOICES = {
    "c3d": Choice(0.1, 128),
    "resnet3d18": Choice(0.1, 256),
    "r2plus1d": Choice(0.05, 128),
    "s3dg": Choice(0.05, 256, size=224),  # 64 frames are for fine-tuning only
    "tsm18": Choice(0.1, 256, frames=8),
}

# The text does not say how strong jitter and blur are: as in the authors' code, which has a blur as an option.
PAPER = Row(
    "as the text has it",
    (
        "margin=0.15",
        "margin_on=cosine",
        "positives=same",
        "bn_groups=2",
        "grey=0",
        "flip=0",
        "blur=0.5",
        "blur_sigma=1.5,1.5",
        "blur_kernel=3",
        "batch=64",
        "lr=0.1",
        "scaling=none",
        "floor=0",
        "per=step",
        "stored.fps=25",
    ),
)

TABLE_1 = {
    "rsp-only": Row("RSP alone", ("appearance_weight=0",)),
    "avid-only": Row("A-VID alone", ("motion_weight=0",)),
    "sp-avid": Row("SP and A-VID", ("motion=sp",)),
    "rsp-vid": Row("RSP and VID", ("appearance=vid",)),
}
# Results of these rows in that order, each on UCF101 and HMDB51.
GAVE_1 = {
    "c3d": ((67.2, 29.4), (68.1, 35.1), (70.9, 35.1), (70.8, 34.5)),
    "resnet3d18": ((49.7, 25.9), (57.2, 31.1), (57.8, 30.7), (54.2, 29.9)),
    "tsm18": ((54.5, 26.5), (60.8, 30.2), (59.8, 29.7), (57.5, 30.1)),
}

LONG = {"1000epochs": Row("1000 epochs", ("epochs=1000",), "UCF101 93.7, HMDB51 64.7")}

OPTIONS = {
    "6gpus": Row("on 6 GPUs, as the authors ran it", ("batch=192", "bn_groups=6")),
    "augplus": Row(
        "with the stronger augmentation that is an option of the authors' code",
        (
            "jitter=0.4,0.4,0.4,0.1",
            "jitter_chance=0.8",
            "blur=0.5",
            "blur_sigma=1.5,1.5",
            "blur_kernel=3",
            "order=jitter,grey,blur,solarise,flip",
        ),
        "no number",
    ),
}


def pretraining(backbone: str, data: str) -> Recipe:
    """Return pre-training as in the authors' code."""
    lr, batch, frames, size = CHOICES[backbone]
    looks = (replace(RELEASED, size=size),)
    return Recipe(
        name=f"rspnet-{backbone}-{data}",
        method=Config(sampling=Sampling(frames=frames, looks=looks), bn_groups=4),  # a group for each GPU
        backbone=backbone,
        stored=AUTHORS,
        batch=batch,
        epochs=200,
        schedule=Schedule(lr=lr, scaling="linear 64", floor=0.001, per="epoch"),
        keep="best",
        best_by="loss",
    )


def table_1(backbone: str) -> dict[str, Row]:
    """Return the rows of table 1 with the results of this backbone."""
    given = zip(TABLE_1.items(), GAVE_1[backbone], strict=True)
    return {word: row._replace(gave=f"UCF101 {ucf101}, HMDB51 {hmdb51}") for (word, row), (ucf101, hmdb51) in given}


def c3d_k400() -> Recipe:
    """RSPNet, C3D, Kinetics-400: UCF101 76.7, HMDB51 44.6 in the paper."""
    return pretraining("c3d", "k400")


def resnet3d18_k400() -> Recipe:
    """RSPNet, ResNet-18, Kinetics-400: UCF101 74.3, HMDB51 41.8 in the paper."""
    return pretraining("resnet3d18", "k400")


def r2plus1d_k400() -> Recipe:
    """RSPNet, R(2+1)D, Kinetics-400: UCF101 81.1, HMDB51 44.6 in the paper."""
    return pretraining("r2plus1d", "k400")


def s3dg_k400() -> Recipe:
    """RSPNet, S3D-G, Kinetics-400: UCF101 89.9, HMDB51 59.6 in the paper."""
    return pretraining("s3dg", "k400")


def tsm18_k400() -> Recipe:
    """RSPNet, TSM-18, Kinetics-400: no number in the paper."""
    return pretraining("tsm18", "k400")


def c3d_k100() -> Recipe:
    """RSPNet, C3D, Kinetics-100: UCF101 71.5, HMDB51 36.3 in the paper."""
    return pretraining("c3d", "k100")


def resnet3d18_k100() -> Recipe:
    """RSPNet, ResNet-18, Kinetics-100: UCF101 60.2, HMDB51 32.6 in the paper."""
    return pretraining("resnet3d18", "k100")


def tsm18_k100() -> Recipe:
    """RSPNet, TSM-18, Kinetics-100: UCF101 61.2, HMDB51 32.2 in the paper."""
    return pretraining("tsm18", "k100")


K400, K100 = (c3d_k400, resnet3d18_k400, r2plus1d_k400, s3dg_k400, tsm18_k400), (c3d_k100, resnet3d18_k100, tsm18_k100)
RECIPES = by_name(*K400, *K100)
for base in (*K400, *K100):
    RECIPES |= rows(base, {"paper": PAPER})
for base in K100:
    RECIPES |= rows(base, table_1(base().backbone))
RECIPES |= rows(s3dg_k400, LONG) | rows(r2plus1d_k400, OPTIONS)
