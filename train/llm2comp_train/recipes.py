"""Every hyper-parameter of training, in one place: its meaning once, and its value per recipe and stage.

A stage's settings are resolved in this order, later ones winning: the defaults of :class:`Settings`, the recipe's
``common`` ones, the recipe's stage, the recipe's GPU form (where there is a GPU), the flags of ``llm2comp train``. What
came out is written to ``run.json`` in the run's directory.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from llm2comp_apps.errors import UsageError

__all__ = [
    "COMPARATORS",
    "COMPRESSION",
    "RECIPES",
    "STAGES",
    "Recipe",
    "Settings",
    "get_recipe",
    "resolve",
]

COMPRESSION = ("rc", "nll", "kl")
COMPARATORS = ("mntp", "ebar")
"""Other ways to adapt an LLM before the contrastive stages, on the same data."""
STAGES = (*COMPRESSION, *COMPARATORS, "ucl", "scl")
_ADAPTING = (*COMPRESSION, *COMPARATORS)
_LARGEST_SEED = 2**32 - 1
"""What numpy takes; times the steps it still fits into torch's 64 bits."""
_CHOICES = {
    "schedule": ("constant", "linear", "cosine"),
    "adapter": ("continue", "fresh"),
    "dtype": ("auto", "bfloat16", "float32"),
    "attention": ("auto", "eager", "sdpa", "flash_attention_2"),
}


