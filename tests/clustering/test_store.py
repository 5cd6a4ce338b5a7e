"""The folder: the same bytes each time, the old one or the new one, and a model that comes back whole."""

from __future__ import annotations

import errno
import json
import os
import re
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest

from llm2comp_apps.clustering import ClusterSettings, cluster, load_model, write_clustering
from llm2comp_apps.clustering.output.report import report_markdown
from llm2comp_apps.clustering.output.store import write_rows
from llm2comp_apps.errors import ClusteringError, UsageError

FILES = {
    "documents.csv", "documents.jsonl", "labels.csv", "map.html", "map.png", "model/documents.jsonl.gz",
    "model/model.json", "model/model.safetensors", "report.md", "topics.csv", "topics.json",
}  # fmt: skip


@pytest.fixture(scope="module")
def found(source):
    return cluster(source(80), ClusterSettings(label_field="label", min_cluster_size=8))


def bytes_of(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def records(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_two_runs_give_the_same_bytes(source, found, tmp_path):
    again = cluster(source(80), ClusterSettings(label_field="label", min_cluster_size=8))
    for clustering, name in ((found, "one"), (again, "other")):
        (tmp_path / name).mkdir()
        assert write_clustering(clustering, tmp_path / name / "x.clusters") == []
    one, other = (bytes_of(tmp_path / name / "x.clusters") for name in ("one", "other"))
    assert set(one) == FILES
    assert one == other


def test_table_says_what_was_found(found, tmp_path):
    write_clustering(found, tmp_path / "x.clusters", parquet=True)
    rows = records(tmp_path / "x.clusters" / "documents.jsonl")
    topics = json.loads((tmp_path / "x.clusters" / "topics.json").read_text())["topics"]
    names = {topic["id"]: topic["name"] for topic in topics}
    assert [row["_id"] for row in rows] == [document.id for document in found.source.documents]
    assert [row["cluster"] for row in rows] == found.labels.tolist()
    for row, membership in zip(rows, found.membership, strict=True):
        assert row["name"] == names.get(row["cluster"])
        assert row["probability"] == pytest.approx(membership[row["cluster"]] if row["cluster"] >= 0 else 0, abs=1e-4)
        others = np.delete(membership, row["cluster"]) if row["cluster"] >= 0 else membership
        assert row["second_probability"] == pytest.approx(others.max(initial=0), abs=1e-4)
        assert row["second_cluster"] != row["cluster"]
    sizes = {topic["id"]: topic["size"] for topic in topics if topic["level"] == 1}
    assert sizes == {t: np.count_nonzero(found.labels == t) for t in sizes}
    ids = {row["_id"] for row in rows}
    assert all(set(topic["representatives"]) <= ids for topic in topics)
    table = pyarrow.parquet.read_table(tmp_path / "x.clusters" / "documents.parquet").to_pylist()
    assert [row["_id"] for row in table] == [row["_id"] for row in rows]
    assert [row["second_cluster"] for row in table] == [row["second_cluster"] for row in rows]


def test_report_names_settings_scores_and_topics(found, tmp_path):
    write_clustering(found, tmp_path / "x.clusters")
    report = (tmp_path / "x.clusters" / "report.md").read_text("utf-8")
    assert report.startswith("# x\n")
    for word in ("silhouette", "DBCV", "V-measure", "NMI", "adjusted Rand index", "purity", "outlier share"):
        assert word in report
    assert all(topic.name in report for topic in found.topics)
    assert "| min_cluster_size | 8 |" in report
    assert f"{found.scores['ari']:.4f}" in report


def test_texts_are_no_html_in_the_report(found):
    documents = [replace(each, text=f"<!-- | </td><img src=x> {each.text}") for each in found.source.documents]
    report = report_markdown(replace(found, source=replace(found.source, documents=documents)), "x")
    assert "<" not in report
    topics = report.partition("## Topics")[2].partition("## Labels")[0].strip().splitlines()
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in topics}) == 1


def test_reloaded_model_gives_every_document_its_label(found, tmp_path):
    write_clustering(found, tmp_path / "x.clusters")
    model = load_model(tmp_path / "x.clusters")
    texts = [document.content for document in found.source.documents]
    by_text = model.assign(texts, lambda new: pytest.fail(f"asked for vectors of {new}"))
    by_vector = model.assigner.assign(found.source.vectors)
    for labels, membership in (by_text, by_vector):
        np.testing.assert_array_equal(labels, found.labels)
        np.testing.assert_array_equal(membership, found.membership)
    assert model.names == [topic.name for topic in found.base_topics]
    assert model.encoder == found.source.encoder


def test_equal_texts_with_different_vectors_get_each_its_own_label(found, tmp_path, source):
    """As an index may hold them whose vectors were imported."""
    from dataclasses import replace

    made = source(80)
    documents = [replace(document, text="the same words", title="") for document in made.documents]
    clustering = cluster(replace(made, documents=documents), ClusterSettings(method="kmeans", k=4))
    write_clustering(clustering, tmp_path / "x.clusters")
    model = load_model(tmp_path / "x.clusters")
    labels, _ = model.assign(["the same words"] * 80, lambda new: made.vectors[new])
    np.testing.assert_array_equal(labels, clustering.labels)


