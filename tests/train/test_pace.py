"""Pace prediction: both halves of its loss, and that they learn."""

from dataclasses import replace
from fractions import Fraction
from itertools import islice
from math import log
from pathlib import Path

import pytest
import slow_prp_pace as slow
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from vtrain.backbones import Backbone, backbone
from vtrain.data import open_shards
from vtrain.data.augment.apply import Augment
from vtrain.methods.method import Method
from vtrain.methods.pace import RELEASED, Config, Contrast, Sampling, Softmax
from vtrain.methods.pace.network import Pace, contrastive

LOOK = replace(RELEASED, size=24, crop_size=None)
SMALL = Sampling(frames=4, paces=(1, 2, 3, 4), looks=(LOOK,))
CONTRASTS: list[Contrast] = ["none", "same context", "same pace"]
SOFTMAXES: list[Softmax] = ["anchor", "batch"]


def method(config: Config) -> Pace:
    torch.manual_seed(2)
    return Pace(backbone("tiny"), config)


def given(config: Config, videos: int = 4, seed: int = 3) -> tuple[Tensor, dict[str, Tensor]]:
    """Return clips and targets, as loader and augmentation return them."""
    rng, views, paces = torch.Generator().manual_seed(seed), config.plan().views, len(config.sampling.paces)
    clips = torch.rand(videos, views, 3, config.sampling.frames, 24, 24, generator=rng)
    pace = torch.randint(paces, (videos, views), generator=rng)
    return clips, {"pace": pace, "row": torch.arange(videos) + 50, "speed": pace + 1.0}


def features(count: int, dim: int = 6) -> Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(count))


def features_of(net: Pace, clips: Tensor) -> Tensor:
    return net.backbone(clips.flatten(0, 1)).mean((2, 3, 4)).detach()


@pytest.mark.parametrize("softmax", SOFTMAXES)
@pytest.mark.parametrize(
    "kinds",
    [
        [7, 7, 8, 8, 9, 9],  # the two clips of three videos
        [7, 8, 9, 7, 8, 9],
        [0, 1, 1, 3, 2, 1, 0],  # paces, two of them shown once
        [4, 4],
        [5, 5, 5],
    ],
)
def test_the_contrastive_loss_is_that_of_the_equations(kinds: list[int], softmax: Softmax) -> None:
    z = features(len(kinds))
    found = contrastive(z, torch.tensor(kinds), softmax).item()
    assert found == pytest.approx(slow.contrastive(z.double().numpy(), kinds, softmax), rel=1e-5)


@pytest.mark.parametrize("softmax", SOFTMAXES)
@pytest.mark.parametrize("kinds", [[3], [0, 1, 2]])
def test_without_positives_the_contrastive_loss_is_0(kinds: list[int], softmax: Softmax) -> None:
    z = features(len(kinds)).requires_grad_()
    loss = contrastive(z, torch.tensor(kinds), softmax)
    loss.backward()
    assert loss.item() == 0
    assert z.grad is not None
    assert not z.grad.any()


def test_equal_features_give_the_loss_of_chance() -> None:
    """Each of 8 clips has 7 others, of which one is the positive; the batch has 56 pairs."""
    z, kinds = torch.ones(8, 5), torch.arange(4).repeat_interleave(2)
    assert contrastive(z, kinds, "anchor").item() == pytest.approx(log(7))
    assert contrastive(z, kinds, "batch").item() == pytest.approx(log(56))


