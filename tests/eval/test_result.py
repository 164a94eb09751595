"""A result is written completely or not at all, read strictly, and printed in a few lines."""

import json
from pathlib import Path
from typing import Any

import pytest

from veval.results import result
from vprep.errors import UsageError, WorkError

RESULT: dict[str, Any] = {
    "schema": 1,
    "kind": "retrieval",
    "protocol": {"name": "vcop", "clips": 10, "frames": 16, "crop_size": None},
    "weights": {
        "path": "runs/a",
        "hash": "0123456789abcdef",
        "method": "prp",
        "recipe": "prp-c3d-ucf101",
        "backbone": "c3d",
    },
    "data": {"shards": "data_shards/ucf", "hash": "ab", "name": "UCF101", "split": "train,test", "fold": 1},
    "top1": 23.456,
    "top10": 46.0,
    "top5": 38.0,
    "intervals": {"top1": [22.11, 24.89]},
    "queries": 3783,
    "gallery": 9537,
    "dropped": [],
    "videos": [{"key": "a", "label": 0, "first": 1}, {"key": "b", "label": 1, "first": 7}],
}


def test_a_written_result_is_read_back(tmp_path: Path) -> None:
    result.write(tmp_path / "r.json", RESULT)
    assert result.read(tmp_path / "r.json") == RESULT


def test_a_file_has_one_line_for_each_video(tmp_path: Path) -> None:
    result.write(tmp_path / "r.json", RESULT)
    assert (
        (tmp_path / "r.json")
        .read_text()
        .endswith(
            ' "videos": [\n  {"key": "a", "label": 0, "first": 1},\n  {"key": "b", "label": 1, "first": 7}\n ]\n}\n'
        )
    )
    assert '\n "kind": "retrieval",\n' in (tmp_path / "r.json").read_text()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_and_infinity_are_not_written(value: float, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text("the one before")
    with pytest.raises(WorkError) as error:
        result.write(path, RESULT | {"intervals": {"top1": [1.0, value]}})
    assert str(error.value) == (
        f"intervals.top1[1] of the result is {value}, which is not a number; {path} was not written"
    )
    assert path.read_text() == "the one before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("[1]", "is not a result: it is not a JSON object"),
        ("{}", "is not a result: its schema is None, and this veval reads 1"),
        ({"schema": 2}, "is not a result: its schema is 2, and this veval reads 1"),
        (
            {"kind": "training"},
            "is not a result: its kind is 'training'; there are finetune, test, retrieval, linear, knn",
        ),
        ({"weights": "c3d"}, "is not a result: it has no weights"),
        ({"protocol": {"clips": [10]}}, "is not a result: its protocol is not flat"),
        ({"top1": None}, "is not a result: its top1 is None, which is not a percentage"),
        ({"top5": 170.0}, "is not a result: its top5 is 170.0, which is not a percentage"),
        ({"intervals": {"top1": [1]}}, "is not a result: its intervals are not two percentages each"),
        ({"dropped": 3}, "is not a result: its dropped is not a list of videos"),
        (
            {"videos": [{"key": "a"}]},
            "is not a result: not all of its videos have a key, and label and predicted, hit, or first",
        ),
        ('{"top1": NaN}', "is not JSON (NaN is not a number)"),
        ("{", "is not JSON (Expecting property name enclosed in double quotes: line 1 column 2 (char 1))"),
    ],
)
def test_files_that_are_not_results_are_refused_in_one_sentence(
    text: str | dict[str, Any], what: str, tmp_path: Path
) -> None:
    path = tmp_path / "r.json"
    path.write_text(text if isinstance(text, str) else json.dumps(RESULT | text))
    with pytest.raises(UsageError) as error:
        result.read(path)
    assert str(error.value) == f"{path} {what}; name results of veval"


def test_files_that_are_missing_or_unreadable_are_refused_in_one_sentence(tmp_path: Path) -> None:
    for path, what in (
        (tmp_path / "no.json", f"there is no {tmp_path}/no.json; name"),
        (tmp_path, f"{tmp_path} is a "),
    ):
        with pytest.raises(UsageError) as error:
            result.read(path)
        assert str(error.value).startswith(what)
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(UsageError):
        result.read(tmp_path / "deep.json")
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError):
        result.read(tmp_path / "bytes.json")


def test_hits_are_read_from_the_entry_of_each_video() -> None:
    assert result.hits(RESULT, "top1") == {"a": 1, "b": 0}
    assert result.hits(RESULT, "top10") == {"a": 1, "b": 1}
    of_clips = {"videos": [{"key": "a", "label": 0, "first": [1, 4, 0, 9]}]}
    assert result.hits(of_clips, "top5") == {"a": 0.5}
    classified = {"videos": [{"key": "a", "label": 0, "predicted": 0}, {"key": "b", "label": 3, "predicted": 0}]}
    assert result.hits(classified) == {"a": 1, "b": 0}
    assert result.hits(classified, "top5") is None
    assert result.hits({"videos": [{"key": "a", "hit": 0.5}]}) == {"a": 0.5}
    tested = {"videos": 2, "predictions": [{"key": "a", "class": "x", "named": "y"}, {"key": "b", "class": None}]}
    tested["predictions"][1]["named"] = "x"
    assert result.hits(tested) == {"a": 0}
    assert result.hits({"videos": 12}) is None


def test_a_result_is_printed_with_its_numbers_first() -> None:
    assert result.described(RESULT) == (
        "top1   23.46 %  [22.11, 24.89]\n"
        "top5   38.00 %\n"
        "top10  46.00 %\n"
        "of        queries 3783, gallery 9537\n"
        "weights   prp, prp-c3d-ucf101, c3d, 01234567 (runs/a)\n"
        "data      UCF101, train,test, fold 1 (data_shards/ucf)\n"
        "protocol  name vcop, clips 10, frames 16\n"
        "dropped   none"
    )
    dropped = result.described(RESULT | {"dropped": [{"key": "a", "what": "is cut off"}, *"bcdefg"]})
    assert dropped.splitlines()[-1] == "dropped   7 videos: a, b, c, d, e and 2 more"


def test_versions_name_what_numbers_depend_on() -> None:
    found = result.versions()
    assert {"python", "torch", "numpy", "webdataset", "playspeed"} <= set(found)
    assert all(isinstance(value, str) for value in found.values())
