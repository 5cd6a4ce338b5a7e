"""Queries with known answers for learning to rank, made from the shared training data; see :mod:`ltr`.

Each set is a small corpus with its own queries, as different as the data allow: questions, claims, headings, names and
sentences, whose answers are one short text, one long one, or all paragraphs about a subject.
"""

from __future__ import annotations

import gzip
import json
import random
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from llm2comp_apps import Document

__all__ = ["JudgedSet", "judged_sets"]

_CORPUS, _QUERIES = 2_500, 300
_PLAIN_HEADINGS = ("summary", "chapter summary", "section summary", "conceptual questions", "introduction")
_SENTENCE = re.compile(r"(?<=[.!?])\s+")
_ABOUT = re.compile(
    r"(?:What (?:is|are|causes|to do)|How|Is|Who|Do).*?"
    r"(?:\(are\)|of|for|with|causes|have|diagnose|prevent|treated|are affected by|to)\s+(.+?)\s*\?$"
)
"""The subject of a question of MedQuAD: all its questions follow a few patterns."""

Row = Mapping[str, str]


@dataclass(slots=True)
class JudgedSet:
    """A corpus with queries.

    Attributes:
        name: of the set.
        kind: sets of one kind are left out together where what is learned is tried on others.
        texts: of the documents, whose ids are their places.
        queries: what is asked, with the ids of its answers.
    """

    name: str
    kind: str
    texts: list[str] = field(default_factory=list)
    queries: list[tuple[str, list[str]]] = field(default_factory=list)

    def add(self, *texts: str) -> list[str]:
        """Take up documents; returns their ids."""
        self.texts += texts
        return [str(len(self.texts) - len(texts) + place) for place in range(len(texts))]

    def documents(self) -> Iterator[Document]:
        """The corpus."""
        return (Document(str(place), text) for place, text in enumerate(self.texts))


def judged_sets(data: Path) -> Iterator[JudgedSet]:
    """All sets.

    Args:
        data: the folder with ``train/pairs`` and ``train/paragraphs``.
    """
    pairs, paragraphs = data / "train" / "pairs", data / "train" / "paragraphs"
    for name, kind, file in (
        ("boolq", "questions", "boolq_dev_question_passage"),
        ("nq", "questions", "nq_question_passage"),
        ("qnli", "questions", "qnli_dev"),
        ("fm2", "sentences", "fm2_claim_evidence"),
        ("snli", "sentences", "snli_devtest_triplets"),
        ("disfl", "sentences", "disfl_qa"),
        ("scitldr", "papers", "scitldr_tldr_abstract"),
        ("medquad", "medicine", "medquad"),
        ("glossary", "names", "textbook_glossary"),
        ("factbook", "countries", "factbook_topic_text"),
        ("headings", "encyclopedia", "wikipedia_heading_paragraph"),
    ):
        yield _of_pairs(JudgedSet(name, kind), _rows(pairs / f"{file}.jsonl.gz"))
    subjects = ((match[1], row["positive"][:1500]) for row, match in _asked_about(_rows(pairs / "medquad.jsonl.gz")))
    yield _of_groups(JudgedSet("diseases", "medicine"), _grouped(subjects), least=4, most=15, ask=lambda key, _: key)
    books = _rows(paragraphs / "textbooks_openstax2014.jsonl.gz")
    sections = _grouped(((row["title"], row["section"]), row["text"]) for row in books if _says_something(row))
    yield _of_groups(JudgedSet("sections", "textbooks"), sections, least=4, most=25, ask=lambda key, _: key[1])
    yield _of_groups(JudgedSet("beginnings", "textbooks"), sections, least=5, most=25, ask=_first_paragraph)
    yield _of_lost_sentences(JudgedSet("sentences of sections", "textbooks"), sections, least=3, most=12)
    articles = _grouped((row["title"], row["text"]) for row in _rows(paragraphs / "wikipedia_sample.jsonl.gz"))
    yield _of_groups(JudgedSet("titles", "encyclopedia"), articles, least=8, most=80, ask=lambda key, _: key)
    yield _of_groups(JudgedSet("subjects", "encyclopedia"), articles, least=8, most=80, ask=_first_sentence)
    pieces = {(key, at): texts[at : at + 3] for key, texts in articles.items() for at in range(0, len(texts) - 2, 3)}
    yield _of_lost_sentences(JudgedSet("sentences of articles", "encyclopedia"), pieces, least=3, most=3)


def _rows(path: Path) -> list[Row]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _asked_about(rows: Iterable[Row]) -> Iterator[tuple[Row, re.Match[str]]]:
    return ((row, match) for row in rows if (match := _ABOUT.match(row["query"])))


def _says_something(row: Row) -> bool:
    return len(row["text"]) >= 150 and bool(row["section"]) and row["section"].lower() not in _PLAIN_HEADINGS


def _grouped(pairs: Iterable[tuple[object, str]]) -> dict[object, list[str]]:
    groups: dict[object, dict[str, None]] = defaultdict(dict)
    for key, text in pairs:
        groups[key][text] = None
    return {key: list(texts) for key, texts in groups.items()}


def _of_pairs(made: JudgedSet, rows: Sequence[Row]) -> JudgedSet:
    """Each query with its passage among those of others."""
    mixed = list(rows)
    random.Random(5).shuffle(mixed)  # noqa: S311 - no secret
    ids: dict[str, list[str]] = {}
    for row in mixed:
        text = row["positive"]
        if text not in ids:
            if len(ids) >= _CORPUS:
                continue
            ids[text] = made.add(text)
        if len(made.queries) < _QUERIES:
            made.queries.append((row["query"].replace(": ", " "), ids[text]))
    return made


def _of_groups(
    made: JudgedSet,
    groups: Mapping[object, Sequence[str]],
    *,
    least: int,
    most: int,
    ask: Callable[[object, list[str]], str],
) -> JudgedSet:
    """All texts of a group are answers to what asks for it; ``ask`` may take one of them away."""
    for key in _some(groups, least, most):
        if len(made.texts) >= _CORPUS:
            break
        texts = list(groups[key])
        query = ask(key, texts)
        made.queries.append((" ".join(_SENTENCE.split(query)[:4])[:600], made.add(*texts)))
    del made.queries[_QUERIES:]
    return made


def _of_lost_sentences(made: JudgedSet, groups: Mapping[object, Sequence[str]], *, least: int, most: int) -> JudgedSet:
    """A sentence is taken out of a text and asked for."""
    chance = random.Random(11)  # noqa: S311 - no secret
    for key in _some(groups, least, most):
        if len(made.texts) >= _CORPUS * 3 // 5:  # they are long
            break
        texts = list(groups[key])
        place = chance.randrange(len(texts))
        sentences = _SENTENCE.split(texts[place])
        lost = sentences.pop(chance.randrange(len(sentences)))
        texts[place] = " ".join(sentences)
        ids = made.add(" ".join(texts)[:3000])
        if 8 <= len(lost.split()) <= 40:
            made.queries.append((lost, ids))
    del made.queries[_QUERIES:]
    return made


def _some(groups: Mapping[object, Sequence[str]], least: int, most: int) -> list[object]:
    keys = [key for key, texts in groups.items() if least <= len(texts) <= most]
    random.Random(3).shuffle(keys)  # noqa: S311 - no secret
    return keys


def _first_paragraph(_: object, texts: list[str]) -> str:
    return texts.pop(0)


def _first_sentence(_: object, texts: list[str]) -> str:
    return _SENTENCE.split(texts[0])[0][:300]
