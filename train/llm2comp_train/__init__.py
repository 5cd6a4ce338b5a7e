"""Train an LLM2Comp encoder: compression stages, contrastive stages, one loop.

    from llm2comp_train import RunOptions, resolve, run_stage

    settings = resolve("smollm2-135m", "kl", {"max_steps": 100})
    encoder = run_stage("kl", settings, RunOptions(data=["paragraphs/"], out=Path("runs/kl")))

:func:`run_stage` runs a stage, :func:`run_chain` the stages of a recipe; :class:`Settings` has every setting.
Every name below is loaded when it is used first, since the command line needs recipes and stages alone to print its
help.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llm2comp_train.engine.chain import run_chain
    from llm2comp_train.engine.run import RunOptions, run_stage
    from llm2comp_train.recipes import RECIPES, resolve
    from llm2comp_train.settings import Settings
    from llm2comp_train.stages import STAGES

__all__ = ["RECIPES", "STAGES", "RunOptions", "Settings", "resolve", "run_chain", "run_stage"]

_HOME = {
    "RECIPES": "recipes",
    "STAGES": "stages",
    "RunOptions": "engine.run",
    "Settings": "settings",
    "resolve": "recipes",
    "run_chain": "engine.chain",
    "run_stage": "engine.run",
}
"""Where each name lives."""


def __getattr__(name: str) -> object:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
