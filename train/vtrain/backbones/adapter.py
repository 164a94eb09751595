"""Use any module that turns clips into a feature map or a vector as a Backbone."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from vprep import plugins
from vprep.errors import UsageError
from vtrain.backbones.stages import Backbone

OF_SIZES = (RuntimeError, ValueError, AssertionError, IndexError, ZeroDivisionError)  # what a wrong size may raise
CALLERS = tuple(f"{Path(path).parent}/" for path in (__file__, torch.__file__))  # folders whose files call the user's
# Frames, height and width to find the number of channels with; the first that the module takes. Some take only one.
TRIALS = ((8, 64, 64), (16, 112, 112), (16, 224, 224), (32, 224, 224), (8, 224, 224))


class FeatureMap(nn.Module):
    """Return the output of a module as a map [B, D, T', H', W']; a vector [B, D] becomes a map of one position."""

    def __init__(self, name: str, net: nn.Module) -> None:
        super().__init__()
        self.name = name
        self.net = net

    def forward(self, clips_BCTHW: Tensor) -> Tensor:
        y = self.net(clips_BCTHW)
        if not isinstance(y, Tensor) or y.dim() not in (2, 5):
            found = f"a tensor with {y.dim()} axes" if isinstance(y, Tensor) else f"a {type(y).__name__}"
            raise UsageError(
                f"backbone '{self.name}' returns {found}; it must return a feature map [B, D, T, H, W] or a vector "
                "[B, D] for clips [B, 3, T, H, W]"
            )
        return y if y.dim() == 5 else y[:, :, None, None, None]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        # `net.to(memory_format=torch.channels_last_3d)` refuses the weights of 2D convolutions, which have four axes.
        return super()._apply(lambda x: fn(x.unsqueeze(2)).squeeze(2) if x.dim() == 4 else fn(x), recurse)  # type: ignore[no-any-return, no-untyped-call]


def adapted(name: str, net: object) -> Backbone:
    """Return `net`, made by the builder of backbone `name`, as a Backbone; another module becomes its stage conv5."""
    if isinstance(net, Backbone):
        return net
    if not isinstance(net, nn.Module):
        raise UsageError(f"backbone '{name}' gives a {type(net).__name__}; it must give a torch.nn.Module")
    conv5 = FeatureMap(name, net)
    return Backbone(channels(name, conv5), conv5=conv5)


def channels(name: str, net: FeatureMap) -> int:
    """Return how many channels the map has, found by a forward pass of a copy."""
    errors: list[Exception] = []
    with torch.no_grad():
        for trial in trials(net):
            try:
                return trial().shape[1]
            except UsageError:
                raise
            except Exception as error:  # a module may raise any error for a clip of that size
                errors.append(error)
    raise UsageError(f"backbone '{name}' {reason(errors[-1])}")


def reason(error: Exception) -> str:
    """Return why a module takes none of the clips, for an error. Only some kinds of errors come from a clip's size."""
    if not isinstance(error, OF_SIZES):
        return f"raised {plugins.raised(error, CALLERS)}; correct it there"
    sizes = ", ".join(" x ".join(map(str, size)) for size in TRIALS)
    return f"takes no clips of {sizes}; the last error is {plugins.raised(error, CALLERS)}"


def trials(net: FeatureMap) -> Iterator[Callable[[], Tensor]]:
    """Yield forward passes: first on the meta device, without memory; then on the CPU, for modules that need it."""
    for device in ("meta", "cpu"):
        copied = copy.deepcopy(net).eval()
        on_meta = any(x.is_meta for x in (*copied.parameters(), *copied.buffers()))
        copied = copied.to_empty(device=device) if device == "meta" or on_meta else copied
        for size in TRIALS:
            clip = torch.zeros(1, 3, *size, device=device)
            yield lambda copied=copied, clip=clip, device=device: on_device(copied, clip, device)  # type: ignore[misc]


def on_device(net: nn.Module, clip: Tensor, device: str) -> Tensor:
    with torch.device(device):
        y: Tensor = net(clip)
    return y
