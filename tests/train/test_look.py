"""`vtrain look`: the curves of runs in the terminal and in files."""

import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from browser import browser, opened, violations
from refusals import ends

from vprep.errors import UsageError
from vprep.page.chart import Level, Series
from vtrain.look import look, terminal
from vtrain.look.curves import read_run, read_runs
from vtrain.look.summary import value_of
from vtrain.overrides import as_json
from vtrain.recipes import find

Command = Callable[..., tuple[int, str, str]]


def write_run(folder: Path, lines: list[dict[str, object]], method: str | None = None, tail: bytes = b"") -> Path:
    """Write the metrics of a run, and its recipe where a method is given."""
    folder.mkdir(parents=True)
    text = "".join(f"{json.dumps({'epoch': line['step'], **line})}\n" for line in lines)
    (folder / "metrics.jsonl").write_bytes(text.encode() + tail)
    if method:
        (folder / "recipe.json").write_text(json.dumps(as_json(find(method, "tiny"))))
    return folder


@pytest.fixture
def pace(tmp_path: Path) -> Path:
    lines = [{"step": step, "loss": 2 - step / 100, "pace_accuracy": step / 100} for step in range(10, 100, 10)]
    lines[4] |= {"loss": None, "held_out_pace_accuracy": 0.75}
    lines[8] |= {"held_out_pace_accuracy": 0.5}
    return write_run(tmp_path / "runs" / "pace-1", lines, "pace")


def drawn(series: list[Series], *, fine: bool, width: int = 60, levels: tuple[Level, ...] = ()) -> list[str]:
    text = terminal.chart(series, "loss", "step", levels=levels, width=width, height=5, fine=fine)
    return text.plain.splitlines()


def test_each_metric_has_its_last_and_its_best_value_and_the_level_of_chance(pace: Path) -> None:
    run = read_run(pace)
    found = [value_of(run, name) for name in ("loss", "pace_accuracy", "held_out_pace_accuracy")]
    assert [(value.last, value.best, value.best_step, value.chance) for value in found if value] == [
        (pytest.approx(1.1), pytest.approx(1.1), 90, None),
        (0.9, 0.9, 90, 0.25),
        (0.5, 0.75, 50, 0.25),
    ]


@pytest.mark.parametrize(
    ("method", "chances"),
    [
        ("rspnet", {"rsp_accuracy": 0.5}),
        ("prp", {"rate_accuracy": 0.25}),
        ("pace", {"pace_accuracy": 0.25}),
        ("ascnet", {"sp_accuracy": 0.5}),
        ("supervised", {}),
    ],
)
def test_methods_know_the_accuracy_of_a_guess(tmp_path: Path, method: str, chances: dict[str, float]) -> None:
    run = read_run(write_run(tmp_path / "run", [{"step": 1, "loss": 1.0}], method))
    assert {name: run.chances[name] for name in chances} == chances
    assert run.chance("held_out_loss") is None


def test_a_line_in_braille_rises_from_corner_to_corner() -> None:
    rows = drawn([Series(name="a", x=[0, 1], y=[0, 1])], fine=True, width=40)
    assert [row[:5] for row in rows[1:6]] == ["   1┤", "    │", " 0.5┤", "    │", "   0┤"]
    (first, *_), (*_, last) = rows[5][5:].rstrip(), rows[1][5:].rstrip()
    assert (ord(first) & 0x40, ord(last) & 0x08) == (0x40, 0x08)  # the dots in the lower left and the upper right
    assert max(map(len, rows)) <= 40


def test_several_lines_in_plain_ascii_have_letters_and_a_dotted_level() -> None:
    series = [Series(name="one", x=[0, 10], y=[0, 0]), Series(name="two", x=[0, 10], y=[1, 1])]
    rows = drawn(series, fine=False, levels=(Level(name="chance", value=0.5),))
    assert rows[0] == "loss  (dotted: chance 0.5)"
    assert [set(rows[number].partition("+")[2].rstrip()) for number in (1, 3, 5)] == [{"b"}, {".", " "}, {"a"}]
    assert "\n".join(rows).isascii()


