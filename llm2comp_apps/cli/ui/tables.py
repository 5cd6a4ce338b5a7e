"""How tables look on a terminal and in a pipe."""

from __future__ import annotations

from collections.abc import Sequence

from llm2comp_apps.cli.ui.console import printable, stdout_console

__all__ = ["print_table"]

_NUMBERS = ("topic", "documents", "share", "added")
_CUT = ("most central document",)


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
