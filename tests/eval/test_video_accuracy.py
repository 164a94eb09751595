"""Testing: who sees the class is always right, what is said is fused as the protocol has it, and no one is replaced."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor, nn

from veval import inputs
from veval.features.extract import How
from veval.protocol import Protocol, for_weights
from veval.tasks import video_accuracy
from veval.tasks.classifier import Classifier
from vprep.errors import UsageError, WorkError

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")

CLASSES = ["a dark", "b grey", "c white"]
SMALL = Protocol(clips=3, size=16, normalise="unit")


class Oracle(nn.Module):
    """Names the class that is nearest to the mean of all pixels; `told` lies 60 of 219 levels of light apart."""

    def forward(self, clips: Tensor) -> Tensor:
        light = clips.mean((1, 2, 3, 4))
        levels = torch.tensor([(40 + 60 * label - 16) / 219 for label in range(3)])
        return -1000 * (light[:, None] - levels).abs()


def judged(shards: Path, net: nn.Module, protocol: Protocol = SMALL, **more: Any) -> dict[str, Any]:  # noqa: ANN401
    videos, data = inputs.data(str(shards), None)
    logits = more.pop("logits", None)
    classifier = Classifier(net, {"method": "supervised", "hash": "x"}, CLASSES)
    found = video_accuracy.test(classifier, videos["all"], protocol, data=data, how=How(**more), logits=logits)
    assert found is not None
    return found


@pytest.mark.parametrize("crop", ["centre", "three", "ten"])
@pytest.mark.parametrize("fusion", ["logits", "softmax"])
def test_who_sees_the_class_is_right_about_every_video(told: Path, crop: str, fusion: str) -> None:
    protocol = for_weights("testing", {}, words=["size=16", "normalise=unit", f"crop={crop}", f"fusion={fusion}"])
    found = judged(told, Oracle(), protocol)  # 3 of the 9 videos are shorter than a clip
    assert (found["top1"], found["top5"], found["videos"], found["unlabelled"]) == (100, 100, 9, 0)
    assert found["per_class"] == dict.fromkeys(CLASSES, 100)
    assert found["confusion"] == [[3, 0, 0], [0, 3, 0], [0, 0, 3]]
    assert all(one["class"] == one["named"] for one in found["predictions"])
    assert found["dropped"] == []


@pytest.mark.parametrize("how", [{"batch": 1}, {"batch": 9, "workers": 1}])
def test_batch_and_workers_change_nothing(told: Path, how: dict[str, Any]) -> None:
    assert judged(told, Oracle(), **how) == judged(told, Oracle(), batch=4)


class Always(nn.Module):
    """Says the same of every clip."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, clips: Tensor) -> Tensor:
        return torch.tensor([self.logits]).expand(len(clips), -1)


def test_who_always_says_the_same_is_right_about_one_class(told: Path) -> None:
    found = judged(told, Always(0.0, 2.0, 1.0))
    assert found["top1"] == pytest.approx(100 / 3)
    assert found["per_class"] == {"a dark": 0, "b grey": 100, "c white": 0}
    assert found["confusion"] == [[0, 3, 0], [0, 3, 0], [0, 3, 0]]
    equal = judged(told, Always(1.0, 1.0, 1.0))  # then the first is named
    assert equal["confusion"] == [[3, 0, 0], [3, 0, 0], [3, 0, 0]]
    assert equal["top1"] == pytest.approx(100 / 3)


def test_logits_and_probabilities_are_fused_differently() -> None:
    # Two clips of a video: logits 5, 0, 3 and 0, 3, 3. Their means are 2.5, 1.5, 3: the third class.
    # Probabilities 0.8756, 0.0059, 0.1185 and 0.0243, 0.4879, 0.4879: the first.
    clips = torch.tensor([[[5.0, 0.0, 3.0], [0.0, 3.0, 3.0]]])
    told = video_accuracy.tell(["v"], video_accuracy.np.array([0]), clips)
    assert video_accuracy.fuse(clips, "logits").tolist() == [[2.5, 1.5, 3.0]]
    assert video_accuracy.fuse(clips, "softmax")[0].tolist() == pytest.approx([0.44995, 0.24688, 0.30318], abs=1e-4)
    assert {name: one.tolist() for name, one in told.named.items()} == {"logits": [2], "softmax": [0]}
    assert {name: one.tolist() for name, one in told.place.items()} == {"logits": [1], "softmax": [0]}


