"""A method from outside the package trains, resumes and is evaluated as a built-in one; nothing else is imported."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from commands import Done, veval, vtrain
from small_recipes import assert_same
from torch import Tensor, nn
from typer.main import get_command

from vprep.errors import UsageError
from vtrain import recipes
from vtrain.backbones import Backbone
from vtrain.cli import app
from vtrain.data.augment.config import AugmentConfig
from vtrain.data.sampling import OneClip, Plan
from vtrain.methods import METHODS, NAMES, registry, summary
from vtrain.methods.method import MethodEntry
from vtrain.optim.schedule import Schedule
from vtrain.overrides import as_json, change
from vtrain.recipes.recipe import Recipe
from vtrain.training.train import train

EXAMPLE = Path(__file__).parents[2] / "examples" / "my_method.py"
METHOD = "my_method:METHOD"
SMALL = ("--recipe", "tiny", "backbone_settings.width=4", "frames=4", "size=16", "batch=4", "steps=4", "workers=1")
UNKNOWN = f"'rotation', which is not known here; there are {', '.join(NAMES)}; if it is from outside "


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's folder with the example in it."""
    (tmp_path / "user").mkdir()
    shutil.copy(EXAMPLE, tmp_path / "user")
    return tmp_path / "user"


@pytest.fixture(autouse=True)
def no_method_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_ADDED", {})


def real(package: str, *words: object, cwd: Path, path: Path | None = None) -> Done:
    """`vtrain WORDS` or `veval WORDS` in a new Python, whose path has neither `cwd` nor the example but for `path`."""
    program = f"import sys; sys.path.remove(''); from {package}.cli import main; main()"
    python_path = os.pathsep.join([*filter(None, sys.path), *([str(path)] if path else [])])
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, words)],
        cwd=cwd, env=os.environ | {"PYTHONPATH": python_path}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr)


def test_the_example_trains_resumes_and_is_evaluated_where_its_code_is_not(
    folder: Path, shards: Path, tmp_path: Path
) -> None:
    words = (METHOD, "--shards", shards, *SMALL, "save_every=2", "keep_every=2", "--out", "run")
    trained = real("vtrain", *words, "--json", cwd=folder).json
    assert (trained["method"], trained["recipe"], trained["steps"]) == ("rotation", "rotation-tiny", 4)
    wanted = torch.load(folder / "run" / "last.pt", weights_only=True)
    assert (wanted["method"], wanted["protocol"], wanted["backbone"]) == ("rotation", "vcop", "tiny")

    shutil.copy(folder / "run" / "kept" / "step_0000002.pt", folder / "run" / "last.pt")
    resumed = real("vtrain", METHOD, "--resume", "--out", "run", "--json", cwd=folder).json
    assert resumed["steps"] == 4
    assert_same(torch.load(folder / "run" / "last.pt", weights_only=True), wanted)

    (tmp_path / "elsewhere").mkdir()
    words = ("retrieval", "--weights", folder / "run", "--shards", shards, "clips=2", "--json")
    found = real("veval", *words, cwd=tmp_path / "elsewhere").json
    assert found["weights"]["method"] == "rotation"
    assert found["protocol"]["name"] == "vcop, changed"  # the entry's, with the two clips that the command names
    assert 0 <= found["top1"] <= 100


def install(folder: Path, package: str, name: str, value: str) -> None:
    """Leave what `pip install` leaves of a package with an entry point."""
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[playspeed.methods]\n{name} = {value}\n")


