"""The options of ``llm2comp train``: one for every setting of :class:`~llm2comp_train.settings.Settings`."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import re
from pathlib import Path
from typing import Annotated, Any

import typer
from llm2comp_train.recipes import RECIPES, resolve
from llm2comp_train.settings import Settings
from llm2comp_train.stages import STAGES

from llm2comp_apps.cli.options.expand import Group
from llm2comp_apps.errors import UsageError

__all__ = [
    "DEFAULT_RECIPE",
    "DEFAULT_STAGE",
    "SETTINGS",
    "DataOption",
    "EvalDataOption",
    "InitOption",
    "InstructionOption",
    "OutOption",
    "RecipeOption",
    "StageOption",
    "data_option",
    "out_option",
    "parse_instructions",
    "shown_value",
]

DEFAULT_RECIPE = "smollm2-135m"
DEFAULT_STAGE = "kl"
_TYPES: dict[str, type] = {"str": str, "int": int, "float": float, "bool": bool}
_STAGES = "; ".join(f"{name}: {stage.about}" for name, stage in STAGES.items())
_RECIPES = "; ".join(f"{name}: {recipe.about}" for name, recipe in RECIPES.items())


def out_option(text: str) -> Any:
    """``--out``: where to write what ``text`` says."""
    return typer.Option("--out", help=text)


def data_option(text: str) -> Any:
    """``--data``: files and folders, of which ``text`` says what they hold."""
    return typer.Option("--data", help=text)


OutOption = Annotated[Path | None, out_option("Folder of the run; the finished encoder is in OUT/encoder.")]
StageOption = Annotated[
    str | None,
    typer.Option(
        "--stage", help=f"Stage of the training. {_STAGES}; all: the recipe's chain. [default: {DEFAULT_STAGE}]"
    ),
]
DataOption = Annotated[
    list[str] | None,
    data_option(
        "File, folder, glob or hub dataset with rows of text, or of query and positive. "
        "[default: the paper's, from the hub]"
    ),
]
RecipeOption = Annotated[str, typer.Option("--recipe", help=f"Settings that belong together. {_RECIPES}.")]
InitOption = Annotated[Path | None, typer.Option("--init", help="Run, checkpoint or name of an encoder to start from.")]
InstructionOption = Annotated[
    list[str] | None,
    typer.Option("--instruction", metavar="FILE=TEXT", help="scl: prompt of the queries of a file (name pattern)."),
]
EvalDataOption = Annotated[
    Path | None, typer.Option("--eval-data", help="Evaluation data; its dev suite scores every evaluated step.")
]


def parse_instructions(given: list[str]) -> dict[str, str]:
    """``FILE=TEXT`` items as prompts by name pattern.

    Raises:
        UsageError: there is no ``=``.
    """
    for item in given:
        if "=" not in item:
            raise UsageError(f"{item!r}: write FILE=TEXT, such as 'medquad*=question: '", field="instructions")
    return dict(item.partition("=")[::2] for item in given)


def shown_value(value: Any) -> str:
    """A setting's value for people."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def _option(setting: dataclasses.Field[Any]) -> inspect.Parameter:
    kind: Any = _TYPES[str(setting.type)]
    flag = setting.name.replace("_", "-")
    names = f"--{flag}/--no-{flag}" if kind is bool else f"--{flag}"
    text = re.sub(r"`([a-z_]+)(?:=([^`]*))?`", _spelled, setting.metadata["help"])
    option = typer.Option(names, help=f"{text} [{_defaults(setting.name)}]", show_default=False)
    taken = list[str] if setting.metadata.get("repeat") else kind
    return inspect.Parameter(
        setting.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[taken | None, option]
    )


def _spelled(found: re.Match[str]) -> str:
    name, value = found.groups()
    flag = "--instruction" if name == "instructions" else f"--{name.replace('_', '-')}"
    return f"{flag} {value}" if value else flag


@functools.cache
def _resolved(stage: str) -> Settings:
    return resolve(DEFAULT_RECIPE, stage)


def _defaults(name: str) -> str:
    """Values of the default recipe: the most common one, then the stages that have another one."""
    stages: dict[str, list[str]] = {}
    for stage in STAGES:
        stages.setdefault(shown_value(getattr(_resolved(stage), name)), []).append(stage)
    common = max(stages, key=lambda value: len(stages[value]))
    others = [f"{', '.join(names)}: {value}" for value, names in stages.items() if value != common]
    return "; ".join([common, *others])


def _changes(**values: Any) -> dict[str, Any]:
    """The values of the options as :class:`Settings` has them: several of one option are joined by commas."""
    for setting in dataclasses.fields(Settings):
        if setting.metadata.get("repeat"):
            values[setting.name] = ",".join(values[setting.name]) if values[setting.name] else None
    return values


SETTINGS = Group(_changes, tuple(_option(setting) for setting in dataclasses.fields(Settings)))
"""An option for every field of :class:`Settings`; ``None`` where it is not given."""
