"""Let an index learn from queries whose answers are known: what `retrieval` learns, by what `evaluation` measures.

    from llm2comp_apps import Collection, tune_index

    with Collection.open("library.index") as library:
        report = tune_index(library, "train-queries.jsonl", "train-qrels.tsv", rerank="ltr")
    print(report.learned, report.kept)

Nothing is kept that does not win on queries which took no part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING

from llm2comp_apps.corpus.document import Document
from llm2comp_apps.errors import UsageError
from llm2comp_apps.evaluation.trec import read_judgements, score_run
from llm2comp_apps.retrieval.collection import Collection
from llm2comp_apps.retrieval.ltr_tuning import tune_ranking
from llm2comp_apps.retrieval.query_file import read_queries
from llm2comp_apps.retrieval.rerank import LTR
from llm2comp_apps.retrieval.tuning import answer_warnings, tune_fusion

if TYPE_CHECKING:
    from llm2comp_apps.retrieval.ltr_tuning import RankingReport
    from llm2comp_apps.retrieval.tuning import Run, TuningReport

__all__ = ["tune_index"]


def tune_index(
    library: Collection,
    queries: str | Path | Iterable[Document],
    qrels: str | Path | Mapping[str, Mapping[str, int]],
    *,
    rerank: str | None = None,
    on_progress: Callable[[int], None] | None = None,
    on_warning: Callable[[str], None] | None = None,
) -> TuningReport | RankingReport:
    """Learn by nDCG@10, and keep in the index what wins on queries that took no part.

    Args:
        library: an index; nobody else may be writing to it.
        queries: for training, never those of a test: documents whose text is asked, or a file of them.
        qrels: how well documents answer each query, by their ids, above 0 for relevant; or a file in TREC's or BEIR's
            form.
        rerank: ``None`` for the weights of meaning and words, which searches with ``fusion="learned"`` take; the name
            of a reranker for its weight, too; ``"ltr"`` for that reranker itself.
        on_progress: called with the number of queries searched.
        on_warning: called with what may not be meant so: documents that are judged, and not in the index.

    Raises:
        CorpusError: a file cannot be read.
        UsageError: fewer than 20 queries have a relevant document, or the index holds none of these; a query is empty
            or there twice, or a grade is no whole number.
        EncoderError: the encoder or the reranker cannot be loaded.
        IndexStoreError: the index cannot be written to.
    """
    if not isinstance(library, Collection):
        raise UsageError(f"must be an open Collection, not {library!r:.60}", field="library")
    asked = read_queries(Path(queries)) if isinstance(queries, str | Path) else _checked_queries(queries)
    judged = read_judgements(Path(qrels)) if isinstance(qrels, str | Path) else _checked_grades(qrels)

    def ndcg(run: Run) -> dict[str, float]:
        found = score_run(run, {query: judged[query] for query in run})
        return {query: measures["ndcg@10"] for query, measures in found.queries.items()}

    every = {query: {id_ for id_, grade in grades.items() if grade > 0} for query, grades in judged.items()}
    answers = {query: ids for query, ids in every.items() if ids}
    for line in answer_warnings(library.index, asked, answers):
        if on_warning is not None:
            on_warning(line)
    if rerank == LTR:
        return tune_ranking(library, asked, ndcg, answers, on_progress=on_progress)
    return tune_fusion(library, asked, ndcg, answers, rerank=rerank, on_progress=on_progress)


def _checked_queries(queries: Iterable[Document]) -> list[Document]:
    """Queries that are given as documents, as strictly as those of a file: one that counts twice would weigh twice."""
    asked: dict[str, Document] = {}
    for query in queries:
        if not isinstance(query, Document):
            raise UsageError(f"must each be a Document(id, text), not {query!r:.60}", field="queries")
        if query.id in asked:
            raise UsageError(f"names {query.id!r:.60} twice", field="queries")
        if not query.content.strip():
            raise UsageError(f"has no text for {query.id!r:.60}", field="queries")
        asked[query.id] = query
    return list(asked.values())


def _checked_grades(qrels: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    """Judgements that are given as a mapping."""
    if not isinstance(qrels, Mapping) or not all(isinstance(grades, Mapping) for grades in qrels.values()):
        raise UsageError("must give a mapping from ids of documents to grades for the id of each query", field="qrels")
    for query, grades in qrels.items():
        for document, grade in grades.items():
            if not isinstance(grade, Integral):
                reason = f"grades {document!r:.60} for {query!r:.60} by {grade!r:.60}, which is no whole number"
                raise UsageError(reason, field="qrels")
    return {query: dict(grades) for query, grades in qrels.items()}
