"""Evaluation data: what a dataset looks like in memory and how its files are read.

The forms are plain (see ``README.md`` beside this file): JSON lines, gzip-compressed or not, and a tab-separated
``qrels.tsv``. Every reader names file, line and field of the first thing that is wrong.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from llm2comp_apps.corpus import CorpusOptions, Record, read_records
from llm2comp_apps.corpus.files import HEAD_BYTES
from llm2comp_apps.corpus.sniff import encoding_of
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
    """A corpus, queries over it and graded judgements.

    Attributes:
        corpus: texts by document id.
        queries: texts by query id.
        qrels: ``qrels[query id][document id]`` is the grade.
        in_corpus: queries that stand in the corpus under their own id; that document is no hit of theirs.
        titles: by document id, of those that have one; their texts begin with it.
    """

    corpus: dict[str, str]
    queries: dict[str, str]
    qrels: dict[str, dict[str, int]]
    in_corpus: frozenset[str] = frozenset()
    titles: dict[str, str] = field(default_factory=dict)


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


def _id(row: Record) -> str:
    """An id as everywhere else: a string or an integer."""
    value = row.fields.get("_id")
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise EvaluationError(f"{row.place}: field '_id' must be a string or an integer, found {value!r:.60}")
    return str(value)


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
    """Read ``{"query", "positive": [..], "negative": [..]}`` rows.

    Raises:
        EvaluationError: no rows, or one that lacks a candidate of either kind.
    """
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


def read_retrieval(corpus: Path, queries: Path, qrels: Path, *, ignore_identical_ids: bool = False) -> RetrievalData:
    """Read a BEIR-form retrieval set; documents are ``title + " " + text``, queries without judgements are left out.

    Args:
        corpus: the documents.
        queries: the queries.
        qrels: the judgements.
        ignore_identical_ids: a document with the id of a query is the query itself, and no hit of it. Where this is
            not said, it is so for a document that also has the query's text and is not judged to answer it.

    Raises:
        EvaluationError: a row is broken, an id stands for two texts or a pair for two grades, or the ids of the three
            files do not meet.
    """
    judgements = _read_qrels(qrels)
    documents: dict[str, str] = {}
    titles: dict[str, str] = {}
    untitled: dict[str, str] = {}  # the texts of documents that have the id of a query
    for identifier, (title, text) in _rows_by_id(corpus).items():
        documents[identifier] = f"{title} {text}".strip()
        if title.strip():
            titles[identifier] = title.strip()
        if identifier in judgements:
            untitled[identifier] = text
    asked = {identifier: text for identifier, (_, text) in _rows_by_id(queries).items() if identifier in judgements}
    _not_empty(len(documents), corpus)
    if not asked:
        raise EvaluationError(f"{queries}: none of its queries is judged in {qrels}; check that the ids agree")
    kept = {query: judgements[query] for query in asked}
    _check_judged(kept, documents, corpus, qrels)

    def is_itself(query: str) -> bool:
        if query not in untitled or ignore_identical_ids:
            return query in untitled
        same = asked[query].strip() in (untitled[query].strip(), documents[query])
        return same and kept[query].get(query, 0) <= 0

    return RetrievalData(documents, asked, kept, frozenset(filter(is_itself, asked)), titles)


def _rows_by_id(path: Path) -> dict[str, tuple[str, str]]:
    """Title and text by id; the same row again is passed over."""
    found: dict[str, tuple[str, str]] = {}
    for row in read_rows(path):
        identifier = _id(row)
        content = (_text(row, "title") if row.fields.get("title") else "", _text(row, "text"))
        if found.setdefault(identifier, content) != content:
            raise EvaluationError(f"{row.place}: the id {identifier!r} already stands for another text")
    return found


def _check_judged(judgements: dict[str, dict[str, int]], documents: dict[str, str], corpus: Path, qrels: Path) -> None:
    """Judgements of documents that are not there can never be met: none that can is an error, some are a warning."""
    judged = {document for grades in judgements.values() for document in grades}
    absent = judged - documents.keys()
    if len(absent) == len(judged):
        raise EvaluationError(f"{qrels}: none of its documents is in {corpus}; check that the ids agree")
    if absent:
        line = f"{qrels}: {len(absent)} of {len(judged)} judged documents are not in {corpus}, such as {min(absent)!r}"
        warnings.warn(line, stacklevel=2)


def _read_qrels(path: Path) -> dict[str, dict[str, int]]:
    # Not through the corpus room: it turns cells into numbers, and "007" is an id.
    judgements: dict[str, dict[str, int]] = {}
    try:
        data = path.read_bytes()
        text = data.decode(encoding_of(data[:HEAD_BYTES], CorpusOptions()))
    except (OSError, UnicodeDecodeError) as error:
        raise EvaluationError(f"{path}: cannot be read: {error}") from error
    # Not splitlines(), for which U+2028 inside an id ends a line.
    lines = text.replace("\r\n", "\n").removesuffix("\n").split("\n") if text else []
    for number, line in enumerate(lines, start=1):
        fields = line.split("\t")
        if not line.strip() or (number == 1 and not any(map(str.isdigit, fields[-1]))):
            continue  # an empty line, or the names of the columns
        try:
            query, document, score = fields
            grade = int(score)
        except ValueError as error:
            raise EvaluationError(
                f"{path}:{number}: expected query-id<TAB>corpus-id<TAB>integer, found {line!r:.80}"
            ) from error
        if judgements.setdefault(query, {}).setdefault(document, grade) != grade:
            earlier = judgements[query][document]
            raise EvaluationError(
                f"{path}:{number}: document {document!r} is judged {grade} for query {query!r}, and {earlier} before"
            )
    return judgements
