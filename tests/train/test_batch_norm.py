"""Batch norm on the CPU is as exact in channels-last as float32 allows, and otherwise torch's own."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from devices import needs_gpu
from small_recipes import small
from torch import Tensor, nn

from vtrain.backbones.batch_norm import (
    LONGEST,
    TRIAL,
    ExactNorm3d,
    is_inexact,
    make_exact,
    splits,
    worst_error,
)
from vtrain.backbones.picture_norm import is_like_picture, of_pictures
from vtrain.recipes.recipe import for_classes
from vtrain.training.run import Place
from vtrain.training.train import make

CPU = torch.device("cpu")
SHAPES = {
    "first layers": (2, 3, 8, 40, 56),
    "odd sizes": (1, 5, 3, 67, 101),
    "pictures": (3, 4, 70, 90),
    "vectors": (10007, 4),  # a prime number: every sum has one number
}
LAYOUTS = {5: torch.channels_last_3d, 4: torch.channels_last, 2: torch.contiguous_format}
CLASSES: dict[int, type[nn.Module]] = {5: nn.BatchNorm3d, 4: nn.BatchNorm2d, 2: nn.BatchNorm1d}


def exact(norm: nn.Module) -> nn.Module:
    make_exact(norm)
    return norm


def noise(shape: tuple[int, ...], seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).mul_(2).add_(1)


def trained(
    norm: nn.Module, x: Tensor, slope: Tensor, forward: Callable[[Tensor], Tensor] | None = None
) -> dict[str, Tensor]:
    """Return what two steps in training mode give; `forward` is called instead of the module."""
    forward = forward or norm
    for number, parameter in enumerate(norm.parameters()):
        with torch.no_grad():
            parameter.copy_(noise(parameter.shape, number))
    x.requires_grad_()
    forward(x - 0.5)
    y = forward(x)
    gradients = torch.autograd.grad(y, [x, *norm.parameters()], slope.to(x.dtype))
    of = dict(zip(["clips", *dict(norm.named_parameters())], gradients, strict=True))
    return {"output": y.detach(), **of, **{f"{name} after": x for name, x in norm.named_buffers()}}


@pytest.mark.parametrize("threads", [1, 2])
def test_a_training_step_agrees_with_float64_where_torchs_own_does_not(threads: int) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        assert worst_error(exact(nn.BatchNorm3d(TRIAL[1])), CPU) < 2e-6
        # When this fails, torch has mended its batch norm, and ours may go.
        assert worst_error(nn.BatchNorm3d(TRIAL[1]), CPU) > 1e-5
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    "settings", [{}, {"affine": False}, {"momentum": 0.001, "eps": 0.001}, {"track_running_stats": False}], ids=str
)
def test_a_map_of_clips_is_normalised_as_a_map_of_pictures(settings: dict[str, float]) -> None:
    x, slope = (noise((2, 3, 4, 5, 6), seed).contiguous(memory_format=LAYOUTS[5]) for seed in (0, 1))
    found, wanted = ExactNorm3d(3, **settings), nn.BatchNorm3d(3, **settings)
    torch.testing.assert_close(trained(found, x, slope, partial(of_pictures, found)), trained(wanted, x, slope))
    y = of_pictures(found, x)
    torch.testing.assert_close(y, wanted(x))
    assert y.is_contiguous(memory_format=LAYOUTS[5])
    assert not y._is_view()  # a ReLU changes it in place
    with torch.no_grad():
        torch.testing.assert_close(of_pictures(found.eval(), x), wanted.eval()(x))


@needs_gpu
def test_half_precision_clips_on_a_gpu_have_the_statistics_of_float64(device: torch.device) -> None:
    x = noise((4, 8, 16, 56, 56), 0).to(device, torch.bfloat16, memory_format=LAYOUTS[5])
    slope = noise((4, 8, 16, 56, 56), 1).to(x) + x
    assert is_like_picture(x)
    found = trained(exact(nn.BatchNorm3d(8)).to(device), x, slope)
    wanted = trained(nn.BatchNorm3d(8).to(device).double(), x.double(), slope.double())
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        if not tensor.is_floating_point():  # the number of batches
            continue
        near = 1e-4 if name.startswith("running") else 1e-2  # the output has the 8 bits of bfloat16
        assert (found[name].double() - tensor).norm() < near * tensor.norm(), name


@needs_gpu
def test_a_training_step_on_a_gpu_agrees_with_float64(device: torch.device) -> None:
    assert worst_error(nn.BatchNorm3d(TRIAL[1]), device) < 1e-5


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize(
    "settings",
    [{}, {"affine": False}, {"momentum": None}, {"momentum": 1e-3, "eps": 1e-3}, {"track_running_stats": False}],
    ids=str,
)
def test_every_kind_of_batch_norm_gives_what_float64_gives(shape: tuple[int, ...], settings: dict[str, float]) -> None:
    x = noise(shape, 0).contiguous(memory_format=LAYOUTS[len(shape)])
    slope = noise(shape, 1) + x
    assert is_inexact(x)
    made: Callable[..., nn.Module] = CLASSES[len(shape)]
    found = trained(exact(made(shape[1], **settings)), x, slope)
    wanted = trained(made(shape[1], **settings).double(), noise(shape, 0).double(), slope)
    assert found.keys() == wanted.keys()
    off = {name: (found[name].double() - right).norm() / right.double().norm() for name, right in wanted.items()}
    assert [name for name, ratio in off.items() if ratio > 5e-6] == []


def test_output_and_gradient_stay_in_channels_last_and_a_relu_may_work_in_place() -> None:
    x = noise((2, 3, 8, 40, 56), 0).contiguous(memory_format=torch.channels_last_3d).requires_grad_()
    y = torch.relu_(exact(nn.BatchNorm3d(3))(x))
    (gradient,) = torch.autograd.grad(y.square().sum(), x)
    assert y.is_contiguous(memory_format=torch.channels_last_3d)
    assert gradient.is_contiguous(memory_format=torch.channels_last_3d)
    assert y.min() == 0


@pytest.mark.parametrize("case", ["evaluation", "few positions", "contiguous", "float64"])
def test_where_torch_is_exact_its_own_batch_norm_is_used(case: str) -> None:
    """The same bits come out, of the running statistics, too."""
    x = noise((2, 3, 4, 8, 8) if case == "few positions" else (2, 3, 8, 40, 56), 0)
    x = x if case == "contiguous" else x.contiguous(memory_format=torch.channels_last_3d)
    x = x.double() if case == "float64" else x
    found = []
    for norm in (nn.BatchNorm3d(3), exact(nn.BatchNorm3d(3))):
        norm.to(x.dtype).train(case != "evaluation")
        found.append([norm(x), *norm.buffers()])
    for own, ours in zip(*found, strict=True):
        assert torch.equal(own, ours)


def test_no_sum_is_long_and_the_sums_are_equally_long() -> None:
    for positions in (1, 8192, 8193, 8 * 16 * 112 * 112, 10007):
        assert positions % splits(positions) == 0
        assert positions // splits(positions) <= LONGEST
    assert splits(8192) == 1
    assert splits(8 * 16 * 112 * 112) == 196


class Own(nn.BatchNorm3d):
    """A batch norm with code of its own, which must not be replaced."""


def test_names_tensors_and_classes_stay() -> None:
    net = nn.Sequential(nn.Conv3d(3, 4, 1), nn.BatchNorm3d(4), nn.BatchNorm1d(4), Own(4), nn.SyncBatchNorm(4))
    before = {name: id(x) for name, x in net.state_dict(keep_vars=True).items()}
    kinds = [type(module) for module in net]
    make_exact(net)
    assert {name: id(x) for name, x in net.state_dict(keep_vars=True).items()} == before
    assert all(isinstance(module, kind) for module, kind in zip(net, kinds, strict=True))
    assert [type(module) is kind for module, kind in zip(net, kinds, strict=True)] == [True, False, False, True, True]


@pytest.mark.parametrize("method", ["rspnet", "ascnet", "prp"])
def test_training_on_a_cpu_makes_all_batch_norm_exact(method: str) -> None:
    """Also that of heads, decoders and momentum copies."""
    run = make(for_classes(small(method, "nowhere"), 5), Place(CPU, torch.float32, 0))
    norms = [module for module in run.module.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm3d)]
    assert len(norms) > 10
    assert {type(norm).__name__ for norm in norms} <= {"ExactNorm1d", "ExactNorm3d"}
