"""The other files in the folder of a run."""

import json
import random
from pathlib import Path

from mutate import mutate_bytes, mutate_text

from fuzzed import Kind
from vtrain import run_folder
from vtrain.overrides import as_json
from vtrain.recipes import named
from vtrain.recipes.recipe import read_recipe
from vtrain.training.log import Metrics
from vtrain.training.train import note_environment

LINE = {"step": 5, "loss": 1.5, "lr": 0.1, "clips_per_s": 20.0, "wait": 0.1}


def make_recipe(folder: Path) -> Path:
    path = folder / run_folder.RECIPE
    run_folder.write_json(path, as_json(named("rspnet-c3d-k400")))
    return path


def make_environment(folder: Path) -> Path:
    note_environment(folder, 0)
    return folder / run_folder.ENVIRONMENT


def make_metrics(folder: Path) -> Path:
    path = folder / run_folder.METRICS
    path.write_text("".join(json.dumps(LINE | {"step": step}) + "\n" for step in range(5, 50, 5)))
    return path


def mutate_json(good: bytes, seed: int) -> bytes:
    return mutate_text(json.loads(good), seed)


def mutate_lines(good: bytes, seed: int) -> bytes:
    """Return lines of JSON of which one is changed, or bytes."""
    rng = random.Random(f"lines {seed}")
    if rng.randrange(3) == 0:
        return mutate_bytes(good, seed)
    lines = good.splitlines()
    at = rng.randrange(len(lines))
    lines[at] = mutate_text(json.loads(lines[at]), seed)
    return b"\n".join(lines) + b"\n"


KINDS = [
    Kind(
        name="recipe",
        make=make_recipe,
        mutate=mutate_json,
        readers={"recipe": lambda path: read_recipe(path, "MODULE:NAME"), "name": lambda path: named(str(path))},
    ),
    Kind(
        name="environment",
        make=make_environment,
        mutate=mutate_json,
        readers={"note": lambda path: note_environment(path.parent, 5)},
    ),
    Kind(
        name="metrics",
        make=make_metrics,
        mutate=mutate_lines,
        readers={"go on": lambda path: Metrics(path, 20).close()},
    ),
]
