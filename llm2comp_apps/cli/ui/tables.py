"""How a table looks on a terminal and in a pipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llm2comp_apps.cli.ui.console import note, printable, stdout_console

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from llm2comp_apps.text_table import TextTable

__all__ = ["print_table", "print_tables", "rich_table"]

_ANY_WIDTH = 10_000
_NUMBERS = ("topic", "documents", "share", "added")
_CUT = ("most central document",)


def print_tables(tables: Sequence[TextTable]) -> None:
    """Print tables on stdout: as wide as need be in a pipe; on a terminal the first, and those others that fit."""
    console = stdout_console()
    if not console.is_terminal:
        console.width = _ANY_WIDTH
    unbound = console.options.update_width(_ANY_WIDTH)
    for number, each in enumerate(tables):
        drawn = rich_table(each)
        if number == 0 or console.measure(drawn, options=unbound).maximum <= console.width:
            console.print(drawn)
        else:
            note(f"{each.title}: too wide for this terminal, see the report")


def rich_table(table: TextTable) -> Table:
    """The table as rich draws it; control characters are left out, and brackets are no markup."""
    from rich.table import Table

    drawn = Table(title=table.title or None, caption=table.caption or None)
    for column, name in enumerate(table.header):
        number = column in table.numbers
        drawn.add_column(_text(name), justify="right" if number else "left", no_wrap=number, overflow="fold")
    for row in table.rows:
        cells = [_text(cell) for cell in row]
        drawn.add_row(*cells, end_section=cells[0].style == "italic")
    return drawn


def _text(cell: str) -> Text:
    from rich.text import Text

    for mark, style in (("**", "bold"), ("*", "italic")):
        inner = cell.removeprefix(mark).removesuffix(mark)
        if f"{mark}{inner}{mark}" == cell and inner:
            return Text(printable(inner), style=style)
    return Text(printable(cell))


def print_table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Print a table as wide as the terminal; control characters of documents are left out."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, expand=True)
    for name in header:
        if name in _NUMBERS:
            table.add_column(name, justify="right", no_wrap=True, min_width=len(name))
        else:
            table.add_column(name, ratio=1, no_wrap=name in _CUT, overflow="ellipsis")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))  # Text: brackets in documents are no markup
    stdout_console().print(table)
