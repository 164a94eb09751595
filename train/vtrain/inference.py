"""What a network makes of the clips of videos, without learning: for features, for testing, for watching a training.

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

# Pixels that go through the network at once: so many crops of 16 x 112 x 112. A GPU wants many; on a CPU more than a
# few only take memory.
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
    """The batches of a finite loader, and what `net` makes of all their clips and crops: [B, N x K, ...], float32.

    Both are in the host's memory but for the batch's pixels. Videos for which `Batch.valid` is false stand in for bad
    ones, or fill up the last batch where several ranks share it: leave them out. `net` sees [R, C, T, S, S] in eval
    mode; it and the loader are on `device`.

    On a CPU the clips of one video go through the network together, so what comes out does not depend on the batch,
    to the last bit. Elsewhere, or with `clips_at_a_time`, clips of several videos do.
    """
    forward = _Forward(net, looks, torch.device(device), clips_at_a_time, precision)
    before: _OnItsWay | None = None
    with evaluating(net):
        for batch in loader:
            now = _OnItsWay(batch, forward(batch))
            if now.is_there:
                yield now.arrived()
                continue
            # The device works on this batch while the caller looks at the one before.
            if before is not None:
                yield before.arrived()
            before = now
        if before is not None:
            yield before.arrived()


@contextmanager
def evaluating(net: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """`net` in eval mode; behind it, each of its modules is again in the mode it was in."""
    modules = list(net.modules()) if isinstance(net, nn.Module) else []
    modes = [module.training for module in modules]
    for module in modules:
        module.training = False
    try:
        yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode


class _OnItsWay:
    """A batch and what was made of it, on the way to the host's memory."""

    def __init__(self, batch: Batch, made: Tensor) -> None:
        def send(tensor: Tensor) -> Tensor:
            return tensor.to("cpu", non_blocking=True)

        self.is_there = made.device.type == "cpu"
        self._made = send(made)
        self._batch = replace(
            batch,
            label=send(batch.label),
            row=send(batch.row),
            valid=send(batch.valid),
            speed=send(batch.speed),
            targets={name: send(target) for name, target in batch.targets.items()},
        )
        if not self.is_there:
            self._event = torch.Event(made.device)
            self._event.record()

    def arrived(self) -> tuple[Batch, Tensor]:
        if not self.is_there:
            self._event.synchronize()
        return self._batch, self._made


class _Forward:
    """Batches through the network, in pieces of bounded size."""

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
        self._most = clips_at_a_time
        self._by_video = device.type == "cpu" and clips_at_a_time is None
        self._videos = 0  # of a batch that is not the last
        self._half = uses_bf16(precision, device)

    def __call__(self, batch: Batch) -> Tensor:
        videos, clips, frames = batch.clips.shape[:3]
        self._videos = max(self._videos, videos)
        crops = self._augment.look.crops
        if self._most is None:
            pixels = crops * frames * self._augment.look.size**2
            self._most = max(1, PIXELS.get(self._device.type, PIXELS_ELSEWHERE) // pixels)
        whole = clips if self._by_video else self._videos * clips
        clips_M1THWC = batch.clips.to(self._device, non_blocking=True).flatten(0, 1).unsqueeze(1)
        draws = {name: drawn.flatten(0, 1).unsqueeze(1) for name, drawn in batch.draws.items()}
        made: list[Tensor] = []
        done = 0
        while done < videos * clips:
            begin, end = piece(done, whole, self._most, videos * clips)
            part = self._fits(clips_M1THWC[begin:end], {name: drawn[begin:end] for name, drawn in draws.items()})
            if part is not None:
                made.append(part)
                done = end
        together = torch.cat(made) if len(made) > 1 else made[0]
        return together.view(videos, clips * crops, *together.shape[1:])

    def _fits(self, clips_M1THWC: Tensor, draws: dict[str, Tensor]) -> Tensor | None:
        """What the network makes of some clips; None when they are too many for the device's memory."""
        try:
            return self._forward(clips_M1THWC, draws)
        except torch.OutOfMemoryError:
            if len(clips_M1THWC) == 1:
                shown = " x ".join(map(str, (clips_M1THWC.shape[2], self._augment.look.size)))
                raise WorkError(
                    f"the memory of {self._device} is too small for one clip of {shown}; take smaller or shorter clips"
                ) from None
        # Behind the except: what was made until then hangs on the exception.
        self._most = len(clips_M1THWC) // 2
        torch.cuda.empty_cache()
        return None

    @torch.no_grad()
    def _forward(self, clips_M1THWC: Tensor, draws: dict[str, Tensor]) -> Tensor:
        dtype = torch.bfloat16 if self._half else torch.float32
        rows_RCTSS = self._augment(clips_M1THWC, draws, dtype=dtype).flatten(0, 1)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._half):
            return self._net(rows_RCTSS).float()


