"""Counting tokens as an encoder does, in any thread, beside the one that owns the encoder."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["TokenCounter", "Tokenized"]

_CHARACTERS_PER_TOKEN = 4  # of an encoder that shows no tokenizer
_NO_LIMIT = 1 << 30


@dataclass(frozen=True, slots=True)
class Tokenized:
    """What counting tokens found.

    Attributes:
        lengths: tokens of each text that the encoder reads, at least 1.
        truncated: positions of texts of which only the beginning is read.
        total: tokens that the encoder reads of all texts together.
    """

    lengths: list[int]
    truncated: list[int]
    total: int


class TokenCounter:
    """Counts the tokens of texts. Make it before the encoder works: it looks at its tokenizer.

    Args:
        encoder: with or without a tokenizer.
    """

    def __init__(self, encoder: Any) -> None:
        # A copy: a tokenizer of transformers keeps its truncation as a state that the encoder would see. Here it has
        # none, so that any number of threads may count at once, and no query waits until a long list is counted.
        self.tokenizer = copy.deepcopy(getattr(encoder, "tokenizer", None))
        self.max_length: int | None = getattr(encoder, "max_length", None)
        room = getattr(encoder, "room", None)
        prompts = {None, *dict(encoder.prompts).values()}
        self._rooms = {prompt: int(room(prompt)) if room is not None else _NO_LIMIT for prompt in prompts}

    def room(self, prompt: str | None = None) -> int:
        """Tokens of a text that the encoder reads behind one of its prompts."""
        return self._rooms.get(prompt, self._rooms[None])

    def ids(self, texts: Sequence[str]) -> list[list[int]] | None:
        """Token ids of texts; ``None`` where the encoder shows no tokenizer."""
        if self.tokenizer is None:
            return None
        found: list[list[int]] = self.tokenizer(list(texts))["input_ids"]
        return found

    def tokens(self, texts: Sequence[str], *, special: bool = True) -> list[list[dict[str, Any]]] | None:
        """The tokens of texts as clients of Text Embeddings Inference know them; ``None`` without a tokenizer."""
        if self.tokenizer is None:
            return None
        found = self.tokenizer(list(texts), add_special_tokens=special, return_offsets_mapping=True)
        places = found.get("offset_mapping") or [[(None, None)] * len(ids) for ids in found["input_ids"]]
        return [
            [_token(*one, text) for one in zip(ids, spans, strict=True)]
            for text, ids, spans in zip(texts, found["input_ids"], places, strict=True)
        ]

    def count(self, texts: Sequence[str], prompt: str | None = None) -> Tokenized:
        """Count the tokens of texts behind one of the encoder's prompts."""
        ids = self.ids(texts)
        if ids is None:
            lengths = [len(text) // _CHARACTERS_PER_TOKEN + 1 for text in texts]
        else:
            lengths = [len(each) for each in ids]
        room = self.room(prompt)
        truncated = [position for position, length in enumerate(lengths) if length > room]
        lengths = [max(1, min(length, room)) for length in lengths]
        return Tokenized(lengths, truncated, sum(lengths))


def _token(number: int, span: tuple[int | None, int | None], text: str) -> dict[str, Any]:
    """A token of a text; one that stands for no character of it is special."""
    start, stop = span
    return {
        "id": number,
        "text": text[start:stop] if start is not None else None,
        "special": start is not None and start == stop,
        "start": start,
        "stop": stop,
    }
