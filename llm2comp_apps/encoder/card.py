"""The model card of a checkpoint: what it is and how to load it, for whoever finds the folder."""

from __future__ import annotations

import re
from pathlib import Path

from llm2comp_apps.encoder.settings import EncoderSettings
from llm2comp_apps.text_table import code_span, in_markdown

__all__ = ["CARD", "card_for_others", "card_pictures", "write_card"]

CARD = "README.md"
_MARK = "<!-- written by llm2comp; a card without this line is left as it is -->"


_BESIDE = """memory tokens beside the backbone, which is not in this folder and must have the very weights named
below."""
_PACKED = """memory tokens. The folder `graph` holds them, rounded to 8 bits, with the token embeddings and the
tokenizer of the backbone, so that encoding on a CPU needs nothing else."""
_TOKENIZER = """ The tokenizer beside it is the backbone's own, for other programs; the encoder
takes the backbone's."""
_PICTURE = re.compile(r"!\[[^\]]*\]\(([\w.-]+)\)")


def card_pictures(directory: Path) -> list[Path]:
    """The pictures beside a checkpoint's card that it shows; none where there is no card."""
    card = directory / CARD
    shown = _PICTURE.findall(card.read_text("utf-8", errors="replace")) if card.is_file() else []
    return [directory / name for name in dict.fromkeys(shown) if (directory / name).is_file()]


def write_card(directory: Path, settings: EncoderSettings, dimension: int, *, packed: bool = False) -> None:
    """Write ``README.md``, unless there is one by somebody who knows more.

    Args:
        directory: of the checkpoint.
        settings: its ``encoder.json``.
        dimension: of an embedding.
        packed: the folder holds token embeddings, layers and tokenizer, too.
    """
    path = directory / CARD
    if not path.exists() or _MARK in path.read_text("utf-8", errors="replace"):
        path.write_text(_card(settings, dimension, packed=packed), "utf-8")


def card_for_others(directory: Path, settings: EncoderSettings, backbone: str) -> str | None:
    """The card of a checkpoint as it may go anywhere; ``None`` where there is none.

    One that :func:`write_card` wrote names the backbone, which may be a folder of this machine; any other stays.

    Args:
        directory: of the checkpoint.
        settings: its ``encoder.json``.
        backbone: what to call the backbone.
    """
    card = directory / CARD
    if not card.is_file():
        return None
    text = card.read_text("utf-8", errors="replace")
    return text.replace(settings.backbone, backbone) if _MARK in text and settings.backbone else text


def _card(settings: EncoderSettings, dimension: int, *, packed: bool) -> str:
    name = settings.name or settings.backbone
    prompts = ", ".join(f"{code_span(prompt)} before a {role}" for role, prompt in settings.prompts.items() if prompt)
    numbers = "all" if settings.layers is None else ", ".join(map(str, settings.layers))
    beside = _PACKED if packed else _BESIDE
    last = "" if packed else _TOKENIZER
    made_of = "layers of its own" if settings.own_layers else "a LoRA adapter"
    tags = ["text-embeddings", "llm2comp", *([] if settings.own_layers else ["peft"])]
    rows = {
        "backbone": f"`{settings.backbone}`, sha256 `{settings.backbone_sha256}`",
        "layers of the backbone": numbers + (", with weights of their own" if settings.own_layers else ""),
        **({} if settings.text_layers is None else {"layers that the text goes through": str(settings.text_layers)}),
        "memory tokens (k)": str(settings.k),
        "dimension of an embedding": str(dimension),
        "pooling": settings.pooling,
        "longest text": f"{settings.max_length} tokens, prompt included",
        "prompts": prompts or "none",
        **({"searches indexes of": settings.space["name"]} if settings.space else {}),
        "stage": str(settings.training.get("stage", "not recorded")),
    }
    table = "\n".join(f"| {key} | {in_markdown(value)} |" for key, value in rows.items())
    return f"""---
base_model: {settings.backbone}
tags: [{", ".join(tags)}]
---
{_MARK}

# {in_markdown(name)}

A text encoder made from a causal language model by context compression (LLM2Comp, arXiv 2511.17129): {made_of} and
{beside}

| | |
|---|---|
{table}

```python
from llm2comp_apps import LLM2Comp

encoder = LLM2Comp.from_pretrained("path/to/this/folder")
documents = encoder.encode(["A text."])
queries = encoder.encode(["a question"], prompt=encoder.prompts.get("query"))
```

`encoder.json` says how it was trained.{last}
"""
