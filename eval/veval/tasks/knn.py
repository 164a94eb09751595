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

from veval.features.table import PART, Features, Ints, by_video, refuse_unusable
from veval.tasks.neighbours import Nearest, nearest
from veval.tasks.retrieval import LeaveOut, pairs_to_leave_out
from vprep.errors import UsageError

VOTES = ("similarity", "same")  # what a vote weighs


@dataclass(frozen=True, slots=True, kw_only=True)
class Classified:
    """What was said of each labelled video."""

    keys: list[str]
    label: Ints
    predicted: Ints
    facts: dict[str, Any]  # counts, as they go into a result

    def hits(self) -> NDArray[np.float64]:
        return np.asarray(self.predicted == self.label, np.float64)

    def entries(self) -> dict[str, Any]:
        """What a result holds at its top."""
        return {"top1": 100 * float(self.hits().mean())} | self.facts

    def videos(self) -> list[dict[str, Any]]:
        rows = zip(self.keys, self.label.tolist(), self.predicted.tolist(), strict=True)
        return [{"key": key, "label": label, "predicted": predicted} for key, label, predicted in rows]


def classify(
    train: Features,
    test: Features,
    *,
    k: int = 20,
    temperature: float = 0.07,
    votes: str = "similarity",
    leave_out: LeaveOut = "nothing",
    part: int = PART,
    device: str = "cpu",
) -> Classified:
    """Have the `k` nearest videos of `train` vote on each video of `test`; of several clips the mean is looked at.

    Of classes with as many votes the one with the nearest video wins. votes=same counts each neighbour once.
    """
    refuse_unusable_pair(train, test)
    if k < 1 or not temperature > 0:
        raise UsageError(f"k is {k} and temperature {temperature}; k is at least 1, and temperature more than 0")
    refuse_votes(votes)
    asked = test.taken(test.labelled())
    hidden = train.label < 0
    neighbours = nearest(
        by_video(asked),
        by_video(train),
        min(k, int((~hidden).sum())),
        hidden_G=hidden,
        left_out=pairs_to_leave_out(asked, train, leave_out),
        part=part,
        device=device,
    )
    counts = {"train": int((~hidden).sum()), "test": len(asked.keys), "test_without_label": len(test.keys)}
    counts["test_without_label"] -= len(asked.keys)
    absent = int((~np.isin(asked.label, train.label)).sum())
    facts = counts | {"test_of_absent_class": absent, "k": min(k, counts["train"]), "left_out": leave_out}
    predicted = _voted(neighbours, train.label, None if votes == "same" else temperature)
    return Classified(keys=asked.keys, label=asked.label, predicted=predicted, facts=facts)


def refuse_votes(votes: str) -> None:
    if votes not in VOTES:
        raise UsageError(f"votes is '{votes}'; there are {', '.join(VOTES)}")


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


def _voted(neighbours: Nearest, label_G: Ints, temperature: float | None) -> Ints:
    """The class with the most votes of each row; -1 where there is no neighbour."""
    classes, class_G = np.unique(label_G, return_inverse=True)
    predicted = np.full(len(neighbours.row), -1, np.int64)
    for query, (row_N, near_N) in enumerate(zip(neighbours.row, neighbours.similarity, strict=True)):
        there = row_N >= 0
        if not there.any():
            continue
        voters, near = class_G[row_N[there]], near_N[there].astype(np.float64)
        vote = np.ones(len(near)) if temperature is None else np.exp((near - near[0]) / temperature)
        votes_C = np.bincount(voters, vote, minlength=len(classes))
        # The first voter, and so the nearest, of those whose class has the most votes.
        predicted[query] = classes[voters[votes_C[voters].argmax()]]
    return predicted
