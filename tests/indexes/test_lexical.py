"""BM25: safe for any text, independent of how documents were committed, never searched when doubtful."""

from __future__ import annotations

import csv
import gzip
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from llm2comp_indexes import DamageWarning, Index, IndexedDocument, matching_spans
from llm2comp_indexes.lexical import analyzer
from llm2comp_indexes.operators import parse_query

WORDS = ["heart", "hearts", "cell", "cells", "the", "of", "protein", "running", "run", "über", "naïve", "x-ray"]


def texts(count: int, seed: int = 0) -> list[IndexedDocument]:
    rng = np.random.default_rng(seed)
    return [
        IndexedDocument(f"d{i}", " ".join(rng.choice(WORDS, rng.integers(1, 30))), str(rng.choice(WORDS)), {"n": i})
        for i in range(count)
    ]


def add(index: Index, documents: list[IndexedDocument]) -> None:
    with index.writer() as writer:
        writer.add(documents, np.ones((len(documents), index.dimension)))
        writer.commit()


def test_scores_do_not_depend_on_the_commits(make_index):
    documents = texts(300)
    at_once, bit_by_bit = make_index("a"), make_index("b")
    add(at_once, documents)
    for start in range(0, 300, 23):
        add(bit_by_bit, documents[start : start + 23])
    assert [hit.id for hit in at_once.search_lexical("hearts of cells", 300)]
    for query in ("hearts of cells", "protein", "run x-ray"):
        expected = at_once.search_lexical(query, 25)
        found = bit_by_bit.search_lexical(query, 25)
        assert [hit.id for hit in found] == [hit.id for hit in expected]
        np.testing.assert_allclose([hit.score for hit in found], [hit.score for hit in expected], rtol=1e-6)


def test_scores_are_bm25_with_the_words_of_titles_counted_three_times(make_index):
    """Robertson's formula with k1 = 1.2 and b = 0.75, and the always positive idf of Lucene."""
    documents = texts(60)
    index = make_index()
    add(index, documents)
    bags = [analyzer("english").analyze(" ".join([doc.title] * 3 + [doc.text])) for doc in documents]
    mean = sum(map(len, bags)) / len(bags)

    def score(bag: list[str], term: str) -> float:
        having = sum(term in other for other in bags)
        idf = np.log(1 + (len(bags) - having + 0.5) / (having + 0.5))
        frequency = bag.count(term)
        return idf * frequency * 2.2 / (frequency + 1.2 * (0.25 + 0.75 * len(bag) / mean))

    terms = analyzer("english").analyze("running hearts cells cells")
    expected = {doc.id: sum(score(bag, t) for t in terms) for doc, bag in zip(documents, bags, strict=True)}
    hits = index.search_lexical("running hearts cells cells", 60)
    assert {hit.id for hit in hits} == {id_ for id_, value in expected.items() if value > 0}
    np.testing.assert_allclose([hit.score for hit in hits], [expected[hit.id] for hit in hits], rtol=1e-4)


def test_a_word_in_the_title_counts_more_than_the_same_word_in_the_text(make_index):
    index = make_index()
    said = ("cells divide", "hearts beat"), ("hearts beat", "cells divide")
    add(index, [IndexedDocument(name, text, title) for name, (title, text) in zip("ab", said, strict=True)])
    assert [hit.id for hit in index.search_lexical("cells", 5)] == ["a", "b"]
    assert [hit.id for hit in index.search_lexical("hearts", 5)] == ["b", "a"]


def test_no_phrase_goes_from_the_end_of_a_title_to_its_beginning(make_index):
    index = make_index()
    add(index, [IndexedDocument("a", "run fast", "cells divide"), IndexedDocument("b", "divide cells", "hearts")])

    def meeting(query: str) -> set[str]:
        parsed = parse_query(query)
        return {hit.id for hit in index.search_lexical(parsed.text, 5, clauses=parsed.clauses)}

    assert meeting('"divide cells"') == {"b"}
    assert meeting('"cells divide"') == {"a"}
    assert meeting('"divide run"') == {"a"}, "from the title into the text, as they are read"


