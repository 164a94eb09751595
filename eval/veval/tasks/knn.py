"""k-NN: the nearest labelled videos vote on a video's class, without any training.

The vote is that of Wu, Xiong, Yu and Lin (Instance Discrimination, CVPR 2018): each neighbour counts exp(cosine /
temperature) for its class, with a temperature of 0.07; their k was 200. The smaller k of 20 is that of Caron et al.
(DINO, ICCV 2021).

Q queries   N neighbours   C classes
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from veval.evaluation import Progress, nothing
from veval.features.table import PART, Features, Ints, by_video, refuse_unusable
from veval.tasks.neighbours import Nearest, nearest
from veval.tasks.voting import Voting
from vprep.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Classified:
    """The predicted class of each labelled video."""

    keys: list[str]
    label: Ints
    predicted: Ints
    details: dict[str, Any]  # further entries of a result

    def hits(self) -> NDArray[np.float64]:
        return np.asarray(self.predicted == self.label, np.float64)

    def entries(self) -> dict[str, Any]:
        """Return the entries of a result at its top level."""
        return {"top1": 100 * float(self.hits().mean())} | self.details

    def videos(self) -> list[dict[str, Any]]:
        rows = zip(self.keys, self.label.tolist(), self.predicted.tolist(), strict=True)
        return [{"key": key, "label": label, "predicted": predicted} for key, label, predicted in rows]


def classify(
    train: Features, test: Features, voting: Voting | None = None, *, part: int = PART, device: str = "cpu",
    progress: Progress = nothing,
) -> Classified:  # fmt: skip
    """Predict the class of each labelled video of `test` from its nearest videos in `train`.

    Features of several clips are averaged. Among classes with equal votes, that of the nearest video wins.
    """
    refuse_unusable_pair(train, test)
    voting = voting or Voting()
    labelled = test.taken(test.labelled())
    hidden = train.label < 0
    k = min(voting.k, int((~hidden).sum()))
    neighbours = nearest(
        by_video(labelled), by_video(train), k, hidden_G=hidden, part=part, device=device, progress=progress
    )
    details = {**counts(train, test), "k": k, "left_out": "nothing"}
    return Classified(
        keys=labelled.keys, label=labelled.label, predicted=_predicted(neighbours, train.label, voting), details=details
    )


def counts(train: Features, test: Features) -> dict[str, int]:
    """Return the numbers of training and test videos, and of test videos that could not be correct."""
    labelled = test.labelled()
    known = np.unique(train.label[train.labelled()])
    return {
        "train": len(train.labelled()),
        "test": len(labelled),
        "test_without_label": len(test.keys) - len(labelled),
        "test_of_absent_class": int((~np.isin(test.label[labelled], known)).sum()),
    }


def refuse_unusable_pair(train: Features, test: Features) -> None:
    for features, name in ((train, "train"), (test, "test")):
        if not len(features.labelled()):
            raise UsageError(
                f"none of the {len(features.keys)} {name} videos has a label; choose a split that has some"
            )
        refuse_unusable(features, name)
    widths = [features.features.shape[-1] for features in (train, test)]
    if widths[0] != widths[1]:
        raise UsageError(
            f"features of train have {widths[0]} numbers, those of test {widths[1]}; "
            "extract both with the same weights and protocol"
        )


def _predicted(neighbours: Nearest, label_G: Ints, voting: Voting) -> Ints:
    """Return the class with the most votes for each row."""
    classes, class_G = np.unique(label_G, return_inverse=True)
    predicted = np.empty(len(neighbours.row), np.int64)
    for query, (row_N, near_N) in enumerate(zip(neighbours.row, neighbours.similarity.astype(np.float64), strict=True)):
        voters = class_G[row_N]
        weight_N = np.ones(len(row_N)) if voting.votes == "same" else np.exp((near_N - near_N[0]) / voting.temperature)
        votes_C = np.bincount(voters, weight_N, minlength=len(classes))
        # Among the voters whose class has the most votes, the first is the nearest.
        predicted[query] = classes[voters[votes_C[voters].argmax()]]
    return predicted
