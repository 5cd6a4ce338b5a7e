"""A run that is resumed: what a call does not say is taken from the record that the run was started with."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llm2comp_apps.errors import UsageError
from llm2comp_train.engine.claim import read_record
from llm2comp_train.engine.metrics import best_step
from llm2comp_train.engine.run import RunOptions
from llm2comp_train.recipes import with_changes
from llm2comp_train.settings import Settings

__all__ = ["chain_changes", "run_settings", "with_record"]

_SETTINGS = frozenset(setting.name for setting in dataclasses.fields(Settings))


def with_record(
    recipe: str | None, stage: str | None, changes: Mapping[str, Any], options: RunOptions
) -> tuple[RunOptions, dict[str, Any]]:
    """The options of a call, with those of the record that it leaves out; and the record, empty if none continues.

    The record of a run that broke off before its first step counts only for a call that says nothing else: other
    options are a new beginning.

    Raises:
        UsageError: stage or recipe are not those of the record; or there is neither a record nor an option.
    """
    if not options.resume:
        return options, {}
    given = [recipe, stage, options.data, options.init, options.instructions, options.eval_data, options.tensorboard]
    alone = not any(given) and all(value is None or value == [] for value in changes.values())
    record = read_record(options.out, begun=not alone)
    if record is None:
        if alone:
            raise UsageError(
                f"is refused: {options.out} does not say what a run in it was started with; give its options again",
                field="resume",
            )
        return options, {}
    for name, value in (("stage", stage), ("recipe", recipe)):
        if value and value != record.get(name, value):
            raise UsageError(
                f"is refused: the run in {options.out} was started with {name} {record[name]}, not {value}",
                field="resume",
            )
    if "eval_data" not in record and options.eval_data is None and best_step(options.out) is not None:
        options.say(
            f"{options.out}: begun by an older version, which did not write down its evaluation data; none are used"
        )
    filled = dataclasses.replace(
        options,
        data=options.data or record["data"],
        init=options.init or _path(record["init"]),
        instructions=options.instructions or record["instructions"],
        eval_data=options.eval_data or _path(record.get("eval_data")),
        tensorboard=options.tensorboard or record.get("tensorboard", False),
    )
    return filled, record


def run_settings(record: Mapping[str, Any], changes: Mapping[str, Any]) -> Settings | None:
    """The settings of the record of a run, and what a call changes; ``None`` where there is none, or that of a chain.

    Raises:
        UsageError: a setting out of range.
    """
    if not record or record["stage"] == "all":
        return None
    return with_changes(Settings(**{name: record[name] for name in _SETTINGS if name in record}), changes)


def chain_changes(record: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """What wins over the settings of a recipe: of the record of its chain, and of the call."""
    given = {name: value for name, value in changes.items() if value is not None and value != []}
    return {name: value for name, value in record.items() if name in _SETTINGS} | given


def _path(name: str | None) -> Path | None:
    return Path(name) if name else None
