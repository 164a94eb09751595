"""PRP's network and loss. What is chosen is in the package's `Config`.

B batch   N views   T frames   C channels   H height   W width
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vtrain.backbones import Backbone
from vtrain.methods.precision import at_least_float32
from vtrain.methods.prp import Config
from vtrain.methods.prp.decoder import Decoder, RateHead
from vtrain.methods.prp.mask import interpolated, motion_mask


class PRP(nn.Module):
    """A backbone with a rate head and a decoder.

    `lr_factors` maps the beginning of parameters' names to the factor of their learning rate.
    """

    def __init__(self, backbone: Backbone, config: Config) -> None:
        super().__init__()
        self.config = config
        self.plan = config.plan()
        self.backbone = backbone
        self.rates = None if config.branches == "GP" else RateHead(backbone.dim, len(self.plan.speeds))
        self.decoder = None if config.branches == "DP" else Decoder(backbone.dim, self.plan.rate)
        self.lr_factors = {} if self.rates is None else {"rates.fc.": config.fc_lr}

    def forward(self, clips_BNCTHW: Tensor, targets: dict[str, Tensor]) -> dict[str, Tensor]:
        view_BTCHW, speed_B = clips_BNCTHW[:, 0].transpose(1, 2), targets["speed"][:, 0]
        wanted_BTCHW, real_BT = self.wanted(view_BTCHW, speed_B)
        seen_BCTHW = wanted_BTCHW[:, :: self.plan.rate].transpose(1, 2)
        map_BCTHW = self.backbone(seen_BCTHW.contiguous(memory_format=torch.channels_last_3d))
        parts, logged = {}, {}
        if self.rates is not None:
            logits = at_least_float32(self.rates(map_BCTHW))
            parts["rate"] = F.cross_entropy(logits, targets["rate"])  # equation 1
            logged["rate_accuracy"] = (logits.argmax(1) == targets["rate"]).float().mean()
        if self.decoder is not None:
            made_BTCHW = self.reconstruct(self.decoder, map_BCTHW, wanted_BTCHW)
            mask_BTCHW = self.mask(view_BTCHW, speed_B)
            error_BT = (mask_BTCHW * (made_BTCHW - wanted_BTCHW).square()).mean((2, 3, 4))
            # Equation 2; a sample's mean is over its frames that count, as in the authors' code.
            parts["reconstruction"] = ((error_BT * real_BT).sum(1) / real_BT.sum(1)).mean()
        loss = torch.stack([self.config.weights[name] * part for name, part in parts.items()]).sum()  # equation 4
        return {"loss": loss} | {name: part.detach() for name, part in parts.items()} | logged

    def after_step(self, progress: float) -> None:
        pass

    @torch.no_grad()
    def wanted(self, view_BTCHW: Tensor, speed_B: Tensor) -> tuple[Tensor, Tensor]:
        """Return the frames to reconstruct (the network sees every `rate`-th), and which of them count in the loss."""
        number_T = torch.arange(self.plan.reconstructed, device=speed_B.device)
        real_BT = torch.ones_like(number_T, dtype=torch.float32).expand(len(speed_B), -1)
        slots_BTCHW = at_least_float32(view_BTCHW[:, : self.plan.reconstructed])
        if min(self.plan.speeds) >= self.plan.rate:
            return slots_BTCHW, real_BT
        position_BT = (number_T * speed_B[:, None] / self.plan.rate).minimum(number_T)
        if self.config.interpolated == "excluded":
            real_BT = (position_BT == position_BT.floor()).float()
        return interpolated(slots_BTCHW, position_BT), real_BT

    @torch.no_grad()
    def mask(self, view_BTCHW: Tensor, speed_B: Tensor) -> Tensor | float:
        """Return the weights of the reconstruction: [B, T, C or 1, H, W], or 1 for all."""
        if self.plan.mask == "none":
            return 1.0
        motion_BTCHW = at_least_float32(view_BTCHW[:, self.plan.reconstructed :])
        return motion_mask(motion_BTCHW, speed_B, self.plan.mask, self.plan.frames, self.plan.reconstructed)

    def reconstruct(self, decoder: Decoder, map_BCTHW: Tensor, wanted_BTCHW: Tensor) -> Tensor:
        """Return the decoder's output for the map, in the size of the wanted frames."""
        frames, _, height, width = wanted_BTCHW.shape[1:]
        # The size of the map of VCOP's networks, which the decoder expects.
        fit = (-(-self.plan.frames // 8), -(-height // 16), -(-width // 16))
        if map_BCTHW.shape[2:] != fit:
            map_BCTHW = F.adaptive_avg_pool3d(map_BCTHW, fit)
        made_BCTHW: Tensor = decoder(map_BCTHW)
        # A stride of 2 turns 7 into 4, at 0, 2, 4 and 6; doubled again there is too much, at the far side.
        return at_least_float32(made_BCTHW[:, :, :frames, :height, :width]).transpose(1, 2)
