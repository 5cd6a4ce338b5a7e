"""Encoding of documents that are to be clustered or assigned: by the encoder that is wanted and by no other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from llm2comp_apps.clustering.algorithms.neighbors import FloatArray
from llm2comp_apps.clustering.embeddings_cache import embed
from llm2comp_apps.encoder.progress import EncodingProgress
from llm2comp_apps.encoder.protocol import TextEncoder
from llm2comp_apps.errors import ClusteringError

__all__ = ["ClusterProgress", "DocumentEncoder", "Progress", "ProgressCallback"]

ENCODING = "encoding"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterProgress:
    """What is being done.

    Attributes:
        step: in words; ``encoding`` while documents are encoded.
        done: documents that are encoded; those that the cache has are not counted.
        total: documents to encode; 0 for every other step.
        fraction: share of the encoding that is done, 0 to 1, by tokens.
    """

    step: str
    done: int = 0
    total: int = 0
    fraction: float = 0.0

    def __str__(self) -> str:
        return f"{self.step}: {self.done}/{self.total} documents" if self.total else self.step


ProgressCallback = Callable[[ClusterProgress], Any]


class Progress:
    """Tells a callback, if there is one."""

    def __init__(self, callback: ProgressCallback | None = None) -> None:
        self._callback = callback

    def step(self, line: str) -> None:
        """Tell that a step begins."""
        if self._callback is not None:
            self._callback(ClusterProgress(step=line))

    def encoded(self, progress: EncodingProgress) -> None:
        """Tell how many documents are encoded."""
        if self._callback is not None:
            total, fraction = progress.total or 0, progress.fraction or 0.0
            self._callback(ClusterProgress(step=ENCODING, done=progress.done, total=total, fraction=fraction))


class DocumentEncoder:
    """An encoder that is loaded when the first document needs it.

    Args:
        encoder: its name or itself; ``None`` where nobody knows it, and a document that needs it is an error.
        device: where a named one runs.
        cache: keep embeddings for the next time.
        progress: told how far the encoding is.
        expected: the record of the encoder that it must be; ``None``, or a record that names none, for any.
    """

    def __init__(
        self,
        encoder: str | TextEncoder | None,
        device: str | None,
        cache: bool,
        progress: Progress,
        expected: dict[str, str] | None = None,
    ) -> None:
        self._named = encoder
        self._device = device
        self._cache = cache
        self._expected = expected
        self.progress = progress
        self.record: dict[str, str] = {}

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """Embed texts as documents, ``(n, d)``.

        Raises:
            EncoderError: the encoder cannot be loaded.
            ClusteringError: it is not the one that is expected, or nobody knows which it is.
        """
        from llm2comp_apps.encoder import encoder_record, load_encoder

        if not self._named:
            raise ClusteringError("it is not known which encoder made the vectors of the topics; name it as `encoder`")
        if isinstance(self._named, str):
            encoder = load_encoder(self._named, device=self._device)
            record = encoder_record(encoder, self._named)
        else:
            encoder = self._named
            record = {"name": encoder.name, "fingerprint": encoder.fingerprint}
        self.check(record, "this is")
        self.record = record
        prompt = encoder.prompts.get("document", "")
        return embed(texts, encoder, prompt=prompt, cache=self._cache, progress=self.progress.encoded)

    def check(self, record: dict[str, str], who: str) -> None:
        """Refuse vectors of another encoder than the expected one.

        Raises:
            ClusteringError: the fingerprints differ.
        """
        expected = self._expected or {}  # a clustering of vectors that were given does not know whose they are
        if "fingerprint" in expected and record.get("fingerprint") != expected["fingerprint"]:
            raise ClusteringError(
                f"the clustering was fitted with the encoder {expected.get('name')}; {who} another one, "
                f"{record.get('name')} (fingerprints {expected['fingerprint']}, {record.get('fingerprint')})"
            )
