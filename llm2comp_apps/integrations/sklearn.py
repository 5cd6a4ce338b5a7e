"""scikit-learn: an encoder as a transformer, from texts to vectors, for pipelines and column transformers.

    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from llm2comp_apps.integrations.sklearn import TextEncoder

    make_pipeline(TextEncoder(), LogisticRegression()).fit(texts, labels)

scikit-learn comes with this package. The clusterer is :class:`llm2comp_apps.clustering.TopicClusterer`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin

from llm2comp_apps import load_encoder

if TYPE_CHECKING:
    from llm2comp_apps.encoder import protocol

__all__ = ["TextEncoder"]


class TextEncoder(TransformerMixin, BaseEstimator):
    """Embed texts; there is nothing to fit.

    Args:
        encoder: a name (:mod:`llm2comp_apps.encoder.names`) or a loaded encoder.
        role: ``document``, ``query`` or ``None``: whose prompt is put in front of every text.
        device: where an encoder that is loaded here runs.
    """

    def __init__(
        self,
        encoder: str | protocol.TextEncoder = "default",
        *,
        role: str | None = "document",
        device: str | None = None,
    ) -> None:
        self.encoder = encoder
        self.role = role
        self.device = device

    def fit(self, X: Any, y: object = None) -> TextEncoder:  # noqa: ARG002 - scikit-learn passes y
        """Check the texts; nothing is learned."""
        _texts(X)
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Unit vectors ``(n, d)`` float32 of n texts: a list, a column of a table, or an array of strings.

        Raises:
            ValueError: no texts, or an unknown role.
        """
        texts = _texts(X)
        encoder = self._loaded()
        if self.role not in (None, "document", "query", *encoder.prompts):  # else its prompt would be left out silently
            raise ValueError(f"role must be document, query or None, not {self.role!r}")
        return encoder.encode(texts, prompt=encoder.prompts.get(self.role) if self.role else None)

    def get_feature_names_out(self, input_features: object = None) -> np.ndarray:  # noqa: ARG002 - scikit-learn's
        """``textencoder0``, ``textencoder1``, ... by the dimensions of a vector."""
        names = [f"textencoder{place}" for place in range(self._loaded().dimension)]
        return np.asarray(names, dtype=object)

    def _loaded(self) -> protocol.TextEncoder:
        """The encoder, loaded once for each name and device."""
        if not isinstance(self.encoder, str):
            return self.encoder
        wanted = (self.encoder, self.device)
        if getattr(self, "_wanted", None) != wanted:
            self._held, self._wanted = load_encoder(self.encoder, device=self.device), wanted
        return self._held

    def __getstate__(self) -> dict[str, Any]:
        """Its settings; an encoder that has a name is loaded again."""
        state: dict[str, Any] = super().__getstate__()
        return {name: value for name, value in state.items() if name not in ("_held", "_wanted")}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.one_d_array = True
        tags.input_tags.two_d_array = False
        tags.requires_fit = False
        return tags


def _texts(X: Any) -> list[str]:
    """Texts of what scikit-learn hands over; a table of one column is that column."""
    if isinstance(X, str) or not hasattr(X, "__len__"):
        raise ValueError(f"X must be a list or a column of texts, not a {type(X).__name__}")
    if getattr(X, "ndim", 1) == 2 and X.shape[1] == 1:
        X = np.asarray(X)[:, 0]
    if getattr(X, "ndim", 1) != 1:
        raise ValueError("X must be one column of texts; choose it with a ColumnTransformer")
    texts = list(X)
    if not texts:
        raise ValueError("X holds no texts")
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            raise ValueError(f"X must hold texts, but the one at {place} is a {type(text).__name__}")
    return texts
