from __future__ import annotations

import io

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given
from hypothesis import strategies as st

from llm2comp_apps import Collection, Document
from llm2comp_apps.errors import UsageError
from llm2comp_apps.retrieval.options import SearchOptions
from llm2comp_apps.retrieval.runs import trec_lines, write_run


def test_form():
    assert list(trec_lines("q1", [("d2", 0.5), ("d1", 0.25)], tag="t")) == ["q1 Q0 d2 1 0.5 t", "q1 Q0 d1 2 0.25 t"]


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=50, unique=True))
def test_an_outside_tool_reads_the_same_order(scores):
    scores = sorted(scores, reverse=True)
    # Ids against the order of scores, so that a tie lost in printing would change what the tool sees.
    ranking = [(f"d{number:03}", float(np.float32(score))) for number, score in enumerate(scores)]
    run = pytrec_eval.parse_run(iter(line + "\n" for line in trec_lines("q", ranking)))
    assert sorted(run["q"], key=run["q"].get, reverse=True) == [document for document, _ in ranking]
    best = {"q": {ranking[0][0]: 1}}
    measured = pytrec_eval.RelevanceEvaluator(best, {"recip_rank"}).evaluate(run)
    assert measured["q"]["recip_rank"] == 1.0


@pytest.mark.parametrize(
    ("query", "document", "kind"), [("q 1", "d", "query"), ("q", "a b", "document"), ("q", "", "document")]
)
def test_ids_that_the_form_cannot_hold_are_refused(query, document, kind):
    with pytest.raises(UsageError, match=f"{kind} id .*`format=json`"):
        list(trec_lines(query, [(document, 1.0)]))


@pytest.mark.parametrize(
    ("name", "tag"),
    [(None, "llm2comp-hybrid"), ("ltr", "llm2comp-hybrid-ltr"), ("runs/my own", "llm2comp-hybrid-my-own")],
)
def test_a_run_is_told_from_one_without_a_reranker(tmp_path, hash_encoder, name, tag):
    with Collection.create(tmp_path / "a.index", encoder=hash_encoder) as library:
        library.update([Document("d1", "gas")])
        searcher = library.searcher(rerank="ltr" if name else None)
        searcher._reranker_name = name
        write_run(file := io.StringIO(), searcher, SearchOptions(), [Document("q", "gas")])
    assert file.getvalue().split()[-1] == tag
