"""Training on labels: the baseline of the self-supervised methods, and their fine-tuning."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from vtrain.data.sampling import OneClip, Plan
from vtrain.methods.method import MethodEntry
from vtrain.setting_limits import NOT_NEGATIVE, check_limits

if TYPE_CHECKING:
    from torch import nn

    from vtrain.backbones import Backbone


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All choices of training on labels."""

    NAME: ClassVar[str] = "supervised"
    classes: int = 0  # 0: as many as the videos have
    sampling: OneClip = field(default_factory=OneClip)
    dropout: float = 0.0  # the four papers have none; above 0 each step draws from torch's own generator

    def __post_init__(self) -> None:
        check_limits(self, {"classes": NOT_NEGATIVE, "dropout": (0, 0.99)})

    def plan(self) -> Plan:
        return self.sampling

    @property
    def chances(self) -> dict[str, float]:
        """How often a guess is correct."""
        return {"accuracy": 1 / self.classes} if self.classes else {}


def build(backbone: "Backbone", config: Config) -> "nn.Module":
    """Return the network with its loss; it is imported here, because it needs torch."""
    from vtrain.methods.supervised.network import Supervised

    return Supervised(backbone, config)


METHOD = MethodEntry(
    summary="Training on labels, from scratch or from --weights.",
    module=build,
    config=Config,
    main="finetune-rspnet-r2plus1d-ucf101",  # without weights it is "w/o pre-training" of RSPNet's table 1
    protocol="rspnet",
    learns_from_labels=True,
)
