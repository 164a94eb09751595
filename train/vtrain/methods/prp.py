"""PRP. Yao, Liu, Luo, Zhou, Ye: Video Playback Rate Perception for Self-supervised Spatio-Temporal Representation
Learning (CVPR 2020).

From a window of 16 s consecutive frames the network sees every s-th; it tells s, and paints the same time at `rate`
times as many frames, most carefully where much moves.

Differs from the paper where the authors' code does; in brackets what brings the paper's way:
- the centre is cut out, not a random square [sampling.looks=(PAPER,)]
- motion is looked for in 4 of 16 frames and in each colour alone [sampling.mask="paper"]
- frames interpolated where the video has none are left out of the loss [interpolated="included"]
- the last layer of the rate head learns ten times as fast [fc_lr=1]
- decoder and rate head begin with a convolution of their own (`prp_decoder`)
- a window begins at the first frame of a video twice as often as at any other
Differs from the code:
- clips need not be 16 x 112 x 112: what the code fixes is a share of frames and side here (also in `prp_mask.py`)
- a backbone's map that is not an 8th of the frames and a 16th of the side is first pooled or stretched to that
- the rates 1 and 4 of table 2 can be run; the code has 2 only

B batch   N views   T frames   C channels   H height   W width
"""

from dataclasses import dataclass, replace
from random import Random
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vprep.errors import UsageError
from vtrain.backbones import Backbone
from vtrain.data.augment.config import AugmentConfig
from vtrain.data.sampling import Sample, Short, TooShortError, Video, View, demand_positive, fallback
from vtrain.methods.method import MethodEntry
from vtrain.methods.prp_decoder import Decoder, RateHead
from vtrain.methods.prp_mask import Mask, blended, compared, motion_mask

Branches = Literal["DG-P", "DP", "GP"]
Interpolated = Literal["excluded", "included"]

# The authors' code: the centre of 112 x 112 stored pixels, in [0, 1].
RELEASED = AugmentConfig(crop="centre", crop_size=112, flip=0.0, normalise="unit")
PAPER = replace(RELEASED, crop="random")  # section 4.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """One view: the frames to be painted, then those that the motion maps are made of.

    Where fewer frames than are to be painted lie in the window (speed < rate), all of them come first; the others
    are interpolated on the device. Slots that are left, of frames and of maps, repeat the last frame.
    """

    frames: int = 16
    speeds: tuple[int, ...] = (1, 2, 4, 8)
    rate: int = 2
    mask: Mask = "released"
    short: Short = "replace"
    looks: tuple[AugmentConfig, ...] = (RELEASED,)

    def __post_init__(self) -> None:
        demand_positive(frames=self.frames, speeds=self.speeds, rate=self.rate, looks=len(self.looks))
        for speed in self.speeds:
            if speed % self.rate and self.rate % speed:
                raise UsageError(
                    f"speed {speed} with rate {self.rate}: the frames to be painted fall between those of the video; "
                    "let one be a multiple of the other"
                )
            if self.mask != "none" and self.painted % speed:
                raise UsageError(
                    f"speed {speed} needs {speed} motion maps for {self.frames} x {self.rate} painted frames, which do "
                    'not share them evenly; leave this speed out, or set mask to "none"'
                )

    @property
    def views(self) -> int:
        return 1

    @property
    def painted(self) -> int:
        return self.frames * self.rate

    @property
    def length(self) -> int:
        return self.painted + max(self.speeds) * len(compared(self.mask, self.frames))

    def __call__(self, video: Video, rng: Random) -> Sample:
        label = rng.randrange(len(self.speeds))
        speed = self.speeds[label]
        window = self._window(video, speed, rng)
        last = window[-1:]
        painted = window[:: max(1, speed // self.rate)]
        painted += last * (self.painted - len(painted))
        numbers = compared(self.mask, self.frames)
        motion = [window[segment * self.frames + number] for segment in range(speed) for number in numbers]
        filler = last * (self.length - self.painted - len(motion))
        return Sample(views=[View(frames=painted + motion + filler, speed=float(speed))], targets={"rate": label})

    def _window(self, video: Video, speed: int, rng: Random) -> list[int]:
        size = self.frames * speed
        room = video.frames - (size + 1)
        if room < 0:
            try:
                return fallback(size, 1, video.frames, self.short)
            except TooShortError as short:
                raise TooShortError(size + 1, short.short) from None
        start = max(0, rng.randrange(room + 1) - 1)  # as the authors' code draws it
        return list(range(start, start + size))


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All choices of PRP; the defaults are the authors' code.

    Tables 1 and 2 of the paper differ in `branches` (DP, GP, DG-P) and, of the sampling, in `speeds`, `rate` and
    `mask` ("none" is w/o MA). A branch that is alone has equation 1 or 2 as its loss, without a weight.
    """

    NAME: ClassVar[str] = "prp"
    sampling: Sampling = Sampling()
    branches: Branches = "DG-P"  # D names the speed, G paints
    interpolated: Interpolated = "excluded"  # from the loss of what is painted
    weight_rec: float = 1.0  # the paper's lambda_g
    weight_cls: float = 0.1  # lambda_d
    fc_lr: float = 10.0  # learning rate of the rate head's last layer, in those of all others

    def __post_init__(self) -> None:
        for look in self.sampling.looks:
            if self.branches != "DP" and look.normalise != "unit":
                raise UsageError(
                    f"the clips are normalised as '{look.normalise}', and the decoder paints values from 0 to 1: "
                    'set normalise to "unit" in their look'
                )

    def plan(self) -> Sampling:
        # Where nothing is painted, only what is seen is read.
        return replace(self.sampling, rate=1, mask="none") if self.branches == "DP" else self.sampling

    @property
    def weights(self) -> dict[str, float]:
        """Of the parts of the loss (equation 4)."""
        both = self.branches == "DG-P"
        return {"rate": self.weight_cls if both else 1.0, "reconstruction": self.weight_rec if both else 1.0}


