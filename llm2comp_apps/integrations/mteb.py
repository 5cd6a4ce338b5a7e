"""MTEB: an encoder of any name as a model that ``mteb`` evaluates and files under a name.

    import mteb
    from llm2comp_apps.integrations.mteb import model_meta

    mteb.evaluate(model_meta("default").load_model(), mteb.get_tasks(tasks=["STSBenchmark"]))

An exported or pushed encoder needs none of this: ``mteb.evaluate(SentenceTransformer(FOLDER), ...)`` and
``mteb.get_model("USER/NAME")`` take it as it is. Extra ``eval``.
"""

from __future__ import annotations

from typing import Any

from mteb.models import ModelMeta

from llm2comp_apps import MtebEncoder, load_encoder

__all__ = ["model_meta"]


def model_meta(
    encoder: str = "default", *, name: str | None = None, device: str | None = None, **known: Any
) -> ModelMeta:
    """What MTEB keeps about a model, and how it loads it.

    Args:
        encoder: a name (:mod:`llm2comp_apps.encoder.names`); it is loaded here once, to say what it is.
        name: what results are filed under, ``ORGANISATION/NAME``; by default ``llm2comp/`` and the encoder's own name.
        device: where it runs.
        known: further fields of ``ModelMeta``, such as ``training_datasets``, ``license`` or ``n_parameters``.
    """
    loaded = load_encoder(encoder, device=device)
    fields: dict[str, Any] = {
        "name": name or f"llm2comp/{loaded.name.replace('/', '_')}",
        "revision": loaded.fingerprint[:40],
        "embed_dim": loaded.dimension,
        "max_tokens": getattr(loaded, "max_length", None),
        "similarity_fn_name": "cosine",
        "use_instructions": bool(loaded.prompts),
        "framework": ["PyTorch"],
        **known,
    }
    return ModelMeta.create_empty({**fields, "loader": lambda *_, **__: _Model(loaded)})


class _Model(MtebEncoder):
    """One whose record MTEB itself sets, after loading it."""

    mteb_model_meta: Any = None
