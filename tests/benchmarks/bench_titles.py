"""How often a title's words should count: nDCG@10 by words and by both, for several numbers of times.

    python tests/benchmarks/bench_titles.py scifact.index SCIFACT/train_queries.jsonl.gz SCIFACT/train_qrels.tsv
    python tests/benchmarks/bench_titles.py boolq.index --boolq DATA/train/pairs/boolq_dev_question_passage.jsonl.gz

The words of a copy of the index are indexed again for each number. ``--boolq`` asks BoolQ's questions of Wikipedia's
passages, whose titles stand before a dash; where the index is not there, it is made of them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import llm2comp_indexes.lexical
from bench_search_quality import measure, read_qrels

from llm2comp_apps import Collection, Document, read_corpus
from llm2comp_apps.corpus import read_records
from llm2comp_apps.retrieval.options import SearchOptions

TIMES = (1, 2, 3, 4, 5, 7)


def read_boolq(path: Path) -> tuple[list[Document], dict[str, str], dict[str, dict[str, int]]]:
    """Passages, questions and judgements."""
    passages: dict[str, Document] = {}
    queries, qrels = {}, {}
    for number, record in enumerate(read_records([str(path)])):
        whole = str(record.fields["positive"])
        title, _, text = whole.partition(" -- ")
        passage = passages.setdefault(whole, Document(str(len(passages)), text, title))
        queries[f"q{number}"] = str(record.fields["query"])
        qrels[f"q{number}"] = {passage.id: 1}
    return list(passages.values()), queries, qrels


def main() -> None:
    """Print one JSON object a line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index", type=Path)
    parser.add_argument("queries", type=Path, nargs="?")
    parser.add_argument("qrels", type=Path, nargs="?")
    parser.add_argument("--boolq", type=Path)
    parser.add_argument("--times", type=int, nargs="+", default=TIMES)
    options = parser.parse_args()
    if options.boolq:
        passages, queries, qrels = read_boolq(options.boolq)
        if not options.index.exists():
            with Collection.create(options.index) as library:
                library.update(passages)
    else:
        qrels = {query: grades for query, grades in read_qrels(options.qrels).items() if any(grades.values())}
        texts = {query.id: query.content for query in read_corpus([str(options.queries)])}
        queries = {query: texts[query] for query in qrels}
    for times in options.times:
        llm2comp_indexes.lexical._TITLE = times
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "copy.index"
            shutil.copytree(options.index, copy)
            with Collection.open(copy) as library:
                library.compact()
                row = {
                    mode: round(
                        100
                        * measure(library.searcher(), SearchOptions(k=100, mode=mode), queries, qrels)["ndcg_cut_10"],
                        2,
                    )
                    for mode in ("lexical", "hybrid")
                }
        print(json.dumps({"index": options.index.name, "queries": len(queries), "times": times, **row}), flush=True)


if __name__ == "__main__":
    main()
