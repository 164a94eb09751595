"""`vtrain` on shards in an object store: the training of the same shards on a disk, through faults and kills."""

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import begin, veval, vtrain
from own_disk import on_a_disk
from store_server import SECRET, Bucket

from vtrain import cli

SMALL = ("--recipe", "tiny", "backbone_settings.width=4", "frames=4", "size=16", "batch=6", "log_every=1")
SETTINGS = (*SMALL, "workers=0", "save_every=2", "steps=4")


def losses(run: Path) -> list[tuple[int, float]]:
    """Return step and loss of each line of the log."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [(line["step"], line["loss"]) for line in lines if "loss" in line]


def holds_secret(folder: Path) -> list[str]:
    """Return the files below a folder that hold the secret key."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [str(path) for path in files if SECRET.encode() in path.read_bytes()]


@pytest.mark.parametrize("method", ["pace", pytest.param("ascnet", marks=pytest.mark.slow)])
def test_a_training_on_a_store_is_that_on_a_disk(
    method: str, stored: Bucket, shards: Path, store_env: dict[str, str], tmp_path: Path
) -> None:
    """ASCNet chooses further clips within a step."""
    spec = stored.url("set/<000..005>.tar")
    vtrain(method, "--shards", shards, *SETTINGS, "--out", "local", cwd=tmp_path)
    done = vtrain(method, "--shards", spec, *SETTINGS, "--out", "run", cwd=tmp_path, env=store_env)
    assert done.returncode == 0, done.stderr
    assert losses(tmp_path / "run") == losses(tmp_path / "local")
    assert json.loads((tmp_path / "run" / "recipe.json").read_text())["data"]["shards"] == spec
    assert "wait" in (tmp_path / "run" / "metrics.jsonl").read_text()
    assert len(list((tmp_path / "xdg" / "playspeed" / "shards").iterdir())) == 6
    assert holds_secret(tmp_path) == []
    assert SECRET not in done.stdout + done.stderr


@pytest.mark.slow
def test_a_run_goes_on_where_the_same_shards_are(
    stored: Bucket, shards: Path, store_env: dict[str, str], tmp_path: Path
) -> None:
    """From a disk to a store and from a store to a disk, with the batches of neither move."""
    url = stored.url("set")
    vtrain("pace", "--shards", shards, *SETTINGS, "--out", "a", cwd=tmp_path)
    shutil.copytree(tmp_path / "a", tmp_path / "stayed")
    vtrain("pace", "--resume", "stayed", "steps=8", cwd=tmp_path)
    moved = vtrain("pace", "--resume", "a", "--shards", url, "steps=8", cwd=tmp_path, env=store_env)
    assert moved.returncode == 0, moved.stderr
    assert json.loads((tmp_path / "a" / "recipe.json").read_text())["data"]["shards"] == url
    vtrain("pace", "--shards", url, *SETTINGS, "--out", "b", cwd=tmp_path, env=store_env)
    back = vtrain("pace", "--resume", "b", "--shards", shards, "steps=8", cwd=tmp_path)
    assert back.returncode == 0, back.stderr
    assert losses(tmp_path / "a") == losses(tmp_path / "b") == losses(tmp_path / "stayed")


def test_a_run_does_not_go_on_with_other_shards(stored: Bucket, store_env: dict[str, str], tmp_path: Path) -> None:
    vtrain("pace", "--shards", stored.url("set"), *SETTINGS, "--out", "run", cwd=tmp_path, env=store_env)
    done = vtrain(
        "pace", "--resume", "run", "--shards", stored.url("set/<000..003>.tar"), "steps=8", cwd=tmp_path, env=store_env
    )
    assert done.returncode == 2
    assert "was trained on" in done.stderr


def test_a_shard_that_was_replaced_ends_a_training_with_one_sentence(
    stored: Bucket, shards: Path, store_env: dict[str, str], tmp_path: Path
) -> None:
    data = bytearray((shards / "003.tar").read_bytes())
    data[-5000] ^= 1
    stored.put("set/003.tar", bytes(data))
    done = vtrain("pace", "--shards", stored.url("set"), *SETTINGS, "steps=200", cwd=tmp_path, env=store_env)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"vtrain: {stored.url('set/003.tar')}")
    assert "Traceback" not in done.stderr
    assert SECRET not in done.stderr