class PRP(nn.Module):
    """Encoder, rate head and decoder.

    `lr_factors` tells by how much the learning rate of parameters is to be multiplied; keys are beginnings of names.
    """

    def __init__(self, backbone: Backbone, config: Config) -> None:
        super().__init__()
        self.config = config
        self.plan = config.plan()
        self.backbone = backbone
        self.rates = None if config.branches == "GP" else RateHead(backbone.dim, len(self.plan.speeds))
        self.decoder = None if config.branches == "DP" else Decoder(backbone.dim, self.plan.rate)
        self.lr_factors = {} if self.rates is None else {"rates.fc.": config.fc_lr}

    def forward(self, clips_BNCTHW: Tensor, facts: dict[str, Tensor]) -> dict[str, Tensor]:
        view_BTCHW, speed_B = clips_BNCTHW[:, 0].transpose(1, 2), facts["speed"][:, 0]
        wanted_BTCHW, real_BT = self._wanted(view_BTCHW, speed_B)
        seen_BCTHW = wanted_BTCHW[:, :: self.plan.rate].transpose(1, 2)
        map_BCTHW = self.backbone(seen_BCTHW.contiguous(memory_format=torch.channels_last_3d))
        parts, logged = {}, {}
        if self.rates is not None:
            logits = self.rates(map_BCTHW).float()
            parts["rate"] = F.cross_entropy(logits, facts["rate"])  # equation 1
            logged["rate_accuracy"] = (logits.argmax(1) == facts["rate"]).float().mean()
        if self.decoder is not None:
            painted_BTCHW = self._paint(self.decoder, map_BCTHW, wanted_BTCHW)
            mask_BTCHW = self._mask(view_BTCHW, speed_B)
            error_BT = (mask_BTCHW * (painted_BTCHW - wanted_BTCHW).square()).mean((2, 3, 4))
            # Equation 2; each sample's mean is over the frames that count in it, as in the authors' code.
            parts["reconstruction"] = ((error_BT * real_BT).sum(1) / real_BT.sum(1)).mean()
        loss = torch.stack([self.config.weights[name] * part for name, part in parts.items()]).sum()  # equation 4
        return {"loss": loss} | {name: part.detach() for name, part in parts.items()} | logged

    def after_step(self, progress: float) -> None:
        pass

    @torch.no_grad()
    def _wanted(self, view_BTCHW: Tensor, speed_B: Tensor) -> tuple[Tensor, Tensor]:
        """The frames to be painted, of which every `rate`-th is seen; and which of them count in the loss."""
        number_T = torch.arange(self.plan.painted, device=speed_B.device)
        real_BT = torch.ones_like(number_T, dtype=torch.float32).expand(len(speed_B), -1)
        slots_BTCHW = view_BTCHW[:, : self.plan.painted].float()
        if min(self.plan.speeds) >= self.plan.rate:
            return slots_BTCHW, real_BT
        place_BT = (number_T * speed_B[:, None] / self.plan.rate).minimum(number_T)
        if self.config.interpolated == "excluded":
            real_BT = (place_BT == place_BT.floor()).float()
        return blended(slots_BTCHW, place_BT), real_BT

    @torch.no_grad()
    def _mask(self, view_BTCHW: Tensor, speed_B: Tensor) -> Tensor | float:
        if self.plan.mask == "none":
            return 1.0
        motion_BTCHW = view_BTCHW[:, self.plan.painted :].float()
        return motion_mask(motion_BTCHW, speed_B, self.plan.mask, self.plan.frames, self.plan.painted)

    def _paint(self, decoder: Decoder, map_BCTHW: Tensor, wanted_BTCHW: Tensor) -> Tensor:
        """What the decoder makes of the map, as large as what is wanted."""
        frames, _, height, width = wanted_BTCHW.shape[1:]
        # What VCOP's networks make of a clip, and the decoder makes a clip of.
        fit = (-(-self.plan.frames // 8), -(-height // 16), -(-width // 16))
        if map_BCTHW.shape[2:] != fit:
            map_BCTHW = F.adaptive_avg_pool3d(map_BCTHW, fit)
        painted_BCTHW: Tensor = decoder(map_BCTHW)
        # 7 is halved to 4 by a step at 0, 2, 4 and 6: what doubling gives too much lies at the far side.
        return painted_BCTHW[:, :, :frames, :height, :width].transpose(1, 2).float()


METHOD = MethodEntry(
    summary="PRP: playback rate and skipped frames.",
    module=PRP,
    config=Config,
    main="prp-r2plus1d-ucf101",
    protocol="prp",
)
