"""Batch norm, sum and ReLU in one kernel give what torch's operations give; padding changes nothing."""

import os
import subprocess
import sys
from copy import deepcopy
from importlib.util import find_spec

import pytest
import torch
from devices import needs_gpu
from torch import Tensor, nn

from vtrain.backbones.batch_norm import grouped, is_groupable, make_exact, normalised, padding, use_fused, why_not_fused
from vtrain.backbones.conv import Conv3d, Residual
from vtrain.backbones.r2plus1d import Factorised, block

LAST = torch.channels_last_3d
# Runs on a CPU, slowly, in Triton's interpreter, which has to be chosen before Triton is imported.
INTERPRETED = """
import itertools
import torch
from torch import nn
from vtrain.backbones.fused_norm import FusedNorm
SHAPES = [(16, 16, (2, 4, 6, 5)), (88, 83, (2, 4, 6, 5)), (88, 83, (2, 4, 8, 8)), (5, 5, (1, 2, 2, 3))]
torch.manual_seed(0)
BOTH = (True, False)
for (channels, known, (batch, *size)), relu, adds, groups in itertools.product(SHAPES, BOTH, BOTH, (1, 2)):
    if batch % groups or batch == groups and channels == 5:
        continue
    x, more = ((torch.randn(batch, channels, *size) * 2 + 3).to(memory_format=torch.channels_last_3d) for _ in "12")
    x[:, known:] = more[:, known:] = 0
    norm = nn.BatchNorm3d(known)
    norm.weight.data.uniform_(0.5, 1.5)
    norm.bias.data.normal_()
    running = [norm.running_mean.clone(), norm.running_var.clone()]
    leaves = [leaf.clone().requires_grad_() for leaf in (x, norm.weight.detach(), norm.bias.detach(), more)]
    y = FusedNorm.apply(*leaves[:3], leaves[3] if adds else None, *running, 0.1, 1e-5, relu, groups)
    slope = torch.randn_like(y)
    y.backward(slope)
    x.requires_grad_()
    more.requires_grad_()
    wanted = torch.cat([norm(part) for part in x[:, :known].chunk(groups)])
    wanted = wanted + more[:, :known] if adds else wanted
    wanted = torch.relu(wanted) if relu else wanted
    wanted.backward(slope[:, :known])
    assert not y[:, known:].any()
    pairs = [(y[:, :known], wanted), (leaves[0].grad[:, :known], x.grad[:, :known]), (leaves[1].grad, norm.weight.grad)]
    pairs += [(leaves[2].grad, norm.bias.grad), (running[0], norm.running_mean), (running[1], norm.running_var)]
    pairs += [(leaves[3].grad[:, :known], more.grad[:, :known])] if adds else []
    for found, right in pairs:
        assert (found - right).norm() < 1e-5 * right.norm(), (channels, known, relu, adds, groups)
print("all equal")
"""


@pytest.mark.slow
@pytest.mark.skipif(find_spec("triton") is None, reason="Triton is not installed; make test-all installs it")
def test_the_kernels_give_outputs_gradients_and_statistics_of_torchs_operations() -> None:
    words = [sys.executable, "-c", INTERPRETED]
    done = subprocess.run(
        words, env=os.environ | {"TRITON_INTERPRET": "1"}, capture_output=True, text=True, timeout=300
    )
    assert (done.stdout, done.returncode) == ("all equal\n", 0), done.stderr


def test_padded_convolutions_give_the_same_and_zeros_beside_it() -> None:
    spatial, temporal = (
        Conv3d(3, 5, (1, 3, 3), (1, 2, 2), (0, 1, 1), bias=False),
        Conv3d(5, 4, (3, 1, 1), padding=(1, 0, 0)),
    )
    clips = torch.randn(2, 3, 4, 6, 6).contiguous(memory_format=LAST)
    plain, wider = spatial(clips), spatial(clips, more_out=3)
    assert wider.shape[1] == 8
    assert not wider[:, 5:].any()
    torch.testing.assert_close(wider[:, :5], plain)
    torch.testing.assert_close(temporal(wider, more_in=3), temporal(plain))


def test_on_a_cpu_nothing_is_padded_and_the_operations_are_torchs() -> None:
    norm = nn.BatchNorm3d(5)
    make_exact(norm)
    x = torch.randn(2, 5, 2, 3, 3).contiguous(memory_format=LAST)
    assert padding(norm, x) == 0
    twin = nn.BatchNorm3d(5)
    torch.testing.assert_close(normalised(norm, x, x), torch.relu(twin(x) + x))
    torch.testing.assert_close(norm.running_var, twin.running_var)


def test_groups_that_go_through_a_network_together_give_what_one_after_the_other_gives() -> None:
    torch.manual_seed(0)
    together = nn.Sequential(*block(3, 6, 2).children()).double()
    make_exact(together)
    apart, clips = deepcopy(together), torch.randn(6, 3, 4, 8, 8, dtype=torch.float64).contiguous(memory_format=LAST)
    nets = [together[0], apart[0]]  # a factorised convolution with its batch norm
    with grouped(together, 3):
        found = nets[0](clips)
    wanted = torch.cat([nets[1](part) for part in clips.chunk(3)])
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(nets[0].state_dict(), nets[1].state_dict())
    for y in (found, wanted):
        y.square().sum().backward()
    for ours, right in zip(nets[0].parameters(), nets[1].parameters(), strict=True):
        torch.testing.assert_close(ours.grad, right.grad)
    assert not is_groupable(together, torch.device("cpu"))


def gradients(net: nn.Module, clips: Tensor, slope: Tensor) -> dict[str, Tensor]:
    """Return output, gradients and statistics of one step in bf16."""
    net.zero_grad(set_to_none=True)
    with torch.autocast("cuda", torch.bfloat16):
        y = net(clips)
    y.backward(slope.to(y))
    found = {name: weight.grad for name, weight in net.named_parameters() if weight.grad is not None}
    buffers = {name: buffer.clone() for name, buffer in net.named_buffers()}
    return {"output": y.detach(), **found, **buffers}


@needs_gpu
@pytest.mark.parametrize("kind", ["factorised", "residual"])
def test_a_block_on_a_gpu_gives_what_torchs_operations_in_float64_give(kind: str, device: torch.device) -> None:
    assert why_not_fused(device) == ""
    torch.manual_seed(0)
    net: Factorised | Residual = Factorised(16, 64, stride=(1, 2)) if kind == "factorised" else block(16, 64, 2)
    right = deepcopy(net)
    make_exact(net)
    net.to(device, memory_format=LAST)
    right.to(device, torch.float64)
    clips = torch.randn(4, 16, 8, 28, 28, device=device).contiguous(memory_format=LAST)
    with torch.no_grad():
        slope = torch.randn_like(net(clips))
    for module in (net, right):  # the statistics of the first call are forgotten
        for norm in module.modules():
            if isinstance(norm, nn.BatchNorm3d):
                norm.reset_running_stats()
    found = gradients(net, clips, slope)
    use_fused(net, False)
    by_torch = gradients(net, clips, slope)
    y = right(clips.double())
    y.backward(slope.double())
    wanted = {"output": y.detach()} | {name: weight.grad for name, weight in right.named_parameters()}
    for name, tensor in wanted.items():
        ours, theirs = ((each[name].double() - tensor).norm() / tensor.norm() for each in (found, by_torch))
        assert ours < 1.5 * theirs + 1e-3, name  # both round to bf16 between the operations
    for name, tensor in right.named_buffers():
        torch.testing.assert_close(found[name].to(tensor), tensor, rtol=0.01, atol=0.01)
