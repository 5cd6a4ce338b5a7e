"""Scores of runs, against pytrec_eval and by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
import pytrec_eval

from llm2comp_apps.errors import CorpusError
from llm2comp_apps.evaluation.trec import read_judgements, read_run, score_run


def test_scores_are_those_of_trec_eval():
    rng = np.random.default_rng(0)
    names = [f"d{n}" for n in range(40)]
    judged = {f"q{q}": {str(name): int(rng.integers(0, 3)) for name in rng.choice(names, 9)} for q in range(20)}
    judged = {query: {**grades, "d0": 1} for query, grades in judged.items()}
    run = {query: {str(name): float(rng.integers(0, 9)) for name in rng.choice(names, 25)} for query in judged}
    found = score_run(run, judged)
    measures = {"ndcg@10": "ndcg_cut_10", "map": "map", "recall@100": "recall_100"}
    outside = pytrec_eval.RelevanceEvaluator(judged, {"ndcg_cut.10", "map", "recall.100"}).evaluate(run)
    for ours, theirs in measures.items():
        assert found.means[ours] == pytest.approx(np.mean([outside[query][theirs] for query in judged]))


def test_a_missing_query_counts_nothing_and_an_unjudged_one_is_left_out():
    found = score_run({"a": {"x": 1.0}, "c": {"x": 1.0}}, {"a": {"x": 1}, "b": {"x": 1}, "c": {"x": 0}})
    assert found.means["ndcg@10"] == found.means["mrr@10"] == 0.5
    assert (found.missing, found.unjudged) == (1, 1)
    with pytest.raises(CorpusError, match="answers none of the 1 judged queries"):
        score_run({"z": {"x": 1.0}}, {"a": {"x": 1}})
    with pytest.raises(CorpusError, match="no relevant document"):
        score_run({"a": {"x": 1.0}}, {"a": {"x": 0}})


def test_both_forms_of_either_file_are_read(tmp_path):
    trec, lines = tmp_path / "run.trec", tmp_path / "run.jsonl"
    trec.write_text("q1 Q0 d1 1 2.5 tag\nq1 Q0 d2 2 -1 tag\n\n")
    lines.write_text(json.dumps({"query_id": "q1", "hits": [{"id": "d1", "score": 2.5}, {"id": "d2", "score": -1}]}))
    assert read_run(trec) == read_run(lines) == {"q1": {"d1": 2.5, "d2": -1.0}}
    beir, classic = tmp_path / "qrels.tsv", tmp_path / "qrels.txt"
    beir.write_text("\ufeffquery-id\tcorpus-id\tscore\nq1\td1\t2\n")
    classic.write_text("q1 0 d1 2\n")
    assert read_judgements(beir) == read_judgements(classic) == {"q1": {"d1": 2}}


def test_a_document_counts_by_its_best_passage(tmp_path):
    run = tmp_path / "run.jsonl"
    hits = [{"id": name, "score": score, "span": [0, 1]} for name, score in (("a", 3), ("b", 2), ("a", 1), ("b", 2.5))]
    run.write_text(json.dumps({"query_id": "q", "hits": hits}))
    assert read_run(run) == {"q": {"a": 3.0, "b": 2.5}}


def test_the_same_line_again_changes_nothing(tmp_path):
    run, qrels = tmp_path / "run", tmp_path / "qrels"
    run.write_text("q1 Q0 d1 1 0.5 tag\n" * 2)
    qrels.write_text("q1 0 d1 2\n" * 2)
    assert read_run(run) == {"q1": {"d1": 0.5}}
    assert read_judgements(qrels) == {"q1": {"d1": 2}}


def test_ids_with_spaces_are_whole_between_tabs(tmp_path):
    run, qrels = tmp_path / "run", tmp_path / "qrels.tsv"
    run.write_text("q 1\tQ0\tmy d1\t1\t0.5\ttag\n")
    assert read_run(run) == {"q 1": {"my d1": 0.5}}
    for line in ("query-id\tcorpus-id\tscore\nq 1\tmy d1\t2\n", "q 1\t0\tmy d1\t2\n"):
        qrels.write_text(line)
        assert read_judgements(qrels) == {"q 1": {"my d1": 2}}


@pytest.mark.parametrize(
    ("reader", "text", "message"),
    [
        (read_run, "", "no line in it"),
        (read_run, "q1 Q0 d1 1 2.5 tag\nq1 d1\n", r":2: no line of a run"),
        (read_run, '{"query_id": "q"}', r":1: no line of a run"),
        (read_run, "q1 Q0 d1 1 nan tag\n", r":1: no line of a run"),
        (read_run, '{"query_id": "q", "hits": [{"id": "d", "score": NaN}]}', r":1: no line of a run"),
        (
            read_run,
            "q1 Q0 d1 1 9 tag\nq1 Q0 d1 2 1 tag\n",
            r":2: document 'd1' has the score 1.0 for query 'q1', and 9.0",
        ),
        (read_judgements, "q1 0 d1 1\nq1 0 d1 0\n", r":2: document 'd1' is judged 0 for query 'q1', and 1 before"),
        (read_judgements, "query-id corpus-id score\n", "no judgement in it"),
        (read_run, "q1 Q0 my d1 1 2.5 tag\n", r":1: no line of a run"),
        (read_judgements, "q1 0 d1 1\nq1 0 d1 high\n", ":2: no judgement"),
        (read_judgements, "q1 0 my d1 1\n", ":1: no judgement"),
        (read_judgements, "q1,d1,1\n", ":1: no judgement: .* between tabs or blanks"),
        (read_judgements, "q1 0 d1 1.0\n", ":1: no judgement: .* a whole number at the end"),
        (read_judgements, "q1\td1\t1.5\nq1\td2\t1\n", ":1: no judgement"),
    ],
)
def test_what_is_no_such_file_is_named_with_its_line(tmp_path, reader, text, message):
    path = tmp_path / "file"
    path.write_text(text)
    with pytest.raises(CorpusError, match=message):
        reader(path)
    with pytest.raises(CorpusError, match="cannot be read"):
        reader(tmp_path / "none")
