"""Accuracy on videos: a network that sees the class is always correct, outputs are fused as the protocol says, and
unreadable videos are left out."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor, nn

from veval import inputs
from veval.evaluation import Classifier, Evaluation, Execution, WeightsInfo
from veval.protocol import Protocol, for_weights
from veval.tasks import video_accuracy
from vprep.errors import UsageError, WorkError

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")

CLASSES = ["a dark", "b grey", "c white"]
INFO = WeightsInfo(path="w", hash="x", method="supervised", backbone="tiny", dim=128)
SMALL = Protocol(clips=3, size=16, normalise="unit")


class Oracle(nn.Module):
    """Predicts the class with the nearest mean of all pixels; in `grey` these are 60 of 219 levels of light apart."""

    def forward(self, clips: Tensor) -> Tensor:
        light = clips.mean((1, 2, 3, 4))
        levels = torch.tensor([(40 + 60 * label - 16) / 219 for label in range(3)])
        return -1000 * (light[:, None] - levels).abs()


def measured(
    shards: Path, net: nn.Module, protocol: Protocol = SMALL, logits: Path | None = None, **execution: Any,  # noqa: ANN401
) -> dict[str, Any]:  # fmt: skip
    evaluation = Evaluation(
        network=Classifier(net, INFO, CLASSES),
        data=inputs.open_data(str(shards), None),
        protocol=protocol,
        execution=Execution(**execution),
    )
    found = video_accuracy.measure(evaluation, logits)
    assert found is not None
    return found


@pytest.mark.parametrize("crop", ["crop=centre", "crop=three", "crop=ten crop_size=20"])
@pytest.mark.parametrize("fusion", ["logits", "softmax"])
def test_a_network_that_sees_the_class_is_correct_about_every_video(grey: Path, crop: str, fusion: str) -> None:
    protocol = for_weights("testing", INFO, words=["size=16", "normalise=unit", *crop.split(), f"fusion={fusion}"])
    found = measured(grey, Oracle(), protocol)  # 3 of the 9 videos are shorter than a clip
    assert (found["top1"], found["top5"], found["videos"], found["unlabelled"]) == (100, 100, 9, 0)
    assert found["per_class"] == dict.fromkeys(CLASSES, 100)
    assert found["confusion"] == [[3, 0, 0], [0, 3, 0], [0, 0, 3]]
    assert all(one["class"] == one["named"] for one in found["predictions"])
    assert found["dropped"] == []


@pytest.mark.parametrize("how", [{"batch": 1}, {"batch": 9, "workers": 1}])
def test_batch_and_workers_change_nothing(grey: Path, how: dict[str, Any]) -> None:
    assert measured(grey, Oracle(), **how) == measured(grey, Oracle(), batch=4)


class Always(nn.Module):
    """Has the same logits for every clip."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, clips: Tensor) -> Tensor:
        return torch.tensor([self.logits]).expand(len(clips), -1)


def test_a_network_with_constant_outputs_is_correct_about_one_class(grey: Path) -> None:
    found = measured(grey, Always(0.0, 2.0, 1.0))
    assert found["top1"] == pytest.approx(100 / 3)
    assert found["per_class"] == {"a dark": 0, "b grey": 100, "c white": 0}
    assert found["confusion"] == [[0, 3, 0], [0, 3, 0], [0, 3, 0]]
    equal = measured(grey, Always(1.0, 1.0, 1.0))  # then the first class is predicted
    assert equal["confusion"] == [[3, 0, 0], [3, 0, 0], [3, 0, 0]]
    assert equal["top1"] == pytest.approx(100 / 3)


def test_logits_and_probabilities_are_fused_differently() -> None:
    # Two clips of a video: logits 5, 0, 3 and 0, 3, 3. Their means are 2.5, 1.5, 3: the third class.
    # Probabilities 0.8756, 0.0059, 0.1185 and 0.0243, 0.4879, 0.4879: the first.
    clips = torch.tensor([[[5.0, 0.0, 3.0], [0.0, 3.0, 3.0]]])
    predictions = video_accuracy.predict(["v"], video_accuracy.np.array([0]), clips)
    assert video_accuracy.fuse(clips, "logits").tolist() == [[2.5, 1.5, 3.0]]
    assert video_accuracy.fuse(clips, "softmax")[0].tolist() == pytest.approx([0.44995, 0.24688, 0.30318], abs=1e-4)
    assert {name: one.tolist() for name, one in predictions.predicted.items()} == {"logits": [2], "softmax": [0]}
    assert {name: one.tolist() for name, one in predictions.rank.items()} == {"logits": [1], "softmax": [0]}