def piece(done: int, whole: int, most: int, end: int) -> tuple[int, int]:
    """The next clips to go through the network: every `whole` clips are cut evenly into parts of at most `most`.

    So there are few sizes, for each of which cuDNN looks for the fastest way once.
    """
    parts = math.ceil(whole / most)
    begin = done // whole * whole
    edges = [begin + whole * number // parts for number in range(1, parts + 1)]
    return done, min(next(edge for edge in edges if edge > done), end)


def uses_bf16(precision: Precision, device: torch.device) -> bool:
    """auto is bf16 on a GPU and float32 on a CPU."""
    if precision == "bf16" and device.type == "cpu":
        raise UsageError(
            "precision is bf16 on a CPU, where it is slower, and weight gradients of 3D convolutions come out as NaN "
            "now and then (vtrain doctor shows it); set precision=auto"
        )
    return precision == "bf16" or (precision == "auto" and device.type != "cpu")


def gap(maps: Maps) -> Tensor:
    """The mean over time and space of the last map: as many numbers as it has channels."""
    return maps["conv5"].float().mean((2, 3, 4))


def spatial_max(maps: Maps) -> Tensor:
    """The maximum over space, the mean over time."""
    return maps["conv5"].float().amax((3, 4)).mean(2)


def pool5(maps: Maps) -> Tensor:
    """VCOP's: the last map through a max-pool of 1x2x2, all of what is left. 9,216 numbers of 512 x 2 x 7 x 7."""
    return max_pool(maps["conv5"], (1, 2, 2))


def p4(maps: Maps) -> Tensor:
    """Pace's second last pool: the map of conv4 through a max-pool of 2x2x2, all of what is left.

    In C3D that is pool4, with which our conv5 begins: 50,176 numbers of 512 x 2 x 7 x 7. Residual networks have no
    pool there, and the paper does not say what it took for them; this makes 25,088 of 256 x 4 x 14 x 14.
    """
    return max_pool(maps["conv4"], (2, 2, 2))


def max_pool(map_RCTHW: Tensor, kernel: tuple[int, int, int]) -> Tensor:
    """Of small clips nothing would be left; an axis that is shorter than the kernel is taken whole."""
    size = [min(length, there) for length, there in zip(kernel, map_RCTHW.shape[2:], strict=True)]
    return F.max_pool3d(map_RCTHW.float(), size).flatten(1)


POOLS: dict[str, Callable[[Maps], Tensor]] = {"gap": gap, "spatial-max": spatial_max, "pool5": pool5, "p4": p4}
OF_CONV4 = ("p4",)  # the other pools are of conv5
WANTED = ("conv4", "conv5")  # the maps that a pool can be of; the earlier ones are large


class Features(nn.Module):
    """Clips [R, C, T, S, S] to the features of some pools, one behind another: [R, D]."""

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
        """How many numbers each pool gives for a clip of so many frames, of that height and width."""
        maps: Maps = {}
        x = torch.empty(1, 3, *clip, device="meta")
        try:
            with torch.no_grad(), evaluating(self.backbone):
                for name, stage in self.backbone.named_children():
                    without_memory = {key: tensor.to("meta") for key, tensor in stage.state_dict().items()}
                    x = maps[name] = functional_call(stage, without_memory, x)
        except RuntimeError as error:
            said = " x ".join(map(str, clip))
            raise UsageError(f"clips of {said} are too small for the network ({str(error).splitlines()[0]})") from None
        return {name: POOLS[name](maps).shape[1] for name in self.pools}
