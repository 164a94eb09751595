"""A report in each form: one row for each run, that fits, says what it left out, and shows any name as text."""

import csv
import io
import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from results_of_prp import films_of, made, scratch
from rich.cells import cell_len
from rich.console import Console

from veval.results import result
from veval.results.report import Report, of_results, report
from veval.results.rows import rows, sections
from veval.results.tables.columns import shares, wrapped
from veval.results.tables.csv_lines import csv_lines
from veval.results.tables.latex import SPECIAL, escaped, latex
from veval.results.tables.markdown import markdown
from veval.results.tables.terminal import terminal

Result = dict[str, Any]

KS = (1, 5, 10, 20, 50)
WIDTHS = (60, 80, 100, 160, 240)
HOSTILE = '=1+1 \\input{x}|<b>\x1b[2J%$&#_^~`" [link=http://x]a[/link] 漢字 ![](http://x)'


def tops(*values: float) -> Result:
    found = {f"top{k}": value for k, value in zip(KS, values, strict=False)}
    return found | {"intervals": {metric: [value - 1.5, value + 1.25] for metric, value in found.items()}}


def all_sorts() -> list[Result]:
    """Several seeds, folds and tasks, one network from scratch, and a method from outside."""
    seeds = [
        made(
            seed=seed, hash=f"{seed}aaaaaaaaa", videos=films_of("1" * (24 + seed) + "0" * (76 - seed)), **tops(*values)
        )
        for seed, values in enumerate(((24, 39, 46, 57, 68), (25, 40, 47, 58, 69), (26, 41, 48, 59, 70)))
    ]
    outside = {"method": "my_package.my_method", "recipe": "my-own", "backbone": "my_package.networks:build"}
    return [
        *seeds,
        scratch(videos=films_of("1" * 15 + "0" * 85), **tops(15, 30, 37, 47, 60)),
        made(**outside, **tops(36.9, 51, 60, 70, 81)),
        *(made("finetune", on_fold=fold, top1=60.0 + fold) for fold in (1, 2, 3)),
        made("linear", on_name="漢字漢字漢字漢字漢字漢字漢字", top1=33.0, dropped=["a"]),
    ]


def lines_of(found: Report, width: int, **console: Any) -> list[str]:  # noqa: ANN401
    out = StringIO()
    Console(file=out, width=width, highlight=False, markup=False, **console).print(terminal(found, width))
    return out.getvalue().splitlines()


def line_with(lines: Sequence[str], words: str) -> str:
    return next(line for line in lines if words in line)


@pytest.mark.parametrize("width", WIDTHS)
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    many = made(**{f"top{k}": 50.0 for k in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 20, 50, 100, 200, 500, 1000)})
    named = made(method=HOSTILE * 9, recipe=HOSTILE * 9, backbone="x" * 300, on_name=HOSTILE * 9)
    for found in (of_results([*all_sorts(), many, named]), of_results(all_sorts(), "averaged")):
        lines = lines_of(found, width)
        assert max(map(cell_len, lines)) <= width
        assert not any(line != line.rstrip() for line in lines)


def test_a_run_is_one_row_with_its_metrics_side_by_side_and_what_it_is_compared_with_below() -> None:
    lines = lines_of(of_results(all_sorts()), 80)
    assert lines[0] == "Retrieval on UCF101, fold 1: % of queries with their class among the k nearest"
    assert lines[1].split() == ["method", "backbone", "pre-trained", "top-1", "top-5", "top-10", "top-20", "top-50"]
    first = next(number for number, line in enumerate(lines) if line.startswith(" 1  "))
    block = lines[first : first + 7]
    assert block[0].split() == ["1", "PRP", "C3D", "UCF101", "25.00", "40.00", "47.00", "58.00", "69.00"]
    assert block[1].startswith("    vcop 10x16x112 pool5 video; recipe prp-c3d-ucf101; notes 1, 2")
    assert block[2].split()[-6:] == ["deviation", "1.00", "1.00", "1.00", "1.00", "1.00"]
    assert block[2].startswith("    3 seeds: standard deviation")
    assert block[3].split()[:4] == ["published:", "PRP", "table", "4"]
    assert block[3].split()[4:] == ["23.2", "38.1", "46.0", "55.7", "68.4"]
    assert block[4].split() == ["difference", "+1.80", "+1.90", "+1.00", "+2.30", "+0.60"]
    assert block[5].split() == ["from", "scratch:", "row", "2", "15.00"]
    assert re.fullmatch(r"    gain from pre-training +\+10\.00  \[\+\d.*, \+\d.*\] better", block[6])


