"""The wheel and the sdist hold all of the three packages, and an installation without extras needs no extra."""

import subprocess
import sys
from email import message_from_string
from pathlib import Path
from zipfile import ZipFile

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

ROOT = Path(__file__).parent.parent
SOURCES = {"vprep": ROOT / "prep", "vtrain": ROOT / "train", "veval": ROOT / "eval"}
EXTRA = (
    "ray", "obstore", "moto", "wandb", "mlflow", "trackio", "onnxscript", "onnxruntime", "sphinx", "playwright",
)  # fmt: skip


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


@pytest.mark.parametrize("package", SOURCES)
def test_the_sdist_holds_every_file_of_the_package(package: str) -> None:
    files = {file.distribution_path for file in SdistBuilder(str(ROOT)).recurse_included_files()}
    folder = SOURCES[package].name
    assert {f"{folder}/{name}" for name in files_of_the_package(package)} <= files


def test_a_built_wheel_has_styles_and_scripts_of_pages_and_installs_no_extra(tmp_path: Path) -> None:
    (path,) = map(Path, WheelBuilder(str(ROOT)).build(directory=str(tmp_path)))
    with ZipFile(path) as wheel:
        names = wheel.namelist()
        (about,) = (name for name in names if name.endswith("/METADATA"))
        metadata = message_from_string(wheel.read(about).decode())
    assert {"vprep/page/page.js", "vprep/set_page/set.css", "veval/page/map.js", "veval/page/report.css"} <= set(names)
    installed = [need for need in metadata.get_all("Requires-Dist", []) if "extra ==" not in need]
    assert [need for need in installed if need.startswith(EXTRA)] == []
    assert {"ray", "s3", "onnx", "wandb", "mlflow", "trackio"} <= set(metadata.get_all("Provides-Extra", []))


def test_all_modules_are_imported_where_no_extra_is_installed() -> None:
    """But for TensorBoard's, and for the kernels of a GPU, whose package torch installs where there can be one."""
    program = f"""
import importlib, pkgutil, sys
sys.modules.update(dict.fromkeys({EXTRA!r}))  # as if they were not installed
for package in ("vprep", "vtrain", "veval"):
    for found in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{{package}}."):
        if not found.name.endswith(("__main__", ".board", ".fused_norm", ".norm_kernels")):
            importlib.import_module(found.name)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
