"""The plan of a job: a corpus cut into parts, and how each becomes vectors."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from llm2comp_apps import CorpusOptions, IndexBlueprint, UsageError, cut_corpus, draw_blueprint
from llm2comp_apps.scale.folder import open_folder
from llm2comp_apps.scale.job import PLAN, Job, plan_record

__all__ = ["plan_job"]


def plan_job(
    job: str | os.PathLike[str],
    sources: Sequence[str | os.PathLike[str]],
    *,
    parts: int | None = None,
    encoder: Any = "default",
    device: str | None = None,
    reading: CorpusOptions | None = None,
    settings: dict[str, Any] | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> Job:
    """Cut a corpus into parts and write down how they are to be encoded; the same call again changes nothing.

    Args:
        job: the folder of the job, which all machines see under this name; or a URL of object storage.
        sources: files and folders, which all machines see under the same absolute paths.
        parts: how many; ``None`` for parts of about 64 MiB.
        encoder: by name, or loaded; every machine loads it by its name.
        device: where it is loaded to ask it for its fingerprint.
        reading: how the corpus is read.
        settings: those of the index (:class:`~llm2comp_apps.retrieval.settings.IndexSettings`) that differ from the
            defaults.
        on_progress: called with the share of the corpus that has been looked at.

    Raises:
        UsageError: a setting makes no sense, or the folder lies in the corpus or holds another plan.
        CorpusError: a source is missing or broken.
        EncoderError: the encoder cannot be found or loaded.
    """
    _check_apart(job, sources)
    folder, reading = open_folder(job), reading or CorpusOptions()
    cut = cut_corpus(sources, reading, parts=parts, on_progress=on_progress)
    blueprint: IndexBlueprint = draw_blueprint(encoder=encoder, device=device, **(settings or {}))
    record = plan_record(blueprint, reading, cut)
    data = json.dumps(record, indent=1).encode()
    if not folder.create(PLAN, data):
        before = Job.open(job)
        if before.id != record["id"]:
            what = _difference(before, blueprint, reading, cut)
            raise UsageError(f"{folder.location} holds the plan of another job ({what}); take another folder")
    return Job.open(job)


def _check_apart(job: str | os.PathLike[str], sources: Sequence[str | os.PathLike[str]]) -> None:
    """Refuse a job in a folder of the corpus: whoever reads that again takes the plan and the parts for documents."""
    name = os.fspath(job)
    if "://" in name or isinstance(sources, str | os.PathLike):
        return
    place = Path(name).resolve()
    for source in map(Path, sources):
        root = source.resolve()
        if not (root.is_dir() and place.is_relative_to(root)):
            continue
        if not any(part.startswith(".") for part in place.relative_to(root).parts):  # hidden folders are never read
            reason = f"{name} lies in {source}, and what is written there would be read as part of the corpus"
            raise UsageError(f"{reason}; take a folder outside of it", field="job")


def _difference(before: Job, blueprint: IndexBlueprint, reading: CorpusOptions, parts: list[Any]) -> str:
    """What two plans differ in, in words."""
    if before.blueprint.encoder["fingerprint"] != blueprint.encoder["fingerprint"]:
        return f"its encoder is {before.blueprint.encoder['name']}, not {blueprint.encoder['name']}"
    if before.blueprint != blueprint:
        theirs, ours = before.blueprint.settings, blueprint.settings
        return f"other settings: {', '.join(name for name in ours if theirs.get(name) != ours[name])}"
    if before.reading != reading:
        return "it reads the corpus in another way"
    old = {each.file.path: each.file.sha256 for part in before.parts for each in part}
    new = {each.file.path: each.file.sha256 for part in parts for each in part}
    changed = [path for path in {**old, **new} if old.get(path) != new.get(path)]
    return f"{changed[0]} is new, gone or has changed" if changed else f"{len(before)} parts, not {len(parts)}"
