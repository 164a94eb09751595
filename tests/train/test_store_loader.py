"""Batches of shards in an object store are those of the same shards on a disk, through faults of the store."""

import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from own_disk import on_a_disk
from split_sets import with_splits
from store_server import Bucket

from vprep.errors import UsageError, WorkError
from vprep.format import check_of, write_dataset
from vprep.hashing import hash_file
from vtrain.data import Batch, OneClip, ShardSet, open_shards
from vtrain.data.augment import AugmentConfig
from vtrain.data.cache.place import CachePlace
from vtrain.data.cache.room import demand_room, largest_block
from vtrain.data.loader import Loader, Options
from vtrain.data.order import Order, block_of_shards, epoch_order

PLAN = OneClip(frames=4, looks=(AugmentConfig(size=16),))
GB = 10**9


@pytest.fixture
def place(tmp_path: Path) -> CachePlace:
    return CachePlace(tmp_path / "cache", GB)


@pytest.fixture
def stored(s3_here: Bucket, shards: Path) -> Bucket:
    """The set of 30 videos in 6 shards, as s3://BUCKET/set."""
    s3_here.put_folder("set", shards)
    s3_here.seen()
    return s3_here


def batches(
    spec: str | Path, count: int = 8, place: CachePlace | None = None, **options: Unpack[Options]
) -> list[Batch]:
    return list(islice(open_shards(spec, PLAN, batch=6, cache=place, **options), count))


def assert_same(found: list[Batch], wanted: list[Batch]) -> None:
    assert len(found) == len(wanted) > 0
    for one, other in zip(found, wanted, strict=True):
        assert one.keys == other.keys
        assert torch.equal(one.clips, other.clips)
        assert torch.equal(one.label, other.label)
        assert one.bad == other.bad


def shards_in(place: CachePlace) -> list[Path]:
    return sorted((place.path / "shards").glob("*"))


def wait_for(true: Callable[[], bool]) -> None:
    for _ in range(600):
        if true():
            return
        time.sleep(0.05)
    raise AssertionError("it did not come about in 30 seconds")


def gets(seen: list[str]) -> Counter[str]:
    """Count the requests for each object."""
    return Counter(line.split()[1].rpartition("/")[2] for line in seen if line.startswith("GET") and "?" not in line)


def altered(data: bytes, begin: int) -> bytes:
    """Return `data` with other bytes from `begin` on, of which none is as it was."""
    return data[:begin] + bytes(byte ^ 0x55 for byte in data[begin:])


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_from_a_store_are_those_from_a_disk(
    stored: Bucket, shards: Path, place: CachePlace, workers: int
) -> None:
    cold = batches(stored.url("set"), place=place, workers=workers, seed=3)
    assert_same(cold, batches(shards, seed=3))
    wait_for(lambda: len(shards_in(place)) == 6 and not any("draft" in path.name for path in shards_in(place)))
    stored.seen()
    assert_same(batches(stored.url("set"), place=place, workers=workers, seed=3), cold)
    assert not gets(stored.seen()), "nothing is fetched again"


def test_a_resumed_reader_goes_on_with_the_same_batches(stored: Bucket, shards: Path, place: CachePlace) -> None:
    assert_same(batches(stored.url("set"), place=place, position=18), batches(shards, count=11)[3:])


def test_each_of_two_ranks_reads_its_part(stored: Bucket, shards: Path, place: CachePlace) -> None:
    for rank in range(2):
        ranked = {"rank": rank, "world": 2, "workers": 1}
        assert_same(batches(stored.url("set"), place=place, **ranked), batches(shards, rank=rank, world=2))


def test_shards_of_a_store_are_named_as_those_of_a_folder(stored: Bucket, shards: Path, place: CachePlace) -> None:
    for names in ("<001..003>.tar", "00[24].tar", "005.tar"):
        remote = ShardSet.open(stored.url(f"set/{names}"), place)
        local = ShardSet.open(str(shards / names))
        assert remote.select().keys.equals(local.select().keys)
        assert (remote.name, remote.fingerprint) == (local.name, local.fingerprint)
        assert remote.select().fingerprint == local.select().fingerprint
    both = ShardSet.open(f"{stored.url('set/000.tar')},{stored.url('set/004.tar')}", place)
    assert len(both.select()) == 10
    with pytest.raises(UsageError, match=r"no shard of the set in s3://bucket-\d+/set matches '9.tar'; it has 6"):
        ShardSet.open(stored.url("set/9.tar"), place)


