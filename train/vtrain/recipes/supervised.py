"""Recipes for fine-tuning as each paper's authors do it: training all layers on labels, from weights or from scratch.

Recipes for pre-training on labels are in `full_supervision`.

The test of a network afterwards is not part of a recipe. The fold is 1 by default. `stored` says which set a recipe
expects: the authors' code resamples UCF101 to 25 frames a second for RSPNet's ResNet-18 and S3D-G, and nothing else.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Literal, NamedTuple

from vprep.errors import UsageError
from vtrain.conversion import alternatives
from vtrain.data.sampling import PLAIN, OneClip
from vtrain.data.stored import Rate
from vtrain.methods import pace as pace_method
from vtrain.methods import prp as prp_method
from vtrain.methods.supervised import Config
from vtrain.optim.config import Optim
from vtrain.optim.schedule import Schedule
from vtrain.recipes import full_supervision
from vtrain.recipes import pace as pace_recipes
from vtrain.recipes import prp as prp_recipes
from vtrain.recipes.names import Make, Row, fixed, on_backbone, rows, split, word_of
from vtrain.recipes.recipe import Data, Recipe, Validate
from vtrain.recipes.rspnet import AUTHORS
from vtrain.recipes.tiny import finetune_tiny

Profile = Literal["released", "paper"]
Setup = tuple[str, str]  # data and backbone
Numbers = Mapping[Setup, str]  # top-1 in the paper; empty: none

DATA = {"ucf101": "UCF101", "hmdb51": "HMDB51", "ssv2": "Something-Something-V2"}
NETS = {
    "c3d": "C3D",
    "r3d": "R3D",
    "r2plus1d": "R(2+1)D",
    "resnet3d18": "ResNet-18",
    "s3dg": "S3D-G",
    "tsm18": "TSM-18",
}


class Tuning(NamedTuple):
    """The settings of RSPNet's code for a data set and a backbone."""

    batch: int  # on 2 GPUs, as in their README; for R(2+1)D on UCF101 on 4
    lr: float  # for any batch
    epochs: int
    milestones: tuple[int, ...] = ()  # none: a cosine
    frames: int = 16
    size: int = 112
    fps: Rate = "native"  # a number: the code resamples


TUNINGS: dict[Setup, Tuning] = {
    ("ucf101", "c3d"): Tuning(40, 0.005, 30),
    ("ucf101", "resnet3d18"): Tuning(64, 0.1, 30, fps=25.0),
    ("ucf101", "r2plus1d"): Tuning(32, 0.1, 30),
    ("ucf101", "s3dg"): Tuning(8, 0.005, 50, frames=64, size=224, fps=25.0),
    ("hmdb51", "c3d"): Tuning(12, 0.005, 100, (50, 70, 90)),
    ("hmdb51", "resnet3d18"): Tuning(128, 0.01, 30, (50, 70, 90)),  # it ends before the first of them
    ("hmdb51", "r2plus1d"): Tuning(32, 0.1, 30),
    ("hmdb51", "s3dg"): Tuning(8, 0.005, 50, frames=64, size=224),
    # Its file has steps at 20 and 40, but among the settings of the test, where nothing reads them: a cosine runs.
    ("ssv2", "c3d"): Tuning(32, 0.1, 50),
    ("ssv2", "resnet3d18"): Tuning(64, 0.01, 50, (20, 40)),
    ("ssv2", "s3dg"): Tuning(32, 0.01, 50, (20, 40), size=224),
    # The code has no file for TSM-18: these are the settings of a file that names none, and its option for SSv2. It
    # sees as many frames as in pre-training.
    ("ucf101", "tsm18"): Tuning(128, 0.1, 30, frames=8),
    ("hmdb51", "tsm18"): Tuning(128, 0.1, 30, frames=8),
    ("ssv2", "tsm18"): Tuning(128, 0.01, 50, (20, 40), frames=8),
}


def rspnet(data: str, backbone: str) -> Recipe:
    """Return fine-tuning as in the authors' code, which chooses the epoch on the test list."""
    has = TUNINGS[data, backbone]
    spread: Literal["cover", "consecutive"] = "cover" if data == "ssv2" else "consecutive"
    kind: Literal["step", "cosine"] = "step" if has.milestones else "cosine"
    augment = replace(
        PLAIN, size=has.size, flip=0.0 if data == "ssv2" else 0.5
    )  # its labels distinguish left and right
    return Recipe(
        name=f"finetune-rspnet-{backbone}-{data}",
        method=Config(sampling=OneClip(frames=has.frames, how=spread, looks=(augment,))),
        backbone=backbone,
        stored=replace(AUTHORS, fps=has.fps),
        batch=has.batch,
        epochs=has.epochs,
        schedule=Schedule(kind=kind, lr=has.lr, floor=0.001, per="epoch", milestones=has.milestones),
    )


