"""The Python on the front page runs as it stands there."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

PAGE = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)

RunVprep = Callable[..., subprocess.CompletedProcess[str]]


def test_there_is_python_on_the_page() -> None:
    assert BLOCKS


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_the_python_on_the_page_runs(number: int, run_vprep: RunVprep, tmp_path: Path) -> None:
    for words in (
        ("synth", "--out", tmp_path / "videos", "--classes", 2, "--per-class", 8, "--seconds", 1.5),
        ("shard", tmp_path / "videos", "--out", tmp_path / "data_shards", "--shards", 2),
    ):
        assert run_vprep(*words).returncode == 0
    words = [sys.executable, "-W", "error", "-c", BLOCKS[number]]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
