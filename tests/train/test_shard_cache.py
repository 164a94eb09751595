"""The files of the cache of remote shards: complete or absent, kept while a living reader needs them."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from own_disk import on_a_disk, without_locks

from vprep.errors import UsageError, WorkError
from vprep.hashing import hash_of
from vtrain.data.cache.leases import Needs
from vtrain.data.cache.place import CachePlace, choose_folder, choose_gb, chosen
from vtrain.data.cache.shard_cache import Draft, ShardCache, Wanted, usable

SIZE = 1000
DATA = memoryview(bytes(range(250)) * 4)


def cache_in(folder: Path, shards: float) -> ShardCache:
    """Return a cache with room for so many shards."""
    return ShardCache(CachePlace(folder, int(shards * SIZE)))


def file_of(name: str) -> str:
    """Return the name of a shard's file: 32 digits for its hash, and its size."""
    return f"{name.encode().hex():0>32}-{SIZE}.tar"


def wanted(name: str, *, soon: bool = False) -> Wanted:
    return Wanted(file_of(name), SIZE, soon)


def fetch(cache: ShardCache, *names: str) -> None:
    for name in names:
        draft = cache.reserve([wanted(name)]).draft
        assert draft is not None, f"no room for {name}"
        draft.write(0, DATA)
        draft.finish()
        time.sleep(0.01)  # so that the times of use differ


def there(cache: ShardCache) -> str:
    names = [path.name.partition("-")[0].lstrip("0") for path in cache.path("x").parent.glob("*.tar")]
    return "".join(sorted(bytes.fromhex(name).decode() for name in names))


def needs(now: str, soon: str = "") -> Needs:
    return Needs({file_of(name): SIZE for name in now}, {file_of(name): SIZE for name in soon})


@contextmanager
def another_process(act: Callable[[], object]) -> Iterator[int]:
    """Run `act` in a process that then waits to be killed."""
    ready = multiprocessing.get_context("fork").Event()

    def run() -> None:
        kept = act()
        ready.set()
        signal.pause()
        del kept

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    assert process.pid is not None
    assert ready.wait(30)
    try:
        yield process.pid
    finally:
        process.kill()
        process.join()


def killed(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)


def test_the_least_recently_used_shard_goes_first(tmp_path: Path) -> None:
    cache = cache_in(tmp_path, 3)
    fetch(cache, "a", "b", "c")
    file = cache.open(file_of("a"), SIZE)
    assert file is not None
    os.close(file)
    fetch(cache, "d")
    assert there(cache) == "acd"


def test_what_a_slower_reader_needs_is_never_removed(tmp_path: Path) -> None:
    cache = cache_in(tmp_path, 2)
    with another_process(lambda: cache.lease(needs("a"))) as slow:
        fetch(cache, "a", "b", "c")
        assert there(cache) == "ac"
        lease = cache.lease(needs("cd"))
        answer = cache.reserve([wanted("d")])
        assert (answer.draft, answer.full) == (None, True)
        assert there(cache) == "ac"
        killed(slow)
        fetch(cache, "d")
        assert there(cache) == "cd", "what the dead needed is not kept"
        lease.close()


def test_what_is_needed_counts_before_it_is_fetched(tmp_path: Path) -> None:
    cache = cache_in(tmp_path, 2)
    with another_process(lambda: cache.lease(needs("ab"))):
        fetch(cache, "a")
        assert cache.reserve([wanted("c", soon=True)]).full, "the room of b is taken, though b is not here yet"
        fetch(cache, "b")
        assert there(cache) == "ab"


def test_what_is_needed_soon_is_kept_as_well(tmp_path: Path) -> None:
    cache = cache_in(tmp_path, 2)
    fetch(cache, "a", "b")
    lease = cache.lease(needs("a", soon="b"))
    assert cache.reserve([wanted("c")]).full
    lease = cache.lease(needs("b"), lease)
    fetch(cache, "c")
    assert there(cache) == "bc"
    lease.close()


def test_nothing_is_removed_for_a_shard_that_cannot_have_room(tmp_path: Path) -> None:
    cache = cache_in(tmp_path, 2)
    fetch(cache, "a", "b")
    assert cache.reserve([Wanted(file_of("large"), 3 * SIZE, soon=False)]).full
    assert there(cache) == "ab"


def test_a_shard_is_fetched_by_one_of_many_and_for_all(tmp_path: Path) -> None:
    cache = cache_in(tmp_path, 9)

    def fetch_a() -> Draft | None:
        return ShardCache(CachePlace(tmp_path, 9 * SIZE)).reserve([wanted("a")]).draft

    with another_process(fetch_a) as other:
        answer = cache.reserve([wanted("a"), wanted("b")])
        assert answer.draft is not None
        assert answer.draft.name == file_of("b"), "a is being fetched, so b is next"
        answer.draft.discard()
        assert cache.reserve([wanted("a")]).draft is None
        killed(other)
        fetch(cache, "a")
    assert there(cache) == "a"
    assert cache.reserve([wanted("a"), wanted("b")]).there == {file_of("a")}


def test_a_fetch_that_is_killed_leaves_nothing_that_anyone_waits_for(tmp_path: Path) -> None:
    cache = cache_in(tmp_path, 1)

    def half() -> Draft | None:
        draft = cache.reserve([wanted("a")]).draft
        assert draft is not None
        draft.write(0, DATA[:500])
        return draft

    with another_process(half) as other:
        assert cache.open(file_of("a"), SIZE) is None, "half a shard has no name"
        killed(other)
    fetch(cache, "b")
    assert {path.name for path in tmp_path.glob("shards/*")} == {file_of("b")}, "its draft is gone, and so is its room"


