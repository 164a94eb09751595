"""How often a fine-tuned network names the class of a video: what it says of all clips and crops, fused.

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

from veval.features import feature_file
from veval.features.extract import How, Work, carry_out, for_clips, stream
from veval.features.feature_file import Shapes
from veval.inputs import Facts, demand_labels
from veval.protocol import Fusion, Protocol
from veval.tasks.classifier import Classifier, demand_classes
from vprep.errors import UsageError, WorkError
from vtrain.data.dataset import NO_LABEL, Videos

Ints = npt.NDArray[np.int64]
TOP = (1, 5)


@dataclass(frozen=True, slots=True)
class Told:
    """What was said of videos: their true classes and, by each fusion, the class that is named and on which place the
    true one stands, counted from 0."""

    key: list[str]
    label: Ints
    named: dict[str, Ints]
    place: dict[str, Ints]


def test(
    classifier: Classifier,
    videos: Videos,
    protocol: Protocol,
    *,
    data: Facts,
    how: How,
    logits: Path | None,
) -> Facts | None:
    """Percentages by the protocol's fusion, and by the other one; what is right of each class; and of each video.

    With `logits`, what is said of each clip is kept in that file, so the work can be stopped and gone on with, and
    shared by processes; in all but the first of these the answer is None.
    """
    demand_labels(videos, data)
    demand_classes(classifier.classes, videos, data)
    rank, world = how.place
    if world > 1 and logits is None:
        raise UsageError(f"{world} processes test together over a file; name one for the logits")
    facts = {
        "weights": classifier.facts,
        "protocol": protocol.words("testing"),
        "data": data,
        "precision": how.numbers,
    }
    net = for_clips(classifier.net, protocol, how.device)
    dropped: list[Facts] = []
    if logits is None:
        told = [_told(videos, rows, made) for _, rows, made in stream(net, videos, protocol.plan(), how, dropped)]
    else:
        shapes: Shapes = {"logits": (protocol.rows, len(classifier.classes))}
        split = str(data["split"])
        work = Work(net=net, shapes=shapes, videos={split: videos}, plans={split: protocol.plan()})
        # The same logits serve both fusions.
        shown = {name: word for name, word in protocol.words("testing").items() if name != "fusion"}
        carry_out(work, {**facts, "protocol": shown}, logits, how)
        if rank > 0:
            return None
        told, dropped = list(_told_in(logits)), feature_file.read_facts(logits)["dropped"]
    return {**scores(told, classifier.classes, protocol.fusion), "dropped": dropped, **facts}


def scores(told: list[Told], classes: list[str], fusion: Fusion) -> Facts:
    """All numbers about what was told; videos without a label do not count."""
    keys = [key for one in told for key in one.key]
    label = np.concatenate([one.label for one in told]) if told else np.empty(0, np.int64)
    counted = label != NO_LABEL
    if not counted.any():
        raise WorkError("no video with a label could be read; vprep verify says what is damaged")
    named = np.concatenate([one.named[fusion] for one in told])
    shares = {}
    for name in get_args(Fusion):
        place = np.concatenate([one.place[name] for one in told])[counted]
        shares[name] = {f"top{top}": 100 * float((place < top).mean()) for top in TOP}
    confusion = np.zeros((len(classes), len(classes)), np.int64)  # true class, named class
    np.add.at(confusion, (label[counted], named[counted]), 1)
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
            {"key": key, "class": None if true == NO_LABEL else classes[true], "named": classes[said]}
            for key, true, said in zip(keys, label.tolist(), named.tolist(), strict=True)
        ],
    }


def fuse(logits_VRK: Tensor, fusion: Fusion) -> Tensor:
    """What is said of each video [V, K]: the mean over its clips and crops, of logits or of probabilities."""
    return (logits_VRK.softmax(2) if fusion == "softmax" else logits_VRK).mean(1)


def tell(keys: list[str], label: Ints, logits_VRK: Tensor) -> Told:
    """Of classes that are told equally, the one that comes first is named, and stands first."""
    named, place = {}, {}
    true_V1 = torch.from_numpy(label).clamp(min=0)[:, None]
    number_K = torch.arange(logits_VRK.shape[2])
    for fusion in get_args(Fusion):
        said_VK = fuse(logits_VRK, fusion)
        of_true_V1 = said_VK.gather(1, true_V1)
        before_VK = (said_VK > of_true_V1) | ((said_VK == of_true_V1) & (number_K < true_V1))
        place[fusion] = before_VK.sum(1).numpy()
        named[fusion] = said_VK.numpy().argmax(1).astype(np.int64)
    return Told(keys, label, named, place)


def _told(videos: Videos, rows: list[int], made_VRK: Tensor) -> Told:
    keys: list[str] = [videos.keys[row].as_py() for row in rows]
    return tell(keys, videos.label[rows].astype(np.int64), made_VRK)


def _told_in(path: Path) -> Iterator[Told]:
    kept = feature_file.read(path)
    for begin in range(0, len(kept.keys), 1024):
        part = slice(begin, begin + 1024)
        yield tell(kept.keys[part], kept.label[part], torch.from_numpy(kept.arrays["logits"][part]))
