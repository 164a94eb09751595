"""Sets in a store, and videos in one: the same bytes as on a disk, whatever happens on the way."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from store_server import SECRET, TOKEN, Bucket

from vprep import cli, preview, set_files
from vprep.layouts.listing import Entry
from vprep.settings import Settings
from vprep.sharding.destination import StoreSet
from vprep.sharding.plan import Planned
from vprep.sharding.shard_writer import ShardWriter, load, make_work_folder
from vprep.stats import stats
from vprep.store import Location, Store
from vprep.verify import verify
from vprep.video.failures import Failure
from vprep.video.ffmpeg import find
from vprep.video.transcode import transcode

MakeVideo = Callable[..., Path]
RunVprep = Callable[..., subprocess.CompletedProcess[str]]
Content = Callable[[Path], dict[str, bytes]]
FROM_VIDEOS = ("index.parquet", "failures.parquet")  # with the tars, what must not depend on where the videos are
WORDS = ("--shards", 3, "--json")


def same(found: dict[str, bytes], wanted: dict[str, bytes]) -> bool:
    """Whether two sets hold the same; their plans name different places of the videos."""
    names = [name for name in wanted if name.endswith(".tar") or name in FROM_VIDEOS]
    return set(found) == set(wanted) and all(found[name] == wanted[name] for name in names)


@pytest.fixture(scope="module")
def few(make_video: MakeVideo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six short videos of two classes, one of them damaged beyond use."""
    folder = tmp_path_factory.mktemp("few videos") / "in"
    for name in ("run", "walk fast"):
        for number in range(3):
            make_video(folder / name / f"v {number}+{name[0]}.mp4", seconds=0.4, size=f"{48 + 16 * number}x48")
    (folder / "run" / "v 1+r.mp4").write_bytes(b"no video")
    return folder


@pytest.fixture(scope="module")
def local(
    few: Path, run_vprep: RunVprep, content: Content, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    """The files of the set of `few` in a local folder."""
    out = tmp_path_factory.mktemp("local") / "set"
    done = run_vprep("shard", few, "--out", out, *WORDS, "--max-failures", 1)
    assert done.returncode == 0, done.stderr
    return content(out)


@pytest.fixture
def run(run_vprep: RunVprep, s3: Bucket, tmp_path: Path) -> RunVprep:
    """A function that runs vprep with the keys of the bucket; they must not be printed, and no scratch may stay."""

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        done = run_vprep(*words, env=s3.env | {"TMPDIR": str(tmp_path)})
        assert not any(secret in done.stdout + done.stderr for secret in (SECRET, TOKEN))
        assert not list(tmp_path.glob("vprep-scratch-*"))
        return done

    return run


@pytest.fixture
def shard(run: RunVprep) -> RunVprep:
    """A function that runs vprep shard."""
    return lambda *words: run("shard", *words, *WORDS, "--max-failures", 1)


def test_a_set_in_a_store_has_the_bytes_of_a_local_one(
    few: Path, local: dict[str, bytes], shard: RunVprep, s3: Bucket
) -> None:
    done = shard(few, "--out", s3.url("my sets/a"))
    assert done.returncode == 0, done.stderr
    assert s3.content("my sets/a") == local
    assert json.loads(done.stdout)["out"] == s3.url("my sets/a")
    s3.seen()
    again = shard(few, "--out", s3.url("my sets/a"))
    assert again.stdout == done.stdout
    assert not [request for request in s3.seen() if request.startswith(("PUT", "POST", "DELETE"))]


def test_videos_in_a_store_give_the_same_set(
    few: Path, local: dict[str, bytes], shard: RunVprep, s3: Bucket, tmp_path: Path, content: Content
) -> None:
    s3.put_folder("videos/in", few)
    done = shard(s3.url("videos/in"), "--out", tmp_path / "set")
    assert done.returncode == 0, done.stderr
    assert same(content(tmp_path / "set"), local)


def test_no_key_is_in_what_is_written(few: Path, shard: RunVprep, s3: Bucket) -> None:
    s3.put_folder("in", few)
    s3.fault("forbid", "PUT .*001.tar")
    assert shard(s3.url("in"), "--out", s3.url("set")).returncode == 2
    unfinished = s3.content("set")
    assert {"plan.parquet", "000.tar"} <= set(unfinished)
    assert ".work/000" in " ".join(unfinished)
    assert shard(s3.url("in"), "--out", s3.url("set")).returncode == 0
    for written in (unfinished, s3.content("set")):
        assert not [name for name, data in written.items() if SECRET.encode() in data or TOKEN.encode() in data]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("{few}", "--out", "s3://no-such-bucket/set"), "no bucket 'no-such-bucket' (s3); make it"),
        (("{few}", "--out", "s3://key:hidden@bucket/set"), "the URL s3://bucket/set holds a user or a key, or"),
        (("{few}", "--out", "https://host/set?X-Amz-Signature=hidden"), "the URL https://host/set holds a user or a"),
        (("{few}", "unexpected", "s3://key:hid/den@bucket"), "the URL s3://bucket holds a user or a key, or goes on"),
        (("{few}", "--out", "{http}/set"), "cannot be written to, as http has no way to; name a bucket"),
        (("{http}/set", "--out", "set"), "cannot be listed, as http has no way to; name a bucket"),
        (("{few}", "--out", "{bucket}/foreign"), "holds 'paper.pdf' and is no set; choose an empty folder"),
        (("{bucket}/foreign", "--out", "set"), "/foreign', only 1 other file; a video is a file that ends in"),
        (("{bucket}/nothing", "--out", "set"), "no video below 's3://"),
        (("{few}", "--out", "set", "--labels", "{bucket}/no.csv"), "/no.csv'; --splits names a list or a folder"),
    ],
)
def test_what_a_store_cannot_do_is_refused_in_one_sentence(
    words: tuple[str, ...],
    message: str,
    few: Path,
    s3_here: Bucket,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    s3_here.put("foreign/paper.pdf", b"x")
    places = {"few": few, "bucket": s3_here.url(), "http": s3_here.http}
    argv = [str(tmp_path / word) if word == "set" else word.format(**places) for word in words]
    with pytest.raises(SystemExit) as end:
        cli.main(["shard", *argv, "--scratch", str(tmp_path)])
    *notes, said = capsys.readouterr().err.splitlines()
    assert end.value.code == 2
    assert said.startswith("vprep: ")
    assert message in said
    assert "hidden" not in said
    assert not any("vprep: " in note for note in notes)
    assert s3_here.names() == ["foreign/paper.pdf"]


def test_refused_keys_are_one_sentence(few: Path, shard: RunVprep, s3: Bucket) -> None:
    s3.fault("forbid", times=-1)
    done = shard(few, "--out", s3.url("set"))
    assert done.returncode == 2
    assert "the store refuses access to s3://" in done.stderr


def test_videos_that_change_or_go_after_the_plan_are_failures_with_a_cause(
    few: Path, shard: RunVprep, s3: Bucket, tmp_path: Path
) -> None:
    s3.put_folder("in", few)
    s3.fault("forbid", "PUT .*tar", times=-1)
    assert shard(s3.url("in"), "--out", s3.url("set")).returncode == 2
    s3.fault("")
    s3.put("in/run/v 0+r.mp4", s3.get("in/run/v 2+r.mp4"))
    s3.delete("in/walk fast/v 0+w.mp4")
    done = shard(s3.url("in"), "--out", s3.url("set"))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["causes"] == {"changed": 1, "missing": 1, "not_a_video": 1}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "match", "times"),
    [("refuse", "", 25), ("cut", "GET", 9), ("cut_request", "PUT", 9)],
)
def test_a_busy_store_costs_time_and_nothing_else(
    kind: str, match: str, times: int, few: Path, local: dict[str, bytes], shard: RunVprep, s3: Bucket
) -> None:
    s3.put_folder("in", few)
    s3.fault(kind, match, times=times)
    done = shard(s3.url("in"), "--out", s3.url("set"))
    assert done.returncode == 0, done.stderr
    assert same(s3.content("set"), local)


