"""Parts of the pages that are made from the code: recipes, published values with their commands, protocols.

Run by conf.py before each build; every function returns markdown.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path

from veval.protocol import Protocol, Task, names_for, preset, usual_for
from veval.results.match_published import end_of
from veval.results.published import BACKBONES, METHODS, Published, load
from vtrain.recipes import RECIPES
from vtrain.recipes.names import says, split
from vtrain.recipes.recipe import Recipe

PAPERS = {"rspnet": "RSPNet", "ascnet": "ASCNet", "prp": "PRP", "pace": "Pace"}
# The words for a data set in recipes' names, and the folder of shards in the examples.
SETS = {
    "Kinetics-400": "k400",
    "Kinetics-100": "k100",
    "Mini-Kinetics-200": "minik200",
    "UCF101": "ucf101",
    "HMDB51": "hmdb51",
    "SSv2": "ssv2",
    "Sports-1M": "sports1m",
}
TOPS = ("top1", "top5", "top10", "top20", "top50")
Cells = Sequence[str]


def table(head: Cells, rows: Iterable[Cells]) -> str:
    """Return a markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines) + "\n"


def recipes_of(start: str) -> dict[str, Recipe]:
    """Return the recipes whose names begin with METHOD or finetune-METHOD."""
    return {name: make() for name, make in RECIPES.items() if split(name).start == start}


def recipes(start: str) -> str:
    """Return the table of a method's recipes."""
    rows = [
        (f"`{name}`", _length(recipe), str(recipe.batch), says(RECIPES[name]).partition(", ")[2])
        for name, recipe in recipes_of(start).items()
    ]
    return table(("recipe", "length", "batch", "what it is"), rows)


def _length(recipe: Recipe) -> str:
    return f"{recipe.steps} steps" if recipe.steps else f"{recipe.epochs:g} epochs"


def published(paper: str) -> str:
    """Return a paper's own numbers, each with the commands that measure the same here."""
    groups: dict[tuple[str, ...], list[Published]] = defaultdict(list)
    for row in load():
        if row.own and row.paper == paper:
            groups[_what(row)].append(row)
    rows = [(*_cells(group[0]), _values(group), _commands(group[0])) for group in groups.values()]
    return table(("table", "network", "learned on", "tested on", "%", "commands"), rows)


def _what(row: Published) -> tuple[str, ...]:
    """Return what the numbers of one line share: everything but the metric and its value."""
    return tuple(str(getattr(row, item.name)) for item in fields(row) if item.name not in ("metric", "value", "note"))


def _cells(row: Published) -> tuple[str, str, str, str]:
    variant = f", {row.variant}" if row.variant else ""
    before = "nothing (scratch)" if row.pretrain == "none" else row.pretrain
    pooled = f", {row.pools.replace('|', ' or ')}" if row.pools else ""
    return row.table, f"{row.backbone}{variant}", before, f"{row.dataset}{pooled}"


def _values(rows: Sequence[Published]) -> str:
    """Return the value, or those of top-1, 5, 10, 20 and 50."""
    return " ".join(f"{row.value:g}" for row in rows)


def _commands(row: Published) -> str:
    steps = [command for command in (training(row), evaluation(row)) if command]
    return "<br>".join(f"`{command}`" for command in steps)


def training(row: Published) -> str:
    """Return the command that trains what a row has; empty for a network that has learned nothing."""
    if row.pretrain == "none":
        return ""
    name = recipe_of(row)
    return f"vtrain {RECIPES[name]().method_name} --recipe {name} --shards {SETS[row.pretrain or 'Kinetics-400']}/"


def recipe_of(row: Published) -> str:
    """Return the recipe that trains what a row has; of several the first that the row names."""
    start = f"{_short(METHODS, row.method)}-{_word(row)}-{SETS[row.pretrain or 'Kinetics-400']}"
    ends = [f"-{end}" if end != "main" else "" for end in row.recipe.split("|")]
    return next(start + end for end in ends if start + end in RECIPES)


