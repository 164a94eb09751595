"""What comes from outside the package: `module:name` and installed entry points."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vprep import plugins
from vprep.errors import UsageError


@pytest.fixture(autouse=True)
def sys_path_and_modules() -> Iterator[None]:
    """Whatever a test imports and puts on sys.path is gone after it."""
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if name.startswith("mine"):
            del sys.modules[name]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, which holds the modules of a user."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "nets.py").write_text("def build() -> int:\n    return 7\n")
    return tmp_path


def install(folder: Path, package: str, lines: str) -> None:
    """Make what `pip install` leaves of a package with entry points."""
    info = folder / f"{package.replace('-', '_')}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(lines)


def message(kind: str, word: str) -> str:
    with pytest.raises(UsageError) as caught:
        plugins.load(kind, word)
    return str(caught.value)


@pytest.mark.parametrize("word", ["a:b", "a.b:c", "my_package.nets2:Build", "ä.ö:ü"])
def test_module_colon_name_is_recognised(word: str) -> None:
    assert plugins.named(word)


@pytest.mark.parametrize("word", ["r3d18", "a.b", "a:", ":b", "a:b.c", "a:b:c", "a..b:c", "2a:b", "a/b:c", "C:\\x", ""])
def test_other_words_are_not_taken_for_module_colon_name(word: str) -> None:
    assert not plugins.named(word)
    assert message("backbone", word) == (
        f"'{word}' is no backbone from a module; write module:name, as in my_package.my_backbones:name"
    )


def test_a_module_in_the_current_folder_is_found(folder: Path) -> None:
    assert plugins.load("backbone", "mine.nets:build")() == 7


def test_a_module_that_does_not_exist_is_one_sentence(folder: Path) -> None:
    advice = "run the command in the folder that holds it, or add that folder to PYTHONPATH"
    assert message("method", "mine.other:M") == f"method 'mine.other:M': there is no module 'mine.other'; {advice}"
    assert message("method", "mines.other:M") == f"method 'mines.other:M': there is no module 'mines'; {advice}"


def test_a_name_that_the_module_lacks_is_one_sentence(folder: Path) -> None:
    where = folder / "mine" / "nets.py"
    assert message("backbone", "mine.nets:make") == (
        f"backbone 'mine.nets:make': there is no 'make' in mine.nets ({where}); name something that is defined there"
    )


@pytest.mark.parametrize(
    ("text", "error", "line"),
    [
        ("import math\n\nmath.nothing\n", "AttributeError (module 'math' has no attribute 'nothing')", 3),
        ("def f():\n    raise ValueError('one\\ntwo')\n\nf()\n", "ValueError (one)", 2),
        ("import mine_absent\n", "ModuleNotFoundError (No module named 'mine_absent')", 1),
        ("from mine.nets import absent\n", "ImportError (cannot import name 'absent' from 'mine.nets' ", 1),
        ("x = 1\nif x\n    pass\n", "SyntaxError (expected ':')", 2),
        ("raise SystemExit\n", "SystemExit (no message)", 1),
    ],
)
def test_an_error_in_the_users_module_is_one_sentence_with_its_line(
    folder: Path, text: str, error: str, line: int
) -> None:
    path = folder / "mine" / "broken.py"
    path.write_text(text)
    said = message("method", "mine.broken:M")
    assert said.startswith(f"method 'mine.broken:M': importing mine.broken raised {error}")
    assert said.endswith(f" at {path}, line {line}; correct it there")
    assert "\n" not in said


def test_the_current_folder_is_searched_first_and_once(folder: Path) -> None:
    plugins.load("backbone", "mine.nets:build")
    plugins.load("backbone", "mine.nets:build")
    assert sys.path[0] == str(folder)
    assert sys.path.count(str(folder)) == 1


def test_an_installed_package_offers_names_and_is_imported_only_when_one_is_asked_for(folder: Path) -> None:
    install(
        folder, "mine-nets", "[playspeed.backbones]\nseven = mine.nets:build\n[playspeed.methods]\nother = mine:x\n"
    )
    sys.path.insert(0, str(folder))
    assert set(plugins.installed("backbone")) == {"seven"}
    assert plugins.installed("layout") == {}
    assert "mine.nets" not in sys.modules
    assert plugins.load_installed("backbone", "seven")() == 7


def test_an_error_of_an_installed_name_says_its_package(folder: Path) -> None:
    install(folder, "mine-a", "[playspeed.methods]\nboth = mine.nets:build\nlost = mine.absent:build\n")
    install(folder, "mine-b", "[playspeed.methods]\nboth = mine.other:build\n")
    sys.path.insert(0, str(folder))
    messages = {}
    for name in ("both", "lost", "none"):
        with pytest.raises(UsageError) as caught:
            plugins.load_installed("method", name)
        messages[name] = str(caught.value)
    assert messages["both"] == (
        "several packages offer the method 'both' (mine-a, mine-b); uninstall all but one of them, or, where you "
        "type the name, write mine.nets:build or mine.other:build instead"
    )
    assert messages["lost"] == (
        "method 'lost' of the package mine-a: there is no module 'mine.absent'; install the package again"
    )
    assert messages["none"] == ("no installed package offers the method 'none'; install one, or write module:name")
