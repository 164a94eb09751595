"""How names in a foreign checkpoint become ours. One file an origin holds the table; nothing is guessed.

A name is read from the left: what `prefix` matches is taken off, what `skipped` matches is left out and named in the
report, what `heads` renames is no backbone's, and the rest must come out of one of `renames` as a backbone's state
dict: every tensor of it, and no other.
"""

import re
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

Renames = tuple[tuple[str, str], ...]  # patterns and what replaces them, one after another on the whole name
Named = dict[str, Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalisation:
    """What the network wants to see: pixels in [0, scale], then (x - mean) / std for each channel."""

    scale: Literal[1, 255] = 1
    channels: Literal["rgb", "bgr"] = "rgb"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where checkpoints come from: `renames` by the name of our backbone."""

    name: str
    prefix: str
    skipped: tuple[str, ...]
    renames: dict[str, Renames]
    normalisation: Normalisation
    clips: dict[str, tuple[int, int, int]] = field(default_factory=dict)  # of a backbone, where not 16 x 112 x 112
    heads: Renames = ()

    def facts(self, backbone: str) -> dict[str, Any]:
        """What weights of this origin say about themselves when they are stored as ours."""
        from_to = self.normalisation
        shown = {"scale": from_to.scale, "channels": from_to.channels, "mean": from_to.mean, "std": from_to.std}
        return {"origin": self.name, "clip": self.clips.get(backbone, (16, 112, 112)), "normalisation": shown}

    def sort(self, tensors: Named) -> tuple[Named, Named, dict[str, int]]:
        """The backbone's tensors and those of known heads, without prefix, and how many are skipped of what."""
        rest: Named = {}
        heads: Named = {}
        skipped: dict[str, int] = {}
        for name, tensor in tensors.items():
            bare = re.sub(rf"^{self.prefix}", "", name)
            if found := re.match(rf"(?:{'|'.join(self.skipped)})(?=\.|$)", bare):
                skipped[found.group()] = skipped.get(found.group(), 0) + 1
                continue
            head = rename(bare, self.heads)
            place, key = (heads, head) if head != bare else (rest, bare)
            place[name if key in place else key] = tensor  # two tensors of one name: the second stays unknown
        return rest, heads, skipped


def rename(name: str, renames: Renames) -> str:
    for pattern, replacement in renames:
        name = re.sub(pattern, replacement, name)
    return name