@pytest.mark.slow
def test_an_installed_package_makes_its_name_a_command(folder: Path, shards: Path, tmp_path: Path) -> None:
    install(folder, "turns", "rotation", METHOD)
    (tmp_path / "elsewhere").mkdir()
    words = ("rotation", "--shards", shards, *SMALL, "--json")
    trained = real("vtrain", *words, cwd=tmp_path / "elsewhere", path=folder).json
    assert trained["run"].startswith("runs/rotation-")
    shown = real("vtrain", "recipes", "rotation-tiny", "--json", cwd=tmp_path, path=folder).json
    assert shown["method"]["name"] == "rotation"
    resumed = real("vtrain", "rotation", "--resume", cwd=tmp_path / "elsewhere", path=folder)
    assert resumed.returncode == 0, resumed.stderr
    stranger = real("vtrain", "rotation", "--resume", cwd=tmp_path / "elsewhere")
    assert stranger.returncode == 2
    assert "No such command 'rotation'" in stranger.stderr


def test_help_lists_an_installed_method_without_importing_it(folder: Path, tmp_path: Path) -> None:
    install(folder, "turns", "rotation", METHOD)
    install(folder, "clash", "pace", "my_method:OTHER")
    (folder / "my_method.py").write_text("raise SystemExit('imported')\n")
    done = real("vtrain", "--help", cwd=tmp_path, path=folder)
    assert done.returncode == 0, done.stderr
    lines = [line.split(maxsplit=1) for line in done.stdout.splitlines()]
    assert ["rotation", "Method of the installed package turns."] in lines
    assert ["pace", METHODS["pace"].summary] in lines
    assert "clash" not in done.stdout


def test_the_help_of_a_method_shows_its_summary(folder: Path) -> None:
    done = vtrain(METHOD, "--help", cwd=folder)
    assert "Rotation prediction (Jing et al., 2018)." in done.stdout
    assert f"vtrain {METHOD} [OPTIONS]" in done.stdout


def test_the_help_of_an_installed_method_shows_its_summary(folder: Path, tmp_path: Path) -> None:
    install(folder, "turns", "rotation", METHOD)
    done = real("vtrain", "rotation", "--help", cwd=tmp_path, path=folder)
    assert "Rotation prediction (Jing et al., 2018)." in done.stdout, done.stderr


def test_a_command_that_is_none_is_told_how_a_method_is_written(folder: Path, tmp_path: Path) -> None:
    install(folder, "turns", "rotation", METHOD)
    near = real("vtrain", "rotaton", cwd=tmp_path, path=folder)
    assert near.returncode == 2
    line = "No such command 'rotaton'. Did you mean 'rotation'? A method of your own is written module:METHOD."
    assert line in " ".join(near.stderr.split())
    far = vtrain("clip_order", cwd=tmp_path)
    assert "No such command 'clip_order'. A method of your own is written module:METHOD." in " ".join(
        far.stderr.split()
    )


# What a name in a file may do


