"""Parts of the pages that are made from the code: recipes, the papers' tables with their commands, protocols.

Run by conf.py before each build; every function returns markdown.
"""

from pathlib import Path

from rows import PAPERS
from tables import page, table
from veval.protocol import Protocol, Task, names_for, preset, usual_for
from veval.results.match_published import end_of
from vtrain.recipes import RECIPES
from vtrain.recipes.names import says, split
from vtrain.recipes.recipe import Recipe


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
    parts["tables"] = page()
    parts |= {f"protocols-{task}": protocols(task) for task in ("features", "testing")}
    parts["tiny"] = "\n".join(f"- `{name}`: {says(RECIPES[name])}" for name in RECIPES if end_of(name) == "tiny")
    folder.mkdir(exist_ok=True)
    for name, text in parts.items():
        path = folder / f"{name}.md"
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
