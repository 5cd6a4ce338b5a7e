"""The encoder's directory on disk.

    encoder.json               format version, backbone reference and digest, k, pooling, prompts, maximum length
    adapter_config.json        plain PEFT, loadable with PeftModel.from_pretrained
    adapter_model.safetensors
    memory_tokens.safetensors  memory_tokens (k, d); shift, center (k, d) and spread () of the decoder's input
    tokenizer.json and others  the backbone's own tokenizer, for other programs
    README.md                  model card

The last two are not needed to load an encoder: its tokenizer is the backbone's, whose digest covers it. Nothing here is
a pickle and no code is ever taken from a checkpoint.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm2comp_apps.encoder.readout import DEFAULT_READOUT, READOUTS
from llm2comp_apps.errors import EncoderError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

__all__ = ["ADAPTER_CONFIG", "ADAPTER_WEIGHTS", "FORMAT", "EncoderSettings", "read_memory", "read_settings", "write"]

FORMAT = 1
SETTINGS = "encoder.json"
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
MEMORY = "memory_tokens.safetensors"


@dataclass(frozen=True, slots=True)
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
    training: dict[str, Any] = field(default_factory=dict)
    format: int = FORMAT


def read_settings(directory: Path) -> EncoderSettings:
    """Read and check ``encoder.json``.

    Raises:
        EncoderError: missing, unreadable, or written by a newer version.
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
    if raw.get("format") != FORMAT:
        raise EncoderError(
            f"{path}: checkpoint format {raw.get('format')!r}, this version reads {FORMAT}; update llm2comp-apps."
        )
    known = set(EncoderSettings.__dataclass_fields__)
    try:
        settings = EncoderSettings(**{key: value for key, value in raw.items() if key in known})
    except TypeError as error:
        raise EncoderError(f"{path}: a field is missing ({error}).") from error
    if settings.readout not in READOUTS:
        raise EncoderError(f"{path}: readout {settings.readout!r} is unknown; this version has {', '.join(READOUTS)}.")
    return settings


def read_memory(directory: Path, k: int) -> dict[str, Tensor]:
    """``memory_tokens``, ``shift``, ``center`` ``(k, d)`` and ``spread ()`` in float32.

    Raises:
        EncoderError: missing, damaged, or of another k than ``encoder.json`` says.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = directory / MEMORY
    try:
        found = load_file(path)
        tensors = {name: found[name].float() for name in ("memory_tokens", "shift", "center", "spread")}
    except (OSError, SafetensorError, KeyError) as error:
        raise EncoderError(f"{path}: missing or damaged ({error}).") from error
    shape = tuple(tensors["memory_tokens"].shape)
    if len(shape) != 2 or shape[0] != k:
        raise EncoderError(f"{path}: memory tokens of shape {shape}, but encoder.json says k = {k}.")
    return tensors


def write(
    directory: Path,
    settings: EncoderSettings,
    memory: dict[str, Tensor],
    adapter: tuple[dict[str, Any], dict[str, Tensor]] | None,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> None:
    """Write a checkpoint; ``encoder.json`` comes last, so that a directory without it is known to be unfinished.

    Args:
        directory: made if missing.
        settings: ``encoder.json``.
        memory: :meth:`.network.CompressionNetwork.memory_state`.
        adapter: PEFT's configuration and weights; ``None`` for an encoder without one.
        tokenizer: the backbone's.
    """
    from safetensors.torch import save_file

    from llm2comp_apps.encoder.card import write_card

    directory.mkdir(parents=True, exist_ok=True)
    (directory / SETTINGS).unlink(missing_ok=True)
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in memory.items()}, directory / MEMORY)
    if adapter is not None:
        config, weights = adapter
        (directory / ADAPTER_CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
        save_file(weights, directory / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    if tokenizer is not None:
        tokenizer.save_pretrained(directory)
    write_card(directory, settings, memory["memory_tokens"].shape[1])
    text = json.dumps(asdict(settings), indent=2, ensure_ascii=False) + "\n"
    (directory / SETTINGS).write_text(text, "utf-8")
