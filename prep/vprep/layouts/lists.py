"""Find and read the lists of a data set: text, csv and json."""

import csv
import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from vprep.errors import UsageError, reason
from vprep.layouts.source import Source
from vprep.layouts.walk import LIST_SUFFIXES

SPLIT_WORDS = {"train": "train", "val": "val", "validate": "val", "validation": "val", "test": "test"}
_HEADER_BYTES = 4096  # enough of a csv to see its header
_LONGEST_LINE = 1 << 20  # bytes; a file without lines, such as a device, is not read into memory
_LARGEST_JSON = 1 << 30  # bytes; a json may be a single line
_SEPARATORS = {";": "';'", "\t": "tabs"}  # of tables that are no csv


def find(source: Source, wanted: re.Pattern[str], beside: Sequence[str] = ()) -> list[Path]:
    """Return the lists whose names fit `wanted`, from the first folder that has one, so that two copies never mix.

    `beside` names folders next to the source's folder, which are searched last.
    """
    for paths in (*candidates(source), *_beside(source, beside)):
        if found := [path for path in paths if wanted.fullmatch(path.name) and path.is_file()]:
            return found
    return []


def candidates(source: Source) -> list[list[Path]]:
    """Return the files that may be lists, by folder: those in `splits` if given, else in the root and its folders."""
    if source.splits is None:
        return [list(paths) for _, paths in itertools.groupby(source.files.lists, lambda path: path.parent)]
    if source.splits.is_file():
        return [[source.splits]]
    try:
        inner = (path for path in sorted(source.splits.iterdir()) if path.is_dir())
        return [_lists_in(folder) for folder in (source.splits, *inner)]
    except OSError as error:
        raise _unreadable(source.splits, error) from None


def is_beside(source: Source, path: Path) -> bool:
    """Return whether a list was found next to the root, where it may belong to another data set."""
    return source.splits is None and not path.is_relative_to(source.root)


def none_found(source: Source, layout: str, wanted: str) -> UsageError:
    """Return the error for a layout that needs lists when there are none."""
    if source.splits is not None:
        return UsageError(f"no {wanted} in '{source.splits}', and layout {layout} needs them")
    where = f"'{source.root}' or in the folders in it"
    return UsageError(f"no {wanted} in {where}, and layout {layout} needs them; name their folder with --splits")


def bad_line(path: Path, number: int, what: str) -> UsageError:
    """Return the error for one line of a list."""
    return UsageError(f"{path}, line {number}: {what}")


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a text file that are not blank, with their numbers from 1."""
    for number, line in enumerate(_text(path), 1):
        if line.strip():
            yield number, line.strip()


def table(path: Path, needed: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the rows of a csv below its header, with their line numbers; blank rows are skipped."""
    rows = csv.reader(_text(path), strict=True)
    header: list[str] | None = None
    begun = 1  # the line in which the row begins that is read
    try:
        for row in rows:
            begun = rows.line_num + 1
            if not any(cell.strip() for cell in row):
                continue
            if header is None:
                header = _header(path, rows.line_num, row, needed)
            elif len(row) != len(header):
                what = f"{len(row)} fields where the header has {len(header)}; a field with a comma needs quotes"
                raise bad_line(path, rows.line_num, what)
            else:
                yield rows.line_num, dict(zip(header, row, strict=True))
    except csv.Error as error:
        raise bad_line(path, begun, _not_csv(str(error), rows.line_num - begun)) from None
    if header is None:
        raise UsageError(f"{path} is empty; a header with {', '.join(needed)} is needed")


def columns(path: Path) -> list[str]:
    """Return the column names of a csv; empty for any other file."""
    if path.suffix.lower() != ".csv" or not path.is_file():
        return []
    try:
        with path.open("rb") as file:
            first = file.read(_HEADER_BYTES).decode("utf-8-sig", "replace").lstrip().partition("\n")[0]
    except OSError:
        return []
    return [name.strip().strip('"').lower() for name in re.split("[,;\t]", first)]


