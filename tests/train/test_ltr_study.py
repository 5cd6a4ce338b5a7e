"""``train/studies/ltr.py``: what the sets hold, and that the network learns from them what there is to learn."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from llm2comp_apps.retrieval.rerank.ltr import SHIPPED, Network
from llm2comp_apps.retrieval.rerank.ltr_features import FEATURES

STUDIES = Path(__file__).parents[2] / "train" / "studies"
WORDS = ["cells", "stars", "bread", "rivers", "metals", "birds", "waves", "atoms", "roads", "songs"]


@pytest.fixture
def ltr(monkeypatch):
    monkeypatch.syspath_prepend(str(STUDIES))
    import ltr

    yield ltr
    for name in ("ltr", "ltr_sets"):
        sys.modules.pop(name, None)


def text(place, part):
    words = [f"{WORDS[(place + shift) % 10]}{place}" for shift in range(4)]
    return (
        f"Of {' and '.join(words)} there is much to say in part {part}. "
        + f"More of {words[0]} follows here soon. " * 3
    )


@pytest.fixture
def data(tmp_path, ltr):
    def write(name, rows):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with gzip.open(path, "wt") as lines:
            lines.writelines(json.dumps(row) + "\n" for row in rows)

    pairs = [{"query": f"What is (are) {WORDS[n // 5]}{n // 5} ?", "positive": text(n // 5, n)} for n in range(40)]
    for name in (
        *("boolq_dev_question_passage", "nq_question_passage", "qnli_dev", "fm2_claim_evidence", "disfl_qa", "medquad"),
        *("snli_devtest_triplets", "scitldr_tldr_abstract", "textbook_glossary", "factbook_topic_text"),
        "wikipedia_heading_paragraph",
    ):
        write(f"train/pairs/{name}.jsonl.gz", pairs)
    paragraphs = [
        {"title": f"{WORDS[n // 12]} {n // 12}", "section": f"{WORDS[n % 2]} of them", "text": text(n // 6, n)}
        for n in range(120)
    ]
    for name in ("textbooks_openstax2014", "wikipedia_sample"):
        write(f"train/paragraphs/{name}.jsonl.gz", paragraphs)
    scifact = "eval/retrieval/scifact"
    write(f"{scifact}/corpus.jsonl.gz", [{"_id": f"d{n}", "title": WORDS[n], "text": text(n, 0)} for n in range(10)])
    write(f"{scifact}/train_queries.jsonl.gz", [{"_id": f"q{n}", "text": f"{WORDS[n]}{n}"} for n in range(10)])
    qrels = ["query-id\tcorpus-id\tscore", *(f"q{n}\td{n}\t1" for n in range(10)), "q0\td1\t0"]
    (tmp_path / scifact / "train_qrels.tsv").write_text("\n".join(qrels) + "\n")
    return tmp_path


def test_answers_are_in_the_corpus_and_queries_are_not(ltr, data):
    sets = {each.name: each for each in ltr.judged_sets(data)}
    assert len(sets) == 18
    for made in sets.values():
        assert made.queries, made.name
        ids = {document.id for document in made.documents()}
        for query, answers in made.queries:
            assert set(answers) <= ids, made.name
            assert query.strip()
    for name in ("sentences of sections", "sentences of articles", "beginnings"):
        made = sets[name]
        for query, answers in made.queries:
            assert all(query not in made.texts[int(answer)] for answer in answers), "what is asked was taken out"
    assert all(len(answers) >= 4 for _, answers in sets["sections"].queries)


def learnable(ltr, name, kind, column, count=80):
    """A set whose answer is the hit with the most of one feature."""
    rows = np.random.default_rng(len(name)).random((count, ltr.DEPTH, len(FEATURES))).astype(np.float32)
    hits = np.full(count, 60)
    rows[:, 60:] = 0
    answers = np.zeros((count, ltr.DEPTH), bool)
    answers[np.arange(count), rows[:, :, FEATURES.index(column)].argmax(1)] = True
    return ltr.Judged(name, kind, rows, answers, hits, np.ones(count, int))


def test_the_network_learns_what_answers_have(ltr, monkeypatch):
    monkeypatch.setattr(ltr, "_STEPS", 120)
    sets = [learnable(ltr, name, name, "BM25") for name in ("a", "bb", "ccc")]
    first = FEATURES.index("first search")
    plain = np.mean([ltr.ndcg(each, lambda rows: rows[:, first]) for each in sets])
    tried = ltr.tried(sets)
    assert set(tried) == {"a", "bb", "ccc"}
    assert min(tried.values()) > plain + 25, "on kinds that it has not seen"


def test_gains_are_those_of_the_measure(ltr):
    judged = learnable(ltr, "a", "a", "BM25", count=5)
    assert ltr.ndcg(judged, lambda rows: rows[:, FEATURES.index("BM25")]) == 100
    worst = ltr.ndcg(judged, lambda rows: -rows[:, FEATURES.index("BM25")])
    assert worst == 0, "the answer is the last of sixty"


def test_the_whole_study_at_toy_size(ltr, data, tmp_path, monkeypatch, hash_encoder, capsys):
    monkeypatch.setattr(ltr, "_STEPS", 3)
    opened = ltr.Collection.create
    monkeypatch.setattr(ltr.Collection, "create", lambda path, encoder: opened(path, encoder=hash_encoder))
    arguments = ["ltr.py", "--data", str(data), "--out", str(tmp_path / "out"), "--write", str(tmp_path / "made.json")]
    monkeypatch.setattr(sys, "argv", arguments)
    assert ltr.main() == 0
    table = capsys.readouterr().out
    assert "| scifact, train | 10 |" in table
    assert "| mean | |" in table
    made, shipped = Network.read(tmp_path / "made.json"), Network.read(SHIPPED)
    for name in ("linear", "inner", "bias", "outer"):
        assert getattr(made, name).shape == getattr(shipped, name).shape
    monkeypatch.setattr(ltr.Collection, "create", None)
    assert ltr.main() == 0, "what is kept is not made again"
    assert capsys.readouterr().out == table