def test_words_are_folded_and_stemmed_in_every_script(make_index):
    index = make_index()
    bodies = {
        "en": "Running HEARTS",
        "fr": "Un café très naïf",
        "zh": "我喜欢机器学习",
        "ja": "東京タワー",
        "ru": "Москва",
    }
    add(index, [IndexedDocument(name, body) for name, body in bodies.items()])
    for query, name in [("run heart", "en"), ("CAFE", "fr"), ("机器", "zh"), ("タワー", "ja"), ("москва", "ru")]:
        assert [hit.id for hit in index.search_lexical(query, 5)] == [name], query


def test_another_language_or_none(make_index):
    german = make_index("de", settings={"language": "german"})
    plain = make_index("none", settings={"language": "none"})
    for index in (german, plain):
        add(index, [IndexedDocument("a", "die Häuser der Städte")])
    assert german.search_lexical("Haus Stadt", 5)
    assert not plain.search_lexical("Haus Stadt", 5)
    assert plain.search_lexical("stadte", 5)


def test_function_words_with_accents_weigh_little(make_index):
    index = make_index("de", settings={"language": "german"})
    texts = ["das Wasser", "Wege über Wege für alle", "alle Wege", "Wasser und Wein", "Wein für alle"]
    add(index, [IndexedDocument(str(number), text) for number, text in enumerate(texts)])
    assert [hit.id for hit in index.search_lexical("Wasser über für", 5)][:2] == ["0", "3"]
    assert index.query_words("Wasser über für").content == 1


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)
@given(
    query=st.one_of(
        st.text(max_size=200), st.sampled_from(['"', "a AND (b", "field:x^2~", "+ - && || ! ( ) { } [ ]", "\0"])
    )
)
def test_any_text_is_a_query(lexical_index, query):
    hits = lexical_index.search_lexical(query, 7)
    assert len(hits) <= 7
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


@pytest.fixture
def lexical_index(make_index):
    index = make_index()
    add(index, texts(50))
    return index


def test_a_pasted_article_is_a_query(lexical_index):
    article = " ".join(f"word{i}" for i in range(20_000)) + " hearts"
    assert lexical_index.search_lexical("hearts " + article, 3)


@pytest.mark.parametrize("k", [1, 5, 49, 50, 51, 1000])
def test_ties_go_to_the_earlier_document_at_any_cut(make_index, k):
    index = make_index()
    for start in range(0, 50, 10):
        add(index, [IndexedDocument(f"d{i}", "same words") for i in range(start, start + 10)])
    assert [hit.id for hit in index.search_lexical("words", k)] == [f"d{i}" for i in range(min(k, 50))]


@pytest.mark.parametrize("where", ["n < 3", "n >= 3", "n in (5, 7)", "n > 100"])
def test_filters_apply_before_the_cut(lexical_index, where):
    everything = lexical_index.search_lexical("hearts cells protein", 50)
    allowed = set(lexical_index.ids(where=where))
    expected = [hit for hit in everything if hit.id in allowed]
    for k in (1, 2, 50):
        found = lexical_index.search_lexical("hearts cells protein", k, where=where)
        assert [hit.id for hit in found] == [hit.id for hit in expected[:k]]
        np.testing.assert_allclose([hit.score for hit in found], [hit.score for hit in expected[:k]], rtol=1e-5)


def test_large_filters_go_the_other_way_round(make_index, monkeypatch):
    monkeypatch.setattr("llm2comp_indexes.lexical._FEW_DOCUMENTS", 2)
    index = make_index()
    add(index, texts(200))
    everything = index.search_lexical("hearts", 200)
    expected = [hit.id for hit in everything if int(hit.id[1:]) >= 150]
    assert [hit.id for hit in index.search_lexical("hearts", 5, where="n >= 150")] == expected[:5]


