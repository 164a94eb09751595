"""Find the published numbers for a result: all that the paper states about them must agree with the result."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from veval.results.data_sets import other_amounts
from veval.results.published import BACKBONES, METHODS, Published, load, plain

TASKS = {"finetune": "finetune", "test": "finetune", "retrieval": "retrieval"}
# Column of the table -> its name in notes, and its weight in the choice of the nearest row. All must agree.
COMPARED = {
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
OF_TRAINING = ("recipe", "epochs")  # not known for weights that were trained elsewhere
NEAR = 0.1  # share by which epochs may differ
NOT_SAID = "not said"
LONGEST = 200  # characters of a word
SUPERVISED = "supervised-"  # recipes of pre-training on labels; all others of that method are fine-tunings

# Where a paper's text and its authors' code, or two of its sentences, differ.
ABOUT = {
    ("RSPNet", "finetune"): "RSPNet's code keeps the epoch that is best on the test list, and averages the logits of "
    "10 clips (of 2 on SSv2, of 3 for ResNet-18 on HMDB51); its text says neither",
    ("RSPNet", "retrieval"): "RSPNet's text pools by the largest over space, its authors' code by the mean",
    ("ASCNet", "retrieval"): "ASCNet's text makes one vector of a video, and has clips as queries",
    ("Pace", "retrieval"): "Pace's text has clips as queries, and follows VCOP, which has videos",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The published numbers that were measured like ours; if there is none, the nearest number and the differences."""

    rows: list[Published]
    nearest: Published | None
    differs: list[str]
    unknown: list[str]  # properties of our weights that are not known, and may differ


def compare(results: Sequence[Mapping[str, Any]], metric: str, folds: str | None = None) -> Answer:
    """Find the published numbers for this metric of one result, or of several that differ in their seeds and folds.

    `folds` are the folds that it is a mean over, as 1,2,3.
    """
    result = results[0]
    ours = row_of(result, folds)
    task = TASKS.get(result["kind"])
    there = [row for row in load() if row.measured and (row.task, row.metric) == (task, metric)]
    tuned = ours["method"] == "supervised" and not str(result["weights"].get("recipe")).startswith(SUPERVISED)
    if not there or tuned:
        why = "the result does not say what came before the fine-tuning" if there else f"no paper has {result['kind']}"
        return Answer(rows=[], nearest=None, differs=[why], unknown=[])
    trained_here = result["weights"].get("step") is not None
    found = [(row, _differing(row, ours, trained_here)) for row in there]
    rows = [row for row, differing in found if not differing]
    amounts = other_amounts(results, rows[0].dataset, rows[0].pretrain) if rows else []
    if amounts:
        return Answer(rows=[], nearest=rows[0], differs=amounts, unknown=[])
    if rows:
        unknown = [COMPARED[name][0] for name in OF_TRAINING if getattr(rows[0], name) and ours[name] is None]
        return Answer(rows=rows, nearest=None, differs=[], unknown=unknown)
    nearest, differing = min(found, key=lambda pair: sum(COMPARED[name][1] for name in pair[1]))
    amounts = other_amounts(
        results,
        "" if "dataset" in differing else nearest.dataset,
        "" if "pretrain" in differing else nearest.pretrain,
    )
    return Answer(
        rows=[], nearest=nearest, differs=[_difference(name, nearest, ours) for name in differing] + amounts, unknown=[]
    )


def row_of(result: Mapping[str, Any], folds: str | None = None) -> dict[str, str | None]:
    """Return a result in the words of the table; None: not known."""
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
        **{name: protocol.get(name) for name in ("size", "frames", "clips", "fusion", "level")},
        "crop": _crop(protocol),
        "pools": protocol.get("pool") or protocol.get("pools"),
    }
    return {name: None if value is None else str(value)[:LONGEST] for name, value in found.items()}


def _crop(protocol: Mapping[str, Any]) -> str | None:
    """Return the crop. Of the largest square there are only six views; results of revision 1 may count them as ten."""
    crop: str | None = protocol.get("crop")
    return "six views" if crop == "ten" and protocol.get("crop_size") == "largest" else crop


def end_of(recipe: Any) -> str | None:  # noqa: ANN401  any value of a file
    """Return the words after METHOD-BACKBONE-DATA in a recipe's name; `main` where there are none."""
    if recipe is None:
        return None
    words = str(recipe).split("-", 3)
    if len(words) < 3:
        return "main" if words[-1] == "released" else words[-1]
    return words[3] if len(words) > 3 else "main"


def _splits(data: Mapping[str, Any], folds: str | None) -> str | None:
    """Return the folds in the words of the table, whose numbers are all about test lists."""
    split = str(data.get("split"))
    if data.get("subset") is not None:
        return f"a subset of {split}"
    if data.get("fold") is None and folds is None:
        return None
    words = set(split.split(","))
    numbers = folds or str(data["fold"])
    return numbers if words <= {"train", "test"} and "test" in words else f"{numbers}, split {split}"


def _differing(row: Published, ours: Mapping[str, str | None], trained_here: bool) -> list[str]:
    return [name for name in COMPARED if not _agrees(name, getattr(row, name), ours[name], trained_here)]


def _agrees(name: str, theirs: str, ours: str | None, trained_here: bool) -> bool:
    if not theirs:
        return name not in ("method", "dataset", "backbone", "pretrain")
    if ours is None:
        return name in OF_TRAINING and not trained_here
    if name == "epochs":
        return abs(float(ours) - float(theirs)) <= NEAR * float(theirs)
    if name == "pools":
        return set(ours.split(",")) <= set(theirs.split("|"))
    return plain(ours) in map(plain, theirs.split("|"))


def _difference(name: str, row: Published, ours: Mapping[str, str | None]) -> str:
    theirs = getattr(row, name) or NOT_SAID
    return f"{COMPARED[name][0]}: {theirs.replace('|', ' or ')} there, {ours[name] or NOT_SAID} here"
