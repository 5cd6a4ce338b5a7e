"""What the page asks for beside search: fields, the map, topics, documents without a query, its own files."""

from __future__ import annotations

import base64
import shutil

import numpy as np
import pytest

from llm2comp_apps import Collection, Document, TopicModel
from llm2comp_apps.serving import key_hash
from llm2comp_apps.serving.generations import ServedIndex
from llm2comp_apps.serving.page_files import PUBLIC, page_routes
from llm2comp_apps.serving.topic_maps import TopicMap, ids_condition


@pytest.fixture
def ask(running, clustered):
    with running(indexes=[clustered]) as server:
        yield server.ask


def points(drawn) -> np.ndarray:
    return np.stack([np.frombuffer(base64.b64decode(drawn[axis]), "<u2") for axis in "xy"], axis=1).astype(float)


def around(place, reach=1) -> list[list[float]]:
    x, y = place
    return [[x - reach, y - reach], [x + reach, y - reach], [x + reach, y + reach], [x - reach, y + reach]]


def test_fields_with_their_values(ask) -> None:
    status, answer = ask("GET", "/indexes/library/fields")
    assert status == 200
    fields = {field["name"]: field for field in answer["fields"]}
    assert fields["topic"]["type"] == "text"
    assert dict(fields["topic"]["values"]) == dict.fromkeys(("cells", "stars", "bread", "ships"), 15)
    assert (fields["year"]["low"], fields["year"]["high"], fields["year"]["distinct"]) == (2000, 2059, 60)


def test_an_index_that_was_removed_and_built_again_is_served(tmp_path, hash_encoder) -> None:
    def build(word: str) -> None:
        shutil.rmtree(tmp_path / "a.index", ignore_errors=True)
        with Collection.create(tmp_path / "a.index", encoder=hash_encoder) as made:
            made.update([Document("a", f"The {word} document", metadata={word: 1})])

    build("old")
    served = ServedIndex("a", tmp_path / "a.index")
    assert [field["name"] for field in served.fields] == ["old"]
    build("new")
    assert served.refresh()
    assert not served.refresh()
    assert [hit.text for hit in served.collection.search("document", mode="lexical")] == ["The new document"]
    assert [field["name"] for field in served.fields] == ["new"]
    served.close()


def test_documents_without_a_query(ask) -> None:
    body = {"where": "topic = 'bread'", "limit": 4, "offset": 2, "facets": ["topic"]}
    status, answer = ask("POST", "/indexes/library/browse", body)
    assert status == 200
    rest = ask("POST", "/indexes/library/browse", {**body, "offset": 0, "limit": 60})[1]["hits"]
    assert len(rest) == len({hit["id"] for hit in rest if hit["id"].startswith("bread-")}) == 15
    assert [hit["id"] for hit in answer["hits"]] == [hit["id"] for hit in rest[2:6]]
    assert [hit["rank"] for hit in answer["hits"]] == [3, 4, 5, 6]
    assert answer["estimatedTotalHits"] == 15
    assert answer["facetDistribution"] == {"topic": {"bread": 15}}
    assert answer["hits"][0]["snippet"].startswith("Bread rises")


def test_the_map_knows_where_documents_are(ask) -> None:
    status, drawn = ask("GET", "/indexes/library/map")
    assert status == 200
    assert len(drawn["ids"]) == 60
    assert sum(topic["size"] for topic in drawn["topics"]) == 60
    place = points(drawn)[drawn["ids"].index("stars-1")]
    inside = {each for each, at in zip(drawn["ids"], points(drawn), strict=True) if (np.abs(at - place) < 1).all()}
    for path, body in (
        ("browse", {}),
        ("search", {"q": "a star burns", "mode": "lexical"}),
        ("similar", {"id": "stars-5"}),
    ):
        status, answer = ask("POST", f"/indexes/library/{path}", {**body, "lasso": around(place), "limit": 60})
        assert status == 200, answer
        assert {hit["id"] for hit in answer["hits"]} == inside - {body.get("id")}, path
    nothing = {"lasso": [[0, 0], [0, 1], [1, 0]], "where": "year > 0 or year < 0"}
    assert ask("POST", "/indexes/library/browse", nothing)[1]["estimatedTotalHits"] == 0


