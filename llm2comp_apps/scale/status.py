"""How far a job is."""

from __future__ import annotations

from dataclasses import dataclass

from llm2comp_apps.scale.job import MOST_FAILURES, Job

__all__ = ["JobStatus", "job_status"]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobStatus:
    """A look at a job.

    Attributes:
        parts: all of them.
        done: how many are done.
        running: who works on which part.
        failed: why each part that was given up was given up.
        retried: parts that went wrong, and will be tried again.
        documents: in the parts that are done, and encoded so far in those that are not.
        vectors: in the parts that are done.
        fraction: of the corpus that is done, by bytes.
        documents_per_second: of all that work now, as fast as parts were done so far; ``None`` if nobody does.
        seconds_left: at this rate; ``None`` if that is not known.
        busy_seconds: what the parts that are done took, added up.
        workers: how many parts each worker has done.
    """

    parts: int
    done: int
    running: dict[int, str]
    failed: dict[int, str]
    retried: int
    documents: int
    vectors: int
    fraction: float
    documents_per_second: float | None
    seconds_left: float | None
    busy_seconds: float
    workers: dict[str, int]


def job_status(job: str | Job) -> JobStatus:
    """Look at a job; any program may, at any time.

    Raises:
        UsageError: there is no such job.
    """
    job = job if isinstance(job, Job) else Job.open(job)
    done, leases = job.done(), job.leases()
    failures = {part: each for part, each in job.failures().items() if part not in done}
    running = {part: lease for part, lease in leases.items() if part not in done}
    failed = {part: each[-1].reason for part, each in failures.items() if len(each) >= MOST_FAILURES}
    total = sum(job.weight(part) for part in range(len(job)))
    ready = sum(job.weight(part) for part in done)
    busy = sum(record.seconds for record in done.values())
    documents = sum(record.documents for record in done.values())
    rate = documents / busy * len(running) if busy and running else None
    speed = ready / busy * len(running) if busy and running else None
    workers: dict[str, int] = {}
    for record in done.values():
        workers[record.worker] = workers.get(record.worker, 0) + 1
    return JobStatus(
        parts=len(job),
        done=len(done),
        running={part: lease.worker for part, lease in sorted(running.items())},
        failed=dict(sorted(failed.items())),
        retried=len(failures) - len(failed),
        documents=documents + sum(lease.documents for lease in running.values()),
        vectors=sum(record.vectors for record in done.values()),
        fraction=ready / max(total, 1),
        documents_per_second=rate,
        seconds_left=(total - ready) / speed if speed else None,
        busy_seconds=busy,
        workers=workers,
    )
