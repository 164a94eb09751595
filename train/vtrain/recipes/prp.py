"""PRP's recipes. Yao et al. (CVPR 2020); tables 1 to 3.

The authors' code reads every frame at the videos' own rate and resizes it to 128 x 171. `stored` says so.
"""

from vtrain.data.stored import Stored
from vtrain.methods.prp import Config
from vtrain.optim.config import Optim
from vtrain.optim.schedule import Schedule
from vtrain.recipes.names import Row, by_name, rows
from vtrain.recipes.recipe import Data, Recipe, Validate

AUTHORS = Stored(frame_size=(128, 171), fps="native")

# The text holds 800 videos out to choose the epoch, and has no schedule.
PAPER = Row("as the text has it", ("crop=random", "mask=paper", "interpolated=included", "fc_lr=1", "kind=constant"))

# For C3D. DG-P with rate 2 is the recipe itself, 70.9 on UCF101 split 1.
ABLATIONS = {
    "dp-1-2": Row("DP, 2 rates", ("branches=DP", "speeds=1,2"), "rate accuracy 88.3, UCF101 68.3"),
    "dp-1-2-4": Row("DP, 3 rates", ("branches=DP", "speeds=1,2,4"), "rate accuracy 80.1, UCF101 68.7"),
    "dp-1-2-4-8": Row("DP, 4 rates", ("branches=DP",), "rate accuracy 69.7, UCF101 69.9"),
    "dp-1-2-4-8-16": Row("DP, 5 rates", ("branches=DP", "speeds=1,2,4,8,16"), "rate accuracy 60.1, UCF101 67.9"),
    "gp-r1-no-ma": Row("GP, rate 1, w/o MA", ("branches=GP", "rate=1", "mask=none"), "UCF101 67.1"),
    "gp-r1": Row("GP, rate 1", ("branches=GP", "rate=1"), "UCF101 68.1"),
    "gp-r2": Row("GP, rate 2", ("branches=GP",), "UCF101 68.2"),
    "gp-r4": Row("GP, rate 4", ("branches=GP", "rate=4"), "UCF101 68.4"),
}


def pretraining(backbone: str) -> Recipe:
    """Return pre-training as in the authors' code, which validates on 800 of the 9,537 videos of UCF101's split 1."""
    return Recipe(
        name=f"prp-{backbone}-ucf101",
        method=Config(),
        backbone=backbone,
        data=Data(hold_out=800),
        stored=AUTHORS,
        batch=8,
        epochs=300,
        optim=Optim(weight_decay=5e-4),
        schedule=Schedule(kind="plateau", lr=0.01, patience=50),
        validate=Validate(every=1),
        keep="best",  # by the loss of the held-out videos
    )


def c3d_ucf101() -> Recipe:
    """PRP, C3D, UCF101: UCF101 69.1, HMDB51 34.5 in the paper."""
    return pretraining("c3d")


def r3d_ucf101() -> Recipe:
    """PRP, R3D, UCF101: UCF101 66.5, HMDB51 29.7 in the paper."""
    return pretraining("r3d")


def r2plus1d_ucf101() -> Recipe:
    """PRP, R(2+1)D, UCF101: UCF101 72.1, HMDB51 35.0 in the paper."""
    return pretraining("r2plus1d")


RECIPES = by_name(c3d_ucf101, r3d_ucf101, r2plus1d_ucf101)
for base in (c3d_ucf101, r3d_ucf101, r2plus1d_ucf101):
    RECIPES |= rows(base, {"paper": PAPER})
RECIPES |= rows(c3d_ucf101, ABLATIONS)
