"""From the parts of a job to an index."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm2comp_indexes import Index

from llm2comp_apps import CorpusError, UsageError, import_parts
from llm2comp_apps.scale.job import DonePart, Job

if TYPE_CHECKING:
    from llm2comp_apps.retrieval.parts import PartsReport

__all__ = ["commit_job"]


def commit_job(
    job: str | Job,
    output: str | os.PathLike[str],
    *,
    partial: bool = False,
    device: str = "cpu",
    on_progress: Callable[[PartsReport], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> PartsReport:
    """Put the parts of a job into an index, in order, with a commit for each. Again, it continues where it stopped.

    The index has the documents and vectors that one program would have made of the same corpus.

    Args:
        job: the job, or its folder.
        output: the index; made if there is none.
        partial: take the parts that are done, even if some are not. They can follow later, behind the others.
        device: where FAISS indexes are trained.
        on_progress: called after each part.
        should_stop: asked after each part.

    Raises:
        UsageError: parts are missing, the index was made with other settings, or its place is a file's.
        CorpusError: an id stands for two documents, which in a corpus of folders alone leaves the later one out; or no
            part has a document.
        LLM2CompError: a part is damaged; the next run makes it again.
    """
    job = job if isinstance(job, Job) else Job.open(job)
    done = job.done()
    if len(done) < len(job) and not partial:
        missing = [part for part in range(len(job)) if part not in done]
        named = ", ".join(map(str, missing[:8])) + (", ..." if len(missing) > 8 else "")
        raise UsageError(
            f"{len(missing)} of {len(job)} parts are not done ({named}); run the job first "
            "(`partial` takes those that are there)"
        )
    if not partial and not any(each.documents for each in done.values()):
        skipped = sum(each.skipped for each in done.values())
        raise CorpusError(
            f"{job.folder.location}: no document found in {len(job)} parts ({skipped} broken records left out)"
        )
    path = Path(output)
    if path.is_file():
        reason = f"{path} is a file, not an index; an index is a folder, such as {path.stem}.index"
        raise UsageError(reason, field="output")
    index = Index.open(path) if path.exists() and any(path.iterdir()) else job.blueprint.create(path)
    with index:
        job.blueprint.check_index(index)
        report: Any = import_parts(
            index,
            _files(job, done),
            skip_conflicts=_skips_conflicts(job),
            device=device,
            on_progress=on_progress,
            should_stop=should_stop,
        )
    return report


def _skips_conflicts(job: Job) -> bool:
    """Whether a document is left out whose id stands for another one: as a build does in what folders bring along."""
    if job.reading.on_error == "auto":
        return all(each.file.found for part in job.parts for each in part)
    return job.reading.on_error == "skip"


def _files(job: Job, done: dict[int, DonePart]) -> Iterator[tuple[str, Path]]:
    for part in sorted(done):
        with job.checked(part, done[part]) as path:
            yield f"part {part}", path