def test_a_second_start_fetches_nothing_that_is_unchanged(stored: Bucket, place: CachePlace) -> None:
    ShardSet.open(stored.url("set"), place).select()
    assert gets(stored.seen()) == {"dataset.json": 1, "index.parquet": 1}
    ShardSet.open(stored.url("set"), place).select()
    assert not gets(stored.seen())


def test_a_set_that_was_made_again_is_fetched_again(
    stored: Bucket, shards: Path, place: CachePlace, tmp_path: Path
) -> None:
    before = ShardSet.open(stored.url("set"), place)
    other = with_splits(shards, tmp_path / "other", lambda row: "train")
    for name in ("index.parquet", "dataset.json"):
        stored.put(f"set/{name}", (other / name).read_bytes())
    after = ShardSet.open(stored.url("set"), place)
    assert after.fingerprint == ShardSet.open(other).fingerprint != before.fingerprint
    assert after.split_counts(1) == {"train": 30}
    assert before.split_counts(1) == ShardSet.open(shards).split_counts(1), "an open set stays as it was"


def test_a_damaged_copy_of_a_description_is_fetched_again(stored: Bucket, place: CachePlace) -> None:
    ShardSet.open(stored.url("set"), place)
    for path in (place.path / "sets").glob("*/*"):
        path.write_bytes(path.read_bytes()[:100])
    assert len(ShardSet.open(stored.url("set"), place).select()) == 30


def test_sets_with_equal_names_never_mix(
    stored: Bucket, shards: Path, place: CachePlace, tmp_path: Path, run_vprep: Callable[..., Any], synth_videos: Path
) -> None:
    other = tmp_path / "other"
    done = run_vprep("shard", synth_videos, "--out", other, "--shards", 6, "--size", "32x40")
    assert done.returncode == 0, done.stderr
    stored.put_folder("b/set", other)
    assert [path.name for path in sorted(other.glob("*.tar"))] == [path.name for path in sorted(shards.glob("*.tar"))]
    for _ in range(2):
        assert_same(batches(stored.url("set"), place=place), batches(shards))
        assert_same(batches(stored.url("b/set"), place=place), batches(other))
    wait_for(lambda: sum(path.suffix == ".tar" for path in shards_in(place)) == 12)


def test_a_small_part_of_each_shard_is_read_in_ranges(
    stored: Bucket, shards: Path, place: CachePlace, tmp_path: Path
) -> None:
    rows = pq.read_table(shards / "index.parquet")
    first = {name: row for row, name in reversed(list(enumerate(rows["shard"].to_pylist())))}
    few = with_splits(shards, tmp_path / "few", lambda row: "test" if row in first.values() else "train")
    stored.put_folder("few", few)
    stored.seen()
    once = {"split": "test", "epochs": 1, "shuffled": False}
    assert_same(batches(stored.url("few"), place=place, **once), batches(few, **once))
    ranges = [line for line in stored.seen() if line.startswith("GET") and ".tar" in line]
    assert len(ranges) == 6, "one request for each video"
    asked = sum(int(end) - int(begin) + 1 for begin, end in (line.rpartition("=")[2].split("-") for line in ranges))
    assert asked < 0.4 * sum(path.stat().st_size for path in few.glob("*.tar"))
    assert shards_in(place) == []


def test_a_reader_that_comes_once_fetches_shards_that_it_uses_completely(
    stored: Bucket, shards: Path, place: CachePlace
) -> None:
    once = {"epochs": 1, "shuffled": False}
    assert_same(batches(stored.url("set"), place=place, **once), batches(shards, **once))
    assert len(shards_in(place)) > 0


@pytest.mark.parametrize("kind", ["refuse", "cut"])
def test_a_store_that_is_busy_or_cuts_connections_changes_no_batch(
    stored: Bucket, shards: Path, place: CachePlace, kind: str
) -> None:
    stored.fault(kind, "GET .*", times=8)
    assert_same(batches(stored.url("set"), place=place, workers=1), batches(shards))


def test_a_shard_that_was_replaced_is_one_sentence(stored: Bucket, shards: Path, place: CachePlace) -> None:
    opened = ShardSet.open(stored.url("set"), place)  # before the set changes
    data = (shards / "003.tar").read_bytes()
    stored.put("set/003.tar", (shards / "002.tar").read_bytes()[: len(data)].ljust(len(data), b"\0"))
    with pytest.raises(WorkError) as error:
        batches_of(opened, workers=0)
    assert str(error.value).startswith(f"{stored.url('set/003.tar')} ")
    assert not [path for path in shards_in(place) if path.name.startswith(hash_file(shards / "003.tar"))]
    stored.put("set/003.tar", data)
    assert_same(batches(stored.url("set"), place=place), batches(shards))


