"""The optimisers: which parameters they move, how far, and what they remember."""

import io
from functools import partial
from typing import Any

import pytest
import torch
from devices import needs_gpu, waiting_is_an_error
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from vprep.errors import UsageError
from vtrain.backbones import BACKBONES, backbone
from vtrain.methods import ascnet, prp
from vtrain.methods.ascnet.network import ASCNet
from vtrain.methods.prp.network import PRP
from vtrain.optim.config import Exclude, Name, Optim
from vtrain.optim.optimizers import build, set_lr

NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)

every_optimiser = pytest.mark.parametrize("name", ["sgd", "lars", "adamw"])
excluded_or_not = pytest.mark.parametrize("exclude", ["none", "bias and norm"])


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv3d(2, 3, 2)
        self.norm = nn.BatchNorm3d(3)
        self.head = nn.Linear(3, 4)
        self.idle = nn.Linear(2, 2)  # no gradient reaches it
        self.target = nn.Linear(3, 4).requires_grad_(False)

    def learn(self, seed: int) -> None:
        """Set gradients that depend on the seed and the weights alone."""
        self.zero_grad()
        noise = torch.Generator().manual_seed(seed)
        features = self.norm(self.conv(torch.randn(4, 2, 3, 4, 4, generator=noise))).square().mean((2, 3, 4))
        (self.head(features) * torch.randn(4, 4, generator=noise)).sum().backward()


def step(net: Net, optimizer: Optimizer, seed: int, lr: float) -> None:
    net.learn(seed)
    set_lr(optimizer, lr)
    optimizer.step()


def learning(net: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in net.named_parameters() if parameter.requires_grad}


def by_parameter(net: nn.Module, optimizer: Optimizer, key: str) -> dict[str, Any]:
    """Return the value of `key` in each parameter's group; a parameter in two groups is an error."""
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    pairs = [(names[id(parameter)], group[key]) for group in optimizer.param_groups for parameter in group["params"]]
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


def assert_same(net: nn.Module, other: nn.Module, rtol: float | None = None, atol: float | None = None) -> None:
    for name, value in net.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[name], rtol=rtol, atol=atol)


# ---- groups


@every_optimiser
@excluded_or_not
def test_every_trainable_parameter_is_in_exactly_one_group(name: Name, exclude: Exclude) -> None:
    net = Net()
    optimizer = build(net, Optim(name=name, exclude=exclude), {"head.": 10.0, "conv.bias": 0.5})
    assert by_parameter(net, optimizer, "lr_factor").keys() == learning(net).keys()
    assert not any(member.startswith("target.") for member in learning(net))


@every_optimiser
def test_biases_and_norms_are_excluded_when_the_config_says_so(name: Name) -> None:
    net = Net()
    optimizer = build(net, Optim(name=name, weight_decay=0.1, eta=0.01, exclude="bias and norm"))
    full = {"conv.weight", "head.weight", "idle.weight"}
    decays = by_parameter(net, optimizer, "weight_decay")
    assert decays == {member: 0.1 if member in full else 0.0 for member in learning(net)}
    if name == "lars":
        assert by_parameter(net, optimizer, "eta") == {member: 0.01 if member in full else None for member in decays}
    everything = build(net, Optim(name=name, weight_decay=0.1))
    assert by_parameter(net, everything, "weight_decay") == dict.fromkeys(learning(net), 0.1)


@pytest.mark.parametrize("name", BACKBONES)
def test_in_every_backbone_biases_and_norms_are_the_parameters_of_one_dimension(name: str) -> None:
    with torch.device("meta"):
        net = backbone(name)
    wanted = {
        f"{path}.{own}"
        for path, module in net.named_modules()
        for own, _ in module.named_parameters(recurse=False)
        if own == "bias" or isinstance(module, NORMS)
    }
    etas = by_parameter(net, build(net, Optim(name="lars", exclude="bias and norm")), "eta")
    assert {member for member, eta in etas.items() if eta is None} == wanted


def test_the_last_layer_of_prps_rate_head_learns_ten_times_as_fast() -> None:
    net = PRP(backbone("tiny"), prp.Config())
    optimizer = build(net, Optim(weight_decay=5e-4), net.lr_factors)
    set_lr(optimizer, 0.01)
    fast = {"rates.fc.weight", "rates.fc.bias"}
    assert by_parameter(net, optimizer, "lr") == {member: 0.1 if member in fast else 0.01 for member in learning(net)}
    assert fast < learning(net).keys()


