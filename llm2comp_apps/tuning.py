"""Let an index learn from queries whose answers are known: what `retrieval` learns, by what `evaluation` measures.

    from llm2comp_apps import Collection, tune_index

    with Collection.open("library.index") as library:
        report = tune_index(library, "train-queries.jsonl", "train-qrels.tsv", rerank="ltr")
    print(report.learned, report.kept)

Nothing is kept that does not win on queries which took no part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from llm2comp_apps.evaluation.trec import read_judgements, score_run
from llm2comp_apps.retrieval.ltr_tuning import tune_ranking
from llm2comp_apps.retrieval.query_file import read_queries
from llm2comp_apps.retrieval.rerank import LTR
from llm2comp_apps.retrieval.tuning import answer_warnings, tune_fusion

if TYPE_CHECKING:
    from llm2comp_apps.corpus.document import Document
    from llm2comp_apps.retrieval.collection import Collection
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
        UsageError: fewer than 20 queries have a relevant document, or the index holds none of these.
        EncoderError: the encoder or the reranker cannot be loaded.
        IndexStoreError: the index cannot be written to.
    """
    asked = read_queries(Path(queries)) if isinstance(queries, str | Path) else list(queries)
    judged = read_judgements(Path(qrels)) if isinstance(qrels, str | Path) else {q: dict(qrels[q]) for q in qrels}

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
