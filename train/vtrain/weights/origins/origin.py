"""Rename the tensors of foreign checkpoints. Each origin has a file with its table; nothing is guessed.

First `prefix` is removed from the front of a name. A name that then begins with an entry of `skipped` is left out and
counted in the report. A name that `heads` renames belongs to a head. One of `renames` must turn all other names
together into the complete state dict of a backbone.
"""

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor

Renames = tuple[tuple[str, str], ...]  # patterns and their replacements, applied to a name one after another
Named = dict[str, "Tensor"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Normalisation:
    """The input of a network: pixels in [0, scale], then (x - mean) / std for each channel."""

    scale: Literal[1, 255] = 1
    channels: Literal["rgb", "bgr"] = "rgb"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """A source of published checkpoints. `renames` has a table for each backbone that it published."""

    name: str
    prefix: str
    skipped: tuple[str, ...]
    renames: dict[str, Renames]
    normalisation: Normalisation
    clips: dict[str, tuple[int, int, int]] = field(default_factory=dict)  # by backbone, where not 16 x 112 x 112
    heads: Renames = ()

    def clip(self, backbone: str) -> list[int]:
        """Return frames, height and width of the clips that the published backbone takes."""
        return list(self.clips.get(backbone, (16, 112, 112)))

    def sort(self, tensors: Named) -> tuple[Named, Named, dict[str, int]]:
        """Return the backbone's tensors and those of known heads, without prefix, and how many were skipped by kind."""
        rest: Named = {}
        heads: Named = {}
        skipped: dict[str, int] = {}
        for name, tensor in tensors.items():
            bare = re.sub(rf"^{self.prefix}", "", name)
            if found := re.match(rf"(?:{'|'.join(self.skipped)})(?=\.|$)", bare):
                skipped[found.group()] = skipped.get(found.group(), 0) + 1
                continue
            of_head = rename(bare, self.heads)
            group, key = (heads, of_head) if of_head != bare else (rest, bare)
            group[name if key in group else key] = tensor  # two tensors of one name: the second stays unknown
        return rest, heads, skipped


def rename(name: str, renames: Renames) -> str:
    """Apply each pattern to the name in turn."""
    for pattern, replacement in renames:
        name = re.sub(pattern, replacement, name)
    return name
