"""k-NN: the nearest videos vote, with which weight, and which class wins when votes are equal."""

from collections.abc import Callable
from math import exp, fsum, sqrt

import numpy as np
import pytest
from feature_tables import features

from veval.features.table import Features
from veval.tasks.knn import classify
from veval.tasks.voting import Voting
from vprep.errors import UsageError


def slowly(train: Features, test: Features, k: int, temperature: float) -> list[int]:
    predicted = []
    for query in test.features.astype(np.float64):
        near = []
        for row, other in enumerate(train.features.astype(np.float64)):
            near.append((-fsum(query * other) / sqrt(fsum(query * query) * fsum(other * other)), row))
        near = sorted(near)[:k]
        votes: dict[int, float] = {}
        for distance, row in near:
            label = int(train.label[row])
            votes[label] = votes.get(label, 0) + exp(-distance / temperature)
        predicted.append(max(votes, key=lambda label: votes[label]))
    return predicted


def test_votes_are_those_of_a_slow_count() -> None:
    rng = np.random.default_rng(5)
    train = features(rng.standard_normal((120, 6)), rng.integers(0, 7, 120))
    test = features(rng.standard_normal((40, 6)), rng.integers(0, 7, 40))
    for k, temperature in ((1, 0.07), (20, 0.07), (20, 1), (120, 0.5)):
        found = classify(train, test, Voting(k=k, temperature=temperature))
        assert found.predicted.tolist() == slowly(train, test, k, temperature)
        assert found.entries()["top1"] == pytest.approx(100 * np.mean(found.predicted == test.label))


def test_two_close_neighbours_lose_to_a_much_closer_one_unless_all_votes_are_the_same() -> None:
    train = features([[1, 0], [1, 1], [1, -1]], [0, 1, 1])
    query = features([[1, 0]], [0])
    # exp(1 / 0.07) against 2 exp(0.707 / 0.07): the first counts 33 times as much as both.
    assert classify(train, query, Voting(k=3)).predicted.tolist() == [0]
    assert classify(train, query, Voting(k=3, votes="same")).predicted.tolist() == [1]
    assert classify(train, query, Voting(k=3, temperature=10)).predicted.tolist() == [1]


def test_of_classes_with_equal_votes_that_of_the_nearest_video_wins() -> None:
    train = features([[1, 2], [1, 0.1], [1, 0.2], [2, 1]], [5, 3, 5, 3])
    assert classify(train, features([[1, 0]], [3]), Voting(k=4, votes="same")).predicted.tolist() == [3]
    # Of videos that are equally near it is the first one.
    assert classify(train, features([[0, 0]], [5]), Voting(k=2)).predicted.tolist() == [5]


def test_one_hot_features_of_the_class_are_always_correct() -> None:
    label = np.arange(60) % 20
    train = features(np.eye(20)[label], label)
    found = classify(train, train, Voting(k=3))
    assert found.entries() == {
        "top1": 100,
        "train": 60,
        "test": 60,
        "test_without_label": 0,
        "test_of_absent_class": 0,
        "k": 3,
        "left_out": "nothing",
    }
    assert found.videos()[21] == {"key": "v21", "label": 1, "predicted": 1}


def test_noise_is_correct_as_often_as_chance() -> None:
    rng = np.random.default_rng(6)
    train = features(rng.standard_normal((1000, 8)), np.arange(1000) % 4)
    test = features(rng.standard_normal((1000, 8)), np.arange(1000) % 4)
    assert classify(train, test).entries()["top1"] == pytest.approx(25, abs=4 * 100 * sqrt(0.25 * 0.75 / 1000))


def test_videos_without_label_neither_vote_nor_count() -> None:
    train = features([[1, 0], [1, 0.1]], [-1, 2])
    found = classify(train, features([[1, 0], [1, 0], [1, 0]], [2, -1, 7]), Voting(k=9))
    assert (found.keys, found.predicted.tolist()) == (["v0", "v2"], [2, 2])
    assert found.entries() == {
        "top1": 50,
        "train": 1,
        "test": 2,
        "test_without_label": 1,
        "test_of_absent_class": 1,
        "k": 1,
        "left_out": "nothing",
    }


ONE = features([[1, 0]], [0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: Voting(k=0),
            "k is 0 and temperature 0.07; k must be at least 1, and temperature above 0",
        ),
        (
            lambda: Voting(temperature=float("nan")),
            "k is 20 and temperature nan; k must be at least 1, and temperature above 0",
        ),
        (lambda: Voting(votes="rank"), "votes is 'rank'; there are similarity, same"),
        (
            lambda: classify(features([[1, 0]], [-1]), ONE),
            "none of the 1 train videos has a label; choose a split that has some",
        ),
        (
            lambda: classify(ONE, features([[1, 0]], [-1])),
            "none of the 1 test videos has a label; choose a split that has some",
        ),
        (
            lambda: classify(ONE, features([[1, 0, 0]], [0])),
            "features of train have 2 numbers, those of test 3; extract both with the same weights and protocol",
        ),
        (
            lambda: classify(ONE, features([[1, np.inf]], [0])),
            "test: the features of video 'v0' are not all finite; "
            "extract them again, or leave the video out if its frames are damaged",
        ),
    ],
)
def test_what_cannot_be_classified_is_refused_in_one_sentence(call: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError) as error:
        call()
    assert str(error.value) == message
