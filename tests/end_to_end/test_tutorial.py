"""The tutorial's script runs, and the pages show what it does."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
RECORDED = ROOT / "docs" / "whole_way.txt"


def commands(output: str) -> list[str]:
    """The commands that the script shows, whatever the number of steps."""
    return [re.sub(r"steps=\d+", "steps=N", line) for line in output.splitlines() if line.startswith("$ ")]


@pytest.mark.slow
def test_the_tutorial_runs_and_the_recorded_output_is_of_the_same_commands(tmp_path: Path) -> None:
    script = ROOT / "examples" / "whole_way.py"
    done = subprocess.run([sys.executable, script, tmp_path, "12"], capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    assert "gives a map (1, 128, 1, 3, 3) of a clip (8, 40, 40)" in done.stdout
    assert commands(done.stdout) == commands(RECORDED.read_text())
    assert len(commands(done.stdout)) == 10
