"""Top-1 and top-5 accuracy of a fine-tuned network, fused over the clips and crops of each video.

V videos, R clips and crops of a video, K classes
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from veval.evaluation import Classifier, Evaluation, Info
from veval.features import extract, feature_file
from veval.features.extract import Work
from veval.features.feature_file import Shapes
from veval.features.forward import for_clips, stream
from veval.inputs import demand_labels
from veval.protocol import Fusion
from veval.tasks.classifier import demand_classes
from vprep.errors import UsageError, WorkError
from vtrain.data.dataset import NO_LABEL, Videos

Ints = npt.NDArray[np.int64]
TOP = (1, 5)
TESTED = "tested videos"


@dataclass(frozen=True, slots=True)
class Predictions:
    """The true classes of videos; and by fusion, the predicted class and the rank of the true class, from 0."""

    key: list[str]
    label: Ints
    predicted: dict[str, Ints]
    rank: dict[str, Ints]


def measure(evaluation: Evaluation[Classifier], logits: Path | None = None) -> Info | None:
    """Return the accuracy by both fusions, the accuracy per class, and the predictions per video.

    The evaluation has videos of one split. A file `logits` keeps the logits of each clip, so that the work can be
    stopped and resumed, and shared by processes; only the first process returns numbers.
    """
    ((split, videos),) = evaluation.data.videos.items()
    network, protocol, execution = evaluation.network, evaluation.protocol, evaluation.execution
    demand_labels(videos, evaluation.data.info)
    demand_classes(network.classes, videos, evaluation.data.info)
    rank, world = execution.rank_and_world
    if world > 1 and logits is None:
        raise UsageError(f"{world} processes share a test through a file; name one with --logits FILE.parquet")
    net = for_clips(network.net, protocol, execution.device)
    dropped: list[Info] = []
    if logits is None:
        execution.begin(TESTED)
        predictions = []
        for done, rows, made in stream(net, videos, protocol.plan(), execution, dropped):
            predictions.append(_predicted(videos, rows, made))
            execution.progress(done, len(videos))
        return {**scores(predictions, network.classes, protocol.fusion), "dropped": dropped}
    info = evaluation.info("testing")
    info["protocol"].pop("fusion")  # the same logits serve both
    shapes: Shapes = {"logits": (protocol.rows, len(network.classes))}
    plans = {split: protocol.plan()}
    extract.write(
        Work(net=net, shapes=shapes, videos={split: videos}, plans=plans, info=info, execution=execution, name=TESTED),
        logits,
    )
    if rank > 0:
        return None
    numbers = scores(list(_predicted_in(logits)), network.classes, protocol.fusion)
    return {**numbers, "dropped": feature_file.read_info(logits)["dropped"]}


def scores(predictions: list[Predictions], classes: list[str], fusion: Fusion) -> Info:
    """Return all numbers of a test; videos without a label do not count."""
    keys = [key for batch in predictions for key in batch.key]
    label = np.concatenate([batch.label for batch in predictions]) if predictions else np.empty(0, np.int64)
    counted = label != NO_LABEL
    if not counted.any():
        raise WorkError("no video with a label could be read; vprep verify says what is damaged")
    predicted = np.concatenate([batch.predicted[fusion] for batch in predictions])
    shares = {}
    for name in get_args(Fusion):
        rank = np.concatenate([batch.rank[name] for batch in predictions])[counted]
        shares[name] = {f"top{top}": 100 * float((rank < top).mean()) for top in TOP}
    confusion = np.zeros((len(classes), len(classes)), np.int64)  # [true class, predicted class]
    np.add.at(confusion, (label[counted], predicted[counted]), 1)
    return {
        **shares[fusion],
        "fusions": shares,
        "videos": int(counted.sum()),
        "unlabelled": int((~counted).sum()),
        "per_class": {
            name: 100 * int(row[number]) / int(row.sum()) if row.any() else None
            for number, (name, row) in enumerate(zip(classes, confusion, strict=True))
        },
        "confusion": confusion.tolist(),
        "predictions": [
            {"key": key, "class": None if true == NO_LABEL else classes[true], "named": classes[number]}
            for key, true, number in zip(keys, label.tolist(), predicted.tolist(), strict=True)
        ],
    }


def fuse(logits_VRK: Tensor, fusion: Fusion) -> Tensor:
    """Return the mean over the clips and crops of each video [V, K], of logits or of probabilities."""
    return (logits_VRK.softmax(2) if fusion == "softmax" else logits_VRK).mean(1)


def predict(keys: list[str], label: Ints, logits_VRK: Tensor) -> Predictions:
    """Return predictions by both fusions; of classes with equal scores, the first is predicted and ranks first."""
    predicted, rank = {}, {}
    true_V1 = torch.from_numpy(label).clamp(min=0)[:, None]
    number_K = torch.arange(logits_VRK.shape[2])
    for fusion in get_args(Fusion):
        score_VK = fuse(logits_VRK, fusion)
        of_true_V1 = score_VK.gather(1, true_V1)
        before_VK = (score_VK > of_true_V1) | ((score_VK == of_true_V1) & (number_K < true_V1))
        rank[fusion] = before_VK.sum(1).numpy()
        predicted[fusion] = score_VK.numpy().argmax(1).astype(np.int64)
    return Predictions(keys, label, predicted, rank)


def _predicted(videos: Videos, rows: list[int], logits_VRK: Tensor) -> Predictions:
    keys: list[str] = [videos.keys[row].as_py() for row in rows]
    return predict(keys, videos.label[rows].astype(np.int64), logits_VRK)


def _predicted_in(path: Path) -> Iterator[Predictions]:
    tables = feature_file.read(path)
    for begin in range(0, len(tables.keys), 1024):
        rows = slice(begin, begin + 1024)
        yield predict(tables.keys[rows], tables.label[rows], torch.from_numpy(tables.arrays["logits"][rows]))
