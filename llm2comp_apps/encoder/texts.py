"""What callers hand to an encoder, checked: a wrong container must be an error and not wrong vectors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set

from llm2comp_apps.errors import UsageError

__all__ = ["half_of_a_pair", "list_of_texts"]


def list_of_texts(texts: Iterable[str]) -> list[str]:
    """The texts as a list.

    Args:
        texts: a list, a tuple or a generator, or one column: a one-dimensional array or Series of strings.

    Raises:
        UsageError: a single text, nothing, a table, a mapping, a set (which has no order), or something in it that is
            no text, or half a surrogate pair in a text; the message names its position.
    """
    if isinstance(texts, str | bytes):
        raise UsageError("must be a list of texts; put a single text into a list: [text]", field="texts")
    kind = type(texts).__name__
    if texts is None:
        raise UsageError("must be a text or a list of texts, not None", field="texts")
    if isinstance(texts, Mapping | Set) or not hasattr(texts, "__iter__"):
        raise UsageError(f"must be a list of texts, not a {kind}", field="texts")
    if getattr(texts, "ndim", 1) != 1:
        raise UsageError(f"must be a list of texts, not a table ({kind}); choose one of its columns", field="texts")
    found = list(texts)
    for position, text in enumerate(found):
        if not isinstance(text, str):
            shown = repr(text) if text is None or isinstance(text, int | float) else f"a {type(text).__name__}"
            raise UsageError(f"must be strings, but the one at position {position} is {shown}", field="texts")
        if half := half_of_a_pair(text):
            reason = f"must be valid Unicode, but the one at position {position} has half a surrogate pair ({half})"
            raise UsageError(reason, field="texts")
    return found


def half_of_a_pair(text: str) -> str | None:
    r"""The first lone surrogate of a text as an escape, such as ``\ud800``; ``None`` for what can be encoded."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"\\u{ord(text[error.start]):04x}"
    return None
