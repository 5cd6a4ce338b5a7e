"""The first tokens of long texts, without reading all of each.

An encoder reads some hundred tokens of a text. Of a book a tokenizer would make a hundred thousand, at thirty bytes a
character, only for most of them to be cut off. So it is given a beginning, and more only where that was not enough.

The tokens are those of the whole text. A beginning ends where a word does, and the last piece that the tokenizer's own
splitting makes of it is not trusted, since what follows could belong to it. A tokenizer that does not split (some of
SentencePiece) makes one piece of everything, and reads the whole text as before.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from tokenizers import Encoding
    from transformers import PreTrainedTokenizerBase

__all__ = ["first_ids", "of_beginnings", "tells"]

_Tokens = TypeVar("_Tokens")
_CHARACTERS = 16
"""That a token hardly ever has as a mean over a beginning; where it has more, the beginning grows by this factor."""


def of_beginnings(
    texts: Sequence[str],
    limit: int,
    tokenise: Callable[[list[str], bool], Sequence[_Tokens]],
    enough: Callable[[_Tokens], bool],
) -> list[_Tokens]:
    """Tokens of texts, or of as much of their beginnings as holds the first ``limit``.

    Args:
        texts: of any length.
        limit: tokens of a text that are wanted.
        tokenise: gives the tokens of each of some texts, and learns whether these are whole.
        enough: whether the tokens of a beginning have the first ``limit`` tokens of the whole text in front.
    """
    found: dict[int, _Tokens] = {}
    left, reach = list(range(len(texts))), _CHARACTERS * max(limit, 1)
    while left:
        shown = {number: _beginning(texts[number], reach) for number in left}
        begun = [number for number in left if len(shown[number]) < len(texts[number])]
        for whole, numbers in ((True, sorted({*left} - {*begun})), (False, begun)):
            made = tokenise([shown[number] for number in numbers], whole) if numbers else ()
            found.update(zip(numbers, made, strict=True))
        left = [number for number in begun if not enough(found[number])]
        reach *= _CHARACTERS
    return [found[number] for number in range(len(texts))]


def _beginning(text: str, reach: int) -> str:
    """At most ``reach`` characters, ending before white space; the whole text where there is none."""
    if len(text) <= reach:
        return text
    head, *behind = text[:reach].rsplit(maxsplit=1)
    return head if behind else text


def tells(encoding: Encoding, limit: int) -> bool:
    """Whether a beginning's tokens, none cut off, tell the first ``limit`` tokens of the whole text."""
    pieces = encoding.word_ids
    return len(pieces) > limit and (limit == 0 or pieces[limit - 1] != pieces[-1])


def first_ids(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], limit: int, *, special: bool = True
) -> tuple[list[list[int]], int]:
    """Token ids of texts by a tokenizer of transformers, at most ``limit`` of each, and how many texts had more."""
    asked: dict[str, Any] = {
        "add_special_tokens": special,
        "truncation": True,
        "max_length": limit,
        "return_attention_mask": False,
    }
    if not tokenizer.is_fast:
        rows: list[list[int]] = tokenizer(list(texts), **asked)["input_ids"]
        return rows, 0

    def tokenise(shown: list[str], _: bool) -> Sequence[Encoding]:
        return tokenizer(shown, **asked).encodings or ()

    def enough(encoding: Encoding) -> bool:
        if not encoding.overflowing:  # what was cut off; the tokenizer keeps it
            return False
        kept = [piece for piece in encoding.word_ids if piece is not None]
        last = [piece for piece in encoding.overflowing[-1].word_ids if piece is not None]
        return not kept or kept[-1] != last[-1]

    found = of_beginnings(texts, limit, tokenise, enough)
    return [encoding.ids for encoding in found], sum(bool(encoding.overflowing) for encoding in found)