def test_large_products_neither_overflow_nor_vanish() -> None:
    z = (features(6) * 1e3).requires_grad_()
    for softmax in SOFTMAXES:
        loss = contrastive(z, torch.tensor([0, 0, 1, 1, 2, 2]), softmax)
        (gradient,) = torch.autograd.grad(loss, [z])
        assert loss.isfinite()
        assert gradient.isfinite().all()


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_the_loss_is_the_weighted_sum_of_the_parts_that_the_formulas_give(contrast: Contrast) -> None:
    config = Config(sampling=SMALL, contrast=contrast, weight_cls=0.5, weight_ctr=0.2)
    net, (clips, targets) = method(config), given(config)
    outputs, z = net(clips, targets), features_of(net, clips)
    paces = targets["pace"].flatten().tolist()
    wanted = {"pace": slow.cross_entropy(net.head(z).double().detach().numpy(), paces)}
    if contrast != "none":
        kinds = paces if contrast == "same pace" else [50, 50, 51, 51, 52, 52, 53, 53]
        wanted["contrast"] = slow.contrastive(z.double().numpy(), kinds, "anchor")
    assert {name: outputs[name].item() for name in wanted} == pytest.approx(wanted, rel=1e-5)
    weights = {"pace": 0.5, "contrast": 0.2}
    assert outputs["loss"].item() == pytest.approx(sum(weights[name] * part for name, part in wanted.items()), rel=1e-5)
    assert set(outputs) == {"loss", "pace_accuracy", *wanted}


def test_features_of_length_1_are_compared_by_their_cosine_over_the_temperature() -> None:
    config = Config(sampling=SMALL, contrast="same context", features="unit", temperature=0.25)
    net, (clips, targets) = method(config), given(config)
    z = features_of(net, clips)
    z = 2 * z / z.norm(dim=1, keepdim=True)  # 2 x 2 is 1 / 0.25
    wanted = slow.contrastive(z.double().numpy(), [0, 0, 1, 1, 2, 2, 3, 3], "anchor")
    assert net(clips, targets)["contrast"].item() == pytest.approx(wanted, rel=1e-5)


def test_the_extra_layer_stands_before_the_contrastive_loss_only() -> None:
    config = Config(sampling=SMALL, contrast="same context", layer="fc", ctr_dim=8)
    net, (clips, targets) = method(config), given(config)
    assert isinstance(net.layer, nn.Sequential)
    z = features_of(net, clips)
    outputs = net(clips, targets)
    wanted = slow.contrastive(net.layer(z).detach().double().numpy(), [0, 0, 1, 1, 2, 2, 3, 3], "anchor")
    assert outputs["contrast"].item() == pytest.approx(wanted, rel=1e-5)
    assert outputs["pace"].item() == pytest.approx(
        nn.functional.cross_entropy(net.head(z), targets["pace"].flatten()).item()
    )


def test_an_extra_layer_of_8_adds_the_4_thousand_parameters_of_the_paper() -> None:
    def count(config: Config) -> int:
        with torch.device("meta"):
            return sum(parameter.numel() for parameter in Pace(Backbone(512), config).parameters())

    head = 512 * 4 + 4
    added = {dim: count(Config(contrast="same context", layer="fc", ctr_dim=dim)) - head for dim in (8, 128)}
    assert added == {8: 4_104, 128: 65_664}
    assert count(Config(layer="fc")) == head  # without a contrastive loss there is nothing behind it


def test_the_plan_has_two_clips_of_a_video_where_they_are_compared() -> None:
    assert {contrast: Config(contrast=contrast).plan().views for contrast in CONTRASTS} == {
        "none": 1,
        "same context": 2,
        "same pace": 1,
    }


def test_clips_of_a_video_that_is_twice_in_a_batch_are_no_negatives() -> None:
    config = Config(sampling=SMALL, contrast="same context")
    net, (clips, targets) = method(config), given(config)
    targets["row"] = torch.tensor([50, 51, 50, 52])
    wanted = slow.contrastive(features_of(net, clips).double().numpy(), [50, 50, 51, 51, 50, 50, 52, 52], "anchor")
    assert net(clips, targets)["contrast"].item() == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("paces", [(1, 2, 3), (1, 2, 3, 4, 5, 6), (Fraction(1, 3), Fraction(1, 2), 1, 2, 3)])
