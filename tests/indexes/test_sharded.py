"""Several indexes together answer as one index of all their documents does."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from llm2comp_indexes import DamageWarning, Index, IndexedDocument, InputError, LexicalStatistics, ShardedIndex
from llm2comp_indexes.sharded import merged
from llm2comp_indexes.statistics import ballast
from llm2comp_indexes.types import Hit

ENCODER = {"name": "test", "fingerprint": "f"}
DIMENSION = 16
WORDS = [
    f"{first}{second}" for first, second in itertools.product("bdfgklmnprst", ["ak", "el", "in", "om", "ur", "at"])
]


def documents(count: int, seed: int = 0) -> list[IndexedDocument]:
    """Texts of words from common to rare, most of them short, some long; a few are the same text."""
    draw = np.random.default_rng(seed)
    share = 1 / np.arange(1, len(WORDS) + 1)
    share /= share.sum()
    made = []
    for number in range(count):
        length = int(draw.lognormal(2.6, 0.9)) + 1
        text = " ".join(draw.choice(WORDS, size=length, p=share))
        if number % 50 == 49:
            text = made[-20].text
        spans = ((0, len(text) // 2), (len(text) // 2, len(text))) if number % 7 == 0 and len(text) > 4 else ()
        made.append(IndexedDocument(f"d{number}", text, "", {"year": 1990 + number % 30}, spans))
    return made


def vectors(of: list[IndexedDocument], seed: int = 1) -> np.ndarray:
    draw = np.random.default_rng(seed)
    rows = draw.standard_normal((sum(document.rows for document in of), DIMENSION)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def make(path, of, rows, **settings):
    index = Index.create(path, dimension=DIMENSION, encoder=ENCODER, settings=settings)
    with index.writer() as writer:
        for start in range(0, len(of), 300):
            part = of[start : start + 300]
            first = sum(document.rows for document in of[:start])
            writer.add(part, rows[first : first + sum(document.rows for document in part)])
            writer.commit()
    return index


def parts_of(tmp_path, of, rows, borders, **settings):
    made = []
    for number, (start, stop) in enumerate(itertools.pairwise(borders)):
        first, last = (sum(document.rows for document in of[:place]) for place in (start, stop))
        made.append(make(tmp_path / f"{number}.index", of[start:stop], rows[first:last], **settings))
    return made


BORDERS = {"even": [0, 300, 600, 900, 1200], "uneven": [0, 30, 90, 1200], "one": [0, 1200]}


@pytest.fixture(params=BORDERS)
def changing(request, tmp_path):
    """As `pair`, to be changed."""
    yield from made_pair(request.param, tmp_path)


@pytest.fixture(scope="module", params=BORDERS)
def pair(request, tmp_path_factory):
    """One index, and several with the same documents."""
    yield from made_pair(request.param, tmp_path_factory.mktemp(request.param))


def made_pair(borders, folder):
    of = documents(1200)
    rows = vectors(of)
    several = ShardedIndex(parts_of(folder, of, rows, BORDERS[borders]))
    with make(folder / "one.index", of, rows) as one, several:
        yield one, several


def queries(count: int = 60) -> list[str]:
    draw = np.random.default_rng(5)
    return [" ".join(draw.choice(WORDS, size=draw.integers(1, 9))) for _ in range(count)]


def assert_same(found: list[Hit], expected: list[Hit]) -> None:
    """The same ids and scores in the same order, but for documents whose scores only rounding tells apart."""
    ours, theirs = ([hit.score for hit in hits] for hits in (found, expected))
    assert ours == pytest.approx(theirs, rel=1e-6)
    start = 0
    for stop in range(1, len(theirs) + 1):
        if stop == len(theirs) or theirs[stop - 1] - theirs[stop] > 1e-6 * theirs[stop]:
            mine, others = ({hit.id for hit in hits[start:stop]} for hits in (found, expected))
            assert mine == others or stop == len(theirs)  # k may cut through the last of them
            start = stop


@pytest.mark.parametrize("where", [None, "year >= 2015", "year = 1993"])
@pytest.mark.parametrize("k", [1, 10, 400])
def test_vectors_give_the_same_hits_and_scores(pair, k, where):
    one, several = pair
    rows = vectors(documents(40, seed=9), seed=8)
    for found, expected in zip(several.search(rows, k, where=where), one.search(rows, k, where=where), strict=True):
        assert [hit.id for hit in found] == [hit.id for hit in expected]
        assert [hit.span for hit in found] == [hit.span for hit in expected]
        assert [hit.score for hit in found] == pytest.approx([hit.score for hit in expected], abs=1e-6)


@pytest.mark.parametrize("where", [None, "year >= 2015", "year = 1993"])
@pytest.mark.parametrize("k", [1, 10, 200])
def test_words_give_the_same_hits_and_scores(pair, k, where):
    one, several = pair
    for query in queries():
        found, expected = (each.search_lexical(query, k, where=where) for each in (several, one))
        assert_same(found, expected)


def test_scores_of_shards_alone_differ(pair):
    """What the statistics of all are needed for: without them the scores of small shards say something else."""
    one, several = pair
    if len(several.shards) == 1:
        pytest.skip("one shard has the statistics of all")
    wrong = 0
    for query in queries():
        alone = merged([shard.search_lexical(query, 10) for shard in several.shards], 10)
        wrong += [hit.id for hit in alone] != [hit.id for hit in one.search_lexical(query, 10)]
    assert wrong > len(queries()) / 4


def test_statistics_are_the_sum(pair):
    one, several = pair
    for query in [*queries(10), "nothing of this is there", ""]:
        alone, total = one.lexical_statistics(query), several.lexical_statistics(query)
        assert (total.documents, total.tokens, dict(total.frequencies)) == (
            alone.documents,
            alone.tokens,
            dict(alone.frequencies),
        )


def test_a_query_without_known_words_finds_nothing(pair):
    _, several = pair
    assert several.search_lexical("xylophone", 5) == []
    assert several.search_lexical("", 5) == []


def test_deleted_documents_are_found_in_neither(changing):
    one, several = changing
    gone = [f"d{number}" for number in range(0, 1200, 3)]
    with one.writer() as writer:
        writer.delete(gone)
        writer.commit()
    assert several.delete([*gone, "not there"]) == len(gone)
    for each in (one, *several.shards):
        each.compact()
    several.refresh()
    assert len(several) == len(one) == 800
    rows = vectors(documents(20, seed=9), seed=8)
    for found, expected in zip(several.search(rows, 10), one.search(rows, 10), strict=True):
        assert [hit.id for hit in found] == [hit.id for hit in expected]
    for query in queries(20):
        assert_same(several.search_lexical(query, 10), one.search_lexical(query, 10))


@pytest.mark.parametrize("gone", ["z0", "z0 a0 a1 a2 a3 a4 a5"])
def test_words_whose_documents_are_deleted_and_not_merged_away_change_no_score(tmp_path, gone):
    here = [IndexedDocument(f"a{number}", "lion tiger " + "savanna " * number) for number in range(6)]
    here = [IndexedDocument("z0", "zebra lion"), *here, IndexedDocument("z1", "")]
    there = [IndexedDocument("b0", "zebra"), IndexedDocument("b1", "lion tiger zebra " + "river " * 30)]
    rows = vectors(here + there)
    paths = [tmp_path / "0.index", tmp_path / "1.index"]
    parts_of(tmp_path, here + there, rows, [0, len(here), len(here + there)])
    with make(tmp_path / "one.index", here + there, rows) as one, ShardedIndex.open(paths) as several:
        with one.writer() as writer:
            writer.delete(gone.split())
            writer.commit()
        several.delete(gone.split())
        for query in ("zebra lion", "lion zebra", "zebra", "savanna zebra tiger", "elephant"):
            with ShardedIndex.open(paths) as opened:  # which counts by the words of this query
                found = opened.search_lexical(query, 10)
                assert opened.query_words(query).most >= 0
                assert all(hit.score > 0 for hit in found)
                if gone == "z0":  # with the others no word is left in the shard, and their lengths are not known
                    assert opened.lexical_statistics(query) == one.lexical_statistics(query)
                    assert_same(found, one.search_lexical(query, 10))


def test_documents_and_vectors_by_id(pair):
    one, several = pair
    ids = ["d1100", "d3", "d700", "d7", "d3"]
    assert several.get(ids) == one.get(ids)
    assert np.array_equal(several.vectors(ids), one.vectors(ids))
    assert several.hashes([*ids, "none"]) == one.hashes([*ids, "none"])
    assert list(several.ids()) == list(one.ids())
    assert list(several.ids(where="year = 1993")) == list(one.ids(where="year = 1993"))
    assert several.unknown_fields("yaer > 3") == one.unknown_fields("yaer > 3")
    assert len(several) == len(one) == several.info().documents
    assert several.info().vectors == one.info().vectors
    with pytest.raises(InputError, match="write to them one by one"):
        several.writer()
    with pytest.raises(KeyError, match="none"):
        several.get(["d3", "none"])


def test_vectors_of_many_documents_are_asked_of_each_index_at_once(pair, monkeypatch):
    """A network stands between some indexes: a hundred hits must not be a hundred questions."""
    one, several = pair
    asked = []
    answers = ShardedIndex._answers

    def noted(self, questions):
        asked.extend((number, question.method.__name__) for number, question in questions.items())
        return answers(self, questions)

    monkeypatch.setattr(ShardedIndex, "_answers", noted)
    ids = [f"d{number}" for number in range(0, 1200, 3)]
    assert np.array_equal(several.vectors(ids), one.vectors(ids))
    assert len(asked) == len(set(asked)) <= 3 * len(several.shards)
    assert several.vectors([]).shape == one.vectors([]).shape


def test_pages_and_values_of_fields_are_those_of_one_index(pair):
    one, several = pair
    for where, offset, limit in [(None, 0, 5), (None, 298, 7), ("year >= 2010", 85, 40), ("year < 0", 0, 5)]:
        asked = {"where": where, "offset": offset, "limit": limit, "fields": ["year", "title", "_id", "none"]}
        assert several.listing(**asked) == one.listing(**asked)
    assert several.listing(limit=3).ids == ["d0", "d1", "d2"]
    ids = [f"d{number}" for number in range(0, 1200, 7)]
    assert several.value_counts("year", ids) == one.value_counts("year", ids) != ()
    assert several.value_counts("none", ids) == ()
    assert several.fields() == one.fields()


@pytest.mark.parametrize("without", [range(3), range(2, 7), range(4, 12)])
def test_documents_without_a_field_are_looked_at_in_every_index(tmp_path, without):
    of = [
        IndexedDocument(f"d{number}", "text", "", {} if number in without else {"x": 1, "y": number})
        for number in range(12)
    ]
    of[3] = replace(of[3], metadata={"y": 3})
    rows = vectors(of)
    with (
        make(tmp_path / "one.index", of, rows) as one,
        ShardedIndex(parts_of(tmp_path, of, rows, [0, 3, 4, 12])) as several,
    ):
        assert several.fields() == one.fields()
        assert {field.looked_at for field in several.fields()} == {12}


def test_values_of_several_types_are_in_the_order_of_one_index(tmp_path):
    values = [True, 1, 1.5, "1", False, 2, "b", 1, "a", True, [2, "a"], None]
    of = [IndexedDocument(f"d{number}", "text", "", {"x": value}) for number, value in enumerate(values)]
    rows = vectors(of)
    with (
        make(tmp_path / "one.index", of, rows) as one,
        ShardedIndex(parts_of(tmp_path, of, rows, [0, 5, 12])) as several,
    ):
        ids = [document.id for document in of]
        found, expected = several.value_counts("x", ids), one.value_counts("x", ids)
        assert [(type(value), value, often) for value, often in found] == [
            (type(value), value, often) for value, often in expected
        ]
        assert several.fields() == one.fields()


@pytest.mark.parametrize("values", [[1, 2, "b", "b"], ["a", "b", 1, 1], [True, "a", 1, 1]])
def test_types_of_a_field_are_in_the_order_of_one_index(tmp_path, values):
    of = [IndexedDocument(f"d{number}", "text", "", {"x": value}) for number, value in enumerate(values)]
    rows = vectors(of)
    with (
        make(tmp_path / "one.index", of, rows) as one,
        ShardedIndex(parts_of(tmp_path, of, rows, [0, 2, 4])) as several,
    ):
        assert [list(field.types.items()) for field in several.fields()] == [
            list(field.types.items()) for field in one.fields()
        ]


def test_memory_vectors_by_id(tmp_path):
    of = documents(40)
    rows = vectors(of)
    memory = np.random.default_rng(3).standard_normal((len(rows), 2, DIMENSION)).astype(np.float32)
    shards = []
    for number, (start, stop) in enumerate([(0, 10), (10, 40)]):
        first, last = (sum(document.rows for document in of[:place]) for place in (start, stop))
        index = Index.create(
            tmp_path / f"{number}.index", dimension=DIMENSION, encoder=ENCODER, memory_tokens=2, settings={}
        )
        with index.writer() as writer:
            writer.add(of[start:stop], rows[first:last], memory=memory[first:last])
            writer.commit()
        shards.append(index)
    with ShardedIndex(shards) as several:
        ids = ["d30", "d2", "d14"]
        spans = [None, None, of[14].spans[1]]
        expected = [shards[1].memory(["d30"])[0], shards[0].memory(["d2"])[0], shards[1].memory(["d14"], spans[2:])[0]]
        assert np.array_equal(several.memory(ids, spans), np.array(expected))


def test_a_pinned_reader_stays_while_shards_move_on(changing):
    _, several = changing
    (before,) = several.search(np.ones((1, DIMENSION), np.float32), 5)
    with several.pinned() as pinned:
        several.delete([before[0].id])
        several.refresh()
        assert pinned.search(np.ones((1, DIMENSION), np.float32), 5) == [before]
        assert before[0] not in several.search(np.ones((1, DIMENSION), np.float32), 5)[0]


def test_short_texts_beside_long_ones(tmp_path):
    """The order in a shard is far from that of all."""
    long = [IndexedDocument(f"l{number}", f"apple {'pear ' * (60 + number)}") for number in range(80)]
    short = [
        IndexedDocument(f"s{number}", f"{'apple ' * (1 + number % 3)}{'pear ' * (number % 9)}") for number in range(200)
    ]
    of = [*long, *short]
    rows = vectors(of)
    with (
        make(tmp_path / "one.index", of, rows) as one,
        ShardedIndex(parts_of(tmp_path, of, rows, [0, 80, 280])) as several,
    ):
        for query in ("apple", "apple pear", "pear pear apple", "0 apple"):
            assert_same(several.search_lexical(query, 10), one.search_lexical(query, 10))
            assert_same(several.search_lexical(query, 280), one.search_lexical(query, 280))


@pytest.mark.parametrize(
    ("documents_here", "average", "wanted"), [(5, 12.4, 40.01), (5000, 212.7, 208.11), (9, 3.0, 0.7)]
)
def test_ballast_brings_the_average_to_what_is_wanted(documents_here, average, wanted):
    added = ballast(documents_here, average, wanted)
    assert (documents_here * average + sum(added)) / (documents_here + len(added)) == pytest.approx(wanted, rel=3e-7)
    assert min(added) >= 0


def test_a_damaged_lexical_side_is_searched_with_the_statistics_of_all(tmp_path):
    of = documents(200)
    rows = vectors(of)
    shards = parts_of(tmp_path, of, rows, [0, 60, 200])
    with make(tmp_path / "one.index", of, rows) as one:
        for shard in shards:
            shard.close()
        for path in (tmp_path / "0.index").rglob("*.store"):
            path.write_bytes(path.read_bytes()[:-3])
        with ShardedIndex.open([tmp_path / "0.index", tmp_path / "1.index"]) as several:
            with pytest.warns(DamageWarning, match="rebuilt for this reader"):
                several.lexical_statistics("bak")
            for query in queries(10):
                assert_same(several.search_lexical(query, 10), one.search_lexical(query, 10))


def test_what_does_not_fit_is_refused(tmp_path):
    a = Index.create(tmp_path / "a.index", dimension=4, encoder=ENCODER)
    b = Index.create(tmp_path / "b.index", dimension=4, encoder={"name": "x", "fingerprint": "other"})
    c = Index.create(tmp_path / "c.index", dimension=4, encoder=ENCODER, settings={"language": "none"})
    for other, what in ((b, "encoder"), (c, "language")):
        with pytest.raises(InputError, match=f"cannot be searched together, its {what} is"):
            ShardedIndex([a, other])
    with pytest.raises(InputError, match="at least one"):
        ShardedIndex([])
    for index in (a, b, c):
        index.close()


def test_an_empty_shard_changes_nothing(tmp_path):
    of = documents(50)
    rows = vectors(of)
    empty = Index.create(tmp_path / "empty.index", dimension=DIMENSION, encoder=ENCODER)
    with make(tmp_path / "full.index", of, rows) as full, ShardedIndex([empty, full]) as several:
        assert several.search(rows[:3], 5) == full.search(rows[:3], 5)
        assert_same(several.search_lexical("bak el", 5), full.search_lexical("bak el", 5))
        assert several.lexical_statistics("bak").documents == 50
    assert LexicalStatistics.total([]).average == 0


def test_shards_keep_as_much_in_memory_as_one_index(make_index, fill, monkeypatch):
    shards = [make_index(f"{number}.index") for number in range(4)]
    for number, shard in enumerate(shards):
        fill(shard, 30, start=30 * number)
    queries = np.random.default_rng(5).standard_normal((40, 8))
    monkeypatch.setattr("llm2comp_indexes.core.snapshot._PATIENCE", 25)
    for most, kept in ((119, False), (120, True)):  # ids that one index keeps: it has 120
        monkeypatch.setattr("llm2comp_indexes.core.snapshot._MOST_KEPT_IDS", most)
        with ShardedIndex.open([shard.path for shard in shards]) as opened:
            for query in queries:
                opened.search(query, 10)
            snapshots = [shard._snapshot for shard in opened.shards]
            assert ["_every_chunk" in snapshot.__dict__ for snapshot in snapshots] == [kept] * 4
            pages = [-snapshot.connection.pragma("cache_size") for snapshot in snapshots]
    with Index.open(shards[0].path) as one:
        assert sum(pages) == -one._snapshot.connection.pragma("cache_size")
        fill(shards[1], 1, start=500)
    with ShardedIndex.open([shard.path for shard in shards]) as opened:
        fill(shards[0], 1, start=600)
        assert opened.refresh()  # a newer generation has its share, too
        assert -opened.shards[0]._snapshot.connection.pragma("cache_size") == pages[0]


def test_merging_takes_scores_within_rounding_for_equal():
    a = [Hit("a", 1.0), Hit("b", 0.5), Hit("c", 0.25)]
    b = [Hit("d", 1.0 + 2e-7), Hit("e", 0.5 + 1e-5), Hit("b", 0.1)]
    assert [hit.id for hit in merged([a, b], 10, rounding=5e-7)] == ["a", "d", "e", "b", "c"]
    assert [hit.id for hit in merged([a, b], 10)] == ["d", "a", "e", "b", "c"]
    assert [hit.id for hit in merged([b, a], 2, rounding=5e-7)] == ["d", "a"]
    first, second = merged([a, b], 2, rounding=5e-7)
    assert first.score == second.score
    assert merged([], 3) == []


def test_what_queries_and_fields_are_worth_is_that_of_all_documents(pair):
    one, several = pair
    for query in [*queries(10), "unheard of", "the and of"]:
        ours, theirs = several.query_words(query), one.query_words(query)
        assert ours.content == theirs.content
        assert ours.most == pytest.approx(theirs.most, rel=1e-6)
    assert several.predicate_counts("year > 2000 and year != 1993") == one.predicate_counts(
        "year > 2000 and year != 1993"
    )
    found, expected = several.field("year"), one.field("year")
    assert (found.documents, found.types, dict(found.values)) == (
        expected.documents,
        expected.types,
        dict(expected.values),
    )
