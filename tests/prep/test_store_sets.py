"""Sets in a store, and videos in one: the same bytes as on a disk, whatever happens on the way."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from store_server import Bucket

MakeVideo = Callable[..., Path]
RunVprep = Callable[..., subprocess.CompletedProcess[str]]
Content = Callable[[Path], dict[str, bytes]]
FROM_VIDEOS = ("index.parquet", "failures.parquet")  # with the tars, what must not depend on where the videos are
WORDS = ("--shards", 3, "--json")


def same(found: dict[str, bytes], wanted: dict[str, bytes]) -> bool:
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
def shard(run_vprep: RunVprep, s3: Bucket, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """A function that runs vprep shard with the settings of the bucket, and with a scratch folder of its own."""

    def run(*words: object) -> subprocess.CompletedProcess[str]:
        scratch = tmp_path / "scratch"
        done = run_vprep("shard", *words, *WORDS, "--max-failures", 1, "--scratch", scratch, env=s3.env)
        assert not list(scratch.glob("*"))
        return done

    return run


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
    done = shard(s3.url("videos/in"), "--out", s3.url("set"))
    assert done.returncode == 0, done.stderr
    assert same(s3.content("set"), local)
