"""Topic names by a language model: it reads a topic's keywords and central documents and answers with a title.

A small model also writes titles of other things. So a title is kept only if it *gains* more than the name that the
topic has, its keywords: the mean, over the tokens of a name, of

    log g(name given keywords and texts) - log g(name given neither)

It is not enough that a name is likely: titles that suit any book are. ``tests/benchmarks/bench_names.py`` counts how
many names are right.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Literal

from llm2comp_apps.clustering.describing.memory_names import MemoryNamer, memory_namer
from llm2comp_apps.clustering.describing.title_writer import TitleWriter, backbone_writer
from llm2comp_apps.clustering.describing.topics import Topic
from llm2comp_apps.encoder.names import source_of
from llm2comp_apps.errors import LLM2CompError

__all__ = [
    "LLM",
    "Namer",
    "chosen_namer",
    "clean_name",
    "llm_namer",
    "name_prompt",
    "name_topics",
]

LLM = Literal["llm"]
Namer = Callable[[Sequence[Topic], Sequence[str]], list[Topic]]
"""Renames topics, given the texts that their representatives point into."""

_DOCUMENTS = 4
_DOCUMENT_LENGTH = 240
_KEYWORDS = 8
_MOST_WORDS = 6
_EXAMPLES = """Give the subject that the texts share a title of two to five words.

Keywords: yeast, dough, flour, oven, sourdough, crust
Texts:
- How long does a dough have to rest before it is baked?
- My loaf stays flat: too little yeast or too cold a kitchen
Title: Baking bread

Keywords: striker, league, goal, coach, penalty, season
Texts:
- United beat City 2-1 after a late penalty
- The coach leaves at the end of the season
Title: Football league matches"""
_NOTHING = f"{_EXAMPLES}\n\nKeywords:\nTexts:\nTitle:"


def chosen_namer(namer: Namer | LLM | None, encoder: dict[str, str], device: str | None) -> Namer | None:
    """The namer as given, or where ``llm`` was given, :func:`llm_namer` of an encoder's record."""
    return llm_namer(source_of(encoder) or "", device) if namer == "llm" else namer


def llm_namer(encoder: str = "", device: str | None = None) -> Namer:
    """Names topics with the language model under an encoder; with the default backbone where that is not known or gone.

    Where the memory vectors of the encoder can be read back, each topic gets a second name from them, see
    :mod:`.memory_names`.

    Args:
        encoder: its name.
        device: by default the best there is.

    Raises:
        EncoderError: the language model cannot be loaded.
    """
    from llm2comp_apps.encoder.backbones import DEFAULT_BACKBONE
    from llm2comp_apps.encoder.names import backbone_of

    try:
        backbone = (backbone_of(encoder) if encoder else None) or DEFAULT_BACKBONE
    except LLM2CompError:  # one that is no longer there
        backbone = DEFAULT_BACKBONE
    writer = backbone_writer(backbone, device)
    second = memory_namer(encoder, device) if encoder else None
    return lambda topics, texts: name_topics(topics, texts, writer, second)


def name_topics(
    topics: Sequence[Topic], texts: Sequence[str], writer: TitleWriter, second: MemoryNamer | None = None
) -> list[Topic]:
    """Rename topics; one keeps its name where no answer is a title, or none gains more.

    A title that copies a document, or that another topic of the level has, is none.

    Args:
        topics: of all levels.
        texts: the documents, which ``Topic.representatives`` point into.
        writer: writes a title from keywords and texts.
        second: writes another one from the memory of the documents, which then judges, too.
    """
    named: list[Topic] = []
    taken: defaultdict[int, set[str]] = defaultdict(set)  # by level
    for topic in topics:
        documents = [texts[position] for position in topic.representatives]
        prompt = name_prompt(topic, texts)
        answers = [writer.write(prompt), *([second.write(documents)] if second is not None and documents else [])]
        titles = [_title(answer, documents, taken[topic.level]) for answer in answers]
        names = [*dict.fromkeys([topic.name, *(title for title in titles if title)])]
        name = topic.name
        if len(names) > 1:
            gains = writer.likelihood(names, prompt) - writer.likelihood(names, _NOTHING)
            if second is not None and documents:
                gains = gains + second.gains(names, documents)
            name = names[int(gains.argmax())]
        taken[topic.level].add(name.casefold())
        named.append(replace(topic, name=name))
    return named


def _title(answer: str, documents: Sequence[str], taken: Collection[str]) -> str:
    """The title in a model's answer; empty if it is none, copies a document, or is taken."""
    name = clean_name(answer)
    return "" if _copied(name, documents) or name.casefold() in taken else name


def _copied(name: str, documents: Sequence[str]) -> bool:
    """Whether a name of several words stands in a document as it is."""
    return len(name.split()) > 2 and any(name.casefold() in document.casefold() for document in documents)


def name_prompt(topic: Topic, texts: Sequence[str]) -> str:
    """What the model is asked: two examples first, since a small model without them copies a document."""
    keywords = ", ".join(term for term, _ in topic.keywords[:_KEYWORDS])
    documents = "\n".join(f"- {_short(texts[position])}" for position in topic.representatives[:_DOCUMENTS])
    return f"{_EXAMPLES}\n\nKeywords: {keywords}\nTexts:\n{documents}\nTitle:"


def clean_name(answer: str) -> str:
    """The title in a model's answer: its first line without quotes, labels and end marks; empty if it is no title."""
    line = next((line for line in answer.splitlines() if line.strip()), "")
    line = re.sub(r"^\W*(?:title|topic|subject|answer)\s*:\s*", "", line.strip(), flags=re.IGNORECASE)
    name = line.strip(" \t\"'“”‘’*#-.:;,")
    listed = name.count(",") > 1  # keywords again, not a title
    return name if 1 <= len(name.split()) <= _MOST_WORDS and not listed and re.search(r"[^\W\d_]", name) else ""


def _short(text: str) -> str:
    return " ".join(text[: 4 * _DOCUMENT_LENGTH].split())[:_DOCUMENT_LENGTH]