def test_a_video_that_was_replaced_is_one_sentence_though_its_frames_are_intact(
    stored: Bucket, shards: Path, place: CachePlace
) -> None:
    """Another video in the same place, with the checks of its own frames beside it."""
    row = pq.read_table(shards / "index.parquet").to_pylist()[0]
    data = bytearray((shards / row["shard"]).read_bytes())
    begin, end = (row["offset"] + row["frame_offsets"][number] for number in (0, 1))
    data[end - 9] ^= 1
    checks = row["frame_checks"].encode()
    at = data.find(checks)
    data[at : at + 8] = check_of(bytes(data[begin:end])).encode()
    stored.put(f"set/{row['shard']}", bytes(data))
    videos = ShardSet.open(stored.url("set"), place).select().take(np.array([0]))
    plan = OneClip(frames=20, looks=PLAN.looks)
    with pytest.raises(WorkError, match=r"/000.tar is not the shard that its dataset.json describes: the frames of a "):
        list(Loader(videos, plan, batch=1, epochs=1, shuffled=False))


def batches_of(opened: ShardSet, **options: Unpack[Options]) -> list[Batch]:
    return list(islice(Loader(opened.select(), PLAN, batch=6, **options), 8))


def test_a_shard_that_is_gone_is_one_sentence(stored: Bucket, place: CachePlace) -> None:
    opened = ShardSet.open(stored.url("set"), place)
    stored.delete("set/003.tar")
    with pytest.raises(WorkError, match=r"^s3://bucket-\d+/set/003.tar does not exist$"):
        batches_of(opened, workers=1)
    with pytest.raises(UsageError, match=r"^s3://bucket-\d+/set/003.tar is missing; copy it there again$"):
        ShardSet.open(stored.url("set"), place)


def test_a_video_that_was_damaged_before_is_skipped_as_on_a_disk(
    s3_here: Bucket, shards: Path, place: CachePlace, tmp_path: Path
) -> None:
    damaged = Path(shutil.copytree(shards, tmp_path / "damaged"))
    row = pq.read_table(damaged / "index.parquet").to_pylist()[7]
    path = damaged / row["shard"]
    data = bytearray(path.read_bytes())
    begin = row["offset"]
    data[begin : begin + row["size"]] = altered(bytes(data[begin : begin + row["size"]]), 0)
    path.write_bytes(data)
    with_hashes(damaged)
    s3_here.put_folder("set", damaged)
    options = {"on_error": "skip", "budget": 0.1}
    remote, local = (batches(spec, place=place, **options) for spec in (s3_here.url("set"), damaged))
    wanted = [[(bad.key, bad.what, bad.instead) for bad in batch.bad] for batch in local]
    assert [[(bad.key, bad.what, bad.instead) for bad in batch.bad] for batch in remote] == wanted
    assert sum(map(len, wanted)) > 0
    assert all(torch.equal(one.clips, other.clips) for one, other in zip(remote, local, strict=True))


def with_hashes(folder: Path) -> None:
    """Write the hashes of the shards as they are into dataset.json."""
    info = json.loads((folder / "dataset.json").read_text())
    for shard in info["shards"]:
        shard["hash"] = hash_file(folder / shard["name"])
    (folder / "dataset.json").write_bytes(write_dataset(info))


def test_a_hash_that_is_a_path_is_refused(s3_here: Bucket, shards: Path, place: CachePlace, tmp_path: Path) -> None:
    """The hash of a shard is its name in the cache, and dataset.json may come from a stranger."""
    hostile = Path(shutil.copytree(shards, tmp_path / "hostile"))
    info = json.loads((hostile / "dataset.json").read_text())
    info["shards"][0]["hash"] = "../../outside"
    (hostile / "dataset.json").write_bytes(write_dataset(info))
    s3_here.put_folder("set", hostile)
    with pytest.raises(UsageError, match=r"^s3://bucket-\d+/set/dataset.json has no usable hash of 000.tar; copy it"):
        batches(s3_here.url("set"), place=place)


