"""Linear classification: the optimum, a strength chosen without the test, and the same few videos for any weights."""

from collections.abc import Callable
from dataclasses import replace
from math import sqrt

import numpy as np
import pytest
import torch
from feature_tables import features

from veval.features.table import Features
from veval.tasks.linear import classify, few, held_out, trained
from vprep.errors import UsageError

Rng = np.random.Generator


@pytest.fixture
def rng() -> Rng:
    return np.random.default_rng(21)


def clouds(rng: Rng, videos: int, apart: float) -> Features:
    """Three classes around three corners; each number has its own unit."""
    label = np.arange(videos) % 3
    centres = apart * np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0]])
    array = (centres[label] + rng.standard_normal((videos, 4))) * [1, 1000, 0.001, 1] + [0, 5, 9, 7]
    return features(array, label * 10)


def test_the_optimum_is_that_of_newtons_method(rng: Rng) -> None:
    x = rng.standard_normal((60, 2)) * [3, 0.2] + [1, -4]
    label = (x[:, 0] + x[:, 1] * 2 + rng.standard_normal(60) > -7).astype(int)
    fit = trained(torch.tensor(x, dtype=torch.float32), torch.tensor(label), 2, 0.1)
    x = x.astype(np.float32).astype(np.float64)
    x = np.hstack([(x - x.mean(0)) / x.std(0), np.ones((60, 1))])
    # Two classes with weights w and -w are one logistic regression of 2w: half the strength on each of them.
    theta = np.zeros(3)
    penalty = np.array([0.05, 0.05, 0])
    for _ in range(50):
        p = 1 / (1 + np.exp(-x @ theta))
        gradient = x.T @ (p - label) / 60 + penalty * theta
        theta -= np.linalg.solve(x.T @ (x * (p * (1 - p))[:, None]) / 60 + np.diag(penalty), gradient)
    assert (fit.weight[1] - fit.weight[0]).numpy() == pytest.approx(theta[:2], abs=1e-5)
    assert float(fit.bias[1] - fit.bias[0]) == pytest.approx(theta[2], abs=1e-5)
    assert fit.gradient < 1e-6


