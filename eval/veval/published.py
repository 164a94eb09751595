"""What the four papers published, and which of it a result may stand beside.

published.csv has one row for each number in a table of RSPNet (AAAI 2021), ASCNet (ICCV 2021), PRP (CVPR 2020) and
Pace (ECCV 2020), their own (own=1) and those they took from others, with what the paper says of how it was measured.
`method` and `backbone` are the same words for the same things in all of them; `printed` has the paper's own words
where they differ. An empty cell is something that the paper does not say; a|b is either. `recipe` names the recipes
that train what the row has, by the end of their names. `epochs` of Pace on UCF101 are of ten times the list, as its
authors count them. `note` tells where the papers' tables contradict each other.
"""

import csv
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from rich.table import Table
from rich.text import Text

# Networks that are in none of the tables (torchvision's deeper ones, `tiny`) are not here.
BACKBONES = {
    "c3d": "C3D",
    "r3d": "R3D",  # one block a stage; Pace prints R3D-18
    "r2plus1d": "R(2+1)D",
    "resnet3d18": "3D ResNet-18",  # RSPNet prints ResNet-18, ASCNet 3D R18
    "resnet3d34": "3D ResNet-34",
    "s3dg": "S3D-G",
    "s3dg_pace": "S3D-G (Pace)",
    "s3d": "S3D",
    "tsm18": "TSM-18",
}
METHODS = {
    "rspnet": "RSPNet",
    "ascnet": "ASCNet",
    "prp": "PRP",
    "pace": "Pace",
    "vcop": "VCOP",
    "supervised": "supervised",
    "random": "scratch",
    "scratch": "scratch",
}
TASKS = {"finetune": "finetune", "test": "finetune", "retrieval": "retrieval"}
DATASETS = {
    "k400": "kinetics400",
    "k100": "kinetics100",
    "k600": "kinetics600",
    "minik200": "minikinetics200",
    "somethingsomethingv2": "ssv2",
    "somethingv2": "ssv2",
}

# What keeps a published number from standing beside ours, with how much it matters for which is the nearest.
FACTS = {
    "method": ("method", 16),
    "dataset": ("tested on", 16),
    "backbone": ("backbone", 8),
    "pretrain": ("pre-trained on", 6),
    "recipe": ("recipe", 3),
    "splits": ("folds", 3),
    "epochs": ("epochs of pre-training", 2),
    "size": ("pixels", 2),
    "frames": ("frames", 2),
    "pools": ("pooled by", 2),
    "level": ("level", 1),
    "clips": ("clips", 1),
    "crop": ("crop", 1),
    "fusion": ("fusion", 1),
}
OF_TRAINING = ("recipe", "epochs")  # of weights that were not trained here, nobody knows them
NEAR = 0.1  # epochs may differ by this share
NOT_SAID = "not said"

