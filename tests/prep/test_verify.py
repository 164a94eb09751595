"""Damage at every byte of a set is found, and its shard and video are named."""

import contextlib
import json
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rehash import believed, rehash

from vprep.format import checks_of
from vprep.hashing import hash_of
from vprep.index import index
from vprep.summary import verify_text
from vprep.verify import verify

RunVprep = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def harmed(small_shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the set that the tests damage and restore."""
    folder = tmp_path_factory.mktemp("harmed") / "out"
    shutil.copytree(small_shards, folder)
    return folder


@contextlib.contextmanager
def replaced(path: Path, data: bytes | None) -> Iterator[None]:
    """Replace the bytes of a file, or remove it, inside a block."""
    good = path.read_bytes()
    try:
        if data is None:
            path.unlink()
        else:
            path.write_bytes(data)
        yield
    finally:
        path.write_bytes(good)


def wrong(folder: Path, depth: str) -> list[tuple[str, str | None]]:
    """Return the problems that verify finds, each as file and key."""
    return [(item["file"], item["key"]) for item in verify(folder, depth, workers=2)["wrong"]]


def flipped(data: bytes, at: int, bit: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


def owners(folder: Path, name: str) -> list[tuple[int, int, str]]:
    """Return the bytes [begin, end) of each video in a shard: headers, json, padding and frames."""
    rows = [row for row in pq.read_table(folder / "index.parquet").to_pylist() if row["shard"] == name]
    spans, begin = [], 0
    for row in sorted(rows, key=lambda row: row["offset"]):
        end = row["offset"] + row["size"]
        spans.append((begin, end, row["key"]))
        begin = end + -end % 512
    return spans


@pytest.mark.parametrize("depth", ["hashes", "frames"])
@pytest.mark.parametrize("number", [0, *(pytest.param(number, marks=pytest.mark.slow) for number in (1, 2))])
def test_a_flipped_bit_anywhere_in_a_shard_is_found_with_its_video(
    number: int, depth: str, small_shards: Path, harmed: Path
) -> None:
    rng = random.Random(f"{number} {depth}")
    path = harmed / f"00{number}.tar"
    data, spans = path.read_bytes(), owners(small_shards, path.name)
    places: list[tuple[int, str | None]] = [(rng.randrange(begin, end), key) for begin, end, key in spans * 5]
    places += [(begin + rng.randrange(512), key) for begin, _, key in spans]  # the header of the json
    places += [(end, None) for _, end, _ in spans if end % 512]  # the padding after the frames
    places += [(len(data) - back, None) for back in (1, 512, 1024)]  # the trailer
    for at, key in places:
        with replaced(path, flipped(data, at, rng.randrange(8))):
            expected = [(path.name, None)] + ([(path.name, key)] if key else [])
            assert wrong(harmed, depth) == expected, at


@pytest.mark.parametrize(
    ("name", "depth", "places"),
    [
        ("index.parquet", "hashes", 300),
        ("index.parquet", "frames", 40),
        ("failures.parquet", "hashes", 60),
        ("plan.parquet", "hashes", 60),
    ],
)
def test_a_flipped_bit_anywhere_in_a_table_is_found(name: str, depth: str, places: int, harmed: Path) -> None:
    rng = random.Random(name)
    data = (harmed / name).read_bytes()
    for at in rng.sample(range(len(data)), places):
        with replaced(harmed / name, flipped(data, at, rng.randrange(8))):
            assert (name, None) in wrong(harmed, depth), at


def test_a_flipped_bit_anywhere_in_dataset_json_is_found(harmed: Path) -> None:
    rng = random.Random(1)
    path = harmed / "dataset.json"
    data = path.read_bytes()
    for at in rng.sample(range(len(data)), 150):
        with replaced(path, flipped(data, at, rng.randrange(8))):
            assert wrong(harmed, "sizes") == [("dataset.json", None)], at


@pytest.mark.parametrize("depth", ["sizes", "hashes", "frames"])
def test_a_truncated_shard_is_found_with_the_videos_that_it_lost(depth: str, small_shards: Path, harmed: Path) -> None:
    spans = owners(small_shards, "001.tar")
    data = (harmed / "001.tar").read_bytes()
    for number, (_, end, _) in enumerate(spans):
        with replaced(harmed / "001.tar", data[: end - 1]):
            behind = [("001.tar", key) for _, _, key in spans[number:]]
            assert wrong(harmed, depth) == [("001.tar", None), *behind]


@pytest.mark.parametrize("depth", ["sizes", "hashes", "frames"])
def test_missing_and_additional_files_are_found(depth: str, harmed: Path) -> None:
    for name in ("001.tar", "failures.parquet", "plan.parquet"):
        with replaced(harmed / name, None):
            assert wrong(harmed, depth) == [(name, None)]
    with replaced(harmed / "index.parquet", None):
        assert ("index.parquet", None) in wrong(harmed, depth)
    (harmed / "003.tar").write_bytes(bytes(1024))
    assert wrong(harmed, depth) == [("003.tar", None)]
    (harmed / "003.tar").unlink()


def test_an_older_index_or_one_of_another_set_is_found(
    videos: Path, harmed: Path, run_vprep: RunVprep, tmp_path: Path
) -> None:
    shutil.copytree(videos, tmp_path / "fewer")
    next((tmp_path / "fewer").rglob("*.avi")).unlink()
    assert run_vprep("shard", videos, "--out", tmp_path / "other", "--shards", 3, "--seed", 1).returncode == 0
    assert run_vprep("shard", tmp_path / "fewer", "--out", tmp_path / "older", "--shards", 3).returncode == 0
    for name in ("other", "older"):
        with replaced(harmed / "index.parquet", (tmp_path / name / "index.parquet").read_bytes()):
            for depth in ("hashes", "frames"):
                assert ("index.parquet", None) in wrong(harmed, depth)


@pytest.mark.parametrize(
    ("name", "harm", "code"),
    [
        ("001.tar", lambda data: flipped(data, len(data) // 2, 3), 1),
        ("001.tar", lambda data: data[: len(data) // 2], 1),
        ("001.tar", lambda data: None, 1),
        ("index.parquet", lambda data: data[:-1], 1),
        ("index.parquet", lambda data: b"", 1),
        ("dataset.json", lambda data: flipped(data, len(data) // 2, 0), 1),
        ("dataset.json", lambda data: b"", 1),
        ("dataset.json", lambda data: None, 2),
    ],
)
def test_the_exit_code_says_whether_the_set_is_intact(
    name: str, harm: Callable[[bytes], bytes | None], code: int, harmed: Path, run_vprep: RunVprep
) -> None:
    assert run_vprep("verify", harmed, "--depth", "hashes").returncode == 0
    with replaced(harmed / name, harm((harmed / name).read_bytes())):
        done = run_vprep("verify", harmed, "--json")
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    if code == 1:
        found: Sequence[dict[str, Any]] = json.loads(done.stdout)["wrong"]
        assert name in {item["file"] for item in found}


def advice(folder: Path) -> str:
    return verify_text(verify(folder))


@pytest.fixture
def copy(small_shards: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small_shards, tmp_path / "copy"))


@pytest.mark.parametrize(
    ("columns", "what"),
    [
        ({"frames": 7}, "has frames 7, and 000.tar has "),
        ({"label": 1}, "has label 1, and 000.tar has 0"),
        ({"split1": "test"}, "has split1 'test', and 000.tar has None"),
        ({"fps": 30.0}, "has fps 30.0, and 000.tar has 25.0"),
        ({"height": 127}, "has height 127, and 000.tar has 128"),
        ({"source_seconds": 9.0}, "has source_seconds 9.0, and 000.tar has "),
        ({"hash": "0" * 32}, "has hash '"),
        ({"frame_checks": "0" * 8}, "has frame_checks '00000000', and 000.tar has '"),
        ({"frame_offsets": [0, 5]}, "has frame_offsets [0, 5], and 000.tar has [0, "),
        ({"offset": 1024}, "has offset 1024, and 000.tar has "),
        ({"key": None}, "has key null, which must be a name"),
        ({"frames": 10**9}, "has frames 1000000000 and size "),
        ({"height": 2**31 - 1}, "has height 2147483647 and width 171, which cannot be"),
        ({"fps": float("nan")}, "has fps nan, which must be above 0, at most 1000"),
        ({"offset": -5}, "has offset -5, which must be from 0 on"),
        ({"size": -5}, "has size -5, which must be from 0 to 4294967295"),
    ],
)
def test_an_index_that_says_other_things_than_the_tars_is_found_by_default(
    columns: dict[str, object], what: str, copy: Path
) -> None:
    """Also when whoever changed it has made all hashes right again."""
    believed(copy, **columns)
    found = [item for item in verify(copy)["wrong"] if item["file"] == "index.parquet"]
    assert found
    assert any(item["what"].startswith(what) for item in found), found
    assert advice(copy).endswith(f"\nvprep index {copy} makes index.parquet again from the tars")
    index(copy)
    assert verify(copy)["wrong"] == []


@pytest.mark.parametrize("depth", ["sizes", "hashes", "frames"])
def test_an_index_without_a_column_is_one_sentence(depth: str, copy: Path) -> None:
    pq.write_table(pq.read_table(copy / "index.parquet").drop_columns(["size"]), copy / "index.parquet")
    rehash(copy)
    (found,) = verify(copy, depth)["wrong"]
    assert found["what"] == (
        f"{copy}/index.parquet cannot be read (it has no column 'size'); make it again with: vprep index {copy}"
    )


def test_a_row_that_is_missing_or_one_that_is_there_twice_is_found(copy: Path) -> None:
    table = pq.read_table(copy / "index.parquet")
    pq.write_table(table.slice(1), copy / "index.parquet")
    rehash(copy)
    assert "has 3 rows of 000.tar, and dataset.json 4" in advice(copy)
    twice = pa.concat_tables([table.slice(0, 1), table.slice(0, 1), table.slice(2)])
    pq.write_table(twice, copy / "index.parquet")
    rehash(copy)
    key = table["key"][0].as_py()
    assert f"index.parquet  {key}  is the key of several videos" in advice(copy)


@pytest.mark.parametrize("depth", ["hashes", "frames"])
def test_a_frame_that_claims_billions_of_pixels_is_found_and_not_decoded(depth: str, copy: Path) -> None:
    row = pq.read_table(copy / "index.parquet").to_pylist()[0]
    data = bytearray((copy / "000.tar").read_bytes())
    at = data.index(b"\xff\xc0", row["offset"] + row["frame_offsets"][3])
    data[at + 5 : at + 9] = (65_000).to_bytes(2, "big") * 2
    (copy / "000.tar").write_bytes(data)
    mjpeg = bytes(data[row["offset"] : row["offset"] + row["size"]])
    table = pq.read_table(copy / "index.parquet")
    for name, value in (("hash", hash_of(mjpeg)), ("frame_checks", checks_of(mjpeg, row["frame_offsets"]))):
        values = [value, *table[name].to_pylist()[1:]]
        table = table.set_column(table.schema.get_field_index(name), name, pa.array(values, pa.string()))
    pq.write_table(table, copy / "index.parquet")
    rehash(copy)
    assert ("000.tar", row["key"]) in wrong(copy, depth)


def test_a_set_of_vprep_is_mended_by_vprep_shard_if_its_videos_are_there(copy: Path, videos: Path) -> None:
    (copy / "001.tar").unlink()
    assert advice(copy) == "001.tar  is missing\nrun vprep shard again: only missing shards are made again"
    (copy / "000.tar").write_bytes(bytes(1024))
    assert advice(copy).endswith("\nremove 000.tar and run vprep shard again: only missing shards are made again")
    plan = pq.read_table(copy / "plan.parquet")
    notes = json.loads(plan.schema.metadata[b"plan"]) | {"root": str(copy / "gone")}
    pq.write_table(plan.replace_schema_metadata({b"plan": json.dumps(notes).encode()}), copy / "plan.parquet")
    assert f"\nthe videos are no longer in {copy / 'gone'}; only if they are elsewhere:\nremove 000.tar" in advice(copy)
    (copy / "plan.parquet").unlink()
    assert advice(copy).endswith(
        "\nplan.parquet is lost, so vprep shard cannot make shards again: get 000.tar, 001.tar from a copy of the set"
    )


def test_the_only_copy_of_other_tars_is_never_to_be_removed(copy: Path) -> None:
    for name in ("plan.parquet", "dataset.json", "index.parquet", "failures.parquet"):
        (copy / name).unlink()
    index(copy)
    (copy / "000.tar").write_bytes((copy / "000.tar").read_bytes()[:-1])
    (copy / "002.tar").unlink()
    said = advice(copy)
    assert said.endswith(
        "\nvprep index made this set from tars that were there: get 000.tar, 002.tar again from where they came;\n"
        f"to index the tars as they are now, remove dataset.json and run vprep index {copy}"
    )
    assert "vprep shard" not in said
    (copy / "dataset.json").unlink()
    (copy / "000.tar").unlink()
    index(copy)
    assert verify(copy)["wrong"] == []


def test_names_of_a_stranger_cannot_rule_the_terminal(copy: Path) -> None:
    believed(copy, key="\x1b[2Jgone")
    assert "\x1b" not in advice(copy)
    assert "\\x1b[2Jgone" in advice(copy)
