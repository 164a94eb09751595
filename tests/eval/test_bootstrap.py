"""Intervals: as wide as they should be, the same each time, and paired where videos are the same."""

from collections.abc import Callable

import numpy as np
import pytest

from veval.features.films import film_of
from veval.results.bootstrap import difference, groups_of, interval, name_of
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


def test_films_of_equal_videos_give_the_interval_of_so_many_films() -> None:
    # 40 films of 10 videos each, all alike: 1.96 standard errors of 100 sqrt(0.3 * 0.7 / 40) = 7.25 points.
    hits = np.repeat(np.arange(40) < 12, 10)
    films = [f"film{number // 10}" for number in range(400)]
    low, high = interval(hits, films)
    assert (low, high) == pytest.approx((30 - 1.96 * 7.25, 30 + 1.96 * 7.25), abs=3)
    assert high - low > 2.5 * np.subtract(*interval(hits)[::-1])  # sqrt(10) times as wide


def test_films_of_different_lengths_are_drawn_with_all_their_videos() -> None:
    random = np.random.default_rng(3)
    films, hits = random.integers(7, size=60).astype(str).tolist(), random.random(60)
    members = [hits[np.array(films) == film] for film in sorted(set(films))]
    rng = np.random.default_rng(0)
    means = [100 * np.concatenate([members[n] for n in rng.integers(7, size=7)]).mean() for _ in range(1000)]
    assert interval(hits, films) == pytest.approx((np.quantile(means, 0.025), np.quantile(means, 0.975)))


@pytest.mark.parametrize(
    ("key", "film"),
    [
        ("v_Archery_g01_c02", "v_Archery_g01"),
        ("v_HandStandPushups_g07_c11", "v_HandStandPushups_g07"),
        ("April_09_brush_hair_u_nm_np1_ba_goo_0", "April_09"),
        ("AmericanGangster_shoot_gun_f_nm_np1_fr_bad_16", "AmericanGangster"),
        ("AmericanGangster_hit_f_nm_np1_fr_bad_3", "AmericanGangster"),
        ("KungFu_draw_sword_f_cm_np1_ri_med_4", "KungFu"),
        ("KungFu_sword_u_cm_np2_le_med_4", "KungFu"),
        ("jump_rope_jump_l_cm_np1_fr_med_0", "jump_rope"),
        ("-abc_def_000010_000020", None),
        ("12345", None),
    ],
)
def test_the_names_of_ucf101_and_hmdb51_say_the_film(key: str, film: str | None) -> None:
    assert film_of(key) == film


def test_films_are_drawn_where_all_are_known_and_there_is_more_than_one() -> None:
    two = ["v_A_g01_c01", "v_A_g01_c02", "v_A_g02_c01"]
    assert groups_of(two) == ["v_A_g01", "v_A_g01", "v_A_g02"]
    assert groups_of(two, "videos") is None
    assert groups_of(two[:2]) is None
    assert groups_of([*two, "another"], "groups") is None
    assert (name_of(groups_of(two)), name_of(None)) == ("groups", "videos")


def test_where_all_videos_are_correct_the_interval_is_a_point() -> None:
    assert interval(np.ones(5)) == (100, 100)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: interval(np.ones(0)), "there are hits of 0 videos; an interval needs at least 1 video"),
        (
            lambda: interval(np.ones(3), ["a", "b"]),
            "there are hits of 3 videos and groups of 2; name the group of each video",
        ),
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