def ascnet(data: str, backbone: str) -> Recipe:
    """Return RSPNet's fine-tuning, whose authors are partly the same, with the end of the cosine from the text."""
    base = rspnet(data, backbone)
    return replace(base, name=f"finetune-ascnet-{backbone}-{data}", schedule=Schedule(lr=base.schedule.lr, floor=0.01))


def vcop(data: str, backbone: str) -> Recipe:
    """Return the fine-tuning of VCOP's code, which keeps the epoch with the lowest loss on held-out videos.

    Xu et al.: Self-supervised spatiotemporal learning via video clip order prediction (CVPR 2019).
    """
    return Recipe(
        name=f"finetune-vcop-{backbone}-{data}",
        method=Config(sampling=OneClip(looks=(prp_method.PAPER,))),
        backbone=backbone,
        data=Data(hold_out=800 if data == "ucf101" else 400),
        stored=prp_recipes.AUTHORS,
        batch=8,
        epochs=150,
        optim=Optim(weight_decay=5e-4),
        schedule=Schedule(kind="constant", lr=0.001),
        validate=Validate(every=1),
        keep="best",
    )


def prp(data: str, backbone: str) -> Recipe:
    """Return fine-tuning as in the authors' code, which tests the epoch that VCOP's code would keep."""
    schedule = Schedule(kind="step", lr=0.001, milestones=(100,))
    return replace(vcop(data, backbone), name=f"finetune-prp-{backbone}-{data}", epochs=160, schedule=schedule)


def pace(data: str, backbone: str) -> Recipe:
    """Return fine-tuning with the settings of pre-training, for which there is code, at pace 1 and without jitter."""
    large = backbone == "s3dg_pace"
    augment = replace(pace_method.RELEASED, jitter_chance=0)
    augment = replace(augment, size=224, crop_size=224) if large else augment
    return Recipe(
        name=f"finetune-pace-{word_of(backbone)}-{data}",
        method=Config(sampling=OneClip(frames=64 if large else 16, short="restart", looks=(augment,))),
        backbone=backbone,
        stored=pace_recipes.authors(large=large),
        batch=32 if large else 30,
        epochs=18,
        repeat=10,
        optim=Optim(weight_decay=0.005),
        schedule=Schedule(kind="step", lr=0.01 if large else 0.003, milestones=(6, 12)),
    )


def numbers(ucf101: Mapping[str, str], hmdb51: Mapping[str, str], ssv2: Mapping[str, str] | None = None) -> Numbers:
    """Return the results of the data sets, each by backbone, as one mapping by data set and backbone."""
    sets = {"ucf101": ucf101, "hmdb51": hmdb51, "ssv2": ssv2 or {}}
    return {(data, backbone): top1 for data, row in sets.items() for backbone, top1 in row.items()}


GAVE: dict[str, Numbers] = {
    "rspnet": numbers(
        {"c3d": "76.7", "resnet3d18": "74.3", "r2plus1d": "81.1", "s3dg": "89.9", "tsm18": "61.2"},
        {"c3d": "44.6", "resnet3d18": "41.8", "r2plus1d": "44.6", "s3dg": "59.6", "tsm18": "32.2"},
        {"c3d": "47.8", "resnet3d18": "44.0", "s3dg": "55.0", "tsm18": ""},
    ),
    "ascnet": numbers(
        {"resnet3d18": "80.5", "r2plus1d": "75.95", "s3dg": "90.8"},
        {"resnet3d18": "52.3", "r2plus1d": "", "s3dg": "60.5"},
    ),
    "prp": numbers(
        {"c3d": "69.1", "r3d": "66.5", "r2plus1d": "72.1"}, {"c3d": "34.5", "r3d": "29.7", "r2plus1d": "35.0"}
    ),
    "pace": numbers(
        {"c3d": "", "r3d": "", "r2plus1d": "75.9", "s3dg_pace": "87.1"},
        {"c3d": "", "r3d": "", "r2plus1d": "35.9", "s3dg_pace": "52.6"},
    ),
    "vcop": numbers(
        {"c3d": "65.6", "r3d": "64.9", "r2plus1d": "72.4"}, {"c3d": "28.4", "r3d": "29.5", "r2plus1d": "30.9"}
    ),
}
MAKES: dict[str, tuple[str, Callable[[str, str], Recipe]]] = {
    "rspnet": ("RSPNet", rspnet),
    "ascnet": ("ASCNet", ascnet),
    "prp": ("PRP", prp),
    "pace": ("Pace", pace),
    "vcop": ("VCOP", vcop),
}

