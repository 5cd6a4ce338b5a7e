"""The README is short; its sentences are, and so are those of the other pages."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text("utf-8")
PAGES = [*(ROOT / "docs").rglob("*.md"), ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"]


def sentences(text: str) -> list[str]:
    """The sentences of the running text: no code, no tables, no addresses of links."""
    text = re.sub(r"^ *```.*?^ *```", "\n\n", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"^(?:\||#).*$", "\n", text, flags=re.MULTILINE)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"^(?:- |\d\. )", "\n", text, flags=re.MULTILINE)
    paragraphs = [" ".join(part.split()) for part in re.split(r"\n\s*\n", text)]
    return [sentence for part in paragraphs for sentence in re.split(r"(?<=[.!?:])\s+", part) if sentence]


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 120


def test_there_are_sentences_at_all() -> None:
    assert len(sentences(README)) > 15


@pytest.mark.parametrize("sentence", sentences(README))
def test_sentences_are_short(sentence: str) -> None:
    assert len(sentence.split()) <= 25


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_sentences_of_other_pages_are_short_enough(page: Path) -> None:
    assert [sentence for sentence in sentences(page.read_text("utf-8")) if len(sentence.split()) > 35] == []
