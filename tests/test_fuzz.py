"""Files that a stranger changed, with right lengths and checksums, are read or refused in a sentence.

`python benchmarks/fuzz.py` runs thousands of such cases under limits of memory and time; here are some of each kind.
"""

import re
import sys
import time
from collections.abc import Callable
from importlib import util
from pathlib import Path
from types import ModuleType

import pytest
from fuzzed import Kind, faults, kinds

CASES = 40
SCRIPT = Path(__file__).parent.parent / "benchmarks" / "fuzz.py"
KINDS = kinds()
FORKED = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")


@pytest.mark.filterwarnings("ignore")  # of NumPy and torch, about strange numbers
@pytest.mark.parametrize("name", KINDS)
def test_a_changed_file_is_read_or_refused_in_a_sentence(name: str, tmp_path: Path) -> None:
    path = KINDS[name].make(tmp_path)
    good = path.read_bytes()
    assert [fault for seed in range(CASES) for fault in faults(KINDS[name], good, path, seed)] == []


@pytest.mark.parametrize("name", KINDS)
def test_the_unchanged_file_is_read_by_every_reader_that_can(name: str, tmp_path: Path) -> None:
    path = KINDS[name].make(tmp_path)
    first = next(iter(KINDS[name].readers.values()))
    first(path)


@pytest.fixture(scope="module")
def fuzz() -> ModuleType:
    spec = util.spec_from_file_location("fuzz", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = util.module_from_spec(spec)
    sys.modules["fuzz"] = module  # where its dataclass looks for its own module
    spec.loader.exec_module(module)
    return module


def hang(path: Path) -> None:
    time.sleep(60)


def die(path: Path) -> None:
    import os

    os._exit(3)


def grow(path: Path) -> None:
    bytes(path.read_bytes() * (300 << 20))


def write_outside(path: Path) -> None:
    (path.parent.parent / "fuzz_canary").write_text("")
    (path.parent.parent / "fuzz_canary").unlink()


def start_a_program(path: Path) -> None:
    import subprocess

    subprocess.run([sys.executable, "-c", ""], check=True)


def break_down(path: Path) -> None:
    raise KeyError("x")


def import_what_the_file_names(path: Path) -> None:
    import contextlib
    import importlib

    with contextlib.suppress(ImportError):
        importlib.import_module("canary")


@FORKED
@pytest.mark.parametrize(
    ("read", "finding"),
    [
        (hang, "more than 0.5 seconds"),
        (die, "the process died"),
        (grow, " MB|MemoryError"),
        (write_outside, "fuzz_canary"),
        (start_a_program, "subprocess.Popen"),
        (break_down, "KeyError"),
        (import_what_the_file_names, "import canary"),
    ],
)
def test_the_script_finds_what_no_reader_may_do(read: Callable[[Path], None], finding: str, fuzz: ModuleType) -> None:
    def make(folder: Path) -> Path:
        (folder / "file").write_bytes(b"x")
        return folder / "file"

    kind = Kind(name="file", make=make, mutate=lambda good, seed: good, readers={"read": read})
    outcome = fuzz.run(kind, range(2), 0.5 if read is hang else 30, 200 << 20)
    assert outcome.cases == 2
    assert len(outcome.findings) >= 2
    assert all(re.search(finding, each) for each in outcome.findings)


@FORKED
def test_the_script_finds_nothing_where_nothing_is(fuzz: ModuleType) -> None:
    outcome = fuzz.run(KINDS["recipe"], range(5), 20, 1 << 30)
    assert (outcome.cases, outcome.findings) == (5, [])
