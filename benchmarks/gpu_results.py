"""The results of gpu.py: a row for each measurement in a file of JSON lines, and Markdown tables of the rows."""

import argparse
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Row = dict[str, Any]
SAID = 3  # last lines of what a failed phase printed
TITLES = {
    "phases": "Phases",
    "right": "Right: tests that did not pass",
    "peaks": "Fast: matrix products, TFLOP/s",
    "fast": "Fast: forward and backward",
    "fastest": "Fast: the fastest of each backbone",
    "kernels": "Fast: where the time goes below the goal",
    "fed": "Fed: RSPNet with R(2+1)D",
    "trained": "Learned: the trainings",
    "learned": "Learned: top-1 in percent with its 95 % interval",
}


@dataclass(frozen=True, slots=True)
class Results:
    """Rows by table. They are written at once, so that those of a phase that is ended stay."""

    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / "rows.jsonl"

    def add(self, table: str, **row: object) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"table": table, **row}) + "\n")

    def rows(self, table: str) -> list[Row]:
        """Return the rows of a table; of a phase that ran again, only the last."""
        if not self.path.exists():
            return []
        found = [json.loads(line) for line in self.path.read_text().splitlines()]
        rows = [
            {name: value for name, value in row.items() if name != "table"} for row in found if row["table"] == table
        ]
        return list({row["phase"]: row for row in rows}.values()) if table == "phases" else rows

    def forget(self, *tables: str) -> None:
        """Remove the rows of these tables, which a phase is about to write again."""
        if self.path.exists():
            lines = self.path.read_text().splitlines(keepends=True)
            self.path.write_text("".join(line for line in lines if json.loads(line)["table"] not in tables))

    def markdown(self) -> str:
        heading = self.rows("heading")[-1:]
        known = "; ".join(f"{name} {value}" for name, value in (heading[0] if heading else {}).items() if value != "")
        tables = [(title, self._shown(name)) for name, title in TITLES.items()]
        parts = [f"### {title}\n\n{as_table(rows)}" for title, rows in tables if rows]
        return "\n\n".join([known, *([tested] if (tested := self._tested()) else []), *parts])

    def write_tables(self) -> None:
        (self.folder / "table.md").write_text(self.markdown() + "\n")

    def _shown(self, table: str) -> list[Row]:
        rows = self.rows(table)
        return [row for row in rows if row["outcome"] == "failed"] if table == "right" else rows

    def _tested(self) -> str:
        outcomes = [row["outcome"] for row in self.rows("right")]
        counts = {outcome: outcomes.count(outcome) for outcome in dict.fromkeys(outcomes)}
        return f"Right: {', '.join(f'{count} {outcome}' for outcome, count in counts.items())}" if counts else ""


def as_table(rows: list[Row]) -> str:
    """Return a Markdown table with the columns of all rows."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    lines = [columns, ["---"] * len(columns), *([cell(row.get(name)) for name in columns] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return re.sub(r"\s*\n\s*", " / ", str(value)).replace("|", "\\|")


def last_lines(log: Path) -> str:
    """Return the last lines that a phase printed, without empty ones."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return "\n".join(line[:300] for line in lines[-SAID:])


def words_of_phase() -> argparse.Namespace:
    """Return the arguments with which gpu.py starts a phase."""
    parser = argparse.ArgumentParser()
    for name in ("out", "work", "clips"):
        parser.add_argument(f"--{name}", type=Path)
    parser.add_argument("--device", required=True)
    parser.add_argument("--limit", type=float, required=True)
    parser.add_argument("--methods", nargs="+", default=["pace", "rspnet"])
    parser.add_argument("--small", action="store_true")
    return parser.parse_args()
