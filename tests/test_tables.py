"""The page of the papers' tables: it has every row, and its commands measure what the row has."""

import json
import shlex
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest
from command_words import parsed

from figures import figures
from rows import SETS
from tables import CAPTIONS, Line, lines, page
from veval.evaluation import WeightsInfo
from veval.inputs import crop_of, info_of_recipe, represented
from veval.protocol import Protocol, Task, for_weights
from veval.results.data_sets import DATA_SETS
from veval.results.match_published import compare
from veval.results.published import Published, load, plain
from veval.tasks.classifier import sampled_like
from veval.tasks.finetune import recipe_for
from vtrain.overrides import as_json, change
from vtrain.recipes import find
from vtrain.recipes.recipe import Recipe

MEASURED = [line for line in lines() if line.commands]
NAMES = {word: name for name, word in SETS.items()}


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What a line's commands do, as the commands themselves find it out."""

    dataset: str
    learned: Recipe | None  # None: random, or imported
    weights: WeightsInfo
    tuned: Recipe | None  # None: not fine-tuned
    protocol: Protocol
    folds: str | None

    @property
    def task(self) -> Task:
        return "features" if self.tuned is None else "testing"

    @property
    def settings(self) -> str:
        """All settings, for comparison; the names that stand for them are left out."""
        recipes = [recipe and {**as_json(recipe), "name": "", "weights": ""} for recipe in (self.learned, self.tuned)]
        protocol = replace(self.protocol, name="").as_dict(self.task)
        network = (self.weights.method, self.weights.like, self.weights.backbone)
        return json.dumps([self.dataset, network, recipes, protocol, self.folds])

    def result(self, pretrain: str) -> dict[str, Any]:
        """A result of this measurement, without numbers, as `veval` writes it."""
        kind, split = ("retrieval", "test,train") if self.task == "features" else ("finetune", "test")
        lists = DATA_SETS[plain(self.dataset)]
        return {
            "kind": kind,
            "weights": self.weights.as_dict() | {"data": {"name": pretrain}},
            "data": {"name": self.dataset, "split": split, "fold": 1, "subset": None}
            | {"videos": {"test": lists.test[0], "train": lists.train[0]}},
            "protocol": self.protocol.as_dict(self.task),
        }


@cache
def trained(command: str) -> Recipe:
    """The recipe of a vtrain command, with its settings."""
    words = shlex.split(command)
    given = parsed(words)
    options = {"data.shards": given["shards"], "data.subset": given["subset"]}
    changes = [f"{name}={value}" for name, value in options.items() if value is not None]
    recipe = change(find(words[1], given["recipe"], given["backbone"]), changes + (given["settings"] or []))
    assert recipe.name == given["recipe"]
    return recipe


def weights(word: str, learned: dict[str, Recipe], imported: dict[str, str]) -> WeightsInfo:
    """The description of the weights that a veval command names, and an earlier command of the line makes."""
    if word.startswith("random:"):
        like = represented(word.removeprefix("random:"))
        return replace(like, path="random", method="random", recipe=None, epochs=None, like=like.method)
    if word in imported:
        like = represented(f"finetune-{imported[word]}-{word.split('-')[1].partition('.')[0]}-ucf101")
        return replace(like, path=word, recipe=None, epochs=None)
    return replace(info_of_recipe(learned[word]), path=word, step=1)


@cache
def measurements(line: Line) -> list[Measurement]:
    """What each veval command of a line measures, on weights that the line's other commands make."""
    learned, imported, found = dict[str, Recipe](), dict[str, str](), list[Measurement]()
    for command in line.commands:
        words = shlex.split(command)
        given = parsed(words)
        if words[:2] == ["vtrain", "import"]:
            imported[str(given["out"])] = given["origin"]
        elif words[0] == "vtrain":
            learned[str(given["out"])] = trained(command)
        else:
            info = weights(given["weights"], learned, imported)
            found.append(measurement(words[1], given, info, learned.get(given["weights"])))
    return found


def measurement(name: str, given: dict[str, Any], info: WeightsInfo, learned: Recipe | None) -> Measurement:
    dataset = NAMES[given["shards"].rstrip("/").split("-")[0]]
    tuned = None
    if name == "retrieval":
        protocol = for_weights("features", info, given["protocol"], given["settings"] or [])
    else:
        tuned, note = recipe_for(info, dataset, given["recipe_name"])
        assert note == ""
        said = as_json(tuned)
        tested = replace(info, recipe=tuned.name, clip=list(tuned.clip), crop=crop_of(said))
        protocol = for_weights("testing", tested, given["protocol"], [], sampled_like(said))
    return Measurement(
        dataset=dataset, learned=learned, weights=info, tuned=tuned, protocol=protocol, folds=given.get("folds") or None
    )  # fmt: skip