def test_a_test_has_both_fusions_and_the_protocol_says_which_one_counts(grey: Path) -> None:
    for fusion in ("logits", "softmax"):
        found = measured(grey, Always(0.0, 2.0, 1.0), replace(SMALL, fusion=fusion))  # type: ignore[arg-type]
        assert set(found["fusions"]) == {"logits", "softmax"}
        assert found["top1"] == found["fusions"][fusion]["top1"]


def test_the_true_class_may_be_among_the_first_five() -> None:
    logits = torch.arange(8.0).flip(0).expand(8, 1, 8)  # class 0 ranks first, then 1, ...
    label = video_accuracy.np.arange(8)
    predictions = video_accuracy.predict([f"v{n}" for n in range(8)], label, logits)
    found = video_accuracy.scores([predictions], list("abcdefgh"), "logits")
    assert (found["top1"], found["top5"]) == (12.5, 62.5)


def test_videos_without_a_label_are_listed_and_not_counted() -> None:
    predictions = video_accuracy.predict(
        ["u", "v"], video_accuracy.np.array([-1, 1]), torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]])
    )
    found = video_accuracy.scores([predictions], ["a", "b"], "logits")
    assert (found["top1"], found["videos"], found["unlabelled"]) == (100, 1, 1)
    assert found["predictions"][0] == {"key": "u", "class": None, "named": "a"}
    assert found["per_class"] == {"a": None, "b": 100}
    with pytest.raises(WorkError, match="no video with a label could be read"):
        video_accuracy.scores(
            [video_accuracy.predict(["u"], video_accuracy.np.array([-1]), torch.zeros(1, 1, 2))], ["a", "b"], "logits"
        )


def test_through_a_file_of_logits_the_numbers_are_the_same(grey: Path, tmp_path: Path) -> None:
    logits = tmp_path / "logits.parquet"
    alone = measured(grey, Oracle())
    assert measured(grey, Oracle(), logits=logits) == alone
    assert measured(grey, Always(0.0, 0.0, 0.0), logits=logits) == alone  # nothing is computed again
    softly = replace(SMALL, fusion="softmax")
    assert measured(grey, Always(0.0, 0.0, 0.0), softly, logits=logits)["top1"] == alone["fusions"]["softmax"]["top1"]
    with pytest.raises(UsageError, match="was made with protocol clips 3, not 4"):
        measured(grey, Oracle(), replace(SMALL, clips=4), logits=logits)


def test_several_processes_need_a_file(grey: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        measured(grey, Oracle(), world=2, rank=0)
    assert str(error.value) == "2 processes share a test through a file; name one with --logits FILE.parquet"


def test_a_video_that_cannot_be_read_is_listed_and_not_replaced(grey: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "shards"
    shutil.copytree(grey, damaged)
    row = pq.read_table(grey / "index.parquet").to_pylist()[4]
    with (damaged / row["shard"]).open("r+b") as file:
        file.seek(row["offset"] + 2)
        file.write(bytes(row["size"] - 2))
    with pytest.raises(WorkError, match=f"video '{row['key']}'"):
        measured(damaged, Oracle())
    for logits in (None, tmp_path / "logits.npz"):
        found = measured(damaged, Oracle(), on_error="skip", logits=logits)
        (dropped,) = found["dropped"]
        assert (dropped["key"], dropped["shard"]) == (row["key"], row["shard"])
        assert (found["videos"], len(found["predictions"])) == (8, 8)
        assert row["key"] not in {one["key"] for one in found["predictions"]}


def test_classes_of_another_set_are_refused(shards: Path) -> None:
    with pytest.raises(UsageError, match=r"the weights predict 3 classes, .* has 4, and they differ"):
        measured(shards, Oracle())
