"""The methods, by name. Each file is one paper, read from its sampling to its loss."""

from collections.abc import Callable
from typing import Any

from vtrain.methods.ascnet import ASCNet
from vtrain.methods.method import Method as Method
from vtrain.methods.pace import Pace
from vtrain.methods.prp import PRP
from vtrain.methods.rspnet import RSPNet
from vtrain.methods.supervised import Supervised

METHODS: dict[str, Callable[[Any, Any], Any]] = {
    "rspnet": RSPNet,
    "ascnet": ASCNet,
    "prp": PRP,
    "pace": Pace,
    "supervised": Supervised,
}
