"""Whose directory is it: ``run.json`` says what the run in it was started with, ``chain.json`` the same of a chain."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm2comp_apps.errors import TrainingError, UsageError
from llm2comp_apps.files import locked_file, write_text
from llm2comp_train.engine.checkpoints import latest_step
from llm2comp_train.engine.metrics import METRICS, best_step, set_scores_aside
from llm2comp_train.settings import Settings

if TYPE_CHECKING:
    from llm2comp_train.engine.run import RunOptions

__all__ = [
    "alone_in",
    "chain_claim",
    "check_chain",
    "check_claim",
    "claim",
    "claim_chain",
    "read_record",
    "run_claim",
    "run_name",
    "scores_anew",
]

RUN, CHAIN, LOCK = "run.json", "chain.json", "run.lock"
FREE = ("tokens_per_pass", "tokens_kept", "head_chunk", "gradient_checkpointing", "dead_after", "dead_gain",
        "eval_data", "tensorboard")  # fmt: skip
"""What a resumed run may change: what is learned does not depend on it. Memory may have run out."""
WRITTEN = ("data", "checkpoints", "encoder")
"""Folders that a run makes, in place of what has their names."""


def run_claim(stage: str, settings: Settings, options: RunOptions) -> dict[str, Any]:
    """What ``run.json`` is to say."""
    return {"stage": stage, **_options_claim(options), **dataclasses.asdict(settings)}


def chain_claim(recipe: str, changes: Mapping[str, Any], options: RunOptions, *, gpu: bool) -> dict[str, Any]:
    """What ``chain.json`` is to say: of the settings those alone that win over the recipe's."""
    given = {name: value for name, value in changes.items() if value is not None and value != []}
    return {"stage": "all", "recipe": recipe, "gpu": gpu, **_options_claim(options), **given}


def _options_claim(options: RunOptions) -> dict[str, Any]:
    return {
        "data": list(options.data),
        "init": str(options.init) if options.init else None,
        "instructions": dict(options.instructions),
        "eval_data": str(options.eval_data) if options.eval_data else None,
        "tensorboard": options.tensorboard,
    }


def read_record(out: Path, *, begun: bool) -> dict[str, Any] | None:
    """What the chain or the run in ``out`` was started with, if there is one.

    Args:
        out: the run's directory.
        begun: only if a step is behind it.
    """
    record = _read(out / CHAIN) or _claimed(out)
    return None if begun and not (_has_begun(out) or _chain_has_begun(out)) else record


def check_claim(out: Path, wanted: Mapping[str, Any], *, resume: bool) -> None:
    """Check that ``out`` is free, or holds the run to continue.

    A run that broke off before its first step, at a misspelt option, say, has nothing to continue: it does not count.

    Raises:
        UsageError: it holds a run and ``resume`` is not set, or one that was started with other settings; or folders
            of somebody else, which the run would replace.
    """
    before = _claimed(out)
    if before is None and not (out / "data" / "store.json").is_file():  # that of a run whose record is lost
        _check_unused(out, WRITTEN)
    if before is None or not _has_begun(out):
        return
    if not resume:
        raise UsageError(f"{out} already holds a run; add `resume` to continue it", field="out")
    _compare(out, before, wanted)


def check_chain(out: Path, wanted: Mapping[str, Any], *, resume: bool) -> None:
    """Check what the stages of a chain that have not begun cannot: whether it continues as it was started.

    Raises:
        UsageError: it was started with other options or settings; or ``out`` holds the encoder of something else.
    """
    before = _read(out / CHAIN)
    if resume and before is not None and _chain_has_begun(out):
        _compare(out, before, wanted)
    if not any(_has_begun(record.parent) for record in out.glob(f"*/{RUN}")):
        _check_unused(out, ("encoder",))


def _check_unused(out: Path, names: Sequence[str]) -> None:
    for name in names:
        path = out / name
        if path.exists() and not (path.is_dir() and not any(path.iterdir())):
            raise UsageError(
                f"{out} holds {name}, which is not of this run and would be replaced; choose another folder",
                field="out",
            )


