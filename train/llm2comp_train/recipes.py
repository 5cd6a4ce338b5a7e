"""Settings that belong together: what a stage runs with on a backbone, on a CPU and on a GPU.

A stage's settings are resolved in this order, later ones winning: the defaults of :class:`~.settings.Settings`, the
recipe's ``common`` ones, those of the stage's family, those of the stage, the recipe's GPU form in the same order
(where there is a GPU), and what the caller asks for. The result is written to ``run.json`` in the run's directory.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llm2comp_apps.errors import UsageError
from llm2comp_apps.text_table import TextTable
from llm2comp_train.settings import Settings
from llm2comp_train.stages import STAGES, Stage, get_stage

__all__ = [
    "DEFAULT_RECIPE",
    "DEFAULT_STAGE",
    "RECIPES",
    "TrainingRecipe",
    "default_values",
    "get_recipe",
    "recipe_record",
    "recipe_table",
    "resolve",
    "with_changes",
]

DEFAULT_RECIPE = "smollm2-135m"
DEFAULT_STAGE = "kl"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingRecipe:
    """Settings that belong together, as differences from the defaults.

    Attributes:
        about: one line for the help of the command line.
        chain: the stages that make an encoder, in order.
        common: settings of all stages.
        stages: settings by family or name of a stage.
        gpu: settings that replace these where there is a GPU; ``""`` for all stages.
        data: datasets of the hub by what a stage's rows are, for where none are given.
    """

    about: str
    chain: tuple[str, ...]
    common: Mapping[str, Any]
    stages: Mapping[str, Mapping[str, Any]]
    gpu: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    data: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: PAPER_DATA)

    def data_of(self, stage: Stage) -> list[str]:
        """The recipe's own data for a stage."""
        return list(self.data.get(stage.rows, ()))

    def settings_of(self, stage: Stage, *, gpu: bool) -> dict[str, Any]:
        """The recipe's settings for a stage, as differences from the defaults."""
        names = (stage.family, stage.name)
        values = {**self.common, **{key: value for name in names for key, value in self.stages.get(name, {}).items()}}
        if gpu:
            values |= {key: value for name in ("", *names) for key, value in self.gpu.get(name, {}).items()}
        return values


PAPER_DATA: dict[str, tuple[str, ...]] = {
    "text": ("Salesforce/wikitext:wikitext-103-raw-v1",),
    "sentences": ("JeremiahZ/simcse_unsup_wiki",),
    "pairs": tuple(
        f"sentence-transformers/{name}"
        for name in (
            "all-nli:triplet", "eli5:pair", "fever:triplet", "hotpotqa:triplet", "miracl:en-triplet",
            "mr-tydi:en-triplet", "msmarco-msmarco-distilbert-base-tas-b:triplet", "natural-questions:pair",
            "quora-duplicates:triplet", "squad:pair", "trivia-qa:pair",
        )
    ),
}  # fmt: skip
"""The paper's sets: paragraphs of WikiText-103, SimCSE's million sentences of Wikipedia (wiki1m), and what is public
and English of E5-Mistral's data (arXiv 2401.00368), in the form in which the sentence-transformers project keeps it."""

