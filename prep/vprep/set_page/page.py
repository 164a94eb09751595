"""The page of a set: one file that opens from disk, of a bounded size however large the set is."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vprep.atomic import require_place
from vprep.errors import UsageError
from vprep.format import FAILURES, read_dataset
from vprep.index_rows import failures
from vprep.page import svg
from vprep.page.bars import Bar, bar_chart, binned, histogram
from vprep.page.chart import Level
from vprep.page.document import Page, Section, package_text, save
from vprep.page.html import Child, Element, el
from vprep.page.parts import FILMS, Column, facts, folded, table
from vprep.set_page import wall
from vprep.set_page.films import Films, films_of
from vprep.set_page.picked import SPLITS, Picked, pick
from vprep.set_page.wall import class_name
from vprep.stats import Tally, as_pairs, tallied, values_of
from vprep.summary import counted
from vprep.text import brief, byte_size, one_line

HERE = "vprep.set_page"
CHART = 440.0  # pixels, so that letters are legible on a phone
MOST_BARS = 40  # classes with a bar of their own
MOST_ROWS = 1000  # of a table
EXAMPLES = 5  # failures of each cause


def save_page(folder: Path, out: Path) -> dict[str, Any]:
    """Write the page of the set in `folder`, and return what was written."""
    if out.suffix.lower() != ".html":
        raise UsageError(f"--html is '{out.name}'; it must end in .html")
    read_dataset(folder)  # refuses a folder without a set before anything is read
    require_place(out, "--html")
    tally = tallied(folder)
    info = values_of(folder, tally)
    picked = pick(folder)
    films = films_of(folder, picked.rounds())
    page = Page(
        title=f"Set {one_line(folder.resolve().name)}",
        lead=facts((name.strip(), one_line(value)) for name, value in as_pairs(info)),
        sections=list(_sections(folder, info, tally, picked, films)),
        styles=(package_text(HERE, "set.css"),),
        scripts=(package_text(HERE, "set.js"),),
        data={FILMS: lambda: [shown.data for shown in films.films]},
        has_films=True,
    )
    size = save(page, out)
    written = {"html": str(out), "html_bytes": size, "films": len(films.films), "film_bytes": films.bytes}
    return info | written


def as_text(info: dict[str, Any]) -> str:
    """Return what was written as a sentence."""
    films = counted(info["films"], "video")
    size = byte_size(info["html_bytes"])
    return f"{info['html']}: {size}, pictures of {films} out of {info['videos']:,}; open it in a browser"


def _sections(folder: Path, info: dict[str, Any], tally: Tally, picked: Picked, films: Films) -> Iterator[Section]:
    yield Section(identifier="classes", title="Classes", body=list(_classes(picked)))
    yield Section(identifier="videos", title="Videos", body=_videos(info, tally))
    yield Section(identifier="failures", title="Failures", body=_failures(folder, info))
    yield Section(identifier="same", title="Same content", body=_same(info["duplicates"]))
    lead = wall.lead(picked, films)
    yield Section(identifier="pictures", title="Pictures", lead=lead, body=list(wall.pictures(picked, films)))


def _classes(picked: Picked) -> Iterator[Child]:
    """Yield a bar for each class, or, of many classes, a histogram of their sizes; and the table of all."""
    named = [(name, picked.counts[name]) for name in picked.classes]
    if len(named) <= MOST_BARS:
        bars = [Bar(name=class_name(name), value=count) for name, count in named]
        yield _figure(svg.element(bar_chart(bars, title="Videos of each class", value_label="videos", width=CHART)))
    else:
        import numpy as np

        edges, counts = binned(np.array([float(count) for _, count in named]))
        chart = histogram(
            edges, counts, title="Sizes of the classes", x_label="videos of a class", y_label="classes", width=CHART
        )
        yield _figure(svg.element(chart))
    parts = sorted({(split, part) for _, split, part in picked.parts})
    columns = [Column("class", is_head=True), Column("videos", is_number=True)]
    columns += [Column(f"{split}: {one_line(part)}", is_number=True) for split, part in parts]
    rows = (
        (class_name(name), f"{count:,}", *(f"{picked.parts[name, split, part]:,}" for split, part in parts))
        for name, count in named[:MOST_ROWS]
    )
    left = f", the first {MOST_ROWS:,} by name" if len(named) > MOST_ROWS else ""
    yield folded(f"Table of {counted(len(named), 'class')}{left}", table(columns, rows, caption="Classes"))


def _videos(info: dict[str, Any], tally: Tally) -> list[Child]:
    """Return charts of durations, rates, sizes and codecs, and the parts of the splits."""
    parts = [(split, part, f"{count:,}") for split in SPLITS for part, count in info["splits"].get(split, {}).items()]
    columns = [Column("split", is_head=True), Column("part"), Column("videos", is_number=True)]
    rows = [(split, one_line(part), count) for split, part, count in parts]
    return [el("div", _charts(info, tally), class_="charts"), table(columns, rows, caption="Splits") if rows else None]


def _charts(info: dict[str, Any], tally: Tally) -> Iterator[Child]:
    seconds = tally.all_seconds
    if len(seconds):
        edges, counts = binned(seconds)
        levels = [Level(name="median", value=info["seconds"]["50%"])]
        yield _figure(
            svg.element(
                histogram(
                    edges, counts, title="Durations", x_label="seconds", y_label="videos", levels=levels, width=CHART
                )
            )
        )
    for title, name in (("Frame rates of the sources", "source_fps"), ("Stored frame rates", "fps"),
                        ("Stored frame sizes", "frame_sizes"), ("Codecs of the sources", "codecs")):  # fmt: skip
        bars = [Bar(name=one_line(str(value)), value=count) for value, count in info[name].items()]
        if bars:
            yield _figure(svg.element(bar_chart(bars, title=title, value_label="videos", width=CHART)))


def _failures(folder: Path, info: dict[str, Any]) -> Child:
    """Return the failures by cause with examples of each."""
    if not info["causes"] or not (folder / FAILURES).exists():
        return el("p", "No video failed.")
    examples: dict[str, list[tuple[str, str]]] = {cause: [] for cause in info["causes"]}
    for row in failures(folder, ["cause", "source", "detail"]).to_pylist():
        found = examples.setdefault(str(row["cause"]), [])
        if len(found) < EXAMPLES:
            found.append((brief(row["source"] or ""), brief(row["detail"] or "")))
    bars = [Bar(name=one_line(str(cause)), value=count) for cause, count in info["causes"].items()]
    columns = [Column("cause", is_head=True), Column("source"), Column("detail")]
    rows = ((one_line(cause), *example) for cause, found in examples.items() for example in found)
    chart = bar_chart(bars, title="Videos that failed, by cause", value_label="videos", width=CHART)
    return [_figure(svg.element(chart)), table(columns, rows, caption=f"Up to {EXAMPLES} examples of each cause")]


def _same(same: dict[str, Any]) -> Child:
    """Return the groups of videos with the same content."""
    if not same["groups"]:
        return el("p", "No two videos have the same content and times.")
    videos = counted(same["videos"], "video")
    lines = [f"{counted(same['groups'], 'group')} with {videos} that have the same content and times."]
    for split, count in same["across"].items():
        lines.append(f"{split}: {counted(count, 'group')} with videos both in train and elsewhere.")
    examples = [el("li", one_line(", ".join(keys))) for keys in same["examples"]]
    return [*(el("p", line) for line in lines), folded(f"{counted(len(examples), 'group')} by key", el("ul", examples))]


def _figure(chart: Element) -> Element:
    return el("figure", chart)
