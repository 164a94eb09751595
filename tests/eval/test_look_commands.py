"""`veval look ...` writes a picture in the form that its name asks for, and says in JSON what it shows."""

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from commands import Done, veval
from small_recipes import small

from vtrain.training.train import train

pytestmark = pytest.mark.slow

RUNS: dict[str, tuple[str, ...]] = {
    "rspnet": (), "sp": ("motion=sp",), "pace": (), "prp": (), "dp": ("branches=DP",),
    "gp": ("branches=GP", "mask=none"),
}  # fmt: skip
METHODS = {"sp": "rspnet", "dp": "prp", "gp": "prp"}


@pytest.fixture(scope="module")
def here(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with shards and runs of all methods that have pictures."""
    folder = tmp_path_factory.mktemp("a look")
    (folder / "data_shards").symlink_to(shards)
    for name, words in RUNS.items():
        train(small(METHODS.get(name, name), shards, "steps=2", *words), folder / "runs" / name)
    return folder


def look(*words: object, cwd: Path) -> Done:
    return veval("look", *words, cwd=cwd)


def size_of(path: Path) -> tuple[int, ...]:
    picture = cv2.imread(str(path))
    assert picture is not None
    return picture.shape


def played(path: Path) -> int:
    """The number of pictures of an animation."""
    done, film = cv2.imreadanimation(str(path))
    assert done
    assert len({frame.shape for frame in film.frames}) == 1
    return len(film.frames)


def test_roi_shows_both_clips_with_a_map_for_each_task(here: Path) -> None:
    found = look(
        "roi", "size=64", "--weights", "runs/rspnet", "--count", 2, "--out", "roi.png", "--json", cwd=here
    ).json
    assert (found["kind"], found["out"], found["weights"][0]["path"]) == ("roi", ["roi.png"], "runs/rspnet/last.pt")
    assert len(found["videos"]) == 2
    first, second = found["videos"][0]["clips"]
    assert (first["frames"], first["shown"]) == ([0, 1, 2, 3], 2)
    assert (second["frames"], second["shown"]) == ([16, 17, 18, 19], 18)
    for clip in (first, second):
        assert list(clip["maps"]) == ["motion", "appearance"]
        for one in clip["maps"].values():
            assert -1 <= one["cosine"] <= 1
            assert one["low"] <= one["high"]
            left, top, width, height = one["box"]
            assert 0 <= left < left + width <= 64
            assert 0 <= top < top + height <= 64
    assert size_of(here / "roi.png")[1] == 24 + 6 * 198 - 6
    alone = look("roi", "--weights", "runs/sp", "--count", 1, "--out", "sp.png", "--speed", 2, "--json", cwd=here).json
    (clip, _) = alone["videos"][0]["clips"]
    assert list(clip["maps"]) == ["appearance"]
    assert clip["frames"] == [0, 2, 4, 6]


def test_attention_has_a_column_for_each_pace_of_the_run_and_shows_last_frames(here: Path) -> None:
    found = look("attention", "--count", 1, "--out", "a.webp", "--json", cwd=here).json
    clips = found["videos"][0]["clips"]
    assert [clip["pace"] for clip in clips] == ["1", "2"]
    assert [clip["shown"] - clip["frames"][0] for clip in clips] == [3, 6]
    assert played(here / "a.webp") == 4
    words = ("attention", "--count", 1, "--paces", "1/2,4", "--json", "--out")
    given = look(*words, "a.webp", cwd=here).json
    assert [clip["frames"] for clip in given["videos"][0]["clips"]] == [[3, 3, 4, 4], [3, 7, 11, 15]]
    gif = look(*words, "a.gif", cwd=here)
    if cv2.haveImageWriter("a.gif"):
        assert played(here / "a.gif") == 4
    else:  # OpenCV 4.11
        assert (gif.returncode, "writes no GIF; choose .webp" in gif.stderr) == (2, True)


def test_activation_sets_several_networks_beside_each_other(here: Path) -> None:
    words = [word for name in ("prp", "dp", "gp", "pace") for word in ("--weights", f"runs/{name}")]
    found = look(
        "activation", *words, "--weights", "random:prp-tiny", "--count", 1, "--out", "b.jpg", "--json", cwd=here
    )
    maps = found.json["videos"][0]["maps"]
    assert [one["network"] for one in maps] == [
        "DG-P (w/ MA), prp", "DP, dp", "GP (w/o MA), gp", "pace", "DG-P (w/ MA), untrained prp-tiny",
    ]  # fmt: skip
    assert [one["frames"] for one in maps[:4]] == [[8, 9, 10, 11]] * 4
    assert size_of(here / "b.jpg")[1] == 24 + 6 * 166 - 6


def test_reconstruction_is_a_strip_where_nothing_moves_and_plays_in_a_page(here: Path) -> None:
    words = ("reconstruction", "--weights", "runs/prp", "--count", 1, "--speed", 4, "--json", "--out")
    found = look(*words, "c.png", cwd=here).json["videos"][0]
    assert [after - before for before, after in zip(found["target"], found["target"][1:], strict=False)] == [2.0] * 7
    assert found["seen"] == found["target"][::2]
    assert found["error"] > 0
    assert size_of(here / "c.png")[1] == 24 + 8 * 166 - 6
    assert look(*words, "c.html", cwd=here).json["out"] == ["c.html"]
    assert (here / "c.html").read_text().count('src="data:image/webp') == 1
    look(*words, "c.webp", cwd=here)
    assert played(here / "c.webp") == 8


def test_a_folder_gets_a_picture_of_each_video_and_no_name_a_new_one_in_results(here: Path) -> None:
    (here / "pictures").mkdir()
    words = ("reconstruction", "--weights", "runs/gp", "--count", 2)
    done = look(*words, "--out", "pictures", cwd=here)
    files = sorted(path.name for path in (here / "pictures").iterdir())
    assert done.stdout.split() == [f"pictures/{name}" for name in files]
    assert [name[:3] for name in files] == ["01-", "02-"]
    assert all(name.endswith("_c01.png") or "_c0" in name for name in files)
    for number in (1, 2):
        assert look(*words, cwd=here).stdout.split() == [f"results/look-reconstruction-{number}.png"]


def test_what_the_heads_of_a_run_cannot_show_is_said_in_one_sentence(here: Path) -> None:
    train(small("rspnet", here / "data_shards", "steps=1", "head=mlp"), here / "runs" / "mlp")
    for words, said in (
        (("roi", "--weights", "runs/mlp"), "head=mlp, and a similarity map exists only where one linear layer follows"),
        (("reconstruction", "--weights", "runs/dp"), "has branches=DP, which reconstructs nothing; name a run with"),
        (("reconstruction", "--weights", "runs/prp", "--speed", 3), "--speed is 3; the network was trained at 1, 2, 4"),
        (("roi", "--weights", "runs/rspnet", "--device", "nix"), "nix"),
        (
            ("attention", "--weights", "runs/pace", "size=1000000"),
            "one clip of frames=4 with size=1000000 needs at least",
        ),
    ):
        done = look(*words, "--count", 1, "--out", "none.png", cwd=here)
        assert (done.returncode, done.stdout) == (2, ""), words
        assert said in done.stderr
        assert done.stderr.splitlines()[-1].startswith("veval: ")
    assert not (here / "none.png").exists()


def test_neighbours_are_a_row_for_each_query_from_the_result_alone(here: Path) -> None:
    done = veval("retrieval", "--weights", "runs/pace", "clips=2", "--out", "r.json", cwd=here)
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads((here / "r.json").read_bytes())
    found = look(
        "neighbours", "r.json", "--order", "worst", "--neighbours", 3, "--out", "n.png", "--json", cwd=here
    ).json
    ranks = [video["first"] or 1000 for video in found["videos"]]
    assert ranks == sorted(ranks, reverse=True)
    query = next(video for video in result["videos"] if video["key"] == found["videos"][0]["key"])
    names = [result["gallery_videos"][number]["key"] for number in query["neighbours"][:3]]
    shown = found["videos"][0]["neighbours"]
    assert [one["key"] for one in shown] == names
    assert [one["correct"] for one in shown] == [one["class"] == found["videos"][0]["class"] for one in shown]
    assert size_of(here / "n.png")[1] == 24 + 4 * 182 - 6
    look("neighbours", "r.json", "--key", query["key"], "--out", "n.webp", cwd=here)
    assert played(here / "n.webp") == 12
    for words, said in (
        (("--key", "nix"), "the result has no query 'nix'"),
        (("--class", "nix"), "no query of the result is of class 'nix'"),
        (("--out", "n.txt"), "--out is 'n.txt'; it must end in .png"),
    ):
        refused = look("neighbours", "r.json", *words, cwd=here)
        assert (refused.returncode, said in refused.stderr) == (2, True), refused.stderr


def test_shards_in_a_store_are_opened_only_where_the_command_names_them(here: Path) -> None:
    result = json.loads((here / "r.json").read_text())
    result["data"]["shards"] = "s3://elsewhere/set"
    (here / "remote.json").write_text(json.dumps(result))
    refused = look("neighbours", "remote.json", "--out", "n.png", cwd=here)
    words = "the shards that the result names are in a store: s3://elsewhere/set; name them with --shards"
    assert (refused.returncode, refused.stderr) == (2, f"veval: {words}\n")


def test_the_same_command_writes_the_same_picture(here: Path) -> None:
    words = ("attention", "--weights", "random:pace-tiny", "--count", 1, "--seed", 3, "--out")
    first, again = ((look(*words, name, cwd=here), (here / name).read_bytes())[1] for name in ("1.png", "2.png"))
    assert first == again
    look(*words[:-2], 4, "--out", "3.png", cwd=here)
    assert not np.array_equal(cv2.imread(str(here / "1.png")), cv2.imread(str(here / "3.png")))
