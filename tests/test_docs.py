"""The pages name what is there: every public name, and only code, files, recipes and options that exist."""

import ast
import importlib
import importlib.util
import inspect
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from command_words import command_of

from generate import protocols, recipes
from vtrain.overrides import change
from vtrain.recipes import RECIPES, find

ROOT = Path(__file__).parent.parent
PAGES = [*sorted((ROOT / "docs").rglob("*.md")), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md"))]
PAGES = [page for page in PAGES if "_build" not in page.parts and "_generated" not in page.parts]
SHOWN = [pytest.param(page, id=page.relative_to(ROOT).as_posix()) for page in PAGES]

# The packages of which every exported name is public; docs/api.md says so.
EXPORTING = (
    "vtrain", "vtrain.data", "vtrain.data.augment", "vtrain.methods", "vtrain.backbones", "vtrain.weights",
    "vprep.layouts",
)  # fmt: skip
ENTRIES = re.findall(
    r"^\.\. (?:auto\w+|py:data):: (\S+)", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE
)  # what the API page has


def exported(package: str) -> Iterator[str]:
    """The names of `__all__`; without it those imported as themselves, and those defined in the package's own file."""
    module = importlib.import_module(package)
    if hasattr(module, "__all__"):
        yield from module.__all__
        return
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.ImportFrom):
            yield from (name.asname for name in node.names if name.asname == name.name)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node.name
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.target.id.isupper():
            yield node.target.id


def resolve(path: str) -> Any:  # noqa: ANN401  a module, or anything in one
    """What a dotted path stands for."""
    words = path.split(".")
    for count in range(len(words), 0, -1):
        try:
            found: Any = importlib.import_module(".".join(words[:count]))
        except ModuleNotFoundError:
            continue
        for word in words[count:]:
            found = getattr(found, word)
        return found
    raise ModuleNotFoundError(path)


PUBLIC = sorted({f"{package}.{name}" for package in EXPORTING for name in exported(package)})


def test_names_are_exported() -> None:
    assert {"vtrain.load_backbone", "vtrain.data.open_shards", "vtrain.methods.METHODS", "vprep.layouts.read"} <= set(
        PUBLIC
    )


@pytest.mark.parametrize("name", sorted({*PUBLIC, *ENTRIES}))
def test_a_public_name_has_a_docstring_and_is_on_the_api_page(name: str) -> None:
    found = resolve(name)
    assert name in ENTRIES
    assert not callable(found) or inspect.getdoc(found)


CODE = re.compile(r"`((?:vprep|vtrain|veval)(?:\.\w+)+)`")
FILES = re.compile(
    r"`((?:prep|train|eval|tests|docs|examples|benchmarks|data_shards)/[\w./-]+\.(?:py|md|csv|json|sh|txt))`"
)


@pytest.mark.parametrize("page", SHOWN)
def test_the_code_and_the_files_that_a_page_names_are_there(page: Path) -> None:
    text = page.read_text()
    for path in CODE.findall(text):
        resolve(path)
    assert [path for path in FILES.findall(text) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", SHOWN)
def test_links_lead_somewhere(page: Path) -> None:
    """Those of other sites are only read, for no test may need a network."""
    wrong = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        parts = urlsplit(target)
        if parts.scheme:
            good = parts.scheme == "https" and "." in parts.netloc and " " not in target
        else:
            good = not parts.path or (page.parent / parts.path).exists()
        wrong += [] if good else [target]
    assert wrong == []


def lines_of_commands(text: str) -> Iterator[list[str]]:
    """The words of each vprep, vtrain and veval command that stands on a line of its own."""
    for line in text.splitlines():
        bare = line.strip().removeprefix("$ ").removeprefix("torchrun --nproc-per-node 4 -m ")
        if line.startswith(("    ", "$ ")) and bare.startswith(("vprep ", "vtrain ", "veval ")):
            parts = bare.partition("#")[0].split(";")
            yield from (words for part in parts if (words := shlex.split(part.replace("...", "X"))))


def unknown_options(words: list[str]) -> list[str]:
    command, rest = command_of(words)
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    return [word for word in rest if word.startswith("--") and word.partition("=")[0] not in {*known, "--help"}]


def test_an_option_that_is_not_there_is_found() -> None:
    assert unknown_options(["vprep", "plan", "VIDEOS", "--lines"]) == ["--lines"]
    assert unknown_options(["veval", "finetune", "--folds", "1,2,3", "--json"]) == []


@pytest.mark.parametrize("page", SHOWN)
def test_commands_on_a_page_have_the_options_and_recipes_that_it_names(page: Path) -> None:
    commands = list(lines_of_commands(page.read_text()))
    assert [(words, options) for words in commands if (options := unknown_options(words))] == []
    named = {words[at + 1] for words in commands for at, word in enumerate(words[:-1]) if word == "--recipe"}
    assert named <= {*RECIPES, "tiny", "paper", "released"}


def test_tables_hold_what_the_code_has() -> None:
    line = "| `pace-p4` | 10 | 16 x 112 x 112 | centres | restart | centre, 112 stored pixels | bgr255 | p4 | - |"
    assert line in protocols("features")
    assert "| `prp-c3d-ucf101` | 300 epochs | 8 | C3D, UCF101:" in recipes("prp")


def test_the_citation_is_of_this_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = (ROOT / "CITATION.cff").read_text().splitlines()
    assert {f"version: {project['version']}", f"license: {project['license']}", f"title: {project['name']}"} <= set(
        citation
    )


@pytest.mark.parametrize("method", ["rspnet", "ascnet", "prp", "pace"])
def test_the_differences_of_each_method_have_the_precision_with_the_setting_that_restores_it(method: str) -> None:
    docstring = importlib.import_module(f"vtrain.methods.{method}").__doc__ or ""
    page = (ROOT / "docs" / "methods" / f"{method}.md").read_text().partition("## Differences")[2]
    assert re.search(r"bfloat16.*\[precision=float32\]", docstring.partition("Differs from")[2])
    assert re.search(r"bfloat16[^\[]*\[`precision=float32`\]", page)
    assert change(find(method), ["precision=float32"]).precision == "float32"
