"""Tables that a stranger wrote are checked before they are read, and take no more memory than their file allows."""

import re
import resource
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rehash import rehash

from vprep.errors import UsageError
from vprep.format import INDEX_SCHEMA
from vprep.index_rows import failures
from vprep.preview import show
from vprep.sharding.plan import planned_videos, read_plan
from vprep.stats import stats
from vprep.tables import Table

RunVprep = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def copy(small_shards: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_shards, tmp_path / "copy"))


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(UsageError) as refused:
        call()
    return str(refused.value)


def column(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), name, values)


def null_rows(rows: int, **columns: pa.Array) -> pa.Table:
    """Return rows of an index that hold nothing but the given columns."""
    unknown = {field.name: pa.nulls(rows, field.type) for field in INDEX_SCHEMA}
    return pa.table(unknown | columns)


def test_a_text_that_is_there_a_million_times_is_refused_before_it_is_written_out(tmp_path: Path) -> None:
    """A file of 10 kB that takes 100 GB."""
    path = tmp_path / "index.parquet"
    key = pa.DictionaryArray.from_arrays(pa.array(np.zeros(100_000, np.int32)), pa.array(["x" * 1_000_000]))
    pq.write_table(null_rows(100_000, key=key), path, compression="zstd", store_schema=False)
    assert path.stat().st_size < 20_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    table = Table(path, INDEX_SCHEMA, "advice")
    for read in (lambda: table.read(["key"]), lambda: list(table.batches(["key"]))):
        assert re.search(r"its texts take \d+ bytes, more than a file of its size can hold\); advice", refusal(read))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB


def test_more_rows_than_a_file_can_hold_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "index.parquet"
    pq.write_table(null_rows(1_000_001), path, compression="zstd")
    assert refusal(lambda: Table(path, INDEX_SCHEMA, "advice")) == (
        f"{path} cannot be read (it claims 1000001 rows, more than a file of its size can hold); advice"
    )


@pytest.mark.parametrize(
    ("name", "values", "what"),
    [
        ("size", None, "it has no column 'size'"),
        ("size", pa.array([1.5] * 12), "its column 'size' is double, not int64"),
        ("key", pa.array([1] * 12), "its column 'key' is int64, not string"),
        ("frame_offsets", pa.array([["a"]] * 12), "its column 'frame_offsets' is list<"),
    ],
)
def test_a_missing_column_and_another_type_are_named(name: str, values: pa.Array | None, what: str, copy: Path) -> None:
    path = copy / "index.parquet"
    table = pq.read_table(path)
    pq.write_table(table.drop_columns([name]) if values is None else column(table, name, values), path)
    assert refusal(lambda: stats(copy) if name == "size" else Table(path, INDEX_SCHEMA, "")).startswith(
        f"{path} cannot be read ({what}"
    )


def test_a_text_that_is_no_utf_8_is_refused(copy: Path) -> None:
    path = copy / "index.parquet"
    keys = pa.Array.from_buffers(pa.string(), 12, pa.array([b"\xff"] * 12, pa.binary()).buffers())
    pq.write_table(column(pq.read_table(path), "key", keys), path)
    assert "index.parquet cannot be read (" in refusal(lambda: stats(copy))


@pytest.mark.parametrize("how", ["empty", "without its columns"])
def test_failures_that_cannot_be_read_are_one_sentence(how: str, copy: Path) -> None:
    path = copy / "failures.parquet"
    if how == "empty":
        path.write_bytes(b"")
    else:
        pq.write_table(pa.table({"a": [1]}), path)
    rehash(copy)
    reason = "Parquet file size is 0 bytes" if how == "empty" else "it has no column 'source'"
    said = refusal(lambda: stats(copy))
    assert said == f"{path} cannot be read ({reason}); remove it and make it again with: vprep index {copy}"
    assert refusal(lambda: failures(copy, ["cause"])) == said


def test_a_video_is_shown_only_where_its_offsets_and_sizes_are_true(copy: Path, tmp_path: Path) -> None:
    path = copy / "index.parquet"
    table = pq.read_table(path)
    key = table["key"][0].as_py()
    pq.write_table(column(table, "shard", pa.array(["../secret.tar"] * 12)), path)
    assert "has shard ../secret.tar, which must be the name of a tar" in refusal(
        lambda: show(copy, key, tmp_path / "a.png")
    )
    pq.write_table(column(table, "height", pa.array([2**31 - 1] * 12, pa.int32())), path)
    assert "has height 2147483647 and width " in refusal(lambda: show(copy, key, tmp_path / "a.png"))


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("shard", "../../evil.tar", "it names the shard '../../evil.tar'"),
        ("shard", "/srv/evil.tar", "it names the shard '/srv/evil.tar'"),
        ("shard", None, "it names the shard None"),
        ("source", "../../../etc/passwd", "names the file '../../../etc/passwd'"),
        ("source", "/etc/passwd", "names the file '/etc/passwd'"),
        ("key", "../../x", "names a video '../../x', which is no key"),
        ("key", None, "names a video None, which is no key"),
    ],
)
def test_a_plan_that_names_files_elsewhere_is_refused_and_nothing_is_written_there(
    name: str, value: str | None, what: str, copy: Path, videos: Path, run_vprep: RunVprep, tmp_path: Path
) -> None:
    table = pq.read_table(copy / "plan.parquet")
    pq.write_table(column(table, name, pa.array([value] * 12, pa.string())), copy / "plan.parquet")
    said = refusal(lambda: (read_plan(copy), list(planned_videos(copy))))
    assert what in said
    assert said.endswith(f"; move {copy} away and make the set again")
    if value == "../../evil.tar":
        (copy / "dataset.json").unlink()
        done = run_vprep("shard", videos, "--out", copy, "--shards", 3)
        assert (done.returncode, done.stderr.splitlines()[-1]) == (2, f"vprep: {said}")
        assert not list(tmp_path.parent.rglob("evil.tar"))


def test_a_set_whose_working_folder_is_a_link_is_refused(
    copy: Path, videos: Path, run_vprep: RunVprep, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (copy / "001.tar").unlink()
    (copy / ".work").symlink_to(tmp_path / "mine")
    done = run_vprep("shard", videos, "--out", copy, "--shards", 3)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        2,
        f"vprep: {copy}/.work is a link to another folder; remove it",
    )
    assert list((tmp_path / "mine").iterdir()) == []


def test_a_dataset_json_that_is_none_is_one_sentence(copy: Path) -> None:
    for text in (b"[" * 5_000, b'{"schema":' * 200_000, b"{}", b"[]", b"null", b'{"schema": true}', b"\xff\xfe"):
        (copy / "dataset.json").write_bytes(text)
        assert refusal(lambda: stats(copy)).startswith(f"{copy / 'dataset.json'} ")
