"""Compute the outputs of a network for the clips of videos, without training: for features, tests and validation.

B videos, N clips of each, K crops of a clip, M clips, R = M x K rows, C channels, T time, H W height and width, S side,
D feature
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from vprep.errors import UsageError, WorkError
from vtrain.backbones import Backbone
from vtrain.data.augment.apply import Augment
from vtrain.data.augment.config import AugmentConfig
from vtrain.data.batch import Batch
from vtrain.data.loader import Loader

Precision = Literal["auto", "bf16", "float32"]
Maps = dict[str, Tensor]

# Pixels that go through the network at once: 16 crops of 16 x 112 x 112 on a CPU, where more only take memory, and 128
# elsewhere, because a GPU is faster with many.
PIXELS = {"cpu": 16 * 16 * 112 * 112}
PIXELS_ELSEWHERE = 128 * 16 * 112 * 112


def outputs(
    loader: Loader,
    net: Callable[[Tensor], Tensor],
    *,
    looks: Sequence[AugmentConfig],
    device: torch.device | str = "cpu",
    clips_at_a_time: int | None = None,
    precision: Precision = "auto",
) -> Iterator[tuple[Batch, Tensor]]:
    """Yield the batches of a finite loader, each with the output of `net` for its clips and crops.

    The output is [B, N x K, ...] in float32. It and the batch, except for its pixels, are in the host's memory. Leave
    out videos for which `Batch.valid` is false: they replace bad videos, or fill the last batch that several ranks
    share. `net` gets [R, C, T, S, S] in eval mode; it and the loader are on `device`.

    On a CPU the clips of one video go through the network together, so the output is the same to the last bit for any
    batch. Elsewhere, or with `clips_at_a_time`, clips of several videos go through it together.
    """
    forward = _Forward(net, looks, torch.device(device), clips_at_a_time, precision)
    previous: _Pending | None = None
    with evaluating(net):
        for batch in loader:
            pending = _Pending(batch, forward(batch))
            if pending.is_ready:
                yield pending.wait()
                continue
            # The device works on this batch while the caller uses the previous one.
            if previous is not None:
                yield previous.wait()
            previous = pending
        if previous is not None:
            yield previous.wait()


@contextmanager
def evaluating(net: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Put `net` into eval mode for the block, and afterwards each of its modules into its former mode."""
    modules = list(net.modules()) if isinstance(net, nn.Module) else []
    modes = [module.training for module in modules]
    for module in modules:
        module.training = False
    try:
        yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode


class _Pending:
    """A batch and its output, which the device is still copying to the host's memory."""

    def __init__(self, batch: Batch, output: Tensor) -> None:
        def send(tensor: Tensor) -> Tensor:
            return tensor.to("cpu", non_blocking=True)

        self.is_ready = output.device.type == "cpu"
        self._output = send(output)
        self._batch = replace(
            batch,
            label=send(batch.label),
            row=send(batch.row),
            valid=send(batch.valid),
            speed=send(batch.speed),
            targets={name: send(target) for name, target in batch.targets.items()},
        )
        if not self.is_ready:
            self._event = torch.Event(output.device)
            self._event.record()

    def wait(self) -> tuple[Batch, Tensor]:
        if not self.is_ready:
            self._event.synchronize()
        return self._batch, self._output


class _Forward:
    """Sends batches through the network in pieces of bounded size."""

    def __init__(
        self,
        net: Callable[[Tensor], Tensor],
        looks: Sequence[AugmentConfig],
        device: torch.device,
        clips_at_a_time: int | None,
        precision: Precision,
    ) -> None:
        self._net = net
        self._augment = Augment(looks)
        self._device = device
        self._most = clips_at_a_time  # clips of a piece
        self._by_video = device.type == "cpu" and clips_at_a_time is None
        self._videos = 0  # of a full batch; the last batch may have fewer
        self._half = uses_bf16(precision, device)

    def __call__(self, batch: Batch) -> Tensor:
        videos, clips, frames = batch.clips.shape[:3]
        self._videos = max(self._videos, videos)
        crops = self._augment.config.crops
        if self._most is None:
            pixels = crops * frames * self._augment.config.size**2
            self._most = max(1, PIXELS.get(self._device.type, PIXELS_ELSEWHERE) // pixels)
        group = clips if self._by_video else self._videos * clips
        clips_M1THWC = batch.clips.to(self._device, non_blocking=True).flatten(0, 1).unsqueeze(1)
        draws = {name: drawn.flatten(0, 1).unsqueeze(1) for name, drawn in batch.augmentation.items()}
        outputs: list[Tensor] = []
        done = 0
        while done < videos * clips:
            begin, end = piece(done, group, self._most, videos * clips)
            part = self._try(clips_M1THWC[begin:end], {name: drawn[begin:end] for name, drawn in draws.items()})
            if part is not None:
                outputs.append(part)
                done = end
        output = torch.cat(outputs) if len(outputs) > 1 else outputs[0]
        return output.view(videos, clips * crops, *output.shape[1:])

    def _try(self, clips_M1THWC: Tensor, draws: dict[str, Tensor]) -> Tensor | None:
        """Return the output for these clips; None, and smaller pieces from now on, when the device's memory is full."""
        try:
            return self._forward(clips_M1THWC, draws)
        except torch.OutOfMemoryError:
            if len(clips_M1THWC) == 1:
                frames, side = clips_M1THWC.shape[2], self._augment.config.size
                raise WorkError(
                    f"the memory of {self._device} is too small for one clip of {frames} x {side} x {side}; "
                    "use smaller or shorter clips"
                ) from None
        # Not within the except block, where the exception still holds the tensors that filled the memory.
        self._most = len(clips_M1THWC) // 2
        torch.cuda.empty_cache()
        return None

    @torch.no_grad()
    def _forward(self, clips_M1THWC: Tensor, draws: dict[str, Tensor]) -> Tensor:
        dtype = torch.bfloat16 if self._half else torch.float32
        rows_RCTSS = self._augment(clips_M1THWC, draws, dtype=dtype).flatten(0, 1)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._half):
            return self._net(rows_RCTSS).float()


