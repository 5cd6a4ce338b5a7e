"""New documents into topics that are there: they grow, new ones appear, and what was known stays."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from llm2comp_apps.clustering import ClusterSettings, Source, TopicModel
from llm2comp_apps.clustering.algorithms.placement import island, place_beside
from llm2comp_apps.clustering.novelty import find_new_topics, strangeness
from llm2comp_apps.clustering.output.summary import summarize_assigned, summarize_topics, summarize_update
from llm2comp_apps.corpus import Document
from llm2comp_apps.errors import ClusteringError, UsageError


@pytest.fixture(scope="module")
def some(source):
    """Makes documents with vectors of the wanted subjects only, their ids marked."""

    def make(count, seed, without="", mark=""):
        made = source(4 * count, seed)
        kept = [i for i, d in enumerate(made.documents) if d.metadata["label"] not in without.split()][:count]
        documents = [replace(made.documents[i], id=f"{made.documents[i].id}{mark}") for i in kept]
        return Source(documents, made.vectors[kept], made.encoder)

    return make


@pytest.fixture
def model(some):
    """A model of 120 documents about everything but the ocean."""
    return TopicModel.fit(some(120, 3, without="ocean"), label_field="label")


def state(model):
    return model.labels.tolist(), model.hierarchy, model.report(), [document.id for document in model.documents]


def subjects(model, id_):
    labels = [document.metadata["label"] for document in model.documents]
    return Counter(label for label, own in zip(labels, model.labels.tolist(), strict=True) if own == id_)


def test_a_subject_that_was_not_there_becomes_a_topic_and_the_others_grow(model, some):
    before, names, positions = model.labels.copy(), dict(model.names), model.clustering.positions.copy()
    numbers = {topic.id for topic in model.hierarchy}
    report = model.update(some(80, 7, mark="-new"))
    (new,) = report.new_topics
    assert new == max(numbers) + 1, "no number that was ever given"
    assert subjects(model, new)["ocean"] == 20
    assert report.new_topics[new] == sum(subjects(model, new).values()) <= 22
    assert set(report.grown) == set(names)
    assert sum(report.grown.values()) + report.new_topics[new] + report.outliers == report.added == 80
    np.testing.assert_array_equal(model.labels[:120], before)
    assert {id_: model.names[id_] for id_ in names}.keys() == names.keys()
    np.testing.assert_array_equal(model.clustering.positions[:120], positions)
    for topic in model.topics:
        assert topic.size == (model.labels == topic.id).sum()
        assert {model.labels[position] for position in topic.representatives} == {topic.id}
    ocean = {topic.id: topic for topic in model.topics}[new]
    assert {"whale", "coral", "tide"} & {term.lower() for term, _ in ocean.keywords}
    assert ocean.name == ", ".join(term for term, _ in ocean.keywords[:3])
    assert "## Updates" in model.report()
    assert f"{ocean.name} ({new}): {ocean.size}" in model.report()
    assert model.clustering.scores["ari"] > 0.8


def test_the_same_documents_again_change_nothing(model, some):
    new = some(80, 7, mark="-new")
    model.update(new)
    before = state(model)
    clustering = model.clustering
    report = model.update(new)
    assert (report.documents, report.unchanged, report.added) == (80, 80, 0)
    assert (report.grown, report.new_topics) == ({}, {})
    assert state(model) == before
    assert model.clustering is clustering


def test_equal_updates_give_equal_results_before_and_after_a_reload(model, some, tmp_path):
    new, later = some(80, 7, mark="-new"), some(40, 8, mark="-later")
    model.save(tmp_path / "x.clusters")
    again = TopicModel.load(tmp_path / "x.clusters")
    for one in (model, again):
        one.update(new)
    assert state(again) == state(model)
    again.save(tmp_path / "x.clusters")
    again = TopicModel.load(tmp_path / "x.clusters")
    assert state(again) == state(model)
    for one in (model, again):
        one.update(later)
    assert state(again) == state(model)
    np.testing.assert_array_equal(again.clustering.positions, model.clustering.positions)
    np.testing.assert_array_equal(again.clustering.membership, model.clustering.membership)


def test_documents_that_came_by_an_update_are_assigned_as_they_were(model, some):
    new = some(80, 7, mark="-new")
    report = model.update(new)
    rows = model.assign(new.documents)
    assert [row["cluster"] for row in rows] == model.labels[120:].tolist()
    (topic,) = report.new_topics
    unseen = some(40, 21, without="space bread chess")
    assert Counter(row["cluster"] for row in model.assign(unseen))[topic] > 30


def test_known_subjects_make_no_new_topic(model, some):
    for seed in range(4):
        report = model.update(some(60, 30 + seed, without="ocean", mark=f"-{seed}"))
        assert report.new_topics == {}


def test_a_topic_appears_over_several_updates(model, some):
    """Each time fewer documents than a topic needs: they wait as outliers, then all become one."""
    ocean = some(24, 9, without="space bread chess")
    reports = []
    for start in range(0, 24, 6):
        part = slice(start, start + 6)
        reports.append(model.update(Source(ocean.documents[part], ocean.vectors[part], ocean.encoder)))
    assert reports[0].new_topics == {}
    assert reports[0].outliers >= 5
    (new,) = [id_ for report in reports for id_ in report.new_topics]
    assert subjects(model, new)["ocean"] > 18
    assert set(subjects(model, new)) == {"ocean"}


def test_below_the_smallest_size_nothing_becomes_a_topic_unless_it_is_asked_for(model, some):
    few = some(6, 9, without="space bread chess")
    again = TopicModel.fit(some(120, 3, without="ocean"), label_field="label")
    assert model.update(few).new_topics == {}
    assert list(again.update(few, min_cluster_size=5).new_topics.values()) == [6]
    with pytest.raises(UsageError, match="min_cluster_size must be at least 2, not 1"):
        model.update(few, min_cluster_size=1)


def test_outliers_of_the_fit_may_join_a_topic_that_appears(some, monkeypatch):
    ocean, first = some(26, 9, without="space bread chess"), some(120, 3, without="ocean")
    documents = [*first.documents, *ocean.documents[:4]]
    labels = np.array(["space bread chess".find(d.metadata["label"]) for d in documents], np.int32)  # ocean: -1
    labels = np.where(labels >= 0, labels // 5, -1).astype(np.int32)
    with monkeypatch.context() as patched:
        patched.setattr("llm2comp_apps.clustering.algorithms.methods.hdbscan", lambda *_: labels)
        vectors = np.vstack([first.vectors, ocean.vectors[:4]])
        model = TopicModel.fit(Source(documents, vectors, first.encoder), outliers="keep")
    assert model.labels[120:].tolist() == [-1] * 4
    before = model.labels[:120].copy()
    report = model.update(Source(ocean.documents[4:], ocean.vectors[4:], ocean.encoder))
    (new,) = report.new_topics
    assert new in model.labels[120:124]
    np.testing.assert_array_equal(model.labels[:120], before)


def test_copies_get_the_topic_of_their_text(model):
    copies = [Document(f"copy-{d.id}", d.text, d.title) for d in model.documents[:20]]
    report = model.update(copies, encoder="not loaded")
    assert report.added == 20
    assert model.labels[120:].tolist() == model.labels[:20].tolist()
    twice = [Document("twice", model.documents[0].text)] * 2
    report = model.update(twice, encoder="not loaded")
    assert (report.documents, report.added, report.unchanged) == (2, 1, 1)
    with pytest.raises(UsageError, match="documents have the id 'one' twice, with different texts"):
        model.update([Document("one", "a"), Document("one", "b")])


def test_a_topic_that_grows_to_half_of_the_corpus_is_told(model):
    assert not [line for line in model.warnings if "holds" in line]
    own = [document for document, label in zip(model.documents, model.labels.tolist(), strict=True) if label == 0]
    copies = [Document(f"copy-{n}", own[n % len(own)].text) for n in range(200)]
    model.update(copies, encoder="not loaded")
    (line,) = [line for line in model.warnings if "holds" in line]
    assert line.startswith(f"topic 0 ({model.names[0]}) holds {(len(own) + 200) / 320:.0%} of the documents; in a new")
    assert "`method=kmeans` cuts more evenly" in line


def test_levels_that_change_nothing_are_told_by_updates_too(some, make_hash_encoder):
    model = TopicModel.fit(some(120, 3), levels=4)
    (line,) = [line for line in model.warnings if "levels" in line]
    model.update(some(20, 7, mark="-new"), encoder=make_hash_encoder())
    assert [told for told in model.warnings if "levels" in told] == [line]


def test_a_document_whose_text_changed_is_assigned_again(model, some, make_hash_encoder):
    old, other = (
        model.documents[0],
        next(d for d in model.documents if d.metadata["label"] != model.documents[0].metadata["label"]),
    )
    changed = replace(other, id=old.id, text=f"{other.text} and more")
    report = model.update([changed, model.documents[5]], encoder=make_hash_encoder())
    assert (report.added, report.replaced, report.unchanged) == (0, 1, 1)
    assert len(model.documents) == 120
    assert model.documents[0] == changed
    assert model.labels[0] == model.labels[model.documents.index(other)]
    assert report.warnings == ["1 documents have an id that was there with another text; they took its place"]
    for topic in model.topics:
        assert topic.size == (model.labels == topic.id).sum()


def test_a_topic_grows_by_what_was_not_in_it(model, make_hash_encoder):
    inside = next(row for row, label in enumerate(model.labels.tolist()) if label >= 0)
    old = model.documents[inside]
    longer = replace(old, text=f"{old.text} {old.text}")
    report = model.update([longer, replace(longer, id="new")], encoder=make_hash_encoder())
    assert (report.replaced, report.added) == (1, 1)
    assert report.grown == {int(model.labels[inside]): 1}


def test_a_topic_that_loses_all_of_its_documents_stays_and_everything_can_be_written(some, make_hash_encoder, tmp_path):
    model = TopicModel.fit(some(120, 3, without="ocean"))
    own = model.labels[0]
    texts = [d.text for d, label in zip(model.documents, model.labels.tolist(), strict=True) if label not in (own, -1)]
    gone = [d for d, label in zip(model.documents, model.labels.tolist(), strict=True) if label == own]
    report = model.update([replace(d, text=texts[i]) for i, d in enumerate(gone)])
    assert report.replaced == len(gone)
    (empty,) = [topic for topic in model.topics if topic.size == 0]
    assert (empty.id, empty.representatives) == (own, ())
    model.save(tmp_path / "x.clusters")
    again = TopicModel.load(tmp_path / "x.clusters")
    assert again.hierarchy == model.hierarchy
    assert again.update(some(80, 7, mark="-new")).added == 80


def test_the_last_label_and_date_may_go(some, tmp_path):
    made = some(60, 3, without="ocean")
    dated = [replace(d, metadata={**d.metadata, "year": 2020}) for d in made.documents]
    model = TopicModel.fit(Source(dated, made.vectors, made.encoder), label_field="label", time_field="year")
    changed = [replace(d, text=f"{d.text} again", metadata={}) for d in dated]
    assert model.update(Source(changed, made.vectors, made.encoder)).replaced == 60
    assert "60 documents have no label; the comparison leaves them out" in model.warnings
    model.save(tmp_path / "x.clusters")
    assert not {"ari", "purity"} & model.clustering.scores.keys()
    assert not (tmp_path / "x.clusters" / "labels.csv").exists()
    assert "No document has a label." in model.report()


@pytest.mark.parametrize("method", ["kmeans", "agglomerative", "spectral"])
def test_other_methods_take_new_topics_too_but_a_given_k_is_kept(method, some):
    new = some(80, 7, mark="-new")
    model = TopicModel.fit(some(120, 3, without="ocean"), method=method)
    before = model.labels.copy()
    assert [subjects(model, id_)["ocean"] for id_ in model.update(new).new_topics] == [20]
    np.testing.assert_array_equal(model.labels[:120], before)
    given = TopicModel.fit(some(120, 3, without="ocean"), method=method, k=3)
    assert given.update(new).new_topics == {}
    assert len(given.topics) == 3


def test_with_the_policy_nearest_nothing_waits(some):
    model = TopicModel.fit(some(120, 3, without="ocean"), outliers="nearest")
    report = model.update(some(6, 9, without="space bread chess"))
    assert report.outliers == 0
    assert (model.labels >= 0).all()


def test_a_model_without_any_topic_finds_its_first(some):
    few = some(4, 3)
    model = TopicModel.fit(few)
    assert model.topics == []
    report = model.update(some(120, 7, mark="-new"))
    assert len(report.new_topics) >= 4
    assert min(report.new_topics) == 0


def test_names_stay_while_they_are_true_and_given_ones_always(model, some):
    own = replace(model.clustering, topics=[replace(t, name="Mine") if t.id == 0 else t for t in model.hierarchy])
    named = TopicModel(model._model, own)
    names = dict(named.names) | {0: "Mine"}
    new = some(80, 7, mark="-new")
    asked = []

    def namer(topics, texts):
        asked.extend(topic.id for topic in topics)
        return [replace(topic, name="Mine" if topic.level == 1 else "Above") for topic in topics]

    report = named.update(new, namer=namer)
    (topic,) = report.new_topics
    assert named.names[0] == "Mine"
    assert topic in asked
    assert not set(asked) & set(names), "topics that were there are not named again"
    assert named.names[topic] not in ("Mine", ""), "a name that is taken is not given twice"
    for old in named.topics:
        if old.id in names and old.id != 0 and old.name != names[old.id]:
            assert not set(names[old.id].split(", ")) <= {term for term, _ in old.keywords}


def test_parents_hold_all_topics_and_ids_are_unique(model, some):
    first = {topic.id: topic for topic in model.hierarchy}
    model.update(some(80, 7, mark="-new"))
    ids = [topic.id for topic in model.hierarchy]
    assert len(ids) == len(set(ids))
    parents = [topic for topic in model.hierarchy if topic.level == 2]
    assert sorted(child for parent in parents for child in parent.children) == sorted(t.id for t in model.topics)
    for parent in parents:
        assert parent.size == sum(t.size for t in model.topics if t.parent == parent.id)
        if parent.id in first:
            assert parent.children == first[parent.id].children


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_vectors_that_do_not_fit_change_nothing(bad, model):
    before = state(model)
    for vectors, message in ((np.full((1, 32), bad), "NaN or infinite"), (np.ones((1, 7)), "width 7")):
        with pytest.raises(ClusteringError, match=message):
            model.update(["never seen"], vectors=vectors)
    assert state(model) == before


def test_strangeness_is_a_rank_among_what_is_known(blobs):
    known, _ = blobs((80, 80), seed=1)
    near, _ = blobs((80, 80), seed=1)
    judged = strangeness(known, near[::4])
    assert 0.3 < judged.doubtful.mean() < 0.7
    far = strangeness(known, -known[:10])
    assert far.strange.all()
    assert (far.distance > judged.distance.max()).all()
    nothing = strangeness(known[:1], known)
    assert nothing.strange.all()


def test_a_group_of_old_outliers_alone_is_no_news(blobs):
    known, _ = blobs((60,), seed=1)
    group, _ = blobs((0, 30), seed=1)
    judged = strangeness(known, group)
    labels, membership = find_new_topics(group, np.zeros(30, bool), judged, known, 20, "neighbor", 0)
    assert labels.tolist() == [-1] * 30
    assert membership.shape == (30, 0)
    labels, membership = find_new_topics(group, np.arange(30) == 3, judged, known, 20, "neighbor", 0)
    assert labels.max() == 0
    assert (labels == 0).sum() >= 20


def test_islands_lie_in_free_space_and_neighbours_side_by_side(blobs):
    vectors, truth = blobs((50, 50), seed=2)
    random = np.random.default_rng(0)
    positions = (random.standard_normal((100, 2)) + 8 * np.eye(2)[truth]).astype(np.float32)
    again = place_beside(vectors, positions, vectors)
    assert np.linalg.norm(again - 8 * np.eye(2)[truth], axis=1).max() < 4
    placed = island(vectors[:20], positions, positions.mean(axis=0))
    assert placed.shape == (20, 2)
    gaps = np.linalg.norm(placed[:, None] - positions[None], axis=2)
    assert gaps.min() > 0.05
    assert np.ptp(placed, axis=0).max() < np.ptp(positions, axis=0).max()


def test_settings_of_the_fit_are_kept(model, some):
    model.update(some(80, 7, mark="-new"))
    assert model.clustering.settings == ClusterSettings(label_field="label")


def test_summaries_count_every_document_once(some, model):
    fitted = summarize_topics(model.clustering, ["no map.png"])
    assert [len(row) for row in fitted.table.rows] == [len(fitted.table.header)] * (len(model.topics) + 1)
    assert sum(int(row[1]) for row in fitted.table.rows) == fitted.record["documents"] == 120
    assert fitted.warnings == [*model.warnings, "no map.png"]
    assert fitted.lines[0].startswith("HDBSCAN left out")
    rows = model.assign(some(40, 8, mark="+"))
    assigned = summarize_assigned(rows, model.names)
    assert sum(topic["size"] for topic in assigned.record["topics"]) + assigned.record["outliers"] == 40
    assert [row[2] for row in assigned.table.rows] == [*model.names.values(), "(outliers)"]
    report = model.update(some(40, 9, mark="-"))
    updated = summarize_update(report, model.clustering)
    assert updated.record["documents"] == 120 + report.added
    assert updated.done == f"{report.added} documents added, {report.replaced} replaced, {report.unchanged} unchanged"
    shown = {int(row[0]): row[2] for row in updated.table.rows if row[0]}
    new = dict.fromkeys(report.new_topics, "new")
    assert shown == {id_: f"+{count}" for id_, count in report.grown.items()} | new