AT_25 = "stored.fps=25"  # "All videos are with 25 fps"
COSINE = ("lr=0.01", "kind=cosine", "floor=0", "per=step", "milestones=")
PRP_TEXT = ("lr=0.01", "kind=constant", "epochs=150")  # "settings are the same as those during PRP training"
PACE_TEXT = ("jitter_chance=0.8",)  # "pre-processing [is] the same"
PAPER: dict[tuple[str, str], tuple[str, ...]] = {
    ("rspnet", "ucf101"): (*COSINE, "epochs=30", AT_25),
    ("rspnet", "hmdb51"): (*COSINE, "epochs=70", AT_25),
    ("rspnet", "ssv2"): ("lr=0.01", "kind=step", "milestones=20,40", "epochs=50", AT_25),
    ("prp", "ucf101"): PRP_TEXT,
    ("prp", "hmdb51"): PRP_TEXT,
    ("pace", "ucf101"): PACE_TEXT,
    ("pace", "hmdb51"): PACE_TEXT,
}
SIZES = {  # ASCNet's tables 1f and 3, by the name of the recipe
    "finetune-ascnet-resnet3d18-ucf101": {"16x128": Row("clips of 16 x 128 x 128", ("size=128",), "80.99")},
    "finetune-ascnet-s3dg-ucf101": {
        "16x112": Row("clips of 16 x 112 x 112", ("frames=16", "size=112"), "75.04"),
        "32x128": Row("clips of 32 x 128 x 128", ("frames=32", "size=128"), "87.31"),
    },
}


def of_method(method: str) -> dict[str, Make]:
    """Return all fine-tunings of a method, in both profiles, by name."""
    title, make = MAKES[method]
    found: dict[str, Make] = {}
    for (data, backbone), top1 in GAVE[method].items():
        recipe = make(data, backbone)
        gave = f"{top1} in the paper" if top1 else "no number in the paper"
        base = fixed(recipe, f"Fine-tuning as {title}, {NETS[word_of(backbone)]}, {DATA[data]}: {gave}.")
        found[recipe.name] = base
        if (method, data) in PAPER:
            found |= rows(base, {"paper": Row("as the text has it", PAPER[method, data])})
        found |= rows(base, SIZES.get(recipe.name, {}))
    return found


RECIPES = {name: make for method in MAKES for name, make in of_method(method).items()} | full_supervision.RECIPES


def finetuning(method: str, dataset: str, backbone: str, profile: Profile = "released") -> Recipe:
    """Return the recipe by which the authors of `method` fine-tune this backbone on this data set.

    `method` may also be `vcop`, or `supervised`, which follows RSPNet. If the authors published nothing for this
    backbone, return another backbone's recipe with this backbone. ASCNet's and VCOP's profiles are the same; the
    backbone `tiny` has its own recipe.
    """
    if backbone == "tiny":
        return finetune_tiny()
    start = f"finetune-{'rspnet' if method == 'supervised' else method}"
    own = [name for name in RECIPES if split(name).start == start]
    if not own:
        raise UsageError(f"no fine-tuning of method '{method}'; {alternatives(method, (*MAKES, 'supervised'))}")
    datasets = list(dict.fromkeys(split(name).data for name in own))
    if dataset not in datasets:
        raise UsageError(f"no fine-tuning of {method} on '{dataset}'; {alternatives(dataset, datasets)}")
    end = "paper" if profile == "paper" and any(split(name).end == "paper" for name in own) else ""
    there = {split(name).backbone: name for name in own if (split(name).data, split(name).end) == (dataset, end)}
    # For another network, the recipe of the most similar network: R(2+1)D, or a ResNet.
    first = next(there[word] for word in (word_of(backbone), "r2plus1d", "resnet3d18") if word in there)
    return on_backbone(RECIPES, first, backbone)