_SMOLLM2 = TrainingRecipe(
    about="on the default backbone; on one CPU core about two hours",
    chain=("kl", "scl"),
    common={
        "float32_layers": 5,  # they build SmolLM2's massive activations, which amplify rounding
        "lora_dropout": 0.0,  # costs 12 % of the time and no run here is long enough to overfit
        "symmetric": "paraphrase_*,parasci_*,wikisplit*,asset_*,disfl_qa*,flickr8k_*,snli_*",
        "tokens_kept": 8192,  # a token's activations take 0.85 MB: 16384 of them were 14.4 GB, too much for a laptop
    },
    stages={
        # Small passes: the activations of one fit beside the weights, and texts of unlike lengths are not padded.
        "adapting": {"max_steps": 600, "memory_lr": 10.0, "batch_size": 16, "tokens_per_pass": 1024},
        "aligning": {"max_steps": 3000, "batch_size": 64, "max_length": 64, "lr": 1e-4, "clip_norm": 1.0,
                     "train_weights": "all", "validation_texts": 256, "save_every": 200, "eval_every": 500},
        "ucl": {"max_steps": 150, "batch_size": 64, "lr": 1e-4, "lora_dropout": 0.1, "attention_dropout": 0.1,
                "max_length": 64},
        "scl": {"max_steps": 600, "batch_size": 64},
        "reranking": {"max_steps": 1500, "batch_tokens": 8192, "max_length": 192, "lr": 1e-4, "clip_norm": 1.0,
                      "negatives": 7, "train_weights": "all", "validation_texts": 128, "float32_layers": 0,
                      "encoder_length": 256},
    },
    gpu={
        "": {"tokens_per_pass": 32768, "tokens_kept": 131072, "schedule": "cosine"},
        # Longer contexts than on a CPU: after 400 steps on 16 to 48 tokens the gain was 0.94, and STS-B dev only 47.
        "adapting": {"max_steps": 2000, "batch_size": 64, "warmup_steps": 200, "tokens_per_pass": 32768,
                    "context": "32,64,96,128", "continuation": 32, "max_length": 192},
        "ucl": {"max_steps": 1000, "batch_size": 128},
        "scl": {"max_steps": 1500, "batch_size": 256, "max_length": 192},
        "reranking": {"batch_tokens": 65536, "tokens_per_pass": 65536, "lr": 2e-4, "warmup_steps": 100,
                      "validation_texts": 512},
    },
)  # fmt: skip

_QWEN3 = TrainingRecipe(
    about="Qwen3-0.6B on one GPU of 24 GB",
    chain=("kl", "ucl", "scl"),
    common={"backbone": "Qwen/Qwen3-0.6B", "lora_dropout": 0.05, "schedule": "cosine", "tokens_kept": 65536},
    stages={
        "adapting": {"max_steps": 4000, "batch_size": 32, "lr": 2e-4, "memory_lr": 10.0, "warmup_steps": 200,
                    "context": "32,64,128,192", "continuation": 64, "max_length": 512, "tokens_per_pass": 16384},
        "ucl": {"max_steps": 1000, "batch_size": 128, "lr": 3e-5, "attention_dropout": 0.1, "max_length": 64},
        "scl": {"max_steps": 1000, "batch_size": 512, "lr": 2e-4, "max_length": 256, "negatives": 3},
    },
)  # fmt: skip

# The paper's settings (arXiv 2511.17129), with these notes.
# As in the paper and on its poster:
# * Steps follow from the sample counts: 32k / 4, 128k / 128, and the 200 steps of 1024 after which stage 3 was best
#   (0.36M samples in all).
# * The adapter is merged after each stage and a fresh one started (here `adapter=fresh`, which keeps both and exports
#   one); memory tokens train in stage 1 only; clipping at 2.0 and the warm-ups as given.
# Where the published code goes against the paper, this follows the paper:
# * The loss is the KL itself, by log_softmax in float32; softmax().log() in half precision gives NaN.
# * A position counts by the length of its text, not by whether its id is the end-of-sequence id, which for Llama is
#   the padding id, too, and may stand inside a text.
# * The decoder is frozen altogether: in eval(), its vocabulary never resized for memory tokens.
# * The point of the split is drawn again at each visit; texts too short for ten tokens on either side are split in the
#   middle. Reduction: mean over positions, then over texts.
# What differs from the paper on purpose:
# * Memory is centred and brought to one length before the decoder reads it (CompressionNetwork.decoder_input).
# * The warm-up of stage 1 starts near 0, not at 1e-5; texts over 512 tokens are cut, not left out.
_LLAMA2 = TrainingRecipe(
    about="the paper's settings, for Llama-2-7B on GPUs of 80 GB",
    chain=("kl", "ucl", "scl"),
    common={
        "backbone": "meta-llama/Llama-2-7b-hf", "k": 8, "lora_r": 16, "lora_alpha": 32, "lora_dropout": 0.05,
        "clip_norm": 2.0, "adapter": "fresh", "schedule": "constant", "gradient_checkpointing": True,
    },
    stages={
        "adapting": {"max_steps": 8000, "batch_size": 4, "lr": 1e-4, "warmup_steps": 3200, "context": "random",
                    "continuation": 0, "crop": False, "min_chars": 1000, "max_length": 512},
        "ucl": {"max_steps": 1000, "batch_size": 128, "lr": 3e-5, "warmup_steps": 300, "attention_dropout": 0.2,
                "train_memory": False, "max_length": 128},
        "scl": {"max_steps": 200, "batch_size": 1024, "lr": 1e-4, "warmup_steps": 100, "train_memory": False,
                "max_length": 512, "eval_every": 50},
    },
)  # fmt: skip

