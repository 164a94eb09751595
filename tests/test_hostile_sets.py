"""Everything that reads a set meets sets of a stranger who wants to be believed: it reads them or says one sentence."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hostile_sets import KINDS, run_case
from mutate import mutate_text

from vprep.sample_rows import SampleError, row_of
from vprep.subset import subset
from vprep.tar_samples import Sample, samples

RunVprep = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def believable(
    make_video: Callable[..., Path], run_vprep: RunVprep, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """A set of four videos in two shards, with a subset, and the folder of its videos."""
    folder = tmp_path_factory.mktemp("believable")
    for name in ("run", "walk"):
        for number in range(2):
            make_video(folder / "videos" / name / f"{name}_{number}.mp4", seconds=0.4, size="64x48", rate="15")
    done = run_vprep("shard", folder / "videos", "--out", folder / "set", "--shards", 2, "--size", "32x48")
    assert done.returncode == 0, done.stderr
    (folder / "classes.txt").write_text("walk\n")
    subset(folder / "set", f"classes:{folder / 'classes.txt'}", folder / "set" / "subset.parquet")
    return folder / "set", folder / "videos"


def demand_sentences(said: dict[str, str]) -> None:
    for name, text in said.items():
        assert text.isprintable(), (name, text)
        assert len(text) < 2000, (name, text)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("first", [0, *(pytest.param(first, marks=pytest.mark.slow) for first in range(5, 60, 5))])
def test_a_harmed_set_is_read_or_refused_in_a_sentence(
    kind: str, first: int, believable: tuple[Path, Path], tmp_path: Path
) -> None:
    said = {}
    for number in range(first, first + 5):
        said = run_case(*believable, tmp_path / "case", kind, number)
        demand_sentences(said)
    assert len(said) == 13


def test_a_harmed_json_in_a_tar_is_read_or_refused(believable: tuple[Path, Path], tmp_path: Path) -> None:
    path = believable[0] / "000.tar"
    (_, at, size), (_, begin, length) = next(samples(path)).members
    data = path.read_bytes()
    info, mjpeg = json.loads(data[at : at + size]), data[begin : begin + length]
    refused = 0
    for number in range(200):
        text = mutate_text(info, number)
        (tmp_path / "file").write_bytes(mjpeg + text)
        sample = Sample(info["key"], [("json", length, len(text)), ("mjpeg", 0, length)])
        try:
            with (tmp_path / "file").open("rb") as file:
                row_of(file, sample)
        except SampleError as error:
            refused += 1
            demand_sentences({"": str(error)})
    assert refused > 100