def test_the_points_of_numbers_stand_below_each_other() -> None:
    lines = lines_of(of_results([made(**tops(23.9, 39, 46.5, 57, 68.25))]), 80)
    value, published = line_with(lines, " 1  PRP"), line_with(lines, "published: PRP")
    assert value.index("23.90") == published.index("23.2")
    assert value.index("46.50") == published.index("46.0")


def test_a_narrow_terminal_says_what_it_left_out_and_a_wide_one_shows_it() -> None:
    found = of_results(all_sorts())
    narrow, wide = (" ".join(lines_of(found, width)) for width in (80, 240))
    assert "Left out in 80 columns: hashes of weights, intervals of further metrics; the ends of method" in narrow
    assert "method in row 3" in narrow
    assert "A wider terminal, --csv and --json have them." in narrow
    assert "Left out" not in wide
    for words in ("my_package.my_method  my_package.networks:build", "0aaaaaaa, 1aaaaaaa", "[49.50, 52.25]"):
        assert (words in narrow, words in wide) == (False, True)
    many = of_results([made(**{f"top{k}": 50.0 for k in range(1, 30)})])
    assert "top-28, top-29" in " ".join(lines_of(many, 80))


def test_the_notes_stand_below_once_with_the_numbers_of_their_rows() -> None:
    text = "\n".join(lines_of(of_results(all_sorts()), 160))
    assert text.count("the interval is over groups") == 1
    assert "2. the interval is over groups: clips of one film are drawn together (row 1)" in text
    assert re.search(r"^\d+\. 1 videos could not be read and are left out \(row 7\)$", text, re.MULTILINE)
    assert "note 4" in line_with(text.splitlines(), "vcop 10x16x112 pool5 video; recipe my-own")


def test_folds_of_a_task_are_rows_of_one_table() -> None:
    found = of_results(all_sorts())
    assert [(one.task, one.fold, len(one.rows)) for one in sections(found)] == [
        ("retrieval", "1", 3),
        ("finetune", None, 3),
        ("linear", "1", 1),
    ]
    lines = lines_of(found, 80)
    assert "Fine-tuning on UCF101: % of videos whose class is right" in lines
    assert [line.split("; ")[1] for line in lines if line.startswith("    pace 10x16")] == [
        "fold 1", "fold 2", "fold 3", "recipe prp-c3d-ucf101",
    ]  # fmt: skip


def test_a_gain_is_told_by_words_and_signs_and_only_also_by_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    better = [made(top1=50.0, videos=films_of("1" * 50 + "0" * 50)), scratch(top1=0.0, videos=films_of("0" * 100))]
    worse = [made(top1=0.0, videos=films_of("0" * 100)), scratch(top1=50.0, videos=films_of("1" * 50 + "0" * 50))]
    for pair, word, sign, colour in ((better, "better", "+50.00", "\x1b[32m"), (worse, "worse", "-50.00", "\x1b[31m")):
        found = of_results(pair)
        plain = line_with(lines_of(found, 80), "gain from")
        assert plain.endswith(word)
        assert sign in plain
        terminal_codes = {"force_terminal": True, "color_system": "standard"}
        assert colour in line_with(lines_of(found, 80, **terminal_codes), "gain from")
        monkeypatch.setenv("NO_COLOR", "1")
        assert colour not in line_with(lines_of(found, 80, **terminal_codes), "gain from")
        monkeypatch.delenv("NO_COLOR")


def test_published_values_of_several_tables_are_grouped_and_the_nearest_is_in_brackets() -> None:
    (row,) = rows(of_results([scratch(**tops(15, 30, 37, 47, 60))]))
    (printed,) = row.published
    assert (str(printed), printed.values["top5"]) == ("PRP table 4, Pace table 4", 27.5)
    (other,) = rows(of_results([made(on_fold=2)]))
    assert other.nearest is not None
    assert (other.published, other.nearest.values) == ([], {"top1": 23.2})
    lines = lines_of(of_results([made(on_fold=2)]), 80)
    assert line_with(lines, "nearest published: PRP table 4").endswith("(23.2)")
    assert "1. folds: 1 there, 2 here (row 1)" in lines


