"""The parameters that are drawn for the augmentation of a clip."""

import subprocess
import sys
from dataclasses import replace
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vprep.errors import UsageError
from vtrain.data.augment import config as config_module
from vtrain.data.augment.config import AugmentConfig, demand_distinct, stack

RSPNET = AugmentConfig(jitter=(0.4, 0.4, 0.4, 0.4), grey=0.2)
PACE = AugmentConfig(crop="random", crop_size=112, jitter=(0.8, 0.8, 0.8, 0.2), jitter_chance=0.8, jitter_per="frame")


def drawn(
    config: AugmentConfig, *, seed: int = 0, height: int = 128, width: int = 171, frames: int = 16
) -> dict[str, Any]:
    return {name: array[0, 0] for name, array in stack([[config.draw(Random(seed), height, width, frames)]]).items()}


def many(config: AugmentConfig, name: str, count: int = 400) -> np.ndarray[Any, Any]:
    """Return one parameter of many samples."""
    rng = Random(1)
    return stack([[config.draw(rng, 128, 171, 4) for _ in range(count)]])[name][0]


@pytest.mark.parametrize(
    ("config", "boxes", "jitters"),
    [(RSPNET, 1, 1), (PACE, 1, 16), (AugmentConfig(crop="three"), 3, 1), (AugmentConfig(crop="ten"), 10, 1)],
)
def test_drawn_parameters_have_the_documented_types_and_shapes(config: AugmentConfig, boxes: int, jitters: int) -> None:
    assert {name: (array.dtype.name, array.shape) for name, array in drawn(config).items()} == {
        "box": ("float32", (boxes, 4)),
        "flip": ("bool", (boxes,)),
        "grey": ("bool", ()),
        "jitter": ("float32", (jitters, 4)),
        "jitter_order": ("uint8", (jitters, 4)),
        "sigma": ("float32", ()),
        "solarise": ("bool", ()),
    }
    assert config.crops == boxes


@pytest.mark.parametrize("config", [RSPNET, PACE, AugmentConfig(crop="ten"), AugmentConfig(blur=0.5, solarise=0.5)])
def test_the_same_seed_draws_the_same_parameters(config: AugmentConfig) -> None:
    first, second, others = (
        drawn(config, seed=7),
        drawn(config, seed=7),
        [drawn(config, seed=seed) for seed in range(5)],
    )
    for name, array in first.items():
        assert np.array_equal(array, second[name])
    if config.crop != "ten":
        assert len({another["box"].tobytes() + another["sigma"].tobytes() for another in others}) == 5


@given(
    seed=st.integers(0, 2**32),
    height=st.integers(40, 300),
    width=st.integers(40, 300),
    scale=st.tuples(st.floats(0.08, 1), st.floats(0.08, 1)).map(sorted),
    ratio=st.tuples(st.floats(0.5, 2), st.floats(0.5, 2)).map(sorted),
)
def test_an_area_crop_stays_inside_the_frame_and_within_its_limits(
    seed: int, height: int, width: int, scale: list[float], ratio: list[float]
) -> None:
    config = AugmentConfig(scale=(scale[0], scale[1]), ratio=(ratio[0], ratio[1]))
    top, left, tall, wide = drawn(config, seed=seed, height=height, width=width)["box"][0].tolist()
    assert all(value == int(value) for value in (top, left, tall, wide))
    assert min(top, left) >= 0
    assert 1 <= tall <= height - top
    assert 1 <= wide <= width - left
    # Both sides were rounded by up to half a pixel.
    assert (wide - 0.5) / (tall + 0.5) <= ratio[1] + 1e-6
    assert (wide + 0.5) / (tall - 0.5) >= ratio[0] - 1e-6
    if tall != height and wide != width:  # a fallback to the largest box keeps to the ratio only
        assert (tall - 0.5) * (wide - 0.5) <= scale[1] * height * width * (1 + 1e-6)
        assert (tall + 0.5) * (wide + 0.5) >= scale[0] * height * width * (1 - 1e-6)


def test_the_corners_of_an_area_crop_reach_every_border() -> None:
    boxes = many(AugmentConfig(scale=(0.2, 0.5)), "box", 3000)[:, 0]
    assert boxes[:, :2].min(0).tolist() == [0, 0]
    assert (boxes[:, :2] + boxes[:, 2:]).max(0).tolist() == [128, 171]