@pytest.fixture
def run(folder: Path, shards: Path) -> Path:
    done = vtrain(METHOD, "--shards", shards, *SMALL, "workers=0", "--out", "run", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "run"


def test_a_method_that_only_a_file_names_is_not_imported(run: Path, folder: Path) -> None:
    """Though the current folder holds a module in which it is, and the run was begun there."""
    (folder / "rotation.py").write_text("raise SystemExit('imported')\n")
    tail = "the package, name it on the command line: vtrain"
    for words, command in (
        (("pace", "--resume", "--out", run), f"MODULE:NAME --resume {run}"),
        (("pace", "--recipe", run / "recipe.json"), f"MODULE:NAME --recipe {run / 'recipe.json'}"),
        (("recipes", run), f"recipes {run} --method MODULE:NAME"),
    ):
        done = vtrain(*words, cwd=folder)
        said = f"vtrain: {run / 'recipe.json'} is of method {UNKNOWN}{tail} {command}\n"
        assert (done.returncode, done.stdout, done.stderr) == (2, "", said)


def test_the_recipe_of_a_run_is_shown_when_its_method_is_named(run: Path, folder: Path) -> None:
    done = vtrain("recipes", run, "--method", METHOD, cwd=folder)
    assert "name=rotation-tiny" in done.stdout.splitlines()


def test_a_file_cannot_name_a_module_in_the_place_of_a_method(run: Path, folder: Path) -> None:
    (folder / "evil.py").write_text("raise SystemExit('imported')\n")
    path = run / "recipe.json"
    path.write_text(path.read_text().replace('"rotation"', '"evil:METHOD"'))
    for words in (("pace", "--recipe", path), ("pace", "--resume", "--out", run), ("recipes", path)):
        done = vtrain(*words, cwd=folder)
        assert done.returncode == 2
        assert f"{path} is of method 'evil:METHOD', which is not known here; " in done.stderr


def test_a_run_is_named_with_the_word_that_the_user_wrote(run: Path, folder: Path) -> None:
    other = folder / "other.py"
    other.write_text(EXAMPLE.read_text().replace('"rotation"', '"other"'))
    done = vtrain(METHOD, "--resume", "--out", run, "lr=1", cwd=folder)
    assert done.stderr.startswith("vtrain: lr=1 with --resume, ")
    done = vtrain("other:METHOD", "--recipe", "pace-tiny", cwd=folder)
    assert done.stderr == (
        "vtrain: recipe 'pace-tiny' is one of pace, not of other; write: vtrain pace --recipe pace-tiny\n"
    )


def test_other_runs_are_refused_by_a_method_from_outside(folder: Path, shards: Path) -> None:
    assert vtrain("pace", "--shards", shards, *SMALL, "workers=0", "--out", "pace", cwd=folder).returncode == 0
    done = vtrain(METHOD, "--resume", "--out", "pace", cwd=folder)
    assert done.stderr == "vtrain: pace is a run of pace; write: vtrain pace --resume pace\n"


# The other commands


def test_a_recipe_file_of_a_run_trains_again_to_the_same_loss(run: Path, folder: Path) -> None:
    first = vtrain(METHOD, "--recipe", run / "recipe.json", "--out", "again", "--json", cwd=folder).json
    assert first["recipe"] == "rotation-tiny"
    one, two = ((path / "metrics.jsonl").read_text().split('"clips_per_s"')[0] for path in (run, folder / "again"))
    assert one == two


def test_the_benchmarks_take_a_method_from_outside(folder: Path, shards: Path) -> None:
    words = (METHOD, *SMALL, "workers=0", "--seconds", 0.2, "--json")
    assert vtrain("bench", "step", *words, cwd=folder).json["method"] == "rotation"
    assert vtrain("bench", "all", *words, "--shards", shards, cwd=folder).json["recipe"] == "rotation-tiny"
    loader = ("bench", "loader", "--method", METHOD, "--workers", "0", "--seconds", 0.2, "--batch", 2, "--json")
    assert vtrain(*loader, "--shards", shards, cwd=folder).json["clips"] == 1


def test_the_recipes_of_a_method_from_outside_are_listed(folder: Path) -> None:
    rows = vtrain("recipes", "--method", METHOD, "--json", cwd=folder).json["recipes"]
    assert [(row["name"], row["method"], row["backbone"]) for row in rows] == [
        ("rotation-default", "rotation", "r3d18"),
        ("rotation-tiny", "rotation", "tiny"),
    ]
    shown = vtrain("recipes", "rotation-tiny", "dropout=0.25", "--method", METHOD, cwd=folder).stdout.splitlines()
    assert {"method.dropout=0.25", "method.sampling.frames=8", "method.sampling.looks.0.size=40"} <= set(shown)


# Recipes that are derived


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    NAME: ClassVar[str] = "mine"
    sampling: OneClip = field(default_factory=OneClip)
    classes: int = 0

    def plan(self) -> Plan:
        return self.sampling


class Module(nn.Module):
    def __init__(self, backbone: Backbone, config: Config) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, clips: Tensor, targets: dict[str, Tensor]) -> dict[str, Tensor]:
        return {"loss": self.backbone(clips[:, 0]).float().square().mean()}

    def after_step(self, progress: float) -> None: ...


ENTRY = MethodEntry(summary="Mine.", module=Module, config=Config)


