"""Small sets, written byte by byte, for the commands that read sets."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vprep.format import (
    DATASET,
    FAILURES,
    FAILURES_SCHEMA,
    INDEX,
    INDEX_SCHEMA,
    SCHEMA,
    TRAILER,
    checks_of,
    member,
    sample_json,
    write_dataset,
)
from vprep.hashing import hash_file, hash_of

MakeSet = Callable[..., Path]
HEIGHT, WIDTH = 32, 48


@cache
def grey_jpeg(level: int) -> bytes:
    """Return a JPEG of one grey level."""
    done, jpeg = cv2.imencode(".jpg", np.full((HEIGHT, WIDTH, 3), level, np.uint8))
    assert done
    return jpeg.tobytes()


@pytest.fixture(scope="session")
def make_set() -> MakeSet:
    """A function that writes a set of one shard; frame i of a video is grey with level 5 i."""

    def write(folder: Path, videos: list[dict[str, Any]], failures: list[dict[str, Any]] | None = None) -> Path:
        folder.mkdir(parents=True)
        classes = sorted({video["class_name"] for video in videos if video.get("class_name")})
        rows, tar = [], bytearray()
        for video in videos:
            row, mjpeg = _row(video, classes)
            for name, data in ((f"{row['key']}.json", sample_json(row)), (f"{row['key']}.mjpeg", mjpeg)):
                header, padding = member(name, data)
                row["offset"] = len(tar) + len(header)
                tar += header + data + padding
            rows.append(row)
        (folder / "000.tar").write_bytes(tar + TRAILER)
        _finish(folder, classes, pa.Table.from_pylist(rows, schema=INDEX_SCHEMA), failures or [])
        return folder

    return write


@pytest.fixture(scope="session")
def small_set(make_set: MakeSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos of two classes; the second has damage, the third is short and has no label."""
    videos = [
        {"key": "v_Walk_g01_c01", "class_name": "Walk", "split1": "train", "split2": "test", "frames": 40},
        {"key": "v_Run_g01_c01", "class_name": "Run", "split1": "test", "frames": 50, "damaged": 3},
        {"key": "nameless", "frames": 6},
    ]
    return make_set(tmp_path_factory.mktemp("small") / "set", videos)


def _row(video: dict[str, Any], classes: list[str]) -> tuple[dict[str, Any], bytes]:
    name, count = video.get("class_name"), video.get("frames", 2)
    jpegs = [grey_jpeg(5 * number % 256) for number in range(count)]
    mjpeg = b"".join(jpegs)
    offsets = np.cumsum([0, *map(len, jpegs)]).tolist()
    info = {
        "shard": "000.tar",
        "size": len(mjpeg),
        "source": f"{video['key']}.mp4",
        "label": classes.index(name) if name else None,
        "frames": count,
        "fps": 25.0,
        "height": HEIGHT,
        "width": WIDTH,
        "codec": "h264",
        "source_fps": 25.0,
        "source_seconds": count / 25,
        "source_bytes": 1000,
        "source_hash": hash_of(video["key"].encode()),
        "rotation": 0,
        "variable_rate": False,
        "audio": True,
        "damaged": 0,
        "hash": hash_of(mjpeg),
        "frame_offsets": offsets,
        "frame_checks": checks_of(mjpeg, offsets),
    }
    return dict.fromkeys(INDEX_SCHEMA.names) | info | video, mjpeg


def _finish(folder: Path, classes: list[str], table: pa.Table, failures: list[dict[str, Any]]) -> None:
    pq.write_table(table, folder / INDEX, row_group_size=2)
    pq.write_table(pa.Table.from_pylist(failures, schema=FAILURES_SCHEMA), folder / FAILURES)
    tar = folder / "000.tar"
    size = tar.stat().st_size
    info = {
        "schema": SCHEMA,
        "videos": table.num_rows,
        "failures": len(failures),
        "bytes": size,
        "classes": classes,
        "shards": [{"name": tar.name, "bytes": size, "hash": hash_file(tar), "videos": table.num_rows}],
    }
    (folder / DATASET).write_bytes(write_dataset(info))