def test_ratios_of_an_area_crop_are_as_often_wide_as_tall() -> None:
    boxes = many(AugmentConfig(scale=(0.2, 0.5), ratio=(0.5, 2)), "box", 2000)[:, 0]
    assert np.mean(boxes[:, 3] > boxes[:, 2]) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    ("height", "width", "box"),
    [
        (10, 100, [0, 43, 10, 13]),  # 10 x 4/3 = 13.3 wide, (100 - 13) // 2 from the left
        (100, 10, [43, 0, 13, 10]),  # 10 / (3/4) = 13.3 high
    ],
)
def test_where_no_area_fits_the_largest_box_of_an_allowed_ratio_is_cut_from_the_centre(
    height: int, width: int, box: list[int]
) -> None:
    # At most a tenth of the frame has an allowed ratio, and at least four tenths are wanted.
    assert drawn(AugmentConfig(), height=height, width=width)["box"].tolist() == [box]


def test_where_only_the_ratio_fits_the_fallback_is_the_whole_frame() -> None:
    # No box of exactly the whole area and of ratio 4/3 or more lies inside a square.
    config = AugmentConfig(scale=(1, 1), ratio=(0.5, 2))
    boxes = {tuple(drawn(config, seed=seed, height=90, width=90)["box"][0].tolist()) for seed in range(20)}
    assert (0, 0, 90, 90) in boxes


def test_a_random_crop_takes_every_position_in_the_frame() -> None:
    boxes = many(AugmentConfig(crop="random", crop_size=126), "box")[:, 0]
    assert {tuple(box) for box in boxes[:, 2:].tolist()} == {(126, 126)}
    assert set(boxes[:, 0].tolist()) == {0, 1, 2}
    assert set(boxes[:, 1].tolist()) == set(range(46))


def test_a_centre_crop_has_the_position_of_torchvision() -> None:
    # (128 - 112) / 2 = 8; (171 - 112) / 2 = 29.5, rounded to the even number.
    assert drawn(AugmentConfig(crop="centre", crop_size=112))["box"].tolist() == [[8, 30, 112, 112]]


def test_without_a_crop_size_the_largest_square_is_cut() -> None:
    # (171 - 128) // 2 = 21, as RSPNet's code cuts it, where torchvision would round 21.5 to 22.
    assert drawn(AugmentConfig(crop="centre"))["box"].tolist() == [[0, 21, 128, 128]]
    assert drawn(AugmentConfig(crop="centre"), height=171, width=128)["box"].tolist() == [[21, 0, 128, 128]]
    assert drawn(AugmentConfig(crop="centre", crop_size=128))["box"].tolist() == [[0, 22, 128, 128]]


def test_a_crop_size_beyond_the_video_becomes_its_shorter_side() -> None:
    config = AugmentConfig(crop="centre", crop_size=112)
    assert drawn(config, height=60, width=80)["box"].tolist() == [[0, 10, 60, 60]]
    assert drawn(config, height=80, width=60)["box"].tolist() == [[10, 0, 60, 60]]


def test_three_crops_lie_along_the_longer_side() -> None:
    # 171 - 112 = 59 from left to right; 29.5 rounds to 30.
    config = AugmentConfig(crop="three", crop_size=112)
    assert drawn(config)["box"].tolist() == [[8, 0, 112, 112], [8, 30, 112, 112], [8, 59, 112, 112]]
    tall = drawn(config, height=171, width=128)
    assert tall["box"].tolist() == [[0, 8, 112, 112], [30, 8, 112, 112], [59, 8, 112, 112]]


def test_ten_crops_are_the_corners_and_the_centre_each_of_them_also_flipped() -> None:
    ten = drawn(AugmentConfig(crop="ten", crop_size=112, flip=0))
    corners = [[0, 0], [0, 59], [16, 0], [16, 59], [8, 30]]
    assert ten["box"].tolist() == [[*corner, 112, 112] for corner in corners * 2]
    assert ten["flip"].tolist() == [False] * 5 + [True] * 5


