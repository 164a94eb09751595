"""What `veval report` reads and prints."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from veval.results.report import Report, as_dict
from veval.results.tables.csv_lines import csv_lines
from veval.results.tables.latex import latex
from veval.results.tables.markdown import markdown
from veval.results.tables.terminal import terminal
from vprep import printing
from vprep.errors import UsageError
from vprep.text import json_line

WIDTH = 100  # columns of a report in a file or a pipe, unless COLUMNS says another width


def result_files(words: Sequence[Path], default: Path) -> list[Path]:
    """Return the named results, and those in the named folders."""
    named = list(words) or [default]
    folders = {word for word in named if word == default or word.is_dir()}
    paths = [path for word in named for path in (sorted(word.glob("*.json")) if word in folders else [word])]
    if not paths:
        raise UsageError(f"there are no results in {named[0]}; the other commands of veval write results")
    return paths


def form_of(asked: Mapping[str, bool]) -> str:
    """Return the option that names the form of the report; "" for the table on a terminal."""
    found = [name for name, is_asked in asked.items() if is_asked]
    if len(found) > 1:
        raise UsageError(f"{' and '.join(found)} are different forms of a report; name one of them")
    return found[0] if found else ""


def show(found: Report, form: str) -> None:
    """Print a report."""
    if form == "--json":
        printing.say(json_line(as_dict(found)))
    elif form == "--markdown":
        printing.say(markdown(found))
    elif form == "--latex":
        printing.say(latex(found))
    elif form == "--csv":
        printing.say(csv_lines(found))
    else:
        columns = shutil.get_terminal_size(fallback=(WIDTH, 0)).columns
        printing.say(terminal(found, columns), width=columns)
