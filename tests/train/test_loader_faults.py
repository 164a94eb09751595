"""A damaged or missing shard is a clear error, and never a shorter epoch."""

import logging
import os
import random
import shutil
import tarfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from vprep.errors import UsageError, WorkError
from vprep.format import check_of
from vtrain.data import EvenClips, Loader, OneClip, open_shards
from vtrain.data.shard_set import ShardSet

ALL_FRAMES = EvenClips(clips=1, frames=20)  # so that every byte of a video is read


def walk(folder: Path, **options: object) -> list[str]:
    loader = open_shards(folder, ALL_FRAMES, batch=5, epochs=1, **options)  # type: ignore[arg-type]
    return [key for batch in loader for key in batch.keys]


def cuts(path: Path) -> Iterator[tuple[str, int]]:
    """Sizes to which a tar may be cut, one for each part of a tar in which it can end."""
    with tarfile.open(path) as tar:
        members = tar.getmembers()
    middle = members[len(members) // 2]
    yield "nothing left", 0
    yield "inside the first header", 300
    yield "inside a header", middle.offset + 100
    yield "between two members", middle.offset
    yield "inside the frames", members[-1].offset_data + members[-1].size // 2
    yield "inside the last padding", members[-1].offset_data + members[-1].size + 1
    yield "without its end", path.stat().st_size - 1024
    yield "by one byte", path.stat().st_size - 1


@pytest.mark.parametrize("workers", [0, 1])
def test_a_shard_cut_anywhere_is_refused_by_name_before_anything_is_read(copy: Path, workers: int) -> None:
    path = copy / "003.tar"
    whole = path.read_bytes()
    for what, size in cuts(path):
        path.write_bytes(whole[:size])
        with pytest.raises(UsageError) as error:
            walk(copy, workers=workers)
        assert str(error.value) == (
            f"{path} is cut off: it has {size} bytes, and {len(whole)} in dataset.json; "
            f"find what is damaged with: vprep verify {copy}"
        ), what


def test_a_shard_cut_while_training_is_an_error_that_names_it(copy: Path) -> None:
    path = copy / "002.tar"
    whole = path.read_bytes()
    for what, size in cuts(path):
        path.write_bytes(whole)
        loader = open_shards(copy, ALL_FRAMES, batch=5, epochs=1)
        os.truncate(path, size)
        with pytest.raises(WorkError) as error:
            list(loader)
        assert str(error.value) == (
            f"{path} is cut off: it has {size} bytes, and {len(whole)} in dataset.json; "
            f"find what is damaged with: vprep verify {copy}"
        ), what


def index(folder: Path) -> list[dict[str, object]]:
    return pq.read_table(folder / "index.parquet").to_pylist()


@pytest.mark.parametrize("workers", [0, 2])
def test_a_shard_deleted_while_training_is_an_error_that_names_it(copy: Path, workers: int) -> None:
    loader = open_shards(copy, ALL_FRAMES, batch=2, workers=workers)
    batches = iter(loader)
    next(batches)
    for path in copy.glob("*.tar"):  # files that are open stay readable
        path.unlink()
    with pytest.raises(WorkError) as error:
        list(islice(batches, 30))
    (gone,) = [path for path in map(str, sorted(choose_names(copy))) if path in str(error.value)]
    assert str(error.value) == (
        f"{gone} is missing; run the same vprep shard command again: only this shard is made again"
    )


def choose_names(folder: Path) -> list[Path]:
    return [folder / f"00{number}.tar" for number in range(6)]


def test_a_missing_shard_is_refused_at_the_start(copy: Path) -> None:
    (copy / "004.tar").unlink()
    with pytest.raises(UsageError) as error:
        walk(copy)
    assert str(error.value) == (
        f"{copy}/004.tar is missing; run the same vprep shard command again: only this shard is made again"
    )
    assert len(walk(copy / "<000..003>.tar")) == 20  # those that are named are all that is needed


def fault_of(path: Path) -> str | None:
    """Read all videos of a shard; return the message of the error, if there is one."""
    try:
        walk(path)
    except WorkError as error:
        return str(error)
    return None


def test_any_flipped_byte_of_a_video_is_an_error_that_names_shard_and_key(copy: Path) -> None:
    """In headers, json and frames. Only bytes that a reader ignores may pass: padding, modes, checksums of headers."""
    random.seed(4)
    path = copy / "001.tar"
    whole = path.read_bytes()
    rows = [row for row in index(copy) if row["shard"] == path.name]
    for _ in range(150):
        row = random.choice(rows)
        begin, size = int(row["offset"]), int(row["size"])  # type: ignore[call-overload]
        at = random.choice([random.randrange(begin, begin + size), random.randrange(begin - 1500, begin)])
        path.write_bytes(whole[:at] + bytes([whole[at] ^ (1 << random.randrange(8))]) + whole[at + 1 :])
        message = fault_of(path)
        if message is None:
            assert at < begin, "a flipped byte of a frame was not detected"
        else:
            assert message.startswith(str(path))
            assert f"'{row['key']}'" in message
            assert f"vprep verify {copy}" in message
    path.write_bytes(whole)


def test_a_flipped_byte_of_a_frame_is_reported_with_its_video(copy: Path) -> None:
    row = index(copy)[0]
    path = copy / str(row["shard"])
    data = bytearray(path.read_bytes())
    data[int(row["offset"]) + int(row["frame_offsets"][7]) + 300] ^= 4  # type: ignore[call-overload, index]
    path.write_bytes(data)
    with pytest.raises(WorkError) as error:
        walk(copy)
    assert str(error.value) == (
        f"{path}, video '{row['key']}': frame 7 differs from what was written; "
        f"find what is damaged with: vprep verify {copy}, "
        "or skip bad videos with: data.on_error=skip (veval: --skip-bad)"
    )


def test_shards_of_another_set_under_the_same_names_are_detected(copy: Path, small_shards: Path) -> None:
    other = index(small_shards)[0]
    shard = (small_shards / str(other["shard"])).read_bytes()
    path = copy / "000.tar"
    path.write_bytes(shard[: path.stat().st_size].ljust(path.stat().st_size, b"\0"))  # of the same size
    with pytest.raises(WorkError) as error:
        walk(path)
    key = next(row["key"] for row in index(copy) if f"'{row['key']}'" in str(error.value))
    assert str(error.value) == (
        f"{path} does not hold video '{key}' where the index says: the shard was altered, or the index is of other "
        f"shards; find out with: vprep verify {copy}"
    )


def test_an_index_of_another_set_is_refused(copy: Path, small_shards: Path) -> None:
    shutil.copy(small_shards / "index.parquet", copy / "index.parquet")
    with pytest.raises(UsageError, match=r"index.parquet is .*vprep verify"):
        walk(copy)


def damage(folder: Path, *numbers: int) -> list[str]:
    """Flip a byte of some videos; return their keys."""
    rows = index(folder)
    for number in numbers:
        row = rows[number]
        path = folder / str(row["shard"])
        data = bytearray(path.read_bytes())
        data[int(row["offset"]) + 700] ^= 1  # type: ignore[call-overload]
        path.write_bytes(data)
    return [str(rows[number]["key"]) for number in numbers]


@pytest.mark.parametrize("workers", [0, 2])
def test_another_video_takes_the_slot_of_a_bad_one(copy: Path, workers: int, caplog: pytest.LogCaptureFixture) -> None:
    bad = damage(copy, 3, 20)
    loader = open_shards(copy, ALL_FRAMES, batch=6, epochs=2, on_error="skip", budget=0.1, workers=workers)
    with caplog.at_level(logging.WARNING, "vtrain.data"):
        batches = list(loader)
    shown = [(key, valid) for one in batches for key, valid in zip(one.keys, one.valid.tolist(), strict=True)]
    assert [len(one) for one in batches] == [6] * 10
    assert [valid for _, valid in shown].count(False) == 4  # two videos, two epochs
    assert not {key for key, _ in shown} & set(bad)
    assert sorted(loader.bad) == sorted(bad)
    assert len(caplog.messages) == 2  # one for each
    for key in bad:
        found = loader.bad[key]
        assert f"skipped: {found.shard}, video '{key}': frame 0 differs from what was written; " in caplog.text
        assert f"video '{found.instead}' is used instead" in caplog.text


def test_the_substitute_of_a_bad_video_is_the_same_with_any_ranks_and_workers(copy: Path) -> None:
    damage(copy, 0, 9, 17)
    options = {"on_error": "skip", "budget": 0.5}
    whole = list(open_shards(copy, ALL_FRAMES, batch=6, epochs=1, **options))  # type: ignore[arg-type]
    ranks = [
        list(open_shards(copy, ALL_FRAMES, batch=6, epochs=1, rank=rank, world=2, workers=rank, **options))  # type: ignore[arg-type]
        for rank in range(2)
    ]
    for wanted, *parts in zip(whole, *ranks, strict=True):
        assert [key for part in parts for key in part.keys] == wanted.keys
        assert np.array_equal(np.concatenate([part.clips for part in parts]), wanted.clips)


def test_more_bad_videos_than_the_budget_allows_is_an_error(copy: Path) -> None:
    bad = damage(copy, 1, 2, 3, 4)
    with pytest.raises(WorkError) as error:
        walk(copy, on_error="skip", budget=0.1)
    assert str(error.value).startswith("4 of 30 videos are bad, and 3 were allowed; the last: ")
    assert any(f"video '{key}'" in str(error.value) for key in bad)
    assert str(error.value).endswith(f"; list them all with: vprep verify {copy}")


def test_a_set_of_bad_videos_is_an_error_and_not_an_endless_search(copy: Path) -> None:
    damage(copy, *range(30))
    with pytest.raises(WorkError) as error:
        walk(copy, on_error="skip", budget=1.0)
    assert str(error.value) == (f"16 videos in a row cannot be used; find what is damaged with: vprep verify {copy}")


def test_a_short_video_is_bad_where_the_plan_says_so(shards: Path) -> None:
    plan = OneClip(frames=30, short="error")
    with pytest.raises(WorkError, match=r"it has 20 frames, 30 are needed"):
        next(iter(open_shards(shards, plan, batch=1)))


def test_a_loader_reports_its_length_only_when_it_has_one(shards: Path) -> None:
    assert len(Loader(ShardSet.open(shards).select(), OneClip(), batch=4, epochs=1, position=8)) == 6
    with pytest.raises(TypeError, match=r"this loader has no end; give it epochs="):
        len(Loader(ShardSet.open(shards).select(), OneClip(), batch=4))


def test_a_set_that_is_not_finished_is_refused(copy: Path) -> None:
    (copy / "dataset.json").unlink()
    with pytest.raises(UsageError) as error:
        walk(copy)
    assert str(error.value) == (
        f"the set in {copy} is not finished; run vprep shard again with the same options to finish it"
    )


def patched(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


@pytest.mark.parametrize("number", [0, 1])
def test_a_frame_that_claims_billions_of_pixels_is_refused_and_not_decoded(number: int, copy: Path) -> None:
    """With the right check of the frame, as a stranger would make it."""
    path, row = copy / "000.tar", index(copy)[0]
    data = bytearray(path.read_bytes())
    begin, end = (int(row["offset"]) + int(row["frame_offsets"][number + more]) for more in (0, 1))  # type: ignore[call-overload, index]
    at = data.index(b"\xff\xc0", begin)
    data[at + 5 : at + 9] = (65_000).to_bytes(2, "big") * 2
    before, now = str(row["frame_checks"]).encode(), check_of(bytes(data[begin:end])).encode()
    found = data.index(before) + 8 * number
    data[found : found + 8] = now
    path.write_bytes(data)
    with pytest.raises(WorkError) as error:
        walk(path)
    assert str(error.value).startswith(
        f"{path}, video '{row['key']}': frame {number} does not decode to the size in the index; "
    )


@pytest.mark.parametrize(
    "text", [b'"frame_offsets":' + b"[" * 1900, b'"frame_offsets":["a",1],"frame_checks":"x"}', b'"frame_offsets":5}']
)
def test_a_json_in_a_shard_that_was_made_to_mislead_is_a_bad_video(text: bytes, copy: Path) -> None:
    path, row = copy / "000.tar", index(copy)[0]
    data = path.read_bytes()
    at = data.index(b'"frame_offsets":')
    patched(path, at, text[: int(str(row["offset"])) - 512 - at])
    with pytest.raises(WorkError) as error:
        walk(path)
    assert str(error.value).startswith(f"{path}, video '{row['key']}': its json differs from what was written; ")


def test_a_shard_that_was_replaced_after_the_set_was_opened_is_named(copy: Path) -> None:
    loader = open_shards(copy, ALL_FRAMES, batch=5, epochs=1)
    path = copy / "002.tar"
    data = path.read_bytes()
    (copy / "new").write_bytes(data + bytes(512))
    (copy / "new").rename(path)
    with pytest.raises(WorkError) as error:
        list(loader)
    assert str(error.value) == (
        f"{path} is not the file that the set was finished with: it has {len(data) + 512} bytes, and {len(data)} in "
        f"dataset.json; find what is damaged with: vprep verify {copy}"
    )
