"""The files by which sentence-transformers puts modules together, in the form that versions 5.2 to 6 read.

    Transformer -> WordWeights -> Pooling -> Normalize        one embedding of each text
    Transformer -> MultiVectorMask -> Normalize               its memory vectors, for late interaction (6 and later)

WordWeights gives the memory tokens a weight of 1 and all others 0, and Pooling divides by the sum of the weights: the
mean over the memory states. Where an encoder reads the text's own states, it is left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llm2comp_apps.encoder.model import LLM2Comp

__all__ = ["memory_names", "write_modules", "write_tokenizer"]

_OLD = "sentence_transformers.models"  # what 5.2 calls them; newer versions know these names, too
_REQUIREMENTS = {
    "transformers": {"specifier": ">=5.2", "reason": "older versions ignore is_causal in config.json"},
}


def memory_names(encoder: LLM2Comp) -> list[str]:
    """What the memory tokens are called in the tokenizer; none where an encoder has no use for them."""
    return [] if encoder.network.readout.of_text else [f"<|memory_{number}|>" for number in range(encoder.network.k)]


def write_tokenizer(encoder: LLM2Comp, folder: Path) -> list[int]:
    """Write a tokenizer that puts the memory tokens behind every text, also behind one that it cuts.

    Returns:
        Their ids.
    """
    from tokenizers import AddedToken, Tokenizer
    from transformers import PreTrainedTokenizerFast

    source, names = encoder.tokenizer, memory_names(encoder)
    known = source.backend_tokenizer
    backend = Tokenizer.from_str(_plain(known.to_str()) if names else known.to_str())
    backend.no_padding()
    backend.no_truncation()
    backend.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    ids = [number for name in names if (number := backend.token_to_id(name)) is not None]
    if names:
        backend.post_processor = _appended(backend.post_processor, list(zip(names, ids, strict=True)))
    # Padding is never attended to. A role would make a token of the backbone's own special again.
    special = {"pad_token": names[0]} if names else _special_tokens(source.special_tokens_map, known)
    # No chat template: a model that has one is taken for one that reads conversations.
    made = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=_longest(encoder),
        padding_side="right",
        split_special_tokens=bool(names),
        **special,
    )
    made.save_pretrained(folder)
    backend.save(str(folder / "tokenizer.json"))  # whatever becomes special in others' hands
    # A tokenizer class of its own would build another post-processor; this one takes tokenizer.json as it is.
    path = folder / "tokenizer_config.json"
    held = json.loads(path.read_text("utf-8"))
    kept = ("model_max_length", "padding_side", "clean_up_tokenization_spaces", *special)
    split = {"split_special_tokens": True} if names else {}
    kind = {"tokenizer_class": "PreTrainedTokenizerFast", **split}
    _write(path, {**kind, **{key: held[key] for key in kept if key in held}})
    return ids


def _plain(tokenizer: str) -> str:
    """A tokenizer whose own added tokens are found in texts, as ever, but are not special.

    The memory tokens are the only special ones then, and ``split_special_tokens`` reads their names in a text as text.
    """
    state = json.loads(tokenizer)
    for token in state["added_tokens"]:
        token["special"] = False
    return json.dumps(state, ensure_ascii=False)


def _special_tokens(given: Mapping[str, Any], backend: Any) -> dict[str, str]:
    """By their roles; a token that texts may hold, though our own tokenizer calls it padding, must not become special.

    It would be cut out of every text before all others: many vocabularies have "!" in the place where padding, which is
    never attended to, is taken from.
    """
    known = {token.content for token in backend.get_added_tokens_decoder().values() if token.special}
    found = {role: str(token) for role, token in given.items() if isinstance(token, str) and token in known}
    fallback = next(iter(found.values()), None)
    if fallback is not None:
        found.setdefault("pad_token", fallback)  # without one no two texts go into a batch
    return found


def _appended(processor: Any, tokens: list[tuple[str, int]]) -> Any:
    """What a tokenizer does with a text in the end, and the memory tokens behind it."""
    from tokenizers import processors

    behind = " ".join(name for name, _ in tokens)
    template = processors.TemplateProcessing(single=f"$A {behind}", pair=f"$A $B:1 {behind}", special_tokens=tokens)
    return template if processor is None else processors.Sequence([processor, template])


def write_modules(encoder: LLM2Comp, folder: Path, vocabulary: Sequence[str | None], *, multi_vector: bool) -> None:
    """Write ``modules.json`` and what it names.

    Args:
        encoder: whose modules.
        folder: with the body and the tokenizer already.
        vocabulary: every token by its id; ``None`` for an id without one.
        multi_vector: see the module.
    """
    names = memory_names(encoder)
    if multi_vector:
        chain = _multi_vector_chain(vocabulary, names)
    else:
        chain = _single_vector_chain(vocabulary, names, encoder.dimension)
    modules = []
    for number, (kind, config) in enumerate(chain):
        path = "" if number == 0 else f"{number}_{kind.rpartition('.')[2]}"
        modules.append({"idx": number, "name": str(number), "path": path, "type": kind})
        if number:
            (folder / path).mkdir()
            _write(folder / path / "config.json", config)
    _write(folder / "modules.json", modules)
    _write(folder / "sentence_bert_config.json", {"max_seq_length": _longest(encoder), "do_lower_case": False})
    settings = {
        "prompts": {"query": "", "document": "", **encoder.prompts},
        "default_prompt_name": None,
        "similarity_fn_name": "maxsim" if multi_vector else "cosine",
        "model_type": "MultiVectorEncoder" if multi_vector else "SentenceTransformer",
        "requirements": _REQUIREMENTS,
    }
    _write(folder / "config_sentence_transformers.json", settings)


def _single_vector_chain(vocabulary: Sequence[str | None], names: list[str], dimension: int) -> list[tuple[str, Any]]:
    modes = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
    pooling = {f"pooling_mode_{mode}": mode == "mean_tokens" for mode in modes}
    weights = {
        "vocab": [token or "" for token in vocabulary],
        "word_weights": dict.fromkeys(names, 1.0),
        "unknown_word_weight": 0.0,
    }
    return [
        (f"{_OLD}.Transformer", None),
        *([(f"{_OLD}.WordWeights", weights)] if names else []),
        (f"{_OLD}.Pooling", {"word_embedding_dimension": dimension, **pooling, "include_prompt": True}),
        (f"{_OLD}.Normalize", {}),
    ]


def _multi_vector_chain(vocabulary: Sequence[str | None], names: list[str]) -> list[tuple[str, Any]]:
    ours = "sentence_transformers.multi_vector_encoder.modules.multi_vector_mask.MultiVectorMask"
    others = [token for token in vocabulary if token is not None and token not in names]
    mask = {"skiplist_words": others, "skiplist_tasks": ["query", "document"], "keep_only_token_ids": None}
    normalize = {"module_input_name": "token_embeddings", "module_output_name": "token_embeddings"}
    return [
        ("sentence_transformers.base.modules.transformer.Transformer", None),
        (ours, mask),
        ("sentence_transformers.base.modules.normalize.Normalize", normalize),
    ]


def _longest(encoder: LLM2Comp) -> int:
    """Tokens of a row: those of the text that are read, and the memory tokens."""
    return encoder.max_length + len(memory_names(encoder))


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")
