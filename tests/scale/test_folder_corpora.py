"""A corpus of folders is encoded in parts as it is built: what is broken in it is left out, and told."""

from __future__ import annotations

import gzip
import json

import pytest

from llm2comp_apps import Collection, CorpusError, CorpusOptions, ReadReport, UsageError, read_corpus
from llm2comp_apps.scale import commit_job, plan_job, run_parts


@pytest.fixture
def folder(tmp_path):
    """Two files of documents."""
    path = tmp_path / "notes"
    path.mkdir()
    for name, first in (("a", 1), ("b", 4)):
        records = [{"_id": f"d{first + place}", "text": f"text {first + place}"} for place in range(3)]
        (path / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def built(tmp_path, sources, encoder):
    """The ids of an index that one program builds."""
    with Collection.create(tmp_path / "built.index", encoder=encoder) as library:
        library.update(read_corpus(sources))
        return sorted(library.index.ids())


def committed(tmp_path, sources, encoder, **settings):
    """The ids of an index that is made of parts, and the report."""
    job = plan_job(tmp_path / "job", sources, parts=2, encoder=encoder, **settings)
    report = run_parts(job, encoder=encoder)
    assert report.failed == {}
    imported = commit_job(job, tmp_path / "parts.index")
    with Collection.open(tmp_path / "parts.index", encoder=encoder) as library:
        return sorted(library.index.ids()), [*report.warnings, *imported.warnings]


def test_an_id_that_two_files_of_a_folder_give_is_the_first_one_as_in_a_build(tmp_path, folder, hash_encoder):
    with (folder / "b.jsonl").open("a") as file:
        file.write(json.dumps({"_id": "d1", "text": "something else"}) + "\n")
    ids, warnings = committed(tmp_path, [folder], hash_encoder)
    assert ids == built(tmp_path, [folder], hash_encoder)
    assert warnings == ["part 1: the id 'd1' already stands for another document, in part 0; left out"]


@pytest.mark.parametrize("reading", [CorpusOptions(on_error="stop"), CorpusOptions()])
def test_an_id_that_stands_for_two_documents_stops_where_a_build_would(tmp_path, folder, hash_encoder, reading):
    with (folder / "b.jsonl").open("a") as file:
        file.write(json.dumps({"_id": "d1", "text": "something else"}) + "\n")
    sources = [folder] if reading.on_error == "stop" else [folder / "a.jsonl", folder / "b.jsonl"]
    with pytest.raises(CorpusError, match=r"the id 'd1' already stands for another document"):
        committed(tmp_path, sources, hash_encoder, reading=reading)
    with pytest.raises(CorpusError, match=r"the id 'd1' already stands for another document"):
        list(read_corpus(sources, reading, ReadReport()))


def damage(folder):
    """Files that a reading passes over, or of which it takes the beginning."""
    (folder / "c.jsonl.gz").write_bytes(b"")
    (folder / "d.parquet").write_bytes(b"PAR1" + b"x" * 500)
    whole = gzip.compress(
        "".join(json.dumps({"_id": f"g{n}", "text": f"{n * 7919}"}) + "\n" for n in range(900)).encode()
    )
    (folder / "e.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    (folder / "f.jsonl.gz").write_bytes(whole[:200] + b"\xff" * 200 + whole[400:])


def test_a_folder_with_damaged_files_is_cut_and_reads_as_one_program_reads_it(tmp_path, folder, hash_encoder):
    damage(folder)
    ids, warnings = committed(tmp_path, [folder], hash_encoder)
    assert ids == built(tmp_path, [folder], hash_encoder)
    assert all(any(f"/{name}" in line for line in warnings) for name in ("c.jsonl.gz", "d.parquet", "e.jsonl.gz"))


@pytest.mark.parametrize("name", ["c.jsonl.gz", "d.parquet", "e.jsonl.gz", "f.jsonl.gz"])
def test_a_damaged_file_that_was_named_is_refused_by_name(tmp_path, folder, hash_encoder, name):
    damage(folder)
    with pytest.raises(CorpusError, match=rf"{name}: cannot be cut into parts"):
        plan_job(tmp_path / "job", [folder / name], parts=3, encoder=hash_encoder)


def test_a_job_does_not_lie_in_its_corpus(tmp_path, folder, hash_encoder, monkeypatch):
    monkeypatch.chdir(folder)
    for sources in ([folder], ["."]):
        with pytest.raises(UsageError, match=r"^job inner/job lies in .*, and what is written there would be read"):
            plan_job("inner/job", sources, parts=2, encoder=hash_encoder)
    assert not (folder / "inner").exists()
    for place in (".job", tmp_path / "job"):
        assert len(plan_job(place, ["."], parts=2, encoder=hash_encoder)) == 2
        assert len(plan_job(place, ["."], parts=2, encoder=hash_encoder)) == 2


def test_an_index_of_parts_does_not_take_the_place_of_a_file(tmp_path, folder, hash_encoder):
    job = plan_job(tmp_path / "job", [folder], encoder=hash_encoder)
    run_parts(job, encoder=hash_encoder)
    with pytest.raises(UsageError, match=r"^output .*a\.jsonl is a file, not an index; an index is a folder"):
        commit_job(job, folder / "a.jsonl")
