"""The origins of published weights by name."""

from vprep.errors import UsageError
from vtrain.weights.origins.origin import Origin
from vtrain.weights.origins.pace import PACE
from vtrain.weights.origins.prp import PRP
from vtrain.weights.origins.rspnet import RSPNET
from vtrain.weights.origins.torchvision import TORCHVISION
from vtrain.weights.origins.vcop import VCOP

ORIGINS = {"rspnet": RSPNET, "prp": PRP, "pace": PACE, "vcop": VCOP, "torchvision": TORCHVISION}


def origin_named(name: str, backbone: str | None = None) -> Origin:
    """Return the origin of this name; refuse one that did not publish `backbone`."""
    if name not in ORIGINS:
        raise UsageError(f"no origin '{name}'; there are {', '.join(ORIGINS)}")
    origin = ORIGINS[name]
    if backbone is not None and backbone not in origin.renames:
        raise UsageError(f"{name} has no backbone '{backbone}'; it has {', '.join(origin.renames)}")
    return origin
