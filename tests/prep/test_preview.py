"""`vprep show`: one stored video as a contact sheet or as a video."""

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from cv2.typing import MatLike

from vprep.errors import UsageError, WorkError
from vprep.preview import show

MakeSet = Callable[..., Path]
KEY = "v_Run_g01_c01"  # 50 frames of 32x48; frame i is grey with level 5 i


def film(path: Path) -> list[MatLike]:
    reader = cv2.VideoCapture(str(path))
    frames = []
    while (read := reader.read())[0]:
        frames.append(read[1])
    return frames


def top_left_of_tiles(picture: MatLike, columns: int) -> list[int]:
    """Return the grey level near the upper left corner of each tile: 150 x 100, 6 apart, below a caption of 72."""
    rows = (picture.shape[0] - 72) // 106
    return [int(picture[72 + 6 + 106 * y + 20, 6 + 156 * x + 20].mean()) for y in range(rows) for x in range(columns)]


@pytest.mark.parametrize("ending", ["png", "jpg", "JPEG"])
def test_a_sheet_shows_twenty_frames_from_the_first_to_the_last(small_set: Path, tmp_path: Path, ending: str) -> None:
    out = tmp_path / f"sheet.{ending}"
    info = show(small_set, KEY, out)
    picture = cv2.imdecode(np.frombuffer(out.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    levels = top_left_of_tiles(picture, 5)
    expected = [5 * round(place * 49 / 19) for place in range(20)]
    assert np.abs(np.subtract(levels, expected)).max() <= 3
    assert info["shown"] == 20


def test_a_sheet_of_a_short_video_shows_every_frame(small_set: Path, tmp_path: Path) -> None:
    assert show(small_set, "nameless", tmp_path / "sheet.png")["shown"] == 6


def test_the_result_describes_the_video_and_the_file(small_set: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "sheet.png"
    assert show(small_set, KEY, out) == {
        "key": KEY,
        "shard": "000.tar",
        "source": f"{KEY}.mp4",
        "class_name": "Run",
        "label": 0,
        "frames": 50,
        "fps": 25.0,
        "damaged": 3,
        "shown": 20,
        "out": str(out),
        "bytes": out.stat().st_size,
    }


def test_an_mp4_plays_every_frame_at_the_stored_rate(small_set: Path, tmp_path: Path) -> None:
    show(small_set, KEY, tmp_path / "film.mp4")
    levels = [int(frame.mean()) for frame in film(tmp_path / "film.mp4")]
    assert np.abs(np.subtract(levels, [5 * number for number in range(50)])).max() <= 3
    assert cv2.VideoCapture(str(tmp_path / "film.mp4")).get(cv2.CAP_PROP_FPS) == 25.0


def test_a_gif_plays_every_frame(small_set: Path, tmp_path: Path) -> None:
    show(small_set, KEY, tmp_path / "film.gif")
    assert (tmp_path / "film.gif").read_bytes().startswith(b"GIF89a")
    assert len(film(tmp_path / "film.gif")) == 50


def test_a_caption_without_ascii_letters_is_written_as_far_as_possible(make_set: MakeSet, tmp_path: Path) -> None:
    folder = make_set(
        tmp_path / "set", [{"key": "a", "class_name": "Café 走る"}, {"key": "b", "class_name": "Cafe ??"}]
    )
    show(folder, "a", tmp_path / "a.png")
    show(folder, "b", tmp_path / "b.png")
    pictures = [cv2.imdecode(np.frombuffer((tmp_path / name).read_bytes(), np.uint8), 1) for name in ("a.png", "b.png")]
    line_of_the_class = slice(22, 44)
    assert pictures[0] is not None
    assert pictures[1] is not None
    classes = [picture[line_of_the_class, :75] for picture in pictures if picture is not None]
    assert np.array_equal(*classes)


def test_the_sheet_shows_the_other_frames_when_one_is_damaged(make_set: MakeSet, tmp_path: Path) -> None:
    folder = make_set(tmp_path / "set", [{"key": "a", "frames": 4}])
    tar = folder / "000.tar"
    tar.write_bytes(tar.read_bytes().replace(b"\xff\xd8\xff", b"\x00\x00\x00", 1))
    assert show(folder, "a", tmp_path / "sheet.png")["shown"] == 4


def test_a_truncated_shard_is_an_error(make_set: MakeSet, tmp_path: Path) -> None:
    folder = make_set(tmp_path / "set", [{"key": "a", "frames": 4}])
    tar = folder / "000.tar"
    tar.write_bytes(tar.read_bytes()[:2000])
    with pytest.raises(WorkError) as error:
        show(folder, "a", tmp_path / "sheet.png")
    assert str(error.value) == f"{tar}, video 'a': cut off; vprep verify {folder} lists what is damaged"
    assert not (tmp_path / "sheet.png").exists()


def test_a_missing_shard_is_an_error(make_set: MakeSet, tmp_path: Path) -> None:
    folder = make_set(tmp_path / "set", [{"key": "a"}])
    (folder / "000.tar").unlink()
    with pytest.raises(WorkError) as error:
        show(folder, "a", tmp_path / "sheet.png")
    assert str(error.value) == (
        f"{folder / '000.tar'} cannot be read (no such file or directory); vprep verify {folder} lists what is damaged"
    )


@pytest.mark.parametrize(
    ("key", "close"),
    [
        ("v_Run_g01_c02", "; close to it: 'v_Run_g01_c01', 'v_Walk_g01_c01'"),
        ("Walk", "; close to it: 'v_Walk_g01_c01'"),
        ("xyz", ""),
    ],
)
def test_an_unknown_key_is_an_error_with_the_keys_close_to_it(
    small_set: Path, tmp_path: Path, key: str, close: str
) -> None:
    with pytest.raises(UsageError) as error:
        show(small_set, key, tmp_path / "sheet.png")
    assert str(error.value) == f"no video '{key}' in {small_set}{close}"


def test_an_unknown_ending_is_an_error_with_the_known_ones(small_set: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        show(small_set, KEY, tmp_path / "sheet.bmp")
    assert str(error.value) == "--out is 'sheet.bmp'; it must end in one of .png, .jpg, .jpeg, .mp4, .gif, .webp"


@pytest.mark.parametrize("name", ["sheet.png", "film.mp4"])
def test_an_existing_file_is_kept_when_writing_fails(
    small_set: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / name).write_bytes(b"old")

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(UsageError) as error:
        show(small_set, KEY, tmp_path / name)
    assert str(error.value) == f"cannot write to {tmp_path / name}: no space left on device; choose another --out"
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [(name, b"old")]


def test_a_folder_without_a_set_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        show(tmp_path, KEY, tmp_path / "sheet.png")
    assert str(error.value) == f"no set in {tmp_path}; one is made with: vprep shard VIDEOS --out {tmp_path}"


def test_a_missing_index_is_an_error(small_set: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(small_set, tmp_path / "set"))
    (folder / "index.parquet").unlink()
    with pytest.raises(UsageError) as error:
        show(folder, KEY, tmp_path / "sheet.png")
    assert str(error.value) == f"{folder / 'index.parquet'} is missing; make it again with: vprep index {folder}"


def test_a_damaged_index_is_an_error(small_set: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(small_set, tmp_path / "set"))
    (folder / "index.parquet").write_bytes(b"PAR1 and nothing more")
    with pytest.raises(UsageError) as error:
        show(folder, KEY, tmp_path / "sheet.png")
    assert str(error.value).startswith(f"{folder / 'index.parquet'} cannot be read (")
    assert str(error.value).endswith(f"); make it again with: vprep index {folder}")
