"""What an encoder reads of a text, and what a chunk may have so that all of it is read.

An encoder cuts off what is beyond its maximum, and the vector of a long document does not show it. So chunks are kept
within it, title included, and documents that were cut off are counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm2comp_apps.corpus.chunking import MIN_CHUNK_TOKENS
from llm2comp_apps.encoder.protocol import CountsCut, LimitsLength, TextEncoder
from llm2comp_apps.errors import UsageError
from llm2comp_apps.retrieval.plan import EmbeddingPlan

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["check_chunk", "room_for_text", "texts_cut", "title_and_size", "truncation_line"]

#: Tokens that may come up where title and text meet: counts of parts do not quite add up.
_SEAM = 2
#: Tokens of a chunk that find most by meaning with the default encoder (docs/results/encoders.md).
_FINDS_MOST = 128


def room_for_text(encoder: TextEncoder, prompt: str) -> int | None:
    """Tokens of a text that the encoder reads behind a prompt; ``None`` if it does not say."""
    return encoder.room(prompt) if isinstance(encoder, LimitsLength) else None


def texts_cut(encoder: TextEncoder) -> int:
    """Texts of which the encoder has read only the beginning so far."""
    return encoder.cut if isinstance(encoder, CountsCut) else 0


def check_chunk(plan: EmbeddingPlan, encoder: TextEncoder) -> None:
    """Refuse chunks that the encoder could not read whole.

    Raises:
        UsageError: says how large they may be.
    """
    room = room_for_text(encoder, plan.prompt)
    if plan.chunk is not None and room is not None and plan.chunk > room:
        raise UsageError(
            f"must be at most {room}, not {plan.chunk}: the encoder {encoder.name} reads {room} tokens of a text, and "
            "the rest of each chunk would be lost (a title counts too, and makes its document's chunks smaller)",
            field="chunk",
        )


def title_and_size(title: str, chunk: int, room: int | None, tokenizer: PreTrainedTokenizerBase) -> tuple[str, int]:
    """The title that goes with each chunk of a document, and the tokens that leaves for the chunk's text.

    Both as wanted in nearly all cases. A long title makes the chunks smaller; one that leaves no room for text goes
    with none of them.

    Args:
        title: of the document.
        chunk: tokens of a chunk, as wanted.
        room: see :func:`room_for_text`.
        tokenizer: the encoder's.
    """
    # A token has at least a byte, so short titles need no counting.
    if room is None or chunk + len(title.encode()) + _SEAM <= room:
        return title, chunk
    count = tokenizer([title], add_special_tokens=False)
    left = room - len(count["input_ids"][0]) - (_SEAM if title else 0)
    if left < MIN_CHUNK_TOKENS:
        return "", min(chunk, room)
    return title, min(chunk, left)


def truncation_line(count: int, encoder: TextEncoder, plan: EmbeddingPlan) -> str:
    """What to say of documents of which only the beginning was read; empty if there is none."""
    room = room_for_text(encoder, plan.prompt)
    if not count or room is None or plan.chunk is not None:
        return ""
    are, their = ("documents are", "their beginnings were") if count > 1 else ("document is", "its beginning was")
    return (
        f"{count} {are} longer than {room} tokens; only {their} read by meaning: "
        f"`chunk={max(MIN_CHUNK_TOKENS, min(_FINDS_MOST, room // 2))}` reads all"
    )
