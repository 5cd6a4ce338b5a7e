"""The model card of an exported folder: front matter that the hub reads, and how to load it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llm2comp_apps.encoder.card import CARD
from llm2comp_apps.encoder.settings import EncoderSettings
from llm2comp_apps.text_table import code_span, in_markdown

__all__ = ["ENCODER_CARD", "export_card", "front_matter"]

ENCODER_CARD = "ENCODER.md"
"""In an export, the card of the checkpoint that was exported."""

HUB_IDS = {"smollm2-135m": "HuggingFaceTB/SmolLM2-135M-Instruct"}
"""Backbones that have a short name here, by the name that others know them by."""

_LOADING = {
    "sentence-transformers": """from sentence_transformers import SentenceTransformer

model = SentenceTransformer("{where}")
documents = model.encode_document(["A text."])
queries = model.encode_query(["a question"])
print(model.similarity(queries, documents))""",
    "multi-vector": """from sentence_transformers import MultiVectorEncoder

model = MultiVectorEncoder("{where}")
documents = model.encode_document(["A text."])
queries = model.encode_query(["a question"])
print(model.similarity(queries, documents))    # MaxSim""",
    "onnx": """from example import encode

documents = encode(["A text."])
queries = encode(["a question"], "query")
print(queries @ documents.T)""",
}
_NEEDS = {
    "sentence-transformers": "sentence-transformers 5.2 or later with transformers 5.2 or later; no code is downloaded",
    "multi-vector": "sentence-transformers 6 or later with transformers 5.2 or later; no code is downloaded",
    "onnx": "numpy, onnxruntime 1.25 or later, and tokenizers",
}


def export_card(
    settings: EncoderSettings,
    kind: str,
    dimension: int,
    *,
    where: str,
    own_card: Path | None = None,
    own_card_at: str = ENCODER_CARD,
    results: Sequence[Mapping[str, Any]] = (),
    more: str = "",
) -> str:
    """A card.

    Args:
        settings: of the encoder.
        kind: ``sentence-transformers``, ``multi-vector`` or ``onnx``.
        dimension: of a vector.
        where: what the example loads: a folder or a name on the hub.
        own_card: folder of the checkpoint, whose card may name a licence.
        own_card_at: where that card is found from this one.
        results: see :func:`front_matter`.
        more: put at the end, such as scores.
    """
    prompts = ", ".join(f"{code_span(prompt)} before a {role}" for role, prompt in settings.prompts.items() if prompt)
    rows = {
        "backbone": _backbone(settings),
        "layers of the backbone": "all" if settings.layers is None else ", ".join(map(str, settings.layers)),
        **({} if settings.text_layers is None else {"of these, for the text": f"the first {settings.text_layers}"}),
        "vectors of a text": f"{settings.k} of {dimension} numbers"
        if kind == "multi-vector"
        else f"{dimension} numbers",
        "longest text": f"{settings.max_length} tokens, prompt included",
        "prompts": prompts or "none",
        "needs": _NEEDS[kind],
    }
    table = "\n".join(f"| {key} | {in_markdown(value)} |" for key, value in rows.items())
    return f"""{front_matter(settings, kind, terms=_terms(own_card, own_card_at), results=results)}
# {in_markdown(settings.name or _backbone(settings))}

A text encoder made from a causal language model by context compression
([LLM2Comp, arXiv 2511.17129](https://arxiv.org/abs/2511.17129)): memory tokens behind a text collect what it says, and
their last states are its vectors.

| | |
|---|---|
{table}

```python
{_LOADING[kind].format(where=where)}
```
{_origin(own_card, own_card_at)}{more}"""


def _origin(folder: Path | None, card_at: str) -> str:
    """Where the encoder's own card is, if it has one."""
    if folder is None or not (folder / CARD).is_file():
        return ""
    return f"\nHow it was trained, on which data, and their terms: [the encoder's own card]({card_at}).\n"


def front_matter(
    settings: EncoderSettings,
    kind: str,
    *,
    terms: Mapping[str, str] | None = None,
    results: Sequence[Mapping[str, Any]] = (),
) -> str:
    """The block of YAML on top of a card; JSON values are YAML.

    Args:
        settings: of the encoder.
        kind: as for :func:`export_card`.
        terms: ``license``, its SPDX id or ``other``, and for the latter ``license_name`` and ``license_link``; ``None``
            where nobody said.
        results: of ``model-index``, each with ``task``, ``dataset`` and ``metrics`` as the hub describes them.
    """
    native = kind != "onnx"
    fields: dict[str, Any] = {
        "library_name": "sentence-transformers" if native else "onnxruntime",
        "pipeline_tag": "sentence-similarity",
        "tags": [*(["sentence-transformers"] if native else ["onnx"]), "feature-extraction", "llm2comp"],
        "base_model": _hub_id(settings),
        **(terms or {}),
        "model-index": [{"name": settings.name or _backbone(settings), "results": list(results)}] if results else None,
    }
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in fields.items() if value is not None]
    return "\n".join(["---", *lines, "---", ""])


def _terms(folder: Path | None, card_at: str) -> dict[str, str]:
    """The licence in the front matter of a checkpoint's own card; terms of its own are found there."""
    card = None if folder is None else folder / CARD
    if card is None or not card.is_file():
        return {}
    front = re.match(r"---\n(.*?)\n---\n", card.read_text("utf-8", errors="replace"), re.DOTALL)
    found = dict(re.findall(r"^(license(?:_name|_link)?): *(\S+)$", front[1], re.MULTILINE)) if front else {}
    return {**found, "license_link": found.get("license_link", card_at)} if found.get("license") == "other" else found


def _hub_id(settings: EncoderSettings) -> str | None:
    """The backbone's name on the hub; a directory of somebody's machine has none."""
    name = HUB_IDS.get(settings.backbone, settings.backbone)
    return name if re.fullmatch(r"[\w.-]+/[\w.-]+", name) and name[0] not in ".~" else None


def _backbone(settings: EncoderSettings) -> str:
    return _hub_id(settings) or Path(settings.backbone).name
