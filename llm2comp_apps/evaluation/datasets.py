"""Evaluation data: what a dataset looks like in memory and how its files are read.

The forms are plain (see ``README.md`` beside this file): JSON lines, gzip-compressed or not, and a tab-separated
``qrels.tsv``. Every reader names file, line and field of the first thing that is wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from llm2comp_apps.corpus import Record, read_records
from llm2comp_apps.errors import EvaluationError

__all__ = [
    "ClusteringData",
    "LabelledData",
    "PairData",
    "RerankingData",
    "RetrievalData",
    "read_clustering",
    "read_labelled",
    "read_pairs",
    "read_reranking",
    "read_retrieval",
    "read_rows",
]


@dataclass(frozen=True, slots=True)
class PairData:
    """n sentence pairs with a number each: graded similarity (STS) or 1/0 for paraphrase or not."""

    first: list[str]
    second: list[str]
    gold: list[float]


@dataclass(frozen=True, slots=True)
class LabelledData:
    """Labelled texts, a training part for the classifier and a test part for its accuracy."""

    train_texts: list[str]
    train_labels: list[str]
    test_texts: list[str]
    test_labels: list[str]


@dataclass(frozen=True, slots=True)
class ClusteringData:
    """Texts and the class of each, which the clusters are compared with."""

    texts: list[str]
    labels: list[str]


@dataclass(frozen=True, slots=True)
class RerankingData:
    """Queries, each with its own relevant and irrelevant candidates."""

    queries: list[str]
    positives: list[list[str]]
    negatives: list[list[str]]


@dataclass(frozen=True, slots=True)
class RetrievalData:
    """A corpus, queries over it and graded judgements ``qrels[query id][document id]``."""

    corpus: dict[str, str]
    queries: dict[str, str]
    qrels: dict[str, dict[str, int]]


def read_rows(path: Path) -> Iterator[Record]:
    """The rows of one data file (JSON lines or TSV, compressed or not), through the corpus room's reader.

    Raises:
        CorpusError: the file or a row is broken; with file and line.
    """
    return read_records([str(path)])


def _text(row: Record, name: str) -> str:
    value = row.fields.get(name)
    if not isinstance(value, str):
        raise EvaluationError(f"{row.place}: field {name!r} must be a string, found {value!r:.60}")
    return value


def _texts(row: Record, name: str) -> list[str]:
    value = row.fields.get(name)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise EvaluationError(f"{row.place}: field {name!r} must be a list of strings, found {value!r:.60}")
    return value


def _number(row: Record, name: str) -> float:
    value = row.fields.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise EvaluationError(f"{row.place}: field {name!r} must be a number, found {value!r:.60}")
    return float(value)


def _not_empty(count: int, path: Path) -> None:
    if count == 0:
        raise EvaluationError(f"{path}: no rows; an evaluation set needs at least one")


def read_pairs(path: Path, gold: str) -> PairData:
    """Read ``{"sentence1", "sentence2", gold}`` rows; ``gold`` is ``"score"`` or ``"label"``."""
    data = PairData([], [], [])
    for row in read_rows(path):
        data.first.append(_text(row, "sentence1"))
        data.second.append(_text(row, "sentence2"))
        data.gold.append(_number(row, gold))
    _not_empty(len(data.gold), path)
    return data


def _read_labels(path: Path) -> tuple[list[str], list[str]]:
    texts, labels = [], []
    for row in read_rows(path):
        texts.append(_text(row, "text"))
        label = row.fields.get("label")
        if not isinstance(label, (str, int)):
            raise EvaluationError(f"{row.place}: field 'label' must be a string or an integer, found {label!r:.60}")
        labels.append(str(label))
    _not_empty(len(texts), path)
    return texts, labels


def read_labelled(train: Path, test: Path) -> LabelledData:
    """Read the ``{"text", "label"}`` rows of a classification set's two files."""
    return LabelledData(*_read_labels(train), *_read_labels(test))


def read_clustering(path: Path) -> ClusteringData:
    """Read the ``{"text", "label"}`` rows of a clustering set."""
    return ClusteringData(*_read_labels(path))


def read_reranking(path: Path) -> RerankingData:
    """Read ``{"query", "positive": [..], "negative": [..]}`` rows; each needs at least one of both kinds."""
    data = RerankingData([], [], [])
    for row in read_rows(path):
        positive, negative = _texts(row, "positive"), _texts(row, "negative")
        if not positive or not negative:
            raise EvaluationError(f"{row.place}: a query needs at least one positive and one negative candidate")
        data.queries.append(_text(row, "query"))
        data.positives.append(positive)
        data.negatives.append(negative)
    _not_empty(len(data.queries), path)
    return data


def read_retrieval(corpus: Path, queries: Path, qrels: Path) -> RetrievalData:
    """Read a BEIR-form retrieval set; documents are ``title + " " + text``, queries without judgements are left out."""
    judgements = _read_qrels(qrels)
    documents: dict[str, str] = {}
    for row in read_rows(corpus):
        title = _text(row, "title") if row.fields.get("title") else ""
        documents[_text(row, "_id")] = f"{title} {_text(row, 'text')}".strip()
    asked: dict[str, str] = {}
    for row in read_rows(queries):
        identifier = _text(row, "_id")
        if identifier in judgements:
            asked[identifier] = _text(row, "text")
    _not_empty(len(documents), corpus)
    if not asked:
        raise EvaluationError(f"{queries}: none of its queries is judged in {qrels}; check that the ids agree")
    return RetrievalData(documents, asked, {query: judgements[query] for query in asked})


def _read_qrels(path: Path) -> dict[str, dict[str, int]]:
    # Not through the corpus room: it turns cells into numbers, and "007" is an id.
    judgements: dict[str, dict[str, int]] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise EvaluationError(f"{path}: cannot be read: {error}") from error
    for number, line in enumerate(lines, start=1):
        fields = line.split("\t")
        if number == 1 and fields[-1].strip() == "score":
            continue
        try:
            query, document, score = fields
            judgements.setdefault(query, {})[document] = int(score)
        except ValueError as error:
            raise EvaluationError(
                f"{path}:{number}: expected query-id<TAB>corpus-id<TAB>integer, found {line!r:.80}"
            ) from error
    return judgements
