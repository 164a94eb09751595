"""Everything that reads a set meets sets of a stranger who wants to be believed: it reads them or says one sentence."""

import contextlib
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hostile_sets import KINDS, run_case
from mutate import mutate_parquet, mutate_text

from vprep.errors import UsageError
from vprep.format import INDEX_SCHEMA, read_dataset, write_dataset
from vprep.row_check import row_faults
from vprep.sample_rows import SampleError, row_of
from vprep.sharding.plan import planned_videos, read_plan
from vprep.subset import subset
from vprep.tables import Table
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


def test_a_harmed_dataset_json_is_read_or_refused(believable: tuple[Path, Path], tmp_path: Path) -> None:
    info = json.loads((believable[0] / "dataset.json").read_bytes())
    refused = 0
    for number in range(150):
        text = mutate_text(info, number)
        with contextlib.suppress(ValueError, AttributeError, RecursionError):  # what nobody can write with a hash
            text = write_dataset(json.loads(text)) if number % 2 else text
        (tmp_path / "dataset.json").write_bytes(text)
        try:
            read_dataset(tmp_path)
        except UsageError as error:
            refused += 1
            demand_sentences({"": str(error)})
    assert refused > 50


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


@pytest.mark.parametrize("name", ["index", "plan"])
def test_a_harmed_table_is_read_or_refused(name: str, believable: tuple[Path, Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(believable[0], tmp_path / "set"))
    path = folder / f"{name}.parquet"
    data = path.read_bytes()
    refused = 0
    for number in range(100):
        path.write_bytes(mutate_parquet(data, number))
        try:
            if name == "plan":
                assert read_plan(folder) is not None
                list(planned_videos(folder))
            else:
                for table in Table(path, INDEX_SCHEMA, "").batches():
                    list(row_faults(table))
        except UsageError as error:
            refused += 1
            demand_sentences({"": str(error)})
    assert refused > 30
