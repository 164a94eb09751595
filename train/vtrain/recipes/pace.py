"""Pace's recipes. Wang, Jiao, Liu (ECCV 2020); tables 1 to 4.

The authors' code has pace prediction on UCF101; the contrastive half, Kinetics-400 and fine-tuning follow the text.
The code reads extracted frames and resizes them to 128 x 171, and for S3D-G to 256 x 256; the text speaks of 25 frames
a second. `stored` says so.
"""

from dataclasses import replace

from vtrain.data.stored import Stored
from vtrain.methods.pace import RELEASED, Config, Sampling
from vtrain.optim.config import Optim
from vtrain.optim.schedule import Schedule
from vtrain.recipes.names import Row, by_name, rows, word_of
from vtrain.recipes.recipe import Recipe

# The complete method: same context, after a layer of "~4k" parameters. Where the text is open, it follows the code.
PAPER = Row("as the text has it", ("contrast=same context", "layer=fc", "ctr_dim=8", "softmax=batch"))
COMPLETE = {
    "pace-r2plus1d-ucf101": "UCF101 75.9, HMDB51 35.9",
    "pace-s3dg-ucf101": "UCF101 87.1, HMDB51 52.6",
    "pace-r2plus1d-k400": "UCF101 77.1, HMDB51 36.6",
}

PLAIN = "jitter_chance=0"
ALONE = ("weight_cls=0", "weight_ctr=1")  # a single loss needs no weight

# For R(2+1)D on UCF101. The recipe itself is the row of table 1 with paces 1 to 4 and jitter: UCF101 73.9.
ABLATIONS = {
    "1to3": Row("paces 1 to 3, no jitter", ("paces=1,2,3", PLAIN), "UCF101 71.4"),
    "1to4": Row("paces 1 to 4, no jitter", (PLAIN,), "UCF101 72.0"),
    "1to5": Row("paces 1 to 5, no jitter", ("paces=1,2,3,4,5", PLAIN), "UCF101 72.0"),
    "1to6": Row("paces 1 to 6, no jitter", ("paces=1,2,3,4,5,6", PLAIN), "UCF101 71.1"),
    "slow": Row("paces 1/3, 1/2, 1, 2, 3", ("paces=1/3,1/2,1,2,3",), "UCF101 73.9"),
    "jitter-clip": Row("one jitter for all frames", ("jitter_per=clip",), "no number"),
    "same-pace-alone": Row("same pace alone", ("contrast=same pace", *ALONE), "UCF101 59.4, HMDB51 20.3"),
    "same-context-alone": Row("same context alone", ("contrast=same context", *ALONE), "UCF101 67.3, HMDB51 28.6"),
    "same-pace": Row("with same pace", ("contrast=same pace",), "UCF101 73.6, HMDB51 32.3"),
    "same-context": Row("with same context", ("contrast=same context",), "UCF101 75.8, HMDB51 35.0"),
    "same-context-fc": Row(
        "with same context and a layer", ("contrast=same context", "layer=fc"), "UCF101 75.9, HMDB51 35.9"
    ),
    "same-context-fc-4k": Row(
        "with same context and a layer of 4,104 parameters",
        ("contrast=same context", "layer=fc", "ctr_dim=8"),
        "UCF101 75.9, HMDB51 35.9",
    ),
}


def authors(*, large: bool) -> Stored:
    """Return how the authors stored frames: those of S3D-G are large."""
    return Stored(frame_size=(256, 256) if large else (128, 171), fps=25.0)


def pretraining(backbone: str, data: str = "ucf101") -> Recipe:
    """Return pre-training as in the authors' code: on UCF101 an epoch shows each video ten times."""
    large = backbone == "s3dg_pace"
    augment = replace(RELEASED, size=224, crop_size=224) if large else RELEASED
    return Recipe(
        name=f"pace-{word_of(backbone)}-{data}",
        method=Config(sampling=Sampling(frames=64 if large else 16, looks=(augment,))),
        backbone=backbone,
        stored=authors(large=large),
        batch=32 if large else 30,
        epochs=18,
        repeat=10 if data == "ucf101" else 1,
        optim=Optim(weight_decay=0.005),
        schedule=Schedule(kind="step", lr=0.001, milestones=(6, 12)),
    )


def c3d_ucf101() -> Recipe:
    """Pace, C3D, UCF101: top-1 of retrieval in UCF101 31.9 in the paper."""
    return pretraining("c3d")


def r3d_ucf101() -> Recipe:
    """Pace, R3D, UCF101: top-1 of retrieval in UCF101 23.8 in the paper."""
    return pretraining("r3d")


def r2plus1d_ucf101() -> Recipe:
    """Pace, R(2+1)D, UCF101: UCF101 73.9, HMDB51 33.8 in the paper."""
    return pretraining("r2plus1d")


def s3dg_ucf101() -> Recipe:
    """Pace, S3D-G, UCF101: UCF101 87.1, HMDB51 52.6 in the paper, with the contrastive half."""
    return pretraining("s3dg_pace")


def r2plus1d_k400() -> Recipe:
    """Pace, R(2+1)D, Kinetics-400: UCF101 77.1, HMDB51 36.6 in the paper, with the contrastive half."""
    return pretraining("r2plus1d", "k400")


BASES = (c3d_ucf101, r3d_ucf101, r2plus1d_ucf101, s3dg_ucf101, r2plus1d_k400)
RECIPES = by_name(*BASES)
for base in BASES:
    RECIPES |= rows(base, {"paper": PAPER._replace(gave=COMPLETE.get(base().name, ""))})
RECIPES |= rows(r2plus1d_ucf101, ABLATIONS)
