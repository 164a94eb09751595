"""A result, or a published.csv, that is not what it says: one sentence or a table, never a traceback or a terminal's
control characters."""

import json
from importlib import resources
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from fuzzed.results import KINDS, shown
from mutate import mutate_bytes
from results_on import bases, ucf101
from rich.console import Console

from veval.results import published
from veval.results.report import of_results, report
from veval.results.result import LARGEST, read
from veval.results.tables.markdown import markdown
from veval.results.tables.terminal import terminal
from vprep.errors import UsageError, WorkError

Result = dict[str, Any]

NASTY = "\x1b[2J\x1b]0;owned\x07[link=http://x]a[/link]|<script>\r\n‮![](http://x)"


def test_a_cut_result_is_one_sentence(tmp_path: Path) -> None:
    content = json.dumps(bases()[0], indent=1).encode()
    path = tmp_path / "r.json"
    for end in range(0, len(content) - 1, len(content) // 60):
        path.write_bytes(content[:end])
        with pytest.raises(UsageError, match=r"r\.json is not JSON .*; name results of veval"):
            read(path)


def test_a_result_is_shown_without_control_characters(tmp_path: Path) -> None:
    files = [KINDS[0].make(tmp_path), tmp_path / "good.json"]
    assert shown(report(files)).startswith("Retrieval on UCF101")


def unreadable(content: bytes) -> str:
    """The sentence about a table that is refused; empty for one that is read completely."""
    try:
        found = published.read(content)
    except WorkError as error:
        return str(error)
    assert len(found) == published.ROWS
    return ""


def test_a_changed_table_of_published_numbers_is_refused_or_complete() -> None:
    content = resources.files("veval.results").joinpath("published.csv").read_bytes()
    outcomes = [unreadable(mutate_bytes(content, seed)) for seed in range(60)]
    for said in filter(None, outcomes):
        assert said.startswith("published.csv of veval is damaged (")
        assert said.endswith("install playspeed again")
    assert sum(map(bool, outcomes)) > 10


@pytest.mark.parametrize(
    ("place", "value", "what"),
    [
        ("data", {"fold": {"a": 1}}, "its data.fold is an object; it must be a whole number"),
        ("data", {"fold": True}, "its data.fold is True; it must be a whole number"),
        ("data", {"fold": -1}, "its data.fold is -1; it must be a whole number"),
        ("data", {"name": ["UCF101"]}, "its data.name is a list; it must be a word"),
        ("data", {"name": "\ud800"}, "its data.name is '\\ud800'; it must be a word"),
        (
            "data",
            {"videos": {"test": "many"}},
            "its data.videos is an object; it must be a whole number for each split",
        ),
        ("weights", {"epochs": True}, "its weights.epochs is True; it must be a number"),
        ("weights", {"recipe": "x" * 10**6}, f"its weights.recipe is '{'x' * 56}...; it must be a word or a number"),
        ("protocol", {"size": "112"}, "its protocol.size is '112'; it must be a whole number"),
        (
            "protocol",
            {"\x1b[2J": 10**30},
            "its protocol.\\x1b[2J is 1000000000000000000000000000000; it must be a word",
        ),
        ("", {"schema": True}, "its schema is True, and this veval reads 1"),
        (
            "",
            {"kind": "\x1b[2J" * 99},
            "its kind is '\\x1b[2J\\x1b[2J",
        ),
        ("", {"bootstrap": "films"}, "its bootstrap is 'films'; there are videos, groups"),
        ("", {"pools": {"gap": {"top1": 101}}}, "its pool 'gap' does not hold percentages"),
        ("", {"top1": 10**400}, "which is not a percentage"),
        ("", {"dropped": [3]}, "its dropped is not a list of videos"),
    ],
)
def test_a_wrong_entry_is_named(place: str, value: Result, what: str, tmp_path: Path) -> None:
    base = ucf101()
    (base[place] if place else base).update(value)
    (tmp_path / "r.json").write_text(json.dumps(base))
    with pytest.raises(UsageError) as error:
        read(tmp_path / "r.json")
    assert what in str(error.value)
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('{"top1": 1e999}', "is not JSON (1e999 is not a number)"),
        ('{"top1": 1, "top1": 2}', "is not JSON (the name 'top1' is twice in one object)"),
        ('{"a":' * 100_000, "is not JSON (its brackets are nested too deeply"),
        ('{"a": ' + "9" * 5000 + "}", "is not JSON (Exceeds the limit"),
        ("[" + "0," * (LARGEST // 2) + "0]", f"has {LARGEST >> 20} MiB, and a result at most {LARGEST >> 20}"),
    ],
)
def test_json_that_programs_read_in_different_ways_or_cannot_hold_is_refused(
    text: str, what: str, tmp_path: Path
) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(UsageError) as error:
        read(tmp_path / "r.json")
    assert str(error.value).startswith(f"{tmp_path / 'r.json'} {what}")


def test_a_result_without_an_end_is_not_waited_for() -> None:
    with pytest.raises(UsageError, match="/dev/zero is no file; name results of veval"):
        read(Path("/dev/zero"))


def test_names_with_markup_and_control_characters_are_shown_and_not_acted_on() -> None:
    one = ucf101(name=NASTY, videos={})
    one["weights"] |= {"method": NASTY, "recipe": NASTY, "backbone": NASTY * 30}
    one["protocol"] |= {"name": NASTY}
    found = of_results([one])
    page = markdown(found)
    assert (page.count("\n| 1 |"), page.isascii() or "‮" not in page) == (1, True)
    assert "<script>" not in page
    assert "](http" not in page
    console = Console(width=400, record=True, file=StringIO(), force_terminal=True)
    console.print(terminal(found, 400))
    seen = console.export_text(styles=True)
    assert "\x1b[2J" not in seen
    assert "\x1b]" not in seen
    assert "[link=http://x]a[/link]" in console.export_text(clear=False) or "[link" in seen
    assert max(map(len, page.splitlines())) < 12 * 450
