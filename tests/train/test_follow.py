"""`vtrain follow`: each line of a run's metrics reaches the service once, and the run stays as it is."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from file_sink import FileSink
from refusals import ends

from vprep.errors import UsageError, WorkError
from vtrain import run_folder
from vtrain.follow.follow import follow
from vtrain.follow.journal import Journal, journal_path
from vtrain.follow.services import SERVICES, service
from vtrain.follow.sink import config_of, redacted
from vtrain.follow.tail import Tail, is_training
from vtrain.follow.wandb_files import records
from vtrain.overrides import flat

Command = Callable[..., tuple[int, str, str]]
PROGRAM = Path(__file__).parent.parent / "support" / "file_sink.py"
TRAINS = """
import sys, time
from pathlib import Path
from vtrain.run_folder import alone
folder = Path(sys.argv[1])
with alone(folder):
    for step in range(1, 6):
        with (folder / "metrics.jsonl").open("a") as file:
            for part in ('{"step": %d, "lo' % step, 'ss": 0.5}\\n'):
                file.write(part)
                file.flush()
                time.sleep(0.1)
"""


def add(folder: Path, *steps: int, tail: str = "") -> None:
    with (folder / "metrics.jsonl").open("a") as file:
        file.writelines(f"{json.dumps({'step': step, 'loss': 1 / step, 'note': None})}\n" for step in steps)
        file.write(tail)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "runs" / "pace-1"
    folder.mkdir(parents=True)
    (folder / "recipe.json").write_text('{"name": "pace-tiny", "data": {"shards": "s3://me:secret@store/set"}}')
    (folder / "environment.json").write_text('[{"torch": "1"}, {"torch": "2", "gpu": null}]')
    add(folder, 10, 20, 30)
    return folder


def followed(run: Path, sink: FileSink, **more: object) -> dict[str, object]:
    given: dict[str, object] = {"project": "tests", "name": "", "once": True, "every": 0.1, "waits": (0.01, 0.01)}
    return follow(run, "file", sink, **(given | more))  # type: ignore[arg-type]


def started(*words: object) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, str(PROGRAM), *map(str, words)], stderr=subprocess.PIPE, text=True)


@pytest.fixture
def sink(tmp_path: Path) -> FileSink:
    return FileSink(tmp_path / "service")


def test_every_line_is_sent_once_with_recipe_provenance_and_name(run: Path, sink: FileSink) -> None:
    info = followed(run, sink)
    assert sink.lines == [{"step": step, "loss": 1 / step} for step in (10, 20, 30)]
    assert (info["sent"], info["step"], info["finished"], sink.closed) == (3, 30, True, True)
    assert sink.run is not None
    assert (sink.run.name, sink.run.project, sink.run.is_new) == ("pace-1", "tests", True)
    assert sink.run.config == {
        "run": str(run),
        "recipe": {"name": "pace-tiny", "data": {"shards": "s3://store/set"}},
        "environment": {"torch": "2", "gpu": None},
    }


@pytest.mark.parametrize("speaks", [True, False])
def test_a_second_follower_goes_on_where_the_first_stopped(run: Path, sink: FileSink, speaks: bool) -> None:
    sink.speaks = speaks
    followed(run, sink)
    first = sink.run
    add(run, 40, 50)
    assert followed(run, sink)["sent"] == 2
    assert sink.steps == [10, 20, 30, 40, 50]
    assert first is not None
    assert sink.run is not None
    assert (sink.run.identifier, sink.run.is_new) == (first.identifier, False)


def test_the_run_stays_as_it_is(run: Path, sink: FileSink, content: Callable[[Path], dict[str, bytes]]) -> None:
    before = content(run)
    followed(run, sink)
    assert content(run) == before
    assert run_folder.METRICS in before
    assert sorted(path.name for path in run.parent.iterdir()) == ["pace-1", "pace-1.file.jsonl"]


def test_a_line_in_half_waits_for_its_end_and_a_damaged_one_is_counted(run: Path, sink: FileSink) -> None:
    add(run, tail='nonsense\n{"step": 40, "loss"')
    info = followed(run, sink)
    assert (sink.steps, info["damaged"]) == ([10, 20, 30], 1)
    add(run, tail=": 0.25}\n")
    followed(run, sink)
    assert sink.lines[-1] == {"step": 40, "loss": 0.25}


def test_a_part_that_is_trained_again_is_not_sent_again(run: Path, sink: FileSink) -> None:
    tail = Tail(run / "metrics.jsonl")
    assert [line["step"] for line in tail.lines()] == [10, 20, 30]
    followed(run, sink)
    again = run.parent / "again"
    again.mkdir()
    add(again, 10, 20, 30, 40)
    (again / "metrics.jsonl").replace(run / "metrics.jsonl")  # as a training does that is resumed
    assert [line["step"] for line in tail.lines()] == [10, 20, 30, 40]
    followed(run, sink)
    assert sink.steps == [10, 20, 30, 40]


def test_a_run_is_followed_until_its_training_ends(run: Path, sink: FileSink) -> None:
    (run / "metrics.jsonl").unlink()
    training = subprocess.Popen([sys.executable, "-c", TRAINS, str(run)])
    while not is_training(run):
        assert training.poll() is None
        time.sleep(0.02)
    info = followed(run, sink, once=False)
    assert training.wait() == 0
    assert (sink.steps, info["finished"]) == ([1, 2, 3, 4, 5], True)


def test_looking_at_the_lock_leaves_it_free_for_a_training(run: Path) -> None:
    assert not is_training(run)
    with run_folder.alone(run):
        pass
    assert not is_training(run)


def test_a_killed_follower_goes_on_where_the_service_says(run: Path, sink: FileSink) -> None:
    killed = started(run, sink.path, "--die", 2)
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert sink.steps == [10, 20]
    followed(run, sink)
    assert sink.steps == [10, 20, 30]


def test_what_a_killed_follower_may_have_sent_is_said_and_not_sent_again(
    run: Path, sink: FileSink, capsys: pytest.CaptureFixture[str]
) -> None:
    killed = started(run, sink.path, "--die", 2, "--mute")
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    add(run, 40)
    sink.speaks = False
    followed(run, sink)
    assert sink.steps == [10, 20, 40]
    assert capsys.readouterr().err == (
        "warning: a follower was killed while it sent the steps 0 to 30; file cannot say which of them it has, so some "
        "may be missing there: none is sent again\n"
    )


def test_a_stopped_follower_says_how_to_go_on(run: Path, sink: FileSink) -> None:
    with run_folder.alone(run):
        follower = started(run, sink.path)
        assert follower.stderr is not None
        said = follower.stderr.readline()
        follower.send_signal(signal.SIGINT)
        _, err = follower.communicate(timeout=60)
    assert (follower.returncode, said + err) == (
        130,
        "3 lines sent to file; following until the run ends, or until Ctrl-C\n"
        "vtrain: stopped; 3 lines were sent: run the same command again to go on\n",
    )  # fmt: skip
    with Journal(journal_path(run, "file")) as journal:
        assert journal.sent == 30


def test_a_service_that_fails_for_a_while_is_tried_again(
    run: Path, sink: FileSink, capsys: pytest.CaptureFixture[str]
) -> None:
    sink.fails = 2
    followed(run, sink)
    assert sink.steps == [10, 20, 30]
    assert capsys.readouterr().err == 2 * "file: no connection; next try in 0.01 s\n"


@pytest.mark.parametrize(("passing", "tries"), [(True, "after 3 tries "), (False, "")])
def test_a_service_that_goes_on_failing_ends_it_with_one_sentence(
    run: Path, sink: FileSink, passing: bool, tries: str
) -> None:
    followed(run, sink)
    add(run, 40)
    sink.fails, sink.passing = 3, passing
    with pytest.raises(WorkError) as error:
        followed(run, sink)
    assert str(error.value) == f"file: no connection; {tries}0 lines were sent: run the same command again to go on"
    sink.fails = 0
    followed(run, sink)
    assert sink.steps == [10, 20, 30, 40]


def test_two_followers_of_one_run_do_not_send_at_once(run: Path, sink: FileSink) -> None:
    path = journal_path(run, "file")
    with Journal(path), pytest.raises(UsageError) as error:
        followed(run, sink)
    assert str(error.value) == f"another process follows this run and writes {path}; wait for it, or end it"


def test_a_journal_that_was_cut_off_is_read_up_to_there(run: Path) -> None:
    path = journal_path(run, "file")
    path.write_text('{"id": "abc"}\n{"sending": 20}\n{"sent": 20}\n{"sendi')
    with Journal(path) as journal:
        assert (journal.identifier, journal.sending, journal.sent) == ("abc", 20, 20)
        journal.begin(30)
    with Journal(path) as journal:
        assert (journal.sending, journal.sent) == (30, 20)


def test_messages_hold_no_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
    assert redacted("401 at https://user:pass@host/x with key 0123456789abcdef") == "401 at https://host/x with key ***"


def test_settings_are_flat_where_a_service_wants_it(run: Path) -> None:
    assert dict(flat({"a": {"b": [1, 2]}, "c": [{"d": None}]})) == {"a.b": "[1, 2]", "c.0.d": "None"}
    (run / "recipe.json").write_text("[")
    assert "recipe" not in config_of(run)


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_without_its_package_is_refused_without_torch(
    run: Path, name: str, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    assert command("follow", run, "--to", name) == (
        2, "", f"vtrain: --to {name} needs the package {name}, which is not installed; run: pip install {name}\n",
    )  # fmt: skip
    assert not journal_path(run, name).exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("follow missing --to wandb", "missing is not there; name the folder of a run, such as runs/NAME"),
        ("follow . --to wandb", ". is no run; name the folder of a run, such as runs/NAME"),
        ("follow runs/pace-1 --to nix", "--to is 'nix'; it must be one of wandb, mlflow, trackio"),
    ],
)
def test_what_cannot_be_followed_is_said_without_torch(run: Path, tmp_path: Path, words: str, said: str) -> None:
    (end,) = ends("vtrain.cli", [words.split()], tmp_path)
    assert (end.code, end.err, end.imported) == (2, f"vtrain: {said}\n", [])


def test_the_records_of_an_offline_file_are_read_up_to_a_cut(tmp_path: Path) -> None:
    def piece(kind: int, data: bytes) -> bytes:
        return bytes(4) + len(data).to_bytes(2, "little") + bytes([kind]) + data

    long = bytes(range(256)) * 140
    room = 32768 - 7 - 7 - 3 - 7
    data = bytes(7) + piece(1, b"one") + piece(2, long[:room]) + piece(4, long[room:]) + piece(1, b"cut")[:-1]
    (tmp_path / "run.wandb").write_bytes(data)
    with (tmp_path / "run.wandb").open("rb") as file:
        assert list(records(file)) == [b"one", long]


@pytest.mark.slow
@pytest.mark.parametrize("name", SERVICES)
def test_a_service_that_is_installed_gets_each_line_once(
    run: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(name, reason=f"needs a package that no extra for tests installs: pip install {name}")
    places = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'ml.db'}", "TRACKIO_DIR": str(tmp_path / "trackio")}
    for variable, value in {"WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path), **places}.items():
        monkeypatch.setenv(variable, value)
    for steps, sent in (((), 3), ((40,), 1), ((), 0)):
        add(run, *steps)
        info = follow(run, name, service(name), project="tests", name="", once=True, every=1.0)
        assert info["sent"] == sent
