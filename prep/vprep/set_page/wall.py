"""The videos on the page of a set: a wall for each class, and a player that opens at a click or a key."""

from collections.abc import Iterator
from typing import Any

from vprep.page.html import Child, Element, el
from vprep.page.parts import film, notes
from vprep.set_page.films import BUDGET, FRAMES, Film, Films
from vprep.set_page.picked import MOST_PER_CLASS, MOST_VIDEOS, SPLITS, Picked
from vprep.summary import counted
from vprep.text import byte_size, one_line

NO_LABEL = "(no label)"


def class_name(name: str | None) -> str:
    """Return the name of a class for the page."""
    return NO_LABEL if name is None else one_line(name)


def lead(picked: Picked, films: Films) -> str:
    """Return how the videos with pictures were chosen."""
    total = sum(picked.counts.values())
    most = f"at most {MOST_PER_CLASS} of a class and {MOST_VIDEOS} in all"
    rule = f"the first of each class in the order of the shards, {most}"
    size = f"Their pictures take {byte_size(films.bytes)} of at most {byte_size(BUDGET)}"
    left = f"; {counted(films.left_out, 'video')} more had no room" if films.left_out else ""
    return (
        f"{len(films.films):,} of {total:,} videos: {rule}. {size}{left}. Each shows up to {FRAMES} frames, evenly "
        "spaced. A click or the Enter key opens a video; the arrow keys go to the next one."
    )


def pictures(picked: Picked, films: Films) -> Iterator[Child]:
    """Yield the choice of a class, the videos of each class, and the player."""
    unreadable = [f"{one_line(key)} could not be read; vprep verify says more" for key in films.unreadable]
    yield notes(unreadable)
    by_class: dict[str | None, list[tuple[int, Film]]] = {}
    for number, shown in enumerate(films.films):
        by_class.setdefault(shown.row["class_name"], []).append((number, shown))
    options = [el("option", "all classes", value="")]
    names = [name for name in picked.classes if name in by_class]
    options += [el("option", class_name(name), value=str(index)) for index, name in enumerate(names)]
    yield el("p", el("label", "Class ", el("select", options, id="class")), class_="filter", hidden=True)
    for index, name in enumerate(names):
        buttons = [_button(number, shown) for number, shown in by_class[name]]
        heading = el("h3", class_name(name), el("span", f" {picked.counts[name]:,}", class_="note"))
        yield el("div", heading, el("div", buttons, class_="wall"), class_="sheet", data_class=index)
    yield _player()


def _button(number: int, shown: Film) -> Element:
    key = one_line(shown.row["key"])
    picture = film(number, alt="", width=shown.width, height=shown.height)
    return el(
        "button",
        picture,
        type="button",
        class_="video",
        data_plays=True,
        aria_label=f"Video {key}",
        **_about(shown.row),
    )


def _about(row: dict[str, Any]) -> dict[str, str]:
    """Return what the player says of a video, as attributes of its button."""
    splits = ", ".join(f"{split[-1]}: {row[split]}" for split in SPLITS if row[split])
    size = f"{row['frames']:,} frames of {row['height']} x {row['width']} at {row['fps']:g} fps"
    seconds = f"{row['frames'] / row['fps']:.2f} s"
    return {
        "data_key": one_line(row["key"]),
        "data_about": one_line(f"{row['class_name'] or NO_LABEL}{f', split {splits}' if splits else ''}"),
        "data_size": f"{size}, {seconds}, {row['damaged'] or 0} damaged",
        "data_source": one_line(row["source"] or ""),
    }


def _player() -> Element:
    return el(
        "dialog",
        el("h3", id="player-key"),
        el("img", alt="", id="player-film"),
        el("p", id="player-about"),
        el("p", id="player-size", class_="note"),
        el("p", id="player-source", class_="note"),
        el(
            "div",
            el("button", "Previous", type="button", id="player-previous"),
            el("button", "Next", type="button", id="player-next"),
            el("button", "Close", type="button", id="player-close"),
            class_="buttons",
        ),
        id="player",
        aria_labelledby="player-key",
    )