def test_matching_words_can_be_marked():
    text = "Hearts and naïve cells: the heart."
    assert [text[a:b] for a, b in matching_spans("heart NAIVE", text)] == ["Hearts", "naïve", "heart"]
    assert matching_spans("", text) == []


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_a_doubtful_lexical_file_is_not_searched_and_is_repaired(make_index, damage):
    index = make_index()
    add(index, texts(80))
    expected = index.search_lexical("hearts of cells", 10)
    files = sorted(path for path in (index.path / "lexical").rglob("*") if path.is_file() and path.suffix)
    for path in files:
        content = path.read_bytes()
        if not content:
            continue
        path.unlink()
        if damage != "remove":
            path.write_bytes(content[:-1] if damage == "truncate" else bytes([content[0] ^ 1]) + content[1:])
        with Index.open(index.path) as reader:
            with pytest.warns(DamageWarning, match=path.name):
                found = reader.search_lexical("hearts of cells", 10)
            assert found == expected
            assert [entry.file for entry in reader.verify()] == [str(path.relative_to(index.path))]
        path.write_bytes(content)
    files[0].unlink()
    with pytest.warns(DamageWarning, match="rebuilding"):
        add(index, [IndexedDocument("new", "hearts")])
    assert index.verify() == []
    found = [hit.id for hit in index.search_lexical("hearts of cells", 100)]
    assert len(found) == len(set(found))  # the new one was not added twice
    assert set(found) >= {hit.id for hit in expected} | {"new"}


def test_scifact_by_an_outside_measure(make_index):
    """nDCG@10 of BM25 over title and text on SciFact, by pytrec_eval: 0.688 at least, where a plain BM25 has 0.683."""
    data = Path(os.environ.get("LLM2COMP_DATA", Path(__file__).parents[3] / "shared" / "data"))
    folder = data / "eval" / "retrieval" / "scifact"
    if not folder.is_dir():
        pytest.skip(f"the evaluation data is not here: {folder}")
    import pytrec_eval

    def lines(name: str) -> list[dict[str, str]]:
        with gzip.open(folder / name, "rt", encoding="utf-8") as file:
            return [json.loads(line) for line in file]

    qrels: dict[str, dict[str, int]] = {}
    with (folder / "qrels.tsv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            qrels.setdefault(row["query-id"], {})[row["corpus-id"]] = int(row["score"])
    index = make_index(dimension=1)
    add(index, [IndexedDocument(doc["_id"], doc["text"], doc["title"]) for doc in lines("corpus.jsonl.gz")])
    run = {
        query["_id"]: {hit.id: hit.score for hit in index.search_lexical(query["text"], 10)}
        for query in lines("queries.jsonl.gz")
    }
    measured = pytrec_eval.RelevanceEvaluator(qrels, {"ndcg_cut.10"}).evaluate(run)
    assert np.mean([measured[query]["ndcg_cut_10"] for query in qrels]) >= 0.688


def test_an_index_whose_documents_are_all_deleted_finds_nothing_and_asks_for_nothing(make_index):
    index = make_index()
    add(index, texts(20))
    with index.writer() as writer:
        writer.delete([f"d{n}" for n in range(20)])
        writer.commit()
    assert index.search_lexical("hearts of cells", 5) == []
    assert index.query_words("hearts of cells").content == 2
    assert index.query_words("hearts of cells").most >= 0
    assert index.lexical_statistics("hearts of cells").documents == 0


def test_what_a_query_asks_for_counts_the_documents_that_its_scores_count(make_index):
    """A deleted document has its words until it is merged away, so it is one of the documents, too."""
    index = make_index()
    add(index, [IndexedDocument(f"d{n}", "common rare" if n % 4 == 0 else "common other") for n in range(40)])
    with index.writer() as writer:
        writer.delete([f"d{n}" for n in range(40) if n % 4])
        writer.commit()
    best = index.search_lexical("rare", 1)[0].score
    assert best == pytest.approx(index.query_words("rare").most / 2.2, rel=0.05)  # all are as long as the average
    for query in ("rare", "common rare", "unheard of"):
        assert index.query_words(query) == index.query_words(query, statistics=index.lexical_statistics(query))