def test_a_momentum_copy_is_left_out() -> None:
    net = ASCNet(backbone("tiny"), ascnet.Config(pool=2, hidden=8, dim=4))
    members = by_parameter(net, build(net, Optim(name="lars", exclude="bias and norm")), "lr")
    assert {member.split(".")[0] for member in members} == {"backbone", "heads", "predictors"}


def test_of_two_keys_that_fit_a_name_the_longer_counts() -> None:
    net = Net()
    factors = by_parameter(net, build(net, Optim(), {"head.bias": 3.0, "head": 2.0, "": 0.5}), "lr_factor")
    assert (factors["head.bias"], factors["head.weight"], factors["conv.bias"]) == (3.0, 2.0, 0.5)


def test_a_key_that_fits_no_parameter_is_an_error() -> None:
    module = nn.ModuleDict({"backbone": nn.Sequential(nn.Linear(1, 1), nn.Linear(1, 1)), "head": nn.Linear(1, 1)})
    with pytest.raises(UsageError) as caught:
        build(module, Optim(), {"fc8": 10.0})
    assert str(caught.value) == (
        "lr_factors has 'fc8', with which no parameter's name begins; their names begin with backbone, head"
    )


def test_a_shared_weight_is_in_one_group_once() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    net[1].weight = net[0].weight
    assert by_parameter(net, build(net, Optim()), "lr").keys() == {"0.weight", "0.bias", "1.bias"}


@every_optimiser
def test_no_weight_changes_before_a_learning_rate_is_set(name: Name) -> None:
    net, before = Net(), Net()
    net.learn(1)
    before.learn(1)
    build(net, Optim(name=name)).step()
    assert_same(net, before, rtol=0, atol=0)


# ---- steps


class SlowLars:
    """Computes LARS slowly: one parameter after another, in float64."""

    def __init__(self, net: Net, config: Optim, factors: dict[str, float]) -> None:
        self.config, self.factors = config, factors
        self.weights = {name: parameter.detach().double() for name, parameter in learning(net).items()}
        self.moving = {name: torch.zeros_like(weight) for name, weight in self.weights.items()}

    def step(self, net: Net, lr: float) -> None:
        for name, parameter in learning(net).items():
            if parameter.grad is None:
                continue
            weight, update = self.weights[name], parameter.grad.double()
            if self.config.exclude == "none" or not (name.endswith("bias") or name.startswith("norm")):
                update = update + self.config.weight_decay * weight
                length, other = (tensor.square().sum().sqrt().item() for tensor in (weight, update))
                update = update * (self.config.eta * length / other if length > 0 and other > 0 else 1.0)
            self.moving[name] = self.config.momentum * self.moving[name] + update
            factor = next((factor for start, factor in self.factors.items() if name.startswith(start)), 1.0)
            self.weights[name] = weight - lr * factor * self.moving[name]


@excluded_or_not
@pytest.mark.parametrize(("momentum", "weight_decay"), [(0.9, 1e-2), (0.9, 0.0), (0.0, 1e-2)])
def test_lars_takes_the_steps_of_a_slow_loop(exclude: Exclude, momentum: float, weight_decay: float) -> None:
    net = Net()
    nn.init.zeros_(net.head.weight)  # a length of 0
    config = Optim(name="lars", momentum=momentum, weight_decay=weight_decay, eta=0.02, exclude=exclude)
    factors = {"head.": 10.0}
    optimizer, slow = build(net, config, factors), SlowLars(net, config, factors)
    for number in range(8):
        step(net, optimizer, number, lr=0.5 / (number + 1))
        slow.step(net, lr=0.5 / (number + 1))
        for name, weight in slow.weights.items():
            torch.testing.assert_close(learning(net)[name].detach().double(), weight, rtol=2e-5, atol=2e-6)
    assert not torch.equal(net.conv.weight, Net().conv.weight)
    assert torch.equal(net.idle.weight, Net().idle.weight)


@pytest.mark.parametrize(
    ("weight", "gradient", "wanted"),
    [
        # 2.0 * 0.1 * 5 = 1, in the direction of the gradient, whatever its length
        ([3.0, 4.0], [0.0, 1e-4], [3.0, 3.0]),
        ([3.0, 4.0], [500.0, 0.0], [2.0, 4.0]),
        # where a length is 0, the gradient is used as it is
        ([0.0, 0.0], [3.0, 1.0], [-6.0, -2.0]),
        ([3.0, 4.0], [0.0, 0.0], [3.0, 4.0]),
        ([0.0, 0.0], [0.0, 0.0], [0.0, 0.0]),
    ],
)
def test_the_first_step_of_lars_is_that_computed_by_hand(
    weight: list[float], gradient: list[float], wanted: list[float]
) -> None:
    net = nn.Linear(2, 1, bias=False)
    net.weight.data, net.weight.grad = torch.tensor([weight]), torch.tensor([gradient])
    optimizer = build(net, Optim(name="lars", weight_decay=0.0, eta=0.1))
    set_lr(optimizer, 2.0)
    optimizer.step()
    torch.testing.assert_close(net.weight.data, torch.tensor([wanted]))
    assert net.weight.grad.tolist() == torch.tensor([gradient]).tolist()