@pytest.mark.parametrize("width", [12, 40, 80])
def test_wrapped_text_has_all_its_words_and_no_line_too_wide(width: int) -> None:
    text = "a note of several words and_one_word_that_is_longer_than_a_line 漢字漢字漢字漢字漢字漢字漢字漢字"
    lines = wrapped(text, width, 2, 4)
    assert max(map(cell_len, lines)) <= width
    assert "".join("".join(lines).split()) == "".join(text.split())
    assert [len(line) - len(line.lstrip()) for line in lines] == [2] + [4] * (len(lines) - 1)


def test_the_widest_columns_are_made_narrower() -> None:
    assert shares([5, 30, 20], [5, 7, 7], 40) == [5, 17, 18]
    assert shares([5, 30, 20], [5, 7, 7], 1) == [5, 7, 7]
    assert shares([5, 6], [5, 6], 90) == [5, 6]


def test_markdown_has_the_same_rows() -> None:
    page = markdown(of_results(all_sorts())).splitlines()
    assert page[0] == "**Retrieval on UCF101, fold 1: % of queries with their class among the k nearest**"
    assert page[2].startswith("|  | method | backbone | pre-trained on | protocol | fold | recipe | weights | top-1 |")
    assert page[4] == (
        "| 1 | PRP | C3D | UCF101 | vcop 10x16x112 pool5 video | 1 | prp-c3d-ucf101 | 0aaaaaaa, 1aaaaaaa, 2aaaaaaa "
        "| 25.00 | 40.00 | 47.00 | 58.00 | 69.00 |"
    )
    assert page[6] == "|  | published: PRP table 4 |  |  |  |  |  |  | 23.2 | 38.1 | 46.0 | 55.7 | 68.4 |"
    assert re.search(r"gain from pre-training \|.*\| \+10\.00 \[\+\d.*\] better \|", "\n".join(page))
    assert "- row 1: the interval is over groups: clips of one film are drawn together" in page
    cells = [line.count("|") for line in page if line.startswith("|")]
    assert (cells[0], cells[-1], set(cells)) == (14, 10, {14, 10})


def test_names_are_text_in_markdown() -> None:
    page = markdown(of_results([made(method=HOSTILE, on_name=HOSTILE)]))
    assert "<b>" not in page
    assert "](http" not in page
    assert "\x1b" not in page
    assert page.count("\n| 1 |") == 1


def compiled(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    source = f"\\documentclass{{article}}\\usepackage[T1]{{fontenc}}\\usepackage{{booktabs}}\\begin{{document}}\n{text}"
    (folder / "report.tex").write_text(f"{source}\n\\end{{document}}\n")
    words = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "report.tex"]
    return subprocess.run(words, cwd=folder, capture_output=True, text=True)


def test_latex_is_a_table_with_the_rules_of_booktabs_and_the_protocol_in_its_caption() -> None:
    text = latex(of_results(all_sorts()))
    lines = text.splitlines()
    begins, ends = (re.findall(rf"\\{word}{{(\w+)}}", text) for word in ("begin", "end"))
    assert sorted(begins) == sorted(ends) == ["table"] * 3 + ["tabular"] * 3
    assert [lines.count(f"\\{rule}") for rule in ("toprule", "bottomrule", "midrule")] == [3, 3, 7]
    caption = line_with(lines, "\\caption")
    assert "Retrieval on UCF101, fold 1: \\% of queries" in caption
    assert "Protocol: vcop, 10 clips of 16 frames, 112 pixels, pool pool5, level video." in caption
    assert "1 & PRP & C3D & UCF101 & 25.00 & 40.00 & 47.00 & 58.00 & 69.00 \\\\" in lines
    assert " & \\multicolumn{3}{l}{\\quad published: PRP table 4} & 23.2 & 38.1 & 46.0 & 55.7 & 68.4 \\\\" in lines
    assert "Fold" in line_with(lines[lines.index("\\begin{tabular}{rllllr}") :], "Method")
    # Every row has as many cells as its table has columns.
    columns = 0
    for line in lines:
        if found := re.match(r"\\begin{tabular}{(\w+)}", line):
            columns = len(found[1])
        elif line.endswith("\\\\"):
            spanned = sum(int(number) - 1 for number in re.findall(r"\\multicolumn{(\d)}", line))
            assert len(re.findall(r"(?<!\\)&", line)) + 1 + spanned == columns, line


def test_a_minus_is_a_minus_and_dashes_stay_dashes_in_latex() -> None:
    assert "\\quad difference} & \\(-\\)3.20" in latex(of_results([made(top1=20.0)]))
    assert escaped("--json ---") == "-{}-json -{}-{}-"


