"""The scripts of docs/clusters.md, and a machine to run them on."""

import os
import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "clusters.md"


def blocks(heading: str) -> list[str]:
    """The shell scripts below a heading of the page."""
    section = PAGE.read_text().partition(f"## {heading}\n")[2].partition("\n## ")[0]
    return re.findall(r"```bash\n(.*?)```", section, re.DOTALL)


def machine_of(folder: Path, **programs: str) -> dict[str, str]:
    """The environment of a machine that has vprep and `programs`, which are scripts."""
    folder.mkdir()
    programs["vprep"] = f'#!/bin/sh\nexec "{sys.executable}" -m vprep "$@"\n'
    for name, text in programs.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    return os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"}


def run(script: str, folder: Path, env: dict[str, str]) -> None:
    """Run a script of the page in a folder; it must succeed."""
    done = subprocess.run(["bash", "-euc", script], cwd=folder, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
