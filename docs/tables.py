"""The tables of the four papers: each row with its published values, and its commands or why there are none."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cache

from figures import figures
from rows import PAPERS, evaluations, has_recipe, sets_of, training
from veval.results.published import Published, load

# Of each paper's tables, in its order.
CAPTIONS = {
    "RSPNet": {
        "1": "table 1, tasks of pre-training",
        "2": "table 2, UCF101 and HMDB51",
        "3": "table 3, Something-Something-V2",
        "4": "table 4, retrieval",
        "README": "the authors' README",
        "re-run": "the authors' second run",
    },
    "ASCNet": {
        "1a": "table 1a, the two tasks",
        "1b": "table 1b, kinds of SCP",
        "1c": "table 1c, speeds",
        "1d": "table 1d, batch",
        "1e": "table 1e, augmentation",
        "1f": "table 1f, networks",
        "2": "table 2, UCF101 and HMDB51",
        "3": "table 3, clips and crops of the test",
        "4": "table 4, length of pre-training",
        "5": "table 5, retrieval",
    },
    "PRP": {
        "1": "table 1, accuracy of the rate",
        "2": "table 2, kinds of perception",
        "3": "table 3, UCF101 and HMDB51",
        "4": "table 4, retrieval in UCF101",
        "5": "table 5, retrieval in HMDB51",
    },
    "Pace": {
        "1": "table 1, paces and jitter",
        "2": "table 2, contrastive learning",
        "3": "table 3, UCF101 and HMDB51",
        "4": "table 4, retrieval in UCF101",
        "5": "table 5, retrieval in HMDB51",
    },
}
HEAD = ("row", "network", "learned on", "published, %", "commands")
OF_VALUES = ("dataset", "metric", "value", "note")  # in which the rows of a line differ
PRETEXT = "the accuracy is `held_out_rate_accuracy` in the run's `metrics.jsonl`"
ON_LABELS = "the paper does not say how this network was trained; the recipe has the settings of Hara et al."
QUOTED = "quoted, without how this network was trained; the recipe has the settings of Hara et al."
OF_VCOP = "not from shards alone: `vcop-*.pt` is a checkpoint of VCOP's code, whose pre-training is not in this toolkit"
UNSAID = "the commands learn from Kinetics-400, as for table 2"
IMAGES = "not reproducible: the network learned from images"
OTHERS = "not reproducible: another paper's method"


Cells = Sequence[str]


def table(head: Cells, rows: Iterable[Cells]) -> str:
    """Return a markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines) + "\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line of a table: the rows of published.csv that differ only in data set and metric."""

    rows: tuple[Published, ...]
    commands: tuple[str, ...] = ()
    about: str = ""  # a note about the commands, or the reason why there are none

    @property
    def first(self) -> Published:
        return self.rows[0]

    @property
    def cells(self) -> tuple[str, ...]:
        row = self.first
        name = f"{row.method}: {row.variant}" if row.variant else row.method
        pooled = f" ({row.pools.replace('|', ' or ')})" if row.pools else ""
        before = {"none": "nothing", "": "not said"}.get(row.pretrain, row.pretrain)
        notes = dict.fromkeys([self.about, *(row.note for row in self.rows)])
        shown = [*(f"`{command}`" for command in self.commands), *filter(None, notes)]
        return f"{name}{pooled}", row.backbone or "not said", before, values(self.rows), "<br>".join(shown)


def values(rows: Sequence[Published]) -> str:
    """Return the values of a line by data set; those of retrieval are top-1, 5, 10, 20 and 50."""
    found: dict[str, list[str]] = defaultdict(list)
    for row in rows:
        found[row.dataset].append(f"{row.value:g}")
    return "<br>".join(f"{dataset} {' '.join(numbers)}" for dataset, numbers in found.items())


def page() -> str:
    """Return the sections of the page: the sets of shards, then the tables and the figures of each paper."""
    return "\n".join([_sets(), *(_paper(paper) for paper in PAPERS.values())])


def _sets() -> str:
    """Return the commands that make all sets, each once."""
    made = [command for line in lines() if line.commands for row in line.rows for one in sets_of(row)
            for command in one.commands]  # fmt: skip
    return "## The sets\n\n" + "\n".join(f"    {command}" for command in sorted(dict.fromkeys(made), key=_order)) + "\n"


def _order(command: str) -> tuple[bool, str]:
    return command.startswith("vprep subset"), command


def _paper(paper: str) -> str:
    """Return the tables and figures of a paper."""
    sections = [f"## {paper}\n"]
    for name, caption in CAPTIONS[paper].items():
        there = [line.cells for line in lines() if (line.first.paper, line.first.table) == (paper, name)]
        sections.append(f"### {paper}, {caption}\n\n{table(HEAD, there)}")
    items = "\n".join(figure.text for figure in figures()[paper])
    return "\n".join([*sections, f"### {paper}, figures\n\n{items}\n"])


@cache
def lines() -> tuple[Line, ...]:
    """Return the lines of all tables, in the papers' order."""
    groups: dict[tuple[str, ...], list[Published]] = defaultdict(list)
    for row in load():
        shared = tuple(str(getattr(row, item.name)) for item in fields(row) if item.name not in OF_VALUES)
        groups[shared].append(row)
    return tuple(_line(tuple(rows)) for rows in groups.values())


def _line(rows: tuple[Published, ...]) -> Line:
    row = rows[0]
    if not measurable(row):
        elsewhere = next((other for other in load() if _is_quoted(row, other) and measurable(other)), None)
        if elsewhere is not None:
            return Line(rows=rows, about=f"quoted: see {elsewhere.place}")
        return Line(rows=rows, about=IMAGES if row.pretrain == "ImageNet" else OTHERS)
    by_dataset = {row.dataset: row for row in rows}.values()
    tests = [command for one in by_dataset for command in evaluations(one)]
    notes = {"pretext": PRETEXT, "supervised": ON_LABELS if row.own else QUOTED, "VCOP": OF_VCOP}
    about = notes.get(row.task) or notes.get(row.method) or ("" if row.pretrain else UNSAID)
    return Line(rows=rows, commands=(*filter(None, [training(row)]), *tests), about=about)


def measurable(row: Published) -> bool:
    """Return whether commands measure what a row has, apart from rows that are in another of the four papers, too."""
    from_prp = row.paper == "PRP" and row.method in ("scratch", "VCOP")
    return row.own or from_prp or (row.method == "supervised" and has_recipe(row))


def _is_quoted(row: Published, other: Published) -> bool:
    """Return whether `row` is printed again from the table of `other`."""
    same = ("task", "method", "dataset", "metric", "value")
    backbones = {one.backbone.removesuffix(" (Pace)") for one in (row, other)}
    return (
        row.paper != other.paper
        and len(backbones) == 1
        and all(getattr(row, name) == getattr(other, name) for name in same)
    )
