"""Encoding the parts of a job: by one program, or by many that take from the same job."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from llm2comp_apps import LLM2CompError, ReadReport, UsageError, read_slices, write_part
from llm2comp_apps.files import first_line
from llm2comp_apps.scale.job import MOST_FAILURES, DonePart, Job, sha256_of, worker_name

__all__ = ["RunProgress", "RunReport", "encode_part", "run_parts"]

_PATIENCE = 2.0  # seconds between two looks at parts that others work on


@dataclass(frozen=True, slots=True, kw_only=True)
class RunProgress:
    """A look at a running job.

    Attributes:
        documents: encoded in this run.
        parts: done by now, by whomever.
        fraction: of the corpus, by bytes, that is done.
    """

    documents: int
    parts: int
    fraction: float


@dataclass(slots=True, kw_only=True)
class RunReport:
    """What a run did.

    Attributes:
        parts: encoded in this run.
        skipped: parts that were done before.
        documents: encoded in this run.
        vectors: made in this run.
        left: parts that others work on, or that were not asked for.
        failed: the reason for each part that was given up.
        lost: workers that ended without a word.
        interrupted: ended because it was asked to.
        seconds: all the time.
        warnings: what is worth a word.
    """

    parts: int = 0
    skipped: int = 0
    documents: int = 0
    vectors: int = 0
    left: int = 0
    failed: dict[int, str] = field(default_factory=dict)
    lost: int = 0
    interrupted: bool = False
    seconds: float = 0.0
    warnings: list[str] = field(default_factory=list)

    def add(self, part: int, record: DonePart) -> None:
        """Count a part."""
        self.parts += 1
        self.documents += record.documents
        self.vectors += record.vectors
        if record.truncated:
            self.warnings.append(f"part {part}: {record.truncated} texts are cut; only their beginnings were read")
        self.warnings += [f"part {part}: {line}" for line in record.warnings]


def encode_part(
    job: Job,
    part: int,
    encoder: Any,
    *,
    worker: str | None = None,
    by_force: bool = False,
    on_progress: Callable[[int], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> DonePart | None:
    """Encode one part, unless it is done or somebody works on it.

    Args:
        job: which job.
        part: which part, from 0.
        encoder: that of the plan.
        worker: what the caller is called.
        by_force: take it even if somebody seems to work on it; both then write the same bytes.
        on_progress: called with the number of documents encoded so far.
        should_stop: asked now and then.

    Returns:
        The record of the part; ``None`` if somebody else has it, or if it was stopped.
    """
    job.blueprint.check(encoder)
    worker = worker or worker_name()
    if job.is_done(part):
        return job.done_part(part)
    if not job.take(part, worker, by_force=by_force):
        return None
    start, read = time.perf_counter(), ReadReport()
    with job.beating(part, worker) as count:

        def progress(documents: int) -> None:
            count[0] = documents
            if on_progress is not None:
                on_progress(documents)

        try:
            with job.folder.upload(job.file(part)) as path:
                report = write_part(
                    path,
                    read_slices(job.parts[part], job.reading, read),
                    encoder,
                    job.blueprint.plan,
                    on_progress=progress,
                    should_stop=should_stop,
                )
                if report.stopped:
                    raise _StoppedError
                size, digest = path.stat().st_size, sha256_of(path)
        except _StoppedError:
            return None
        record = DonePart(
            plan=job.id,
            bytes=size,
            sha256=digest,
            documents=report.documents,
            vectors=report.vectors,
            truncated=report.truncated,
            skipped=read.skipped,
            warnings=tuple(read.warnings()),
            seconds=round(time.perf_counter() - start, 3),
            finished=time.time(),
            worker=worker,
        )
        job.finish(part, record)
    return record


class _StoppedError(Exception):
    """Leaves no file behind."""


def run_parts(
    job: str | Job,
    *,
    part: int | None = None,
    most: int | None = None,
    encoder: Any = None,
    device: str | None = None,
    wait: bool = False,
    on_progress: Callable[[RunProgress], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> RunReport:
    """Encode parts until none is left that nobody else works on. Any number of programs may do so at once.

    Args:
        job: the job, or its folder.
        part: encode this one and no other.
        most: parts to encode at most.
        encoder: that of the plan, loaded; ``None`` loads it if there is something to do.
        device: where it is loaded.
        wait: stay until the parts of others are done, and take over those whose workers are lost.
        on_progress: called after each batch of texts.
        should_stop: asked as often; the part at hand is given back.

    Raises:
        UsageError: there is no such job or part.
        EncoderError: the encoder cannot be loaded, or is not that of the plan.
    """
    job = job if isinstance(job, Job) else Job.open(job)
    if part is not None and not 0 <= part < len(job):
        raise UsageError(f"must be between 0 and {len(job) - 1}, not {part}", field="shard")
    return _Run(job, part, most, encoder, device, wait, on_progress, should_stop).run()


@dataclass(slots=True)
class _Run:
    job: Job
    only: int | None
    most: int | None
    encoder: Any
    device: str | None
    wait: bool
    on_progress: Callable[[RunProgress], None] | None
    should_stop: Callable[[], bool] | None
    report: RunReport = field(default_factory=RunReport)

    def run(self) -> RunReport:
        start = time.perf_counter()
        wanted = range(len(self.job)) if self.only is None else [self.only]
        done = self.job.done()
        self.report.skipped = sum(each in done for each in wanted)
        while not self.stopping() and (self.most is None or self.report.parts < self.most):
            done = self.job.done()
            failed = {part: each for part, each in self.job.failures().items() if len(each) >= MOST_FAILURES}
            open_parts = [each for each in wanted if each not in done and each not in failed]
            if self.only is not None and self.only in failed and self.only not in self.report.failed:
                open_parts = [self.only]  # asked for by number: tried once more
            if not open_parts or self.only in self.report.failed:
                break
            leased = self.job.leases()
            free = [each for each in open_parts if each not in leased]
            if free:
                self.encode(free[0], done)
            elif self.wait:
                time.sleep(_PATIENCE)
            else:
                break
        done = self.job.done()
        for each, failures in self.job.failures().items():
            if each in wanted and each not in done and len(failures) >= MOST_FAILURES:
                self.report.failed[each] = failures[-1].reason
        self.report.left = sum(each not in done and each not in self.report.failed for each in wanted)
        self.report.seconds = time.perf_counter() - start
        return self.report

    def stopping(self) -> bool:
        self.report.interrupted = self.should_stop is not None and self.should_stop()
        return self.report.interrupted

    def encode(self, part: int, done: dict[int, DonePart]) -> None:
        """Encode a part, or note that it failed."""
        if self.encoder is None:
            self.encoder = self.job.blueprint.load_encoder(self.device)
        self.job.blueprint.check(self.encoder)
        total = sum(self.job.weight(each) for each in range(len(self.job)))
        ready = sum(self.job.weight(each) for each in done)
        before = self.report.documents

        def show(documents: int) -> None:
            if self.on_progress is not None:
                fraction = ready / max(total, 1)
                self.on_progress(
                    RunProgress(documents=before + documents, parts=len(done), fraction=min(1.0, fraction))
                )

        try:
            record = encode_part(self.job, part, self.encoder, on_progress=show, should_stop=self.should_stop)
        except (LLM2CompError, OSError, MemoryError, RuntimeError, ValueError) as error:
            failures = self.job.fail(part, worker_name(), first_line(error))
            if self.only is not None or len(failures) >= MOST_FAILURES:
                self.report.failed[part] = first_line(error)
        else:
            if record is not None:
                self.report.add(part, record)
