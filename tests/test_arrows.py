"""Arrows go one way: veval -> vtrain -> vprep.format. vprep never needs torch."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# What a package must not import: itself to the left, forbidden beginnings of module names to the right.
FORBIDDEN: dict[str, tuple[str, ...]] = {
    "vprep": ("vtrain", "veval", "torch", "webdataset"),
    "vtrain": ("veval",),
    "veval": (),
}
# Of vprep, vtrain uses the modules that describe shards and veval not even those; both use what all commands share.
SHARED = (
    "vprep.errors",
    "vprep.atomic",
    "vprep.checks",
    "vprep.completion",
    "vprep.printing",
    "vprep.hashing",
    "vprep.json_text",
    "vprep.memory",
    "vprep.plugins",
    "vprep.page",
    "vprep.processors",
    "vprep.progress",
    "vprep.quiet",
    "vprep.signals",
    "vprep.versions",
    "vprep.store",
    "vprep.streams",
    "vprep.text",
)
DESCRIBE_SHARDS = (
    "vprep.format",
    "vprep.duplicates",
    "vprep.limits",
    "vprep.row_check",
    "vprep.set_name",
    "vprep.tables",
)
OPEN = {"vtrain": (*DESCRIBE_SHARDS, *SHARED), "veval": SHARED}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where an arrow goes"
            yield from (f"{node.module}.{name.name}" for name in node.names)


def wrong_arrows(source: Path, package: str) -> list[str]:
    found = []
    for path in sorted(source.rglob("*.py")):
        for name in imports(path):
            beneath = [f"{other}." for other in FORBIDDEN[package]]
            closed = package in OPEN and name.startswith("vprep") and not name.startswith(OPEN[package])
            if closed or any(f"{name}.".startswith(other) for other in beneath):
                found.append(f"{path.name}: {name}")
    return found


@pytest.mark.parametrize(("folder", "package"), [("prep", "vprep"), ("train", "vtrain"), ("eval", "veval")])
def test_no_package_imports_against_the_arrows(folder: str, package: str) -> None:
    assert wrong_arrows(ROOT / folder, package) == []


@pytest.mark.parametrize(
    ("package", "line"),
    [
        ("vprep", "import torch.nn"),
        ("vprep", "from vtrain import data"),
        ("vtrain", "from vprep.sharding.build import shard"),
        ("veval", "import vprep.format"),
        ("veval", "from vprep import make"),
    ],
)
def test_a_wrong_arrow_is_found(package: str, line: str, tmp_path: Path) -> None:
    (tmp_path / "wrong.py").write_text(line)
    assert len(wrong_arrows(tmp_path, package)) == 1


def test_sharding_on_a_disk_loads_neither_torch_nor_what_an_extra_installs(videos: Path, tmp_path: Path) -> None:
    program = f"""
import sys
from vprep import cli
try:
    cli.main(["shard", {str(videos)!r}, "--out", {str(tmp_path / "out")!r}])
except SystemExit as end:
    assert not end.code, end.code
assert "vprep.sharding.build" in sys.modules
assert not {{"torch", "webdataset", "ray", "obstore"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
