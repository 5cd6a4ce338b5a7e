"""Tables for other programs: texts and fields beside the topics, topics, labels by topic, topics over time."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pyarrow.parquet
import pytest

from llm2comp_apps.clustering import ClusterSettings, Source, TopicModel, cluster, write_clustering
from llm2comp_apps.clustering.output.tables import label_rows, topic_rows, with_contents
from llm2comp_apps.corpus import Document
from llm2comp_apps.errors import ClusteringError

SETTINGS = ClusterSettings(label_field="label", time_field="seen", min_cluster_size=8)


@pytest.fixture(scope="module")
def dated(source):
    made = source(80)
    documents = [
        replace(document, metadata={**document.metadata, "seen": f"20{15 + n % 6}-05-01", "tags": ["a", "b"]})
        for n, document in enumerate(made.documents)
    ]
    return Source(documents, made.vectors, made.encoder)


@pytest.fixture(scope="module")
def found(dated):
    return cluster(dated, SETTINGS)


@pytest.fixture(scope="module")
def folder(found, tmp_path_factory):
    target = tmp_path_factory.mktemp("made") / "x.clusters"
    assert write_clustering(found, target, parquet=True, atlas=True) == []
    return target


def table(path):
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def test_documents_carry_their_texts_and_fields(found, folder):
    lines = [json.loads(line) for line in (folder / "documents.jsonl").read_text("utf-8").splitlines()]
    for line, row, document in zip(lines, table(folder / "documents.csv"), found.source.documents, strict=True):
        assert (line["_id"], line["title"], line["text"]) == (document.id, document.title, document.text)
        assert {name: line[name] for name in document.metadata} == document.metadata
        assert (row["text"], row["label"], row["tags"]) == (document.text, document.metadata["label"], '["a", "b"]')
        assert row["cluster"] == str(line["cluster"])
    assert (folder / "documents.csv").read_bytes().startswith(b"\xef\xbb\xbf"), "spreadsheets go by this mark"


def test_documents_are_a_corpus_again(folder):
    from llm2comp_apps import read_corpus

    again = list(read_corpus([str(folder / "documents.jsonl")]))
    assert len(again) == 80
    assert {"cluster", "name", "label"} <= set(again[0].metadata)


def test_a_field_of_a_taken_name_is_not_lost():
    document = Document("1", "text", metadata={"cluster": "mine", "year": 1})
    (row,) = with_contents([{"_id": "1", "cluster": 0}], [document])
    assert (row["cluster"], row["document_cluster"], row["year"]) == (0, "mine", 1)


def test_no_field_hides_another_whatever_they_are_called():
    """And one column holds one field, whatever other fields a document has."""
    full = Document("1", "text", "mine", {"title": "a", "document_title": "b", "document_document_title": "c"})
    other = Document("2", "text", metadata={"title": "d"})
    rows = with_contents([{"_id": "1"}, {"_id": "2"}], [full, other])
    assert rows[0]["title"] == "mine"
    assert set(full.metadata.values()) < set(rows[0].values())
    (column,) = (name for name, value in rows[1].items() if value == "d")
    assert rows[0][column] == "a"


def test_topics_of_all_levels_are_a_table(found, folder):
    rows = table(folder / "topics.csv")
    assert [int(row["topic"]) for row in rows] == [topic.id for topic in found.topics]
    names = {row["topic"]: row["name"] for row in rows}
    for row, topic in zip(rows, found.topics, strict=True):
        assert int(row["documents"]) == topic.size
        assert row["parent_name"] == (names[row["parent"]] if row["parent"] else "")
        assert row["keywords"].split(", ") == [term for term, _ in topic.keywords]
    assert topic_rows(found)[0]["central_text"] in {document.content for document in found.source.documents}


def test_labels_by_topic_add_up(found, folder):
    rows = label_rows(found)
    assert {row["label"]: row["documents"] for row in rows} == dict.fromkeys(("space", "bread", "chess", "ocean"), 20)
    for row in rows:
        counts = [value for name, value in row.items() if name not in ("label", "documents")]
        assert sum(counts) == 20
    for topic in found.base_topics:
        assert sum(row[f"{topic.id} {topic.name}"] for row in rows) == topic.size
    assert len(table(folder / "labels.csv")) == 4
    assert "| label | documents | in the topics |" in (folder / "report.md").read_text("utf-8")


def test_topics_over_time_add_up(found, folder):
    rows = table(folder / "time.csv")
    assert sum(int(row["documents"]) for row in rows) == 80
    for topic in found.base_topics:
        assert sum(int(row["documents"]) for row in rows if row["topic"] == str(topic.id)) == topic.size
    shares: dict[str, float] = {}
    for row in rows:
        shares[row["period"]] = shares.get(row["period"], 0) + float(row["share"])
    assert sorted(shares) == [f"20{year}-Q2" for year in range(15, 21)]
    assert all(share == pytest.approx(1, abs=0.01) for share in shares.values())
    assert (folder / "time.png").read_bytes().startswith(b"\x89PNG")
    assert "## Over time" in (folder / "report.md").read_text("utf-8")


def test_the_atlas_has_places_and_types(found, folder):
    read = pyarrow.parquet.read_table(folder / "atlas.parquet")
    assert {"_id", "text", "name", "x", "y", "label", "seen", "tags"} <= set(read.column_names)
    np.testing.assert_allclose(np.column_stack([read["x"], read["y"]]), found.positions, atol=1e-6)
    assert str(read.schema.field("cluster").type) == "int32"
    assert None not in read["name"].to_pylist()


def test_the_atlas_has_the_nearest_documents_of_each(found, folder):
    read = pyarrow.parquet.read_table(folder / "atlas.parquet")["neighbors"].to_pylist()
    vectors = found.source.vectors
    for row in (0, 17, 79):
        far = np.linalg.norm(vectors - vectors[row], axis=1)
        ids, distances = read[row]["ids"], read[row]["distances"]
        assert len(set(ids)) == 15
        assert row not in ids
        assert distances == sorted(distances)
        np.testing.assert_allclose(distances, far[ids], atol=1e-3)
        assert np.sort(far)[1:16] == pytest.approx(distances, abs=1e-3)


def test_the_atlas_writes_each_name_among_its_documents(found, folder):
    rows = pyarrow.parquet.read_table(folder / "atlas-labels.parquet").to_pylist()
    assert [(row["text"], row["priority"]) for row in rows] == [(topic.name, topic.size) for topic in found.base_topics]
    assert all(row["content"] == row["text"] for row in rows)
    for label, row in enumerate(rows):
        own = found.positions[found.labels == label]
        assert np.abs(own - [row["x"], row["y"]]).sum(axis=1).min() < 1e-5


def test_the_atlas_of_one_document_and_of_fields_with_names_of_its_own(tmp_path, source):
    documents = [replace(source(1).documents[0], title="", metadata={"x": 3, "neighbors": "nobody"})]
    model = TopicModel.fit(documents, vectors=source(1).vectors)
    model.save(tmp_path / "one.clusters", atlas=True)
    (row,) = pyarrow.parquet.read_table(tmp_path / "one.clusters" / "atlas.parquet").to_pylist()
    assert (row["document_x"], row["document_neighbors"], row["name"]) == (3, "nobody", "(outlier)")
    assert row["neighbors"] == {"ids": [], "distances": []}
    assert "title" not in row
    assert pyarrow.parquet.read_table(tmp_path / "one.clusters" / "atlas-labels.parquet").num_rows == 0


def test_columns_of_mixed_values_are_text(tmp_path, dated):
    documents = [
        replace(document, metadata={"mixed": n if n % 2 else f"n{n}", "big": 2**70, "gone": None})
        for n, document in enumerate(dated.documents)
    ]
    model = TopicModel.fit(documents, vectors=dated.vectors, min_cluster_size=8)
    model.save(tmp_path / "x.clusters", parquet=True)
    read = pyarrow.parquet.read_table(tmp_path / "x.clusters" / "documents.parquet")
    assert read["mixed"].to_pylist()[:3] == ["n0", "1", "n2"]
    assert read["big"].to_pylist()[0] == str(2**70)


def test_a_field_without_dates_is_refused_before_anything_is_encoded(dated):
    with pytest.raises(ClusteringError, match="`time_field=label`: no document has a date in this field; they have"):
        cluster(dated, ClusterSettings(time_field="label"))


def test_without_fields_there_are_no_tables_of_them(source, tmp_path):
    write_clustering(cluster(source(80), ClusterSettings(min_cluster_size=8)), tmp_path / "x.clusters")
    made = {path.name for path in (tmp_path / "x.clusters").iterdir()}
    assert not made & {"labels.csv", "time.csv", "time.png", "documents.parquet", "atlas.parquet"}