def test_a_topic_narrows_a_search_and_lists_its_documents(ask) -> None:
    topics = ask("GET", "/indexes/library/map")[1]["topics"]
    wanted = topics[0]
    status, listed = ask("GET", f"/indexes/library/topics/{wanted['id']}?limit=5&offset=1")
    assert status == 200
    assert listed["topic"]["size"] == wanted["size"]
    assert len(listed["documents"]) == 5
    status, found = ask("POST", "/indexes/library/browse", {"topic": wanted["id"], "limit": 60})
    assert [hit["id"] for hit in found["hits"]][1:6] == [each["id"] for each in listed["documents"]]
    assert found["estimatedTotalHits"] == wanted["size"]
    both = {"q": "cells divide", "topic": wanted["id"], "where": "year < 2010", "limit": 60}
    years = [hit["metadata"]["year"] for hit in ask("POST", "/indexes/library/search", both)[1]["hits"]]
    assert all(year < 2010 for year in years)


@pytest.mark.parametrize(
    "lasso", ["x", [], [[0, 0], [1, 1]], [[0, 0], [1, 1], [2]], [[0, 0], [1, "1"], [2, 2]], [[0, 0], [1, 1e9], [2, 2]],
              [[0, 0], [True, 1], [2, 2]], [[0, 0]] * 1001],
)  # fmt: skip
def test_wrong_shapes_are_refused(ask, lasso) -> None:
    status, answer = ask("POST", "/indexes/library/browse", {"lasso": lasso})
    assert (status, answer["error"]["param"]) == (422, "lasso")


def test_what_is_not_there(ask, running, library) -> None:
    assert ask("GET", "/indexes/library/topics/99")[0] == 404
    assert ask("GET", "/indexes/library/topics/x")[0] == 404
    assert ask("POST", "/indexes/library/browse", {"topic": 99})[0] == 422
    with running(indexes=[library]) as server:
        assert server.ask("GET", "/indexes/library/map")[0] == 404
        assert server.ask("POST", "/indexes/library/browse", {"lasso": [[0, 0], [1, 1], [2, 0]]})[0] == 404


def test_a_polygon_that_is_not_convex(clustered) -> None:
    drawn = TopicMap(TopicModel.load(clustered.with_name("library.clusters")))
    drawn._x, drawn._y = np.array([1.0, 5.0, 9.0, 5.0]), np.array([5.0, 8.0, 5.0, 2.0])
    drawn.ids = ["left", "low", "right", "high"]
    assert drawn.inside([(0, 0), (10, 0), (10, 10), (5, 4), (0, 10)]) == ["left", "right", "high"]


def test_ids_of_any_form_make_a_condition(loads_hash, tmp_path) -> None:
    names = ["it's", 'a "b"', "x') or ('1' = '1", "ü\n", "7"]
    with Collection.create(tmp_path / "odd.index", encoder=loads_hash) as library:
        library.update([Document(name, "Some words.") for name in [*names, "other", "007"]])
        assert set(library.index.ids(where=ids_condition(names))) == set(names)
        assert list(library.index.ids(where=ids_condition([]))) == []


def test_files_of_the_page_need_no_key_and_load_nothing(running, library) -> None:
    with running(indexes=[library], key_hash=key_hash("secret-key-1"), more=page_routes(), public=PUBLIC) as server:
        assert server.ask.raw("GET", "/indexes")[0] == 401
        status, headers, page = server.ask.raw("GET", "/")
        assert status == 200
        assert headers["content-type"] == "text/html; charset=utf-8"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert b"http://" not in page
        assert b"https://" not in page
        for name in ("app.js", "points.js", "base.css"):
            status, headers, content = server.ask.raw("GET", f"/page/{name}")
            assert status == 200
            assert content
        status, headers, content = server.ask.raw("GET", "/page/app.js", headers={"if-none-match": headers["etag"]})
        assert status == 200, "the tag of another file"
        status, _, content = server.ask.raw("GET", "/page/app.js", headers={"if-none-match": headers["etag"]})
        assert (status, content) == (304, b"")
        for name in ("none.js", "..%2fmcp.py", "__init__.py"):
            assert server.ask.raw("GET", f"/page/{name}")[0] == 404
