"""Scoring a short list of candidates again, more slowly and better than the first search could; one file a reranker."""

from __future__ import annotations

from llm2comp_apps.encoder.locate import READABLE
from llm2comp_apps.errors import EncoderError, UsageError
from llm2comp_apps.retrieval.rerank.cross_encoder import OF_OURS, CrossEncoderReranker
from llm2comp_apps.retrieval.rerank.likelihood import LikelihoodReranker
from llm2comp_apps.retrieval.rerank.ltr import ONLY_HYBRID, LtrReranker
from llm2comp_apps.retrieval.rerank.memory import (
    MemoryReranker,
    encode_memory_with,
    max_sim,
    memory_scores,
    pool_memory,
)
from llm2comp_apps.retrieval.rerank.own import OwnReranker, is_own
from llm2comp_apps.retrieval.rerank.protocol import (
    ComparesAll,
    FirstSearch,
    Passage,
    ReadsFirst,
    ReadsStored,
    Reranker,
    StoredMemory,
    files_of,
    share_of,
)
from llm2comp_apps.retrieval.rerank.tokens import ALONE, TokensReranker
from llm2comp_apps.retrieval.rerank.upr import UprReranker
from llm2comp_apps.retrieval.rerank.words import WordsReranker

__all__ = [
    "LIKELIHOOD",
    "LTR",
    "MEMORY",
    "READ_BY_ENCODER",
    "TOKENS",
    "UPR",
    "WORDS",
    "ComparesAll",
    "CrossEncoderReranker",
    "FirstSearch",
    "LikelihoodReranker",
    "LtrReranker",
    "MemoryReranker",
    "OwnReranker",
    "Passage",
    "ReadsFirst",
    "ReadsStored",
    "Reranker",
    "TokensReranker",
    "UprReranker",
    "WordsReranker",
    "encode_memory_with",
    "files_of",
    "load_joint_reranker",
    "load_likelihood_reranker",
    "load_reranker",
    "load_upr_reranker",
    "max_sim",
    "memory_scores",
    "pool_memory",
    "share_of",
]

LTR, MEMORY, TOKENS, WORDS = "ltr", "memory", "tokens", "words"
"""The names of :class:`LtrReranker`, :class:`MemoryReranker`, :class:`TokensReranker` and :class:`WordsReranker`."""
LIKELIHOOD, UPR = "likelihood", "upr"
"""The names of :class:`LikelihoodReranker` and :class:`UprReranker`.

Any other name is one of :func:`load_joint_reranker`."""
READ_BY_ENCODER = (MEMORY, TOKENS, LIKELIHOOD, UPR)
"""Those that need the encoder of an index, or the language model under it, even for hits that words have found."""


def load_likelihood_reranker(
    encoder: str, *, stored: StoredMemory | None = None, device: str | None = None
) -> LikelihoodReranker:
    """Load the language model under an encoder as a reranker.

    Args:
        encoder: whose memory vectors it reads, by name.
        stored: gives stored ones; ``None`` encodes each passage.
        device: where it runs; ``None`` for the best there is.

    Raises:
        EncoderError: the encoder's memory cannot be read back, or it cannot be loaded.
    """
    from llm2comp_apps.encoder.decoding import load_reader

    return LikelihoodReranker(load_reader(encoder, device=device), stored=stored)


def load_upr_reranker(encoder: str, *, device: str | None = None) -> UprReranker:
    """Load the language model under an encoder as a reranker that reads texts.

    Args:
        encoder: by name; one without a language model of its own gets the default backbone.
        device: where it runs; ``None`` for the best there is.

    Raises:
        EncoderError: it cannot be found or loaded.
    """
    from llm2comp_apps.encoder.backbones import DEFAULT_BACKBONE
    from llm2comp_apps.encoder.decoding import load_text_reader
    from llm2comp_apps.encoder.names import backbone_of

    return UprReranker(load_text_reader(backbone_of(encoder) or DEFAULT_BACKBONE, device))


def load_joint_reranker(name: str, device: str | None = None) -> Reranker:
    """Load a reranker that reads query and passage together: one of our own by its folder, else a cross-encoder.

    Args:
        name: a folder or a Hugging Face id.
        device: where it runs; ``None`` for the best there is.

    Raises:
        EncoderError: it cannot be found or loaded.
    """
    if not name.strip():  # which would be the working directory
        raise EncoderError(f"the name of the reranker is empty{OF_OURS}")
    return OwnReranker(name, device) if is_own(name) else CrossEncoderReranker(name, device)


def load_reranker(name: str = MEMORY, *, encoder: str | None = None, device: str | None = None) -> Reranker:
    """Load a reranker for documents that lie in no index.

    Args:
        name: ``memory``, ``tokens``, ``words`` (English ones), ``likelihood``, ``upr``, or as
            :func:`load_joint_reranker` takes it. With ``tokens``, whole texts are compared, too, since no first search
            has done that.
        encoder: makes the memory vectors, reads the tokens, or stands on the language model; ``None`` for the default,
            or where the language model reads memory for :data:`~llm2comp_apps.encoder.locate.READABLE`.
        device: where it runs; ``None`` for the best there is.

    Raises:
        UsageError: an encoder for a reranker that reads texts by itself, or one that reads what a search found.
        EncoderError: it cannot be found or loaded.
    """
    if name == LTR:
        raise UsageError(ONLY_HYBRID, field="model")
    if name == LIKELIHOOD:
        return load_likelihood_reranker(encoder or READABLE, device=device)
    if name == UPR:
        return load_upr_reranker(encoder or "default", device=device)
    if name not in (MEMORY, TOKENS):
        if encoder is not None:
            raise UsageError(f"makes no difference: the reranker {name} reads texts by itself", field="encoder")
        return WordsReranker(ordered=False) if name == WORDS else load_joint_reranker(name, device)
    from llm2comp_apps.encoder import load_encoder

    loaded = load_encoder(encoder or "default", device=device)
    return TokensReranker(loaded, whole=ALONE) if name == TOKENS else MemoryReranker(loaded)