def evaluation(row: Published) -> str:
    """Return the command that measures what a row has."""
    shards = f"--shards {SETS[row.dataset]}/"
    weights = f"--weights random --backbone {_short(BACKBONES, row.backbone)} " if row.pretrain == "none" else ""
    if row.task == "retrieval":
        return f"veval retrieval {weights}{shards}{_preset(row)}"
    if row.task == "pretext":
        return ""
    folds = " --folds 1,2,3" if row.splits == "1,2,3" else ""
    crop = f" --protocol {_short(METHODS, row.method)}-{row.crop}" if row.crop not in ("", "centre") else ""
    return f"veval finetune {weights}{shards}{_tuning(row)}{folds}{crop}"


def _tuning(row: Published) -> str:
    """Return the option that names a recipe, if these weights and videos have another recipe by default."""
    method = next(name for name, paper in PAPERS.items() if paper == row.paper)
    start = f"finetune-{method}-{_word(row)}-{SETS[row.dataset]}"
    there = {name: RECIPES[name]().clip for name in RECIPES if name == start or name.startswith(f"{start}-")}
    wanted = (int(row.frames.split("|")[0]), int(row.size), int(row.size))
    fits = [name for name, clip in there.items() if clip == wanted]
    usual = start in fits and row.pretrain != "none"
    return "" if usual or not fits else f" --recipe {fits[0]}"


def _preset(row: Published) -> str:
    """Return the option that names the protocol, if the method's own protocol has another pool."""
    method = _short(METHODS, row.method)
    usual = preset("features", usual_for("features", method))
    if not row.pools or set(usual.pools) & set(row.pools.split("|")):
        return ""
    pools = {name: set(preset("features", name).pools) for name in names_for("features")}
    return f" --protocol {next(name for name in pools if pools[name] == set(row.pools.split('|')))}"


def _word(row: Published) -> str:
    """Return a backbone's word in recipes' names."""
    word = _short(BACKBONES, row.backbone)
    return "s3dg" if word == "s3dg_pace" else word


def _short(names: dict[str, str], printed: str) -> str:
    return next(name for name, other in names.items() if other == printed)


def protocols(task: Task) -> str:
    """Return the protocols of a task, each with its settings."""
    rows = [(f"`{name}`", *_settings(preset(task, name), task), _methods(name, task)) for name in names_for(task)]
    last = ("averaged",) if task == "testing" else ("pooled",)
    head = ("name", "clips", "frames", "where", "short videos", "crop", "pixels in", *last, "usual for")
    return table(head, rows)


def _settings(protocol: Protocol, task: Task) -> tuple[str, ...]:
    cut = "largest square" if protocol.crop_size is None else f"{protocol.crop_size} stored pixels"
    last = protocol.fusion if task == "testing" else ", ".join(protocol.pools)
    clip = f"{protocol.frames} x {protocol.size} x {protocol.size}"
    return (
        str(protocol.clips), clip, protocol.how, protocol.short, f"{protocol.crop}, {cut}", protocol.normalise, last,
    )  # fmt: skip


def _methods(name: str, task: Task) -> str:
    return ", ".join(method for method in (*PAPERS, "vcop") if usual_for(task, method) == name) or "-"


def write_all(folder: Path) -> None:
    """Write every part into `folder`, from which the pages include them; a file that would not change stays."""
    parts = {f"{method}-recipes": recipes(method) for method in PAPERS}
    parts["supervised-recipes"] = recipes("supervised")
    parts |= {f"{method}-finetune": recipes(f"finetune-{method}") for method in (*PAPERS, "vcop")}
    parts |= {f"{method}-published": published(paper) for method, paper in PAPERS.items()}
    parts |= {f"protocols-{task}": protocols(task) for task in ("features", "testing")}
    parts["tiny"] = "\n".join(f"- `{name}`: {says(RECIPES[name])}" for name in RECIPES if end_of(name) == "tiny")
    folder.mkdir(exist_ok=True)
    for name, text in parts.items():
        path = folder / f"{name}.md"
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