def test_a_disk_that_fills_up_under_a_reader_is_one_sentence(stored: Bucket, place: CachePlace) -> None:
    def read(mount: Callable[[str], None]) -> str:
        try:
            batches(stored.url("set"), 10_000, place)
        except WorkError as error:
            return str(error)
        return "it was not noticed"

    assert re.fullmatch(
        rf"the disk of the cache {re.escape(str(place.path))} is full: \d+\.\d kB more are needed for the shards "
        "that are read now; free some space, or name a folder on another disk: --cache DIR",
        on_a_disk(place.path, 400 << 10, read),
    )


def test_a_copy_in_the_cache_that_rots_is_fetched_again(stored: Bucket, shards: Path, place: CachePlace) -> None:
    wanted = batches(stored.url("set"), place=place)
    wait_for(lambda: len(shards_in(place)) == 6 and not any("draft" in path.name for path in shards_in(place)))
    for path in shards_in(place):
        path.write_bytes(altered(path.read_bytes(), 512))
    assert_same(batches(stored.url("set"), place=place), wanted)


def test_a_cache_that_is_too_small_is_refused_with_the_number_that_would_do(
    stored: Bucket, place: CachePlace, shards: Path
) -> None:
    small = CachePlace(place.path, 300_000)
    videos = ShardSet.open(stored.url("set"), small).select()
    bytes_ = sum(path.stat().st_size for path in shards.glob("*.tar"))
    assert largest_block(videos, 0) == bytes_
    with pytest.raises(UsageError) as error:
        demand_room(videos, 0)
    assert str(error.value) == (
        f"a training mixes the videos of 602.6 kB of these shards at once, and the cache {place.path} can hold 300.0 "
        "kB; this would do: --cache-gb 0.01"
    )
    demand_room(ShardSet.open(stored.url("set"), place).select(), 0)
    demand_room(ShardSet.open(shards).select(), 0)
    assert_same(batches(stored.url("set"), place=small), batches(shards)), "a program may go on, video by video"
    assert sum(path.stat().st_size for path in shards_in(small)) <= 300_000


def test_two_readers_share_one_small_cache(stored: Bucket, shards: Path, place: CachePlace) -> None:
    """Neither waits for the other, whatever the other needs, and the limit holds all the time."""
    small = CachePlace(place.path, 350_000)
    wanted = [batches(shards, count=20, seed=seed) for seed in range(2)]
    context = multiprocessing.get_context("fork")

    def read(seed: int) -> None:
        assert_same(batches(stored.url("set"), count=20, place=small, seed=seed), wanted[seed])

    processes = [context.Process(target=read, args=(seed,)) for seed in range(2)]
    for process in processes:
        process.start()
    most = 0
    while any(process.is_alive() for process in processes):
        most = max(most, sum(size_of(path) for path in shards_in(small)))
        time.sleep(0.01)
    assert [process.exitcode for process in processes] == [0, 0]
    assert 0 < most <= 350_000


def size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def test_a_reader_that_is_killed_at_any_moment_costs_nothing(stored: Bucket, shards: Path, place: CachePlace) -> None:
    wanted = batches(shards)
    context = multiprocessing.get_context("fork")
    chance = random.Random(0)
    for _ in range(6):
        process = context.Process(target=lambda: batches(stored.url("set"), place=place, workers=0))
        process.start()
        time.sleep(chance.uniform(0, 0.3))
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert all(
            path.name.startswith(hash_file(path)) for path in shards_in(place) if not path.name.endswith(".draft")
        )
    assert_same(batches(stored.url("set"), place=place, workers=1), wanted)


def test_the_blocks_of_an_order_are_known_before_they_are_read() -> None:
    shards = np.repeat(np.arange(40), 5000).astype(np.int32)  # 200,000 videos: three blocks
    order = Order(shards, seed=1)
    position = 0
    for epoch in range(2):
        blocks = block_of_shards(np.bincount(shards), 1, epoch)
        rows = epoch_order(shards, 1, epoch)
        for number in range(3):
            block, found = order.block(position)
            assert set(found.tolist()) == set(np.flatnonzero(blocks == number).tolist())
            inside = slice(block.start - epoch * 200_000, block.stop - epoch * 200_000)
            assert np.array_equal(found, shards[rows[inside]])
            position = block.stop
        assert position == (epoch + 1) * 200_000
    middle, found = order.block(position + 100)
    assert len(found) == len(middle) == order.block(position)[0].stop - position - 100
    plain = Order(np.array([0, 0, 1, 1, 1, 0], np.int32), shuffled=False)
    assert plain.block(3)[0] == range(3, 5)
    assert plain.block(3)[1].tolist() == [1, 1]
