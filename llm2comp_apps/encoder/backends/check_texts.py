"""Texts to measure a graph with: the documentation that comes with Python, and what real corpora hold besides."""

from __future__ import annotations

import itertools

__all__ = ["check_texts"]

_ODD = (
    "",
    "x",
    "2024-03-17",
    "query: how do cells divide",
    "what is the capital of australia?",
    "WHY IS THIS ALL IN CAPITALS???",
    "x" * 120,
    "0.71 0.58 1e-5 3.14159 42 " * 8,
    "Ein Satz mit Umlauten: äöü, und ein längerer Teil, der nichts Neues sagt.",
    "La mitosis es el proceso por el cual una célula se divide en dos.",
    "細胞は有糸分裂によって分裂する。",
    "Клетки делятся путём митоза.",
    "def f(x):\n    return [y ** 2 for y in x if y % 2]\n",
    "<p>Some <b>markup</b> &amp; entities</p>",
    "the the the the the the the the the the",
    "Hypertension, defined as systolic blood pressure above 140 mmHg, was found in 31.2 % of the cohort (n = 1,204).",
)


def check_texts(count: int = 200) -> list[str]:
    """Varied texts of 0 to about 400 tokens, the same ones at every call."""
    from pydoc_data.topics import topics

    paragraphs = [
        [part for part in map(str.strip, topic.split("\n\n")) if len(part) > 20] for _, topic in sorted(topics.items())
    ]
    # A few paragraphs from all over a topic, alone or two or more together, so that short and long texts come in turn.
    joined = ("\n".join(parts[start : start + size]) for start in (0, 3, 9, 20) for parts, size in _sized(paragraphs))
    found = (text[:1600] for text in joined if text)
    return [*_ODD, *itertools.islice(found, count - len(_ODD))]


def _sized(paragraphs: list[list[str]]) -> list[tuple[list[str], int]]:
    return [(parts, (1, 1, 2, 1, 6)[number % 5]) for number, parts in enumerate(paragraphs)]
