"""PRP: what is reconstructed, how much it counts, and that both branches learn."""

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from math import log
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
import slow_prp_pace as slow
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from vprep.errors import UsageError
from vtrain.backbones import BACKBONES, backbone
from vtrain.data import open_shards
from vtrain.data.augment.apply import Augment
from vtrain.data.augment.config import AugmentConfig
from vtrain.data.sampling import Video
from vtrain.methods.method import Method
from vtrain.methods.prp import PAPER, RELEASED, Config, Interpolated, Mask, Sampling, compared
from vtrain.methods.prp.mask import motion_mask
from vtrain.methods.prp.network import PRP

GOLDEN = json.loads((Path(__file__).parent / "golden" / "prp_masks.json").read_text())
LOOK = AugmentConfig(size=24, crop="centre", flip=0.0, normalise="unit")
SMALL = Sampling(frames=4, speeds=(1, 2, 4), short="loop", looks=(LOOK,))


def method(config: Config, name: str = "tiny") -> PRP:
    torch.manual_seed(2)
    return PRP(backbone(name), config)


def videos(count: int, side: int = 24, frames: int = 40) -> Tensor:
    """Return noise [count, frames, 3, side, side]."""
    return torch.rand(count, frames, 3, side, side, generator=torch.Generator().manual_seed(7))


def shown(plan: Sampling, pixels: Tensor, labels: list[int]) -> tuple[Tensor, dict[str, Tensor], list[Tensor]]:
    """Return clips and targets, as loader and augmentation return them, and the raw windows that they come from."""
    views, windows = [], []
    for video, label in zip(pixels, labels, strict=True):
        speed = plan.speeds[label]
        sample = replace(plan, speeds=(speed,))(Video("v", len(video), 25.0, 24, 24), Random(label))
        (view,) = sample.views
        # Of one speed alone the view may be shorter: its last frame fills it, as the plan does for many.
        frames = [*view.frames, *[view.frames[-1]] * (plan.length - len(view.frames))]
        views.append(video[frames])
        windows.append(video[view.frames[0] :][: plan.frames * speed])
    clips = torch.stack(views).transpose(1, 2).contiguous(memory_format=torch.channels_last_3d)[:, None]
    speeds = torch.tensor([[float(plan.speeds[label])] for label in labels])
    return clips, {"rate": torch.tensor(labels), "speed": speeds}, windows


