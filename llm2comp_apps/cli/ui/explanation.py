"""How an explanation looks on a terminal and in a pipe."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llm2comp_apps.cli.ui.console import printable, stdout_console

if TYPE_CHECKING:
    from rich.text import Text

    from llm2comp_apps.encoder.decoding import Explanation, TokenGain

__all__ = ["show_explanations"]

_MARKED = 1.0
"""Nats from which a token is marked where there are no colours."""


def show_explanations(explanations: Sequence[Explanation]) -> None:
    """Print them on stdout: tokens coloured by their gain, or in a pipe ``**`` around those that gain most."""
    from rich.text import Text

    console = stdout_console()
    for number, explanation in enumerate(explanations, 1):
        heading = f"Text {number}, mean gain {explanation.gain:.2f} nats a token"
        console.print(Text(heading, style="bold"))
        console.print(_tokens(explanation.tokens, styled=console.is_terminal), soft_wrap=not console.is_terminal)
        console.print(Text(f"greedy: {printable(' '.join(explanation.written.split()))}"))
        console.print(Text(f"beam:   {printable(' '.join(explanation.beam.split()))}"))
        for place, words in enumerate(explanation.vectors):
            console.print(Text(f"  vector {place}: {printable(', '.join(words))}"))
        if explanation.other is not None:
            console.print(Text("with the other text's memory:", style="bold"))
            console.print(_tokens(explanation.other, styled=console.is_terminal), soft_wrap=not console.is_terminal)
        for match in explanation.matches or ():
            both = f"{', '.join(match.query_words)} ~ {', '.join(match.text_words)}"
            facts = f"  query {match.query_vector} ~ {match.text_vector}  {match.cosine:.2f}  {printable(both)}"
            console.print(Text(facts))
        console.print()


def _tokens(tokens: Sequence[TokenGain], *, styled: bool) -> Text:
    from rich.text import Text

    from llm2comp_apps.encoder.decoding.page import shade

    text = Text()
    for token in tokens:
        piece = printable(token.text)
        if styled:
            part = shade(token.gain)
            text.append(piece, style=f"on rgb({int(40 * part)},{int(110 * part)},{int(180 * part)})" if part else "")
        elif token.gain >= _MARKED and piece.strip():
            blank = piece[: len(piece) - len(piece.lstrip())]
            text.append(f"{blank}**{piece.strip()}**")
        else:
            text.append(piece)
    return text