def test_a_start_elsewhere_ends_at_the_same_optimum(rng: Rng) -> None:
    known = clouds(rng, 90, 1.0)
    x, label = torch.tensor(known.features), torch.tensor(known.label // 10)
    near = trained(x, label, 3, 1.0)
    first, second = trained(x, label, 3, 0.01), trained(x, label, 3, 0.01, near)
    assert torch.allclose(first.weight, second.weight, atol=1e-4)


def test_classes_that_lie_apart_are_discriminated_whatever_their_units(rng: Rng) -> None:
    found = classify(clouds(rng, 150, 8.0), clouds(rng, 90, 8.0))
    assert found.entries()["top1"] > 98
    assert set(found.predicted.tolist()) == {0, 10, 20}
    assert found.details["train_top1"] > 98
    assert found.details["optimum"] == "reached"
    assert found.details["chosen"] == "on held-out training videos"
    assert found.details["held_out"] == 30
    assert set(found.details["held_out_top1"]) == {"10", "1", "0.1", "0.01", "0.001", "0.0001", "1e-05"}


def test_one_hot_features_of_the_class_are_always_correct() -> None:
    label = np.arange(100) % 10
    one_hot = features(np.eye(10)[label], label)
    assert classify(one_hot, one_hot).entries()["top1"] == 100


def test_noise_is_correct_as_often_as_chance_however_well_it_was_learned(rng: Rng) -> None:
    train = features(rng.standard_normal((200, 150)), np.arange(200) % 4)
    test = features(rng.standard_normal((400, 150)), np.arange(400) % 4)
    found = classify(train, test, strengths=[1e-3])
    assert found.details["train_top1"] == 100
    assert found.entries()["top1"] == pytest.approx(25, abs=4 * 100 * sqrt(0.25 * 0.75 / 400))
    assert found.details["chosen"] == "given"


def test_features_without_information_have_a_low_accuracy_on_the_training_videos(rng: Rng) -> None:
    same = features(np.full((40, 5), 0.1), np.arange(40) % 4)
    found = classify(same, same)
    assert found.entries()["top1"] == 25
    assert found.details["train_top1"] == 25
    assert found.details["optimum"] == "reached"


def test_the_strength_does_not_depend_on_the_test(rng: Rng) -> None:
    train, test = clouds(rng, 120, 1.5), clouds(rng, 60, 1.5)
    turned = replace(test, label=np.roll(test.label, 1))
    first, second = classify(train, test), classify(train, turned)
    assert first.details["strength"] == second.details["strength"]
    assert first.predicted.tolist() == second.predicted.tolist()


def test_the_number_does_not_depend_on_the_order_of_the_videos(rng: Rng) -> None:
    train, test = clouds(rng, 90, 1.5), clouds(rng, 60, 1.5)
    other = train.taken(rng.permutation(90))
    assert classify(other, test).predicted.tolist() == classify(train, test).predicted.tolist()


def test_all_videos_of_a_film_are_held_out_together_and_no_class_is_lost() -> None:
    keys = [f"v_{name}_g{group:02}_c{clip:02}" for name in "AB" for group in range(1, 11) for clip in range(1, 5)]
    known = features(np.zeros((80, 1)), np.repeat([0, 1], 40), keys=keys)
    held = held_out(known, 0)
    assert len(held) == 16  # a fifth of 40 in each class are two films of four
    groups = {keys[row].rsplit("_", 1)[0] for row in held}
    assert len(groups) == 4
    assert all((row in held) == (keys[row].rsplit("_", 1)[0] in groups) for row in range(80))
    assert held_out(known, 0).tolist() == held.tolist() != held_out(known, 1).tolist()
    one_each = features(np.zeros((3, 1)), [0, 1, 2])
    assert held_out(one_each, 0).tolist() == []


def test_copies_of_a_video_are_held_out_together() -> None:
    known = replace(features(np.zeros((10, 1)), np.zeros(10)), group=[str(number // 5) for number in range(10)])
    assert held_out(known, 0).tolist() in ([0, 1, 2, 3, 4], [5, 6, 7, 8, 9])


def test_with_one_video_a_class_the_strength_is_not_chosen() -> None:
    found = classify(features(np.eye(3), [0, 1, 2]), features(np.eye(3), [0, 1, 2]))
    assert (found.details["strength"], found.details["chosen"]) == (0.01, "too few videos for it")
    assert found.entries()["top1"] == 100


def test_videos_without_label_are_left_out_and_an_unknown_class_is_wrong() -> None:
    train = features([[0], [1], [0.1], [0.9], [0.5]], [4, 8, 4, 8, -1])
    found = classify(train, features([[0], [1], [1]], [4, 9, -1]), strengths=[0.01])
    assert found.predicted.tolist() == [4, 8]
    counts = {name: found.details[name] for name in ("train", "test", "test_without_label", "test_of_absent_class")}
    assert counts == {"train": 4, "test": 2, "test_without_label": 1, "test_of_absent_class": 1}
    assert found.entries()["top1"] == 50


def test_the_mean_of_a_videos_clips_is_classified() -> None:
    train = features([[[0], [0.2]], [[1], [1.2]]], [0, 1])
    assert classify(train, features([[[-1], [1]], [[3], [0]]], [0, 1])).predicted.tolist() == [0, 1]


def test_a_few_videos_are_the_same_in_any_order_and_others_with_another_seed(rng: Rng) -> None:
    known = features(rng.standard_normal((60, 2)), np.arange(60) % 3)
    chosen = few(known, 4, seed=1)
    assert np.bincount(chosen.label).tolist() == [4, 4, 4]
    turned = known.taken(np.arange(60)[::-1])
    assert sorted(few(turned, 4, seed=1).keys) == sorted(chosen.keys)
    assert few(known, 4, seed=2).keys != chosen.keys
    # More of them contain the fewer.
    assert set(chosen.keys) < set(few(known, 5, seed=1).keys)
    row = known.keys.index(chosen.keys[0])
    assert chosen.features[0].tolist() == known.features[row].tolist()


ONE = features([[1, 0]], [0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: few(features(np.zeros((4, 1)), [0, 0, 0, 7]), 2),
            "1 of 2 classes have fewer than 2 videos (class 7 has 1); choose a --few of at most 1",
        ),
        (lambda: few(ONE, 0), "--few is 0; it must be at least 1"),
        (
            lambda: few(features([[1]], [-1]), 1),
            "none of the videos to learn from has a label; choose another --gallery",
        ),
        (lambda: classify(ONE, ONE, strengths=[]), "strengths are []; one or more are needed, each above 0"),
        (lambda: classify(ONE, ONE, strengths=[0]), "strengths are [0]; one or more are needed, each above 0"),
        (
            lambda: classify(ONE, features([[1, 0, 0]], [0])),
            "features of train have 2 numbers, those of test 3; extract both with the same weights and protocol",
        ),
    ],
)
def test_what_cannot_be_learned_is_refused_in_one_sentence(call: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError) as error:
        call()
    assert str(error.value) == message
