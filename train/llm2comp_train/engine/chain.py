"""What a recipe trains: one stage, or its stages one after another, each starting from the one before."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llm2comp_apps.encoder.backbones import default_device
from llm2comp_apps.errors import TrainingError
from llm2comp_train.engine.again import chain_changes, run_settings, with_record
from llm2comp_train.engine.claim import chain_claim, check_chain, claim_chain
from llm2comp_train.engine.run import RunOptions, check_call, data_files, run_stage
from llm2comp_train.recipes import DEFAULT_RECIPE, DEFAULT_STAGE, get_recipe, resolve
from llm2comp_train.settings import Settings, passed_over
from llm2comp_train.stages import Stage, get_stage

__all__ = ["run_chain", "run_recipe"]


def run_recipe(recipe: str | None, stage: str | None, changes: Mapping[str, Any], options: RunOptions) -> Path:
    """Train one stage of a recipe, or with ``all`` its chain; returns the finished encoder.

    With ``resume``, what is not given is taken from the record of the run or chain in ``out``; what is given must
    agree with it. A record of evaluation data is used where ``judge_of`` makes a judge of them.

    Args:
        recipe: a name in :data:`~llm2comp_train.recipes.RECIPES`; ``None`` is the default one.
        stage: a name in :data:`~llm2comp_train.stages.STAGES`, or ``all``; ``None`` is the default one.
        changes: settings that win over the recipe's; ``None`` values are ignored.
        options: what the run is given besides; without data, the recipe's own.

    Raises:
        TrainingError: see :func:`run_chain` and :func:`~.run.run_stage`.
        UsageError: an unknown recipe or stage, or an impossible setting; or nothing tells how to resume.
    """
    options, record = with_record(recipe, stage, changes, options)
    options = dataclasses.replace(options, device=options.device or default_device())
    if options.judge is None and options.judge_of is not None and options.eval_data is not None:
        options = dataclasses.replace(options, judge=options.judge_of(options.eval_data))
    gpu = str(options.device).startswith("cuda")
    stage = stage or record.get("stage", DEFAULT_STAGE)
    known = None if recipe else run_settings(record, changes)
    recipe = recipe or record.get("recipe", DEFAULT_RECIPE)
    for line in passed_over(changes, get_recipe(recipe).chain if stage == "all" else (stage,)):
        options.say(line)
    if stage == "all":
        return run_chain(recipe, chain_changes(record, changes), options, gpu=record.get("gpu", gpu))
    settings = known or resolve(recipe, stage, changes, gpu=gpu)
    data = options.data or get_recipe(recipe).data_of(get_stage(stage))
    way, size = "as started" if known else f"recipe {recipe}", _size(get_stage(stage), settings)
    options.say(f"stage {stage}, {way}: {size} into {options.out}")
    return run_stage(stage, settings, dataclasses.replace(options, data=data))


def run_chain(recipe: str, changes: Mapping[str, Any], options: RunOptions, *, gpu: bool) -> Path:
    """Train the stages of a recipe's chain in ``OUT/1-kl``, ``OUT/2-scl`` ...; returns ``OUT/encoder``, the last one's.

    A stage takes the files whose rows suit it; without data, the recipe's own. With ``resume``, stages that are
    finished with the same settings are passed over.

    Raises:
        TrainingError: there is no data for a stage; or see :func:`~.run.run_stage`.
    """
    chosen = get_recipe(recipe)
    chain = [get_stage(name) for name in chosen.chain]
    kinds = _by_kind(options) if options.data else {}
    data = {stage.name: _suited(stage, kinds) if kinds else chosen.data_of(stage) for stage in chain}
    for stage in chain:
        if not data[stage.name]:
            wanted = "query and positive" if stage.has_queries else "text"
            raise TrainingError(f"none of the data files has rows with {wanted}, which stage {stage.name} needs.")
    steps: list[tuple[Stage, Settings, RunOptions]] = []
    init = options.init
    for number, stage in enumerate(chain, start=1):
        out = options.out / f"{number}-{stage.name}"
        instructions = options.instructions if stage.has_queries else {}
        publish = options.out / "encoder" if number == len(chain) else None
        own: dict[str, Any] = {
            "data": data[stage.name],
            "out": out,
            "init": init,
            "instructions": instructions,
            "publish": publish,
        }
        given = dataclasses.replace(options, **own)
        steps.append((stage, resolve(recipe, stage.name, changes, gpu=gpu), given))
        init = out
    for stage, settings, given in steps:  # all of them before the first trains: a later one would refuse hours later
        check_call(stage, settings, given)
        stage.teachers(settings, "cpu")
    record = chain_claim(recipe, changes, options, gpu=gpu)
    check_chain(options.out, record, resume=options.resume)
    claim_chain(options.out, record)
    for number, (stage, settings, given) in enumerate(steps, start=1):
        results = [given.out / "encoder", *([given.publish] if given.publish else [])]
        if options.resume and all(result.is_dir() for result in results):
            options.say(f"{given.out.name}: finished, passed over")
            continue
        options.say(f"stage {number}/{len(steps)}: {stage.name}, {_size(stage, settings)} into {given.out}")
        run_stage(stage.name, settings, given)
    return options.out / "encoder"


def _size(stage: Stage, settings: Settings) -> str:
    counted = settings.batch_tokens and stage.family in ("aligning", "reranking")
    batch = f"{settings.batch_tokens:,} tokens" if counted else str(settings.batch_size)
    return f"{settings.max_steps} steps of {batch}"


def _suited(stage: Stage, kinds: Mapping[str, list[str]]) -> list[str]:
    if stage.rows == "any":
        return [source for sources in kinds.values() for source in sources]
    return kinds["pairs" if stage.rows == "pairs" else "text"]


def _by_kind(options: RunOptions) -> dict[str, list[str]]:
    kinds: dict[str, list[str]] = {"text": [], "pairs": []}
    for file in data_files(options):
        first = next(iter(file.records()), None)
        if first is not None:
            kinds["pairs" if "positive" in first.fields else "text"].append(file.source)
    return kinds
