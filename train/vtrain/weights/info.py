"""The description of weights. A file is not trusted: a value of the wrong type counts as absent."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from vtrain.run_folder import Best

_TYPES: dict[str, tuple[type, ...]] = {
    "normalisation": (str, dict),
    "recipe": (dict,),
    "origin": (str,),
    "file": (str,),
    "method": (str,),
    "protocol": (str,),
    "step": (int,),
    "epochs": (int, float),
    "data": (dict,),
    "classes": (list,),
}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # equality is that of a mapping
class WeightsInfo(Mapping[str, Any]):
    """Which network the weights belong to, which clips it takes and how it was trained.

    A known value can be read as an attribute, `info.clip`, or by its name, `info["clip"]`. An unknown value is None as
    an attribute and absent as a key.
    """

    backbone: str
    settings: dict[str, Any] = field(default_factory=dict)  # of the backbone, where they differ from its defaults
    dim: int  # channels of the last map
    clip: list[int] | None = None  # frames, height and width
    normalisation: str | dict[str, Any] | None = None  # a word of the data path, or the numbers behind it
    recipe: dict[str, Any] | None = None
    origin: str | None = None  # of imported weights: who published them
    file: str | None = None  # of imported weights: the published file's name
    method: str | None = None
    protocol: str | None = None  # of a run: evaluation's protocol for the method's weights
    step: int | None = None
    best: dict[str, Any] | None = None  # of a run's best epoch so far: by which number it is, its value and its step
    epochs: float | None = None
    data: dict[str, Any] | None = None  # of a run: the videos it learned from
    classes: list[str] | None = None  # of a fine-tuned network, by number

    @classmethod
    def read(cls, found: Mapping[str, Any], dim: int) -> "WeightsInfo":
        """Return the description of the weights in a file; keys of other programs are ignored."""
        known = {name: found.get(name) for name in _TYPES}
        typed: dict[str, Any] = {name: value for name, value in known.items() if isinstance(value, _TYPES[name])}
        return cls(
            backbone=found["backbone"],
            settings=found.get("settings") or {},
            dim=dim,
            clip=clip_of(found.get("clip")),
            best=asdict(best) if (best := Best.read(found.get("best"))) else None,
            **typed,
        )

    @property
    def is_best(self) -> bool:
        """Whether these are the weights of a run's best epoch."""
        return self.best is not None and self.best["step"] == self.step

    @property
    def epoch(self) -> str:
        """Which epoch these weights are of, in words; empty where their run keeps only the last."""
        best = Best.read(self.best)
        if best is not None:
            return str(best) if self.is_best else f"step {self.step}; lowest {best.by} at step {best.step}"
        keeps = (self.recipe or {}).get("keep") == "best"
        return f"step {self.step}; no best epoch yet" if keeps else ""

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401  of any field
        if name not in _NAMES or getattr(self, name) is None:
            raise KeyError(name)
        return getattr(self, name)

    def __iter__(self) -> Iterator[str]:
        return (name for name in _NAMES if getattr(self, name) is not None)

    def __len__(self) -> int:
        return sum(1 for _ in self)


_NAMES = tuple(each.name for each in fields(WeightsInfo))


def clip_of(found: Any) -> list[int] | None:  # noqa: ANN401  any value of a file
    """Return frames, height and width; None when `found` is neither those nor a recipe's frames and size."""
    if isinstance(found, dict):
        found = [found.get("frames"), found.get("size"), found.get("size")]
    if isinstance(found, list | tuple) and len(found) == 3 and all(type(x) is int and x > 0 for x in found):
        return list(found)
    return None
