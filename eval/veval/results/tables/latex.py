"""Write a report as LaTeX: a table for each task and data set as papers print it, with the rules of booktabs.

The preamble needs \\usepackage{booktabs}. Text from results never becomes a command.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from veval.results import rows as rows_of
from veval.results.report import Report
from veval.results.rows import Row, Section
from veval.results.runs import NONE
from veval.results.tables.words import below, cell, gain_interval, metric_name, numbered, title
from vprep.text import one_line

HEAD = ("", "Method", "Backbone", "Pre-trained on")  # and the fold, where rows are about several
SPECIAL = {
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
    "±": r"\(\pm\)",
}
MINUS = r"\(-\)"
PICTURED = ("name", "clips", "frames", "size")  # entries of a protocol with words of their own


def latex(found: Report) -> str:
    """Return the tables; each caption states the protocol, and the notes stand below the table."""
    return "\n".join("\n".join(_table(section, number)) for number, section in enumerate(rows_of.sections(found), 1))


def _table(section: Section, number: int) -> Iterator[str]:
    metrics = section.metrics
    yield r"% needs \usepackage{booktabs}; the intervals of further metrics are in veval report --csv"
    yield r"\begin{table}[t]"
    yield r"\centering\small\setlength{\tabcolsep}{4pt}"
    yield rf"\caption{{{_caption(section)}}}"
    yield rf"\label{{tab:{section.task}-{number}}}\smallskip"
    with_fold = section.fold is None
    yield rf"\begin{{tabular}}{{rlll{'l' * with_fold}{'r' * len(metrics)}}}"
    yield r"\toprule"
    yield _line([*HEAD, *["Fold"] * with_fold, *map(metric_name, metrics)])
    for row in section.rows:
        yield r"\midrule"
        yield from _row(row, metrics, with_fold)
    yield r"\bottomrule"
    yield r"\end{tabular}"
    yield from _notes(section)
    yield r"\end{table}"


def _row(row: Row, metrics: list[str], with_fold: bool) -> Iterator[str]:
    values = {line.metric: f"{line.value:.2f}" for line in row.lines}
    run = row.run
    about = [cell(word) for word in (run.method, run.backbone, run.pretrain, *[run.fold] * with_fold)]
    yield _line([str(row.run.number), *about, *(values.get(metric, "") for metric in metrics)])
    columns = len(about) + len(metrics)
    for line in below(row):
        if line.kind == "interval" and line.values:
            first = metrics[0]
            yield rf" & {_spanned(columns, f'{line.label} of {metric_name(first)}: {line.values.get(first)}')} \\"
        elif line.values:
            numbers = " & ".join(line.values.get(metric, "").replace("-", MINUS) for metric in metrics)
            yield rf" & {_spanned(len(about), line.label)} & {numbers} \\"
    if around := gain_interval(row):
        yield rf" & {_spanned(columns, f'95 % interval of the gain: {around}')} \\"


def _spanned(columns: int, label: str) -> str:
    return rf"\multicolumn{{{columns}}}{{l}}{{\quad {escaped(cell(label))}}}"


def _notes(section: Section) -> Iterator[str]:
    notes = rows_of.numbered(section.rows)
    if notes:
        yield r"\par\medskip\raggedright\footnotesize"
        for note, of in notes.items():
            yield rf"{escaped(one_line(note))} ({numbered('row', of)}).\par"


def _caption(section: Section) -> str:
    """Return what is measured, on which videos, and how; where rows differ, the protocol of each."""
    protocols: dict[str, list[int]] = {}
    for row in section.rows:
        words = _protocol(row.run.sources[0].protocol)
        protocols.setdefault(words, []).append(row.run.number)
    said = [f"{words} ({numbered('row', of)})" if len(protocols) > 1 else words for words, of in protocols.items()]
    return escaped(f"{title(section)}. Protocol: {'; '.join(said)}.")


def _protocol(protocol: Mapping[str, Any]) -> str:
    """Return all settings of a protocol as words."""
    clip = [
        f"{protocol[name]} {word}"
        for name, word in (("clips", "clips of"), ("frames", "frames,"), ("size", "pixels"))
        if protocol.get(name) is not None
    ]
    known = PICTURED + (("pools",) if "pool" in protocol else ())
    others = [f"{name} {value}" for name, value in protocol.items() if name not in known and value is not None]
    return ", ".join(filter(None, [str(protocol.get("name") or ""), " ".join(clip).rstrip(","), *others])) or NONE


def _line(cells: list[str]) -> str:
    return rf"{' & '.join(map(escaped, cells))} \\"


def escaped(word: str) -> str:
    """Return a word that LaTeX prints as it is."""
    return "".join(SPECIAL.get(letter, letter) for letter in one_line(word)).replace("--", "-{}-").replace("--", "-{}-")
