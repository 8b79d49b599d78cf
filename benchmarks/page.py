"""Tables for the terminal and for sections of `docs/benchmarks.md`. Text around a section is kept."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table as RichTable

from .environments import ROOT

DOCS = ROOT / "docs/benchmarks.md"
NOTHING = "–"
_NUMBER = re.compile(r"[\d,.]+( \(.*\))?$|not measured")
_BEGINNING = """\
# Benchmarks

What our service and our training loop do beside what a user would pick instead, measured by
[`benchmarks`](../benchmarks).
"""


@dataclass(frozen=True)
class Table:
    """A title, a line for each row, and what must be known to read them."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""

    def markdown(self) -> str:
        """For a page."""
        ruler = ["--:" if is_right else "---" for is_right in self._right()]
        lines = [_line(row) for row in (self.head, ruler, *self.rows)]
        return "\n".join([f"### {self.title}", "", *([self.note, ""] if self.note else []), *lines])

    def rich(self) -> RichTable:
        """For a terminal."""
        table = RichTable(title=self.title.replace("`", ""), caption=self.note or None, title_justify="left")
        for name, is_right in zip(self.head, self._right(), strict=True):
            table.add_column(name, justify="right" if is_right else "left", overflow="fold")
        for row in self.rows:
            table.add_row(*(cell.replace("**", "").replace("`", "") for cell in row))
        return table

    def _right(self) -> list[bool]:
        """Whether each column is aligned to the right, as columns of numbers are."""
        told = [[row[column] for row in self.rows if row[column] != NOTHING] for column in range(len(self.head))]
        return [bool(cells) and all(_NUMBER.match(cell) for cell in cells) for cells in told]


def show(tables: Sequence[Table], console: Console) -> None:
    """Print the tables to a terminal."""
    for table in tables:
        console.print(table.rich())


def write(title: str, tables: Sequence[Table], page: Path, figures: Sequence[Path] = ()) -> None:
    """Write the tables and figures into the section with this title. A missing section is added at the end."""
    begin, end = f"<!-- {title}: written by a benchmark -->", f"<!-- {title}: end -->"
    pictures = [f"![{path.stem.replace('-', ' ')}](figures/{path.name})" for path in figures]
    section = "\n\n".join([begin, f"## {title}", *(table.markdown() for table in tables), *pictures, end])
    page.parent.mkdir(parents=True, exist_ok=True)
    text = page.read_text(encoding="utf-8") if page.is_file() else _BEGINNING
    if begin not in text:
        text += f"\n{begin}{end}\n"
    written = re.sub(f"{re.escape(begin)}.*{re.escape(end)}", lambda _: section, text, flags=re.DOTALL)
    page.write_text(written, encoding="utf-8")


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"
