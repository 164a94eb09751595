"""Training on labels."""

from itertools import islice
from math import log
from pathlib import Path

import pytest
import slow_prp_pace as slow
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from vtrain.backbones import backbone
from vtrain.data import OneClip, open_shards
from vtrain.data.augment.apply import Augment
from vtrain.data.augment.config import AugmentConfig
from vtrain.methods.method import Method
from vtrain.methods.supervised import Config
from vtrain.methods.supervised.network import Supervised

SMALL = OneClip(frames=4, looks=(AugmentConfig(size=24),))
CONFIG = Config(classes=5, sampling=SMALL)


def method(config: Config = CONFIG) -> Supervised:
    torch.manual_seed(2)
    return Supervised(backbone("tiny"), config)


def clips(videos: int) -> Tensor:
    return torch.rand(videos, 1, 3, 4, 24, 24, generator=torch.Generator().manual_seed(3))


def test_the_loss_is_the_cross_entropy_of_the_labels() -> None:
    net, labels = method(), [0, 4, 2]
    logits = net.head(net.backbone(clips(3)[:, 0]).mean((2, 3, 4)))
    outputs = net(clips(3), {"label": torch.tensor(labels)})
    assert outputs["loss"].item() == pytest.approx(
        slow.cross_entropy(logits.detach().double().numpy(), labels), rel=1e-5
    )


def test_a_video_without_a_label_does_not_count() -> None:
    net, labels = method().eval(), torch.tensor([3, -1, 1, -1])
    outputs = net(clips(4), {"label": labels})
    alone = net(clips(4)[::2], {"label": labels[::2]})
    assert outputs["loss"].item() == pytest.approx(alone["loss"].item())
    assert outputs["accuracy"].item() == pytest.approx(alone["accuracy"].item())


def test_a_batch_without_any_label_has_a_loss_of_0() -> None:
    net = method()
    outputs = net(clips(2), {"label": torch.tensor([-1, -1])})
    outputs["loss"].backward()
    assert (outputs["loss"].item(), outputs["accuracy"].item()) == (0, 0)
    assert not any(part.grad.any() for part in net.parameters() if part.grad is not None)


def test_accuracy_is_the_share_of_labelled_videos_whose_class_is_predicted() -> None:
    net = method()
    nn.init.zeros_(net.head.weight)
    net.head.bias.data = torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0])
    outputs = net(clips(5), {"label": torch.tensor([1, -1, 1, 0, 4])})
    assert outputs["accuracy"].item() == 0.5
    net.head.bias.data.zero_()
    assert net(clips(2), {"label": torch.tensor([1, 3])})["loss"].item() == pytest.approx(log(5))


def test_all_of_it_learns_and_comes_back_from_its_state() -> None:
    net: Method = method()
    assert isinstance(net, Supervised)
    targets, state = {"label": torch.tensor([0, 1, -1])}, torch.get_rng_state()
    net(clips(3), targets)["loss"].backward()
    net.after_step(0.5)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(part.grad is not None and part.grad.any() for part in net.parameters())
    other = Supervised(backbone("tiny"), CONFIG)
    other.load_state_dict(net.state_dict())
    outputs = [one.eval()(clips(3), targets) for one in (net, other)]
    assert all(torch.equal(outputs[0][name], outputs[1][name]) for name in outputs[0])


def test_dropout_is_before_the_last_layer_and_only_in_training() -> None:
    net = method(Config(classes=5, sampling=SMALL, dropout=0.99))
    net.dropout.p = 1.0
    nn.init.zeros_(net.head.bias)
    targets = {"label": torch.tensor([0, 1])}
    assert net(clips(2), targets)["loss"].item() == pytest.approx(log(5))  # nothing is left
    assert net.eval()(clips(2), targets)["loss"].item() != pytest.approx(log(5), rel=1e-6)


def test_a_step_does_not_read_a_value() -> None:
    with FakeTensorMode():  # its tensors have no values: to ask for one is an error
        net = Supervised(backbone("tiny"), CONFIG)
        net(torch.rand(3, 1, 3, 4, 24, 24), {"label": torch.zeros(3, dtype=torch.long)})["loss"].backward()


def test_losses_stay_float32_where_the_network_is_not() -> None:
    net, targets = method(), {"label": torch.tensor([0, 1, 2])}
    plain = net(clips(3), targets)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = net(clips(3), targets)
    assert {value.dtype for value in outputs.values()} == {torch.float32}
    assert outputs["loss"].item() == pytest.approx(plain["loss"].item(), rel=0.02)


def test_a_step_on_a_batch_of_real_clips_lowers_its_loss(shards: Path) -> None:
    (batch,) = islice(open_shards(shards, CONFIG.plan(), batch=5, seed=1), 1)
    seen = Augment(CONFIG.plan().looks)(batch.clips, batch.augmentation)
    targets = batch.targets | {"label": batch.label, "row": batch.row, "speed": batch.speed, "valid": batch.valid}
    net = method()
    before = net(seen, targets)["loss"]
    before.backward()
    torch.optim.SGD(net.parameters(), lr=0.01).step()
    assert net(seen, targets)["loss"] < before
