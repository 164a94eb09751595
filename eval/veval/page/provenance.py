"""Where each number of the page comes from: the file, the weights, the videos, the protocol and the versions."""

from collections.abc import Iterator, Mapping
from typing import Any

from veval.page.tables import network, task_and_data
from veval.results.report import Report
from veval.results.runs import Run, Source
from vprep.page import parts
from vprep.page.document import Section
from vprep.page.html import Element, el
from vprep.text import one_line


def section(found: Report) -> Section:
    """Return the sources of all numbers as a part of the page."""
    return Section(
        identifier="provenance",
        title="Protocol, recipe and provenance",
        lead="Everything that the numbers above depend on, as their files say it.",
        body=[_source(run, source) for run in found.runs for source in run.sources],
    )


def _source(run: Run, source: Source) -> Element:
    title = task_and_data(run.task, run.data, run.fold)
    entries = [(name, one_line(value)) for name, value in _entries(run, source) if value]
    return parts.folded([el("b", title), ": ", network(run)], parts.facts(entries))


def _entries(run: Run, source: Source) -> Iterator[tuple[str, str]]:
    yield "file", _word(source.file)
    yield "made", _word(source.made)
    yield "weights", f"{_word(source.weights)}, hash of its {source.hash_of or 'file'} {_word(source.weights_hash)}"
    yield "recipe", _word(source.recipe)
    yield "training", _words({"step": source.step, "epochs": source.epochs, "seed": source.seed})
    yield "fine-tuning", _words({"seed": source.tuning_seed})
    yield "pre-training data", "" if run.is_scratch else run.pretrain
    yield "videos", f"{_word(source.shards)}, hash {_word(source.data_hash)}"
    yield "selection", _words({"split": source.split, "fold": source.fold, "subset": source.subset})
    yield "protocol", _words(source.protocol)
    yield "precision", _word(source.precision)
    yield "versions", _words(source.versions)


def _word(value: object) -> str:
    return "" if value is None else str(value)


def _words(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items() if value is not None)