@pytest.mark.slow
def test_a_store_may_be_away_for_ten_seconds_while_sharding(few: Path, local: dict[str, bytes], s3: Bucket) -> None:
    s3.put_folder("in", few)
    process = started(s3, s3.url("in"), s3.url("set"))
    wait_for(lambda: s3.names("set/000.tar"))
    s3.away(10)
    assert process.wait(120) == 0
    assert same(s3.content("set"), local)


def test_a_killed_writer_is_continued_by_the_same_command(
    few: Path, local: dict[str, bytes], shard: RunVprep, s3: Bucket, tmp_path: Path
) -> None:
    s3.put_folder("in", few)
    s3.fault("slow", "PUT .*001.tar", seconds=4)
    process = started(s3, s3.url("in"), s3.url("set"), TMPDIR=str(tmp_path))
    wait_for(lambda: s3.names("set/000.tar"))
    process.kill()
    process.wait()
    assert len(list(tmp_path.glob("vprep-scratch-*"))) == 2
    assert "set/dataset.json" not in s3.names()
    done = shard(s3.url("in"), "--out", s3.url("set"))
    assert done.returncode == 0, done.stderr
    assert same(s3.content("set"), local)


def test_two_writers_at_once_make_one_set(few: Path, local: dict[str, bytes], s3: Bucket) -> None:
    both = [started(s3, str(few), s3.url("set")) for _ in range(2)]
    assert [process.wait(120) for process in both] == [0, 0]
    assert same(s3.content("set"), local)


