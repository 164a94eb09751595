"""A new built-in method is one file and its name: its command, its recipes and its training follow."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from commands import Done

import vtrain as package

ROOT = Path(__file__).parents[2]
SMALL = ("backbone_settings.width=4", "frames=4", "size=16", "batch=4", "steps=2", "workers=0")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the package with the example as another built-in method, which has no recipes."""
    copy = tmp_path / "tree"
    shutil.copytree(Path(package.__path__[0]), copy / "vtrain", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "examples" / "my_method.py", copy / "vtrain" / "methods" / "rotation.py")
    register = copy / "vtrain" / "methods" / "__init__.py"
    before = register.read_text()
    register.write_text(before.replace('NAMES = ("rspnet",', 'NAMES = ("rspnet", "rotation",'))
    assert register.read_text() != before
    return copy


def new_vtrain(tree: Path, *words: object) -> Done:
    done = subprocess.run(
        [sys.executable, "-P", "-c", "from vtrain.cli import main; main()", *map(str, words)],
        cwd=tree, env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tree), *filter(None, sys.path)])},
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr)


@pytest.mark.slow
def test_a_built_in_method_without_recipes_trains_by_derived_ones(tree: Path, shards: Path) -> None:
    words = ("rotation", "--recipe", "tiny", "--shards", shards, *SMALL, "--out", "run", "--json")
    done = new_vtrain(tree, *words)
    assert done.returncode == 0, done.stderr
    assert (done.json["method"], done.json["recipe"], done.json["steps"]) == ("rotation", "rotation-tiny", 2)
    rows = new_vtrain(tree, "recipes", "--method", "rotation", "--json").json["recipes"]
    assert [row["name"] for row in rows] == ["rotation-default", "rotation-tiny"]
    assert "Rotation prediction (Jing et al., 2018)." in new_vtrain(tree, "--help").stdout


RECIPES = '''"""Recipes of rotation."""

from vtrain.methods.rotation import Config
from vtrain.optim.schedule import Schedule
from vtrain.recipes.names import by_name
from vtrain.recipes.recipe import Recipe


def rotation_c3d_ucf101() -> Recipe:
    """Rotation, C3D, UCF101."""
    return Recipe(
        name="rotation-c3d-ucf101", method=Config(), backbone="c3d", batch=8, epochs=3, schedule=Schedule(lr=0.1)
    )


RECIPES = by_name(rotation_c3d_ucf101)
'''

FOUND = (
    "from vtrain.recipes import find; print(find('rotation').name, find('rotation', 'tiny').name, find('pace').name)"
)


def test_a_built_in_method_with_recipes_has_a_tiny_one_and_its_first_is_the_main_one(tree: Path) -> None:
    (tree / "vtrain" / "recipes" / "rotation.py").write_text(RECIPES)
    path = os.pathsep.join([str(tree), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", FOUND], env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split() == ["rotation-c3d-ucf101", "rotation-tiny", "pace-r2plus1d-ucf101"], done.stderr