def read_json(path: Path, hook: Callable[[dict[str, Any]], Any] | None = None) -> object:
    """Return the content of a json file; each object in it is replaced by what `hook` returns for it."""
    text = "".join(_text(path, longest=_LARGEST_JSON))
    try:
        content: object = json.loads(text, object_pairs_hook=lambda pairs: _object(path, pairs, hook))
    except json.JSONDecodeError as error:
        raise bad_line(path, error.lineno, f"not json ({error.msg})") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, or thousands of brackets
        raise UsageError(f"{path} is not such a list ({str(error).partition(';')[0]}); correct it") from None
    return content


def _object(path: Path, pairs: list[tuple[str, Any]], hook: Callable[[dict[str, Any]], Any] | None) -> object:
    """Return an object of a json, or what `hook` makes of it; refuse a name that it has twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise UsageError(f"{path} has '{twice}' twice in one object; keep one")
    return found if hook is None else hook(found)


def split_word(path: Path, number: int, word: str) -> str | None:
    """Return `train`, `val` or `test` for the word of a list; None for an empty field."""
    word = word.strip()
    if word and word.lower() not in SPLIT_WORDS:
        raise bad_line(path, number, f"split '{word}'; it must be train, val or test")
    return SPLIT_WORDS.get(word.lower())


def _beside(source: Source, names: Sequence[str]) -> list[list[Path]]:
    if source.splits is not None:
        return []
    near = Path(os.path.abspath(source.root)).parent
    return [_lists_in(near / name) for name in names if (near / name).is_dir()]


def _lists_in(folder: Path) -> list[Path]:
    with os.scandir(folder) as items:
        names = [item.name for item in items if not item.name.startswith(".")]
    return [folder / name for name in sorted(names) if name.lower().endswith(LIST_SUFFIXES)]


def _text(path: Path, longest: int = _LONGEST_LINE) -> Iterator[str]:
    """Yield the lines of a UTF-8 file with their ends, without the byte order mark that some editors put first."""
    try:
        with path.open("rb") as file:
            for number in itertools.count(1):
                line = file.readline(longest + 1)
                if not line:
                    return
                yield _decoded(path, number, line, longest)
    except OSError as error:
        raise _unreadable(path, error) from None


def _decoded(path: Path, number: int, line: bytes, longest: int) -> str:
    if len(line) > longest:
        raise bad_line(path, number, f"longer than {longest >> 20} MB; name a list of text")
    if b"\0" in line:
        what = "UTF-16, not UTF-8" if line.count(b"\0") * 4 >= len(line) else "a NUL byte, which no text holds"
        raise bad_line(path, number, f"{what}; save the file as UTF-8")
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError:
        raise bad_line(path, number, "not UTF-8; save the file as UTF-8") from None


def _not_csv(error: str, more: int) -> str:
    """Return what is wrong with a row of a csv that goes on for `more` lines."""
    if more > 0 or "field limit" in error or "unexpected end" in error:
        return "a quote that opens here never closes; close it, or remove it"
    return f"not csv ({error})"


def _unreadable(path: Path, error: OSError) -> UsageError:
    return UsageError(f"{path} cannot be read ({reason(error)}); make it readable, or name other lists")


def _header(path: Path, number: int, row: list[str], needed: Sequence[str]) -> list[str]:
    header = [name.strip().lower() for name in row]
    if len(header) == 1 and (other := next((name for mark, name in _SEPARATORS.items() if mark in row[0]), None)):
        raise bad_line(path, number, f"{other} between the columns; save the table with commas")
    if absent := [name for name in needed if name not in header]:
        raise bad_line(path, number, f"no column {', '.join(absent)}; the header must have {', '.join(needed)}")
    if twice := next((name for name, count in Counter(header).items() if name and count > 1), None):
        raise bad_line(path, number, f"column {twice} appears twice; keep one")
    return header
