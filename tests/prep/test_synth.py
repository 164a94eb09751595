"""Synthetic videos in the layout of UCF101."""

from pathlib import Path

import cv2
import pytest

from vprep import layouts
from vprep.errors import UsageError, WorkError
from vprep.synth import synth

SMALL = {"classes": 2, "per_class": 8, "seconds": 1.0}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synth") / "videos"
    synth(out, **SMALL)
    return out


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def listed(folder: Path, name: str) -> list[str]:
    return (folder / "ucfTrainTestlist" / name).read_text().splitlines()


def decoded(path: Path) -> tuple[float, int, tuple[int, ...]]:
    """Return rate, frames and size, from decoding the entire file."""
    film = cv2.VideoCapture(str(path))
    frames = []
    while (read := film.read())[0]:
        frames.append(read[1])
    return film.get(cv2.CAP_PROP_FPS), len(frames), frames[0].shape


def test_the_same_seed_gives_the_same_bytes(made: Path, tmp_path: Path) -> None:
    synth(tmp_path / "again", **SMALL, workers=1)
    assert contents(tmp_path / "again") == contents(made)


def test_another_seed_gives_other_videos_and_the_same_lists(made: Path, tmp_path: Path) -> None:
    synth(tmp_path / "other", **SMALL, seed=1)
    before, after = contents(made), contents(tmp_path / "other")
    assert before.keys() == after.keys()
    same = {name for name in before if before[name] == after[name]}
    assert same == {name for name in before if name.endswith(".txt")}


def test_more_classes_do_not_change_the_videos_of_the_others(made: Path, tmp_path: Path) -> None:
    synth(tmp_path / "more", **SMALL | {"classes": 3})
    videos = {name: data for name, data in contents(made).items() if name.endswith(".mp4")}
    assert videos.items() < contents(tmp_path / "more").items()


def test_the_result_matches_the_files(made: Path) -> None:
    info = synth(made, **SMALL)
    files = list(made.rglob("*.mp4"))
    assert info == {
        "videos": len(files),
        "classes": ["DiscFalls", "SquareSlidesRight"],
        "seconds": pytest.approx(16.0, abs=0.1),  # 12.5 frames are rounded
        "bytes": sum(path.stat().st_size for path in files),
        "out": str(made),
    }


def test_the_layout_is_recognised_as_ucf101_with_nothing_missing(made: Path) -> None:
    listing = layouts.read(made)
    assert listing.layout == "ucf101"
    assert listing.classes == ["DiscFalls", "SquareSlidesRight"]
    assert (len(listing.entries), listing.missing, listing.unlisted) == (16, [], [])
    assert all(entry.label is not None and None not in entry.splits for entry in listing.entries)


@pytest.mark.parametrize("split", [1, 2, 3])
def test_a_group_is_never_in_train_and_in_test_of_a_split(made: Path, split: int) -> None:
    train, test = listed(made, f"trainlist0{split}.txt"), listed(made, f"testlist0{split}.txt")
    groups = [{line.split("_g")[1][:2] for line in lines} for lines in (train, test)]
    assert groups[0].isdisjoint(groups[1])
    assert (len(train), len(test)) == (12, 4)


def test_no_group_is_the_test_group_of_two_splits(made: Path) -> None:
    tests = [line for split in (1, 2, 3) for line in listed(made, f"testlist0{split}.txt")]
    assert len(set(tests)) == len(tests) == 12


def test_the_lists_have_the_form_of_ucf101(made: Path) -> None:
    assert listed(made, "classInd.txt") == ["1 DiscFalls", "2 SquareSlidesRight"]
    assert listed(made, "trainlist01.txt")[-1] == "SquareSlidesRight/v_SquareSlidesRight_g04_c02.mp4 2"
    assert listed(made, "testlist01.txt")[0] == "DiscFalls/v_DiscFalls_g01_c01.mp4"


@pytest.mark.parametrize(
    ("name", "rate", "frames"), [("g01_c01", 25.0, 25), ("g02_c02", 30.0, 30), ("g04_c02", 12.5, 12)]
)
def test_videos_decode_at_three_rates(made: Path, name: str, rate: float, frames: int) -> None:
    assert decoded(made / "DiscFalls" / f"v_DiscFalls_{name}.mp4") == (rate, frames, (120, 160, 3))


def test_the_same_settings_again_make_only_what_is_missing(made: Path) -> None:
    before = contents(made)
    lost, kept = (made / "DiscFalls" / f"v_DiscFalls_g01_c0{clip}.mp4" for clip in (1, 2))
    lost.unlink()
    written = kept.stat().st_mtime_ns
    synth(made, **SMALL)
    assert contents(made) == before
    assert kept.stat().st_mtime_ns == written


def test_a_folder_with_other_files_is_refused_and_not_changed(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(UsageError) as error:
        synth(tmp_path, **SMALL)
    said = f"{tmp_path} holds 'thesis.tex', which synth did not make; choose an empty folder for --out"
    assert str(error.value) == said
    assert contents(tmp_path) == {"thesis.tex": b"mine"}


def test_a_full_disk_ends_the_work_and_leaves_no_partial_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vprep.synth.encode", refuse)
    with pytest.raises(WorkError) as error:
        synth(tmp_path, **SMALL)
    assert (
        str(error.value) == f"{tmp_path}: no space left on device; fix that and run the same command again to continue"
    )
    assert contents(tmp_path).keys() == {".synth.json"}


def test_other_settings_for_an_existing_folder_are_refused(made: Path) -> None:
    with pytest.raises(UsageError) as error:
        synth(made, **SMALL | {"per_class": 12})
    assert str(error.value) == (
        f"{made} was made with --per-class 8, and this command has --per-class 12; choose another --out"
    )


def test_a_file_in_place_of_the_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError) as error:
        synth(tmp_path / "file", **SMALL)
    assert str(error.value) == f"cannot write to {tmp_path / 'file'}: not a directory; choose another --out"


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"classes": 1}, "--classes is 1; it must be from 2 to 16"),
        ({"classes": 17}, "--classes is 17; it must be from 2 to 16"),
        ({"per_class": 3}, "--per-class is 3; it must be from 4 to 1000"),
        ({"seconds": 0.0}, "--seconds is 0; it must be from 0.2 to 60"),
        ({"seed": -1}, "--seed is -1; it must be from 0 to 4294967295"),
    ],
)
def test_settings_out_of_range_are_refused_before_anything_is_written(
    tmp_path: Path, asked: dict[str, int], message: str
) -> None:
    with pytest.raises(UsageError) as error:
        synth(tmp_path / "out", **asked)
    assert str(error.value) == message
    assert not (tmp_path / "out").exists()