def test_a_method_without_recipes_has_a_default_and_a_tiny_one() -> None:
    registry.add(ENTRY)
    main, tiny = recipes.find("mine"), recipes.find("mine", "tiny")
    assert (main.name, main.backbone, main.epochs, main.method) == ("mine-default", "r3d18", 200, Config())
    assert recipes.find("mine", "paper") == main
    assert recipes.find("mine", backbone="c3d") == replace(main, backbone="c3d")
    assert (tiny.name, tiny.backbone, tiny.clip, tiny.steps) == ("mine-tiny", "tiny", (8, 40, 40), 400)
    pace = recipes.find("pace", "tiny")
    assert (tiny.optim, tiny.schedule) == (pace.optim, pace.schedule)


def own(name: str = "mine-c3d-ucf101", config: Any = Config()) -> Recipe:  # noqa: ANN401  frozen
    """Mine, C3D, UCF101: no paper."""
    return Recipe(name=name, method=config, backbone="c3d", batch=8, epochs=3, schedule=Schedule(lr=0.1))


def test_a_method_may_bring_recipes_of_its_own() -> None:
    look = AugmentConfig(crop="centre", crop_size=112)

    def large() -> Recipe:
        return own("mine-c3d-large", Config(sampling=OneClip(frames=32, looks=(look,))))

    registry.add(replace(ENTRY, recipes=(own, large), main="mine-c3d-large"))
    assert recipes.find("mine") == large()
    assert recipes.find("mine", "mine-c3d-ucf101") == own()
    tiny = recipes.find("mine", "tiny").method.sampling
    assert (tiny.frames, tiny.looks) == (8, (replace(look, size=40, crop_size=None),))
    rows = {row["name"]: row["says"] for row in recipes.listed("mine")}
    assert list(rows) == ["mine-c3d-large", "mine-tiny", "mine-c3d-ucf101"]
    assert rows["mine-c3d-ucf101"] == "Mine, C3D, UCF101: no paper."


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"main": "other"}, "method 'mine' has main recipe 'other', but its recipes are none"),
        ({"recipes": (own,), "main": "x"}, "method 'mine' has main recipe 'x', but its recipes are mine-c3d-ucf101"),
        (
            {"recipes": (lambda: own("pace-tiny"),)},
            "recipe 'pace-tiny' is of method 'mine'; its name must begin with mine-",
        ),
    ],
)
def test_what_is_wrong_with_recipes_is_one_sentence(changes: dict[str, Any], said: str) -> None:
    registry.add(replace(ENTRY, **changes))
    with pytest.raises(UsageError) as caught:
        recipes.find("mine")
    assert str(caught.value) == said


def test_a_recipe_of_another_method_is_none_of_this_one() -> None:
    registry.add(replace(ENTRY, recipes=(recipes.RECIPES["pace-tiny"],)))
    with pytest.raises(UsageError) as caught:
        recipes.find("mine")
    assert str(caught.value).startswith("method 'mine' has <function ")
    assert str(caught.value).endswith(" in its recipes; it must return a Recipe of this method")


# What is wrong with an entry


def with_config(**changes: Any) -> MethodEntry:  # noqa: ANN401
    """The entry with another config: a frozen dataclass with these attributes, of which None are left out."""
    body = {name: value for name, value in (vars(Config) | changes).items() if value is not None and name[0] != "_"}
    body = {name: value for name, value in body.items() if name not in ("sampling", "classes") or name in changes}
    body.setdefault("sampling", OneClip())
    kinds = {name: type(value) for name, value in body.items() if name not in ("NAME", "plan")}
    made = type("Made", (), body | {"__annotations__": kinds})
    return replace(ENTRY, config=dataclass(frozen=True)(made))


class Thawed:
    NAME = "mine"


@dataclass(frozen=True)
class Demanding:
    rate: float
    NAME: ClassVar[str] = "mine"


