"""The numbers that the four papers published.

published.csv has one row for each number in a table of RSPNet (AAAI 2021), ASCNet (ICCV 2021), PRP (CVPR 2020) and
Pace (ECCV 2020), their own (own=1) and those that they took from others, with the paper's description of the
measurement. All rows use the same words in `method` and `backbone`; `printed` has the paper's own words where they
differ. An empty cell: the paper does not say it; a|b: either. An own row without `pretrain` agrees with no result,
because the data decide. `recipe` names the recipes that train the network of the row, by the end of their names.
`epochs` of Pace on UCF101 are of ten times the list, as its authors count them. `note` says where the papers' tables
contradict each other, and what a paper does not say.
"""

import csv
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache, lru_cache
from importlib import resources
from typing import Any

from vprep.errors import WorkError

ROWS = 648
AGAIN = "install playspeed again"

# Networks that are in none of the tables (torchvision's deeper ones, `tiny`) are not here.
BACKBONES = {
    "c3d": "C3D",
    "r3d": "R3D",  # one block a stage; Pace prints R3D-18
    "r2plus1d": "R(2+1)D",
    "resnet3d18": "3D ResNet-18",  # RSPNet prints ResNet-18, ASCNet 3D R18
    "resnet3d34": "3D ResNet-34",
    "s3dg": "S3D-G",
    "s3dg_pace": "S3D-G (Pace)",
    "s3d": "S3D",
    "tsm18": "TSM-18",
}
METHODS = {
    "rspnet": "RSPNet",
    "ascnet": "ASCNet",
    "prp": "PRP",
    "pace": "Pace",
    "vcop": "VCOP",
    "supervised": "supervised",
    "random": "scratch",
    "scratch": "scratch",
}
DATASETS = {
    "k400": "kinetics400",
    "k100": "kinetics100",
    "k600": "kinetics600",
    "minik200": "minikinetics200",
    "somethingsomethingv2": "ssv2",
    "somethingv2": "ssv2",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """One published number, as a row of published.csv."""

    paper: str
    table: str
    task: str
    dataset: str
    metric: str
    method: str
    variant: str
    backbone: str
    pretrain: str
    recipe: str
    epochs: str
    splits: str
    clips: str
    frames: str
    size: str
    crop: str
    fusion: str
    pools: str
    level: str
    value: float
    own: bool
    printed: str
    note: str

    @property
    def is_usable(self) -> bool:
        words = [value for name, value in asdict(self).items() if name not in ("value", "own")]
        numeric = not self.epochs or self.epochs.replace(".", "", 1).isdecimal()
        return all(isinstance(word, str) for word in words) and bool(self.table) and numeric and 0 <= self.value <= 100

    @property
    def place(self) -> str:
        return f"{self.paper} {'table ' if self.table[0].isdigit() else ''}{self.table}"

    @property
    def measured(self) -> bool:
        """Whether the paper measured it itself: its own rows, its untrained networks, and VCOP in PRP."""
        return self.own or self.method == "scratch" or (self.paper, self.method) == ("PRP", "VCOP")


@cache
def load() -> tuple[Published, ...]:
    """Return all published numbers."""
    return read(resources.files("veval.results").joinpath("published.csv").read_bytes())


def read(content: bytes) -> tuple[Published, ...]:
    """Return the numbers of a published.csv; a damaged one is refused, because its numbers would be compared with."""
    try:
        rows: Iterator[dict[str, Any]] = csv.DictReader(content.decode().splitlines(), strict=True)
        found = tuple(Published(**row | {"value": float(row["value"]), "own": row["own"] == "1"}) for row in rows)
    except (ValueError, TypeError, KeyError, csv.Error) as error:
        raise WorkError(f"published.csv of veval is damaged ({error}); {AGAIN}") from None
    wrong = next((number for number, row in enumerate(found, 2) if not row.is_usable), None)
    if wrong is not None or len(found) != ROWS:
        what = f"it has {len(found)} numbers instead of {ROWS}" if wrong is None else f"row {wrong} is not usable"
        raise WorkError(f"published.csv of veval is damaged ({what}); {AGAIN}")
    return found


@lru_cache(maxsize=4096)
def plain(word: str) -> str:
    """Return one spelling for all ways to write a name."""
    bare = re.sub(r"[^a-z0-9+()]", "", word.lower())
    return DATASETS.get(bare, bare)