def made_by(net: PRP, clips: Tensor, targets: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
    """Return the method's outputs, and what its decoder made [B, T, C, H, W], cut to the size of the clip."""
    kept: list[Tensor] = []
    assert net.decoder is not None
    hook = net.decoder.register_forward_hook(lambda module, given, made: kept.append(made.detach()))
    outputs = net(clips, targets)
    hook.remove()
    side = clips.shape[-1]
    return outputs, kept[0][:, :, : net.plan.reconstructed, :side, :side].transpose(1, 2)


def seen_by(net: PRP, clips: Tensor, targets: dict[str, Tensor]) -> Tensor:
    """Return the backbone's input."""
    kept: list[Tensor] = []
    hook = net.backbone.register_forward_pre_hook(lambda module, given: kept.append(given[0]))
    net(clips, targets)
    hook.remove()
    return kept[0]


@pytest.mark.parametrize("row", GOLDEN, ids=lambda row: f"speed {row['speed']}")
def test_the_released_mask_is_that_of_the_authors_code(row: dict[str, Any]) -> None:
    speed = row["speed"]
    raw = np.random.RandomState(row["seed"]).uniform(0, 1, (3, 16 * speed, 112, 112)).astype(np.float32)
    motion = [16 * segment + number for segment in range(speed) for number in compared("released", 16)]
    frames = torch.from_numpy(raw[:, motion]).transpose(0, 1)[None]
    mask = motion_mask(frames, torch.tensor([float(speed)]), "released", 16, 32)[0].transpose(0, 1)
    assert list(mask.shape) == row["shape"] == [3, 32, 112, 112]
    sample = mask[:, ::7, ::37, ::41].flatten()[:30]
    # Levels are differences of means that are nearly the same, so that float32 leaves five digits.
    assert torch.allclose(sample, torch.tensor(row["sample"]), rtol=0, atol=4e-5)
    found = (mask.min().item(), mask.max().item(), mask.mean().item())
    assert found == pytest.approx((row["min"], row["max"], row["mean"]), abs=4e-6)


@pytest.mark.parametrize("mask", ["released", "paper"])
def test_a_mask_of_13_by_13_has_weights_from_0_8_to_2(mask: Mask) -> None:
    frames = videos(2, 112, 2 * len(compared(mask, 16)))
    levels = motion_mask(frames, torch.tensor([2.0, 2.0]), mask, 16, 32)
    assert levels.shape == (2, 32, 3 if mask == "released" else 1, 112, 112)
    assert levels.min().item() >= 0.8 - 1e-6
    assert levels.max().item() <= 2 + 1e-6
    # 13 steps over 112 pixels: nearer to the edge than half a step, all pixels have the level of the outermost one.
    assert torch.equal(levels[..., :4, :4], levels[..., :1, :1].expand_as(levels[..., :4, :4]))
    assert not torch.equal(levels[..., 4, 4], levels[..., 5, 5])


@pytest.mark.parametrize(
    ("mask", "rate", "speeds", "interpolated"),
    [
        ("released", 2, (1, 2, 4), "excluded"),
        ("released", 2, (2, 4), "excluded"),
        ("released", 1, (1, 2, 4), "excluded"),
        ("released", 4, (1, 2, 4, 8), "excluded"),
        ("released", 4, (1, 2), "included"),
        ("paper", 2, (1, 2, 4, 8), "included"),
        ("paper", 4, (1, 4), "excluded"),
        ("none", 4, (1, 2), "excluded"),
        ("none", 1, (4,), "included"),
    ],
)
def test_the_loss_is_that_of_the_formulas_on_the_raw_frames(
    mask: Mask,
    rate: int,
    speeds: tuple[int, ...],
    interpolated: Interpolated,
) -> None:
    config = Config(
        sampling=replace(SMALL, rate=rate, speeds=speeds, mask=mask),
        interpolated=interpolated,
        weight_rec=0.7,
        weight_cls=0.3,
    )
    labels = [*range(len(speeds)), 0, len(speeds) - 1]
    clips, targets, windows = shown(config.sampling, videos(len(labels)), labels)
    net = method(config)
    outputs, made = made_by(net, clips, targets)
    each = []
    for number, label in enumerate(labels):
        sizes = (speeds[label], rate, 4)
        window = windows[number].double().numpy()
        wanted, real = slow.target(window, *sizes)
        masks = {"released": slow.released_mask, "paper": slow.paper_mask}
        weights = masks[mask](window, *sizes) if mask in masks else np.ones(len(wanted))
        counts = real if interpolated == "excluded" else [True] * len(real)
        each.append(slow.reconstruction(made[number].double().numpy(), wanted, weights, counts))
        seen = seen_by(net, clips, targets)[number].transpose(0, 1)
        assert torch.equal(seen, windows[number][:: speeds[label]])  # X = R[::s]
    assert outputs["reconstruction"].item() == pytest.approx(sum(each) / len(each), rel=2e-5)
    both = 0.7 * outputs["reconstruction"] + 0.3 * outputs["rate"]
    assert outputs["loss"].item() == pytest.approx(both.item(), rel=1e-6)


def test_a_quarter_frame_is_three_quarters_of_one_neighbour_and_one_of_the_other() -> None:
    config = Config(sampling=replace(SMALL, rate=4, speeds=(1, 2)))
    clips, targets, windows = shown(config.sampling, videos(2), [0, 1])
    wanted, real = method(config).wanted(clips[:, 0].transpose(1, 2), targets["speed"][:, 0])
    one, two = windows
    assert torch.allclose(wanted[0, 5], 0.75 * one[1] + 0.25 * one[2])
    assert torch.allclose(wanted[1, 5], 0.5 * two[2] + 0.5 * two[3])
    assert torch.equal(wanted[0, 12:], one[3].expand(4, -1, -1, -1))  # behind the last frame there is none
    assert real.tolist() == [[1.0, 0.0, 0.0, 0.0] * 4, [1.0, 0.0] * 8]


def test_the_mask_of_a_sample_does_not_depend_on_the_others() -> None:
    """Unused slots of maps repeat a frame, so that they hold no motion."""
    for mask in ("released", "paper"):
        plan = replace(SMALL, speeds=(1, 8), mask=mask)  # type: ignore[arg-type]
        clips, targets, _ = shown(plan, videos(2), [0, 1])
        both = motion_mask(clips[:, 0].transpose(1, 2)[:, 8:], targets["speed"][:, 0], plan.mask, 4, 8)
        alone = [
            motion_mask(clips[n : n + 1, 0].transpose(1, 2)[:, 8:], targets["speed"][n : n + 1, 0], plan.mask, 4, 8)
            for n in range(2)
        ]
        assert torch.equal(both, torch.cat(alone))
        assert both[0].std() > 0.1


def test_without_motion_all_weights_are_the_same() -> None:
    still = videos(1, frames=1).expand(1, 8, -1, -1, -1)
    speeds = torch.tensor([2.0])
    for mask in ("released", "paper"):
        levels = motion_mask(still, speeds, mask, 4, 8)  # type: ignore[arg-type]
        assert levels.unique().tolist() == pytest.approx([1.0] * len(levels.unique()))


def test_a_segment_without_motion_has_weight_1_and_a_colour_weight_2() -> None:
    frames = videos(1, frames=8).clone()
    frames[:, :4] = frames[:, :1]  # the first of two segments
    frames[:, :, 1] = 0.5  # no green in the second
    levels = motion_mask(frames, torch.tensor([2.0]), "released", 4, 8)[0]
    assert torch.allclose(levels[:4], torch.ones(()))
    assert torch.allclose(levels[4:, 1], torch.full((), 2.0))
    assert levels[4:, 0].std() > 0.1


def test_the_loss_of_the_rate_is_ln_4_where_the_head_knows_nothing() -> None:
    config = Config(sampling=replace(SMALL, speeds=(1, 2, 4, 8)), branches="DP")
    net = method(config)
    assert net.rates is not None
    torch.nn.init.zeros_(net.rates.fc.weight)
    torch.nn.init.zeros_(net.rates.fc.bias)
    clips, targets, _ = shown(net.plan, videos(4), [0, 1, 2, 3])
    outputs = net(clips, targets)
    assert outputs["loss"].item() == outputs["rate"].item() == pytest.approx(log(4))
    assert outputs["rate_accuracy"].item() == 0.25


def test_a_branch_that_is_alone_has_no_other_part_and_no_weight() -> None:
    heads = {}
    for branches in ("DG-P", "DP", "GP"):
        net = method(Config(sampling=SMALL, branches=branches))  # type: ignore[arg-type]
        clips, targets, _ = shown(net.plan, videos(3), [0, 1, 2])
        outputs = net(clips, targets)
        heads[branches] = ({name.split(".")[0] for name, _ in net.named_parameters()}, set(outputs), net.lr_factors)
        if branches != "DG-P":
            assert torch.equal(outputs["loss"], outputs["rate" if branches == "DP" else "reconstruction"])
    both = {"loss", "rate", "rate_accuracy", "reconstruction"}
    assert heads == {
        "DG-P": ({"backbone", "rates", "decoder"}, both, {"rates.fc.": 10.0}),
        "DP": ({"backbone", "rates"}, {"loss", "rate", "rate_accuracy"}, {"rates.fc.": 10.0}),
        "GP": ({"backbone", "decoder"}, {"loss", "reconstruction"}, {}),
    }


def test_without_a_reconstruction_only_the_clip_is_read() -> None:
    assert Config(branches="DP").plan().length == 16
    assert Config(branches="GP").plan().length == 32 + 4 * 8
    assert Config(branches="GP", sampling=Sampling(mask="none")).plan().length == 32
    assert Config(sampling=Sampling(mask="paper", looks=(PAPER,))).plan().length == 32 + 16 * 8


def test_the_factors_of_the_learning_rate_name_the_last_layer_of_the_rate_head() -> None:
    net = method(Config(sampling=SMALL, fc_lr=3.0))
    ((start, factor),) = net.lr_factors.items()
    named = [name for name, _ in net.named_parameters() if name.startswith(start)]
    assert (named, factor) == (["rates.fc.weight", "rates.fc.bias"], 3.0)


def test_clips_whose_values_are_not_from_0_to_1_cannot_be_reconstructed() -> None:
    plain = replace(RELEASED, normalise="imagenet")
    with pytest.raises(UsageError) as error:
        Config(sampling=Sampling(looks=(plain,)))
    assert str(error.value) == (
        "sampling.looks.normalise is 'imagenet', but the decoder makes values from 0 to 1: set normalise=unit"
    )
    Config(sampling=Sampling(looks=(plain,)), branches="DP")


@pytest.mark.parametrize(("frames", "side"), [(8, 56), (16, 112), (4, 24), (6, 40)])
def test_the_decoder_reconstructs_clips_of_any_size(frames: int, side: int) -> None:
    """8 x 56 x 56 has a map of 1 x 4 x 4, which the decoder enlarges to 16 x 64 x 64."""
    plan = replace(SMALL, frames=frames, speeds=(1, 2))
    with FakeTensorMode():
        net = PRP(backbone("tiny"), Config(sampling=plan))
        clips, targets = torch.rand(2, 1, 3, plan.length, side, side), fake_targets(2)
        assert net.decoder is not None
        made = net.reconstruct(net.decoder, torch.rand(2, 128, 1, 4, 4), torch.rand(2, 2 * frames, 3, side, side))
        assert made.shape == (2, 2 * frames, 3, side, side)
        assert net(clips, targets)["reconstruction"].shape == ()


def fake_targets(count: int) -> dict[str, Tensor]:
    return {"rate": torch.zeros(count, dtype=torch.long), "speed": torch.ones(count, 1)}


def test_what_is_cut_from_the_decoders_output_is_at_the_far_side() -> None:
    """A stride of 2 over 7 places reads 0, 2, 4 and 6, so the eighth of the doubled places is too much."""
    plan = replace(SMALL, frames=8, speeds=(1,))
    net = method(Config(sampling=plan))
    assert net.decoder is not None
    net.decoder = torch.nn.Upsample(scale_factor=(16, 16, 16))  # type: ignore[assignment]
    last = torch.arange(16.0).view(1, 1, 1, 4, 4)
    made = net.reconstruct(net.decoder, last, torch.rand(1, 16, 1, 56, 56))  # type: ignore[arg-type]
    assert made[0, 0, 0, ::16, ::16].tolist() == last[0, 0, 0].tolist()
    assert made[0, 0, 0, 55, 55] == 15.0


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * ("s3d" in name)) for name in BACKBONES])
def test_prp_trains_on_every_backbone(name: str) -> None:
    plan = Sampling(speeds=(1, 2))
    with FakeTensorMode():
        net = PRP(backbone(name), Config(sampling=plan))
        assert net(torch.rand(2, 1, 3, plan.length, 112, 112), fake_targets(2))["loss"].shape == ()


