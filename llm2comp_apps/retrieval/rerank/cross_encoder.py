"""Cross-encoders: a model that reads query and passage together."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

import numpy as np

from llm2comp_apps.encoder.hub import find_model, is_missing_folder
from llm2comp_apps.encoder.protocol import FloatArray
from llm2comp_apps.encoder.turns import in_turn
from llm2comp_apps.errors import EncoderError
from llm2comp_apps.files import first_line
from llm2comp_apps.retrieval.rerank.own import files_sha256_of
from llm2comp_apps.retrieval.rerank.protocol import Passage

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

__all__ = ["OF_OURS", "CrossEncoderReranker"]

OF_OURS = " (of ours there are ltr, words, tokens, memory, likelihood and upr)"
"""For who has misspelled a name."""


class CrossEncoderReranker:
    """Any cross-encoder that sentence-transformers can load.

    Args:
        name: a Hugging Face id or a directory.
        device: where it runs; ``None`` for what is there.

    Attributes:
        files_sha256: see :func:`.own.files_sha256_of`; as they were when it was loaded.

    Raises:
        EncoderError: sentence-transformers is not installed, or the model cannot be loaded.
    """

    def __init__(self, name: str, device: str | None = None) -> None:
        self.files_sha256 = files_sha256_of(name)
        self._model = _load_cross_encoder(name, device)

    def score(self, query: str, passages: Sequence[Passage]) -> FloatArray:
        """See :class:`Reranker`."""
        if not passages:
            return np.zeros(0, np.float32)
        pairs = [(query, passage.content) for passage in passages]
        scores: FloatArray = np.asarray(self._model.predict(pairs, show_progress_bar=False), dtype=np.float32)
        return scores


@in_turn
def _load_cross_encoder(name: str, device: str | None) -> CrossEncoder:
    # All looked for before the import, which takes seconds.
    if is_missing_folder(name):
        raise EncoderError(f"cannot load the cross-encoder {name!r}: no such directory")
    if find_spec("sentence_transformers") is None:
        reason = f"the cross-encoder {name!r} needs sentence-transformers: pip install 'llm2comp-apps[eval]'"
        raise EncoderError(f"{reason} (without it: words, tokens, memory, likelihood, upr, or a reranker's folder)")
    try:
        found = find_model(name)
        from sentence_transformers import CrossEncoder

        model = CrossEncoder(found, device=device, trust_remote_code=False)
    except (EncoderError, OSError, ValueError, KeyError, RuntimeError) as error:
        hint = "" if "/" in name else OF_OURS  # every cross-encoder of the hub has its owner before its name
        raise EncoderError(f"cannot load the cross-encoder {name!r}: {first_line(error)}{hint}") from error
    if model.num_labels != 1:
        raise EncoderError(
            f"{name!r} gives {model.num_labels} scores a pair and a reranker gives 1; it is a classifier"
        )
    return model
