"""c-TF-IDF against its formula written out; words, pairs, spelling and diversity of keywords."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.feature_extraction.text import CountVectorizer

from llm2comp_apps.clustering.describing.keywords import TermCounts, count_terms, ctfidf, topic_keywords


def keywords_of(texts, labels, count=10):
    labels = np.array(labels, np.int32)
    counts = count_terms(texts)
    topics = range(labels.max() + 1)
    found = topic_keywords(counts, ctfidf(counts, labels, len(topics)), labels, texts, topics, count).values()
    return [[term for term, _ in topic] for topic in found]


def slow_ctfidf(counts, labels, topics):
    """Grootendorst (2022), eq. 2, on the given counts; less the share in all topics where there are several."""
    weights = np.zeros((topics, counts.shape[1]))
    inside = counts[labels >= 0]
    everywhere = inside.sum(axis=0)
    classes = [counts[labels == topic] for topic in range(topics)]
    mean_terms = np.mean([c.sum() for c in classes if c.sum()] or [0])
    several = sum(c.sum() > 0 for c in classes) > 1
    for topic, own in enumerate(classes):
        for term in range(counts.shape[1]):
            if own.sum() and everywhere[term]:
                share = own[:, term].sum() / own.sum()
                if several:
                    share = max(share - everywhere[term] / everywhere.sum(), 0)
                weights[topic, term] = share * np.log(1 + mean_terms / everywhere[term])
    return weights


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), topics=st.integers(1, 4))
def test_weights_are_those_of_the_formula(seed, topics):
    random = np.random.default_rng(seed)
    counts = random.poisson(0.4, (25, 12)).astype(np.float32)
    labels = random.integers(-1, topics, 25).astype(np.int32)
    found = ctfidf(TermCounts(sparse.csr_matrix(counts), np.array(["x"] * 12)), labels, topics)
    np.testing.assert_allclose(found.toarray(), slow_ctfidf(counts, labels, topics), atol=1e-5)


def test_weights_of_one_topic_are_those_of_bertopic():
    """Its ClassTfidfTransformer: L1-normalised term frequency times log(1 + mean number of words / frequency)."""
    counts = np.random.default_rng(0).poisson(1.0, (10, 6)).astype(np.float32)
    classes = counts.sum(axis=0, keepdims=True)
    theirs = classes / classes.sum() * np.log(classes.sum(axis=1).mean() / classes.sum(axis=0) + 1)
    terms = TermCounts(sparse.csr_matrix(counts), np.array(list("abcdef")))
    np.testing.assert_allclose(ctfidf(terms, np.zeros(10, np.int32), 1).toarray(), theirs, rtol=1e-5)


def test_counts_are_square_roots_of_those_of_scikit_learn():
    texts = ["red apple red apple green pear", "green pear tree", "apple tree and red tree"]
    ours = count_terms(texts)
    theirs = CountVectorizer(vocabulary=ours.terms.tolist(), ngram_range=(1, 2), stop_words=["and"])
    np.testing.assert_allclose(ours.counts.toarray() ** 2, theirs.transform(texts).toarray(), atol=1e-5)


def test_terms_are_words_without_stop_words_numbers_and_pairs_across_them():
    terms = set(count_terms(["The C++ compiler of 1998 isn't an x-ray, don't you know; O'Brien's x-ray"]).terms)
    assert {"c++", "compiler", "c++ compiler", "x-ray", "o'brien's"} <= terms
    assert not terms & {"the", "of", "isn't", "don't", "1998", "know", "compiler x-ray", "1998 x-ray"}


def test_pairs_do_not_cross_the_end_of_a_sentence_or_a_number():
    texts = ["Windows 95 drivers. Chess openings\nand pawn\nendgames, bread/dough (yeast) 3d maps"]
    pairs = {term for term in count_terms(texts).terms if " " in term}
    assert pairs == {"chess openings", "pawn endgames"}


def test_the_fences_of_listings_and_the_names_of_agencies_are_no_terms():
    counts = count_terms(
        ["Build it:\n\n```sh\nfetch demo\n```\n\nThen search.", "KABUL (Reuters) - Troops arrive. AP - Rain"]
    )
    terms = set(counts.terms.tolist())
    assert {"fetch demo", "build", "search", "troops arrive", "rain"} <= terms
    assert not {"sh", "sh fetch", "demo search", "reuters", "ap", "afp"} & terms


def test_stop_words_of_no_language_stay():
    assert "the" in count_terms(["the cat and the dog"], "none").terms
    assert "the" not in count_terms(["the cat and the dog"]).terms


@pytest.mark.parametrize("texts", [["", ""], ["1234 5678", "!!"], ["the of and"] * 3])
def test_texts_without_a_term_have_no_keywords(texts):
    counts = count_terms(texts)
    assert counts.counts.shape == (len(texts), 0)
    labels = np.zeros(len(texts), np.int32)
    assert topic_keywords(counts, ctfidf(counts, labels, 1), labels, texts, [0]) == {0: []}


def test_keywords_tell_topics_apart():
    texts = ["the yeast dough rises in a warm room", "knead dough and flour in a room"] * 15
    texts += ["a rocket leaves for orbit from a room", "the orbit of a satellite near a room"] * 15
    bread, space = keywords_of(texts, [0] * 30 + [1] * 30)
    assert bread[0] == "dough"
    assert space[0] == "orbit"
    assert "room" not in bread[:3] + space[:3]


def test_one_word_in_several_forms_is_one_keyword():
    texts = ["guns and gun laws and studies", "a gun law study"] * 10 + ["windows and viruses", "window virus"] * 10
    for topic in keywords_of(texts, [0] * 20 + [1] * 20):
        stems = [word.rstrip("s")[:4] for word in topic if " " not in word]
        assert len(stems) == len(set(stems)), topic


def test_a_pair_takes_the_place_of_a_word_that_comes_in_it():
    texts = ["escherichia coli grows", "strains of escherichia coli"] * 10 + [
        "dough with yeast",
        "yeast and flour",
    ] * 10
    bacteria, _ = keywords_of(texts, [0] * 20 + [1] * 20)
    assert bacteria[0] == "escherichia coli"
    assert "coli" not in bacteria


def test_keywords_are_spelled_as_most_documents_spell_them():
    texts = ["NASA and guns", "Guns at NASA", "our guns: nasa", "guns, NASA"] * 6 + ["bread, dough", "dough, bread"] * 6
    first, _ = keywords_of(texts, [0] * 24 + [1] * 12)
    assert {"NASA", "guns"} <= set(first)


def test_shouting_gives_way_to_a_form_that_does_not_shout():
    texts = ["CLINTON and taxes"] * 6 + ["Taxes, or Clinton"] * 4 + ["the IBM drive", "an IBM"] * 5
    first, second = keywords_of(texts, [0] * 10 + [1] * 10)
    assert "Clinton" in first
    assert "CLINTON" not in first
    assert "IBM" in second


def test_keywords_are_diverse_and_in_order():
    texts = ["gun law police"] * 10 + ["gun law court judge"] * 10 + ["bread dough"] * 20
    (first, _) = keywords_of(texts, [0] * 20 + [1] * 20, count=3)
    assert len(first) == 3
    assert len(set(first)) == 3
    shared = [set(a.split()) & set(b.split()) for a in first for b in first if a < b]
    assert not any(shared), first


def test_one_long_document_does_not_name_a_topic():
    texts = ["dough yeast flour"] * 20 + ["spam " * 60 + "dough"] + ["orbit rocket"] * 20
    bread, _ = keywords_of(texts, [0] * 21 + [1] * 20)
    assert "spam" not in bread[0]


def test_outliers_count_for_no_topic():
    texts = ["dough yeast"] * 10 + ["dough orbit"] * 10 + ["rocket orbit"] * 10
    bread, space = keywords_of(texts, [0] * 10 + [-1] * 10 + [1] * 10)
    assert "orbit" not in bread
    assert "dough" not in space


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        ("कोशिका विभाजन से जीव बढ़ते हैं", "बाजार में शेयर गिरे", {"कोशिका", "विभाजन", "बाजार", "शेयर"}),
        ("கலங்கள் பிரிகின்றன", "சந்தை விலை உயர்ந்தது", {"கலங்கள்", "பிரிகின்றன", "சந்தை"}),
        ("הַתָּא מִתְחַלֵּק", "הַשּׁוּק נָפַל", {"הַתָּא", "הַשּׁוּק"}),
        ("клетки делятся", "рынок упал", {"клетки", "рынок"}),
        ("می‌خواهم نان", "بازار سهام", {"می‌خواهم", "بازار"}),
    ],
)
def test_words_are_whole_in_every_script(one, other, words):
    import unicodedata

    whole = {unicodedata.normalize("NFC", word) for word in words}
    found = {term for topic in keywords_of([one] * 12 + [other] * 12, [0] * 12 + [1] * 12) for term in topic}
    assert whole <= set(" ".join(found).split())


def test_both_forms_of_an_accent_are_one_word():
    nfc, nfd = "café crème", "cafe\u0301 cre\u0300me"
    assert set(count_terms([nfc, nfd] * 12).terms) == {"café", "crème", "café crème"}
    first, _ = keywords_of([nfd] * 12 + ["bread and dough"] * 12, [0] * 12 + [1] * 12)
    assert first == ["café crème"]


def test_scripts_without_spaces_give_pairs_of_characters_and_a_warning(source):
    from dataclasses import replace

    from llm2comp_apps.clustering import ClusterSettings, cluster
    from llm2comp_apps.clustering.describing.words import mostly_unspaced, split_words

    assert [word for word in split_words("銀行の金利 AI技術") if word] == ["銀行", "行の", "の金", "金利", "AI", "技術"]
    assert mostly_unspaced(["銀行の金利が上がった", "ตลาดหุ้น"])
    assert not mostly_unspaced(["the bank 銀行 raises its interest"])
    made = source(30)
    documents = [replace(document, text="銀行の金利が上がった", title="") for document in made.documents]
    found = cluster(replace(made, documents=documents), ClusterSettings())
    assert "the texts have no spaces between words: topics are named by pairs of characters" in found.warnings
