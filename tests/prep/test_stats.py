"""The counts of a set, from its index."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from vprep.errors import UsageError
from vprep.format import INDEX_SCHEMA, PER_FRAME
from vprep.stats import as_table, stats

MakeSet = Callable[..., Path]
NewSet = Callable[..., dict[str, Any]]


@pytest.fixture
def counted(make_set: MakeSet, tmp_path: Path) -> NewSet:
    """A function that makes a set of the given videos and returns its counts."""

    def count(*videos: dict[str, Any], failures: list[dict[str, Any]] | None = None) -> dict[str, Any]:
        named = [{"key": f"v{number}"} | video for number, video in enumerate(videos)]
        return stats(make_set(tmp_path / "set", named, failures))

    return count


def test_all_counts_of_a_small_set(small_set: Path) -> None:
    info = stats(small_set)
    index = pq.read_table(small_set / "index.parquet")
    assert info == {
        "set": str(small_set),
        "videos": 3,
        "failures": 0,
        "causes": {},
        "hours": round((40 + 50 + 6) / 25 / 3600, 4),
        "frames": 96,
        "bytes": (small_set / "000.tar").stat().st_size,
        "bytes_per_frame": round(sum(index["size"].to_pylist()) / 96, 1),
        "shards": 1,
        "classes": 2,
        "class_sizes": {"least": ["Run", 1], "median": 1.0, "most": ["Walk", 1], "without_videos": 0},
        "unlabelled": 1,
        "splits": {"split1": {"test": 1, "train": 1}, "split2": {"test": 1}},
        "damaged_videos": 1,
        "damaged_frames": 3,
        "rotated": 0,
        "variable_rate": 0,
        "silent": 0,
        "duplicates": {"groups": 0, "videos": 0, "across": {}, "examples": []},
        "seconds": {"0%": 0.24, "5%": 0.38, "25%": 0.92, "50%": 1.6, "75%": 1.8, "95%": 1.96, "100%": 2.0},
        "frame_sizes": {"32x48": 3},
        "fps": {"25": 3},
        "source_fps": {"25": 3},
        "codecs": {"h264": 3},
    }


def test_failures_are_counted_by_cause_the_most_frequent_first(counted: NewSet) -> None:
    causes = ["timeout", "zero_bytes", "zero_bytes"]
    failures = [{"source": f"{number}.mp4", "cause": cause, "detail": ""} for number, cause in enumerate(causes)]
    info = counted({}, failures=failures)
    assert info["failures"] == 3
    assert list(info["causes"].items()) == [("zero_bytes", 2), ("timeout", 1)]


def test_class_sizes_are_the_smallest_the_largest_and_the_median(counted: NewSet) -> None:
    videos = [{"class_name": name} for name in "abbccc"]
    assert counted(*videos)["class_sizes"] == {
        "least": ["a", 1],
        "median": 2,
        "most": ["c", 3],
        "without_videos": 0,
    }


def test_rotated_silent_and_variable_videos_are_counted_and_unknown_ones_are_not(counted: NewSet) -> None:
    info = counted(
        {"rotation": 90, "audio": False, "variable_rate": True},
        {"rotation": 0, "audio": True, "variable_rate": False},
        {"rotation": None, "audio": None, "variable_rate": None, "damaged": None},
    )
    assert [info[name] for name in ("rotated", "silent", "variable_rate", "damaged_videos")] == [1, 1, 1, 0]


def test_videos_of_the_same_content_are_grouped_and_groups_in_train_and_test_are_counted(counted: NewSet) -> None:
    info = counted(
        {"source_hash": "x", "split1": "train", "split2": "train"},
        {"source_hash": "x", "split1": "test", "split2": "train"},
        {"source_hash": "y", "split1": "test", "split3": "train"},
        {"source_hash": "y", "split1": "test", "split3": None},
        {"source_hash": "z", "split1": "train"},
    )
    assert info["duplicates"] == {
        "groups": 2,
        "videos": 4,
        "across": {"split1": 1},
        "examples": [["v0", "v1"], ["v2", "v3"]],
    }


def test_two_parts_of_one_file_are_no_duplicates(counted: NewSet) -> None:
    info = counted(
        {"source_hash": "x", "start": 0.0, "end": 5.0},
        {"source_hash": "x", "start": 5.0, "end": 9.0},
        {"source_hash": "x", "start": 5.0, "end": 9.0},
        {"source_hash": None, "hash": "p"},
        {"source_hash": None, "hash": "q"},
    )
    assert info["duplicates"]["examples"] == [["v1", "v2"]]


def test_videos_of_other_tars_are_the_same_when_their_frames_are(counted: NewSet) -> None:
    info = counted(*({"source_hash": None, "hash": name} for name in "xyx"))
    assert info["duplicates"]["examples"] == [["v0", "v2"]]


def test_source_rates_and_codecs_are_counted_the_most_frequent_first(counted: NewSet) -> None:
    info = counted(
        {"source_fps": 29.97, "codec": "mpeg4"},
        {"source_fps": 30000 / 1001, "codec": "h264"},
        {"source_fps": 12.5, "codec": "h264"},
        {"source_fps": None, "codec": None},
    )
    assert list(info["source_fps"].items()) == [("29.97", 2), ("12.5", 1)]
    assert list(info["codecs"].items()) == [("h264", 2), ("mpeg4", 1)]


def test_rare_source_rates_are_counted_together(counted: NewSet) -> None:
    info = counted(*({"source_fps": 10.0 + number} for number in range(25)))
    assert len(info["source_fps"]) == 21
    assert info["source_fps"]["other"] == 5


def test_a_set_without_videos_is_counted(counted: NewSet) -> None:
    info = counted(failures=[{"source": "a.mp4", "cause": "truncated", "detail": ""}])
    assert (info["videos"], info["bytes_per_frame"], info["seconds"], info["class_sizes"]) == (0, None, None, None)
    assert as_table(info).row_count > 0


def test_a_large_set_is_counted_without_its_columns_per_frame(small_set: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(small_set, tmp_path / "set"))
    columns = [name for name in INDEX_SCHEMA.names if name not in PER_FRAME]
    rows = pq.read_table(small_set / "index.parquet", columns=columns).take(np.arange(100_000) % 3)
    hashes = pa.array([f"{number:032x}" for number in range(len(rows))])
    rows = rows.set_column(columns.index("source_hash"), "source_hash", hashes)
    pq.write_table(rows, folder / "index.parquet")
    assert stats(folder)["videos"] == 100_000


def test_the_table_has_lines_of_name_and_value(small_set: Path) -> None:
    info = stats(small_set)
    console = Console(width=100)
    with console.capture() as seen:
        console.print(as_table(info | {"set": "k[400]", "duplicates": info["duplicates"] | {"across": {"split1": 2}}}))
    lines = [" ".join(line.split()) for line in seen.get().splitlines()]
    assert [line for line in lines if not line.startswith(("frames", "size"))] == [
        "set k[400]",
        "videos 3 in 1 shard, 0.0 hours",
        "frame size 3 at 32x48",
        "fps 3 at 25",
        "failed 0",
        "classes 2, of 1 (Run) to 1 video (Walk), median 1; 0 without any",
        "unlabelled 1",
        "split1 1 test, 1 train",
        "split2 1 test",
        "damaged 3 frames in 1 video",
        "rotated 0",
        "variable rate 0",
        "silent 0",
        "same content 0 groups, 0 videos",
        "across split1 2 groups: videos of train are also in val or test",
        "seconds 0.24 to 2, median 1.6, nine in ten from 0.38 to 1.96",
        "source fps 3 at 25",
        "codecs 3 h264",
    ]


def test_a_folder_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        stats(tmp_path / "no")
    assert str(error.value) == (
        f"no folder '{tmp_path / 'no'}'; a set is made with: vprep shard VIDEOS --out {tmp_path / 'no'}"
    )
