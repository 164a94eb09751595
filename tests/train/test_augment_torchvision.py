"""The same pixels as torchvision's functions, frame by frame, where torchvision is installed.

Its build for the CPU is of no use to torch from PyPI but for these functions, which are plain Python: it imports once
the two compiled operators that it looks for have a name.
"""

import importlib
import sys
import warnings
from collections.abc import Callable
from random import Random
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor

from vtrain.data.augment import colour
from vtrain.data.augment.apply import Augment
from vtrain.data.augment.config import AugmentConfig, stack
from vtrain.data.augment.crop import crop_at_once, crop_each

STUBS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def load() -> ModuleType:
    """Import torchvision.transforms.functional; declare its compiled operators if they do not load."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module("torchvision.transforms.functional")
        except RuntimeError:
            for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
                del sys.modules[name]
            for schema in STUBS:
                torch.library.define(f"torchvision::{schema.partition('(')[0]}", schema[schema.index("(") :])
            return importlib.import_module("torchvision.transforms.functional")


try:
    tv = load()
except ImportError as error:
    pytest.skip(f"{error}: `pip install --no-deps torchvision==0.28.0 pillow` brings it", allow_module_level=True)

H, W, T, S = 40, 52, 3, 24


def clip(seed: int = 0) -> Tensor:
    """Return stored pixels [T, H, W, C], with greys, black and white among them."""
    pixels = torch.randint(0, 256, (T, H, W, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    pixels[:, :4] = torch.arange(W, dtype=torch.uint8)[:, None]
    pixels[:, 4:6], pixels[:, 6:8] = 0, 255
    return pixels


def as_frames(pixels: Tensor) -> Tensor:
    """Return the pixels as [T, C, H, W] from 0 to 1, as torchvision takes them."""
    return pixels.permute(0, 3, 1, 2) / 255


def changed(op: Callable[..., None], *numbers: object) -> Tensor:
    """Apply an op to the clip, each frame an item of its own; return pixels as torchvision has them."""
    items = clip().permute(0, 3, 1, 2)[:, None].float().contiguous()
    op(items, *numbers)
    return items[:, 0] / 255


def of_each(number: float) -> Tensor:
    return torch.full((T, 1, 1, 1, 1), number)


def close(ours: Tensor, theirs: Tensor) -> bool:
    return bool((ours - theirs).abs().max() < 5e-6)


def test_grey_equals_that_of_torchvision() -> None:
    assert close(changed(colour.grey), tv.rgb_to_grayscale(as_frames(clip()), 3))


@pytest.mark.parametrize("factor", [0.0, 0.6, 1.4, 3.0])
@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_a_factor_has_the_effect_that_it_has_in_torchvision(name: str, factor: float) -> None:
    theirs = torch.stack([getattr(tv, f"adjust_{name}")(frame, factor) for frame in as_frames(clip())])
    assert close(changed(getattr(colour, name), of_each(factor)), theirs)


@pytest.mark.parametrize("turns", [-0.5, -0.17, 0.0, 0.05, 0.4, 0.5])
def test_hue_equals_that_of_torchvision(turns: float) -> None:
    assert close(changed(colour.hue, of_each(turns)), tv.adjust_hue(as_frames(clip()), turns))


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 1.0])
def test_solarise_equals_that_of_torchvision(threshold: float) -> None:
    assert close(changed(colour.solarise, threshold), tv.solarize(as_frames(clip()), threshold))


@pytest.mark.parametrize("sigma", [0.1, 0.7, 2.0])
@pytest.mark.parametrize("kernel", [1, 3, 11, 23])
def test_blur_equals_that_of_torchvision(kernel: int, sigma: float) -> None:
    items = clip()[:, :S, :S].permute(0, 3, 1, 2)[:, None].float().contiguous()
    colour.blur(items, torch.full((T,), sigma), kernel)
    theirs = tv.gaussian_blur(as_frames(clip()[:, :S, :S]), [kernel, kernel], [sigma, sigma])
    assert close(items[:, 0] / 255, theirs)


@pytest.mark.parametrize("ways", [crop_each, crop_at_once])
@pytest.mark.parametrize("box", [(0, 0, H, W), (3, 7, 30, 21), (11, 2, 9, 50), (16, 28, S, S), (39, 51, 1, 1)])
def test_a_crop_equals_that_of_torchvision(box: tuple[int, int, int, int], ways: Callable[..., Tensor]) -> None:
    ours = ways(clip()[None], np.array([box], np.float32), np.array([False]), S)
    assert close(ours[0] / 255, tv.resized_crop(as_frames(clip()), *box, [S, S], antialias=False))


def test_ten_crops_are_the_five_of_torchvision_each_of_them_also_flipped() -> None:
    config = AugmentConfig(size=S, crop="ten", crop_size=S, normalise="imagenet")
    drawn = stack([[config.draw(Random(0), H, W, T)]])
    ours = Augment([config])(clip()[None, None], {name: torch.from_numpy(array) for name, array in drawn.items()})
    five = torch.stack(tv.five_crop(as_frames(clip()), [S, S]))
    theirs = tv.normalize(torch.cat((five, tv.hflip(five))), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    assert close(ours[0].transpose(1, 2), theirs)
