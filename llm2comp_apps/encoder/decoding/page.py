"""An explanation as one HTML page without scripts: words are the darker, the more memory helps to predict them."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from llm2comp_apps.encoder.decoding.explanation import Explanation, Match
from llm2comp_apps.encoder.decoding.reader import TokenGain

__all__ = ["explanation_page", "shade"]

FULL = 6.0
"""A gain of so many nats, or more, has the full colour."""

_STYLE = """
body { font: 16px/1.6 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
h2 { font-size: 1.1rem; margin-top: 2rem } table { border-collapse: collapse } td, th { padding: .2rem .7rem .2rem 0;
text-align: left; vertical-align: top } .note { color: #666; font-size: .9rem }
body { overflow-wrap: anywhere } th { overflow-wrap: normal } /* a word wider than the window is cut */
.text, td { white-space: pre-wrap; unicode-bidi: plaintext } /* lines as they are, in the direction of their letters */
"""


def shade(gain: float) -> float:
    """How strongly a token is coloured, 0 to 1."""
    return min(max(gain, 0.0) / FULL, 1.0)


def explanation_page(explanations: Sequence[Explanation], *, encoder: str, query: str | None = None) -> str:
    """The page.

    Args:
        explanations: of one text, or of two that are compared.
        encoder: whose memory it is.
        query: that the matches are for.
    """
    parts = [_text(explanation, number) for number, explanation in enumerate(explanations, 1)]
    about = f"Memory vectors of {escape(encoder)}, read back by the language model under it."
    asked = f"<p>Query: <b>{escape(query)}</b></p>" if query else ""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width, initial-scale=1"><title>What memory holds</title>'
        f"<style>{_STYLE}</style></head><body>\n<h1>What memory holds</h1>\n<p>{about} A word is the darker, the more "
        f"the memory helps to predict it; {FULL:g} nats have the full colour.</p>\n{asked}\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _text(explanation: Explanation, number: int) -> str:
    rows = [
        ("greedy", escape(explanation.written)),
        ("beam search", escape(explanation.beam)),
    ]
    written = "".join(f"<tr><th>{name}</th><td>{text}</td></tr>" for name, text in rows)
    vectors = "".join(
        f"<tr><th>{place}</th><td>{escape(', '.join(words))}</td></tr>"
        for place, words in enumerate(explanation.vectors)
    )
    parts = [
        f"<h2>Text {number}</h2>",
        f'<p class="text">{_coloured(explanation.tokens, "20, 110, 180")}</p>',
        f'<p class="note">mean gain {explanation.gain:.2f} nats a token</p>',
        f"<h3>Written from memory</h3><table>{written}</table>",
        f"<h3>What each memory vector carries</h3><table>{vectors}</table>",
    ]
    if explanation.other is not None:
        other = _coloured(explanation.other, "190, 90, 20")
        parts.append(f'<h3>With the other text\'s memory</h3><p class="text">{other}</p>')
    if explanation.matches is not None:
        parts.append(f"<h3>Matches with the query</h3><table>{_matches(explanation.matches)}</table>")
    return "\n".join(parts)


def _coloured(tokens: Sequence[TokenGain], colour: str) -> str:
    return "".join(
        f'<span style="background: rgba({colour}, {0.75 * shade(token.gain):.2f})" title="{token.gain:+.2f}">'
        f"{escape(token.text)}</span>"
        for token in tokens
    )


def _matches(matches: Sequence[Match]) -> str:
    head = "<tr><th>query</th><th>text</th><th>cosine</th><th>query's words</th><th>text's words</th></tr>"
    return head + "".join(
        f"<tr><td>{match.query_vector}</td><td>{match.text_vector}</td><td>{match.cosine:.2f}</td>"
        f"<td>{escape(', '.join(match.query_words))}</td><td>{escape(', '.join(match.text_words))}</td></tr>"
        for match in matches
    )
