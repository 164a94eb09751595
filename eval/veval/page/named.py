"""Results with the names that the page calls them by."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from veval.results.published import BACKBONES, METHODS
from veval.results.result import Result
from veval.results.runs import FILE


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A result, and a short name that no other result of its kind has."""

    name: str
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


def named(results: Sequence[Result]) -> list[Named]:
    """Return each result with the name of its method; where several share it, with the name or path of its file."""
    files = [Path(result[FILE]) for result in results]
    words = [network_of(result["weights"]) for result in results]
    stems = [f"{word} ({file.stem})" for word, file in zip(words, files, strict=True)]
    paths = [f"{word} ({file})" for word, file in zip(words, files, strict=True)]
    taken = Counter(
        (result["kind"], name) for names in (words, stems) for result, name in zip(results, names, strict=True)
    )
    return [
        Named(name=next((name for name in names[:2] if taken[result["kind"], name] == 1), names[2]), result=result)
        for result, *names in zip(results, words, stems, paths, strict=True)
    ]


def network_of(weights: Mapping[str, Any]) -> str:
    """Return the method and the backbone of weights, as their description in a file says."""
    method, backbone = str(weights.get("method") or "weights"), str(weights.get("backbone") or "")
    return ", ".join(filter(None, (METHODS.get(method, method), BACKBONES.get(backbone, backbone))))
