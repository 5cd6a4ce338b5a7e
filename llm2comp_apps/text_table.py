"""A table of strings: built where the figures are known, drawn by whoever shows it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["TextTable", "code_span", "in_markdown"]

_BREAKS = re.compile(r"\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]")
_CODE = re.compile(r"(?P<fence>`+)(?!`)(?:(?!(?<!`)(?P=fence)(?!`)).)+(?<!`)(?P=fence)")
"""One span of code and nothing else: within, no run of backquotes is as long as its ends."""


def in_markdown(text: str) -> str:
    """A text of anybody's as one line of a Markdown page, in a table, too.

    Markdown lets HTML through: a name that begins with ``<!--`` would hide all that follows. In a span of code it does
    not. Emphasis is left as it is, since tables mean something by it.
    """
    line = _BREAKS.sub("⏎", text).replace("|", "\\|")
    return line if _CODE.fullmatch(line) else line.replace("<", "&lt;")


def code_span(text: str) -> str:
    """A text as code in Markdown, whatever backquotes are in it."""
    fence = "`" * (1 + max(map(len, re.findall(r"`+", text)), default=0))
    room = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{room}{text}{room}{fence}"


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
    return f"| {' | '.join(map(in_markdown, cells))} |"
