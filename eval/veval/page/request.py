"""What a page is asked for."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from veval.results.aggregate import Folds
from veval.results.check import Over
from vprep.errors import UsageError

Method = Literal["pca", "tsne", "umap"]
ENDINGS = (".html", ".htm")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the page is about. Shards and runs that are not named are those that the results name, where they exist."""

    files: Sequence[Path]  # of results
    shards: str | None = None
    features: Path | None = None  # without them there is no map
    runs: Sequence[Path] = ()
    method: Method = "pca"  # of the map
    folds: Folds = "separate"
    over: Over | None = None

    def refuse_without_page(self) -> None:
        """Refuse what only a page can show, where none is asked for."""
        options = {
            "--shards": self.shards, "--features": self.features, "--runs": self.runs, "--map": self.method != "pca",
        }  # fmt: skip
        for name, value in options.items():
            if value:
                raise UsageError(f"{name} is about the page of pictures; add --html FILE, or leave {name} out")


def refuse_name(out: Path) -> None:
    """Refuse a name that browsers do not open as a page."""
    if out.suffix.lower() not in ENDINGS:
        raise UsageError(f"--html is '{out.name}'; it must end in {' or '.join(ENDINGS)}")