def test_a_gap_is_left_open() -> None:
    values = [1.0 if number < 3 or number > 6 else None for number in range(10)]
    (row,) = [row for row in drawn([Series(name="a", x=range(10), y=values)], fine=False)[1:6] if "aa" in row]
    assert "a          " in row.rstrip()


@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_the_text_fits_the_terminal(pace: Path, width: int) -> None:
    runs, _ = read_runs([pace])
    lines = look.as_text(look.Look.of(runs, [], "step", 0.0), width, fine=True).plain.splitlines()
    table = next(number for number, line in enumerate(lines) if line.startswith("metric"))
    assert max(map(len, lines[:table])) <= max(width, 40)


def test_by_default_losses_and_held_out_accuracies_are_drawn(pace: Path) -> None:
    runs, _ = read_runs([pace])
    assert look.Look.of(runs, [], "step", 0.0).metrics == ["loss", "held_out_pace_accuracy"]


def test_runs_of_different_methods_are_compared_in_one_text(pace: Path, tmp_path: Path, command: Command) -> None:
    other = write_run(tmp_path / "runs" / "prp-1", [{"step": 5, "loss": 0.5, "rate_accuracy": 0.3}], "prp")
    code, out, err = command("look", pace, other)
    assert (code, err) == (0, "")
    assert out.startswith("a pace-1\nb prp-1\n")
    assert "rate accuracy  (dotted: chance 0.25)" in out


def test_runs_of_the_same_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / name / "run", [{"step": 1, "loss": 1.0}]) for name in "xy"]
    runs, _ = read_runs(folders)
    assert [run.name for run in runs] == list(map(str, folders))


def test_a_half_last_line_and_damaged_lines_are_said_and_left_out(tmp_path: Path, command: Command) -> None:
    lines: list[dict[str, object]] = [{"step": 1, "loss": 1.0}, {"step": 2, "loss": 0.5}]
    folder = write_run(tmp_path / "run", lines, tail=b'\x00\x00\n{"step": "3"}\n{"step": 4, "lo')
    code, out, err = command("look", folder, "--json")
    path = folder / "metrics.jsonl"
    notes = [
        f"2 damaged lines of {path} left out",
        f"the last line of {path} is not complete: it is being written, or its writer was killed",
    ]
    assert (code, err.splitlines()) == (0, notes)
    found = json.loads(out)
    assert found["notes"] == notes
    assert found["runs"][0]["metrics"]["loss"] == {"last": 0.5, "step": 2, "best": 0.5, "best_step": 2, "chance": None}


def test_a_part_that_was_trained_again_replaces_the_first_one(tmp_path: Path) -> None:
    lines: list[dict[str, object]] = [{"step": step, "loss": loss} for step, loss in ((1, 9), (2, 8), (3, 7), (2, 5))]
    assert list(read_run(write_run(tmp_path / "run", lines)).curves["loss"].values) == [9, 5]


