"""A table of strings: built where the figures are known, drawn by whoever shows it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["TextTable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextTable:
    """Rows of plain strings, for a terminal or a page.

    Attributes:
        title: what the table shows; may be empty.
        header: names of the columns.
        rows: a cell in ``**`` is the best of its kind; a row whose first cell is in ``*`` sums up the rows above it.
        numbers: columns that hold numbers, counted from 0.
        cut: columns of which the beginning will do, counted from 0: a table that has some fits any page.
        caption: what a reader must know to read it; may be empty.
    """

    title: str = ""
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    numbers: Sequence[int] = ()
    cut: Sequence[int] = ()
    caption: str = ""

    def markdown(self) -> list[str]:
        """The header and the rows as lines of a Markdown table."""
        rule = ["---:" if column in self.numbers else "---" for column in range(len(self.header))]
        return [_line(self.header), _line(rule), *map(_line, self.rows)]


def _line(cells: Sequence[str]) -> str:
    escaped = (cell.replace("|", "\\|").replace("\n", "⏎") for cell in cells)
    return f"| {' | '.join(escaped)} |"