@pytest.mark.parametrize(
    ("url", "code", "said"),
    [
        ("{set}x", 2, "no set in {set}x: it has no dataset.json; one is made with: vprep shard VIDEOS --out {set}x"),
        ("s3://key:hidden@bucket/set", 2, "the URL s3://bucket/set holds a user or a key"),
        ("{set}/9*.tar", 2, "no shard of the set in {set} matches '9*.tar'; it has 6: 000.tar to 005.tar"),
        ("s3://bucket/*/000.tar", 2, "s3://bucket/* has wildcards in the name of a folder; name each set of a store"),
    ],
)
def test_a_url_that_names_no_shards_is_one_sentence(
    stored: Bucket, store_env: dict[str, str], tmp_path: Path, url: str, code: int, said: str
) -> None:
    place = stored.url("set")
    done = vtrain("pace", "--shards", url.format(set=place), *SETTINGS, cwd=tmp_path, env=store_env)
    assert done.returncode == code
    assert done.stderr.startswith(f"vtrain: {said.format(set=place)}"), done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "hidden" not in done.stderr


def test_a_cache_that_cannot_hold_a_block_is_refused_at_the_start(
    stored: Bucket, store_env: dict[str, str], tmp_path: Path
) -> None:
    words = ("pace", "--shards", stored.url("set"), *SETTINGS, "--cache", "here")
    done = vtrain(*words, "--cache-gb", "0.001", "batch=6", cwd=tmp_path, env=store_env)
    assert done.returncode == 0, done.stderr

    def on_small_disk(mount: Callable[[str], None]) -> list[object]:
        run = vtrain(*words[:-1], "disk", "--cache-gb", "5", cwd=tmp_path, env=store_env)
        return [run.returncode, run.stderr]

    code, said = on_a_disk(tmp_path / "disk", 400 << 10, on_small_disk)
    assert code == 2
    assert said.startswith("vtrain: a training mixes the videos of 602.6 kB of these shards at once, and the cache ")
    assert said.endswith("for its disk has no more space; name a folder on another disk: --cache DIR\n")


@pytest.mark.slow
def test_a_store_that_is_away_for_ten_seconds_changes_nothing(
    stored: Bucket, shards: Path, store_env: dict[str, str], tmp_path: Path
) -> None:
    vtrain("pace", "--shards", shards, *SETTINGS, "--out", "local", cwd=tmp_path)
    process = begin(
        "pace", "--shards", stored.url("set"), *SETTINGS, "workers=2", "--out", "run",
        cwd=tmp_path, env=store_env, printed=tmp_path, main=cli.main,
    )  # fmt: skip
    while not any("index.parquet" in line for line in stored.seen()):
        time.sleep(0.01)
    began = time.monotonic()
    stored.away(10)
    process.join()
    assert process.exitcode == 0, (tmp_path / "stderr").read_text()
    assert time.monotonic() - began > 9, "it needed the store"
    assert losses(tmp_path / "run") == losses(tmp_path / "local")


@pytest.mark.slow
def test_a_training_that_is_killed_goes_on_with_the_batches_of_an_undisturbed_one(
    stored: Bucket, shards: Path, store_env: dict[str, str], tmp_path: Path
) -> None:
    words = (*SMALL, "workers=1", "save_every=1", "steps=12", "--out", "run")
    vtrain("pace", "--shards", shards, *words[:-1], "local", cwd=tmp_path)
    small = ("--cache-gb", "0.001")  # evicts nothing, yet counts
    first, kills = ("--shards", stored.url("set"), *words), 0
    for wanted in (0, 2, 5):
        process = begin("pace", *first, *small, cwd=tmp_path, env=store_env, printed=tmp_path, main=cli.main)
        while process.is_alive() and steps_of(tmp_path / "run") < wanted:
            time.sleep(0.01)
        if process.is_alive() and process.pid is not None:
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.join()
        if (tmp_path / "run" / "last.pt").exists():
            first = ("--resume", "run")
    done = vtrain("pace", *first, *small, cwd=tmp_path, env=store_env)
    assert done.returncode == 0, done.stderr
    assert kills >= 2
    assert dict(losses(tmp_path / "run")) == dict(losses(tmp_path / "local"))
    cache = tmp_path / "xdg" / "playspeed"
    assert not list(cache.glob("shards/.*"))


def steps_of(run: Path) -> int:
    try:
        return len((run / "metrics.jsonl").read_text().splitlines())
    except OSError:
        return 0


