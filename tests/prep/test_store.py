"""Objects of a store on loopback: read, written, and waited for while the store is away."""

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from store_server import SECRET, Bucket

from vprep.errors import UsageError, WorkError
from vprep.signals import GRACE
from vprep.store import AwayError, ChangedError, Location, MissingError, Store, place
from vprep.store.faults import fault
from vprep.store.retry import Patience
from vprep.text import without_secrets

DATA = bytes(range(256)) * 80_000  # three pieces


@pytest.fixture
def store(s3_here: Bucket) -> Store:
    return Store(Location.parse(s3_here.url("set")), Patience(seconds=20, most=0.5))


def impatient(store: Store) -> Store:
    return Store(store.location, Patience(seconds=0.3))


def test_a_place_is_a_path_or_a_location() -> None:
    assert place("a/b") == Path("a/b")
    assert place("s3://bucket//a b/") == Location("s3", "bucket", "a b")
    assert str(Location("s3", "bucket") / "a" / "b") == "s3://bucket/a/b"
    assert place("s3://bucket/me@work") == Location("s3", "bucket", "me@work")
    assert (Location("s3", "bucket", "a/b").name, str(Location("s3", "bucket", "a").parent)) == ("b", "s3://bucket")


@pytest.mark.parametrize(
    "url",
    [
        "s3://key:hidden@bucket/set",
        "s3://key:hid/hidden@bucket",
        "https://host/set?X-Amz-Signature=hidden",
        "ftp://me:hidden@host/x",
    ],
)
def test_a_url_with_a_secret_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(UsageError) as error:
        place(url)
    assert "hidden" not in str(error.value)
    assert "hidden" not in without_secrets(f"vprep shard '{url}' --out x")


@pytest.mark.parametrize("url", ["s3://", "s3:///set", "s3://bucket/../x", "s3://bucket/a\nb"])
def test_a_url_that_names_no_place_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match=r"names no place; it must be s3://bucket/folder"):
        place(url)


@pytest.mark.parametrize("text", ["s3:/bucket/set", "s3:bucket/set", "https:/host/set"])
def test_a_url_with_too_few_slashes_is_no_folder(text: str) -> None:
    scheme, _, rest = text.partition(":")
    with pytest.raises(UsageError, match=f"is no URL; write {scheme}://{rest.strip('/')}, or ./{text} for a folder"):
        place(text)
    assert place(f"./{text}") == Path(text)


@pytest.mark.parametrize("value", ["localhost:9000", "https://", "http://key:hidden@ host"])
def test_an_endpoint_that_is_no_url_is_named(store: Store, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", value)
    with pytest.raises(UsageError, match=r"AWS_ENDPOINT_URL is .*; it must begin with https:// or http://") as error:
        store.read("x")
    assert "hidden" not in str(error.value)


def test_a_setting_that_cannot_be_read_is_a_sentence(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ALLOW_HTTP", "maybe")
    with pytest.raises(UsageError, match=r"cannot be opened .*; correct the settings of the store in the environment"):
        store.read("x")


@pytest.mark.parametrize("command", ["stats {}/set", "shard {}/videos --out here", "shard {}/videos --out {}/set"])
def test_a_command_that_waits_for_a_silent_store_ends_at_once_when_it_is_stopped(command: str, s3: Bucket) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        env = os.environ | s3.env | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{silent.getsockname()[1]}"}
        argv = [sys.executable, "-m", "vprep", *command.format(s3.url(), s3.url()).split()]
        with subprocess.Popen(argv, env=env, stderr=subprocess.PIPE, text=True) as process, silent.accept()[0]:
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=GRACE)
    assert (process.returncode, len(errors.splitlines())) == (130, 1), errors


def test_videos_that_wait_for_a_store_that_is_away_do_not_delay_the_end(
    s3: Bucket, make_video: Callable[..., Path], tmp_path: Path
) -> None:
    for number in range(4):
        s3.put(f"videos/{number}.mp4", make_video(tmp_path / f"{number}.mp4").read_bytes())
    s3.fault("refuse", r"GET .*mp4", times=-1)
    argv = [sys.executable, "-m", "vprep", "shard", s3.url("videos"), "--out", str(tmp_path / "out"), "--workers", "2"]
    with subprocess.Popen(argv, env=os.environ | s3.env, stderr=subprocess.PIPE, text=True) as process:
        while not any("mp4" in request for request in s3.seen()):
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=GRACE)
    assert process.returncode == 130
    assert "run the same command again to continue" in errors.splitlines()[-1]


