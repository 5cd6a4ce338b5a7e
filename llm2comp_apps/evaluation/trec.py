"""Scores of a run that any program wrote, against judgements.

Runs are in TREC form (``query Q0 document rank score tag``) or JSON lines (``query_id``, and ``hits`` with ``id`` and
``score``; of several passages of a document, the best counts). Judgements are in TREC form (``query 0 document grade``)
or BEIR's table (``query-id corpus-id score``). Columns are parted by tabs where a line has all of them so, else by
white space, which no id may hold then. A judged query that the run lacks counts 0, as in ``trec_eval -c``. Ranks are
made of the scores.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llm2comp_apps.errors import CorpusError
from llm2comp_apps.evaluation.metrics import average_precision, mean_of, ndcg, rank_order, recall, reciprocal_rank

__all__ = ["RunScores", "read_judgements", "read_run", "score_run"]

Scores = dict[str, dict[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunScores:
    """What a run is worth.

    Attributes:
        means: of each measure over all judged queries, from 0 to 1.
        queries: the measures of each query.
        missing: judged queries that the run lacks, which count 0.
        unjudged: queries of the run without a relevant document in the judgements, which count nothing.
    """

    means: dict[str, float]
    queries: dict[str, dict[str, float]]
    missing: int
    unjudged: int


def score_run(run: Scores, judgements: dict[str, dict[str, int]]) -> RunScores:
    """nDCG@10, MAP, MRR@10, recall@100 of a run.

    Raises:
        CorpusError: no query has a relevant document, or the run and the judgements share no query.
    """
    judged = {query: grades for query, grades in judgements.items() if max(grades.values()) > 0}
    if not judged:
        raise CorpusError("the judgements name no relevant document")
    if not judged.keys() & run.keys():
        raise CorpusError(f"the run answers none of the {len(judged)} judged queries: do the ids of queries match?")
    queries = {query: _measures(run.get(query, {}), grades) for query, grades in judged.items()}
    return RunScores(
        means=mean_of(list(queries.values())),
        queries=queries,
        missing=len(judged.keys() - run.keys()),
        unjudged=len(run.keys() - judged.keys()),
    )


def _measures(scores: dict[str, float], grades: dict[str, int]) -> dict[str, float]:
    documents = sorted(scores)
    order = rank_order(np.array([scores[name] for name in documents]), np.arange(len(documents)))
    gains = np.array([grades.get(documents[place], 0) for place in order], dtype=np.float64)
    judged = np.array(list(grades.values()), dtype=np.float64)
    return {
        "ndcg@10": ndcg(gains, judged, 10),
        "map": average_precision(gains, judged),
        "mrr@10": reciprocal_rank(gains, 10),
        "recall@100": recall(gains, judged, 100),
    }


def read_run(path: Path) -> Scores:
    """Scores by query and document.

    Raises:
        CorpusError: the file is missing or empty, or a line of it is no line of a run, or gives a document of a query
            another score than before; with file and line.
    """
    run: Scores = {}
    for number, line in _lines(path):
        try:
            if line.startswith("{"):
                row = json.loads(line)
                query, found = (
                    str(row["query_id"]),
                    _best((str(hit["id"]), _score(hit["score"])) for hit in row["hits"]),
                )
            else:
                query, _, document, _, score, *_ = _columns(line, 5, 6)
                found = {document: _score(score)}
        except (ValueError, KeyError, TypeError) as error:
            raise CorpusError(f"{path}:{number}: no line of a run: query Q0 document rank score tag") from error
        ranked = run.setdefault(query, {})
        for document, value in found.items():
            if ranked.setdefault(document, value) != value:
                reason = (
                    f"document {document!r} has the score {value} for query {query!r}, and {ranked[document]} before"
                )
                raise CorpusError(f"{path}:{number}: {reason}")
    if not run:
        raise CorpusError(f"{path}: no line in it")
    return run


def read_judgements(path: Path) -> dict[str, dict[str, int]]:
    """Grades by query and document.

    Raises:
        CorpusError: the file is missing or empty, or a line of it judges nothing, or gives a document of a query
            another grade than before; with file and line.
    """
    judgements: dict[str, dict[str, int]] = {}
    for number, line in _lines(path):
        try:
            query, *_, document, grade = _columns(line, 3, 4)
            if number == 1 and not any(map(str.isdigit, grade)):
                continue  # the names of BEIR's columns
            value = int(grade)
        except ValueError as error:
            columns = "query 0 document grade, or query-id corpus-id score"
            reason = f"no judgement: {columns}, between tabs or blanks, with a whole number at the end"
            raise CorpusError(f"{path}:{number}: {reason}") from error
        earlier = judgements.setdefault(query, {}).setdefault(document, value)
        if earlier != value:
            reason = f"document {document!r} is judged {value} for query {query!r}, and {earlier} before"
            raise CorpusError(f"{path}:{number}: {reason}")
    if not judgements:
        raise CorpusError(f"{path}: no judgement in it")
    return judgements


def _best(passages: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Each document with the score of its best passage: a search for passages has a document more than once."""
    best: dict[str, float] = {}
    for document, score in passages:
        best[document] = max(score, best.get(document, score))
    return best


def _score(value: Any) -> float:
    """A score that has a place among others.

    Raises:
        ValueError: it is no number.
    """
    score = float(value)
    if math.isnan(score):
        raise ValueError(value)
    return score


def _columns(line: str, *counts: int) -> list[str]:
    """The columns of a line that has one of these numbers of them.

    Raises:
        ValueError: it has another number, as where an id has a space.
    """
    for columns in ([column.strip() for column in line.split("\t")], line.split()):
        if len(columns) in counts:
            return columns
    raise ValueError(line)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    try:
        with path.open(encoding="utf-8-sig") as file:
            yield from ((number, line.strip()) for number, line in enumerate(file, start=1) if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
