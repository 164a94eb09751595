"""Augmented clips, against formulas for one clip, one frame and one pixel (slow_augment.py)."""

from collections.abc import Callable
from dataclasses import replace
from itertools import permutations
from random import Random
from typing import Any

import pytest
import torch
from devices import every_device
from slow_augment import Drawn, slow_batch
from torch import Tensor
from torch.nn.functional import interpolate

from vprep.errors import UsageError
from vtrain.data.augment import apply, crop
from vtrain.data.augment.apply import Augment
from vtrain.data.augment.config import AugmentConfig, stack

H, W, T, S = 20, 26, 4, 16
EVERYTHING = AugmentConfig(
    size=S,
    jitter=(0.6, 0.6, 0.6, 0.5),
    jitter_chance=0.8,
    grey=0.4,
    blur=0.5,
    blur_kernel=5,
    solarise=0.4,
    solarise_threshold=0.6,
    normalise="unit",
)
PLAIN = AugmentConfig(size=S, crop="centre", crop_size=S, flip=0, normalise="unit", blur_kernel=5)


def clips(samples: int, views: int, seed: int = 0, height: int = H, width: int = W) -> Tensor:
    """Smooth pictures that move, with noise: greys, edges and all hues are among the pixels."""
    generator = torch.Generator().manual_seed(seed)
    small = torch.rand(samples * views, 3, T, 4, 5, generator=generator)
    smooth = interpolate(small, (T, height, width), mode="trilinear") * 1.4 - 0.2
    noisy = smooth + 0.05 * torch.randn(smooth.shape, generator=generator)
    pixels = (noisy.clamp(0, 1) * 255).round().to(torch.uint8)
    return pixels.permute(0, 2, 3, 4, 1).reshape(samples, views, T, height, width, 3).contiguous()


def drawn(config: AugmentConfig, samples: int, views: int, seed: int = 0, height: int = H, width: int = W) -> Drawn:
    rng = Random(seed)
    batch = [[config.draw(rng, height, width, T) for _ in range(views)] for _ in range(samples)]
    return {name: torch.from_numpy(array) for name, array in stack(batch).items()}


def part(batch: Drawn, samples: slice, views: slice) -> Drawn:
    return {name: array[samples, views] for name, array in batch.items()}


def seen(config: AugmentConfig, pixels: Tensor, batch: Drawn, **more: Any) -> Tensor:  # noqa: ANN401
    """[B, N x K, C, T, S, S]"""
    return Augment([config])(pixels, batch, **more)