def test_an_object_is_read_as_it_was_written(store: Store, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(DATA)
    assert store.put("a/000.tar", tmp_path / "x", create=True)
    assert not store.put("a/000.tar", b"other", create=True)
    head = store.head("a/000.tar")
    assert head is not None
    assert (head.size, store.read("a/000.tar")) == (len(DATA), DATA)
    assert store.read_range("a/000.tar", 300, 310, head.etag) == DATA[300:310]
    assert store.download("a/000.tar", tmp_path / "y") == head
    assert (tmp_path / "y").read_bytes() == DATA
    store.delete("a/000.tar")
    assert store.head("a/000.tar") is None


def test_a_name_may_hold_what_a_url_may_not(s3_here: Bucket) -> None:
    odd = Store(Location.parse(s3_here.url("my videos 100%25")))
    for name in ("a b.mp4", "ü/%41.mp4", "c+d.mp4"):
        odd.put(name, name.encode())
        assert odd.read(name) == name.encode()
        assert s3_here.get(f"my videos 100%25/{name}") == name.encode()
    assert sorted(head.name for head in odd.list()) == ["a b.mp4", "c+d.mp4", "ü/%41.mp4"]


def test_a_listing_goes_on_where_it_broke(store: Store, s3_here: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vprep.store.store.PAGE", 3)
    names = [f"{number:02d}" for number in range(10)]
    for name in names:
        store.put(f"below/{name}", b"x")
    store.put("beside", b"")
    listing = store.list("below")
    first = next(listing)
    s3_here.fault("refuse", "list-type", times=5)
    assert [first.name, *(head.name for head in listing)] == [f"below/{name}" for name in names]


def test_more_than_a_store_takes_at_once_is_refused(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vprep.store.store.MOST_OBJECT", 3)
    assert store.put("x", b"abcd")
    with pytest.raises(WorkError, match="would have 4 bytes, and a store takes 3 at once; use more --shards"):
        store.put("y", b"abcd", create=True)
    assert store.head("y") is None


def test_what_tools_put_for_folders_is_no_object(store: Store, s3_here: Bucket) -> None:
    for name in ("set/", "set/a/", "set/a/x"):
        s3_here.put(name, b"")
    assert [head.name for head in store.list()] == ["a", "a/x"]
    s3_here.put("set//x", b"")
    with pytest.raises(
        UsageError, match=r"/set holds an object with an empty part, .* in its name \(set//x\); rename or"
    ):
        list(store.list())


@pytest.mark.parametrize("kind", ["refuse", "cut", "cut_request"])
def test_an_object_survives_a_store_that_is_busy_or_cuts_connections(store: Store, s3_here: Bucket, kind: str) -> None:
    s3_here.fault(kind, "set/x", times=5)
    store.put("x", DATA)
    assert s3_here.get("set/x") == DATA
    s3_here.fault(kind, "GET .*set/x", times=5)
    assert store.read("x") == DATA


def test_a_store_may_be_away_for_some_seconds(store: Store, s3_here: Bucket) -> None:
    store.put("x", DATA)
    pieces = store.stream("x")
    first = next(pieces)
    s3_here.away(2)
    assert first + b"".join(pieces) == DATA


def test_a_store_that_stays_away_is_one_sentence(store: Store, s3_here: Bucket) -> None:
    s3_here.fault("refuse", times=-1)
    with pytest.raises(AwayError, match=r"^the store of s3://bucket-\d+/set/x has been away for \d seconds; run the"):
        impatient(store).read("x")


def test_an_object_that_changes_while_it_is_read_is_noticed(store: Store, s3_here: Bucket) -> None:
    store.put("x", DATA)
    pieces = store.stream("x")
    next(pieces)
    s3_here.put("set/x", DATA[::-1])
    with pytest.raises(ChangedError, match="set/x changed while it was being read"):
        list(pieces)


def test_what_is_missing_is_named(store: Store) -> None:
    with pytest.raises(MissingError, match=r"s3://bucket-\d+/set/nope does not exist"):
        store.read("nope")
    with pytest.raises(UsageError, match=r"no bucket 'no-bucket' \(s3\); make it, or correct the URL s3://no-bucket"):
        list(Store(Location.parse("s3://no-bucket/x")).list())


def test_refused_keys_are_one_sentence_without_them(store: Store, s3_here: Bucket) -> None:
    s3_here.fault("forbid", times=-1)
    with pytest.raises(UsageError, match=r"refuses access to .*\(403\)") as error:
        store.read("x")
    assert SECRET not in str(error.value)


def test_a_clock_that_is_wrong_is_said() -> None:
    error = Exception("status code: 403 <Error><Code>RequestTimeTooSkewed</Code></Error>")
    assert str(fault(error, Location("s3", "bucket", "x"))).endswith("clock and this machine's differ: set the clock")


def test_a_store_is_read_in_forked_processes(store: Store) -> None:
    store.put("x", DATA)

    def check(depth: int) -> None:
        assert store.read("x") == DATA
        if depth:
            child = multiprocessing.get_context("fork").Process(target=check, args=(depth - 1,))
            child.start()
            child.join(60)
            assert child.exitcode == 0

    check(2)


def test_without_obstore_the_sentence_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "obstore.py").write_text("raise ModuleNotFoundError(name='obstore')")
    program = "from vprep.store import *; Store(place('s3://bucket/x')).read('y')"
    env = os.environ | {"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=env)
    assert "object stores need obstore; install with: pip install 'playspeed[s3]'" in done.stderr
