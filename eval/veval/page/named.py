"""Results with the names that the page calls them by."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from veval.results.published import BACKBONES, METHODS
from veval.results.result import Result


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A result, its file, and a short name that no other result of its kind has."""

    name: str
    path: Path
    result: Result

    @property
    def kind(self) -> str:
        return str(self.result["kind"])

    @property
    def data(self) -> str:
        """The name of the videos, with their fold."""
        data = self.result["data"]
        fold = data.get("fold")
        return f"{data.get('name') or 'videos'}{'' if fold is None else f', fold {fold}'}"


def named(paths: Sequence[Path], results: Sequence[Result]) -> list[Named]:
    """Return each result with the name of its method; where several share it, with the name of its file."""
    words = [_network(result) for result in results]
    taken = Counter((result["kind"], word) for result, word in zip(results, words, strict=True))
    names = [
        f"{word} ({path.stem})" if taken[result["kind"], word] > 1 else word
        for path, result, word in zip(paths, results, words, strict=True)
    ]
    return [Named(name=name, path=path, result=one) for name, path, one in zip(names, paths, results, strict=True)]


def _network(result: Result) -> str:
    weights = result["weights"]
    method, backbone = str(weights.get("method") or "weights"), str(weights.get("backbone") or "")
    return ", ".join(filter(None, (METHODS.get(method, method), BACKBONES.get(backbone, backbone))))