@pytest.mark.parametrize(
    ("config", "size", "views"),
    [
        (AugmentConfig(crop="ten"), (128, 171), 6),  # at the left, in the middle and at the right, each both ways
        (AugmentConfig(crop="ten", crop_size=128), (128, 171), 6),
        (AugmentConfig(crop="ten", crop_size=127), (128, 171), 10),
        (AugmentConfig(crop="ten", crop_size=127), (128, 128), 8),  # the middle, 0.5, is rounded to a corner
        (AugmentConfig(crop="ten", crop_size=112), (128, 171), 10),
        (AugmentConfig(crop="ten", crop_size=128), (144, 256), 10),
        (AugmentConfig(crop="three"), (128, 171), 3),
        (AugmentConfig(crop="three"), (128, 128), 1),
        (AugmentConfig(crop="three"), (128, 129), 2),
        (AugmentConfig(crop="three", crop_size=112), (128, 128), 3),
    ],
)
def test_crops_that_coincide_count_once(config: AugmentConfig, size: tuple[int, int], views: int) -> None:
    assert config.distinct(*size) == views


@pytest.mark.parametrize(
    ("config", "sizes", "message"),
    [
        (
            AugmentConfig(size=128, crop="ten"),
            [(144, 256), (128, 171)],
            "crop is 'ten', which is 10 different crops, but frames of 144 x 256 pixels give only 6; set crop_size=126",
        ),
        (
            AugmentConfig(size=128, crop="ten", crop_size=128),
            [(144, 256), (128, 171)],
            "crop is 'ten', which is 10 different crops, but frames of 128 x 171 pixels give only 6; "
            "set crop_size=112, or crop_size=128 for frames of vprep shard --short-side 146",
        ),
        (
            AugmentConfig(crop="three"),
            [(128, 128)],
            "crop is 'three', which is 3 different crops, but frames of 128 x 128 pixels give only 1; "
            "set crop_size=112",
        ),
    ],
)
def test_crops_that_coincide_are_refused(config: AugmentConfig, sizes: list[tuple[int, int]], message: str) -> None:
    with pytest.raises(UsageError) as error:
        demand_distinct(config, sizes)
    assert str(error.value) == message


def test_three_crops_may_coincide_in_the_square_ones_of_many_videos() -> None:
    demand_distinct(AugmentConfig(crop="three"), [(128, 128), (128, 171)])
    demand_distinct(AugmentConfig(crop="ten", crop_size=112), [(128, 128), (128, 171)])


def test_the_three_crops_of_a_clip_are_flipped_together() -> None:
    flips = many(AugmentConfig(crop="three"), "flip")
    assert (flips.all(1) | ~flips.any(1)).all()
    assert 0.4 < flips.mean() < 0.6


@pytest.mark.parametrize("chance", [0.0, 0.2, 1.0])
@pytest.mark.parametrize("name", ["flip", "grey", "solarise"])
def test_chances_are_kept(name: str, chance: float) -> None:
    assert many(replace(AugmentConfig(), **{name: chance}), name).mean() == pytest.approx(
        chance, abs=0.08 * (0 < chance < 1)
    )


def test_sigma_is_zero_without_blur_and_else_between_its_limits() -> None:
    sigma = many(AugmentConfig(blur=0.5, blur_sigma=(0.3, 1.5)), "sigma")
    assert np.mean(sigma > 0) == pytest.approx(0.5, abs=0.08)
    blurred = sigma[sigma > 0]
    assert 0.3 <= blurred.min() < 0.4
    assert 1.4 < blurred.max() <= 1.5


def test_factors_are_drawn_around_one_and_the_hue_around_zero() -> None:
    factors = many(AugmentConfig(jitter=(0.4, 2.0, 0.1, 0.3)), "jitter", 2000)[:, 0]
    # A factor is never negative, so a strength above one is cut off below.
    assert factors.min(0) == pytest.approx([0.6, 0, 0.9, -0.3], abs=0.01)
    assert factors.max(0) == pytest.approx([1.4, 3, 1.1, 0.3], abs=0.01)
    assert factors.mean(0) == pytest.approx([1, 1.5, 1, 0], abs=0.05)


def test_a_strength_of_zero_changes_nothing() -> None:
    factors = many(AugmentConfig(jitter=(0, 0.4, 0, 0)), "jitter")[:, 0]
    assert (factors[:, [0, 2, 3]] == [1, 1, 0]).all()
    assert len(set(factors[:, 1].tolist())) == 400


def test_a_clip_without_jitter_has_the_identity() -> None:
    factors = many(AugmentConfig(jitter=(0.4, 0.4, 0.4, 0.1), jitter_chance=0.8), "jitter")[:, 0]
    assert np.mean((factors == [1, 1, 1, 0]).all(1)) == pytest.approx(0.2, abs=0.06)