def test_the_head_has_an_output_for_each_pace_and_begins_at_chance(paces: tuple[Fraction | int, ...]) -> None:
    config = Config(sampling=replace(SMALL, paces=paces))
    net, (clips, targets) = method(config), given(config, 6)
    assert net.head.out_features == len(paces)
    nn.init.zeros_(net.head.weight)
    nn.init.zeros_(net.head.bias)
    assert net(clips, targets)["loss"].item() == pytest.approx(log(len(paces)))


def test_accuracy_is_the_share_of_clips_whose_pace_is_predicted() -> None:
    config = Config(sampling=SMALL, contrast="same context")
    net, (clips, targets) = method(config), given(config, 3)
    nn.init.zeros_(net.head.weight)
    net.head.bias.data = torch.tensor([0.0, 0.0, 1.0, 0.0])
    targets["pace"] = torch.tensor([[2, 1], [0, 2], [3, 3]])
    assert net(clips, targets)["pace_accuracy"].item() == pytest.approx(1 / 3)


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_all_of_it_learns_and_comes_back_from_its_state(contrast: Contrast) -> None:
    config = Config(sampling=SMALL, contrast=contrast, layer="fc")
    net: Method = method(config)
    assert isinstance(net, Pace)
    clips, targets = given(config, 3)
    state = torch.get_rng_state()
    net(clips, targets)["loss"].backward()
    net.after_step(0.5)
    assert torch.equal(torch.get_rng_state(), state)
    still = [name for name, x in net.named_parameters() if x.grad is None or not x.grad.isfinite().all()]
    assert still == []
    other = Pace(backbone("tiny"), config)
    other.load_state_dict(net.state_dict())
    outputs = [one.eval()(clips, targets) for one in (net, other)]
    assert all(torch.equal(outputs[0][name], outputs[1][name]) for name in outputs[0])


def test_contrastive_learning_alone_leaves_the_head_as_it_is() -> None:
    config = Config(sampling=SMALL, contrast="same context", weight_cls=0.0)
    net, (clips, targets) = method(config), given(config)
    net(clips, targets)["loss"].backward()
    assert net.head.weight.grad is not None
    assert not net.head.weight.grad.any()
    assert any(part.grad.any() for part in net.backbone.parameters() if part.grad is not None)


@pytest.mark.parametrize("contrast", CONTRASTS)
@pytest.mark.parametrize("softmax", SOFTMAXES)
def test_a_step_does_not_read_a_value(contrast: Contrast, softmax: Softmax) -> None:
    config = Config(sampling=SMALL, contrast=contrast, softmax=softmax)
    with FakeTensorMode():  # its tensors have no values: to ask for one is an error
        views = config.plan().views
        targets = {"pace": torch.zeros(3, views, dtype=torch.long), "row": torch.arange(3)}
        Pace(backbone("tiny"), config)(torch.rand(3, views, 3, 4, 24, 24), targets)["loss"].backward()


def test_losses_stay_float32_where_the_network_is_not() -> None:
    config = Config(sampling=SMALL, contrast="same context", layer="fc")
    net, (clips, targets) = method(config), given(config)
    plain = net(clips, targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = net(clips, targets)
    assert {value.dtype for value in outputs.values()} == {torch.float32}
    assert outputs["loss"].item() == pytest.approx(plain["loss"].item(), rel=0.02)


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_a_step_on_a_batch_of_real_clips_lowers_its_loss(shards: Path, contrast: Contrast) -> None:
    config = Config(sampling=SMALL, contrast=contrast)
    (batch,) = islice(open_shards(shards, config.plan(), batch=5, seed=1), 1)
    clips = Augment(config.plan().looks)(batch.clips, batch.augmentation)
    targets = batch.targets | {"speed": batch.speed, "row": batch.row, "label": batch.label, "valid": batch.valid}
    assert targets["pace"].shape == clips.shape[:2]
    net = method(config)
    before = net(clips, targets)["loss"]
    before.backward()
    torch.optim.SGD(net.parameters(), lr=0.01).step()
    assert net(clips, targets)["loss"] < before