def test_a_lock_ends_with_its_process_at_any_moment(tmp_path: Path) -> None:
    """A process that takes, counts and removes all the time is killed; the next one goes on at once."""
    cache = cache_in(tmp_path, 2)

    def busy() -> None:
        def work() -> None:
            for number in range(10**9):
                draft = cache.reserve([wanted(str(number % 5))]).draft
                if draft is not None:
                    draft.write(0, DATA)
                    draft.finish()

        threading.Thread(target=work, daemon=True).start()

    for number in range(8):
        with another_process(busy) as other:
            time.sleep(0.02 + 0.01 * number)
            killed(other)
            lease = cache.lease(needs("z"))
            fetch(cache, "z")
            lease.close()
        files = list(tmp_path.glob("shards/*"))
        assert len(files) <= 2
        assert all(path.stat().st_size == SIZE for path in files)
        assert all(path.read_bytes() == DATA for path in files if path.suffix == ".tar")
        assert list(tmp_path.glob("leases/*")) == []
        cache.path(file_of("z")).unlink()


def test_fetching_again_never_removes_a_complete_shard(tmp_path: Path) -> None:
    cache = cache_in(tmp_path, 2)
    fetch(cache, "a")
    assert not cache.drop_if_damaged(file_of("a"), hash_of(DATA))
    assert cache.reserve([wanted("a")]).draft is None
    assert there(cache) == "a"


def test_a_copy_that_was_cut_or_damaged_is_removed(tmp_path: Path) -> None:
    cache = cache_in(tmp_path, 2)
    fetch(cache, "a", "b")
    os.truncate(cache.path(file_of("a")), 10)
    assert cache.open(file_of("a"), SIZE) is None
    cache.path(file_of("b")).write_bytes(bytes(SIZE))
    assert cache.drop_if_damaged(file_of("b"), hash_of(DATA))
    assert there(cache) == ""


def test_a_full_disk_costs_unneeded_shards_and_is_then_one_sentence(tmp_path: Path) -> None:
    size = 256 << 10  # of a shard

    def fill(mount: Callable[[str], None]) -> dict[str, object]:
        folder = tmp_path / "disk"
        cache = ShardCache(CachePlace(folder, 10**9))
        data = memoryview(bytes(size))
        for name in "abc":
            draft = cache.reserve([Wanted(file_of(name), size, soon=False)]).draft
            assert draft is not None
            draft.write(0, data)
            draft.finish()
        unneeded = there(cache)
        cache.lease(Needs({file_of("c"): size, file_of("d"): size}, {}))
        with pytest.raises(WorkError) as full:
            cache.reserve([Wanted(file_of("e"), 4 * size, soon=False)])
        soon = cache.reserve([Wanted(file_of("f"), 4 * size, soon=True)])
        return {"before": unneeded, "after": there(cache), "said": str(full.value), "soon": soon.draft is None}

    found = on_a_disk(tmp_path / "disk", 4 * size, fill)
    assert found == {
        "before": "abc",
        "after": "c",
        "said": f"the disk of the cache {tmp_path}/disk is full: 262.1 kB more are needed for the shards that are read "
        "now; free some space, or name a folder on another disk: --cache DIR",
        "soon": True,
    }
    assert found["after"] == "c"


def test_a_folder_where_files_cannot_be_locked_is_refused(tmp_path: Path) -> None:
    def refused() -> None:
        without_locks()
        try:
            cache_in(tmp_path, 1)
        except UsageError as error:
            (tmp_path / "said").write_text(str(error))
        os._exit(0)

    process = multiprocessing.get_context("fork").Process(target=refused)
    process.start()
    process.join()
    assert (tmp_path / "said").read_text() == (
        f"files in {tmp_path} cannot be locked (no locks available), so processes cannot share a cache there; name a "
        "folder on a local disk: --cache DIR"
    )


def test_the_options_choose_the_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    choose_folder(None)
    choose_gb(None)
    assert chosen().path == tmp_path / "playspeed"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert chosen().path == tmp_path / "home" / ".cache" / "playspeed"
    choose_folder(tmp_path / "here")
    choose_gb(0.5)
    assert (chosen().path, chosen().limit) == (tmp_path / "here", 500_000_000)
    choose_gb(float("inf"))
    assert (chosen().limit or 0) >= 10**18
    choose_folder(None)
    choose_gb(None)


def test_what_others_keep_in_the_folder_is_neither_counted_nor_removed(tmp_path: Path) -> None:
    cache_in(tmp_path, 2)
    kept = [tmp_path / "shards" / "000.tar", tmp_path / "shards" / "photo.draft", tmp_path / "leases" / "contract"]
    for path in kept:
        path.write_bytes(bytes(5 * SIZE))
    (tmp_path / "leases" / "folder").mkdir()
    cache = cache_in(tmp_path, 2)
    with_lease = cache.lease(needs("c"))
    fetch(cache, "a", "b", "c")
    with_lease.close()
    assert [path.read_bytes() for path in kept] == [bytes(5 * SIZE)] * 3
    assert {path.name for path in tmp_path.glob("shards/*-*.tar")} == {file_of("b"), file_of("c")}


def test_an_error_of_the_disk_is_one_sentence(tmp_path: Path) -> None:
    place = CachePlace(tmp_path, 2 * SIZE)
    folder = ShardCache(place).path("x")
    folder.mkdir()
    said = r"cannot be used: .*: is a directory; mend that, or name another folder"
    with pytest.raises(WorkError, match=said), usable(place):
        folder.read_bytes()
