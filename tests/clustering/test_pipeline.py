"""Documents in, topics out: and what is said of corpora in which there is nothing to find."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from llm2comp_indexes import Index, IndexedDocument

from llm2comp_apps.clustering import ClusterSettings, Source, cluster, read_index
from llm2comp_apps.clustering.algorithms.quality import agreement
from llm2comp_apps.clustering.output.report import report_markdown
from llm2comp_apps.clustering.sources import is_index
from llm2comp_apps.corpus import Document
from llm2comp_apps.errors import ClusteringError, UsageError


def same(source, text="the same words"):
    documents = [replace(document, text=text, title="") for document in source.documents]
    return replace(source, documents=documents, vectors=np.repeat(source.vectors[:1], len(documents), axis=0))


def test_topics_are_those_of_the_corpus(source):
    made = source(120)
    found = cluster(made, ClusterSettings(label_field="label"))
    assert found.scores["ari"] > 0.9
    assert found.warnings == []
    assert len(found.base_topics) == found.membership.shape[1] == 4
    assert found.positions.shape == (120, 2)
    assert found.scores["outlier_share"] == (found.labels < 0).mean()
    labels = [document.metadata["label"] for document in made.documents]
    for topic in found.base_topics:
        assert len({labels[i] for i in topic.representatives}) == 1


def test_a_given_k_is_kept_and_near_duplicates_are_merged_otherwise(source):
    made = source(120)
    assert len(cluster(made, ClusterSettings(method="kmeans", k=7)).base_topics) == 7
    merged = cluster(made, ClusterSettings(method="agglomerative", merge=1e-9))
    apart = cluster(made, ClusterSettings(method="agglomerative", merge=2.0))
    assert len(merged.base_topics) <= len(apart.base_topics)
    np.testing.assert_array_equal(merged.assigner.labels, merged.labels)


def test_a_namer_names_and_each_step_is_told(source):
    said = []
    namer = lambda topics, texts: [replace(topic, name=f"T{topic.id}") for topic in topics]  # noqa: E731
    found = cluster(source(80), ClusterSettings(), namer=namer, note=said.append)
    assert [topic.name for topic in found.topics] == [f"T{topic.id}" for topic in found.topics]
    assert said == ["clustering 80 documents by hdbscan", "describing the topics", "naming the topics"]


@pytest.mark.parametrize("method", ["hdbscan", "kmeans", "agglomerative", "spectral"])
def test_few_documents(method, source):
    for n in (1, 2, 3, 4):
        found = cluster(source(n), ClusterSettings(method=method))
        assert len(found.labels) == n
        assert report_markdown(found, "few").startswith("# few")
        if method == "hdbscan":
            message = f"{n} documents are fewer than a topic needs (5): all are outliers; see `min_cluster_size`"
            assert found.warnings == [message]


@pytest.mark.parametrize("method", ["hdbscan", "kmeans", "agglomerative", "spectral"])
def test_equal_documents(method, source):
    found = cluster(same(source(30)), ClusterSettings(method=method))
    assert found.labels.tolist() == [0] * 30
    assert found.warnings == ["all 30 documents have the same vector", "the documents fall into one topic only"]
    assert found.scores == {"outlier_share": 0.0}
    assert [term for term, _ in found.topics[0].keywords] == ["words"]


def test_documents_without_a_word(source):
    found = cluster(same(source(12), "1234 5678"), ClusterSettings())
    assert [topic.name for topic in found.topics] == ["Topic 0"]


def test_only_noise(make_hash_encoder, source):
    random = np.random.default_rng(0)
    vectors = random.standard_normal((40, 200)).astype(np.float32)
    made = replace(source(40), vectors=vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    found = cluster(made, ClusterSettings(outliers="keep", min_cluster_size=30, reduce="none"))
    assert len(found.labels) == 40
    assert len(found.warnings) == 1
    if not found.topics:
        assert "all documents are outliers; try `method=kmeans`" in found.warnings[0]
        assert "None." in report_markdown(found, "noise")


def noise(source, n, dimension, seed=0):
    """Documents whose vectors mean nothing."""
    vectors = np.random.default_rng(seed).standard_normal((n, dimension)).astype(np.float32)
    return replace(source(n), vectors=vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def few_and_loose(source, n, dimension, settings):
    """Noise in which there are a few topics, of ten of which on nothing would be told, and many outliers.

    The layout of noise is chaotic: the last digits of the distances, which differ with the processor and its threads,
    decide which topics there are. So each machine looks for a seed of its own.
    """
    for seed in range(20):
        made = noise(source, n, dimension, seed=seed)
        found = cluster(made, settings)
        if 2 <= len(found.base_topics) < 10 and min(found.left_out / n, found.scores["outlier_share"]) > 0.4:
            return made, found
    raise AssertionError("20 seeds")


@pytest.mark.parametrize(("n", "dimension", "size"), [(300, 128, 14), (1000, 384, 25)])
def test_topics_of_noise_come_with_a_warning_and_take_in_little_of_it(n, dimension, size, source):
    """Few topics: that each outlier belongs to one of them by 0.2 is no news, and they took in everything."""
    made, found = few_and_loose(source, n, dimension, ClusterSettings(merge=2.0, min_cluster_size=size))
    absorbed = cluster(made, ClusterSettings(merge=2.0, min_cluster_size=size, outlier_threshold=0.2))
    assert absorbed.scores["outlier_share"] < found.scores["outlier_share"]
    for clustering in (found, absorbed):  # which is judged by the documents that HDBSCAN put there
        (warning,) = [line for line in clustering.warnings if "chance" in line]
        assert warning.startswith("the topics may be chance: they are hardly apart (silhouette ")
        assert "DBCV" in warning
    assert found.left_out == absorbed.left_out


@pytest.mark.parametrize(("n", "dimension", "seed"), [(300, 128, 7), (1000, 384, 1)])
def test_topics_of_noise_of_the_usual_size_come_with_a_warning_too(n, dimension, seed, source):
    found = cluster(noise(source, n, dimension, seed=seed), ClusterSettings(merge=2.0))
    assert any("the topics may be chance" in line for line in found.warnings)
    assert found.left_out > 0.1 * n


@pytest.mark.parametrize("method", ["kmeans", "agglomerative"])
def test_other_methods_on_noise_are_warned_of_too(method, source):
    found = cluster(noise(source, 300, 384), ClusterSettings(method=method))
    assert any("may be chance" in line for line in found.warnings)
    assert found.left_out == 0


def test_real_topics_that_are_hardly_apart_are_not_called_chance(source, blobs):
    vectors, truth = blobs((70,) * 8, dimension=384, spread=3.0)
    found = cluster(replace(source(560), vectors=vectors), ClusterSettings(merge=2.0))
    assert agreement(truth.tolist(), found.labels)["ari"] > 0.9
    assert found.scores["silhouette"] < 0.1
    assert found.warnings == []


def test_both_shares_of_outliers_are_reported(source):
    found = cluster(noise(source, 300, 64), ClusterSettings(merge=2.0))
    outliers = int((found.labels < 0).sum())
    least = 2 / len(found.base_topics)
    line = f"HDBSCAN left out {found.left_out} ({found.left_out / 300:.1%}); the policy threshold {least:.2g} leaves "
    assert f"{line}{outliers} ({outliers / 300:.1%})." in report_markdown(found, "noise")
    assert "HDBSCAN" not in report_markdown(cluster(source(80), ClusterSettings(method="kmeans", k=4)), "k-means")


@pytest.mark.parametrize("reduce", ["pca", "neighbor"])
@pytest.mark.parametrize("method", ["kmeans", "agglomerative"])
def test_fewer_topics_than_asked_for_are_told_in_our_words(method, reduce, source):
    """And scikit-learn's warning is not shown, which would fail this test."""
    made = source(30)
    made = replace(made, vectors=made.vectors[np.arange(30) % 3])
    found = cluster(made, ClusterSettings(method=method, k=5, reduce=reduce))
    assert len(found.base_topics) == 3
    line = "`k=5`: 3 topics were made, since more would have had no documents; only 3 of the 30 vectors are different"
    assert found.warnings == [line]