# Where a paper's text and its authors' code, or two of its sentences, are not the same.
ABOUT = {
    ("RSPNet", "finetune"): "RSPNet's code keeps the epoch that is best on the test list, and averages the logits of "
    "10 clips; its text says neither",
    ("RSPNet", "retrieval"): "RSPNet's text pools by the largest over space, its authors' code by the mean",
    ("ASCNet", "retrieval"): "ASCNet's text makes one vector of a video, and has clips as queries",
    ("Pace", "retrieval"): "Pace's text has clips as queries, and follows VCOP, which has videos",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One number; see above for what its cells mean."""

    paper: str
    table: str
    task: str
    dataset: str
    metric: str
    method: str
    variant: str
    backbone: str
    pretrain: str
    recipe: str
    epochs: str
    splits: str
    clips: str
    frames: str
    size: str
    crop: str
    fusion: str
    pools: str
    level: str
    value: float
    own: bool
    printed: str
    note: str

    @property
    def place(self) -> str:
        return f"{self.paper} {'table ' if self.table[0].isdigit() else ''}{self.table}"

    @property
    def measured(self) -> bool:
        """Whether the paper says how: its own rows do, and those of its untrained networks and of VCOP in PRP."""
        return self.own or self.method == "scratch" or (self.paper, self.method) == ("PRP", "VCOP")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The published numbers that were measured like ours; where there is none, the nearest and what differs."""

    rows: list[Published]
    nearest: Published | None
    differs: list[str]
    not_said: list[str]  # of our weights, which may still differ


@cache
def load() -> tuple[Published, ...]:
    text = resources.files("veval").joinpath("published.csv").read_text("utf-8")
    rows: Iterator[dict[str, Any]] = csv.DictReader(text.splitlines())
    return tuple(Published(**row | {"value": float(row["value"]), "own": row["own"] == "1"}) for row in rows)


def published(
    *,
    paper: str | None = None,
    task: str | None = None,
    dataset: str | None = None,
    metric: str | None = None,
    method: str | None = None,
    backbone: str | None = None,
) -> list[Published]:
    """The numbers that have all of these words; a backbone may also be called by our name."""
    asked = {
        "paper": paper,
        "task": task,
        "dataset": dataset,
        "metric": metric,
        "method": METHODS.get(method or "", method),
        "backbone": BACKBONES.get(backbone or "", backbone),
    }
    wanted = {name: plain(word) for name, word in asked.items() if word is not None}
    return [row for row in load() if all(plain(getattr(row, name)) == word for name, word in wanted.items())]


def as_table(rows: Iterable[Published]) -> Table:
    """For people."""
    names = (
        "paper",
        "table",
        "task",
        "dataset",
        "metric",
        "method",
        "variant",
        "backbone",
        "pretrain",
        "value",
        "note",
    )
    table = Table(*names)
    for row in rows:
        table.add_row(*(Text(f"{row.value:g}" if name == "value" else getattr(row, name)) for name in names))
    return table


def compare(result: Mapping[str, Any], metric: str, folds: str | None = None) -> Answer:
    """What was published that is measured like this number. `folds` are those it is the mean of, as 1,2,3."""
    ours = facts_of(result, folds)
    task = TASKS.get(result["kind"])
    there = [row for row in load() if row.measured and (row.task, row.metric) == (task, metric)]
    if not there or ours["method"] == "supervised":
        what = (
            "what came before the fine-tuning, the result does not say" if there else f"no paper has {result['kind']}"
        )
        return Answer(rows=[], nearest=None, differs=[what], not_said=[])
    trained_here = result["weights"].get("step") is not None
    found = [(row, _differing(row, ours, trained_here)) for row in there]
    rows = [row for row, differing in found if not differing]
    if rows:
        unknown = [FACTS[name][0] for name in OF_TRAINING if getattr(rows[0], name) and ours[name] is None]
        return Answer(rows=rows, nearest=None, differs=[], not_said=unknown)
    nearest, differing = min(found, key=lambda pair: sum(FACTS[name][1] for name in pair[1]))
    return Answer(rows=[], nearest=nearest, differs=[_told(name, nearest, ours) for name in differing], not_said=[])


def facts_of(result: Mapping[str, Any], folds: str | None = None) -> dict[str, str | None]:
    """A result in the words of the table; None is not said."""
    weights, data, protocol = result["weights"], result["data"], result["protocol"]
    method = METHODS.get(str(weights.get("method")), weights.get("method"))
    before = weights.get("data")
    before = before.get("name") if isinstance(before, dict) else before
    found = {
        "method": method,
        "dataset": data.get("name"),
        "backbone": BACKBONES.get(str(weights.get("backbone")), weights.get("backbone")),
        "pretrain": "none" if method == "scratch" else before,
        "recipe": end_of(weights.get("recipe")),
        "splits": _splits(data, folds),
        "epochs": weights["epochs"] if isinstance(weights.get("epochs"), int | float) else None,
        **{name: protocol.get(name) for name in ("size", "frames", "clips", "crop", "fusion", "level", "pools")},
    }
    return {name: None if value is None else str(value) for name, value in found.items()}


def end_of(recipe: Any) -> str | None:  # noqa: ANN401  whatever a file says
    """What follows METHOD-BACKBONE-DATA in a recipe's name; `main` where nothing does."""
    if recipe is None:
        return None
    words = str(recipe).split("-", 3)
    if len(words) < 3:
        return "main" if words[-1] == "released" else words[-1]
    return words[3] if len(words) > 3 else "main"


def plain(word: str) -> str:
    """The same for all ways to write a name."""
    bare = re.sub(r"[^a-z0-9+()]", "", word.lower())
    return DATASETS.get(bare, bare)


def _splits(data: Mapping[str, Any], folds: str | None) -> str | None:
    """The folds, if these are the videos of a test list."""
    split = str(data.get("split"))
    if data.get("subset") is not None:
        return f"a subset of {split}"
    if data.get("fold") is None and folds is None:
        return None
    words = set(split.split(","))
    told = folds or str(data["fold"])
    return told if words <= {"train", "test"} and "test" in words else f"{told}, split {split}"


def _differing(row: Published, ours: Mapping[str, str | None], trained_here: bool) -> list[str]:
    return [name for name in FACTS if not _agrees(name, getattr(row, name), ours[name], trained_here)]


def _agrees(name: str, theirs: str, mine: str | None, trained_here: bool) -> bool:
    if not theirs:
        return name not in ("method", "dataset", "backbone", "pretrain")
    if mine is None:
        return name in OF_TRAINING and not trained_here
    if name == "epochs":
        return abs(float(mine) - float(theirs)) <= NEAR * float(theirs)
    if name == "pools":
        return set(mine.split(",")) <= set(theirs.split("|"))
    return plain(mine) in map(plain, theirs.split("|"))


def _told(name: str, row: Published, ours: Mapping[str, str | None]) -> str:
    theirs = getattr(row, name) or NOT_SAID
    return f"{FACTS[name][0]}: {theirs.replace('|', ' or ')} there, {ours[name] or NOT_SAID} here"