@dataclass(frozen=True)
class Blind:
    NAME: ClassVar[str] = "mine"


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (Module, "is of type type; it must be a MethodEntry, as in METHOD = MethodEntry(...)"),
        (replace(ENTRY, config=Thawed), "its config must be a frozen dataclass; "),
        (with_config(NAME="my method"), "its config's NAME is 'my method'; it must be a word of letters, digits and _"),
        (with_config(NAME=7), "its config's NAME is 7; it must be a word of letters, digits and _"),
        (with_config(NAME=None), "its config has no NAME; add one, such as NAME: ClassVar[str] = 'rotation'"),
        (with_config(NAME="bench"), "its config's NAME is 'bench', which has a meaning of its own in commands; choose"),
        (with_config(NAME="finetune"), "its config's NAME is 'finetune', which has a meaning of its own in commands; "),
        (with_config(NAME="pace"), "its config's NAME is 'pace', which is a built-in method; choose another name"),
        (with_config(name="x"), "its config has a setting 'name', where recipes have the method's name; "),
        (replace(ENTRY, module="Module"), "its module is of type str; it must be called as module(backbone, config)"),
        (replace(ENTRY, config=Demanding), "its config cannot be made without arguments ("),
        (replace(ENTRY, config=Blind), "its config has no `sampling` with `frames` and `looks`; "),
        (with_config(plan=None), "its config has no method plan(); "),
    ],
)
def test_what_is_no_method_is_refused_in_a_sentence(
    entry: object, said: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError) as caught:
        registry.add(entry, "my_module:METHOD")
    assert said in str(caught.value)
    assert str(caught.value).startswith("method 'my_module:METHOD'")
    assert registry.names() == list(NAMES)


@pytest.mark.slow
def test_an_entry_point_has_the_name_of_its_method(folder: Path, tmp_path: Path) -> None:
    install(folder, "turns", "turning", METHOD)
    done = real("vtrain", "turning", cwd=tmp_path, path=folder)
    assert (done.returncode, done.stderr) == (
        2,
        f"vtrain: the entry point 'turning' holds the method 'rotation'; give both the same name, or write {METHOD}\n",
    )


class Headless(nn.Module):
    def __init__(self, backbone: Backbone, config: Config) -> None:
        super().__init__()
        self.net = backbone


class Stepless(nn.Module):
    def __init__(self, backbone: Backbone, config: Config) -> None:
        super().__init__()
        self.backbone = backbone


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (Headless, "method 'mine' keeps no backbone; it must be an nn.Module with self.backbone"),
        (lambda backbone, config: "net", "method 'mine' keeps no backbone; it must be an nn.Module with self.backbone"),
        (Stepless, "method 'mine' has no after_step(progress); add one, which may do nothing"),
    ],
)
def test_a_module_that_cannot_be_trained_is_refused_in_a_sentence(
    module: Callable[..., Any], said: str, shards: Path, tmp_path: Path
) -> None:
    registry.add(replace(ENTRY, module=module))
    with pytest.raises(UsageError) as caught:
        train(small_one(shards), tmp_path / "run")
    assert str(caught.value) == said


def small_one(shards: Path) -> Recipe:
    words = [f"data.shards={shards}", "frames=4", "size=16", "batch=4", "steps=2", "workers=0"]
    return change(recipes.find("mine", "tiny"), words)


def test_a_program_may_add_a_method_and_train_by_it(shards: Path, tmp_path: Path) -> None:
    registry.add(ENTRY)
    assert train(small_one(shards), tmp_path / "run")["method"] == "mine"
    assert as_json(small_one(shards))["method"]["name"] == "mine"


def test_a_method_from_outside_may_learn_from_labels(shards: Path, tmp_path: Path) -> None:
    registry.add(replace(ENTRY, learns_from_labels=True))
    train(small_one(shards), tmp_path / "run")
    saved = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    assert len(saved["classes"]) == 5
    assert saved["recipe"]["method"]["classes"] == 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed(Config):
    rates: list[int] = field(default_factory=list)