def test_different_shards_of_two_writers_keep_the_first_with_its_own_record(
    few: Path, s3_here: Bucket, tmp_path: Path
) -> None:
    """The first one was killed between record and shard; the second one has lost a video."""
    videos = [Planned(f"v{number}", Entry(source=f"v{number}.mp4", bytes=1)) for number in range(2)]
    sets = [StoreSet(Store(Location.parse(s3_here.url("set"))), tmp_path / name) for name in ("first", "second")]
    video = transcode(few, Entry(source="walk fast/v 0+w.mp4", bytes=1), Settings(), find(), timeout=60)
    for out, results in zip(sets, ([video, video], [video, Failure("timeout", "late")]), strict=True):
        out.folder.mkdir()
        make_work_folder(out.folder)
        writer = ShardWriter(out, "000.tar")
        for planned, result in zip(videos, results, strict=True):
            writer.add(planned, result)
        record = writer.finish()
        if out is sets[0]:
            s3_here.delete("set/000.tar")
    found = load(sets[0], "000.tar")
    assert len(s3_here.names("set/.work/")) == 2
    assert found is not None
    assert (found[0].hash, found[0].failures) == (record.hash, record.failures)


@pytest.mark.slow
def test_a_damaged_shard_is_found_and_made_again(
    few: Path, local: dict[str, bytes], run: RunVprep, shard: RunVprep, s3: Bucket
) -> None:
    assert shard(few, "--out", s3.url("set")).returncode == 0
    s3.put("set/001.tar", local["001.tar"][:-512])
    found = run("verify", s3.url("set"), "--depth", "sizes", "--json")
    assert found.returncode == 1
    assert [problem["file"] for problem in json.loads(found.stdout)["wrong"]] == ["001.tar"]
    assert shard(few, "--out", s3.url("set")).returncode == 0
    assert s3.content("set") == local


def test_a_set_in_a_store_is_read_as_a_local_one(local: dict[str, bytes], s3_here: Bucket, tmp_path: Path) -> None:
    for name, data in local.items():
        s3_here.put(f"set/{name}", data)
        (tmp_path / name).write_bytes(data)
    answers = []
    for url in (str(tmp_path), s3_here.url("set"), f"{s3_here.http}/set"):
        with set_files.opened(url, shards=True) as files:
            checked = [files.shown(verify(files.folder, depth, files=files)) for depth in ("sizes", "hashes", "frames")]
            s3_here.seen()
            files.bring_videos(["v_0_w"])
            preview.show(files.folder, "v_0_w", tmp_path / "sheet.png")
            requests = [request for request in s3_here.seen() if request.startswith("GET") and ".tar" in request]
            answers.append([*checked, files.shown(stats(files.folder)), (tmp_path / "sheet.png").read_bytes()])
    assert not any(check["wrong"] for check in answers[0][:3])
    assert [str(answer).replace(answer[0]["set"], "SET") for answer in answers] == [
        str(answers[0]).replace(str(tmp_path), "SET")
    ] * 3
    assert [len(requests), "bytes=512-" in requests[0]] == [1, False]


def test_a_damaged_description_in_a_store_is_mended_on_a_copy(
    local: dict[str, bytes], s3_here: Bucket, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, data in local.items():
        s3_here.put(f"set/{name}", b"{" if name == "dataset.json" else data)
    with pytest.raises(SystemExit):
        cli.main(["stats", s3_here.url("set")])
    assert f"make it again with: vprep index on a copy of {s3_here.url('set')}\n" in capsys.readouterr().err


def test_an_index_is_not_rebuilt_in_a_store(s3_here: Bucket, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["index", s3_here.url("set")])
    assert "vprep index is for a set in a local folder, and s3://" in capsys.readouterr().err


@pytest.mark.slow
def test_failed_videos_of_a_set_in_a_store_are_retried(few: Path, shard: RunVprep, run: RunVprep, s3: Bucket) -> None:
    s3.put_folder("in", few)
    assert shard(s3.url("in"), "--out", s3.url("set")).returncode == 0
    s3.put("in/run/v 1+r.mp4", s3.get("in/run/v 2+r.mp4"))
    done = run("retry", s3.url("set"), "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["causes"] == {}
    verified = run("verify", s3.url("set"))
    assert verified.returncode == 0, verified.stdout


@pytest.mark.slow
def test_nodes_of_a_cluster_share_nothing_but_the_store(
    few: Path, local: dict[str, bytes], run_vprep: RunVprep, s3: Bucket, tmp_path: Path
) -> None:
    pytest.importorskip("ray", reason="the cluster is Ray's: pip install 'playspeed[ray]'")
    s3.put_folder("in", few)
    words = ("shard", s3.url("in"), "--out", s3.url("set"), *WORDS, "--max-failures", 1, "--engine", "ray")
    done = run_vprep(*words, "--scratch", tmp_path, env=s3.env)
    assert done.returncode == 0, done.stderr
    assert same(s3.content("set"), local)
    assert not any(secret in done.stdout + done.stderr for secret in (SECRET, TOKEN))
    assert not list(tmp_path.iterdir())


def started(s3: Bucket, source: str, out: str, **env: str) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-m", "vprep.cli", "shard", source, "--out", out, *map(str, WORDS), "--max-failures", "1"]
    return subprocess.Popen(argv, env=os.environ | s3.env | env, stdout=subprocess.DEVNULL)


def wait_for(there: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not there():
        assert time.monotonic() < deadline
        time.sleep(0.02)