def test_many_outliers_are_told(source, monkeypatch):
    made = source(80)
    labels = np.full(80, -1, np.int32)
    labels[::4], labels[1::4] = 0, 1  # as the documents come: two of the four topics
    monkeypatch.setattr("llm2comp_apps.clustering.algorithms.methods.hdbscan", lambda *_: labels)
    found = cluster(made, ClusterSettings(outliers="keep"))
    assert found.warnings == ["50% of the documents are outliers; `outliers=nearest` gives each a topic"]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_vectors_that_are_not_numbers_are_named(value, source):
    made = source(20)
    vectors = made.vectors.copy()
    vectors[3, 5] = vectors[7, 0] = value
    message = f"the vector of document '{made.documents[3].id}' and 1 more has NaN or infinite values"
    with pytest.raises(ClusteringError, match=message):
        cluster(replace(made, vectors=vectors), ClusterSettings())


def test_no_documents():
    with pytest.raises(ClusteringError, match="there are no documents to cluster"):
        cluster(Source([], np.zeros((0, 4), np.float32), {}), ClusterSettings())


def test_more_topics_than_documents(source):
    with pytest.raises(ClusteringError, match="`k=9`: there are only 8 documents"):
        cluster(source(8), ClusterSettings(method="kmeans", k=9))


