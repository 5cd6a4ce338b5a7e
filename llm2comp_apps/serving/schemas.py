"""Bodies of requests, checked field by field, and the plain data of answers."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from llm2comp_apps.serving.errors import ApiError, invalid
from llm2comp_apps.serving.settings import Limits

__all__ = ["TOKENS_HINT", "Fields", "encoded_vectors", "parse_json", "read_json", "shortened"]

_LARGEST = 1e15  # whose squares float32 can add up
_LONG_NUMBER = re.compile(rb"[0-9]{19}")
_NUMBER = re.compile(r"-?[0-9]{1,18}")
_NESTING = re.compile(r"'[^']*'|\"[^\"]*\"|[()]|[^\s()'\"]+")
TOKENS_HINT = (
    "token ids are not supported: they are numbers of another model's tokenizer; send texts "
    "(with LangChain's OpenAIEmbeddings set check_embedding_ctx_length=False)"
)


def read_json(body: bytes) -> Any:
    """A value in JSON, with integers of any size; raises ``ValueError`` or ``RecursionError``."""
    found = orjson.loads(body)
    # orjson makes floats of integers beyond 64 bits, and says better than json what is wrong
    return json.loads(body.decode()) if _LONG_NUMBER.search(body) else found


def parse_json(body: bytes, status: int) -> Fields:
    """The object of a body.

    Raises:
        ApiError: it is no JSON, or no object.
    """
    try:
        found = read_json(body or b"{}")
    except RecursionError:
        raise ApiError(400, "the body is not valid JSON: it is nested too deeply", code="invalid_json") from None
    except ValueError as error:  # Python reads integers of up to 4,300 digits
        raise ApiError(400, f"the body is not valid JSON: {error}", code="invalid_json") from None
    if not isinstance(found, dict):
        raise ApiError(status, "the body must be a JSON object", code="invalid_json")
    return Fields(found, status)


class Fields:
    """The fields of a body or of a query string.

    Args:
        values: by name.
        status: of an error about one of them.
    """

    def __init__(self, values: dict[str, Any], status: int = 422, prefix: str = "") -> None:
        self.values = values
        self.status = status
        self._prefix = prefix

    def named(self, prefix: str) -> Fields:
        """The same as fields of something inside the body: ``documents[3].id``."""
        return Fields(self.values, self.status, f"{prefix}.")

    def inner(self, name: str) -> Fields:
        """The fields of an object in a field."""
        found = self.get(name)
        if not isinstance(found, dict):
            raise self.wrong(name, f"must be an object, not {_kind(found)}")
        return Fields(found, self.status, f"{self._prefix}{name}.")

    def get(self, name: str) -> Any:
        """The value of a field as it came; ``None`` where it is missing."""
        return self.values.get(name)

    def __contains__(self, name: str) -> bool:
        return self.get(name) is not None

    def refuse_others(self, known: frozenset[str]) -> None:
        """Refuse a field that is not among those that are known."""
        for name in self.values:
            if name not in known:
                these = ", ".join(sorted(known)) or "none"
                raise self.wrong(name[:50], f"is no field of this request; there are: {these}", "unknown_field")

    def wrong(self, name: str, reason: str, code: str = "invalid_value") -> ApiError:
        """An error about a field."""
        return invalid(f"{self._prefix}{name}", reason, code=code, status=self.status)

    def text(self, name: str, default: str | None = None, *, limit: int = 4_000_000) -> str | None:
        """A string; ``default`` where it is missing."""
        found = self.get(name)
        if found is None:
            return default
        if not isinstance(found, str):
            raise self.wrong(name, f"must be a string, not {_kind(found)}")
        if len(found) > limit:
            raise self.wrong(name, f"must have at most {limit:,} characters, not {len(found):,}", "too_long")
        return found

    def required(self, name: str, *, limit: int = 4_000_000) -> str:
        """A string that must be there, and not be blank."""
        found = self.text(name, limit=limit)
        if found is None:
            raise self.wrong(name, "is missing", "missing")
        if not found.strip():
            raise self.wrong(name, "is empty", "empty")
        return found

    def choice(self, name: str, choices: Sequence[str], default: str | None = None) -> str | None:
        """One of some strings."""
        found = self.text(name, default)
        if found is not None and found not in choices:
            raise self.wrong(name, f"must be one of {', '.join(choices)}, not {found[:50]!r}")
        return found

    def flag(self, name: str, default: bool = False) -> bool:
        """A truth value."""
        found = self.get(name)
        if found is None:
            return default
        if isinstance(found, str) and found.lower() in ("true", "false"):  # of a query string
            return found.lower() == "true"
        if not isinstance(found, bool):
            raise self.wrong(name, f"must be true or false, not {_kind(found)}")
        return found

    def integer(self, name: str, default: int, *, least: int, most: int) -> int:
        """A whole number between two others."""
        found = self.get(name)
        if found is None:
            return default
        if isinstance(found, str) and _NUMBER.fullmatch(found):  # of a query string
            found = int(found)
        if isinstance(found, float) and found.is_integer():
            found = int(found)
        if not isinstance(found, int) or isinstance(found, bool):
            raise self.wrong(name, f"must be a whole number, not {found if isinstance(found, float) else _kind(found)}")
        if not least <= found <= most:
            raise self.wrong(name, f"must be between {least:,} and {most:,}, not {found}")
        return found

    def optional_integer(self, name: str, *, least: int, most: int) -> int | None:
        """The same; ``None`` where it is missing."""
        return self.integer(name, least, least=least, most=most) if name in self else None

    def texts(
        self, name: str, limits: Limits, *, single: bool = True, blank: bool = False, most: int | None = None
    ) -> list[str]:
        """A list of strings, or one string where ``single``; at most ``most`` of them."""
        most = limits.inputs if most is None else most
        found = self.get(name)
        if isinstance(found, str) and single:
            found = [found]
        if found is None:
            raise self.wrong(name, "is missing", "missing")
        if not isinstance(found, list):
            what = "a string or a list of strings" if single else "a list of strings"
            raise self.wrong(name, f"must be {what}, not {_kind(found)}")
        if not found:
            raise self.wrong(name, "is empty", "empty")
        if len(found) > most:
            raise self.wrong(name, f"must have at most {most:,} texts, not {len(found):,}", "too_many")
        first = found[0][0] if isinstance(found[0], list) and found[0] else found[0]
        if single and isinstance(first, int) and not isinstance(first, bool):
            raise self.wrong(name, f"must be texts; {TOKENS_HINT}", "tokens_not_supported")
        for position, text in enumerate(found):
            if not isinstance(text, str):
                raise self.wrong(name, f"must be strings, but the one at position {position} is {_kind(text)}")
            if not (blank or text):
                raise self.wrong(name, f"must not be empty, but the text at position {position} is", "empty")
            if len(text) > limits.characters:
                much = f"{len(text):,} characters, and {limits.characters:,} are allowed"
                raise self.wrong(name, f"must be shorter: the text at position {position} has {much}", "too_long")
        return found

    def documents(self, name: str, limits: Limits) -> list[str]:
        """Texts of documents: strings, or objects with a ``text`` and perhaps a ``title``."""
        found = self.get(name)
        if isinstance(found, list):
            for position, each in enumerate(found):
                if isinstance(each, dict) and not isinstance(each.get("text"), str):
                    reason = f"must be strings or have a text, but the one at position {position} has no field text"
                    raise self.wrong(name, reason)
            texts = [_content(each) if isinstance(each, dict) else each for each in found]
            self = Fields({**self.values, name: texts}, self.status, self._prefix)
        return self.texts(name, limits, single=False, most=limits.memory_inputs)

    def strings(self, name: str, *, most: int = 100) -> list[str]:
        """A short list of names; empty where it is missing. A query string has them between commas."""
        found = self.get(name)
        if found is None:
            return []
        if isinstance(found, str):
            found = [each.strip() for each in found.split(",") if each.strip()]
        if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
            raise self.wrong(name, "must be a list of strings")
        if len(found) > most:
            raise self.wrong(name, f"must have at most {most} entries, not {len(found)}", "too_many")
        return found

    def vector(self, name: str, dimension: int) -> npt.NDArray[np.float32] | None:
        """A vector of some width; ``None`` where it is missing."""
        found = self.get(name)
        if found is None:
            return None
        numbers = isinstance(found, list) and all(
            isinstance(each, int | float) and not isinstance(each, bool) for each in found
        )
        if not numbers or len(found) != dimension:
            raise self.wrong(name, f"must be a list of {dimension} numbers")
        vector = np.array(found, dtype=np.float64)
        if not (np.abs(vector) < _LARGEST).all() or not vector.any():
            raise self.wrong(name, f"must be numbers below {_LARGEST:g}, not all of them 0")
        return vector.astype(np.float32)

    def condition(self, name: str, limits: Limits) -> str | None:
        """A ``where`` condition of bounded depth; blank is none."""
        found = self.text(name, limit=limits.condition_length)
        if found is None or not found.strip():
            return None
        if _depth(found) > limits.condition_depth:
            raise self.wrong(name, f"is nested more than {limits.condition_depth} deep", "too_deep")
        return found


def shortened(vectors: npt.NDArray[np.float32], dimensions: int | None) -> npt.NDArray[np.float32]:
    """The first ``dimensions`` of each vector, again of unit norm."""
    if dimensions is None or dimensions == vectors.shape[1]:
        return vectors
    cut = np.ascontiguousarray(vectors[:, :dimensions])
    norms = np.linalg.norm(cut, axis=1, keepdims=True)
    return cut / np.maximum(norms, np.float32(1e-12))


def encoded_vectors(vectors: npt.NDArray[np.float32], encoding: str) -> list[Any]:
    """Vectors as JSON has them: base64 of little-endian float32, or numbers."""
    if encoding == "base64":
        return [base64.b64encode(row.astype("<f4").tobytes()).decode() for row in vectors]
    return list(vectors)


def _content(document: dict[str, Any]) -> Any:
    """Title and text of a document; what is no text is refused later."""
    text, title = document.get("text"), document.get("title")
    return f"{title} {text}" if isinstance(text, str) and isinstance(title, str) and title else text


def _depth(condition: str) -> int:
    """How deep parentheses and negations of a condition stand inside each other, at most."""
    depth = deepest = negations = 0
    for word in _NESTING.findall(condition):
        negations = negations + 1 if word.lower() == "not" else 0
        depth += {"(": 1, ")": -1}.get(word, 0)
        deepest = max(deepest, depth + negations)
    return deepest


def _kind(value: Any) -> str:
    names = {bool: "a truth value", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return "null" if value is None else names.get(type(value), "a string")
