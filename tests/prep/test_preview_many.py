"""`vprep show` for several videos: a row for each in a sheet, or all side by side in one video."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from subprocess import CompletedProcess

import cv2
import numpy as np
import pytest

from vprep.errors import UsageError
from vprep.index_rows import with_keys
from vprep.preview import show
from vprep.preview_many import Chosen, as_text, choose, show_many

MakeSet = Callable[..., Path]
WALK, RUN = "v_Walk_g01_c01", "v_Run_g01_c01"  # 40 and 50 frames of 32x48; frame i is grey with level 5 i
BAND = 28  # pixels of a caption


def film(path: Path) -> list[np.ndarray]:
    reader = cv2.VideoCapture(str(path))
    frames = []
    while (read := reader.read())[0]:
        frames.append(read[1])
    return frames


def test_a_sheet_has_a_row_of_frames_for_each_video_in_the_order_of_the_keys(small_set: Path, tmp_path: Path) -> None:
    info = show_many(small_set, Chosen(keys=[RUN, "nameless"], of=2), tmp_path / "sheet.png")
    picture = cv2.imread(str(tmp_path / "sheet.png"))
    assert picture is not None
    assert picture.shape[0] == 2 * (BAND + 102)
    levels = [[int(picture[row, 6 + 134 * place + 64].mean()) for place in range(8)] for row in (BAND + 48, BAND + 178)]
    expected = [[5 * round(place * 49 / 7) for place in range(8)], [0, 5, 10, 15, 20, 25, 32, 32]]
    assert np.abs(np.subtract(levels, expected)).max() <= 3
    assert [video["key"] for video in info["videos"]] == [RUN, "nameless"]
    assert info["bytes"] == (tmp_path / "sheet.png").stat().st_size


def test_videos_play_side_by_side_and_a_shorter_one_stands_at_its_end(small_set: Path, tmp_path: Path) -> None:
    show_many(small_set, Chosen(keys=[WALK, RUN], of=2), tmp_path / "film.mp4")
    frames = film(tmp_path / "film.mp4")
    assert len(frames) == 50
    middles = [(int(frame[BAND + 48, 70].mean()), int(frame[BAND + 48, 204].mean())) for frame in frames]
    expected = [(5 * min(39, number), 5 * number) for number in range(50)]
    assert np.abs(np.subtract(middles, expected)).max() <= 6


def test_of_long_videos_the_beginning_plays(small_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vprep.preview_many.MOST_FRAMES", 20)
    info = show_many(small_set, Chosen(keys=[WALK, RUN], of=2), tmp_path / "film.mp4")
    assert len(film(tmp_path / "film.mp4")) == 20
    assert as_text(info) == f"{tmp_path / 'film.mp4'}: 2 videos, their first 0.8 s"


@pytest.mark.parametrize("ending", ["gif", "webp"])
def test_other_endings_play_too(small_set: Path, tmp_path: Path, ending: str) -> None:
    out = tmp_path / f"film.{ending}"
    show_many(small_set, Chosen(keys=["nameless", WALK], of=2), out)
    assert out.read_bytes()[:4] in (b"GIF8", b"RIFF")
    done, found = cv2.imreadanimation(str(out))
    assert done
    assert len(found.frames) in (40, 41)


def test_a_webp_of_one_video_takes_its_time(small_set: Path, tmp_path: Path) -> None:
    show(small_set, WALK, tmp_path / "film.webp")
    done, found = cv2.imreadanimation(str(tmp_path / "film.webp"))
    assert done
    assert len(found.frames) > 10  # the encoder leaves out frames that nobody can tell from those before
    assert sum(found.durations) == 1600


def test_a_class_is_shown_by_its_first_videos(make_set: MakeSet, tmp_path: Path) -> None:
    videos = [{"key": f"k{number:02}", "class_name": "a" if number % 2 else "b"} for number in range(40)]
    folder = make_set(tmp_path / "set", videos)
    chosen = choose(folder, [], "a", None, tmp_path / "a.mp4")
    assert chosen == Chosen(keys=[f"k{number:02}" for number in range(1, 32, 2)], of=20)


def test_keys_come_from_a_file(small_set: Path, tmp_path: Path) -> None:
    (tmp_path / "keys.txt").write_text(f"{WALK}\n\n  {RUN}\n{WALK}\n")
    assert choose(small_set, [], None, tmp_path / "keys.txt", Path("a.png")) == Chosen(keys=[WALK, RUN], of=2)


def test_rows_of_keys_are_found_in_all_groups(small_set: Path) -> None:
    assert [row["key"] for row in with_keys(small_set, ["nameless", WALK, "missing"])] == [WALK, "nameless"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([WALK, "v_Run"], "no video 'v_Run' in SET; close to it: 'v_Run_g01_c01'"),
        (["x" * 9000], f"no video '{'x' * 200}' in SET"),
        (["--class", "run"], "no video of class 'run' in SET; close to it: 'Run'"),
        (["--class", "Run", WALK], "KEY and --class both name videos; use one of them"),
        (["--keys", "none.txt"],
         "--keys none.txt cannot be read (no such file or directory); name a text file with one key a line"),
        (["--keys", "empty.txt"], "--keys empty.txt holds no key; write one a line"),
        (["--keys", "bytes.txt"], "--keys bytes.txt cannot be read (it is not UTF-8); name a text file with one key a "
         "line"),
        ([*map(str, range(51))], "51 videos are named; a contact sheet shows at most 50: name fewer"),
        ([*map(str, range(17)), "--out", "a.gif"], "17 videos are named; a video shows at most 16: name fewer"),
        ([WALK, RUN, "--out", "a.bmp"], "--out is 'a.bmp'; it must end in one of .png, .jpg, .jpeg, .mp4, .gif, .webp"),
    ],
)  # fmt: skip
def test_what_cannot_be_shown_is_said_in_one_sentence(
    small_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").write_text("\n")
    (tmp_path / "bytes.txt").write_bytes(b"\xff\xfe")
    pairs = list(pairwise(["", *words]))
    options = {before: word for before, word in pairs if before.startswith("--")}
    keys = [word for before, word in pairs if not (word + before).startswith("--") and before not in options]
    out = Path(options.get("--out", "sheet.png"))
    file = Path(options["--keys"]) if "--keys" in options else None
    with pytest.raises(UsageError) as error:
        show_many(small_set, choose(small_set, keys, options.get("--class"), file, out) or Chosen(keys=keys, of=1), out)
    assert str(error.value) == said.replace("SET", str(small_set))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bytes.txt", "empty.txt"]


def test_a_video_without_frames_among_others_is_refused(make_set: MakeSet, tmp_path: Path) -> None:
    folder = make_set(tmp_path / "set", [{"key": "a"}, {"key": "b", "frames": 0}])
    with pytest.raises(UsageError) as error:
        show_many(folder, Chosen(keys=["a", "b"], of=2), tmp_path / "sheet.png")
    assert str(error.value) == f"video 'b' in {folder} has no frames; leave it out"


def test_the_command_takes_keys_and_a_class(
    small_set: Path, tmp_path: Path, run_vprep: Callable[..., CompletedProcess[str]]
) -> None:
    out = tmp_path / "sheet.png"
    done = run_vprep("show", small_set, RUN, WALK, "--out", out)
    assert (done.returncode, done.stdout) == (0, f"{out}: 2 videos\n")
    done = run_vprep("show", small_set, "--class", "Run", "--out", out, "--json")
    found = json.loads(done.stdout)
    assert ([video["key"] for video in found["videos"]], found["of"]) == ([RUN], 1)
