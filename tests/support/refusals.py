"""Commands in a Python of their own, to see whether they needed torch, which takes long to import."""

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

PROGRAM = """
import contextlib, importlib, io, json, os, sys

main = importlib.import_module(sys.argv[1]).main
ended = []
for words, variables in json.load(sys.stdin):
    os.environ.update(variables)
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(words)
        except SystemExit as end:
            code = end.code
    heavy = sorted({"torch", "cv2", "webdataset", "safetensors"} & set(sys.modules))
    ended.append([code, out.getvalue(), err.getvalue(), heavy])
print(json.dumps(ended))
"""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended, and which heavy modules its process had imported by then."""

    code: int
    out: str
    err: str
    imported: list[str]


def ends(module: str, commands: Iterable[Sequence[object]], cwd: Path) -> list[Ended]:
    """Run the commands of `module`, such as `vtrain.cli`, one after another in one process."""
    return _ends(module, [([str(word) for word in command], {}) for command in commands], cwd)


def ends_by_words(module: str, commands: Iterable[tuple[str, int, str]], here: Path) -> dict[str, Ended]:
    """Run commands one after another in `here`; return how each ended, by its words."""
    lines = [words for words, _, _ in commands]
    return dict(zip(lines, ends(module, map(str.split, lines), here), strict=True))


def assert_said_without_torch(end: Ended, code: int, said: str) -> None:
    assert end.code == code, end.err
    assert said in (end.err if code else end.out)
    assert end.imported == []


def completes(program: str, lines: Iterable[str], cwd: Path) -> list[Ended]:
    """Ask a program as bash does, when the user presses the tabulator after each of `lines`."""
    asked = f"_{program.upper()}_COMPLETE"
    typed = [
        {asked: "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)} for line in lines
    ]
    return _ends(f"{program}.cli", [([], variables) for variables in typed], cwd)


def _ends(module: str, commands: list[tuple[list[str], dict[str, str]]], cwd: Path) -> list[Ended]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, module], input=json.dumps(commands),
        cwd=cwd, env=os.environ | {"COLUMNS": "80"}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [Ended(*found) for found in json.loads(done.stdout)]
