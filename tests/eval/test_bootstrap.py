"""Intervals: as wide as they should be, the same each time, and paired where videos are the same."""

from collections.abc import Callable

import numpy as np
import pytest

from veval.results.bootstrap import difference, interval
from vprep.errors import UsageError


def test_an_interval_is_as_wide_as_the_binomial_distribution_says() -> None:
    hits = np.arange(1000) < 300
    low, high = interval(hits)
    # 30 % of 1000: 1.96 standard errors of 100 sqrt(0.3 * 0.7 / 1000) = 1.449 points.
    assert low == pytest.approx(30 - 1.96 * 1.449, abs=0.3)
    assert high == pytest.approx(30 + 1.96 * 1.449, abs=0.3)


def test_an_interval_is_the_same_each_time() -> None:
    hits = np.random.default_rng(2).random(100)
    assert interval(hits) == interval(hits)


def test_many_samples_in_parts_are_those_of_a_loop() -> None:
    values = np.random.default_rng(1).random(50)
    rng = np.random.default_rng(0)
    means = [100 * values[rng.integers(50, size=50)].mean() for _ in range(1000)]
    assert interval(values) == pytest.approx((np.quantile(means, 0.025), np.quantile(means, 0.975)))


def test_a_difference_is_that_of_the_same_videos() -> None:
    first = np.arange(200) < 120
    second = np.arange(200) < 110
    points, low, high = difference(first, second)
    # Ten videos of 200 are gained and none lost: 5 points, standard error 100 sqrt(0.05 * 0.95 / 200) = 1.54.
    assert points == 5
    assert (low, high) == pytest.approx((5 - 1.96 * 1.54, 5 + 1.96 * 1.54), abs=0.6)
    assert low > 0
    assert difference(first, first) == (0, 0, 0)


def test_trainings_are_drawn_as_videos_are() -> None:
    # Two trainings 20 points apart: their mean is drawn 10 points off one time in four, at either end.
    ours = np.stack([np.arange(10_000) % 10 < 3, np.arange(10_000) % 10 < 5])
    points, low, high = difference(ours, np.zeros(10_000))
    assert points == pytest.approx(40)
    assert (low, high) == pytest.approx((30, 50), abs=2)
    same = difference(np.stack([ours[0]] * 3), np.zeros((2, 10_000)))
    assert same[1:] == pytest.approx(difference(ours[0], np.zeros(10_000))[1:], abs=0.3)


def test_where_all_videos_are_correct_the_interval_is_a_point() -> None:
    assert interval(np.ones(5)) == (100, 100)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: interval(np.ones(0)), "there are hits of 0 videos; an interval needs at least 1 video"),
        (
            lambda: difference(np.ones(3), np.ones(2)),
            "there are hits of 3 videos and of 2; compare results of the same videos",
        ),
    ],
)
def test_hits_without_an_interval_are_refused_in_one_sentence(call: Callable[[], object], message: str) -> None:
    with pytest.raises(UsageError) as error:
        call()
    assert str(error.value) == message