RECIPES: dict[str, TrainingRecipe] = {"smollm2-135m": _SMOLLM2, "qwen3-0.6b": _QWEN3, "llama-2-7b": _LLAMA2}

SYMMETRIC = {
    pattern
    for recipe in RECIPES.values()
    for pattern in dataclasses.replace(Settings(), **recipe.common).symmetric_patterns
}
"""Name patterns that recipes have for the files that they were made with; other data need not have such."""


def get_recipe(name: str) -> TrainingRecipe:
    """A recipe by name.

    Raises:
        UsageError: there is none.
    """
    if name not in RECIPES:
        raise UsageError(f"must be one of {', '.join(RECIPES)}, not {name!r}", field="recipe")
    return RECIPES[name]


def resolve(recipe: str, stage: str, changes: Mapping[str, Any] | None = None, *, gpu: bool = False) -> Settings:
    """The settings of one stage of a recipe.

    Args:
        recipe: a name in :data:`RECIPES`.
        stage: a name in :data:`~.stages.STAGES`.
        changes: settings that win over the recipe's; ``None`` and empty lists are ignored, and several values of one
            setting are joined by commas.
        gpu: take the recipe's GPU form.

    Raises:
        UsageError: unknown recipe or stage, or a setting out of range.
    """
    values = get_recipe(recipe).settings_of(get_stage(stage), gpu=gpu)
    settings, changes = dataclasses.replace(Settings(), **values), changes or {}
    longest = changes.get("max_length") or 0
    if longest > 0 and not changes.get("context"):
        settings = dataclasses.replace(settings, context=_up_to(settings, longest))
    return with_changes(settings, changes)


def _up_to(settings: Settings, longest: int) -> str:
    """The contexts of a recipe that a text has which is cut there: who cuts texts shorter does not want longer ones."""
    kept = [length for length in settings.contexts if length <= longest]
    return ",".join(map(str, kept or [longest])) if settings.contexts else settings.context


def with_changes(settings: Settings, changes: Mapping[str, Any]) -> Settings:
    """Settings in which those that a call names win; see :func:`resolve`.

    Raises:
        UsageError: a setting out of range.
    """
    given = {name: value for name, value in changes.items() if value is not None and value != []}
    joined: dict[str, Any] = {
        name: ",".join(value) if isinstance(value, list) else value for name, value in given.items()
    }
    if "batch_size" in given and "batch_tokens" not in given:  # who counts texts does not want a recipe's tokens
        joined["batch_tokens"] = 0
    return dataclasses.replace(settings, **joined)


def recipe_record(
    recipe: str, stage: str, changes: Mapping[str, Any] | None = None, *, gpu: bool = False
) -> dict[str, Any]:
    """The settings that a stage, or with ``all`` each stage of the recipe's chain, trains with; JSON-shaped."""
    stages = get_recipe(recipe).chain if stage == "all" else (stage,)
    resolved = {name: dataclasses.asdict(resolve(recipe, name, changes, gpu=gpu)) for name in stages}
    return {"recipe": recipe, "form": "GPU" if gpu else "CPU", "stages": resolved}


def recipe_table(record: Mapping[str, Any]) -> TextTable:
    """A record of :func:`recipe_record` for people: settings down, stages across."""
    stages = record["stages"]
    rows = [
        [setting.name, *(_shown(values[setting.name]) for values in stages.values())]
        for setting in dataclasses.fields(Settings)
    ]
    return TextTable(title=f"{record['recipe']}, {record['form']} form", header=["setting", *stages], rows=rows)


def default_values(setting: str) -> str:
    """A setting's values in the default recipe: the most common one, then the stages that have another one."""
    stages: dict[str, list[str]] = {}
    for stage in STAGES:
        stages.setdefault(_shown(getattr(_default_settings(stage), setting)), []).append(stage)
    common = max(stages, key=lambda value: len(stages[value]))
    others = [f"{', '.join(names)}: {value}" for value, names in stages.items() if value != common]
    return "; ".join([common, *others])


@functools.cache
def _default_settings(stage: str) -> Settings:
    return resolve(DEFAULT_RECIPE, stage)


def _shown(value: Any) -> str:
    """A setting's value for people."""
    return f"{value:g}" if isinstance(value, float) else str(value)
