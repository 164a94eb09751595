"""How exact batch norm is on this machine in channels-last, and what the ways to make it exact cost in a step.

    .venv/bin/python benchmarks/batch_norm.py [--backbones c3d r3d ...] [--ways torch exact ...] [--batch 1]
        [--frames 8] [--size 112] [--threads 1] [--rounds 3] [--device cpu|cuda]

torch        torch's batch norm in channels-last
again        the same once more, which shows how much the machine's load changes the times
exact        vtrain's, which adds up short sums in float64; on a GPU it is torch's
contiguous   torch's, with clips and maps in the contiguous layout
copied       torch's, each on a contiguous copy of its map
two-pass     mean and variance by torch's own sums, which are exact in both layouts

error        of one step of a batch norm of two channels and 802,816 positions, the largest of output, running
             statistics and gradients: relative difference from float64
ratio        step / step with torch's: forward and backward in train mode, in turns, wall clock and processor time
"""

import argparse
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from turns import in_turns, middle, ratio
from vtrain.backbones import BACKBONES, backbone
from vtrain.backbones.batch_norm import TRIAL, make_exact, worst_error

LAST = torch.channels_last_3d


class Copied(nn.BatchNorm3d):
    """torch's batch norm on a contiguous copy."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.contiguous()).contiguous(memory_format=LAST)


class TwoPass(nn.BatchNorm3d):
    """Batch norm by torch's sums and means; it keeps no running statistics."""

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean((0, 2, 3, 4), keepdim=True)
        scale = torch.rsqrt(centred.square().mean((0, 2, 3, 4), keepdim=True) + self.eps)
        return centred * (scale * self.weight.view_as(scale)) + self.bias.view_as(scale)


def replace_by(kind: type[nn.Module], net: nn.Module) -> None:
    for norm in net.modules():
        if type(norm) is nn.BatchNorm3d:
            norm.__class__ = kind


WAYS: dict[str, Callable[[nn.Module], None]] = {
    "torch": lambda net: None,
    "again": lambda net: None,
    "exact": make_exact,
    "contiguous": lambda net: None,
    "copied": partial(replace_by, Copied),
    "two-pass": partial(replace_by, TwoPass),
}


def error(way: str, device: torch.device) -> float:
    norm = nn.Sequential(nn.BatchNorm3d(TRIAL[1], track_running_stats=way != "two-pass"))
    WAYS[way](norm)
    return worst_error(norm, device, torch.contiguous_format if way == "contiguous" else LAST)


def step_of(name: str, way: str, clips: Tensor) -> Callable[[], None]:
    """Return a function that computes one step, after a step that does not count."""
    torch.manual_seed(1)
    net = backbone(name).to(clips.device).train()
    WAYS[way](net)
    x = clips.contiguous(memory_format=torch.contiguous_format if way == "contiguous" else LAST)

    def step() -> None:
        net(x).mean().backward()
        net.zero_grad(set_to_none=True)

    step()
    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--backbones", nargs="*", choices=BACKBONES, default=["c3d", "s3dg", "tiny"], metavar="NAME")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--size", type=int, default=112)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    for way in args.ways:
        print(f"{way:11} error {error(way, device):.1e}", flush=True)
    clips = torch.rand(args.batch, 3, args.frames, args.size, args.size, device=device)
    for name in args.backbones:
        spent = in_turns({way: step_of(name, way, clips) for way in args.ways}, args.rounds, device)
        for way, used in spent.items():
            ratios = [ratio(used, spent[args.ways[0]], what) for what in ("wall", "cpu")]
            line = f"{1e3 * middle(used):8.1f} ms, ratio {ratios[0]:.3f} wall, {ratios[1]:.3f} processor"
            print(f"{name:11} {way:11} {line}", flush=True)


if __name__ == "__main__":
    main()