@pytest.fixture(params=["each", "at once"])
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The way of a CPU, box by box; and that of other devices, which crop all boxes and many clips at once."""
    if request.param == "at once":
        monkeypatch.setattr(apply, "crop", crop.crop_at_once)
        monkeypatch.setattr(apply, "AT_A_TIME", {})
    return str(request.param)


def differs_little(first: Tensor, second: Tensor, share: float = 0.0) -> bool:
    """Return whether at most `share` of the pixels differs: at the threshold of solarise one may fall either way."""
    wrong = (first - second).abs() > 2e-5
    return wrong.float().mean().item() <= share


def test_a_batch_of_mixed_parameters_is_the_same_as_each_clip_alone(both_ways: str) -> None:
    pixels, batch = clips(5, 2), drawn(EVERYTHING, 5, 2)
    for name in ("flip", "grey", "sigma", "solarise"):
        assert 0 < (batch[name] > 0).sum() < 10, name
    assert differs_little(seen(EVERYTHING, pixels, batch), slow_batch(EVERYTHING, pixels, batch), share=1e-4)


@every_device
@pytest.mark.parametrize(
    "config", [EVERYTHING, replace(EVERYTHING, jitter_per="frame", crop="ten", normalise="bgr255")]
)
def test_a_device_augments_a_batch_as_the_formulas_do(config: AugmentConfig, device: torch.device) -> None:
    pixels, batch = clips(5, 2), drawn(config, 5, 2)
    scale = 255 if config.normalise == "bgr255" else 1
    found = seen(config, pixels.to(device), batch).cpu() / scale
    assert differs_little(found, seen(config, pixels, batch) / scale, share=1e-3)


def test_ops_are_applied_in_the_order_of_the_config() -> None:
    pixels, batch = clips(2, 1), drawn(replace(EVERYTHING, solarise=0.9, blur=1, jitter_chance=1, grey=0), 2, 1)
    results = []
    for order in permutations(EVERYTHING.order):
        config = replace(EVERYTHING, order=order)
        if order.index("flip") == 4 or order == (
            "flip",
            *EVERYTHING.order[:4],
        ):  # 25 of 120 orders are enough: a flip commutes
            results.append(seen(config, pixels, batch))
            assert differs_little(results[-1], slow_batch(config, pixels, batch), share=1e-3), order
    # Grey is not drawn and a flip commutes with every op: six orders of jitter, blur and solarise are left.
    apart = [results[0]]
    for result in results:
        if all((result - other).abs().max() > 1e-3 for other in apart):
            apart.append(result)
    assert len(apart) == 6


@pytest.mark.parametrize("order", list(permutations(range(4))))
def test_the_four_ops_of_the_jitter_are_applied_in_the_order_of_the_clip(order: tuple[int, ...]) -> None:
    config = replace(PLAIN, jitter=(0.6, 0.6, 0.6, 0.5))
    pixels, batch = clips(1, 1), drawn(config, 1, 1)
    batch["jitter_order"] = torch.tensor(order, dtype=torch.uint8).view(1, 1, 1, 4)
    assert differs_little(seen(config, pixels, batch), slow_batch(config, pixels, batch))


def test_a_batch_may_have_clips_of_all_orders(both_ways: str) -> None:
    config = replace(PLAIN, jitter=(0.6, 0.6, 0.6, 0.5))
    pixels, batch = clips(25, 1), drawn(config, 25, 1)
    orders = [*permutations(range(4)), (0, 1, 2, 3)]
    batch["jitter_order"] = torch.tensor(orders, dtype=torch.uint8).view(25, 1, 1, 4)
    batch["jitter"][3:9, ..., 3] = 0  # some without hue
    batch["jitter"][5:7] = torch.tensor([1.0, 1.0, 1.0, 0.0])  # the identity
    assert differs_little(seen(config, pixels, batch), slow_batch(config, pixels, batch))


def test_contrast_is_around_the_mean_of_the_whole_clip() -> None:
    pixels = torch.zeros(1, 1, 2, S, S, 3, dtype=torch.uint8)
    pixels[:, :, 1] = 200
    batch = drawn(PLAIN, 1, 1, height=S, width=S)
    batch["jitter"] = torch.tensor([1, 0.5, 1, 0]).view(1, 1, 1, 4)
    out = seen(PLAIN, pixels, batch)
    # A black and a light frame: the mean is 100 (the weights of the grey add up to 0.9999), halfway to it 50 and 150.
    assert out[0, 0, :, 0].flatten().numpy() * 255 == pytest.approx(50, abs=0.02)
    assert out[0, 0, :, 1].flatten().numpy() * 255 == pytest.approx(150, abs=0.02)


def test_contrast_per_frame_is_around_the_mean_of_the_frame() -> None:
    config = replace(PLAIN, jitter_per="frame")
    pixels = torch.full((1, 1, T, S, S, 3), 200, dtype=torch.uint8)
    batch = drawn(config, 1, 1, height=S, width=S)
    batch["jitter"] = torch.tensor([1, 0.5, 1, 0]).expand(1, 1, T, 4)
    assert (seen(config, pixels, batch) * 255).flatten().numpy() == pytest.approx(200, abs=0.02)


def test_all_frames_of_a_clip_are_augmented_alike() -> None:
    pixels = clips(3, 1)
    pixels[:] = pixels[:, :, :1]
    out = seen(EVERYTHING, pixels, drawn(EVERYTHING, 3, 1))
    for frame in range(1, T):
        assert torch.equal(out[:, :, :, frame], out[:, :, :, 0])


def test_frames_can_have_a_jitter_of_their_own(both_ways: str) -> None:
    config = replace(EVERYTHING, jitter_per="frame")
    pixels = clips(3, 2)
    pixels[:] = pixels[:, :, :1]
    batch = drawn(config, 3, 2)
    out = seen(config, pixels, batch)
    assert differs_little(out, slow_batch(config, pixels, batch), share=1e-4)
    assert (out[:, :, :, 1] - out[:, :, :, 0]).abs().amax((2, 3, 4)).min() > 1e-3


@pytest.mark.parametrize("crops", ["three", "ten"])
def test_every_box_of_a_clip_is_cut_out(crops: Any, both_ways: str) -> None:  # noqa: ANN401
    config = replace(EVERYTHING, crop=crops, crop_size=14)
    pixels, batch = clips(2, 2), drawn(config, 2, 2)
    out = seen(config, pixels, batch)
    assert out.shape == (2, 2 * config.crops, 3, T, S, S)
    assert differs_little(out, slow_batch(config, pixels, batch), share=1e-4)


def test_a_flip_swaps_left_and_right(both_ways: str) -> None:
    pixels = clips(1, 2)
    pixels[:, 1] = pixels[:, 0]
    batch = drawn(replace(PLAIN, crop_size=15), 1, 2)
    batch["flip"] = torch.tensor([[[False], [True]]])
    out = seen(PLAIN, pixels, batch)
    assert differs_little(out[:, 1].flip(-1), out[:, 0])
    assert (out[:, 1] - out[:, 0]).abs().max() > 0.1


def test_a_box_of_the_right_size_is_copied_bit_by_bit(both_ways: str) -> None:
    config = replace(PLAIN, crop="random", flip=0.5)
    pixels, batch = clips(4, 2), drawn(config, 4, 2)
    out = seen(config, pixels, batch)
    for sample in range(4):
        for view in range(2):
            top, left = batch["box"][sample, view, 0, :2].int().tolist()
            cut = pixels[sample, view, :, top : top + S, left : left + S].permute(3, 0, 1, 2)
            cut = cut.flip(-1) if batch["flip"][sample, view] else cut
            assert torch.equal(out[sample, view], cut / 255)


def test_a_box_of_the_right_size_is_copied_in_a_batch_of_others(both_ways: str) -> None:
    config = replace(PLAIN, crop="area", crop_size=None)
    pixels, batch = clips(4, 1), drawn(config, 4, 1)
    batch["box"][2] = torch.tensor([3, 5, S, S])
    assert torch.equal(
        seen(config, pixels, batch)[2, 0], pixels[2, 0, :, 3 : 3 + S, 5 : 5 + S].permute(3, 0, 1, 2) / 255
    )


@pytest.mark.parametrize("box", [(4, 6, 9, 12), (0, 0, 7, 5), (13, 20, 7, 6), (1, 2, 1, 1), (2, 3, 18, 22)])
def test_no_pixel_outside_of_the_box_has_an_effect(box: tuple[int, int, int, int], both_ways: str) -> None:
    top, left, height, width = box
    pixels = torch.full((1, 1, T, H, W, 3), 255, dtype=torch.uint8)
    pixels[:, :, :, top : top + height, left : left + width] = 0
    batch = drawn(PLAIN, 1, 1)
    batch["box"] = torch.tensor(box).view(1, 1, 1, 4).float()
    # Where boxes are cropped at once, rounded coordinates let a share of 1e-6 through.
    assert seen(PLAIN, pixels, batch).max() < 1e-5


def test_clips_need_not_be_contiguous(both_ways: str) -> None:
    pixels, batch = clips(2, 2), drawn(EVERYTHING, 2, 2)
    strange = pixels.permute(1, 0, 5, 2, 4, 3).contiguous().permute(1, 0, 3, 5, 4, 2)
    assert not strange.is_contiguous()
    assert torch.equal(seen(EVERYTHING, strange, batch), seen(EVERYTHING, pixels, batch))


@pytest.mark.parametrize("per", ["clip", "frame"])
def test_a_batch_equals_its_samples_one_by_one_to_a_millionth(per: Any, both_ways: str) -> None:  # noqa: ANN401
    config = replace(EVERYTHING, jitter_per=per, solarise=0)
    pixels, batch = clips(4, 2), drawn(config, 4, 2)
    together = seen(config, pixels, batch)
    for sample in range(4):
        for view in range(2):
            of = slice(sample, sample + 1), slice(view, view + 1)
            alone = seen(config, pixels[of], part(batch, *of))
            assert (alone[0, 0] - together[sample, view]).abs().max() <= 1e-6


def test_on_a_cpu_a_sample_does_not_depend_on_its_batch_by_a_bit() -> None:
    pixels, batch = clips(4, 2), drawn(EVERYTHING, 4, 2)
    together = seen(EVERYTHING, pixels, batch)
    halves = [seen(EVERYTHING, pixels[half], part(batch, half, slice(None))) for half in (slice(0, 1), slice(1, 4))]
    assert torch.equal(torch.cat(halves), together)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("crops", ["area", "three"])
def test_clips_have_the_layout_that_convolutions_need(crops: Any, dtype: torch.dtype) -> None:  # noqa: ANN401
    config = replace(EVERYTHING, crop=crops)
    out = seen(config, clips(2, 2), drawn(config, 2, 2), dtype=dtype)
    assert out.flatten(0, 1).is_contiguous(memory_format=torch.channels_last_3d)
    assert out.dtype == dtype
    assert not out.requires_grad


def test_imagenet_pixels_are_normalised_by_its_mean_and_deviation() -> None:
    pixels, batch = clips(2, 1), drawn(EVERYTHING, 2, 1)
    mean = torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1, 1)
    deviation = torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1, 1)
    normal = seen(replace(EVERYTHING, normalise="imagenet"), pixels, batch)
    assert differs_little(normal, (seen(EVERYTHING, pixels, batch) - mean) / deviation)


def test_bgr_pixels_are_from_0_to_255_with_blue_first_for_every_op() -> None:
    config = replace(EVERYTHING, normalise="bgr255")
    pixels, batch = clips(4, 1), drawn(config, 4, 1)
    out = seen(config, pixels, batch)
    assert differs_little(out / 255, slow_batch(config, pixels.flip(-1), batch), share=1e-4)
    assert out.max() > 200


def test_bgr_pixels_without_ops_are_the_stored_bytes() -> None:
    pixels, batch = clips(2, 1, height=S, width=S), drawn(PLAIN, 2, 1, height=S, width=S)
    out = seen(replace(PLAIN, normalise="bgr255"), pixels, batch)
    assert torch.equal(out[:, 0], pixels[:, 0].flip(-1).permute(0, 4, 1, 2, 3).float())


@pytest.mark.parametrize("strength", [1.0, 5.0])
def test_pixels_stay_between_black_and_white(strength: float) -> None:
    config = replace(EVERYTHING, jitter=(strength, strength, strength, 0.5))
    out = seen(config, clips(8, 2), drawn(config, 8, 2))
    assert out.min() >= -1e-6  # the weights of the blur sum to 1 with the precision of floats
    assert out.max() <= 1 + 1e-6


def test_views_with_different_configs_share_a_batch() -> None:
    looks = (replace(EVERYTHING, blur=1, solarise=0), replace(EVERYTHING, blur=0, solarise=1))
    rng = Random(0)
    arrays = stack([[config.draw(rng, H, W, T) for config in looks] for _ in range(3)])
    batch = {name: torch.from_numpy(array) for name, array in arrays.items()}
    pixels = clips(3, 2)
    assert differs_little(Augment(looks)(pixels, batch), slow_batch(EVERYTHING, pixels, batch), share=1e-3)


@pytest.mark.parametrize("config", [EVERYTHING, replace(EVERYTHING, crop="random", crop_size=S, jitter_per="frame")])
def test_nothing_is_read_back_from_the_device(config: AugmentConfig) -> None:
    # The meta device has shapes and no values: to read one is an error.
    out = seen(config, clips(3, 2).to("meta"), drawn(config, 3, 2))
    assert out.device.type == "meta"
    assert out.flatten(0, 1).is_contiguous(memory_format=torch.channels_last_3d)


def test_autocast_changes_nothing() -> None:
    pixels, batch = clips(2, 2), drawn(EVERYTHING, 2, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = seen(EVERYTHING, pixels, batch)
    assert torch.equal(out, seen(EVERYTHING, pixels, batch))


def test_no_random_state_is_used_or_changed() -> None:
    pixels, batch = clips(2, 2), drawn(EVERYTHING, 2, 2)
    before = torch.get_rng_state()
    first = seen(EVERYTHING, pixels, batch)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(seen(EVERYTHING, pixels, batch), first)


def test_the_inputs_are_not_changed() -> None:
    pixels, batch = clips(2, 2, height=S, width=S), drawn(EVERYTHING, 2, 2, height=S, width=S)
    copies = pixels.clone(), {name: array.clone() for name, array in batch.items()}
    seen(EVERYTHING, pixels, batch)
    assert torch.equal(pixels, copies[0])
    assert all(torch.equal(array, copies[1][name]) for name, array in batch.items())


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"size": 32}, "size is 16 and 32"),
        ({"normalise": "imagenet"}, "normalise is unit and imagenet"),
        ({"blur_kernel": 7}, "blur_kernel is 5 and 7"),
        ({"solarise_threshold": 0.5}, "solarise_threshold is 0.6 and 0.5"),
        ({"crop": "three"}, "crops is 1 and 3"),
        ({"jitter_per": "frame"}, "jitter_per is clip and frame"),
        (
            {"order": ("flip", "grey", "jitter", "blur", "solarise")},
            "order is ('grey', 'jitter', 'blur', 'solarise', 'flip') and "
            "('flip', 'grey', 'jitter', 'blur', 'solarise')",
        ),
    ],
)
def test_configs_that_cannot_share_a_batch_are_refused(other: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as error:
        Augment((EVERYTHING, EVERYTHING, replace(EVERYTHING, **other)))
    rest = " for the views of one batch, which are augmented together: write the same value for all"
    assert str(error.value) == f"looks.{message}{rest}"


def floats(pixels: Tensor, batch: Drawn) -> tuple[Tensor, Drawn]:
    return pixels.float(), batch


def too_far(pixels: Tensor, batch: Drawn) -> tuple[Tensor, Drawn]:
    return pixels[:, :, :, :, :-1], batch | {"box": torch.tensor([2, 8, 18, 18.0]).expand(2, 1, 1, 4)}


def ten_boxes(pixels: Tensor, batch: Drawn) -> tuple[Tensor, Drawn]:
    return pixels, drawn(replace(EVERYTHING, crop="ten"), 2, 1)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            floats,
            "clips are torch.float32; they must be torch.uint8, as the loader decodes them",
        ),
        (
            too_far,
            "a box ends at 20 x 26 in frames of 20 x 25; draw boxes for the size of the clips",
        ),
        (
            ten_boxes,
            "boxes are (2, 1, 10, 4) and jitters (2, 1, 1, 4); these clips and this config need (2, 1, 1, 4) and "
            "(2, 1, 1, 4): draw with the config that is applied",
        ),
    ],
)
def test_parameters_that_do_not_fit_the_clips_are_refused(
    spoil: Callable[[Tensor, Drawn], tuple[Tensor, Drawn]], message: str
) -> None:
    with pytest.raises(ValueError) as error:
        seen(EVERYTHING, *spoil(clips(2, 1), drawn(EVERYTHING, 2, 1)))
    assert str(error.value) == message
