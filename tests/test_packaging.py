"""The wheel holds all of the three packages, and what makes them a package for others."""

from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parent.parent
SOURCES = {"vprep": ROOT / "prep", "vtrain": ROOT / "train", "veval": ROOT / "eval"}


def files_of_the_package(package: str) -> set[str]:
    source = SOURCES[package]
    return {
        path.relative_to(source).as_posix()
        for path in (source / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }


@pytest.fixture(scope="module")
def wheel() -> set[str]:
    """The paths inside the wheel that a build of this folder makes."""
    return {file.distribution_path for file in WheelBuilder(str(ROOT)).recurse_included_files()}


@pytest.mark.parametrize("package", SOURCES)
def test_the_wheel_holds_every_file_of_the_package(package: str, wheel: set[str]) -> None:
    """A pattern in .gitignore would leave a folder out: `build/` and `results/` are folders of the packages, too."""
    assert files_of_the_package(package) - wheel == set()


@pytest.mark.parametrize("package", SOURCES)
def test_every_folder_with_modules_is_a_package(package: str) -> None:
    folders = {path.parent for path in (SOURCES[package] / package).rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


@pytest.mark.parametrize("package", SOURCES)
def test_the_package_says_that_it_is_typed(package: str, wheel: set[str]) -> None:
    assert f"{package}/py.typed" in wheel


def test_the_wheel_holds_nothing_else(wheel: set[str]) -> None:
    assert {path.split("/")[0] for path in wheel} == set(SOURCES)
