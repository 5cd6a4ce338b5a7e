"""How hits look on a terminal and in a pipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llm2comp_apps.cli.ui.console import note, print_json, printable, stdout_console
from llm2comp_apps.cli.ui.spelling import in_options

if TYPE_CHECKING:
    from rich.text import Text

    from llm2comp_apps.retrieval.hits import SearchHit
    from llm2comp_apps.retrieval.snippets import Snippet

__all__ = ["show_hits"]

_INDENT = 4


def show_hits(
    hits: Sequence[SearchHit], *, as_json: bool, shown: Sequence[str] = (), spans: bool = False, **facts: Any
) -> None:
    """Print hits, as JSON with the facts of the call before them, or for people with fields ``shown`` and ``spans``."""
    if as_json:
        print_json({**facts, "hits": [hit.to_dict() for hit in hits]})
    elif hits:
        _print_hits(hits, shown, spans)
    else:
        note("No hits.")
    if hits and hits[0].reread is not None:
        note(in_options(hits[0].reread.line()))


def _print_hits(hits: Sequence[SearchHit], shown: Sequence[str], spans: bool) -> None:
    """Print hits on stdout: rank and title, score and id, fields, then the snippet. Without a title the id is it.

    A terminal shows matching words bold; elsewhere ``**`` stands around them. Control characters of documents are left
    out, since a terminal would obey them.
    """
    from rich.text import Text

    from llm2comp_apps.retrieval.hits import field_of

    console = stdout_console()
    for hit in hits:
        title = Text(printable(" ".join((hit.title or hit.id).split())), style="bold")
        place = f"  characters {hit.span[0]} to {hit.span[1]}" if spans and hit.span else ""
        facts = Text(f"{hit.shown_score}  {printable(hit.id) if hit.title else ''}".rstrip() + place, style="dim")
        held = [(name, field_of(hit.metadata, name)) for name in shown]
        fields = [
            Text(printable(f"{name}: {_spelled(value)}"), style="dim") for name, value in held if value is not None
        ]
        lines = [
            line
            for part in (title, facts, *fields, _snippet(hit.snippet, styled=console.is_terminal))
            for line in part.wrap(console, max(20, console.width - _INDENT))
        ]
        for number, line in enumerate(lines):
            line.rstrip()  # changes the line itself, unlike that of str
            # Indented by hand: rich's own padding would fill every line with blanks, which a pipe would carry along.
            console.print(Text(f"{hit.rank:>2}. " if number == 0 else " " * _INDENT) + line, soft_wrap=True)
        console.print()


def _spelled(value: Any) -> str:
    return ", ".join(map(_spelled, value)) if isinstance(value, list) else " ".join(str(value).split())


def _snippet(snippet: Snippet, *, styled: bool) -> Text:
    from rich.text import Text

    if not styled:
        return Text(printable(snippet.marked()))
    text, last = Text(), 0
    for start, end in snippet.marks:  # piece by piece: the marks count the characters that printable() takes out
        text.append(printable(snippet.text[last:start]))
        text.append(printable(snippet.text[start:end]), style="bold yellow")
        last = end
    return text.append(printable(snippet.text[last:]))
