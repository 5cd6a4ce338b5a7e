"""The model card of an exported folder: front matter that the hub reads, and how to load it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from llm2comp_apps.encoder.settings import EncoderSettings

__all__ = ["export_card", "front_matter"]

HUB_IDS = {"smollm2-135m": "HuggingFaceTB/SmolLM2-135M-Instruct"}
"""Backbones that have a short name here, by the name that others know them by."""
_LICENSES = {"smollm2-135m": "apache-2.0"}

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
    "onnx": "numpy, onnxruntime 1.23 or later, and tokenizers",
}


def export_card(settings: EncoderSettings, kind: str, dimension: int, *, where: str, more: str = "") -> str:
    """A card.

    Args:
        settings: of the encoder.
        kind: ``sentence-transformers``, ``multi-vector`` or ``onnx``.
        dimension: of a vector.
        where: what the example loads: a folder or a name on the hub.
        more: put at the end, such as scores.
    """
    prompts = ", ".join(f"`{prompt}` before a {role}" for role, prompt in settings.prompts.items() if prompt)
    rows = {
        "backbone": _backbone(settings),
        "layers of the backbone": "all" if settings.layers is None else ", ".join(map(str, settings.layers)),
        "vectors of a text": f"{settings.k} of {dimension} numbers"
        if kind == "multi-vector"
        else f"{dimension} numbers",
        "longest text": f"{settings.max_length} tokens, prompt included",
        "prompts": prompts or "none",
        "needs": _NEEDS[kind],
    }
    table = "\n".join(f"| {key} | {value} |" for key, value in rows.items())
    return f"""{front_matter(settings, kind)}
# {settings.name or settings.backbone}

A text encoder made from a causal language model by context compression
([LLM2Comp, arXiv 2511.17129](https://arxiv.org/abs/2511.17129)): memory tokens behind a text collect what it says, and
their last states are its vectors.

| | |
|---|---|
{table}

```python
{_LOADING[kind].format(where=where)}
```
{more}"""


def front_matter(settings: EncoderSettings, kind: str, results: Sequence[Mapping[str, Any]] = ()) -> str:
    """The block of YAML on top of a card; JSON values are YAML.

    Args:
        settings: of the encoder.
        kind: as for :func:`export_card`.
        results: of ``model-index``, each with ``task``, ``dataset`` and ``metrics`` as the hub describes them.
    """
    name = settings.name or settings.backbone
    native = kind != "onnx"
    fields: dict[str, Any] = {
        "library_name": "sentence-transformers" if native else "onnxruntime",
        "pipeline_tag": "sentence-similarity",
        "tags": [*(["sentence-transformers"] if native else ["onnx"]), "feature-extraction", "llm2comp"],
        "base_model": _backbone(settings),
    }
    if settings.backbone in _LICENSES:
        fields["license"] = _LICENSES[settings.backbone]
    if results:
        fields["model-index"] = [{"name": name, "results": list(results)}]
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in fields.items()]
    return "\n".join(["---", *lines, "---", ""])


def _backbone(settings: EncoderSettings) -> str:
    return HUB_IDS.get(settings.backbone, settings.backbone)
