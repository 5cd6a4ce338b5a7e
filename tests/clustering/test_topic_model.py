"""The front door: any source of documents in; topics, tables, maps and folders out; and back again."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from llm2comp_indexes import Index, IndexedDocument

import llm2comp_apps
from llm2comp_apps.clustering import ClusterSettings, TopicModel, cluster
from llm2comp_apps.clustering.algorithms.quality import agreement
from llm2comp_apps.corpus import Document
from llm2comp_apps.errors import ClusteringError, UsageError

GOLDEN = Path(__file__).parent / "golden" / "version-0.1.0.clusters.zip"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LLM2COMP_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def index(tmp_path, source):
    made, path = source(80), tmp_path / "docs.index"
    with Index.create(path, dimension=32, encoder=made.encoder) as new, new.writer() as writer:
        writer.add([IndexedDocument(d.id, d.text, d.title, d.metadata) for d in made.documents], made.vectors)
        writer.commit()
    return path


def home(model, kind):
    """The topic of most documents of a subject."""
    own = [t for d, t in zip(model.documents, model.labels.tolist(), strict=True) if d.id.startswith(kind)]
    return max(set(own), key=own.count)


def test_every_source_gives_the_topics_of_the_pipeline(source, index, make_hash_encoder):
    made, encoder = source(80), make_hash_encoder()
    expected = cluster(made, ClusterSettings()).labels
    texts = [document.content for document in made.documents]
    with Index.open(index) as opened:
        models = [
            TopicModel.fit(made),
            TopicModel.fit(made.documents, vectors=made.vectors),
            TopicModel.fit(texts, vectors=made.vectors),
            TopicModel.fit(made.documents, encoder=encoder),
            TopicModel.fit(str(index)),
            TopicModel.fit(SimpleNamespace(index=opened)),
        ]
    for number, model in enumerate(models):
        assert len(model.topics) == 4
        assert agreement(expected.tolist(), model.labels)["ari"] > (0.9 if number > 2 else 1 - 1e-9), "half precision"
    assert models[0].encoder == models[4].encoder == made.encoder
    assert models[3].encoder == {name: made.encoder[name] for name in ("name", "fingerprint")}
    assert models[2].documents[0].text == texts[0]


def test_settings_go_by_name(source):
    made = source(80)
    model = TopicModel.fit(made, method="kmeans", k=3, levels=1)
    assert len(model.topics) == len(model.hierarchy) == 3
    assert TopicModel.fit(made, settings=ClusterSettings(method="kmeans", k=3), k=2).clustering.settings.k == 2
    with pytest.raises(UsageError, match="k must be at least 1, not 0") as caught:
        TopicModel.fit(made, method="kmeans", k=0)
    assert caught.value.field == "k"
    with pytest.raises(TypeError, match="min_size"):
        TopicModel.fit(made, min_size=3)


@pytest.mark.parametrize(
    ("wrong", "options", "message"),
    [
        ("none.index", {}, "none.index is no index; give texts as a list"),
        ([b"bytes"], {}, r"source must be texts or documents, not bytes \(at 0\)"),
        (["a", None], {}, r"source must be texts or documents, not NoneType \(at 1\)"),
        ({"a": "its text"}, {}, "source must be a list of texts or documents, not one dict"),
        ({"a", "b"}, {}, "source must be a list of texts or documents, not one set"),
        (5, {}, "source must be a list of texts or documents, not one int"),
        (np.array([["a", "b"]]), {}, r"source must be texts or documents, not a table \(ndarray\); choose one"),
        (["a", "b"], {"vectors": np.ones((3, 4))}, r"vectors must be a row for each of 2 documents, not \(3, 4\)"),
        (["a", "b"], {"vectors": np.ones(2)}, r"vectors must be a row for each of 2 documents, not \(2,\)"),
    ],
)
def test_what_is_no_source_is_said_in_one_line(wrong, options, message):
    with pytest.raises(UsageError, match=message):
        TopicModel.fit(wrong, **options)


def test_what_cannot_work_is_said_before_an_encoder_is_loaded(documents, monkeypatch):
    monkeypatch.setattr("llm2comp_apps.encoder.load_encoder", lambda *_, **__: pytest.fail("loaded"))
    with pytest.raises(ClusteringError, match="`k=9`: there are only 4 documents"):
        TopicModel.fit(documents(4), method="kmeans", k=9)
    with pytest.raises(ClusteringError, match="there are no documents"):
        TopicModel.fit([])


def test_progress_is_a_callback(documents, make_hash_encoder):
    told = []
    TopicModel.fit(documents(40), encoder=make_hash_encoder(), on_progress=lambda step: told.append(str(step)))
    assert told[0] == "encoding: 1/40 documents"
    assert told[39] == "encoding: 40/40 documents"
    assert told[40:] == ["clustering 40 documents by hdbscan", "describing the topics"]


def test_new_texts_are_assigned_and_fitted_ones_get_what_they_had(source, documents, make_hash_encoder):
    model = TopicModel.fit(source(80))
    encoder = make_hash_encoder()
    again = model.assign(model.documents, encoder=encoder)
    assert encoder.calls == 0
    assert [row["cluster"] for row in again] == model.labels.tolist()
    new = model.assign(["rocket launch orbit satellite lunar shuttle", documents(4, seed=5)[1]], encoder=encoder)
    assert [row["cluster"] for row in new] == [home(model, "space"), home(model, "bread")]
    assert new[0]["name"] == model.names[new[0]["cluster"]]
    assert list(new[0]) == ["_id", "cluster", "name", "probability", "second_cluster", "second_probability"]


@pytest.mark.parametrize("method", ["assign", "update"])
def test_another_encoder_is_refused_by_name(method, source, make_hash_encoder):
    model = TopicModel.fit(source(80))
    other = make_hash_encoder(seed="other")
    with pytest.raises(ClusteringError, match="fitted with the encoder hash; this is another one, hashother"):
        getattr(model, method)(["never seen"], encoder=other)
    with pytest.raises(ClusteringError, match="those were encoded by another one, hashother"):
        getattr(model, method)(TopicModel.fit(["a", "b"], encoder=other).clustering.source)
    nobody = TopicModel.fit(source(80).documents, vectors=source(80).vectors)
    with pytest.raises(ClusteringError, match="not known which encoder made the vectors of the topics"):
        getattr(nobody, method)(["never seen"])


def test_a_model_of_given_vectors_takes_the_encoder_that_is_named(documents, make_hash_encoder):
    """Nothing else can be known of it; a width that does not fit is refused all the same."""
    made, encoder = documents(80), make_hash_encoder()
    model = TopicModel.fit(made, vectors=encoder.encode([document.content for document in made]))
    text = "rocket launch orbit satellite lunar shuttle"
    (row,) = model.assign([text], encoder=encoder)
    assert row["cluster"] == home(model, "space")
    with pytest.raises(ClusteringError, match="vectors of width 8; the topics were fitted on width 32"):
        model.assign([text], encoder=make_hash_encoder(8))
    assert model.update([text], encoder=encoder).grown == {home(model, "space"): 1}


def test_an_id_of_two_texts_is_refused_before_anything_is_encoded(documents, make_hash_encoder):
    """A folder names documents by their ids: read back, a topic would show the other text as its most central one."""
    made, encoder = documents(40), make_hash_encoder()
    with pytest.raises(UsageError, match=r"source has the id 'space-0' twice, with different texts"):
        TopicModel.fit([*made, Document("space-0", "another text")], encoder=encoder)
    assert encoder.calls == 0
    assert len(TopicModel.fit([*made, made[0]], encoder=encoder).documents) == 41


def test_saved_and_loaded_it_is_the_same(source, tmp_path):
    model = TopicModel.fit(source(80), levels=3, label_field="label")
    assert model.save(tmp_path / "one.clusters") == []
    again = TopicModel.load(tmp_path / "one.clusters")
    np.testing.assert_array_equal(again.labels, model.labels)
    assert again.hierarchy == model.hierarchy
    assert again.names == model.names
    assert [d.metadata for d in again.documents] == [d.metadata for d in model.documents]
    assert again.report("x") == model.report("x")
    again.save(tmp_path / "other.clusters")
    for path in (tmp_path / "one.clusters").rglob("*"):
        if path.is_file() and path.name not in ("report.md", "map.html"):  # whose title is the folder's name
            assert (
                path.read_bytes()
                == (tmp_path / "other.clusters" / path.relative_to(tmp_path / "one.clusters")).read_bytes()
            )


def test_names_that_a_person_wrote_into_the_folder_stay(source, tmp_path):
    model = TopicModel.fit(source(80))
    model.save(tmp_path / "x.clusters")
    path = tmp_path / "x.clusters" / "topics.json"
    path.write_text(path.read_text().replace(f'"{model.topics[0].name}"', '"My own name"'))
    again = TopicModel.load(tmp_path / "x.clusters")
    assert again.names[0] == again.topics[0].name == "My own name"


def test_the_map_has_the_form_that_its_name_says(source, tmp_path):
    model = TopicModel.fit(source(80))
    model.map(tmp_path / "m.html")
    model.map(tmp_path / "m.png")
    with pytest.raises(ClusteringError, match=r"m\.html: cannot be written: No such file or directory"):
        model.map(tmp_path / "none" / "m.html")
    assert (tmp_path / "m.html").read_text("utf-8").startswith("<!doctype html>")
    assert (tmp_path / "m.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(UsageError, match=r"path must end in \.html or \.png, not m\.pdf"):
        model.map(tmp_path / "m.pdf")
    assert model.report("Notes").startswith("# Notes\n")
    assert all(topic.parent in {parent.id for parent in model.hierarchy} for topic in model.topics)


@pytest.fixture
def golden(tmp_path):
    """A clustering that version 0.1.0 wrote: 48 documents of three subjects, 3 levels, ``min_cluster_size`` 6."""
    with zipfile.ZipFile(GOLDEN) as archive:
        archive.extractall(tmp_path)
    return tmp_path / "version-0.1.0.clusters"


def test_a_clustering_of_version_0_1_0_assigns_and_updates(golden, make_hash_encoder, documents, tmp_path):
    table = [json.loads(line) for line in (golden / "documents.jsonl").read_text("utf-8").splitlines()]
    model, encoder = TopicModel.load(golden), make_hash_encoder()
    assert model.labels.tolist() == [row["cluster"] for row in table]
    assert [document.id for document in model.documents] == [row["_id"] for row in table]
    assert model.clustering.settings == ClusterSettings(min_cluster_size=6, levels=3)
    new = documents(48, seed=9)  # a fourth of them about the ocean, which is new
    right = [
        row["cluster"] == home(model, document.id.partition("-")[0])
        for document, row in zip(new, model.assign(new, encoder=encoder), strict=True)
        if not document.id.startswith("ocean")
    ]
    assert np.mean(right) > 0.9
    before = model.labels.tolist()
    fresh = [Document(f"{document.id}-new", document.text) for document in new]
    report = model.update(fresh, encoder=encoder)
    assert report.added == 48
    (new_topic,) = report.new_topics
    ocean = [label for document, label in zip(model.documents, model.labels, strict=True) if "ocean" in document.id]
    assert ocean == [new_topic] * 12
    assert report.new_topics[new_topic] <= 14
    assert model.labels[:48].tolist() == before
    assert set(json.loads((golden / "topics.json").read_text())["topics"][0]["representatives"]) <= {
        r["_id"] for r in table
    }
    model.save(tmp_path / "now.clusters")
    again = TopicModel.load(tmp_path / "now.clusters")
    assert again.names == model.names
    assert again.update(fresh, encoder=encoder).unchanged == 48


def test_a_clustering_of_version_0_1_0_without_its_map_assigns_and_says_why_it_does_not_update(golden):
    (golden / "map.html").unlink()
    model = TopicModel.load(golden)
    assert len(model.labels) == 48
    assert model.assign(["x"], vectors=np.ones((1, 32)))[0]["cluster"] in {-1, *model.names}
    with pytest.raises(ClusteringError, match=r"made by an older version, and its map\.html"):
        model.update(["x"], vectors=np.ones((1, 32)))


@pytest.mark.parametrize("damage", ["documents.jsonl.gz", "model.safetensors"])
def test_damage_is_found_when_it_is_read(damage, source, tmp_path):
    TopicModel.fit(source(80)).save(tmp_path / "x.clusters")
    path = tmp_path / "x.clusters" / "model" / damage
    path.write_bytes(path.read_bytes()[:-1] + b"\xff")
    with pytest.raises(ClusteringError, match="has changed since it was written; cluster again"):
        TopicModel.load(tmp_path / "x.clusters").topics  # noqa: B018 - reading is what is tested


def test_it_is_a_name_of_the_package_that_costs_nothing_until_it_is_used():
    assert llm2comp_apps.TopicModel is TopicModel
    code = (
        "import sys; from llm2comp_apps import TopicModel; TopicModel.load; "
        "print(sorted({'torch', 'scipy', 'sklearn', 'numba', 'hdbscan', 'faiss'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_given_vectors_count_by_their_directions(source):
    made = source(80)
    lengths = 2.0 ** (1 + np.arange(len(made.vectors)) % 7)  # of powers of two no digit is lost
    equal, unlike = (
        TopicModel.fit(made.documents, vectors=made.vectors * each, method="kmeans", k=4)
        for each in (np.float32(2), lengths[:, None].astype(np.float32))
    )
    assert unlike.labels.tolist() == equal.labels.tolist()
    assert [topic.representatives for topic in unlike.topics] == [topic.representatives for topic in equal.topics]
