"""Results by class: how often each is correct, what is taken for what, and which videos two results differ in."""

from typing import Any

import pytest
from results_on import bases, ucf101

from veval.results.by_class import confusion, difference, per_class, predictions
from vprep.errors import UsageError

Result = dict[str, Any]


def classified(pairs: str, kind: str = "linear", **changes: object) -> Result:
    """A result of videos v0, v1, ... whose true and predicted classes are the digits of the words in `pairs`."""
    videos = [
        {"key": f"v{number}", "label": int(pair[0]), "predicted": int(pair[1])}
        for number, pair in enumerate(pairs.split())
    ]
    return ucf101(kind, class_names=["jump", "<b>", "run"], videos={}) | {"videos": videos} | changes


def of_test(*pairs: tuple[str | None, str]) -> Result:
    rows = [{"key": f"v{number}", "class": true, "named": named} for number, (true, named) in enumerate(pairs)]
    return ucf101("test") | {"predictions": rows, "per_class": {"run": 50.0, "jump": 0.0}}


def test_each_prediction_has_the_names_of_its_classes() -> None:
    found = predictions(classified("00 12 21"))
    assert [(one.key, one.label, one.predicted, one.is_correct) for one in found] == [
        ("v0", "jump", "jump", True),
        ("v1", "<b>", "run", False),
        ("v2", "run", "<b>", False),
    ]
    older = classified("02", class_names=None)
    assert [(one.label, one.predicted) for one in predictions(older)] == [("class 0", "class 2")]


def test_accuracy_and_confusion_of_a_test_are_in_the_order_of_its_classes() -> None:
    found = of_test(("run", "run"), ("run", "jump"), ("jump", "run"), (None, "run"))
    assert [(one.name, one.videos, one.percent) for one in per_class(found)] == [("run", 2, 50), ("jump", 1, 0)]
    matrix = confusion(found)
    assert matrix is not None
    assert (matrix.classes, matrix.counts.tolist()) == (["run", "jump"], [[1, 1], [1, 0]])


def test_the_pairs_that_were_confused_most_often_come_first() -> None:
    matrix = confusion(classified("00 01 01 12 22 22 22"))
    assert matrix is not None
    assert matrix.worst() == [("jump", "<b>", 2), ("<b>", "run", 1)]
    assert matrix.worst(1) == [("jump", "<b>", 2)]


def test_retrieval_predicts_the_class_of_the_nearest_neighbour() -> None:
    found = bases()[0]
    assert {(one.label, one.predicted) for one in predictions(found)} == {("A", "B")}
    matrix = confusion(found)
    assert matrix is not None
    assert matrix.counts.tolist() == [[0, 4], [0, 0]]
    assert [(one.name, one.videos, one.percent) for one in per_class(found)] == [("A", 4, 25)]
    older = {name: value for name, value in found.items() if name not in ("keep", "gallery_videos", "class_names")}
    assert (predictions(older), confusion(older)) == ([], None)
    assert [(one.name, one.videos, one.percent) for one in per_class(older)] == [("class 0", 4, 25)]


def test_two_results_are_compared_on_the_videos_that_both_have() -> None:
    found = difference(classified("00 01 11 10 22"), classified("00 00 10 10"))
    assert (found.shared, found.gained, found.lost) == (4, ["v1"], ["v2"])
    rows = [(one.name, one.videos, one.first, one.second, one.points) for one in found.classes]
    assert rows == [("jump", 2, 50, 100, 50), ("<b>", 2, 50, 0, -50)]


def test_a_retrieval_and_a_classifier_can_be_compared() -> None:
    videos = [{"key": "v0", "label": 0, "first": 3}, {"key": "v1", "label": 2, "first": 1}]
    retrieved = ucf101("retrieval") | {"videos": videos, "class_names": ["jump", "<b>", "run"]}
    assert difference(retrieved, classified("00 01 22")).gained == ["v0"]


def test_results_without_a_video_in_common_are_refused() -> None:
    other = classified("00")
    other["videos"][0]["key"] = "elsewhere"
    with pytest.raises(UsageError, match="the two results list no videos in common"):
        difference(classified("00"), other)
