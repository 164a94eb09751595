"""A rank that is killed, hangs, fails or never comes: the others end in bounded time with one sentence and code 1."""

import os
import shutil
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from rank_processes import Ranks, ranks
from small_recipes import damaged, lines, saved, until

from vtrain import cli

pytestmark = pytest.mark.slow

HOST = socket.gethostname()
SMALL = ("frames=4", "size=16", "batch=8", "workers=0", "log_every=1", "save_every=1", "schedule.lr=0.001")
LONG = (*SMALL, "steps=100000")
SOON = {"VTRAIN_LOST_AFTER": "4"}
AGAIN = (
    "what was saved stays: run all processes again, a training that has saved with --resume, a fine-tuning of veval "
    "with --into"
)


@contextmanager
def training(
    count: int, shards: Path, folder: Path, *words: str, method: str = "pace", env: dict[str, str] | None = None
) -> Iterator[Ranks]:
    begun = (method, "--recipe", "tiny", "--shards", shards, "--out", folder / "run", *words)
    with ranks(cli.main, count, *begun, cwd=folder, printed=folder / "printed", env=env) as found:
        yield found


def test_when_one_of_four_is_killed_two_go_on_from_the_last_checkpoint(shards: Path, tmp_path: Path) -> None:
    with training(4, shards, tmp_path, *LONG, env={"VTRAIN_LOST_AFTER": "20"}) as found:
        until((tmp_path / "run" / "last.pt").exists)
        found.send(signal.SIGKILL, 2)
        assert found.codes(0, 1, 3) == [1, 1, 1]
        for rank in (0, 1, 3):
            (said,) = found.said(rank)
            assert said.startswith("vtrain: another process is gone or cannot be reached (")
            assert said.endswith(AGAIN)
    step = saved(tmp_path / "run")["step"]
    words = ("pace", "--resume", tmp_path / "run", f"steps={step + 3}")
    with ranks(cli.main, 2, *words, cwd=tmp_path, printed=tmp_path / "again") as found:
        assert found.codes() == [0, 0], found.said(0)
    assert [line["step"] for line in lines(tmp_path / "run")] == list(range(1, step + 4))


def test_a_rank_whose_connections_are_cut_ends_and_so_do_the_others(shards: Path, tmp_path: Path) -> None:
    words = ("pace", "--recipe", "tiny", "--shards", shards, "--out", "run", *LONG, "batch=6")
    with ranks(cuttable, 3, *words, cwd=tmp_path, printed=tmp_path / "printed", env=SOON) as found:
        until((tmp_path / "run" / "last.pt").exists)
        found.send(signal.SIGUSR1, 1)
        assert found.codes(seconds=30) == [1, 1, 1]
        for rank in range(3):
            (said,) = found.said(rank)
            assert said.endswith(AGAIN)


def cuttable(words: list[str]) -> None:
    """`vtrain`, whose connections SIGUSR1 ends."""

    def cut(*_: object) -> None:
        for name in os.listdir("/proc/self/fd"):
            with suppress(OSError), socket.socket(fileno=os.dup(int(name))) as connection:
                if not connection.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    connection.shutdown(socket.SHUT_RDWR)

    signal.signal(signal.SIGUSR1, cut)
    cli.main(words)


def test_four_ranks_train_as_one_process_does(shards: Path, tmp_path: Path) -> None:
    """Losses to within 1e-4 of their size: sums over parts of a batch are rounded otherwise."""
    words = ("batch_norm=sync", "dropout=0", "steps=3")
    for count in (1, 4):
        folder = tmp_path / str(count)
        folder.mkdir()
        with training(count, shards, folder, *SMALL, *words, method="supervised") as found:
            assert found.codes() == [0] * count, found.said(0)
            printed = [(output / "stdout").read_text() for output in found.printed]
        assert printed[1:] == [""] * (count - 1)
        assert len(printed[0].splitlines()) == 2
    one, four = (lines(tmp_path / str(count) / "run") for count in (1, 4))
    assert [line["step"] for line in four] == [1, 2, 3]
    assert [line["loss"] for line in four] == pytest.approx([line["loss"] for line in one], rel=1e-4)


@pytest.mark.parametrize("hanging", [0, 1])
def test_a_rank_that_hangs_is_noticed_by_its_missing_signs_of_life(hanging: int, shards: Path, tmp_path: Path) -> None:
    with training(2, shards, tmp_path, *LONG, env=SOON) as found:
        until((tmp_path / "run" / "last.pt").exists)
        found.send(signal.SIGSTOP, hanging)
        assert found.codes(1 - hanging) == [1]
        wanted = {
            0: f"vtrain: rank 0 on {HOST} cannot be reached any more; {AGAIN}",
            1: f"vtrain: rank 1 on {HOST} has given no sign of life for 4 s; {AGAIN}",
        }
        assert found.said(1 - hanging) == [wanted[hanging]]
    assert saved(tmp_path / "run")["step"] >= 1


