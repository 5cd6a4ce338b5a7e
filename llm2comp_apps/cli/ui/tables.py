"""How a table looks on a terminal and in a pipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llm2comp_apps.cli.ui.console import note, printable, stdout_console

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from llm2comp_apps.text_table import TextTable

__all__ = ["print_tables", "rich_table"]

_ANY_WIDTH = 10_000


def print_tables(tables: Sequence[TextTable]) -> None:
    """Print tables on stdout: as wide as need be in a pipe; on a terminal the first, and those others that fit."""
    for number, each in enumerate(tables):
        console, drawn = stdout_console(), rich_table(each)
        unbound = console.options.update_width(_ANY_WIDTH)
        if not console.is_terminal and not each.cut:
            console.width = _ANY_WIDTH
        if number == 0 or console.measure(drawn, options=unbound).maximum <= console.width:
            console.print(drawn)
        else:
            note(f"{each.title}: too wide for this terminal, see the report")


def rich_table(table: TextTable) -> Table:
    """The table as rich draws it; control characters are left out, and brackets are no markup."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    fits = bool(table.cut)
    drawn = Table(title=table.title or None, caption=table.caption or None, box=SIMPLE_HEAD, expand=fits)
    for column, name in enumerate(table.header):
        if column in table.numbers:
            drawn.add_column(_text(name), justify="right", no_wrap=True, min_width=len(name))
        else:
            drawn.add_column(
                _text(name),
                ratio=1 if fits else None,
                no_wrap=column in table.cut,
                overflow="ellipsis" if fits else "fold",
            )
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