@pytest.mark.parametrize("mask", ["released", "paper", "none"])
def test_a_step_neither_reads_a_value_nor_draws_a_number(mask: Mask) -> None:
    config = Config(sampling=replace(SMALL, mask=mask))
    state = torch.get_rng_state()
    with FakeTensorMode():  # its tensors have no values: to ask for one is an error
        net = PRP(backbone("tiny"), config)
        net(torch.rand(3, 1, 3, config.plan().length, 24, 24), fake_targets(3))["loss"].backward()
    net, (clips, targets, _) = method(config), shown(config.plan(), videos(2), [0, 2])
    state = torch.get_rng_state()
    net(clips, targets)["loss"].backward()
    net.after_step(0.5)
    assert torch.equal(torch.get_rng_state(), state)


def test_losses_stay_float32_where_the_networks_are_not() -> None:
    config = Config(sampling=SMALL)
    net, (clips, targets, _) = method(config), shown(config.plan(), videos(4), [0, 1, 2, 1])
    plain = net(clips, targets)
    for given in (clips, clips.bfloat16()):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            outputs = net(given, targets)
        for name, value in outputs.items():
            assert value.dtype == torch.float32
            if name != "rate_accuracy":
                assert value.item() == pytest.approx(plain[name].item(), rel=0.02)


