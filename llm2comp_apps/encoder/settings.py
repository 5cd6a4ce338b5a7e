"""``encoder.json``: what an encoder is, apart from its weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from llm2comp_apps.encoder.readout import DEFAULT_READOUT, READOUTS
from llm2comp_apps.errors import EncoderError, UsageError

__all__ = [
    "ALL",
    "ENCODE",
    "FORMAT",
    "MERGE_SIMILARITY",
    "OLDEST_FORMAT",
    "POOLINGS",
    "RERANK",
    "SETTINGS",
    "EncoderSettings",
    "check_pooling",
    "read_settings",
]

SETTINGS = "encoder.json"
OLDEST_FORMAT = 1
FORMAT = 4
"""The newest layout: 2 came with encoders that run some of the layers, which a reader of 1 would run all of; 3 with
rerankers, which a reader of 2 would take for encoders; 4 with layers for the memory alone, which a reader of 3 would
send the text through."""
ENCODE, RERANK = "encode", "rerank"
"""What a checkpoint may be made for: embeddings of texts, or scores of a query and a document read together."""

POOLINGS = ("mean", "merge", "first")
"""What makes one embedding of the memory vectors, and so may be an encoder's own pooling; see :mod:`.pooling`."""
MERGE_SIMILARITY = 0.9
"""Memory vectors at least this close (cosine) count as copies of one another under ``merge``."""
ALL = "all"
"""What keeps every memory vector, for those who ask for it in a call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderSettings:
    """``encoder.json``.

    Attributes:
        backbone: short name, Hugging Face id or directory.
        backbone_sha256: digest of its weights and tokenizer; a checkpoint refuses another backbone.
        k: number of memory tokens.
        readout: what the vectors of a text are read from, see :mod:`.readout`.
        pooling: default pooling, see :mod:`.pooling`.
        max_length: tokens of a text (prompt included, memory tokens not); the rest is cut off.
        prompts: by role, ``query`` and ``document``.
        float32_layers: decoder layers at the front that stay in float32 where the rest is rounded, see
            :mod:`.precision`; changes no vector by more than rounding does.
        name: short name for people.
        layers: numbers of the backbone's layers that the encoder runs, ascending; ``None`` for all.
        own_layers: the weights of these layers and of the final norm are the encoder's own, in ``layers.safetensors``;
            otherwise they are the backbone's, changed by the adapter where there is one.
        text_layers: through how many of these layers the text goes; the memory tokens alone go through those behind,
            see :mod:`.memory_layers`. ``None`` for all. Needs ``own_layers``.
        token_bits: of the token embeddings that a packed encoder carries: 8, or 4, which are other embeddings than the
            backbone's; 8 where it carries none.
        space: name and fingerprint of the encoder that its vectors were aligned to, so that a text has nearly the same
            vector from both, see :mod:`.space`; changes no vector.
        task: ``encode``, or ``rerank`` for a checkpoint that scores a query and a document read together, see
            :mod:`.pairs`.
        training: how it was made (stage, steps, seed, ...); for people, changes no vector.
        format: version of this layout.
    """

    backbone: str
    backbone_sha256: str
    k: int
    readout: str = DEFAULT_READOUT.name
    pooling: str = "mean"
    max_length: int = 512
    prompts: dict[str, str] = field(default_factory=dict)
    float32_layers: int = 0
    name: str = ""
    layers: list[int] | None = None
    own_layers: bool = False
    text_layers: int | None = None
    token_bits: int = 8
    space: dict[str, str] | None = None
    task: str = ENCODE
    training: dict[str, Any] = field(default_factory=dict)
    format: int = OLDEST_FORMAT

    def changed(self, *, pooling: str | None = None, max_length: int | None = None) -> EncoderSettings:
        """The same with another pooling or maximum length; ``None`` leaves what there is.

        Raises:
            UsageError: an unknown pooling, or no room for a token.
        """
        check_max_length(max_length)
        found = replace(self, pooling=pooling or self.pooling, max_length=max_length or self.max_length)
        check_pooling(found.pooling)
        return found if found.pooling == self.pooling else replace(found, space=None)  # other vectors

    def in_its_format(self) -> EncoderSettings:
        """The same with the oldest format that says all of it, so that older versions read what they understand."""
        if self.text_layers is not None:
            return replace(self, format=FORMAT)
        if self.task != ENCODE:
            return replace(self, format=3)
        return replace(self, format=OLDEST_FORMAT if self.layers is None and not self.own_layers else 2)


def read_settings(directory: Path, *, task: str | None = ENCODE) -> EncoderSettings:
    """Read and check ``encoder.json``.

    Args:
        directory: of the checkpoint.
        task: what it must have been made for; ``None`` for either.

    Raises:
        EncoderError: missing, unreadable, written by a newer version, made for another task, or an entry is of no use.
    """
    path = directory / SETTINGS
    try:
        raw = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise EncoderError(f"{directory}: no readable {SETTINGS}; it is not an LLM2Comp checkpoint.") from error
    except ValueError as error:
        raise EncoderError(f"{path}: not valid JSON ({error}).") from error
    if not isinstance(raw, dict):
        raise EncoderError(f"{path}: expected a JSON object.")
    if raw.get("format") not in range(OLDEST_FORMAT, FORMAT + 1):
        raise EncoderError(
            f"{path}: checkpoint format {raw.get('format')!r}, this version reads {OLDEST_FORMAT} to {FORMAT}; "
            "update llm2comp-apps."
        )
    known = set(EncoderSettings.__dataclass_fields__)
    try:
        settings = EncoderSettings(**{key: value for key, value in raw.items() if key in known})
    except TypeError as error:
        raise EncoderError(f"{path}: a field is missing ({error}).") from error
    _check_kinds(path, settings)
    if settings.readout not in READOUTS:
        raise EncoderError(f"{path}: readout {settings.readout!r} is unknown; this version has {', '.join(READOUTS)}.")
    if settings.text_layers is not None and not (settings.own_layers and settings.readout == DEFAULT_READOUT.name):
        raise EncoderError(f"{path}: text_layers needs layers of its own and the readout {DEFAULT_READOUT.name}.")
    if settings.task not in (ENCODE, RERANK):
        raise EncoderError(f"{path}: task {settings.task!r} is unknown; this version has {ENCODE} and {RERANK}.")
    if task is not None and settings.task != task:
        raise EncoderError(_OTHER_TASK[settings.task].format(directory))
    return settings


def _check_kinds(path: Path, settings: EncoderSettings) -> None:
    for name, (fits, what) in _KINDS.items():
        if not fits(value := getattr(settings, name)):
            raise EncoderError(f"{path}: {name} must be {what}, not {value!r}.")


def _is_count(value: object, least: int = 0) -> bool:
    return type(value) is int and value >= least


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _are_prompts(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(prompt, str | None) for prompt in value.values())


def _are_layers(value: object) -> bool:
    return value is None or (isinstance(value, list) and all(type(number) is int for number in value))


_KINDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "backbone": (_is_text, "a text"),
    "backbone_sha256": (_is_text, "a text"),
    "readout": (_is_text, "a text"),
    "k": (_is_count, "a number from 0 on"),  # none where the text's own states are read
    "max_length": (lambda value: _is_count(value, 1), "a number from 1 on"),
    "float32_layers": (_is_count, "a number from 0 on"),
    "prompts": (_are_prompts, "texts by role"),
    "training": (lambda value: isinstance(value, dict), "an object"),
    "layers": (_are_layers, "a list of numbers"),
    "text_layers": (lambda value: value is None or type(value) is int, "a number"),
}
"""What entries must be that something is computed from; people edit this file."""

_OTHER_TASK = {
    ENCODE: "{}: an encoder, not a reranker: it makes vectors of single texts.",
    RERANK: "{}: a reranker, not an encoder: it scores documents for a query, and makes no vectors.",
}


def check_max_length(max_length: int | None) -> None:
    """Refuse a maximum length that leaves no room for a token; ``None`` is the encoder's own.

    Raises:
        UsageError: it is below 1.
    """
    if max_length is not None and max_length < 1:
        raise UsageError(f"must be at least 1, not {max_length}", field="max_length")


def check_pooling(pooling: str, *, several: bool = False) -> None:
    """Refuse an unknown pooling, and ``all`` unless several vectors are wanted.

    Raises:
        UsageError: says which there are.
    """
    known = (*POOLINGS, ALL) if several else POOLINGS
    if pooling not in known:
        raise UsageError(f"must be one of {', '.join(known)}, not {pooling!r}", field="pooling")