def test_label_fields(source):
    made = source(80)
    with pytest.raises(ClusteringError, match="`label_field=topic`: no document has this field; they have label"):
        cluster(made, ClusterSettings(label_field="topic"))
    some = [replace(d, metadata={} if i < 8 else d.metadata) for i, d in enumerate(made.documents)]
    found = cluster(replace(made, documents=some), ClusterSettings(label_field="label"))
    assert found.warnings == ["8 documents have no label; the comparison leaves them out"]
    assert found.scores["ari"] > 0.9


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"method": "dbscan"}, "method must be one of hdbscan, kmeans, agglomerative, spectral, not dbscan"),
        ({"outliers": "drop"}, "outliers must be one of keep, nearest, threshold, not drop"),
        ({"reduce": "tsne"}, "reduce must be one of neighbor, umap, pca, none, not tsne"),
        ({"language": "klingon"}, "language must be one of english, none, not klingon"),
        ({"k": 3}, "k has no effect: hdbscan finds the number itself; try `method=kmeans`"),
        (
            {"method": "kmeans", "min_cluster_size": 5},
            "min_cluster_size has no effect with `method=kmeans`",
        ),
        ({"method": "kmeans", "k": 0}, "k must be at least 1, not 0"),
        ({"min_cluster_size": 1}, "min_cluster_size must be at least 2, not 1"),
        ({"levels": 0}, "levels must be between 1 and 20, not 0"),
        ({"levels": 10**9}, "levels must be between 1 and 20, not 1000000000"),
        ({"outlier_threshold": 2}, "outlier_threshold must be between 0 and 1, not 2"),
        ({"outlier_threshold": np.nan}, "outlier_threshold must be between 0 and 1, not nan"),
        ({"outlier_threshold": 0.3, "outliers": "keep"}, "outlier_threshold has no effect with `outliers=keep`"),
        ({"merge": 0}, "merge must be above 0, not 0"),
        ({"merge": np.nan}, "merge must be above 0, not nan"),
        ({"seed": -1}, "seed must be between 0 and 4294967295, not -1"),
        ({"seed": 2**32}, "seed must be between 0 and 4294967295, not 4294967296"),
    ],
)
def test_settings_that_make_no_sense(settings, message):
    with pytest.raises(UsageError, match=message):
        ClusterSettings(**settings)


@pytest.fixture
def index(tmp_path, source):
    """An index of 30 documents, the first of which has three rows; with the source it was made from."""
    made, path = source(30), tmp_path / "docs.index"
    with Index.create(path, dimension=32, encoder=made.encoder) as new, new.writer() as writer:
        first = IndexedDocument("a", "alpha", "A title", {"label": "x"}, spans=((0, 2), (2, 4), (4, 5)))
        writer.add([first], made.vectors[[0, 1, 2]])
        writer.add([IndexedDocument(d.id, d.text, d.title, d.metadata) for d in made.documents[1:]], made.vectors[1:])
        writer.commit()
    return path, made


def test_an_index_gives_its_documents_and_vectors(index):
    path, made = index
    assert is_index(path)
    assert not is_index(path / "store.db")
    found = read_index(path)
    assert [d.id for d in found.documents] == ["a", *(d.id for d in made.documents[1:])]
    assert found.documents[0].content == "A title alpha"
    assert found.documents[1].metadata == made.documents[1].metadata
    assert found.encoder == made.encoder
    mean = made.vectors[:3].mean(axis=0)
    np.testing.assert_allclose(found.vectors[0], mean / np.linalg.norm(mean), atol=1e-3)
    np.testing.assert_allclose(found.vectors[1:], made.vectors[1:], atol=1e-3)
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, atol=1e-6)


def test_an_empty_index(tmp_path):
    Index.create(tmp_path / "e.index", dimension=4, encoder={"name": "n", "fingerprint": "f"}).close()
    with pytest.raises(ClusteringError, match="the index holds no documents"):
        read_index(tmp_path / "e.index")


def uneven(blobs, sizes, **settings):
    """Clusters of these sizes, found with these settings."""
    vectors, truth = blobs(sizes, spread=0.12)
    words = ["orbit rocket", "dough yeast", "pawn knight", "whale coral", "tenor aria"]
    documents = [Document(str(n), f"{words[label]} text {n}") for n, label in enumerate(truth.tolist())]
    return cluster(Source(documents, vectors, {}), ClusterSettings(**settings))


def test_a_topic_that_dwarfs_the_others_is_told_with_what_to_type(blobs):
    found = uneven(blobs, (120, 30, 25, 25))
    (line,) = [line for line in found.warnings if "holds" in line]
    assert line.startswith("topic 0 (")
    assert "holds 60% of the documents; `min_cluster_size=4` looks for smaller topics, `method=kmeans` cuts" in line
    found = uneven(blobs, (120, 30, 25, 25), min_cluster_size=5)
    assert any("of the documents; `method=kmeans` cuts more evenly" in line for line in found.warnings)
    found = uneven(blobs, (120, 30, 25, 25), method="kmeans", k=4)
    assert any("`k=8` makes more topics" in line for line in found.warnings)


def test_topics_of_about_one_size_are_not_called_big(blobs):
    assert not [line for line in uneven(blobs, (60, 50)).warnings if "holds" in line]
    assert not [line for line in uneven(blobs, (60, 50, 45, 40)).warnings if "holds" in line]


def test_levels_that_change_nothing_are_told(blobs):
    (line,) = [line for line in uneven(blobs, (50, 50, 50), levels=5).warnings if "levels" in line]
    assert line == "`levels=5`: 3 topics give 2 levels and not more"
    assert not [line for line in uneven(blobs, (50, 50, 50, 50, 50), levels=3).warnings if "levels" in line]
    assert not [line for line in uneven(blobs, (50, 50)).warnings if "levels" in line]