def piece(done: int, group: int, most: int, end: int) -> tuple[int, int]:
    """Return the range of the next clips: each `group` of clips is cut evenly into pieces of at most `most`.

    So there are few sizes. cuDNN searches the fastest kernel once for each.
    """
    parts = math.ceil(group / most)
    begin = done // group * group
    edges = [begin + group * number // parts for number in range(1, parts + 1)]
    return done, min(next(edge for edge in edges if edge > done), end)


def uses_bf16(precision: Precision, device: torch.device) -> bool:
    """Return whether to compute in bf16; auto is bf16 on a GPU and float32 on a CPU."""
    if precision == "bf16" and device.type == "cpu":
        raise UsageError(
            "precision is bf16 on a CPU, where it is slower and weight gradients of 3D convolutions are sometimes NaN "
            "(vtrain doctor shows it); set precision=auto"
        )
    return precision == "bf16" or (precision == "auto" and device.type != "cpu")


def gap(maps: Maps) -> Tensor:
    """Return the mean of the last map over time and space, a number for each channel."""
    return maps["conv5"].float().mean((2, 3, 4))


def spatial_max(maps: Maps) -> Tensor:
    """Return the maximum of the last map over space, averaged over time."""
    return maps["conv5"].float().amax((3, 4)).mean(2)


def pool5(maps: Maps) -> Tensor:
    """Return VCOP's features: the last map after a max-pool of 1x2x2, as in 9,216 numbers of 512 x 2 x 7 x 7."""
    return max_pool(maps["conv5"], (1, 2, 2))


def p4(maps: Maps) -> Tensor:
    """Return Pace's second-to-last pool: the map of conv4 after a max-pool of 2x2x2.

    In C3D that is pool4, with which conv5 begins here: 50,176 numbers of 512 x 2 x 7 x 7. Residual networks have no
    pool there, and the paper does not say what it used for them; here they give 25,088 numbers of 256 x 4 x 14 x 14.
    """
    return max_pool(maps["conv4"], (2, 2, 2))


def max_pool(map_RCTHW: Tensor, kernel: tuple[int, int, int]) -> Tensor:
    """Return the pooled map, flattened. On an axis shorter than the kernel, all values are pooled into one."""
    size = [min(length, there) for length, there in zip(kernel, map_RCTHW.shape[2:], strict=True)]
    return F.max_pool3d(map_RCTHW.float(), size).flatten(1)


POOLS: dict[str, Callable[[Maps], Tensor]] = {"gap": gap, "spatial-max": spatial_max, "pool5": pool5, "p4": p4}
WANTED = ("conv4", "conv5")  # maps that a pool uses; the earlier ones are large and not kept
OF_CONV4 = ("p4",)  # the other pools are of conv5


class Features(nn.Module):
    """Turns clips [R, C, T, S, S] into the features of one or more pools, concatenated: [R, D]."""

    def __init__(self, backbone: Backbone, pools: Sequence[str]) -> None:
        super().__init__()
        for name in pools:
            if name not in POOLS:
                raise UsageError(f"no pool '{name}'; there are {', '.join(POOLS)}")
            if name in OF_CONV4 and "conv4" not in dict(backbone.named_children()):
                others = ", ".join(other for other in POOLS if other not in OF_CONV4)
                raise UsageError(
                    f"pool '{name}' needs the map of conv4, which this backbone does not have; take {others}"
                )
        self.backbone = backbone
        self.pools = tuple(pools)

    def forward(self, clips_RCTSS: Tensor) -> Tensor:
        maps: Maps = {}
        x = clips_RCTSS
        for name, stage in self.backbone.named_children():
            x = stage(x)
            if name in WANTED:
                maps[name] = x
        return torch.cat([POOLS[name](maps) for name in self.pools], 1)

    def dims(self, clip: tuple[int, int, int]) -> dict[str, int]:
        """Return how many numbers each pool gives for a clip with these frames, height and width."""
        maps: Maps = {}
        x = torch.empty(1, 3, *clip, device="meta")
        try:
            with torch.no_grad(), evaluating(self.backbone):
                for name, stage in self.backbone.named_children():
                    without_memory = {key: tensor.to("meta") for key, tensor in stage.state_dict().items()}
                    x = maps[name] = functional_call(stage, without_memory, x)
        except RuntimeError as error:
            size, reason = " x ".join(map(str, clip)), str(error).splitlines()[0]
            raise UsageError(f"clips of {size} are too small for the network ({reason}); use larger clips") from None
        return {name: POOLS[name](maps).shape[1] for name in self.pools}