def test_both_fusions_are_told_and_the_protocol_says_which_one_counts(told: Path) -> None:
    for fusion in ("logits", "softmax"):
        found = judged(told, Always(0.0, 2.0, 1.0), replace(SMALL, fusion=fusion))  # type: ignore[arg-type]
        assert set(found["fusions"]) == {"logits", "softmax"}
        assert found["top1"] == found["fusions"][fusion]["top1"]
        assert found["protocol"]["fusion"] == fusion


def test_the_true_class_may_be_among_the_first_five() -> None:
    logits = torch.arange(8.0).flip(0).expand(8, 1, 8)  # class 0 is named first, then 1, ...
    label = video_accuracy.np.arange(8)
    told = video_accuracy.tell([f"v{n}" for n in range(8)], label, logits)
    found = video_accuracy.scores([told], list("abcdefgh"), "logits")
    assert (found["top1"], found["top5"]) == (12.5, 62.5)


def test_videos_without_a_label_are_told_of_and_not_counted() -> None:
    told = video_accuracy.tell(["u", "v"], video_accuracy.np.array([-1, 1]), torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]]))
    found = video_accuracy.scores([told], ["a", "b"], "logits")
    assert (found["top1"], found["videos"], found["unlabelled"]) == (100, 1, 1)
    assert found["predictions"][0] == {"key": "u", "class": None, "named": "a"}
    assert found["per_class"] == {"a": None, "b": 100}
    with pytest.raises(WorkError, match="no video with a label could be read"):
        video_accuracy.scores(
            [video_accuracy.tell(["u"], video_accuracy.np.array([-1]), torch.zeros(1, 1, 2))], ["a", "b"], "logits"
        )


def test_over_a_file_of_logits_the_answer_is_the_same(told: Path, tmp_path: Path) -> None:
    logits = tmp_path / "logits.parquet"
    alone = judged(told, Oracle())
    assert judged(told, Oracle(), logits=logits) == alone
    assert judged(told, Always(0.0, 0.0, 0.0), logits=logits) == alone  # nothing was said anew
    softly = replace(SMALL, fusion="softmax")
    assert judged(told, Always(0.0, 0.0, 0.0), softly, logits=logits)["protocol"]["fusion"] == "softmax"
    with pytest.raises(UsageError, match="is of protocol clips 3, asked is 4"):
        judged(told, Oracle(), replace(SMALL, clips=4), logits=logits)


def test_several_processes_test_over_a_file(told: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        judged(told, Oracle(), world=2, rank=0)
    assert str(error.value) == "2 processes test together over a file; name one for the logits"


def test_a_video_that_cannot_be_read_is_named_and_nobody_stands_in_for_it(told: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "shards"
    shutil.copytree(told, damaged)
    row = pq.read_table(told / "index.parquet").to_pylist()[4]
    with (damaged / row["shard"]).open("r+b") as file:
        file.seek(row["offset"] + 2)
        file.write(bytes(row["size"] - 2))
    with pytest.raises(WorkError, match=f"video '{row['key']}'"):
        judged(damaged, Oracle())
    for logits in (None, tmp_path / "logits.npz"):
        found = judged(damaged, Oracle(), on_error="skip", logits=logits)
        (dropped,) = found["dropped"]
        assert (dropped["key"], dropped["shard"]) == (row["key"], row["shard"])
        assert (found["videos"], len(found["predictions"])) == (8, 8)
        assert row["key"] not in {one["key"] for one in found["predictions"]}


def test_classes_of_another_set_are_refused(shards: Path) -> None:
    with pytest.raises(UsageError, match=r"the weights name 3 classes, .* has 4, and they differ"):
        judged(shards, Oracle())