@pytest.mark.parametrize(
    ("config", "plain"),
    [
        (Optim(name="sgd", momentum=0.8, weight_decay=0.1, nesterov=True), partial(SGD, momentum=0.8, nesterov=True)),
        (Optim(name="sgd", momentum=0.8, weight_decay=0.1), partial(SGD, momentum=0.8)),
        (Optim(name="adamw", momentum=0.8, weight_decay=0.1), partial(AdamW, betas=(0.8, 0.999))),
    ],
)
def test_sgd_and_adamw_are_torchs(config: Optim, plain: partial[Optimizer]) -> None:
    net, other = Net(), Net()
    optimizer, slow = build(net, config), plain(learning(other).values(), lr=0.05, weight_decay=0.1, foreach=False)
    for number in range(5):
        step(net, optimizer, number, lr=0.05)
        other.learn(number)
        slow.step()
    assert_same(net, other)
    assert optimizer.defaults["foreach"] is True


# ---- what a checkpoint holds, and what a step reads from the device


@every_optimiser
def test_an_optimiser_resumed_from_a_checkpoint_is_the_same_to_the_bit(name: Name) -> None:
    (net, optimizer), (other, resumed) = (
        (each, build(each, Optim(name=name, exclude="bias and norm"), {"head.": 10.0})) for each in (Net(), Net())
    )
    for number in range(3):
        step(net, optimizer, number, lr=0.01)
    file = io.BytesIO()
    torch.save((net.state_dict(), optimizer.state_dict()), file)
    weights, state = torch.load(io.BytesIO(file.getvalue()), weights_only=True)
    other.load_state_dict(weights)
    resumed.load_state_dict(state)
    for number in range(3, 6):
        step(net, optimizer, number, lr=0.005)
        step(other, resumed, number, lr=0.005)
    assert_same(net, other, rtol=0, atol=0)
    assert not torch.equal(net.conv.weight, Net().conv.weight)


def ready(device: str | torch.device, name: Name) -> Optimizer:
    net = Net().to(device)
    for parameter in learning(net).values():
        parameter.grad = torch.ones_like(parameter)
    return build(net, Optim(name=name, exclude="bias and norm"))


def two_steps(optimizer: Optimizer) -> None:
    for lr in (0.1, 0.2):
        set_lr(optimizer, lr)
        optimizer.step()


@every_optimiser
def test_a_step_reads_no_value_from_the_device(name: Name) -> None:
    """Tensors of the device "meta" have no values, and reading one is an error."""
    optimizer = ready("meta", name)
    two_steps(optimizer)
    with pytest.raises(RuntimeError):
        optimizer.param_groups[0]["params"][0].sum().item()


@needs_gpu
@every_optimiser
def test_a_step_on_a_gpu_waits_for_nothing(name: Name, device: torch.device) -> None:
    optimizer = ready(device, name)
    with waiting_is_an_error():
        two_steps(optimizer)


def test_lars_keeps_the_layout_of_the_weights() -> None:
    net = nn.Conv3d(2, 3, 2)
    net.weight.data = net.weight.data.contiguous(memory_format=torch.channels_last_3d)
    net(torch.randn(1, 2, 4, 4, 4)).sum().backward()
    optimizer = build(net, Optim(name="lars"))
    optimizer.step()
    assert optimizer.state[net.weight]["momentum_buffer"].stride() == net.weight.stride()
    assert net.weight.is_contiguous(memory_format=torch.channels_last_3d)


# ---- what is refused


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"momentum": 1.5}, "momentum is 1.5; it must be from 0 to 0.9999"),
        ({"weight_decay": -1.0}, "weight_decay is -1.0; it must be at least 0"),
        (
            {"name": "lars", "nesterov": True},
            "optim.nesterov is true with optim.name=lars: only sgd has it; set optim.nesterov=false",
        ),
        (
            {"momentum": 0.0, "nesterov": True},
            "optim.nesterov is true with optim.momentum=0: set optim.momentum above 0, or optim.nesterov=false",
        ),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        build(nn.Linear(1, 1), Optim(**settings))
    assert str(caught.value) == message