def _compare(out: Path, before: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    changed = [name for name, value in wanted.items() if before.get(name, value) != value and name not in FREE]
    if changed:
        raise UsageError(
            f"is refused: the run in {out} was started with other values of {', '.join(changed)}; give the same ones "
            "again, or leave them out, or give another `out`",
            field="resume",
        )


@contextmanager
def alone_in(out: Path) -> Iterator[None]:
    """Let one call at a time train in ``out``: two would write one log, and replace each other's checkpoints and data.

    A lock of the operating system, so that a killed run holds none; where the file system has no locks, all go ahead.

    Raises:
        TrainingError: another process trains there now.
    """
    out.mkdir(parents=True, exist_ok=True)
    reason = f"{out}: another process trains there now; wait until it has ended, or give another `out`."
    with locked_file(out / LOCK, TrainingError(reason)):
        yield


def claim(out: Path, wanted: Mapping[str, Any]) -> None:
    """Write ``run.json``, in place of that of a run that never began; see :func:`check_claim`."""
    before, begun = _claimed(out), _has_begun(out)
    if before == wanted:
        return
    if before is not None and not begun:
        shutil.rmtree(out / "data", ignore_errors=True)  # token ids that the other call made
    out.mkdir(parents=True, exist_ok=True)
    started = (out / RUN).stat() if before is not None and begun else None
    write_text(out / RUN, json.dumps(wanted, indent=2) + "\n")
    if started:
        os.utime(out / RUN, ns=(started.st_atime_ns, started.st_mtime_ns))  # the name of the run has that date


def scores_anew(out: Path, options: RunOptions, max_steps: int) -> None:
    """Begin the choice of the best encoder anew where a run goes on with other evaluation data; says so.

    Scores of two sets of data do not compare. A run whose steps are done evaluates no more, and keeps its choice.
    """
    before, now = (_claimed(out) or {}).get("eval_data"), options.eval_data
    same = before is None or now is None or Path(before).resolve() == now.resolve()
    if same or not options.resume or latest_step(out) >= max_steps or best_step(out) is None:
        return
    set_scores_aside(out)
    options.say(f"{now}: other evaluation data than before ({before}); the best encoder is chosen from the next steps")


def claim_chain(out: Path, wanted: Mapping[str, Any]) -> None:
    """Write ``chain.json``."""
    if _read(out / CHAIN) != wanted:
        out.mkdir(parents=True, exist_ok=True)
        write_text(out / CHAIN, json.dumps(wanted, indent=2) + "\n")


def run_name(out: Path) -> str:
    """What the encoder of a run is called, so that people can tell it from others: ``scl-2026-11-26``.

    The date is that of the run's start, whenever it is resumed; a stage of a chain, ``demo/2-scl``, has both names.
    """
    folder = out.resolve()
    name = f"{folder.parent.name}-{folder.name}" if re.match(r"\d+-", folder.name) else folder.name
    started = datetime.fromtimestamp((out / RUN).stat().st_mtime, tz=UTC)
    return f"{name}-{started:%Y-%m-%d}"


def _claimed(out: Path) -> dict[str, Any] | None:
    """What ``run.json`` says, if there is one; a setting that it does not know is younger and had its default."""
    record = _read(out / RUN)
    return record if record is None else dataclasses.asdict(Settings()) | record


def _read(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        record: dict[str, Any] = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise TrainingError(f"{path}: damaged ({error}); give another `out`.") from error
    return record


def _has_begun(out: Path) -> bool:
    """Whether a step of the run is behind it."""
    metrics = out / METRICS
    return (metrics.is_file() and metrics.stat().st_size > 0) or (out / "checkpoints").is_dir()


def _chain_has_begun(out: Path) -> bool:
    return (out / CHAIN).is_file() and any(_has_begun(record.parent) for record in out.glob(f"*/{RUN}"))
