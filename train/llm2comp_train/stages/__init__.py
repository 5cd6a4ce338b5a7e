"""The training stages, one file each.

How to add a stage
------------------

Write one file in this folder, ``NAME.py``, that ends in ``STAGE = MyStage()``. Nothing else has to change: the registry
finds the file, ``llm2comp train`` runs it and lists it in its help, and checkpoints, resuming, evaluation and
several processes come with the engine. A stage is one object (:class:`~._stage.Stage`):

* ``name``, ``about``: how it is called, and one line that says what it does;
* ``family``: which settings of a recipe it starts from (a recipe may also have settings for the stage by name);
* ``rows`` and ``read``: what a row of its data is, and how a data file becomes rows;
* ``readout``: what a text's vectors are read from, if the stage decides that;
* ``reranks``: whether it makes a reranker instead of an encoder;
* ``check``: settings that it refuses before anything is loaded;
* ``teachers``: other encoders that it learns from;
* ``work``: makes the object whose ``backward(step)`` accumulates a step's gradients and whose ``figures()`` says how
  held-out rows fare (:class:`~llm2comp_train.engine.work.Work`).

A step must depend on the weights, the seed and the step number alone: then a run that was killed and resumed ends with
the weights of one that was not. Draw batches from the step number, and keep what is computed once in ``Bench.folder``.

The formula goes into ``losses/`` as a pure function with a test against a slow reference. A new hyper-parameter is one
field of :class:`~llm2comp_train.settings.Settings`, which makes it an option of the command, too. Import torch inside
methods: the command line reads this folder to print its help. Files that begin with an underscore are no stages; they
hold what several stages share. ``tests/train/test_run.py`` lets every stage that is found learn.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from llm2comp_apps.errors import UsageError
from llm2comp_train.stages._stage import Bench, Stage

__all__ = ["STAGES", "Bench", "Stage", "get_stage"]

_FAMILIES = ("adapting", "contrastive", "aligning", "reranking")


def _find() -> dict[str, Stage]:
    names = [module.name for module in iter_modules(__path__) if not module.name.startswith("_")]
    found: list[Stage] = [import_module(f"{__name__}.{name}").STAGE for name in names]
    found.sort(key=lambda stage: (_FAMILIES.index(stage.family), stage.name))
    return {stage.name: stage for stage in found}


STAGES: dict[str, Stage] = _find()
"""Every stage by its name."""


def get_stage(name: str) -> Stage:
    """A stage by name.

    Raises:
        UsageError: there is none.
    """
    if name not in STAGES:
        raise UsageError(f"must be one of {', '.join(STAGES)}, or all, not {name!r}", field="stage")
    return STAGES[name]
