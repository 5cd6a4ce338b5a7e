"""Parts of encoded documents: what is in the file, and what is read from it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from llm2comp_indexes import Index, IndexedDocument, export_index, read_parquet
from pyarrow import parquet

from llm2comp_apps import Document
from llm2comp_apps.retrieval.parts import read_part, write_part
from llm2comp_apps.retrieval.plan import EmbeddingPlan


@pytest.fixture
def part(tmp_path, hash_encoder):
    """A part with a long document of many chunks between two short ones."""
    long = Document("long", " ".join(f"word{n}" for n in range(3000)), "A book", {"year": 1900})
    documents = [Document("a", "short", "A"), long, Document("b", "short", "A")]
    write_part(tmp_path / "one.parquet", documents, hash_encoder, EmbeddingPlan(chunk=16))
    return tmp_path / "one.parquet"


def everything(blocks) -> tuple[list[IndexedDocument], np.ndarray]:
    blocks = list(blocks)
    return [document for block in blocks for document in block[0]], np.concatenate([block[1] for block in blocks])


def test_a_long_text_is_in_each_row_and_once_in_the_file(part):
    ((documents, vectors, _),) = read_part(part)
    long = documents[1]
    assert [(document.id, document.title) for document in documents] == [("a", "A"), ("long", "A book"), ("b", "A")]
    assert len(long.spans) > 100
    assert len(vectors) == sum(document.rows for document in documents)
    with parquet.ParquetFile(part) as file:
        texts = file.read(["text"])["text"].to_pylist()
        column = file.metadata.row_group(0).column(file.schema_arrow.names.index("text"))
    assert texts == [document.text for document in documents for _ in range(document.rows)]
    assert column.total_uncompressed_size < 2 * len(long.text)


def test_a_part_is_read_as_an_export_is(part):
    (documents, vectors), (others, rows) = everything(read_part(part)), everything(read_parquet(part))
    assert documents == others
    assert np.array_equal(vectors, rows)


def test_a_part_of_an_older_version_is_read(part, tmp_path):
    table = parquet.read_table(part)
    plain = [pa.string() if pa.types.is_dictionary(column.type) else column.type for column in table.schema]
    older = table.cast(pa.schema(dict(zip(table.column_names, plain, strict=True))))
    parquet.write_table(older, tmp_path / "older.parquet", use_dictionary=False)
    (documents, vectors), (others, rows) = (
        everything(read_part(part)),
        everything(read_part(tmp_path / "older.parquet")),
    )
    assert documents == others
    assert np.array_equal(vectors, rows)


@pytest.mark.parametrize("most", [1, 2_000, 10**9])
def test_a_document_of_several_row_groups_is_one(part, tmp_path, monkeypatch, most):
    (documents, vectors) = everything(read_part(part))
    monkeypatch.setattr("llm2comp_indexes.core.import_export._CHARACTERS", most)
    with Index.create(
        tmp_path / "a.index", dimension=vectors.shape[1], encoder={"name": "x", "fingerprint": "1"}
    ) as index:
        with index.writer() as writer:
            writer.add(documents, vectors)
            writer.commit()
        export_index(index, tmp_path / "export.parquet")
        assert (parquet.ParquetFile(tmp_path / "export.parquet").num_row_groups > 3) == (most < 10**9)
        found, rows = everything(read_part(tmp_path / "export.parquet"))
        assert found == documents
        assert np.array_equal(rows, index.vectors([document.id for document in documents]))