@pytest.mark.slow
def test_two_trainings_at_once_share_a_cache(
    stored: Bucket, shards: Path, store_env: dict[str, str], tmp_path: Path
) -> None:
    words = (*SMALL, "workers=1", "steps=6")
    processes = []
    for name, seed in (("a", 0), ("b", 1)):
        vtrain("pace", "--shards", shards, *words, f"seed={seed}", "--out", f"local-{name}", cwd=tmp_path)
        (tmp_path / f"printed-{name}").mkdir()
    for name, seed in (("a", 0), ("b", 1)):
        more = ("--shards", stored.url("set"), f"seed={seed}", "--out", name)
        printed = tmp_path / f"printed-{name}"
        processes.append(begin("pace", *words, *more, cwd=tmp_path, env=store_env, printed=printed, main=cli.main))
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0], (tmp_path / "printed-a" / "stderr").read_text()
    for name in "ab":
        assert losses(tmp_path / name) == losses(tmp_path / f"local-{name}")
    assert len(list((tmp_path / "xdg" / "playspeed" / "shards").iterdir())) == 6


@pytest.mark.slow
def test_a_worker_that_is_killed_ends_a_training_that_then_goes_on(
    stored: Bucket, shards: Path, store_env: dict[str, str], tmp_path: Path
) -> None:
    words = (*SMALL, "workers=2", "save_every=1", "steps=80")
    process = begin(
        "pace", "--shards", stored.url("set"), *words, "--out", "run",
        cwd=tmp_path, env=store_env, printed=tmp_path, main=cli.main,
    )  # fmt: skip
    while process.is_alive() and steps_of(tmp_path / "run") < 3:
        time.sleep(0.01)
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
    os.kill(int(children[0]), signal.SIGKILL)
    process.join()
    said = (tmp_path / "stderr").read_text().splitlines()[-1]
    assert (process.exitcode, said.startswith("vtrain: a worker of the loader was killed (")) == (1, True), said
    done = vtrain("pace", "--resume", "run", "workers=1", cwd=tmp_path, env=store_env)
    assert done.returncode == 0, done.stderr
    vtrain("pace", "--shards", shards, *words, "save_every=200", "--out", "local", cwd=tmp_path)
    assert dict(losses(tmp_path / "run")) == dict(losses(tmp_path / "local"))


@pytest.mark.slow
def test_two_ranks_share_a_cache_and_train_as_on_a_disk(
    stored: Bucket, shards: Path, store_env: dict[str, str], tmp_path: Path
) -> None:
    def train(spec: object, out: str) -> list[tuple[int, float]]:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
        processes = []
        for rank in ("0", "1"):
            (tmp_path / out / rank).mkdir(parents=True)
            ranked = {"RANK": rank, "LOCAL_RANK": rank, "LOCAL_WORLD_SIZE": "2", "GLOO_SOCKET_IFNAME": "lo"}
            words = ("pace", "--shards", spec, *SETTINGS, "workers=1", "--out", f"{out}/run")
            processes.append(
                begin(
                    *words, cwd=tmp_path, env=store_env | meeting | ranked, printed=tmp_path / out / rank, main=cli.main
                )
            )
        for process in processes:
            process.join()
        assert [process.exitcode for process in processes] == [0, 0], (tmp_path / out / "0" / "stderr").read_text()
        return losses(tmp_path / out / "run")

    assert train(stored.url("set"), "remote") == train(shards, "local")
    assert len(list((tmp_path / "xdg" / "playspeed" / "shards").iterdir())) == 6


@pytest.mark.slow
def test_the_commands_of_the_page_run(stored: Bucket, shards: Path, store_env: dict[str, str], tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "clusters.md").read_text()
    section = page.partition("## Training and evaluation from a store")[2].partition("\n## ")[0]
    lines = [line.strip() for line in section.splitlines() if line.startswith(("    vtrain ", "    veval "))]
    assert len(lines) == 3
    (tmp_path / "data_shards").symlink_to(shards)
    for line in lines:
        command, *words = shlex.split(line.replace("s3://bucket/set", stored.url("set")))
        done = {"vtrain": vtrain, "veval": veval}[command](*words, cwd=tmp_path, env=store_env)
        assert done.returncode == 0, done.stderr
    assert losses(tmp_path / "runs" / "pace")[-1][0] == 40
