"""The mutator of the tests with hostile files: the same seed gives the same file, and seeds give different files."""

import io
import json
import tarfile
import zipfile
from collections.abc import Callable

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from mutate import mutate_bytes, mutate_parquet, mutate_tar, mutate_text, mutate_value, mutate_zip

SEEDS = 60
VALUE = {"name": "x", "rows": [1, 2, {"offset": 512}], "rate": 25.0, "none": None}


def parquet() -> bytes:
    table = pa.table({"key": ["a", "b"], "label": pa.array([1, 2], pa.int32())})
    sink = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({b"about": json.dumps(VALUE).encode()}), sink)
    return sink.getvalue()


def archive() -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as file:
        for name in "abc":
            file.writestr(name, name * 50)
    return sink.getvalue()


def tape() -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as file:
        for name in "abc":
            member = tarfile.TarInfo(name)
            member.size = 50
            file.addfile(member, io.BytesIO(name.encode() * 50))
    return sink.getvalue()


@pytest.mark.parametrize(
    ("mutate", "good"),
    [
        pytest.param(mutate_bytes, b"0123456789" * 50, id="bytes"),
        pytest.param(mutate_value, VALUE, id="value"),
        pytest.param(mutate_text, VALUE, id="text"),
        pytest.param(mutate_parquet, parquet(), id="parquet"),
        pytest.param(mutate_zip, archive(), id="zip"),
        pytest.param(mutate_tar, tape(), id="tar"),
    ],
)
def test_a_seed_gives_one_file_and_seeds_give_different_files(mutate: Callable[..., object], good: object) -> None:
    before = repr(good)
    found = [repr(mutate(good, seed)) for seed in range(SEEDS)]
    assert found == [repr(mutate(good, seed)) for seed in range(SEEDS)]
    assert len(set(found)) > SEEDS / 2
    assert repr(good) == before


def test_every_table_can_be_changed_whatever_its_columns_are_called_and_hold() -> None:
    table = pa.table({"a": pa.array([{"b": 1}, None]), "key": ["x", "y"], "label": pa.array([1, 2], pa.int32())})
    sink = io.BytesIO()
    pq.write_table(table.rename_columns(["key"] * 3).replace_schema_metadata({b"about": b'""', b"": b""}), sink)
    found = [mutate_parquet(sink.getvalue(), seed) for seed in range(200)]
    assert len(set(found)) > 100
