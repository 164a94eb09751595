"""Shards by tasks on a Ray cluster of two nodes: the bytes of one machine, whatever is killed meanwhile."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from clusters_page import blocks, machine_of, run
from store_server import Bucket, Server

from vprep import versions
from vprep.format import PLAN
from vprep.hashing import hash_file
from vprep.sharding.engines.ray_cluster import no_cluster
from vprep.sharding.engines.ray_task import Order, fault_of
from vprep.video.ffmpeg import bundled, find

MakeVideos = Callable[[Path, int], Path]
RunVprep = Callable[..., subprocess.CompletedProcess[str]]
Content = Callable[[Path], dict[str, bytes]]

SHARDS = 6
NONE = "8cd0a2b7"


@pytest.fixture(scope="module")
def source(make_videos: MakeVideos, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve videos, and one file that is none."""
    folder = make_videos(tmp_path_factory.mktemp("on ray") / "source", 12)
    (folder / "broken.mp4").write_text("no video")
    return folder


@pytest.fixture(scope="module")
def whole(source: Path, run_vprep: RunVprep, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The set that one machine makes."""
    out = tmp_path_factory.mktemp("whole") / "out"
    done = run_vprep(*words(source, out))
    assert done.returncode == 0, done.stderr
    return out


class Nodes:
    """A Ray cluster of two nodes with a processor each; `before` is shell that its ffmpeg runs for each video."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self._before = folder / "before"
        self.ffmpeg = folder / "ffmpeg"
        self.ffmpeg.write_text(
            f'#!/bin/sh\ncase "$1" in -version) ;; *) . "{self._before}";; esac\nexec "{bundled()}" "$@"\n'
        )
        self.ffmpeg.chmod(0o755)
        self._env = env | {"VPREP_FFMPEG": str(self.ffmpeg)}
        self.before("")
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        from ray.cluster_utils import Cluster

        first = {"include_dashboard": False, **self._size()}
        self._cluster = Cluster(initialize_head=True, head_node_args=first)
        self.address = self._cluster.address
        self.second = self.add()

    def _size(self) -> dict[str, Any]:
        return {"num_cpus": 1, "object_store_memory": 80 << 20, "env_vars": self._env}

    def add(self, **more: str) -> Any:  # noqa: ANN401  a node
        return self._cluster.add_node(**self._size() | {"env_vars": self._env | more})

    def remove(self, node: Any, *, kill: bool = False) -> None:  # noqa: ANN401
        self._cluster.remove_node(node, allow_graceful=not kill)

    def before(self, shell: str) -> None:
        self._before.write_text(shell)

    def logs(self) -> str:
        folder = Path(self._cluster.head_node.get_session_dir_path())
        return "\n".join(path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file())

    def close(self) -> None:
        self._cluster.shutdown()


@pytest.fixture(scope="module")
def all_nodes(s3_server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    pytest.importorskip("ray", reason="the extra `ray` is not installed: pip install 'playspeed[ray]'")
    nodes = Nodes(tmp_path_factory.mktemp("nodes"), Bucket(s3_server, "any").env)
    yield nodes
    nodes.close()


@pytest.fixture
def nodes(all_nodes: Nodes) -> Nodes:
    all_nodes.before("")
    return all_nodes


def words(source: Path, out: Path, *more: object) -> list[str]:
    fixed = ("shard", source, "--out", out, "--shards", SHARDS, "--max-failures", "10%")
    return [str(word) for word in (*fixed, *more)]


def on(nodes: Nodes, *more: object) -> list[object]:
    return ["--engine", "ray", "--ray-address", nodes.address, *more]


def start(argv: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-m", "vprep.cli", *argv], stdout=-1, stderr=-1, text=True)


def until(condition: Callable[[], object], seconds: float = 240) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def at_work() -> list[int]:
    """The processes that make a shard for Ray now."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if path.read_bytes().startswith(b"ray::make_shard"):
                found.append(int(path.parent.name))
    return found


def drafts(out: Path) -> list[Path]:
    return list((out / ".work").glob(".*.tar.*.draft"))


def without_progress(errors: str) -> list[str]:
    return [line for line in errors.splitlines() if not line.endswith(" left")]


def said(done: subprocess.CompletedProcess[str]) -> str:
    return done.stderr.splitlines()[-1]


@pytest.mark.slow
def test_two_nodes_make_the_same_bytes_and_say_the_same_although_workers_are_killed(
    source: Path, whole: Path, nodes: Nodes, run_vprep: RunVprep, content: Content, tmp_path: Path
) -> None:
    out, killed = tmp_path / "out", tmp_path / "killed"
    # The first video of each of two shards kills the worker that has started its ffmpeg, once.
    nodes.before(f'for v in v03 v08; do case "$*" in *$v*) mkdir "{killed}.$v" && kill -9 $PPID;; esac; done')
    done = run_vprep(*words(source, out, *on(nodes)))
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.glob("killed.*")) == ["killed.v03", "killed.v08"]
    assert content(out) == content(whole)
    local = run_vprep(*words(source, whole))
    assert done.stdout.replace(str(out), "OUT") == local.stdout.replace(str(whole), "OUT")
    assert done.stderr.splitlines()[0] == "13 videos, layout flat, 0 classes"
    assert said(done).startswith("13/13 videos, ")
    assert said(done).endswith(" videos/s, 1 failed, 0:00 left")


@pytest.mark.slow
def test_the_shards_of_a_node_that_is_killed_are_made_by_the_other(
    source: Path, whole: Path, nodes: Nodes, content: Content, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    nodes.before("sleep 0.5")
    with start(words(source, out, *on(nodes))) as process:
        until(lambda: len(drafts(out)) == 2)
        nodes.remove(nodes.second, kill=True)
        nodes.before("")
        _, errors = process.communicate(timeout=60)
    nodes.second = nodes.add()
    assert process.returncode == 0, errors
    assert content(out) == content(whole)


@pytest.mark.slow
def test_a_command_that_was_killed_continues_at_once(
    source: Path, whole: Path, nodes: Nodes, run_vprep: RunVprep, content: Content, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    nodes.before("sleep 0.5")
    with start(words(source, out, *on(nodes))) as process:
        until(lambda: list(out.glob("*.tar")) and drafts(out))
        process.kill()
    nodes.before("")
    done = run_vprep(*words(source, out, *on(nodes)))
    assert done.returncode == 0, done.stderr
    assert content(out) == content(whole)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_cancels_the_tasks_and_says_what_is_complete(
    number: signal.Signals, source: Path, nodes: Nodes, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    nodes.before("sleep 0.5")
    with start(words(source, out, *on(nodes))) as process:
        until(lambda: list(out.glob("*.tar")) and drafts(out))
        process.send_signal(number)
        _, errors = process.communicate(timeout=30)
    complete = len(list(out.glob("*.tar")))
    assert (process.returncode, without_progress(errors)[1:]) == (
        128 + number,
        [f"vprep: stopped; {complete} shards in {out} are complete: run the same command again to continue"],
    )
    until(lambda: not at_work())
    assert drafts(out) == []


@pytest.mark.slow
def test_a_shard_that_fails_for_ever_is_named_and_the_others_are_made(
    source: Path, whole: Path, nodes: Nodes, run_vprep: RunVprep, content: Content, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    nodes.before('case "$*" in *v05.mp4*) kill -9 $PPID;; esac')
    done = run_vprep(*words(source, out, *on(nodes)))
    assert done.returncode == 1
    assert said(done).startswith("vprep: 1 of 6 shards were not made, each tried 4 times: 00")
    assert said(done).endswith("; finished shards stay: run the same command again to continue")
    assert len(list(out.glob("*.tar"))) == SHARDS - 1
    nodes.before("")
    assert run_vprep(*words(source, out)).returncode == 0
    assert content(out) == content(whole)


@pytest.mark.slow
def test_a_source_that_disappears_ends_the_work_with_the_sentence_of_one_machine(
    source: Path, nodes: Nodes, run_vprep: RunVprep, tmp_path: Path
) -> None:
    away = source.with_name("away")
    nodes.before(f'case "$*" in *v05*) [ -d "{away}" ] || mv "{source}" "{away}";; esac')
    try:
        done = run_vprep(*words(source, tmp_path / "out", *on(nodes)))
    finally:
        away.rename(source)
    assert done.returncode == 1
    assert f": {source} is gone or empty" in said(done)
    assert len(without_progress(done.stderr)) == 2


@pytest.mark.slow
def test_without_an_address_a_cluster_of_this_machine_serves_the_one_command(
    source: Path, whole: Path, run_vprep: RunVprep, content: Content, tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="the extra `ray` is not installed: pip install 'playspeed[ray]'")
    out = tmp_path / "out"
    env = {"RAY_ADDRESS": "", "HOME": str(tmp_path / "home")}
    done = run_vprep(*words(source, out, "--engine", "ray", "--json"), env=env)
    assert (done.returncode, json.loads(done.stdout)["causes"]) == (0, {"not_a_video": 1}), done.stderr
    assert content(out) == content(whole)
    assert not (tmp_path / "home" / ".ray").exists()  # a token in it would be asked for by the user's own clusters


@pytest.mark.slow
def test_a_node_with_another_ffmpeg_is_named_before_any_work(
    source: Path, nodes: Nodes, run_vprep: RunVprep, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.write_text("#!/bin/sh\necho ffmpeg version 4.2\n")
    other.chmod(0o755)
    third = nodes.add(VPREP_FFMPEG=str(other))
    try:
        done = run_vprep(*words(source, tmp_path / "out", *on(nodes)))
    finally:
        nodes.remove(third)
    assert done.returncode == 2
    assert said(done).startswith(f"vprep: node {os.uname().nodename} (")
    assert said(done).endswith(
        f") of the cluster cannot take part: ffmpeg is 4.2 there and {find().version} here; name the same one in "
        "VPREP_FFMPEG"
    )
    assert not list((tmp_path / "out").glob("*.tar"))


@pytest.mark.slow
def test_the_commands_of_the_page_make_the_same_bytes_from_a_store_into_it_and_show_no_key(
    source: Path, whole: Path, nodes: Nodes, s3: Bucket, content: Content, tmp_path: Path
) -> None:
    s3.put_folder("videos", source)
    places = {"VIDEOS": s3.url("videos"), "SHARDS": s3.url("shards"), "HEAD": nodes.address}
    (script,) = blocks("Shards by Ray")
    wide = script.replace('"$SHARDS"', f'"$SHARDS" --max-failures 10% --shards {SHARDS}')
    run(wide, tmp_path, machine_of(tmp_path / "bin", ray="#!/bin/sh\n") | s3.env | places)
    made, wanted = s3.content("shards"), content(whole)
    assert set(made) == set(wanted)
    from_videos = [name for name in wanted if name.endswith(".tar") or name == "index.parquet"]
    assert [name for name in from_videos if made[name] != wanted[name]] == []
    assert s3.env["AWS_SECRET_ACCESS_KEY"] not in nodes.logs()


@pytest.mark.slow
def test_more_workers_than_a_node_has_processors_are_refused(
    source: Path, nodes: Nodes, run_vprep: RunVprep, tmp_path: Path
) -> None:
    done = run_vprep(*words(source, tmp_path / "out", *on(nodes, "--workers", 3)))
    assert (done.returncode, said(done)) == (
        2, "vprep: no node of the cluster has 3 processors for a task; ask for fewer --workers"
    )  # fmt: skip


@pytest.fixture
def order(source: Path, whole: Path) -> Order:
    """What the nodes of a cluster on this machine are told for the set `whole`."""
    video = source / "v00.mp4"
    return Order(
        out=str(whole), root=str(source), scratch="", workers=1, timeout=9.0, package=versions.installed("playspeed"),
        ffmpeg=find().version, plan=hash_file(whole / PLAN), video=video.name, video_bytes=video.stat().st_size,
    )  # fmt: skip


def test_a_node_that_does_not_see_the_folders_of_the_others_cannot_take_part(
    order: Order, source: Path, whole: Path
) -> None:
    assert fault_of(order) == ""
    own = "is not the folder that it is here; put it on a file system that all nodes share"
    assert fault_of(order | {"plan": NONE}) == f"{whole} {own}"
    assert fault_of(order | {"out": "/nowhere"}) == f"/nowhere {own}"
    assert fault_of(order | {"video_bytes": 1}) == f"{source} {own}"
    assert fault_of(order | {"root": "/nowhere"}) == "/nowhere is gone or empty there"
    assert fault_of(order | {"package": "0.0.9"}) == (
        f"playspeed is {order['package']} there and 0.0.9 here; install the same version"
    )


def test_a_node_whose_key_the_store_refuses_cannot_take_part(order: Order, whole: Path, s3_here: Bucket) -> None:
    s3_here.put_folder("out", whole)
    there = order | {"out": s3_here.url("out")}
    assert fault_of(there) == ""
    assert fault_of(there | {"plan": NONE}).startswith(f"{s3_here.url('out')} is not the same there; set the variables")
    s3_here.fault("forbid", times=-1)
    refused = fault_of(there)
    assert refused.startswith(f"the store refuses access to {s3_here.url('out')}/plan.parquet (403")
    assert not any(
        value in refused for value in (s3_here.env["AWS_SECRET_ACCESS_KEY"], s3_here.env["AWS_ACCESS_KEY_ID"])
    )


def test_without_ray_the_engine_is_refused_with_what_to_install(source: Path, tmp_path: Path) -> None:
    argv = words(source, tmp_path / "out", "--engine", "ray")
    program = f"import sys; sys.modules['ray'] = None\nfrom vprep import cli\ncli.main({argv})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, said(done)) == (
        2, "vprep: --engine ray needs Ray; install it with: pip install 'playspeed[ray]'"
    )  # fmt: skip


def test_nothing_but_its_engine_imports_ray(source: Path, tmp_path: Path) -> None:
    program = f"import sys, vprep.cli\ntry: vprep.cli.main({words(source, tmp_path / 'out')})\n"
    program += "except SystemExit: sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True).returncode == 0


@pytest.mark.parametrize("address", ["10.0.0.5", pytest.param("ray://127.0.0.1:10001", marks=pytest.mark.slow)])
def test_an_address_of_another_form_is_refused(address: str, source: Path, run_vprep: RunVprep, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra `ray` is not installed: pip install 'playspeed[ray]'")
    done = run_vprep(*words(source, tmp_path / "out", "--engine", "ray", "--ray-address", address))
    assert (done.returncode, said(done)) == (
        2,
        f"vprep: --ray-address is '{address}'; it must be HOST:PORT of the cluster's head, as in 10.0.0.5:6379, or "
        "auto for the cluster that this machine belongs to",
    )


def test_a_cluster_with_a_token_says_how_to_bring_it() -> None:
    said = no_cluster("head:6379", "RPC error: InvalidAuthToken: Authentication token is missing or incorrect\nNote")
    assert "head:6379 asks for its token; set RAY_AUTH_MODE=token" in said
    assert "no Ray cluster answers at head:6379 (refused)" in no_cluster("head:6379", "refused\nx")


def test_an_address_where_nobody_answers_is_refused(source: Path, run_vprep: RunVprep, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="the extra `ray` is not installed: pip install 'playspeed[ray]'")
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    done = run_vprep(*words(source, tmp_path / "out", "--engine", "ray"), env={"RAY_ADDRESS": address})
    assert (done.returncode, said(done)) == (
        2,
        f"vprep: no Ray cluster answers at {address} ([Errno 111] Connection refused); name HOST:PORT of its head in "
        "--ray-address",
    )


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", pytest.param(b"", marks=pytest.mark.slow)])
def test_an_address_where_something_else_answers_is_refused(
    answer: bytes, source: Path, run_vprep: RunVprep, tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="the extra `ray` is not installed: pip install 'playspeed[ray]'")
    with socket.create_server(("127.0.0.1", 0)) as other:
        threading.Thread(target=_answer, args=(other, answer), daemon=True).start()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        done = run_vprep(*words(source, tmp_path / "out", "--engine", "ray", "--ray-address", address))
    assert (done.returncode, said(done)) == (
        2,
        f"vprep: no Ray cluster answers at {address} (what answers there is not Ray); name HOST:PORT of its head in "
        "--ray-address",
    )


def _answer(server: socket.socket, answer: bytes) -> None:
    connection, _ = server.accept()
    with connection:
        connection.recv(1 << 10)
        connection.sendall(answer)
