"""How hits look on a terminal and in a pipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llm2comp_apps.cli._shared import stdout_console

if TYPE_CHECKING:
    from rich.text import Text

    from llm2comp_apps.retrieval.search import SearchHit
    from llm2comp_apps.retrieval.snippets import Snippet

__all__ = ["print_hits"]

_INDENT = 4


def print_hits(hits: Sequence[SearchHit]) -> None:
    """Print hits on stdout: rank and title, score and id, then the snippet.

    A terminal shows matching words bold; elsewhere ``**`` stands around them.
    """
    from rich.text import Text

    console = stdout_console()
    for hit in hits:
        title = Text(" ".join((hit.title or hit.id).split()), style="bold")
        facts = Text(f"{hit.score:.4g}  {hit.id}", style="dim")
        lines = [
            line
            for part in (title, facts, _snippet(hit.snippet, styled=console.is_terminal))
            for line in part.wrap(console, max(20, console.width - _INDENT))
        ]
        for number, line in enumerate(lines):
            # Indented by hand: rich's own padding would fill every line with blanks, which a pipe would carry along.
            line.rstrip()
            console.print(Text(f"{hit.rank:>2}. " if number == 0 else " " * _INDENT) + line, soft_wrap=True)
        console.print()


def _snippet(snippet: Snippet, *, styled: bool) -> Text:
    from rich.text import Text

    if not styled:
        return Text(snippet.marked())
    text = Text(snippet.text)
    for start, end in snippet.marks:
        text.stylize("bold yellow", start, end)
    return text
