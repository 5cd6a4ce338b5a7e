"""The options of ``llm2comp train``: what a run is given, and one for every field of its settings."""

from __future__ import annotations

import dataclasses
import inspect
import re
from pathlib import Path
from typing import Any

from llm2comp_train.recipes import DEFAULT_RECIPE, DEFAULT_STAGE, RECIPES, default_values
from llm2comp_train.settings import Settings, parse_instructions
from llm2comp_train.stages import STAGES

from llm2comp_apps.cli.options.expand import REQUIRED, Group, option

__all__ = ["RECIPE", "RUN", "SETTINGS", "STAGE", "out_folder"]

_TYPES: dict[str, type] = {"str": str, "int": int, "float": float, "bool": bool}
_STAGES = "; ".join(f"{name}: {stage.about}" for name, stage in STAGES.items())
_RECIPES = "; ".join(f"{name}: {recipe.about}" for name, recipe in RECIPES.items())
_DATA = "File, folder, glob or hub dataset with rows of text, or of query and positive."
_HUB = "[default: the paper's, from the hub]"
_STAGE = f"Stage of the training. {_STAGES}; all: the recipe's chain. [default: {DEFAULT_STAGE}]"
_PROMPT = "scl: prompt of the queries of a file (name pattern)."


def out_folder(text: str, kind: Any = Path, default: Any = REQUIRED) -> inspect.Parameter:
    """The option for where the result goes."""
    return option("out", kind, default, None, text)


def _run(data: list[str] | None, instructions: list[str] | None, **values: Any) -> dict[str, Any]:
    """The values of the options as :class:`~llm2comp_train.engine.run.RunOptions` has them."""
    return {"data": data or [], "instructions": parse_instructions(instructions or ()), **values}


STAGE = option("stage", str | None, None, None, _STAGE)
_RECIPE = f"Settings that belong together. {_RECIPES}. [default: {DEFAULT_RECIPE}]"
RECIPE = option("recipe", str | None, None, None, _RECIPE)
RUN = Group(
    _run,
    (
        out_folder("Folder of the run; the finished encoder is in OUT/encoder.", Path | None, None),
        option("data", list[str] | None, None, None, f"{_DATA} {_HUB}"),
        option("init", Path | None, None, None, "Run, checkpoint or name of an encoder to start from."),
        option("resume", bool, False, None, "Continue the run or chain in OUT; it knows its other options."),
        option("instructions", list[str] | None, None, "FILE=TEXT", _PROMPT, flag="--instruction"),
        option("eval_data", Path | None, None, None, "Evaluation data; its dev suite scores every evaluated step."),
        option("tensorboard", bool, False, None, "Write OUT/tensorboard, too."),
    ),
)


def _setting(setting: dataclasses.Field[Any]) -> inspect.Parameter:
    kind: Any = _TYPES[str(setting.type)]
    flag = setting.name.replace("_", "-")
    text = re.sub(r"`([a-z_]+)(?:=([^`]*))?`", _spelled, setting.metadata["help"])
    return option(
        setting.name,
        (list[str] if setting.metadata.get("repeat") else kind) | None,
        None,
        None,
        f"{text} [{default_values(setting.name)}]",
        flag=f"--{flag}/--no-{flag}" if kind is bool else f"--{flag}",
    )


def _spelled(found: re.Match[str]) -> str:
    name, value = found.groups()
    flag = "--instruction" if name == "instructions" else f"--{name.replace('_', '-')}"
    return f"{flag} {value}" if value else flag


SETTINGS = Group(dict, tuple(_setting(setting) for setting in dataclasses.fields(Settings)))
"""An option for every field of :class:`Settings`; ``None`` where it is not given."""