def test_all_of_it_learns_and_comes_back_from_its_state() -> None:
    config = Config(sampling=replace(SMALL, rate=4))
    net: Method = method(config)
    assert isinstance(net, PRP)
    clips, targets, _ = shown(config.plan(), videos(3), [0, 2, 1])
    net(clips, targets)["loss"].backward()
    still = [name for name, x in net.named_parameters() if x.grad is None or not x.grad.isfinite().all()]
    assert still == []
    assert all(part.grad.abs().sum() > 0 for part in net.backbone.parameters())  # type: ignore[union-attr]
    other = PRP(backbone("tiny"), config)
    other.load_state_dict(net.state_dict())
    outputs = [one.eval()(clips, targets) for one in (net, other)]
    assert all(torch.equal(outputs[0][name], outputs[1][name]) for name in outputs[0])


def test_the_names_of_the_heads_are_those_of_imported_weights() -> None:
    names = {name.rsplit(".", 1)[0] for name in method(Config(sampling=SMALL)).state_dict()}
    assert {"rates.fc", "rates.conv6.conv", "decoder.up1.up", "decoder.up4", "decoder.out.bn"} <= names


@pytest.mark.parametrize("mask", ["released", "paper"])
def test_a_step_on_a_batch_of_real_clips_lowers_its_loss(shards: Path, mask: Mask) -> None:
    config = Config(sampling=replace(SMALL, mask=mask))
    (batch,) = islice(open_shards(shards, config.plan(), batch=5, seed=1), 1)
    clips = Augment(config.plan().looks)(batch.clips, batch.augmentation)
    targets = batch.targets | {"speed": batch.speed, "row": batch.row, "label": batch.label, "valid": batch.valid}
    assert len(batch.speed.unique()) > 1
    assert lowers(method(config), lambda net: net(clips, targets))


def lowers(net: PRP, step: Callable[[PRP], dict[str, Tensor]]) -> bool:
    before = step(net)["loss"]
    before.backward()
    torch.optim.SGD(net.parameters(), lr=0.01).step()
    return bool(step(net)["loss"] < before)