def test_latex_prints_every_character_and_obeys_none() -> None:
    plain = escaped("".join(SPECIAL) + "a-b")
    bare = re.sub(r"\\(text\w+{}|[&%$#_{}]|\(\\pm\\\))", "", plain)
    assert bare == "a-b"
    text = latex(of_results([made(method=HOSTILE, backbone=HOSTILE, recipe="x", on_name=HOSTILE, dropped=["a"])]))
    assert "\\input" not in text
    assert "\x1b" not in text
    commented = [line for line in text.splitlines() if re.search(r"(?<!\\)%", line)]
    assert commented == [line for line in text.splitlines() if line.startswith("% ")]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_compiles(tmp_path: Path) -> None:
    ascii_only = HOSTILE.replace("漢字", "")
    named = made(method=ascii_only, backbone=ascii_only, on_name=ascii_only)
    done = compiled(latex(of_results([*all_sorts()[:-1], named])), tmp_path)
    assert done.returncode == 0, done.stdout


def cells(found: Report) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(csv_lines(found)), strict=True))


def test_csv_has_a_line_for_each_run_and_metric_with_all_that_a_number_depends_on(tmp_path: Path) -> None:
    for number, one in enumerate(all_sorts()):
        result.write(tmp_path / f"{number}.json", one | {"made": "2026-01-02", "versions": {"torch": "2.13"}})
    found = cells(report(sorted(tmp_path.glob("*.json"))))
    assert [(line["run"], line["metric"]) for line in found[:6]] == [
        *(("1", f"top{k}") for k in KS),
        ("2", "top1"),
    ]
    first = found[0]
    assert (first["value"], first["over"], first["deviation"]) == ("25.0", "3 seeds", "1.0")
    assert (first["published"], first["published_in"], first["difference"]) == ("23.2", "23.2 (PRP table 4)", "1.8")
    assert (first["scratch"], first["gain"], first["scratch_run"], first["gain_shown"]) == (
        "15.0",
        "10.0",
        "2",
        "better",
    )
    assert first["file"] == "; ".join(str(tmp_path / f"{number}.json") for number in range(3))
    assert (first["weights_hash"], first["seed"]) == ("0aaaaaaaaa; 1aaaaaaaaa; 2aaaaaaaaa", "0; 1; 2")
    assert json.loads(first["settings"])["pools"] == "pool5"
    assert (json.loads(first["versions"]), first["made"]) == ({"torch": "2.13"}, "2026-01-02")
    assert (found[1]["gain"], found[5]["pretrain"], found[5]["low"]) == ("", "", "13.5")


COLUMNS = (
    "run,task,data,fold,method,backbone,pretrain,recipe,protocol,metric,value,over,deviation,low,high,bootstrap,"
    "published,published_in,difference,nearest,nearest_in,scratch,scratch_run,gain,gain_low,gain_high,gain_shown,"
    "file,weights,weights_hash,hash_of,step,epochs,seed,tuning_seed,shards,data_hash,split,subset,precision,made,"
    "settings,versions,notes"
)


def test_the_columns_of_csv_keep_their_names_and_their_order() -> None:
    assert csv_lines(of_results([made()])).splitlines()[0] == COLUMNS


@pytest.mark.parametrize("begin", ["=", "+", "-", "@", " =", "\t=", "\n@"])
def test_a_spreadsheet_computes_no_name(begin: str) -> None:
    name = f"{begin}cmd|' /C calc'!A0"
    (line,) = cells(of_results([made(method=name, on_name=name, recipe=name, on_fold=2)]))
    for column in ("method", "data", "recipe"):
        assert not line[column].lstrip().startswith(("=", "+", "-", "@"))
        assert "cmd|' /C calc'!A0" in line[column]
    assert line["difference"] == ""
    (line,) = cells(of_results([made()]))
    assert line["difference"] == "-3.2"  # a number of ours


def test_a_name_with_controls_and_line_ends_is_one_line_of_text_in_every_form() -> None:
    found = of_results([made(method="a\nb\x1b]0;x\x07", on_name="c\rd\u2028", top1=20.0)])
    for text in (csv_lines(found), markdown(found), latex(found), "\n".join(lines_of(found, 100))):
        assert "a\\nb\\x1b]0;x\\x07" in text or "a\\textbackslash{}nb" in text or "a\\\\nb" in text
        assert not {"\x1b", "\x07", "\r", "\u2028"} & set(text)
    assert len(csv_lines(found).splitlines()) == 2