def _setting(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What one stage runs with; each field is a flag of ``llm2comp train``, with this text as its help."""

    # The network
    backbone: str = _setting("smollm2-135m", "The LLM: short name, local directory or Hugging Face id.")
    k: int = _setting(8, "Memory tokens per text.")
    lora_r: int = _setting(16, "Rank of the LoRA adapter.")
    lora_alpha: int = _setting(32, "Adapter updates count alpha / r times.")
    lora_dropout: float = _setting(0.05, "Dropout in front of the adapter.")
    attention_dropout: float = _setting(0.0, "Dropout on attention weights.")
    lora_targets: str = _setting(
        "q_proj,v_proj,o_proj,gate_proj,up_proj,down_proj", "Linear layers that get an adapter, comma-separated."
    )
    adapter: str = _setting("continue", "With --init: 'continue' trains its adapter on, 'fresh' adds a new one to it.")
    train_memory: bool = _setting(True, "Train the memory tokens (and the decoder's input) along with the adapter.")
    # The optimiser
    max_steps: int = _setting(1000, "Optimiser steps.")
    batch_size: int = _setting(16, "Texts or pairs per optimiser step, over all processes.")
    lr: float = _setting(5e-4, "Peak learning rate (AdamW).")
    memory_lr: float = _setting(1.0, "Learning rate of memory tokens and decoder input, as a multiple of --lr.")
    warmup_steps: int = _setting(40, "Steps of linear warm-up to the peak.")
    schedule: str = _setting("linear", "After the warm-up: constant, linear or cosine decay.")
    lr_floor: float = _setting(0.05, "Share of the peak learning rate that the decay ends at.")
    weight_decay: float = _setting(0.0, "Weight decay (AdamW).")
    clip_norm: float = _setting(2.0, "Gradients are scaled down to this norm.")
    # The data
    context: str = _setting("16,24,32,48", "rc, nll, kl, ebar: context lengths to draw from (tokens), or 'random'.")
    continuation: int = _setting(
        16, "nll, kl, ebar: continuation tokens at most; 0 for all that follow. mntp: of context and continuation."
    )
    crop: bool = _setting(
        True,
        "All but ucl, scl: start at a sentence drawn anew at each visit, not at the text's start; "
        "does nothing with --context random.",
    )
    mask_share: float = _setting(0.2, "mntp: share of the tokens that are masked.")
    max_rows: int = _setting(0, "Rows of a file or dataset used, from its start; 0 for all.")
    min_chars: int = _setting(1, "All but ucl, scl: leave out texts with fewer characters.")
    max_length: int = _setting(96, "Tokens of a training text at most; the rest is cut off.")
    query_prompt: str = _setting("query: ", "scl: in front of queries, unless --instruction says otherwise.")
    symmetric: str = _setting(
        "", "scl: files (name patterns, comma-separated) whose two sides are alike: no prompt, loss in both directions."
    )
    negatives: int = _setting(1, "scl: hard negatives used per pair, where the data has some.")
    file_exponent: float = _setting(0.5, "scl: a file of n pairs is drawn with weight min(n, file_cap) ** exponent.")
    file_cap: int = _setting(30_000, "scl: see file_exponent.")
    temperature: float = _setting(0.05, "ucl, scl: cosines are divided by it.")
    teacher: str = _setting(
        "", "scl: an encoder whose similarities are learned along: a directory, default, st:MODEL or pypi:PACKAGE."
    )
    teacher_weight: float = _setting(0.5, "scl: share of the teacher's loss; the pairs' own has the rest.")
    teacher_level: float = _setting(
        0.0, "scl: weight, in the teacher's loss, of squared differences from its cosines, whose level is free without."
    )
    seed: int = _setting(0, "Of everything drawn: weights, order, splits, dropout.")
    # The machine
    dtype: str = _setting("auto", "Of the frozen weights: auto, bfloat16, float32.")
    attention: str = _setting("auto", "Attention kernel: auto, eager, sdpa, flash_attention_2.")
    compile: bool = _setting(False, "Compile the layers (torch.compile).")
    gradient_checkpointing: bool = _setting(False, "Recompute activations in the backward pass: less memory, slower.")
    shard: bool = _setting(False, "Spread the backbone's weights over all processes (FSDP).")
    tokens_per_pass: int = _setting(4096, "Padded tokens that go through the network at once.")
    tokens_kept: int = _setting(16384, "ucl, scl: larger batches use GradCache and keep one pass's activations.")
    head_chunk: int = _setting(128, "Positions whose logits exist at once.")
    # The watch
    eval_every: int = _setting(200, "Steps between evaluations; with --eval-data the best encoder is kept.")
    save_every: int = _setting(100, "Steps between checkpoints.")
    encoder_length: int = _setting(512, "Maximum length of the encoder that comes out, in tokens.")
    float32_layers: int = _setting(0, "Front layers of the encoder that comes out which are never rounded to bfloat16.")
    validation_texts: int = _setting(64, "All but ucl, scl: texts held out to measure loss and gain on.")
    dead_after: int = _setting(
        2, "rc, nll, kl, ebar: evaluations in a row with a gain under dead_gain that end the run."
    )
    dead_gain: float = _setting(0.02, "rc, nll, kl, ebar: the least gain of a run that lives, in nats per token.")

    def __post_init__(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            UsageError: naming the flag.
        """
        for name in ("k", "lora_r", "max_steps", "batch_size", "tokens_per_pass", "tokens_kept", "max_length",
                     "head_chunk", "eval_every", "save_every", "file_cap", "dead_after", "encoder_length"):  # fmt: skip
            self._require(name, getattr(self, name) >= 1, "at least 1")
        for name in (
            "warmup_steps",
            "continuation",
            "weight_decay",
            "min_chars",
            "negatives",
            "float32_layers",
            "max_rows",
            "teacher_level",
        ):
            self._require(name, getattr(self, name) >= 0, "at least 0")
        for name in ("lr", "memory_lr", "clip_norm", "temperature"):
            self._require(name, getattr(self, name) > 0, "above 0")
        self._require("seed", 0 <= self.seed <= _LARGEST_SEED, f"from 0 to {_LARGEST_SEED}")
        self._require("teacher_weight", 0 <= self.teacher_weight <= 1, "between 0 and 1")
        for name in ("lora_dropout", "attention_dropout"):
            self._require(name, 0 <= getattr(self, name) < 1, "at least 0 and under 1")
        for name, allowed in _CHOICES.items():
            self._require(name, getattr(self, name) in allowed, f"one of {', '.join(allowed)}")
        self._require("mask_share", 0 < self.mask_share < 1, "between 0 and 1")
        self._require("lr_floor", 0 <= self.lr_floor <= 1, "between 0 and 1")
        self._require(
            "compile", not (self.compile and self.gradient_checkpointing), "off with --gradient-checkpointing"
        )
        self._require("validation_texts", self.validation_texts >= 2, "at least 2")
        parts = self.context.split(",")
        fixed = all(part.strip().isdecimal() and int(part) > 0 for part in parts)
        self._require("context", fixed or self.context == "random", "lengths such as 16,24,32, or 'random'")

    def _require(self, name: str, right: bool, wanted: str) -> None:
        if not right:
            raise UsageError(f"--{name.replace('_', '-')} {getattr(self, name)}: must be {wanted}.")

    @property
    def contexts(self) -> tuple[int, ...]:
        """The context lengths to draw from; empty for ``random``."""
        return () if self.context == "random" else tuple(int(part) for part in self.context.split(","))

    @property
    def targets(self) -> list[str]:
        """The layers that get an adapter."""
        return [part.strip() for part in self.lora_targets.split(",")]

    def is_symmetric(self, file: str) -> bool:
        """Whether the two sides of a pair file are alike."""
        return any(fnmatch.fnmatch(file, pattern.strip()) for pattern in self.symmetric.split(",") if pattern.strip())

    def lr_at(self, step: int) -> float:
        """Learning rate of a step (from 0): linear warm-up, then the decay to ``lr_floor``."""
        if step < self.warmup_steps:
            return self.lr * (step + 1) / self.warmup_steps
        done = min(1.0, (step - self.warmup_steps) / max(1, self.max_steps - self.warmup_steps))
        shape = {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}[self.schedule]
        return self.lr * (self.lr_floor + (1 - self.lr_floor) * shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """Settings that belong together, as differences from the defaults.

    Attributes:
        about: one line for ``--help``.
        chain: the stages of ``--stage all``, in order.
        common: settings of all stages.
        stages: settings by stage.
        gpu: settings that replace these where there is a GPU, by stage; ``""`` for all stages.
        data: datasets of the hub by stage, ``""`` for all other stages; for where none are given.
    """

    about: str
    chain: tuple[str, ...]
    common: Mapping[str, Any]
    stages: Mapping[str, Mapping[str, Any]]
    gpu: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    data: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: PAPER_DATA)

    def data_of(self, stage: str) -> list[str]:
        """The recipe's own data for a stage, as ``--data`` would say it."""
        return list(self.data.get(stage, self.data.get("", ())))


PAPER_DATA: dict[str, tuple[str, ...]] = {
    "": ("Salesforce/wikitext:wikitext-103-raw-v1",),
    "ucl": ("JeremiahZ/simcse_unsup_wiki",),
    "scl": tuple(
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

_SMOLLM2 = Recipe(
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
        **{
            stage: {"max_steps": 600, "memory_lr": 10.0, "batch_size": 16, "tokens_per_pass": 1024}
            for stage in _ADAPTING
        },
        "ucl": {"max_steps": 150, "batch_size": 64, "lr": 1e-4, "lora_dropout": 0.1, "attention_dropout": 0.1,
                "max_length": 64},
        "scl": {"max_steps": 600, "batch_size": 64},
    },
    gpu={
        "": {"tokens_per_pass": 32768, "tokens_kept": 131072, "schedule": "cosine"},
        # Longer contexts than on a CPU: after 400 steps on 16 to 48 tokens the gain was 0.94, and STS-B dev only 47.
        **{
            stage: {"max_steps": 2000, "batch_size": 64, "warmup_steps": 200, "tokens_per_pass": 32768,
                    "context": "32,64,96,128", "continuation": 32, "max_length": 192}
            for stage in _ADAPTING
        },
        "ucl": {"max_steps": 1000, "batch_size": 128},
        "scl": {"max_steps": 1500, "batch_size": 256, "max_length": 192},
    },
)  # fmt: skip

_QWEN3 = Recipe(
    about="Qwen3-0.6B on one GPU of 24 GB",
    chain=("kl", "ucl", "scl"),
    common={"backbone": "Qwen/Qwen3-0.6B", "lora_dropout": 0.05, "schedule": "cosine", "tokens_kept": 65536},
    stages={
        **{
            stage: {"max_steps": 4000, "batch_size": 32, "lr": 2e-4, "memory_lr": 10.0, "warmup_steps": 200,
                    "context": "32,64,128,192", "continuation": 64, "max_length": 512, "tokens_per_pass": 16384}
            for stage in _ADAPTING
        },
        "ucl": {"max_steps": 1000, "batch_size": 128, "lr": 3e-5, "attention_dropout": 0.1, "max_length": 64},
        "scl": {"max_steps": 1000, "batch_size": 512, "lr": 2e-4, "max_length": 256, "negatives": 3},
    },
)  # fmt: skip

# The paper's settings (arXiv 2511.17129), with these notes.
# As in the paper and on its poster:
# * Steps follow from the sample counts: 32k / 4, 128k / 128, and the 200 steps of 1024 after which stage 3 was best
#   (0.36M samples in all).
# * The adapter is merged after each stage and a fresh one started (here --adapter fresh, which keeps both and exports
#   one); memory tokens train in stage 1 only; clipping at 2.0 and the warm-ups as given.
# Where the published code goes against the paper, this follows the paper:
# * The loss is the KL itself, by log_softmax in float32; softmax().log() in half precision gives NaN.
# * A position counts by the length of its text, not by whether its id is the end-of-sequence id, which for Llama is
#   the padding id, too, and may stand inside a text.
# * The decoder is frozen altogether: in eval(), its vocabulary never resized for memory tokens.
# * The point of the split is drawn anew at each visit; texts too short for ten tokens on either side are split in the
#   middle. Reduction: mean over positions, then over texts.
# What differs from the paper on purpose:
# * Memory is centred and brought to one length before the decoder reads it (CompressionNetwork.decoder_input).
# * The warm-up of stage 1 starts near 0, not at 1e-5; texts over 512 tokens are cut, not left out.
_LLAMA2 = Recipe(
    about="the paper's settings, for Llama-2-7B on GPUs of 80 GB",
    chain=("kl", "ucl", "scl"),
    common={
        "backbone": "meta-llama/Llama-2-7b-hf", "k": 8, "lora_r": 16, "lora_alpha": 32, "lora_dropout": 0.05,
        "clip_norm": 2.0, "adapter": "fresh", "schedule": "constant", "gradient_checkpointing": True,
    },
    stages={
        **{
            stage: {"max_steps": 8000, "batch_size": 4, "lr": 1e-4, "warmup_steps": 3200, "context": "random",
                    "continuation": 0, "crop": False, "min_chars": 1000, "max_length": 512}
            for stage in _ADAPTING
        },
        "ucl": {"max_steps": 1000, "batch_size": 128, "lr": 3e-5, "warmup_steps": 300, "attention_dropout": 0.2,
                "train_memory": False, "max_length": 128},
        "scl": {"max_steps": 200, "batch_size": 1024, "lr": 1e-4, "warmup_steps": 100, "train_memory": False,
                "max_length": 512, "eval_every": 50},
    },
)  # fmt: skip

RECIPES: dict[str, Recipe] = {"smollm2-135m": _SMOLLM2, "qwen3-0.6b": _QWEN3, "llama-2-7b": _LLAMA2}


def get_recipe(name: str) -> Recipe:
    """A recipe by name.

    Raises:
        UsageError: there is none.
    """
    if name not in RECIPES:
        raise UsageError(f"recipe {name!r} is unknown; choose one of {', '.join(RECIPES)}.")
    return RECIPES[name]


def resolve(recipe: str, stage: str, changes: Mapping[str, Any] | None = None, *, gpu: bool = False) -> Settings:
    """The settings of one stage of a recipe.

    Args:
        recipe: a name in :data:`RECIPES`.
        stage: one of :data:`STAGES`.
        changes: settings that win over the recipe's; ``None`` values are ignored.
        gpu: take the recipe's GPU form.

    Raises:
        UsageError: unknown recipe or stage, or a setting out of range.
    """
    chosen = get_recipe(recipe)
    if stage not in STAGES:
        raise UsageError(f"stage {stage!r} is unknown; choose one of {', '.join(STAGES)}, or all.")
    values = {**chosen.common, **chosen.stages.get(stage, {})}
    if gpu:
        values |= {**chosen.gpu.get("", {}), **chosen.gpu.get(stage, {})}
    values |= {name: value for name, value in (changes or {}).items() if value is not None}
    settings = dataclasses.replace(Settings(), **values)
    if stage == "ebar" and settings.k < 2:
        raise UsageError(f"--k {settings.k}: ebar has two prompts and needs a memory token for each.")
    return settings
