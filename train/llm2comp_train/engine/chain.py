"""``--stage all``: a recipe's stages one after another, each going on from the one before."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llm2comp_apps.errors import TrainingError
from llm2comp_train.data.sources import find_data
from llm2comp_train.data.teacher import load_teacher
from llm2comp_train.engine.run import RunOptions, check_call, run_stage
from llm2comp_train.recipes import Settings, get_recipe, resolve

__all__ = ["run_chain"]


def run_chain(recipe: str, changes: Mapping[str, Any], options: RunOptions, *, gpu: bool) -> Path:
    """Train the stages of a recipe's chain in ``OUT/1-kl``, ``OUT/2-scl`` ...; returns the last stage's encoder.

    Files with ``text`` rows go to the stages before ``scl``, those with ``query`` and ``positive`` to ``scl``; without
    data, each stage takes the recipe's own. With ``resume``, stages that are finished with the same settings are passed
    over.

    Raises:
        TrainingError: there is no data for a stage; or see :func:`~.run.run_stage`.
    """
    chain = get_recipe(recipe).chain
    kinds = _by_kind(options) if options.data else {}
    data = {
        stage: kinds["pairs" if stage == "scl" else "text"] if kinds else get_recipe(recipe).data_of(stage)
        for stage in chain
    }
    for stage in chain:
        if not data[stage]:
            wanted = "query and positive" if stage == "scl" else "text"
            raise TrainingError(f"--stage all: none of the data files has rows with {wanted}, which {stage} needs.")
    steps: list[tuple[str, Settings, RunOptions]] = []
    init = options.init
    for number, stage in enumerate(chain, start=1):
        out = options.out / f"{number}-{stage}"
        given = dataclasses.replace(options, data=data[stage], out=out, init=init)
        steps.append((stage, resolve(recipe, stage, changes, gpu=gpu), given))
        init = out
    for stage, settings, given in steps:  # all of them before the first trains: a later one would refuse hours later
        check_call(stage, settings, given)
        if stage == "scl" and settings.teacher:
            load_teacher(settings.teacher, "cpu")
    for number, (stage, settings, given) in enumerate(steps, start=1):
        if options.resume and (given.out / "encoder").is_dir():
            options.say(f"{given.out.name}: finished, passed over")
            continue
        size = f"{settings.max_steps} steps of {settings.batch_size}"
        options.say(f"stage {number}/{len(steps)}: {stage}, {size} into {given.out}")
        run_stage(stage, settings, given)
    return steps[-1][2].out / "encoder"


def _by_kind(options: RunOptions) -> dict[str, list[str]]:
    kinds: dict[str, list[str]] = {"text": [], "pairs": []}
    for file in find_data(options.data):
        first = next(iter(file.records()), None)
        if first is not None:
            kinds["pairs" if "positive" in first.fields else "text"].append(file.source)
    return kinds