def test_all_orders_of_the_jitter_are_about_equally_frequent() -> None:
    orders = [tuple(order) for order in many(AugmentConfig(), "jitter_order", 4800)[:, 0].tolist()]
    counts = [orders.count(order) for order in set(orders)]
    assert len(counts) == 24
    assert all(sorted(order) == [0, 1, 2, 3] for order in orders)
    assert min(counts) > 120  # 200 on average; five standard deviations of 14 less


def test_frames_with_a_jitter_of_their_own_differ() -> None:
    jitter = drawn(PACE)["jitter"]
    kept = (jitter == [1, 1, 1, 0]).all(1)
    assert 0 < kept.sum() < 12
    assert len(np.unique(jitter[~kept], axis=0)) == (~kept).sum()


@pytest.mark.parametrize(
    ("config", "box"),
    [
        (AugmentConfig(crop="random", crop_size=112), (112, 112)),
        (AugmentConfig(crop="centre", crop_size=200), (128, 128)),
        (AugmentConfig(crop="centre"), (128, 128)),
        (AugmentConfig(), None),
        (AugmentConfig(crop="three", crop_size=112), None),
        (AugmentConfig(crop="ten", crop_size=112), None),
    ],
)
def test_the_size_of_a_box_is_known_before_it_is_drawn_where_it_is_fixed(
    config: AugmentConfig, box: tuple[int, int] | None
) -> None:
    assert config.fixed_box(128, 171) == box


def test_parameters_of_a_batch_are_stacked_by_sample_and_view() -> None:
    parameters = [[drawn(PACE, seed=10 * sample + view) for view in range(2)] for sample in range(3)]
    batch = stack(parameters)
    assert batch["box"].shape == (3, 2, 1, 4)
    assert batch["jitter_order"].shape == (3, 2, 16, 4)
    assert batch["grey"].shape == (3, 2)
    for name, array in batch.items():
        assert array.dtype == parameters[0][0][name].dtype
        assert np.array_equal(array[2, 1], parameters[2][1][name])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"crop": "middle"},
            "crop is 'middle'; write one of area, random, centre, three, ten",
        ),
        (
            {"normalise": "none"},
            "normalise is 'none'; write one of imagenet, unit, bgr255",
        ),
        ({"jitter_per": "batch"}, "jitter_per is 'batch'; write one of clip, frame"),
        (
            {"order": ("grey", "jitter")},
            "order is 'grey,jitter'; write each of grey, jitter, blur, solarise, flip exactly once, "
            "also those with chance 0",
        ),
        ({"size": 0}, "size is 0; it must be at least 1 pixel"),
        ({"crop": "random", "crop_size": -3}, "crop_size is -3; it must be at least 1 pixel"),
        (
            {"crop_size": 112},
            "crop_size is 112 with crop 'area', which draws its sizes by scale: leave crop_size out",
        ),
        ({"grey": 1.5}, "grey is 1.5; it must be from 0 to 1"),
        ({"blur_kernel": 10}, "blur_kernel is 10; it must be odd, and from 1 to 223, which is 2 x size - 1"),
        ({"size": 4}, "blur_kernel is 11; it must be odd, and from 1 to 7, which is 2 x size - 1"),
        (
            {"scale": (1.0, 0.4)},
            "scale is (1.0, 0.4); it must be two numbers above 0 up to 1, the smaller first",
        ),
        ({"scale": (0.4, 1.2)}, "scale is (0.4, 1.2); it must be two numbers above 0 up to 1, the smaller first"),
        ({"ratio": (0, 1)}, "ratio is (0, 1); it must be two numbers above 0, the smaller first"),
        (
            {"blur_sigma": (0.0, 2.0)},
            "blur_sigma is (0.0, 2.0); it must be two numbers above 0, the smaller first",
        ),
        (
            {"jitter": (0.4, 0.4, 0.4, 0.6)},
            "jitter is (0.4, 0.4, 0.4, 0.6); it must be four strengths from 0 on, of brightness, contrast, "
            "saturation and hue, the last one up to 0.5",
        ),
    ],
)  # fmt: skip
def test_impossible_settings_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as error:
        AugmentConfig(**wrong)
    assert str(error.value) == message


def test_drawing_needs_no_torch() -> None:
    program = f"import runpy, sys; runpy.run_path({config_module.__file__!r}); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