def test_new_texts_are_assigned_by_their_vectors(found, tmp_path, source):
    write_clustering(found, tmp_path / "x.clusters")
    model = load_model(tmp_path / "x.clusters")
    new = source(40, seed=1)
    labels, membership = model.assign([d.content for d in new.documents], lambda rows: new.vectors[rows])
    topic_of = {}
    for document, label in zip(found.source.documents, found.labels.tolist(), strict=True):
        topic_of.setdefault(document.metadata["label"], []).append(label)
    majority = {name: max(set(own), key=own.count) for name, own in topic_of.items()}
    right = [majority[d.metadata["label"]] == label for d, label in zip(new.documents, labels.tolist(), strict=True)]
    assert np.mean(right) > 0.9
    assert membership.shape == (40, len(model.names))


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.ones((1, 7), np.float32), "width 7; the topics were fitted on width 32"),
        (np.full((1, 32), np.nan, np.float32), "NaN"),
    ],
)
def test_new_vectors_that_do_not_fit(vectors, message, found, tmp_path):
    write_clustering(found, tmp_path / "x.clusters")
    with pytest.raises(ClusteringError, match=message):
        load_model(tmp_path / "x.clusters").assign(["never seen"], lambda rows: vectors)


@pytest.mark.parametrize("damage", sorted(FILES & {"model/model.json", "model/model.safetensors", "topics.json"}))
@pytest.mark.parametrize("how", ["cut", "flip", "gone"])
def test_a_damaged_model_is_refused_in_one_line(how, damage, found, tmp_path):
    folder = tmp_path / "x.clusters"
    write_clustering(found, folder)
    path = folder / damage
    data = path.read_bytes()
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(data[: len(data) // 2] if how == "cut" else data.replace(b'"', b"'", 9)[:-1] + b"\xff")
    with pytest.raises((ClusteringError, UsageError)) as caught:
        load_model(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_newer_format_is_refused_by_name(found, tmp_path):
    write_clustering(found, tmp_path / "x.clusters")
    path = tmp_path / "x.clusters" / "model" / "model.json"
    path.write_text(path.read_text().replace('"format": 2', '"format": 3'))
    with pytest.raises(ClusteringError, match="format 3; this version reads formats 1 and 2"):
        load_model(tmp_path / "x.clusters")


def test_an_older_clustering_is_replaced_and_nothing_else_is(found, tmp_path):
    target = tmp_path / "x.clusters"
    write_clustering(found, target)
    (target / "stale").write_text("of the old one")
    write_clustering(found, target)
    assert set(bytes_of(target)) == FILES
    assert [path.name for path in tmp_path.iterdir()] == ["x.clusters"]
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("years of work")
    with pytest.raises(UsageError, match="exists and is no clustering"):
        write_clustering(found, mine)
    assert (mine / "thesis.tex").read_text() == "years of work"
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="exists and is no clustering"):
        write_clustering(found, tmp_path / "file")


@pytest.mark.parametrize("name", ["documents.jsonl", "map.html", "report.md", "model.safetensors"])
def test_a_full_disk_leaves_the_old_folder_and_nothing_beside_it(name, found, tmp_path, monkeypatch):
    target = tmp_path / "x.clusters"
    write_clustering(found, target)
    before = bytes_of(target)
    real = Path.open

    def full(self, mode="r", *arguments, **options):
        if self.name == name and "w" in mode:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(self, mode, *arguments, **options)

    monkeypatch.setattr(Path, "open", full)
    monkeypatch.setattr(Path, "write_text", lambda self, text, *_: full(self, "wb").write(text.encode()) and None)
    monkeypatch.setattr(Path, "write_bytes", lambda self, data: full(self, "wb").write(data))
    with pytest.raises(ClusteringError, match=r"x\.clusters: cannot be written: No space left"):
        write_clustering(found, target)
    monkeypatch.undo()
    assert bytes_of(target) == before
    assert [path.name for path in tmp_path.iterdir()] == ["x.clusters"]


def test_without_matplotlib_the_picture_is_left_out_and_said_so(found, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    (line,) = write_clustering(found, tmp_path / "x.clusters")
    assert "pip install 'llm2comp-apps[plot]'" in line
    assert set(bytes_of(tmp_path / "x.clusters")) == FILES - {"map.png"}


@pytest.mark.parametrize("wrong", [{"seen": date(2021, 6, 9)}, {"half": "\ud83d"}, {"tags": {"a", "b"}}])
def test_fields_that_json_lacks_are_told_and_leave_the_old_folder(wrong, found, tmp_path):
    target = tmp_path / "x.clusters"
    write_clustering(found, target, png=False)
    before = bytes_of(target)
    documents = list(found.source.documents)
    documents[3] = replace(documents[3], metadata=wrong)
    changed = replace(found, source=replace(found.source, documents=documents))
    with pytest.raises(ClusteringError, match=rf"^document '{documents[3].id}' cannot be written: .*"):
        write_clustering(changed, target, png=False)
    assert bytes_of(target) == before
    assert list(tmp_path.iterdir()) == [target]


def test_rows_replace_a_file_at_once(tmp_path):
    path = tmp_path / "new.jsonl"
    nothing = {"name": None, "probability": 0.0, "second_cluster": None, "second_probability": 0.0}
    rows = [{"_id": "é", "cluster": -1, **nothing}]
    write_rows(rows, path, parquet=True)
    assert records(path) == rows
    assert sorted(p.name for p in tmp_path.iterdir()) == ["new.jsonl", "new.parquet"]
    with pytest.raises(ClusteringError, match="cannot be written"):
        write_rows(rows, tmp_path / "missing" / "new.jsonl")
