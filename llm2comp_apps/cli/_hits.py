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
    """Print hits on stdout: rank, title, score and id, then the snippet.

    A terminal shows matching words bold; elsewhere ``**`` stands around them.
    """
    from rich.padding import Padding
    from rich.text import Text

    console = stdout_console()
    for hit in hits:
        heading = Text(f"{hit.rank:>2}. ")
        heading.append(" ".join((hit.title or hit.id).split()), style="bold")
        heading.append(f"  [{hit.id}]  {hit.score:.4g}", style="dim")
        console.print(heading)
        if hit.snippet.text:
            console.print(Padding(_snippet(hit.snippet, styled=console.is_terminal), (0, 0, 0, _INDENT)))
        console.print()


def _snippet(snippet: Snippet, *, styled: bool) -> Text:
    from rich.text import Text

    if not styled:
        return Text(snippet.marked())
    text = Text(snippet.text)
    for start, end in snippet.marks:
        text.stylize("bold yellow", start, end)
    return text
