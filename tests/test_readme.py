"""The Python on the front page and on the pages of the documentation runs as it stands there."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from results_on import bases

from veval.results import result

ROOT = Path(__file__).parent.parent
PAGES = ("README.md", "docs/shards.md", "docs/evaluation.md", "docs/extending.md")
BLOCKS = [
    pytest.param(block, id=f"{page}-{number}")
    for page in PAGES
    for number, block in enumerate(re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL))
]

RunVprep = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize("page", PAGES)
def test_there_is_python_on_the_page(page: str) -> None:
    assert "```python\n" in (ROOT / page).read_text()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, run_vprep: RunVprep) -> Path:
    """A folder with a small set and a result of retrieval where the pages have theirs."""
    folder = tmp_path_factory.mktemp("pages")
    for words in (
        ("synth", "--out", folder / "videos", "--classes", 2, "--per-class", 8, "--seconds", 1.5),
        ("shard", folder / "videos", "--out", folder / "data_shards", "--shards", 2),
    ):
        assert run_vprep(*words).returncode == 0
    (folder / "results").mkdir()
    result.write(folder / "results" / "retrieval-pace-ucf101-fold1-1.json", bases()[0])
    return folder


@pytest.mark.parametrize("block", BLOCKS)
def test_the_python_on_the_page_runs(block: str, folder: Path) -> None:
    words = [sys.executable, "-W", "error", "-c", block]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