def test_every_published_value_stands_in_one_line_with_commands_or_with_the_reason_why_there_are_none() -> None:
    shown = Counter(row for line in lines() for row in line.rows)
    assert shown == Counter(load())
    without = [line for line in lines() if not line.commands]
    assert {line.about.partition(":")[0] for line in without} == {"not reproducible", "quoted"}
    assert [line.first.place for line in without if line.first.own] == []


def test_a_quoted_row_leads_to_a_table_with_commands_for_it() -> None:
    for line in lines():
        if line.about.startswith("quoted: see "):
            place = line.about.removeprefix("quoted: see ")
            there = [other for other in MEASURED if other.first.place == place]
            assert line.first.value in [row.value for other in there for row in other.rows], line.first


def test_the_page_has_every_table_and_figure_of_the_papers() -> None:
    assert {(row.paper, row.table) for row in load()} == {(p, t) for p, tables in CAPTIONS.items() for t in tables}
    numbers = {paper: [figure.number for figure in found] for paper, found in figures().items()}
    # Counted in the papers.
    assert numbers == {
        paper: [*range(1, n + 1)] for paper, n in {"RSPNet": 5, "ASCNet": 3, "PRP": 7, "Pace": 5}.items()
    }
    text = page()
    for paper, tables in CAPTIONS.items():
        assert all(f"### {paper}, {caption}\n" in text for caption in tables.values())
        assert all(f"- Figure {figure.number}, {figure.shows}. {figure.about}" in text for figure in figures()[paper])


def test_every_command_parses_and_leads_to_a_recipe_and_a_protocol() -> None:
    counted = sum(len(measurements(line)) for line in MEASURED)
    assert counted == sum(command.startswith("veval") for line in MEASURED for command in line.commands)
    for figure in (figure for found in figures().values() for figure in found):
        assert all(parsed(shlex.split(command)) for command in figure.commands)
    sets = [line.strip() for line in page().splitlines() if line.startswith("    vprep ")]
    assert all(parsed(shlex.split(command)) for command in sets)
    made = {word.rstrip("/") for command in sets for word in [shlex.split(command)[-1]]}
    read = {
        name.rstrip("/") for line in MEASURED for command in line.commands for name in read_by(shlex.split(command))
    }
    assert read <= made


def read_by(words: list[str]) -> list[str]:
    """The sets and lists that a command reads."""
    return [words[at + 1] for at, word in enumerate(words) if word in ("--shards", "--subset")]


@pytest.mark.parametrize("paper", CAPTIONS)
def test_rows_of_a_table_differ_in_what_their_commands_do(paper: str) -> None:
    tables: dict[str, list[tuple[str, tuple[str, ...]]]] = defaultdict(list)
    for line in MEASURED:
        if line.first.paper == paper:
            does = tuple(one.settings for one in measurements(line)) or (line.commands[0],)
            tables[line.first.table] += [(setting, line.cells) for setting in does]
    for found in tables.values():
        cells = dict(found)
        assert len(cells) == len(found), [line for setting, line in found if cells[setting] != line]


def test_the_commands_of_an_own_row_make_a_result_that_the_report_sets_beside_it() -> None:
    missed = []
    for line in MEASURED:
        for row in line.rows:
            if row.own and row.pretrain and row.task != "pretext":
                beside = [found for one in measurements(line) for found in agreeing(one, row)]
                missed += [] if row in beside else [row]
    assert missed == []


def agreeing(one: Measurement, row: Published) -> list[Published]:
    return compare([one.result(row.pretrain)], row.metric, one.folds).rows


def test_a_row_becomes_its_commands() -> None:
    (line,) = [
        line for line in lines() if (line.first.paper, line.first.table, line.first.value) == ("ASCNet", "3", 87.31)
    ]
    train, test = line.commands
    assert train.startswith("vtrain ascnet --recipe ascnet-s3dg-k400 --shards k400")
    assert test.endswith("--recipe finetune-ascnet-s3dg-ucf101-32x128 --protocol ascnet-ten test.crop_size=224")
    (one,) = measurements(line)
    assert (one.protocol.clip, one.protocol.crop, one.protocol.clips) == ((32, 128, 128), "ten", 10)


def test_paces_p5_is_measured_in_both_readings() -> None:
    (line,) = [line for line in lines() if (line.first.place, line.first.value) == ("Pace table 4", 20.0)]
    assert [one.protocol.pools for one in measurements(line)] == [("pool5",), ("gap",)]
