"""Progress with the time that is left, and the words before and after the work."""

from pathlib import Path

import pytest

from veval import output
from veval.evaluation import WeightsInfo
from veval.inputs import random_weights
from veval.protocol import crop_note, preset
from vprep import progress


def test_a_log_has_a_line_now_and_then_with_the_time_that_is_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    work = output.Work()
    work.begin("tested videos")
    for done in (1, 2, 4):
        work.progress(done, 4)
    assert capsys.readouterr().err == ""  # nothing took ten seconds
    monkeypatch.setattr(progress, "EVERY", 0.0)
    work.begin("searched queries")
    for done in (5, 10, 20):
        work.progress(done, 20)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(", ")[0] for line in lines] == [f"searched queries {done}/20" for done in (5, 10, 20)]
    assert lines[1].endswith(" left")
    assert lines[2].endswith(", 0:00 left")
    work.progress(3, 4)  # of other work, which begins at its start
    assert capsys.readouterr().err.startswith("searched queries 3/4")
    work.close()


def test_random_weights_are_called_by_their_recipe() -> None:
    like = WeightsInfo(path="x", hash="", backbone="tiny", dim=0, method="pace", recipe="small pace")
    info = random_weights(None, 0, like).info
    assert info.word == "random:small pace"
    assert info.as_dict()["like_recipe"] == "small pace"
    assert output.short_name(Path(info.path), info.like_recipe) == "random-small-pace"
    assert random_weights("tiny", 0).info.word == "random"


@pytest.mark.parametrize(
    ("name", "crop", "side", "note"),
    [
        ("ascnet-ten", None, 128, ""),
        ("ascnet-ten", None, None, ""),
        (
            "ascnet-ten",
            None,
            256,
            "crops of 112 pixels cover 44% of the shorter side of these frames, 256, where the protocol means 88% of "
            "128; for the same share write test.crop_size=224",
        ),
        ("vcop", None, 240, "crops of 112 pixels cover 47% of the shorter side of these frames, 240, where"),
        ("vcop", 112, 240, ""),  # as in the training of the weights
        ("rspnet", None, 256, ""),  # the largest square
    ],
)
def test_a_crop_that_was_made_for_small_frames_is_noted_on_larger_ones(
    name: str, crop: int | None, side: int | None, note: str
) -> None:
    weights = WeightsInfo(path="x", hash="", backbone="tiny", dim=0, crop=crop)
    found = crop_note(preset("testing", name), weights, side, "test.")
    assert (found[: len(note)], bool(found)) == (note, bool(note))