def test_a_setting_of_a_type_that_text_cannot_give_is_refused() -> None:
    registry.add(replace(ENTRY, config=Listed))
    with pytest.raises(UsageError) as caught:
        recipes.find("mine", "tiny")
    assert str(caught.value) == (
        "rates is of type list; the type of a setting must be int, float, str, bool, Fraction, Literal, a tuple of "
        "these or a frozen dataclass"
    )


def test_every_command_that_is_no_method_is_a_reserved_name() -> None:
    commands: Any = get_command(app)
    assert set(commands.commands) - set(NAMES) <= set(registry.RESERVED)


# What a method's file imports


def test_a_method_entry_is_imported_from_the_package_of_methods_which_loads_no_torch(tmp_path: Path) -> None:
    program = "import sys, vtrain.methods as m; print('torch' in sys.modules, m.MethodEntry.__module__)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.stdout.split() == ["False", "vtrain.methods.method"], done.stderr


# Installed methods that are broken


def test_a_broken_installed_method_is_left_out_of_the_list(folder: Path, tmp_path: Path) -> None:
    install(folder, "turns", "rotation", METHOD)
    install(folder, "bad", "broken", "broken:METHOD")
    install(folder, "one", "double", "one:METHOD")
    install(folder, "two", "double", "two:METHOD")
    (folder / "broken.py").write_text("import does_not_exist\n")
    done = real("vtrain", "recipes", "--json", cwd=tmp_path, path=folder)
    assert done.returncode == 0, done.stderr
    names = {row["name"] for row in done.json["recipes"]}
    assert {"pace-tiny", "rotation-tiny"} <= names
    first, second = sorted(done.stderr.splitlines())
    assert first.startswith("the recipes of 'broken' are left out: method 'broken' of the package bad: importing ")
    assert second.startswith("the recipes of 'double' are left out: several packages offer the method 'double' ")


@pytest.mark.slow
def test_a_broken_installed_method_does_not_keep_other_recipes_from_being_shown(folder: Path, tmp_path: Path) -> None:
    install(folder, "bad", "broken", "broken:METHOD")
    (folder / "broken.py").write_text("import does_not_exist\n")
    done = real("vtrain", "recipes", "pace-tiny", cwd=tmp_path, path=folder)
    assert (done.returncode, done.stderr) == (0, "")
    asked = real("vtrain", "recipes", "broken-tiny", cwd=tmp_path, path=folder)
    assert asked.returncode == 2
    assert asked.stderr.startswith("vtrain: method 'broken' of the package bad: importing broken raised ")


def test_a_recipe_that_raises_is_named_with_its_line() -> None:
    def faulty() -> Recipe:
        return {}["mine"]

    registry.add(replace(ENTRY, recipes=(faulty,)))
    with pytest.raises(UsageError) as caught:
        recipes.find("mine")
    assert str(caught.value).startswith(
        f"method 'mine' has a recipe that raised KeyError ('mine') at {__file__}, line "
    )


# Built-in methods


def test_the_summary_that_help_reads_is_that_of_the_entry() -> None:
    assert {name: summary(name) for name in NAMES} == {name: entry.summary for name, entry in METHODS.items()}


def test_every_built_in_entry_stands_under_its_own_name() -> None:
    assert [entry.name for entry in METHODS.values()] == list(METHODS) == list(NAMES)
    for entry in METHODS.values():
        assert entry.main in recipes.RECIPES
        assert f"{entry.name}-tiny" in recipes.RECIPES


def test_veval_measures_a_run_of_an_outside_method_in_a_process_that_never_had_it(
    run: Path, shards: Path, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    words = ("knn", "--weights", run, "--shards", shards, "clips=2", "--json")
    assert veval(*words, cwd=tmp_path / "elsewhere").json["weights"]["backbone"] == "tiny"
