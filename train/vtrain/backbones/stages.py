"""The form of every backbone: up to five stages, one after another."""

from torch import Tensor, nn


class Backbone(nn.Module):
    """Stages conv1 to conv5 without a head; a call returns the last map [B, dim, T', H', W']."""

    def __init__(self, dim: int, **stages: nn.Module) -> None:
        super().__init__()
        self.dim = dim
        for name, stage in stages.items():
            self.add_module(name, stage)

    def forward(self, clips_BCTHW: Tensor) -> Tensor:
        x = clips_BCTHW
        for stage in self.children():
            x = stage(x)
        return x

    def maps(self, clips_BCTHW: Tensor) -> dict[str, Tensor]:
        """Return the map after each stage, by the stage's name."""
        maps: dict[str, Tensor] = {}
        x = clips_BCTHW
        for name, stage in self.named_children():
            x = maps[name] = stage(x)
        return maps
