"""Every hyper-parameter of training and its meaning; :mod:`.recipes` has the values by recipe and stage."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from llm2comp_apps.errors import UsageError

__all__ = ["CHOICES", "Settings", "parse_instructions", "passed_over"]

_LARGEST_SEED = 2**32 - 1
"""What numpy takes; times the steps it still fits into torch's 64 bits."""
CHOICES = {
    "schedule": ("constant", "linear", "cosine"),
    "adapter": ("continue", "fresh"),
    "train_weights": ("adapter", "all", "memory"),
    "optimizer": ("adamw", "muon"),
    "pieces": ("texts", "sentences", "both"),
    "dtype": ("auto", "bfloat16", "float32"),
    "attention": ("auto", "eager", "sdpa", "flash_attention_2", "packed"),
}


_ADAPTING = "rc, nll, kl, ebar, mntp"


def _setting(default: Any, about: str | Mapping[str, str], *, repeat: bool = False) -> Any:
    """A setting with its help, for all stages or by the names of those that read it."""
    by_stages = {} if isinstance(about, str) else dict(about)
    stages = tuple(name for names in by_stages for name in names.split(", "))
    text = about if isinstance(about, str) else " ".join(f"{names}: {what}" for names, what in by_stages.items())
    return field(default=default, metadata={"help": text, "repeat": repeat, "stages": stages})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What one stage runs with; the help text of each setting is that of its option in ``llm2comp train``."""

    # The network
    backbone: str = _setting("smollm2-135m", "LLM: a short name, a local directory or a Hugging Face id.")
    k: int = _setting(8, "Memory tokens per text.")
    layers: str = _setting(
        "",
        "Layers of the LLM that the encoder runs: how many (those that matter most are chosen), or their numbers, as "
        "0,1,28,29. Without it, those of `init`, or all.",
    )
    train_weights: str = _setting(
        "adapter",
        "Weights that are trained: 'adapter'; 'all' of the encoder's layers (token embeddings are not); 'memory': the "
        "memory tokens, and the layers that only these go through, while those of the text stay as they are in `init`.",
    )
    lora_r: int = _setting(16, "Rank of the LoRA adapter.")
    lora_alpha: int = _setting(32, "Scale of the adapter: its updates count alpha / r times.")
    lora_dropout: float = _setting(0.05, "Dropout in front of the adapter.")
    attention_dropout: float = _setting(0.0, "Dropout of attention weights.")
    lora_targets: str = _setting(
        "q_proj,v_proj,o_proj,gate_proj,up_proj,down_proj", "Linear layers that get an adapter, comma-separated."
    )
    adapter: str = _setting("continue", "Adapter of `init`: 'continue' trains it, 'fresh' adds a new one to it.")
    train_memory: bool = _setting(True, "Train the memory tokens and the decoder's input along with the adapter.")
    token_bits: int = _setting(
        8, "align: bits of the token embeddings that are read, which do not train: 4 as `train pack` can round them."
    )
    # The optimiser
    max_steps: int = _setting(1000, "Optimiser steps.")
    batch_size: int = _setting(16, "Texts or pairs per optimiser step, over all processes.")
    optimizer: str = _setting(
        "adamw",
        "Optimiser: adamw, or muon for the matrices of the layers (`train_weights=all`) and adamw for the rest; fewer "
        "steps, each of which costs more.",
    )
    lr: float = _setting(5e-4, "Peak learning rate of AdamW; Muon's steps are made as large.")
    memory_lr: float = _setting(1.0, "Learning rate of memory tokens and decoder input, as a multiple of `lr`.")
    warmup_steps: int = _setting(40, "Steps of linear warm-up to the peak.")
    schedule: str = _setting("linear", "Learning rate after the warm-up: constant, linear or cosine decay.")
    lr_floor: float = _setting(0.05, "Share of the peak learning rate at which the decay ends.")
    weight_decay: float = _setting(0.0, "Weight decay.")
    clip_norm: float = _setting(2.0, "Largest norm of the gradients; larger ones are scaled down.")
    # The data
    context: str = _setting("16,24,32,48", {_ADAPTING: "context lengths to draw from (tokens), or 'random'."})
    continuation: int = _setting(
        16,
        {
            "nll, kl, ebar": "most continuation tokens; 0 for all that follow.",
            "mntp": "most tokens beside the context.",
        },
    )
    crop: bool = _setting(
        True,
        {
            _ADAPTING: "start each visit of a text at a sentence drawn at random, not at the text's start; has no "
            "effect with `context=random`."
        },
    )
    mask_share: float = _setting(0.2, {"mntp": "share of the tokens that are masked."})
    max_rows: int = _setting(0, "Rows of a file or dataset that are used, from its start; 0 for all.")
    min_chars: int = _setting(1, {f"{_ADAPTING}, align": "leave out texts with fewer characters."})
    max_length: int = _setting(96, "Most tokens of a training text; the rest is cut off.")
    query_prompt: str = _setting("query: ", "scl, rerank: text in front of queries; `instructions` has others by file.")
    symmetric: str = _setting(
        "",
        {
            "scl, align, rerank": "files (name patterns, comma-separated) whose two sides are alike: no prompt, and in "
            "scl loss in both directions."
        },
    )
    negatives: int = _setting(
        1, {"scl": "hard negatives used per pair, where the data has some.", "rerank": "negatives per query."}
    )
    file_exponent: float = _setting(
        0.5, {"scl": "a file of n pairs is drawn with weight min(n, `file_cap`) ** exponent."}
    )
    file_cap: int = _setting(30_000, {"scl": "see `file_exponent`."})
    pieces: str = _setting(
        "texts", {"align": "rows of a text: 'texts' (its beginning), 'sentences' (all of them, one by one), or 'both'."}
    )
    joined: int = _setting(
        0,
        {
            "align": "further rows of neighbouring texts, joined until they have so many characters: long documents, "
            "where the texts are short. 0 for none."
        },
    )
    batch_tokens: int = _setting(0, {"align, rerank": "tokens per optimiser step, instead of `batch_size` texts."})
    topics: int = _setting(
        0, {"align": "groups of alike texts, by the teacher; each batch is taken from one. 0 mixes all texts."}
    )
    temperature: float = _setting(0.05, {"ucl, scl, align": "divisor of the cosines."})
    teacher: str = _setting(
        "",
        {
            "scl": "an encoder whose similarities are learned, too.",
            "align": "an encoder whose embeddings are learned; give several, each with a weight, as NAME=WEIGHT.",
        },
        repeat=True,
    )
    cosine_weight: float = _setting(2.0, {"align": "weight of squared differences between the cosines of the batch."})
    contrast_weight: float = _setting(
        0.0, {"align": "weight of the divergence from the teacher's neighbours in the batch (softmax of the cosines)."}
    )
    maxsim_weight: float = _setting(
        0.0, {"scl, align": "weight of a second loss on late interaction (MaxSim) between the memory vectors."}
    )
    fit_texts: int = _setting(2048, {"align": "texts on which the map into the student's space is fitted."})
    teacher_weight: float = _setting(0.5, {"scl": "share of the teacher's loss; the pairs' own loss has the rest."})
    teacher_level: float = _setting(
        0.0, {"scl": "weight of squared differences from the teacher's cosines, whose level is free without it."}
    )
    seed: int = _setting(0, "Random seed.")
    # The machine
    dtype: str = _setting("auto", "Number format of the frozen weights: auto, bfloat16, float32.")
    attention: str = _setting(
        "auto",
        "Attention kernel: auto, eager, sdpa, flash_attention_2; align, ucl, scl: 'packed' reads the texts of a pass "
        "in one row without padding (for a GPU).",
    )
    compile: bool = _setting(False, "Compile the layers (torch.compile).")
    gradient_checkpointing: bool = _setting(False, "Recompute activations in the backward pass: less memory, slower.")
    shard: bool = _setting(False, "Spread the backbone's weights over all processes (FSDP).")
    tokens_per_pass: int = _setting(4096, "Padded tokens that go through the network at once.")
    tokens_kept: int = _setting(
        16384, "ucl, scl, rerank: tokens whose activations are kept; larger batches use GradCache and keep one pass's."
    )
    head_chunk: int = _setting(128, "Positions whose logits exist at once.")
    # The watch
    eval_every: int = _setting(200, "Steps between evaluations; with `eval_data` the best encoder is kept.")
    save_every: int = _setting(100, "Steps between checkpoints.")
    encoder_length: int = _setting(512, "Maximum length of the finished encoder, in tokens.")
    float32_layers: int = _setting(0, "Front layers of the finished encoder that are never rounded to bfloat16.")
    validation_texts: int = _setting(64, "All but ucl, scl: texts or pairs held out to measure loss and gain on.")
    dead_after: int = _setting(
        2, {"rc, nll, kl, ebar": "evaluations in a row with a gain under `dead_gain` that end the run."}
    )
    dead_gain: float = _setting(0.02, {"rc, nll, kl, ebar": "least gain of a run that is alive, in nats per token."})

    def __post_init__(self) -> None:
        """Refuse what cannot be meant.

        Raises:
            UsageError: naming the setting.
        """
        for name in (each.name for each in fields(self)):
            value = getattr(self, name)
            unlimited = name == "clip_norm" and value == math.inf
            self._require(name, not isinstance(value, float) or unlimited or math.isfinite(value), "finite")
        for name in ("k", "lora_r", "max_steps", "batch_size", "tokens_per_pass", "tokens_kept", "max_length",
                     "head_chunk", "fit_texts",
                     "eval_every", "save_every", "file_cap", "dead_after", "encoder_length"):  # fmt: skip
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
            "cosine_weight",
            "contrast_weight",
            "topics",
            "maxsim_weight",
            "joined",
            "batch_tokens",
        ):
            self._require(name, getattr(self, name) >= 0, "at least 0")
        for name in ("lr", "memory_lr", "clip_norm", "temperature", "lora_alpha"):
            self._require(name, getattr(self, name) > 0, "above 0")
        self._require("seed", 0 <= self.seed <= _LARGEST_SEED, f"from 0 to {_LARGEST_SEED}")
        self._require("teacher_weight", 0 <= self.teacher_weight <= 1, "between 0 and 1")
        for name in ("lora_dropout", "attention_dropout"):
            self._require(name, 0 <= getattr(self, name) < 1, "at least 0 and under 1")
        for name, allowed in CHOICES.items():
            self._require(name, getattr(self, name) in allowed, f"one of {', '.join(allowed)}")
        muon = self.optimizer == "muon"
        self._require(
            "optimizer", not muon or self.train_weights == "all", f"adamw with `train_weights={self.train_weights}`"
        )
        self._require(
            "train_memory", self.train_memory or self.train_weights != "memory", "on with `train_weights=memory`"
        )
        self._require("optimizer", not (muon and self.shard), "adamw with `shard`")
        self._require("mask_share", 0 < self.mask_share < 1, "between 0 and 1")
        self._require("lr_floor", 0 <= self.lr_floor <= 1, "between 0 and 1")
        self._require(
            "compile", not (self.compile and self.gradient_checkpointing), "off with `gradient_checkpointing`"
        )
        # TOKEN_BITS, which would bring numpy into every page of help.
        self._require("token_bits", self.token_bits in (8, 4), "8 or 4")
        self._require("validation_texts", self.validation_texts >= 2, "at least 2")
        numbers = [part.strip() for part in self.layers.split(",") if part.strip()]
        self._require("layers", all(part.isdecimal() for part in numbers), "a number, or numbers such as 0,1,2,5")
        self._require("lora_targets", all(self.targets), "names of layers such as q_proj,v_proj")
        parts = self.context.split(",")
        fixed = all(part.strip().isdecimal() and int(part) > 0 for part in parts)
        self._require("context", fixed or self.context == "random", "lengths such as 16,24,32, or 'random'")

    def _require(self, name: str, right: bool, wanted: str) -> None:
        if not right:
            given = getattr(self, name)
            raise UsageError(f"must be {wanted}, not {given if given != '' else 'empty'}", field=name)

    @property
    def contexts(self) -> tuple[int, ...]:
        """The context lengths to draw from; empty for ``random``."""
        return () if self.context == "random" else tuple(int(part) for part in self.context.split(","))

    @property
    def layer_numbers(self) -> list[int] | None:
        """The layers that the encoder runs; ``None`` where they are not named."""
        named = "," in self.layers
        return [int(part) for part in self.layers.split(",") if part.strip()] if named else None

    @property
    def layer_count(self) -> int | None:
        """How many layers the encoder runs, where they are to be chosen; ``None`` where nothing is to be chosen."""
        return int(self.layers) if self.layers.strip().isdecimal() else None

    @property
    def targets(self) -> list[str]:
        """The layers that get an adapter."""
        return [part.strip() for part in self.lora_targets.split(",")]

    @property
    def teachers(self) -> list[tuple[str, float]]:
        """Names of the teachers, each with its weight: ``NAME`` or ``NAME=WEIGHT``, comma-separated."""
        return [_weighted(part.strip()) for part in self.teacher.split(",") if part.strip()]

    @property
    def symmetric_patterns(self) -> list[str]:
        """Name patterns of pair files whose two sides are alike."""
        return [part.strip() for part in self.symmetric.split(",") if part.strip()]

    def is_symmetric(self, file: str) -> bool:
        """Whether the two sides of a pair file are alike."""
        return any(fnmatch.fnmatch(file, pattern) for pattern in self.symmetric_patterns)

    def lr_at(self, step: int) -> float:
        """Learning rate of a step (from 0): linear warm-up, then the decay to ``lr_floor``."""
        if step < self.warmup_steps:
            return self.lr * (step + 1) / self.warmup_steps
        done = min(1.0, (step - self.warmup_steps) / max(1, self.max_steps - self.warmup_steps))
        shape = {"constant": 1.0, "linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}[self.schedule]
        return self.lr * (self.lr_floor + (1 - self.lr_floor) * shape)


def _weighted(item: str) -> tuple[str, float]:
    """``NAME=WEIGHT``; without a number behind the last ``=`` it is all name, and its weight is 1."""
    name, equals, weight = item.rpartition("=")
    try:
        return (name, float(weight)) if equals else (item, 1.0)
    except ValueError:
        return item, 1.0


def passed_over(changes: Mapping[str, Any], stages: Collection[str]) -> list[str]:
    """A line for each setting that none of some stages read, though others do; unsaid ones are ``None``.

    They are no mistake by themselves: one list of options may serve several stages.
    """
    found = []
    for each in fields(Settings):
        readers, value = each.metadata["stages"], changes.get(each.name)
        if value is None or value == [] or not readers or any(name in readers or name not in _NAMES for name in stages):
            continue
        found.append(f"`{each.name}` is for {', '.join(readers)}: passed over by {', '.join(stages)}")
    return found


_NAMES = frozenset(name for each in fields(Settings) for name in each.metadata["stages"])
"""The stages that settings speak of; another one, which somebody added, may read what it likes."""


def parse_instructions(items: Sequence[str]) -> dict[str, str]:
    """``FILE=TEXT`` items as prompts of the queries of pair files, by name pattern.

    Raises:
        UsageError: there is no ``=``.
    """
    for item in items:
        if "=" not in item:
            raise UsageError(f"{item!r}: write FILE=TEXT, such as 'medquad*=question: '", field="instructions")
    return dict(item.partition("=")[::2] for item in items)
