"""What a page is asked for, and what is refused before anything heavy is imported."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from veval.results.aggregate import Folds, is_scratch
from veval.results.check import Over
from veval.results.result import Result, read
from veval.results.runs import FILE
from vprep.atomic import require_place
from vprep.errors import UsageError

Method = Literal["pca", "tsne", "umap"]
ENDINGS = (".html", ".htm")
NEEDS = {"tsne": ("sklearn", "scikit-learn"), "umap": ("umap", "umap-learn")}  # module and package


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the page is about. Shards and runs that are not named are those that the results name, where they exist."""

    files: Sequence[Path]  # of results
    shards: str | None = None
    features: Path | None = None  # without them there is no map
    runs: Sequence[Path] = ()
    maps: Sequence[Path] = ()  # pictures of veval look
    method: Method = "pca"  # of the map
    folds: Folds = "separate"
    over: Over | None = None

    def refuse_without_page(self) -> None:
        """Refuse what only a page can show, where none is asked for."""
        options = {
            "--shards": self.shards, "--features": self.features, "--runs": self.runs, "--maps": self.maps,
            "--map": self.method != "pca",
        }  # fmt: skip
        for name, value in options.items():
            if value:
                raise UsageError(f"{name} is about the page of pictures; add --html FILE, or leave {name} out")

    def read_results(self) -> list[Result]:
        """Return the results, those from scratch last; refuse what no page can be made of."""
        if self.method in NEEDS:
            module, package = NEEDS[self.method]
            if importlib.util.find_spec(module) is None:
                raise UsageError(
                    f"--map is {self.method}, which needs {package}: pip install {package}; or write --map pca"
                )
        if self.features is not None and not self.features.is_file():
            raise UsageError(f"there is no {self.features}; make features with: veval features --out {self.features}")
        return sorted((read(path) | {FILE: str(path)} for path in self.files), key=is_scratch)


def refuse_place(out: Path) -> None:
    """Refuse a name that browsers do not open as a page, and a place where no file can be written."""
    if out.suffix.lower() not in ENDINGS:
        raise UsageError(f"--html is '{out.name}'; it must end in {' or '.join(ENDINGS)}")
    require_place(out, "--html")
