"""What other programs write, we read back: every format, every compression, any text."""

from __future__ import annotations

import hashlib
import io
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm2comp_apps.corpus import CorpusOptions, ReadReport, read_corpus

FORMS = ["jsonl", "json", "json-pretty", "json-mapping", "csv", "csv-semicolon", "tsv", "parquet"]
# Everything Unicode calls text; a lone \r is left out because csv writers and text files disagree about it.
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r"))
VISIBLE = TEXT.filter(lambda text: text.strip() != "")
ROWS = st.lists(
    st.fixed_dictionaries({"_id": VISIBLE, "title": TEXT, "text": VISIBLE, "note": TEXT, "year": st.integers(0, 3000)}),
    min_size=1,
    max_size=8,
    unique_by=lambda row: row["_id"],
)
FUNCTION_FIXTURES = [HealthCheck.function_scoped_fixture]


@pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
@pytest.mark.parametrize("form", FORMS)
@given(rows=ROWS)
@settings(max_examples=20, deadline=None, suppress_health_check=FUNCTION_FIXTURES)
def test_reads_back_what_was_written(
    form: str, packing: str, rows: list[dict[str, Any]], encoders: Any, packers: Any, tmp_path: Path
) -> None:
    path = tmp_path / f"corpus.{form.split('-')[0]}{packing}"
    path.write_bytes(packers[packing](encoders[form](rows)))
    documents = list(read_corpus([path]))
    assert [(d.id, d.title, d.text, d.metadata["year"]) for d in documents] == [
        (row["_id"], row["title"], row["text"], row["year"]) for row in rows
    ]
    # A table has no types: a note that looks like a number is one, in a way that can be turned back.
    notes = [d.metadata["note"] for d in documents]
    assert ["" if note is None else str(note) for note in notes] == [row["note"] for row in rows]


@pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
@pytest.mark.parametrize("form", FORMS)
def test_name_is_not_needed(
    form: str, packing: str, encoders: Any, packers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through standard input there is only content to go by, for format and compression both."""
    rows = [{"_id": f"d{i}", "title": f"Title {i}", "text": f"Text number {i}, “quoted”", "n": i} for i in range(7)]
    stdin = io.TextIOWrapper(io.BytesIO(packers[packing](encoders[form](rows))))
    monkeypatch.setattr(sys, "stdin", stdin)
    documents = list(read_corpus(["-"]))
    assert [(d.id, d.title, d.text, d.metadata["n"]) for d in documents] == [
        (row["_id"], row["title"], row["text"], row["n"]) for row in rows
    ]


@pytest.mark.parametrize("form", [form for form in FORMS if form != "json-mapping"])
def test_same_text_gets_the_same_id_in_every_format(form: str, encoders: Any, write: Any, read: Any) -> None:
    rows = [{"_id": None, "title": "", "text": f"text {i}"} for i in range(3)]
    documents, report = read(write(f"corpus.{form.split('-')[0]}", encoders[form](rows)))
    assert [d.id for d in documents] == [
        hashlib.blake2b(b"\0" + row["text"].encode(), digest_size=10).hexdigest() for row in rows
    ]
    assert report.derived_ids == 3


@given(texts=st.lists(VISIBLE.filter(lambda text: "\n" not in text), min_size=1, max_size=6, unique=True))
@settings(max_examples=50, deadline=None, suppress_health_check=FUNCTION_FIXTURES)
def test_lines(texts: list[str], tmp_path: Path) -> None:
    path = tmp_path / "lines.txt"
    path.write_text("\r\n".join(texts), encoding="utf-8", newline="")
    assert [d.text for d in read_corpus([path], CorpusOptions(format="lines"))] == texts


@given(
    texts=st.lists(VISIBLE, min_size=1, max_size=5),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
)
@settings(max_examples=50, deadline=None, suppress_health_check=FUNCTION_FIXTURES)
def test_text_files_of_a_folder(texts: list[str], encoding: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("texts")
    expected = {}
    for number, text in enumerate(texts):
        name = f"{number % 2}/{number}.txt"
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(text.replace("\n", "\r\n").encode(encoding))
        expected[f"{folder.name}/{name}"] = text.removeprefix("\ufeff") if encoding == "utf-8" else text
    report = ReadReport()
    documents = list(read_corpus([folder], CorpusOptions(), report))
    assert {d.id: d.text for d in documents} == {name: text for name, text in expected.items() if text.strip()}
    assert [d.id for d in documents] == sorted(d.id for d in documents)
    assert report.fraction == 1.0
