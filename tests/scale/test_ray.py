"""Ray deals parts out, and what it loses is dealt out again. The long schedules of faults are in ``faults.py``."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest

ray = pytest.importorskip("ray", reason="needs the extra ray")

from llm2comp_apps import EncoderError, LLM2CompError, UsageError  # noqa: E402 - after the question whether Ray is here
from llm2comp_apps.scale import plan_job, ray_driver, run_on_ray, run_parts  # noqa: E402
from tests.scale import faults  # noqa: E402

ray.cloudpickle.register_pickle_by_value(faults)


@pytest.fixture(scope="module")
def nodes():
    """A cluster of three nodes with a core each, which this process has joined."""
    with faults.cluster(3) as made:
        ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
        yield made


@pytest.fixture
def alone(tmp_path):
    """What one process makes of a corpus in eight parts: digests by name; and the job to be done by Ray."""
    corpus = faults.write_corpus(tmp_path / "corpus.jsonl", 80)
    encoder = faults.SleepingEncoder(0.0)
    run_parts(plan_job(tmp_path / "alone", [corpus], parts=8, encoder=encoder), encoder=encoder)
    return faults.part_digests(tmp_path / "alone"), plan_job(tmp_path / "job", [corpus], parts=8, encoder=encoder)


def digests(job):
    return faults.part_digests(Path(job.folder.location))


def test_workers_write_what_one_process_writes(nodes, alone):
    expected, job = alone
    seen = []
    report = run_on_ray(job, workers=3, load_encoder=faults.Load(0.01), on_progress=seen.append)
    assert (report.parts, report.documents, report.left, report.lost, report.failed) == (8, 80, 0, 0, {})
    assert digests(job) == expected
    assert len({record.worker for record in job.done().values()}) > 1
    assert seen[-1].parts == 8
    assert seen[-1].fraction == 1.0
    assert job.leases() == {}
    assert run_on_ray(job, workers=3).skipped == 8


def test_a_killed_worker_and_a_lost_node_cost_their_parts_only(nodes, alone):
    expected, job = alone
    removed = list(nodes.worker_nodes)[-1]

    def hit():
        while not job.done():
            time.sleep(0.05)
        while not (at_work := faults.workers_of(job.folder.location)):
            time.sleep(0.01)
        os.kill(at_work[0], signal.SIGKILL)
        time.sleep(0.5)
        nodes.remove_node(removed, allow_graceful=False)

    thread = threading.Thread(target=hit)
    thread.start()
    report = run_on_ray(job, workers=3, load_encoder=faults.Load(0.08))
    thread.join()
    nodes.add_node(num_cpus=1, object_store_memory=faults.OBJECT_STORE)
    assert report.lost >= 1
    assert (report.parts, report.left, report.failed) == (8, 0, {})
    assert digests(job) == expected


class Failing(faults.SleepingEncoder):
    """Fails on one text, or ends its process."""

    def __init__(self, word, *, fatal):
        super().__init__(0.0)
        self._word, self._fatal = word, fatal

    def encode(self, texts, **settings):
        if any(self._word in text for text in texts):
            if self._fatal:
                os._exit(1)
            raise ValueError("these texts cannot be encoded")
        return super().encode(texts, **settings)


class LoadFailing:
    """Loads one in a worker."""

    def __init__(self, word, *, fatal=False):
        self.word, self.fatal = word, fatal

    def __call__(self):
        return Failing(self.word, fatal=self.fatal)


def test_a_part_that_fails_is_named_and_the_others_are_done(nodes, alone):
    import tests.scale.test_ray as here

    ray.cloudpickle.register_pickle_by_value(here)
    expected, job = alone
    report = run_on_ray(job, workers=2, load_encoder=here.LoadFailing("Title 79"))
    assert report.failed == {7: "these texts cannot be encoded"}
    assert (report.parts, report.left) == (7, 0)
    assert digests(job).items() < expected.items()
    job.forgive()
    report = run_on_ray(job, workers=2, load_encoder=here.LoadFailing("Title 79", fatal=True))
    assert list(report.failed) == [7]
    assert "lost 5 workers" in report.failed[7]
    assert report.lost == 5


def test_a_worker_without_a_place_is_not_waited_for(nodes, alone, monkeypatch):
    _, job = alone
    report = run_on_ray(job, workers=6, load_encoder=faults.Load(0.01))  # three have one
    assert (report.parts, report.left) == (8, 0)
    for path in (Path(job.folder.location) / "parts").iterdir():
        path.unlink()
    monkeypatch.setattr(ray_driver, "_PLACE_SECONDS", 2.0)
    with pytest.raises(LLM2CompError, match="no worker has found a place in 2 s: each needs 1 CPUS and 1 GPUS"):
        run_on_ray(job, workers=2, gpus_per_worker=1, load_encoder=faults.Load(0.0))


def test_an_encoder_that_cannot_be_loaded_ends_the_run(nodes, alone):
    _, job = alone
    with pytest.raises(EncoderError, match="a worker cannot start: the encoder sleeping has no name that loads it"):
        run_on_ray(job, workers=2)


def test_an_interruption_gives_parts_back(nodes, alone):
    expected, job = alone
    report = run_on_ray(job, workers=2, load_encoder=faults.Load(0.05), should_stop=lambda: len(job.done()) > 1)
    assert report.interrupted
    assert report.left
    assert job.leases() == {}
    assert run_on_ray(job, workers=2, load_encoder=faults.Load(0.0)).left == 0
    assert digests(job) == expected


def test_wrong_calls(alone):
    _, job = alone
    with pytest.raises(UsageError, match="workers must be at least 1"):
        run_on_ray(job, workers=0)