def test_numbers_that_are_none_are_gaps(tmp_path: Path) -> None:
    lines: list[dict[str, object]] = [
        {"step": 1, "loss": 10**400, "note": "text", "flag": True},
        {"step": 2, "loss": 1},
    ]
    curves = read_run(write_run(tmp_path / "run", lines)).curves
    assert list(curves) == ["loss"]
    assert value_of(read_run(tmp_path / "run"), "loss") is not None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("look missing", "there is no run in missing; name the folder of a run, such as runs/NAME"),
        ("look empty", "empty is no run: it holds no metrics.jsonl; name the folder of a run, such as runs/NAME"),
        ("look begun", "begun has no metrics.jsonl yet; its training writes the first line after log_every steps"),
        ("look silent", "silent/metrics.jsonl holds no metrics yet; a line is added each log_every steps"),
        ("look run --metric los", "no run has the metric 'los'; close to it: 'loss'; there are loss"),
        ("look run --out a.pdf", "--out is 'a.pdf'; it must end in one of .svg, .png, .html"),
        ("look run --over time", "--over is 'time'; it must be step or epoch"),
        ("look run --smooth 1", "--smooth is 1; it must be at least 0 and less than 1, such as 0.9"),
        ("look run --out a.svg", "--out is 'a.svg', which is a folder; name a file"),
        ("look run --out taken/a.svg", "cannot write to taken: file exists; choose another --out"),
    ],
)
def test_what_cannot_be_shown_is_said_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command, words: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "run", [{"step": 1, "loss": 1.0}])
    write_run(tmp_path / "silent", [])
    for name in ("empty", "begun", "a.svg"):
        (tmp_path / name).mkdir()
    (tmp_path / "begun" / "recipe.json").touch()
    (tmp_path / "taken").touch()
    assert command(*words.split()) == (2, "", f"vtrain: {said}\n")


def test_a_run_without_metrics_beside_others_is_noted(pace: Path, tmp_path: Path, command: Command) -> None:
    silent = write_run(tmp_path / "silent", [])
    code, out, err = command("look", silent, pace)
    assert (code, err) == (0, f"{silent}/metrics.jsonl holds no metrics yet; a line is added each log_every steps\n")
    assert out.startswith("a pace-1\n")


def test_files_hold_all_charts(pace: Path, tmp_path: Path, command: Command) -> None:
    for ending in ("svg", "png", "html"):
        code, out, _ = command("look", pace, "--out", tmp_path / "new" / f"curves.{ending}", "--json")
        assert code == 0
        assert json.loads(out)["bytes"] == (tmp_path / "new" / f"curves.{ending}").stat().st_size
    root = ElementTree.parse(tmp_path / "new" / "curves.svg").getroot()  # noqa: S314  ours
    words = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"Loss", "Held-out pace accuracy", "chance"} <= set(words)
    assert (tmp_path / "new" / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_the_page_shows_the_settings_that_differ_and_no_markup_of_strangers(tmp_path: Path, command: Command) -> None:
    line: dict[str, object] = {"step": 1, "loss": 1.0, "<script>alert(1)</script>": 2}
    runs = [write_run(tmp_path / name, [line], method) for name, method in (("<b>", "pace"), ("other", "prp"))]
    assert command("look", *runs, "--out", tmp_path / "page.html")[0] == 0
    text = (tmp_path / "page.html").read_text()
    assert "<script>alert" not in text
    assert "<b>" not in text
    assert "method.sampling.paces" in text
    assert "method.sampling.looks.0.size" in text  # a setting for each line
    assert "[{" not in text.partition('id="settings"')[2]


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (390, "dark")])
def test_the_page_is_accessible_and_asks_for_nothing(pace: Path, width: int, scheme: str, command: Command) -> None:
    other = write_run(pace.with_name("prp 2"), [{"step": 10, "loss": 0.5}], "prp")
    assert command("look", pace, other, "--out", pace.with_name("a page.html"))[0] == 0
    with browser() as chromium, opened(chromium, pace.with_name("a page.html"), width=width, scheme=scheme) as seen:
        assert violations(seen.page) == []
        assert seen.page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
        assert seen.troubles == []


def test_curves_are_shown_without_torch(pace: Path) -> None:
    (end,) = ends("vtrain.cli", [["look", pace]], pace)
    assert (end.code, end.imported) == (0, [])


def test_metrics_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", [])
    (folder / "metrics.jsonl").unlink()
    (folder / "metrics.jsonl").mkdir()
    with pytest.raises(UsageError) as error:
        read_run(folder)
    assert (
        str(error.value)
        == f"{folder} is no run: it holds no metrics.jsonl; name the folder of a run, such as runs/NAME"
    )