@pytest.mark.parametrize("there", [0, 1])
def test_a_rank_that_never_comes_is_not_awaited_for_ever(there: int, shards: Path, tmp_path: Path) -> None:
    with training(2, shards, tmp_path, *LONG, env=SOON) as found:
        found.processes[1 - there].kill()
        assert found.codes(there) == [1]
        (said,) = found.said(there)
        assert said.startswith("vtrain: the processes did not come together within 4 s (")
        assert said.endswith("see that all nodes are up and reach each other, and start all processes again")
    assert not (tmp_path / "run").exists()


def test_what_fails_on_one_rank_is_said_by_all(shards: Path, tmp_path: Path) -> None:
    """A video that only one rank reads cannot be read."""
    copy = Path(shutil.copytree(shards, tmp_path / "set"))
    with damaged(copy, (3,)), training(2, copy, tmp_path, *SMALL, "batch=2", "steps=15") as found:
        assert found.codes() == [1, 1]
        said = [found.said(rank) for rank in range(2)]
        assert [len(words) for words in said] == [1, 1]
        print(said)
        first = next(rank for rank in range(2) if "ended first" not in said[rank][0])
        reason = said[first][0].removeprefix("vtrain: ")
        assert said[1 - first] == [f"vtrain: rank {first} on {HOST} ended first: {reason}"]
        assert "video '" in reason


def test_a_checkpoint_that_the_first_rank_cannot_write_ends_all(shards: Path, tmp_path: Path) -> None:
    with training(2, shards, tmp_path, *LONG) as found:
        last = tmp_path / "run" / "last.pt"
        until(last.exists)
        state = last.rename(tmp_path / "state")
        (last / "in the way").mkdir(parents=True)
        assert found.codes() == [1, 1]
        (reason,) = found.said(0)
        assert " could not be saved to " in reason
        assert found.said(1) == [f"vtrain: rank 0 on {HOST} ended first: {reason.removeprefix('vtrain: ')}"]
    assert state.exists()


def test_other_videos_on_a_node_are_refused_by_all(shards: Path, foreign: Path, tmp_path: Path) -> None:
    words = ("pace", "--recipe", "tiny", *SMALL, "--out", tmp_path / "run", "--shards")
    with ranks(
        cli.main, 2, *words, shards, others=(*words, foreign), cwd=tmp_path, printed=tmp_path / "printed"
    ) as found:
        assert found.codes() == [2, 2]
        (said,), other = found.said(0), found.said(1)
    assert said.startswith("vtrain: the set differs between the processes: 20 videos, hash ")
    assert f" for rank 0 on {HOST}, 9 videos, hash " in said
    assert said.endswith(f" for rank 1 on {HOST}; start all processes with the same command, code and videos")
    assert other == [said]
    assert not (tmp_path / "run").exists()


def test_nodes_that_do_not_share_the_folder_of_a_run_do_not_continue_it(shards: Path, tmp_path: Path) -> None:
    """One has it not at all, or an older copy."""
    with training(2, shards, tmp_path, *SMALL, "steps=2", "keep_every=1") as found:
        assert found.codes() == [0, 0]
    other = tmp_path / "other node"
    other.mkdir()
    words = ("pace", "--resume", "run", "steps=4")
    here = {"cwd": tmp_path, "folders": [tmp_path, other]}
    with ranks(cli.main, 2, *words, printed=tmp_path / "none", **here) as found:
        assert found.codes() == [1, 2]
        (reason,) = found.said(1)
        assert reason.startswith("vtrain: there is no run in run")
        assert found.said(0) == [f"vtrain: rank 1 on {HOST} ended first: {reason.removeprefix('vtrain: ')}"]
    shutil.copytree(tmp_path / "run", other / "run")
    shutil.copy(other / "run" / "kept" / "step_0000001.pt", other / "run" / "last.pt")
    with ranks(cli.main, 2, *words, printed=tmp_path / "older", **here) as found:
        assert found.codes() == [2, 2]
        for rank in range(2):
            (said,) = found.said(rank)
            assert said.startswith("vtrain: run/last.pt differs between the processes: ")
            assert said.endswith("continue a run in a folder that all nodes share, or copy it to each of them")
    shutil.copy(tmp_path / "run" / "last.pt", other / "run" / "last.pt")
    with ranks(cli.main, 2, *words, printed=tmp_path / "copied", **here) as found:
        assert found.codes() == [0, 0], found.said(0)
    assert saved(tmp_path / "run")["step"] == 4


def test_a_time_that_is_none_is_refused(shards: Path, tmp_path: Path) -> None:
    with training(2, shards, tmp_path, *LONG, env={"VTRAIN_LOST_AFTER": "soon"}) as found:
        assert found.codes() == [2, 2]
        assert found.said(0) == ["vtrain: VTRAIN_LOST_AFTER is 'soon'; write a number of seconds from 1 to 86400"]
