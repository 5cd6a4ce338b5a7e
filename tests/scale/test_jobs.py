"""Parts are files: whoever makes them, in whatever order, the index is the same."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from llm2comp_indexes import Index

from llm2comp_apps import Collection, CorpusError, CorpusOptions, LLM2CompError, UsageError, read_corpus
from llm2comp_apps.errors import EncoderError
from llm2comp_apps.scale import Job, commit_job, job_status, plan_job, run_on_ray, run_parts
from llm2comp_apps.scale.folder import open_folder
from llm2comp_apps.scale.job import LEASE_SECONDS, MOST_FAILURES, Lease
from llm2comp_apps.scale.run import encode_part


def files(job: Job) -> dict[str, str]:
    folder = Path(job.folder.location) / "parts"
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.parquet"))}


def contents(index: Index) -> list[tuple]:
    """Everything that an index holds, in order."""
    ids = list(index.ids())
    documents = index.get(ids)
    return [(document, index.vectors([id_]).tobytes()) for id_, document in zip(ids, documents, strict=True)]


@pytest.mark.parametrize("settings", [{}, {"chunk": 16, "overlap": 4}, {"memory": True}])
def test_the_index_is_the_one_that_one_program_makes(tmp_path, corpus, hash_encoder, settings):
    job = plan_job(tmp_path / "job", [corpus], parts=6, encoder=hash_encoder, settings=settings)
    report = run_parts(job, encoder=hash_encoder)
    assert (report.parts, report.documents, report.left, report.failed) == (6, 60, 0, {})
    committed = commit_job(job, tmp_path / "parts.index")
    assert (committed.parts, committed.added) == (6, 60)
    with Collection.create(tmp_path / "whole.index", encoder=hash_encoder, **settings) as whole:
        whole.update(read_corpus([corpus]))
        with Index.open(tmp_path / "parts.index") as index:
            assert index.settings == whole.index.settings
            assert index.memory_tokens == whole.index.memory_tokens
            ours, theirs = dict.fromkeys(index.ids()), sorted(contents(whole.index), key=lambda item: item[0].id)
            assert list(ours) == [record.id for record in read_corpus([corpus])]
            assert sorted(contents(index), key=lambda item: item[0].id) == theirs
            if index.memory_tokens:
                ids = list(ours)
                assert np.array_equal(index.memory(ids), whole.index.memory(ids))
    # and a later build has nothing to do
    with Collection.open(tmp_path / "parts.index", encoder=hash_encoder) as library:
        assert library.update(read_corpus([corpus])).unchanged == 60


def test_a_corpus_without_a_document_makes_no_index(tmp_path, hash_encoder):
    (tmp_path / "empty.jsonl").write_text('{"_id": "a", "text": " "}\n{"_id": "b", "text": ""}\n', encoding="utf-8")
    job = plan_job(tmp_path / "job", [tmp_path / "empty.jsonl"], parts=2, encoder=hash_encoder)
    run_parts(job, encoder=hash_encoder)
    with pytest.raises(CorpusError, match=r"job: no document found in 2 parts \(0 broken records left out\)$"):
        commit_job(job, tmp_path / "x.index")
    assert not (tmp_path / "x.index").exists()


def test_every_order_and_every_worker_writes_the_same_bytes(tmp_path, corpus, make_hash_encoder):
    one = plan_job(tmp_path / "one", [corpus], parts=5, encoder=make_hash_encoder())
    two = plan_job(tmp_path / "two", [corpus], parts=5, encoder=make_hash_encoder())
    assert one.id == two.id
    run_parts(one, encoder=make_hash_encoder())
    for part in (3, 0, 4, 2, 1):
        run_parts(two, part=part, encoder=make_hash_encoder())
    assert files(one) == files(two)
    assert len(files(one)) == 5


def test_what_is_done_is_skipped_and_what_is_planned_stays(tmp_path, job, corpus, hash_encoder):
    run_parts(job, most=2, encoder=hash_encoder)
    assert len(job.done()) == 2
    calls = hash_encoder.calls
    assert run_parts(job, encoder=hash_encoder).skipped == 2
    assert hash_encoder.calls - calls == 60 - sum(record.documents for record in list(job.done().values())[:2])
    calls = hash_encoder.calls
    again = run_parts(job, encoder=hash_encoder)
    assert (again.parts, again.skipped, hash_encoder.calls) == (0, 6, calls)
    same = plan_job(tmp_path / "job", [corpus], parts=6, encoder=hash_encoder)
    assert same.id == job.id
    commit_job(job, tmp_path / "x.index")
    with Index.open(tmp_path / "x.index") as index:
        generation = index.generation
    report = commit_job(job, tmp_path / "x.index")
    assert (report.added, report.unchanged) == (0, 60)
    with Index.open(tmp_path / "x.index") as index:
        assert index.generation == generation


def test_another_plan_in_the_same_folder_is_refused_with_what_differs(tmp_path, job, corpus, make_hash_encoder):
    del job
    for wrong, what in [
        ({"encoder": make_hash_encoder(seed="b")}, "its encoder is hash, not hashb"),
        ({"encoder": make_hash_encoder(), "settings": {"chunk": 16}}, "other settings: chunk"),
        ({"encoder": make_hash_encoder(), "parts": 3}, "6 parts, not 3"),
        ({"encoder": make_hash_encoder(), "reading": CorpusOptions(on_error="skip")}, "in another way"),
    ]:
        with pytest.raises(UsageError, match=what):
            plan_job(tmp_path / "job", [corpus], **{"parts": 6, **wrong})
    corpus.write_text(corpus.read_text() + '{"_id": "new", "text": "more"}\n')
    with pytest.raises(UsageError, match=r"corpus\.jsonl is new, gone or has changed"):
        plan_job(tmp_path / "job", [corpus], parts=6, encoder=make_hash_encoder())


def test_a_changed_corpus_fails_by_name_and_another_encoder_is_refused(job, corpus, hash_encoder, make_hash_encoder):
    with pytest.raises(EncoderError, match=r"was made with the encoder hash .* and this is hashother"):
        run_parts(job, encoder=make_hash_encoder(seed="other"))
    corpus.write_text(corpus.read_text().replace("Title 7", "Title 8"))
    report = run_parts(job, encoder=hash_encoder)
    assert set(report.failed) == set(range(6))
    assert all("corpus.jsonl: has changed since the corpus was cut" in reason for reason in report.failed.values())
    assert (report.parts, len(job.failures()[0])) == (0, MOST_FAILURES)
    with pytest.raises(UsageError, match=r"6 of 6 parts are not done \(0, 1, 2, 3, 4, 5\)"):
        commit_job(job, Path(job.folder.location) / "x.index")


class Breaking:
    """An encoder that fails on a text."""

    def __init__(self, encoder, word):
        self._encoder, self._word = encoder, word

    def __getattr__(self, name):
        return getattr(self._encoder, name)

    def encode(self, texts, **settings):
        if any(self._word in text for text in texts):
            raise RuntimeError("out of memory")
        return self._encoder.encode(texts, **settings)


def test_a_part_that_fails_is_named_and_the_rest_goes_on(job, hash_encoder):
    report = run_parts(job, encoder=Breaking(hash_encoder, "Title 59"))
    assert report.failed == {5: "out of memory"}
    assert report.parts == 5
    assert job_status(job).failed == {5: "out of memory"}
    assert run_parts(job, encoder=hash_encoder).failed == {5: "out of memory"}  # given up, by whomever
    assert run_parts(job, part=5, encoder=hash_encoder).parts == 1  # asked for by number
    assert job_status(job).failed == {}


def test_forgiven_parts_are_tried_again(job, hash_encoder):
    run_parts(job, encoder=Breaking(hash_encoder, "Title 59"))
    job.forgive()
    assert run_parts(job, encoder=hash_encoder).parts == 1


def test_leases_keep_workers_apart_and_those_of_the_lost_are_taken_over(job, hash_encoder):
    assert job.take(0, "another")
    assert job.take(1, "another")
    report = run_parts(job, encoder=hash_encoder)
    assert (report.parts, report.left) == (4, 2)
    assert set(job_status(job).running) == {0, 1}
    lease = job.lease(1)
    assert isinstance(lease, Lease)
    dead = replace(lease, process=2**22 - 1)  # no process of this machine
    late = replace(lease, host="elsewhere", beat=time.time() - 2 * LEASE_SECONDS)
    assert not dead.holds()
    assert not late.holds()
    assert replace(late, beat=time.time()).holds()
    for part, gone in ((0, dead), (1, late)):
        fields = {name: getattr(gone, name) for name in Lease.__dataclass_fields__}
        job.folder.write(f"leases/{part:05d}.json", json.dumps(fields).encode())
    assert run_parts(job, encoder=hash_encoder).parts == 2
    assert job.leases() == {}


def test_a_lease_that_could_not_be_renewed_once_is_renewed_the_next_time(job, monkeypatch):
    monkeypatch.setattr("llm2comp_apps.scale.job.LEASE_SECONDS", 0.4)
    write, said = job.folder.write, []

    def unreliable(name, data):
        said.append(name)
        if len(said) == 1:
            raise OSError(errno.EIO, "Input/output error")
        write(name, data)

    monkeypatch.setattr(job.folder, "write", unreliable)
    assert job.take(0, "me")
    first = job.lease(0).beat
    with job.beating(0, "me"):
        until = time.monotonic() + 20
        while job.lease(0).beat == first and time.monotonic() < until:
            time.sleep(0.02)
        assert job.lease(0).beat > first


def test_a_part_that_somebody_has_is_not_taken_unless_by_force(job, hash_encoder):
    job.take(2, "another")
    assert encode_part(job, 2, hash_encoder) is None
    record = encode_part(job, 2, hash_encoder, by_force=True)
    assert record is not None
    assert record.documents > 0


@pytest.mark.parametrize("links", [True, False])
def test_a_lease_is_there_whole_or_not_at_all(tmp_path, monkeypatch, links):
    folder = open_folder(tmp_path)
    if not links:

        def no_links(*_):
            raise OSError(errno.ENOTSUP, "no hard links here")

        monkeypatch.setattr(os, "link", no_links)
    assert folder.create("leases/00000.json", b"mine")
    assert not folder.create("leases/00000.json", b"yours")
    assert folder.read("leases/00000.json") == b"mine"
    assert list(folder.names("leases")) == ["00000.json"]
    assert [path.name for path in (tmp_path / "leases").iterdir()] == ["00000.json"]


def test_a_lease_that_was_cut_off_is_none(tmp_path, monkeypatch):
    folder = open_folder(tmp_path)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    for call in ("fsync", "link"):
        with monkeypatch.context() as patched:
            patched.setattr(os, call, full)
            with pytest.raises(OSError, match="No space"):
                folder.create("leases/00000.json", b"mine")
    assert folder.read("leases/00000.json") is None
    assert folder.create("leases/00000.json", b"mine")


@pytest.mark.parametrize("name", ["Thumbs.db", "00001 (copy).json", "00001.json~", "99999.json", "x.json"])
def test_files_of_other_programs_in_a_job_stop_nobody(job, hash_encoder, name):
    for folder in ("leases", "failures", "parts"):
        job.folder.write(f"{folder}/{name}", b"{}")
    assert (job_status(job).done, job_status(job).failed) == (0, {})
    assert run_parts(job, most=1, encoder=hash_encoder).parts == 1
    job.forgive()
    assert job.folder.read(f"failures/{name}") == b"{}"


def test_a_worker_that_dies_leaves_nothing_that_counts(tmp_path, job, hash_encoder):
    child = os.fork()
    if not child:

        class Dying(Breaking):
            def encode(self, texts, **settings):
                os._exit(9)

        run_parts(job, part=0, encoder=Dying(hash_encoder, ""))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert job.done() == {}
    assert job.lease(0) is not None
    report = run_parts(job, encoder=hash_encoder)
    assert (report.parts, report.left) == (6, 0)
    assert commit_job(job, tmp_path / "x.index").added == 60


def test_an_interruption_gives_the_part_back(job, hash_encoder):
    asked = iter([False, False, True, True, True])
    report = run_parts(job, encoder=hash_encoder, should_stop=lambda: next(asked))
    assert report.interrupted
    assert report.parts == 1
    assert job.leases() == {}
    assert run_parts(job, encoder=hash_encoder).parts == 5


def test_a_damaged_part_is_found_and_made_again(tmp_path, job, hash_encoder):
    run_parts(job, encoder=hash_encoder)
    path = Path(job.folder.location) / job.file(3)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(LLM2CompError, match=r"parts/00003\.parquet: is not what was written"):
        commit_job(job, tmp_path / "x.index")
    with Index.open(tmp_path / "x.index") as index:
        assert 0 < len(index) < 60  # the parts before are committed
    assert run_parts(job, encoder=hash_encoder).parts == 1
    assert commit_job(job, tmp_path / "x.index").parts == 6
    with Index.open(tmp_path / "x.index") as index:
        assert list(index.ids()) == [f"d{number}" for number in range(60)]
    path.write_bytes(b"short")
    assert 3 not in Job.open(job.folder.location).done()


def test_duplicates_and_conflicts_between_parts(tmp_path, hash_encoder):
    path = tmp_path / "corpus.jsonl"
    lines = [json.dumps({"_id": f"d{number}", "text": f"text number {number}"}) for number in range(20)]
    path.write_text("\n".join([*lines, lines[0], lines[1]]) + "\n")
    job = plan_job(tmp_path / "job", [path], parts=3, encoder=hash_encoder)
    run_parts(job, encoder=hash_encoder)
    report = commit_job(job, tmp_path / "x.index")
    assert (report.added, report.duplicates) == (20, 2)
    path.write_text("\n".join([*lines, json.dumps({"_id": "d0", "text": "something else"})]) + "\n")
    job = plan_job(tmp_path / "other", [path], parts=3, encoder=hash_encoder)
    run_parts(job, encoder=hash_encoder)
    with pytest.raises(CorpusError, match="part 2: the id 'd0' already stands for another document, in part 0"):
        commit_job(job, tmp_path / "y.index")
    reading = CorpusOptions(on_error="skip")
    job = plan_job(tmp_path / "third", [path], parts=3, encoder=hash_encoder, reading=reading)
    run_parts(job, encoder=hash_encoder)
    report = commit_job(job, tmp_path / "z.index")
    assert (report.added, report.conflicts) == (20, 1)


def test_an_index_of_other_vectors_is_refused(tmp_path, job, hash_encoder, make_hash_encoder):
    run_parts(job, encoder=hash_encoder)
    Collection.create(tmp_path / "a.index", encoder=make_hash_encoder(seed="other")).close()
    with pytest.raises(UsageError, match="was built with the encoder hashother, the vectors with hash"):
        commit_job(job, tmp_path / "a.index")
    Collection.create(tmp_path / "b.index", encoder=hash_encoder, chunk=16).close()
    with pytest.raises(UsageError, match="was built with `chunk=16`, the vectors with `chunk=None`"):
        commit_job(job, tmp_path / "b.index")


def test_parts_that_are_done_can_be_taken_before_the_others(tmp_path, job, hash_encoder):
    run_parts(job, most=2, encoder=hash_encoder)
    assert commit_job(job, tmp_path / "x.index", partial=True).parts == 2
    run_parts(job, encoder=hash_encoder)
    report = commit_job(job, tmp_path / "x.index")
    assert report.added + report.unchanged == 60


def test_a_job_in_object_storage(tmp_path, corpus, hash_encoder):
    fsspec = pytest.importorskip("fsspec")
    location = f"memory://jobs/{tmp_path.name}"
    job = plan_job(location, [corpus], parts=4, encoder=hash_encoder)
    assert plan_job(location, [corpus], parts=4, encoder=hash_encoder).id == job.id
    assert job.take(1, "another")
    assert run_parts(location, encoder=hash_encoder).left == 1
    assert not job.take(1, "a third")
    job.release(1)
    assert run_parts(job, encoder=hash_encoder).left == 0
    assert commit_job(job, tmp_path / "x.index").added == 60
    local = plan_job(tmp_path / "job", [corpus], parts=4, encoder=hash_encoder)
    run_parts(local, encoder=hash_encoder)
    stored = fsspec.filesystem("memory").cat_file(f"/jobs/{tmp_path.name}/parts/00002.parquet")
    assert hashlib.sha256(stored).hexdigest() == files(local)["00002.parquet"]
    with pytest.raises(UsageError, match="nothing://here"):
        Job.open("nothing://here")


def test_status_counts_rate_and_time_left(job, hash_encoder):
    assert job_status(job).documents_per_second is None
    run_parts(job, most=3, encoder=hash_encoder)
    job.take(4, "another")
    status = job_status(job)
    assert (status.parts, status.done, status.running) == (6, 3, {4: "another"})
    assert status.fraction == pytest.approx(0.5, abs=0.1)
    assert status.documents_per_second == pytest.approx(status.documents / status.busy_seconds)
    assert status.seconds_left == pytest.approx(status.busy_seconds * (1 - status.fraction) / status.fraction)


def test_no_job(tmp_path, job):
    with pytest.raises(UsageError, match=r"there is no plan\.json; plan the job first"):
        Job.open(tmp_path / "none")
    with pytest.raises(UsageError, match="shard must be between 0 and 5, not 6"):
        run_parts(job, part=6)
    (tmp_path / "job" / "plan.json").write_text('{"format": 2}')
    with pytest.raises(LLM2CompError, match="format 2, this version reads 1"):
        Job.open(tmp_path / "job")


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("workers", 0, "workers must be at least 1, not 0"),
        ("cpus_per_worker", -1, "cpus_per_worker must be at least 0 and finite, not -1"),
        ("cpus_per_worker", float("nan"), "cpus_per_worker must be at least 0 and finite, not nan"),
        ("gpus_per_worker", float("inf"), "gpus_per_worker must be at least 0 and finite, not inf"),
        ("gpus_per_worker", 1.5, "gpus_per_worker must be a whole number where it is above 1, not 1.5"),
    ],
)
def test_workers_that_ray_cannot_place_are_refused_in_a_line(job, field, value, message):
    with pytest.raises(UsageError, match=f"^{message}$"):
        run_on_ray(job, **{field: value})


def test_eval_takes_the_vectors_of_parts(tmp_path, make_hash_encoder):
    """Documents of a judged set that a job has encoded are not encoded again, and the scores are the same."""
    from llm2comp_apps.evaluation import load_suite
    from llm2comp_apps.evaluation.table import TableOptions, fill_table, parse_systems
    from llm2comp_apps.retrieval.known_vectors import known_in

    folder = tmp_path / "data" / "retrieval" / "library"
    folder.mkdir(parents=True)
    rows = [{"_id": f"d{n}", "title": f"Title {n}" if n % 2 else "", "text": f"all of word{n}"} for n in range(40)]
    for name, written in (
        ("corpus", rows),
        ("queries", [{"_id": f"q{number}", "text": f"which word{number}"} for number in range(9)]),
    ):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in written))
    (folder / "qrels.tsv").write_text("".join(f"q{number}\td{number}\t1\n" for number in range(9)))
    job = plan_job(tmp_path / "job", [folder / "corpus.jsonl"], parts=3, encoder=make_hash_encoder())
    run_parts(job, encoder=make_hash_encoder())

    def scored(out, known, encoder):
        options = TableOptions(known=known)
        table = fill_table(
            parse_systems(["x"]), load_suite("offline", tmp_path / "data"), tmp_path / out, lambda _: encoder, options
        )
        return table.cells["x"]["library"].scores, encoder.calls

    plain, every = scored("plain", None, make_hash_encoder())
    known = known_in(tmp_path / "job")
    scores, calls = scored("known", known, make_hash_encoder())
    assert scores == plain
    assert (every, calls) == (49, 9)  # the queries
    assert scored("other", known, make_hash_encoder(seed="x"))[1] == 49  # vectors of another encoder are not taken
    assert known_in(None) is None
    with pytest.raises(UsageError, match="vectors must be a job that has parts"):
        known_in(tmp_path / "data")
    with pytest.raises(UsageError, match="vectors are put beside the other embeddings"):
        TableOptions(known=known, keep_embeddings=False)
