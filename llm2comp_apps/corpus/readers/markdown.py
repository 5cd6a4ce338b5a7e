"""Markdown and reStructuredText: the title, and the metadata that stand before the text."""

from __future__ import annotations

import datetime
import math
import re
import tomllib
from typing import Any

__all__ = ["read_front_matter", "title_of"]

# A line behind hashes, or a line of its own above a rule of = or -.
_HEADING = re.compile(
    r"^ {0,3}#{1,6}[ \t]+(?P<hashes>.*)$"
    r"|(?:\A|(?<=\n\n)) {0,3}(?P<above>[^\s#>|`~*+\-<].{0,200})\n {0,3}(?:=+|-{2,})[ \t]*$",
    re.MULTILINE,
)
_FENCE = re.compile(r"^ {0,3}(```+|~~~+).*?(?:^ {0,3}\1|\Z)", re.MULTILINE | re.DOTALL)
_UNDERLINED = re.compile(r"^([^\s.].{0,200})\n([=\-~^*#])\2{2,}[ \t]*$", re.MULTILINE)
_YAML = re.compile(r"---[ \t]*\n(.*?\n)?(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_TOML = re.compile(r"\+\+\+[ \t]*\n(.*?\n)?\+\+\+[ \t]*(?:\n|\Z)", re.DOTALL)
_LONGEST = 2**16  # characters of metadata
_LONGEST_TOML = 2**14  # whose parser takes the square of the length of a dotted name


def title_of(text: str, kind: str) -> str:
    """The first heading outside of code; ``kind`` is ``md`` or ``rst``."""
    if kind == "rst":
        found = _UNDERLINED.search(text)
        return found.group(1).strip() if found else ""
    found = _HEADING.search(_FENCE.sub("", text))
    if found and found["above"]:
        return found["above"].rstrip(" \t")
    title = found["hashes"].rstrip(" \t") if found else ""
    bare = title.rstrip("#")
    return bare.rstrip(" \t") if bare.endswith((" ", "\t")) else title  # a heading may end in hashes, too


def read_front_matter(text: str) -> tuple[dict[str, Any], str, str]:
    """The metadata before a text, in YAML between lines of ``---`` or in TOML between lines of ``+++``.

    Returns:
        The metadata as JSON has them, the text behind them, and what is wrong with them: where something is, they are
        part of the text.
    """
    head = text[:_LONGEST]
    for pattern, parse in ((_YAML, _yaml), (_TOML, _toml)):
        found = pattern.match(head)
        if found is None:
            continue
        try:
            fields = _plain(parse(found.group(1) or ""))
        except RecursionError:
            return {}, text, "they are nested too deeply"
        except ValueError as error:
            return {}, text, str(error).split("\n", 1)[0]
        if isinstance(fields, dict):
            return fields, text[found.end() :].lstrip("\n"), ""
        return ({}, text[found.end() :].lstrip("\n"), "") if fields is None else ({}, text, "")  # a rule, not metadata
    return {}, text, ""


def _toml(source: str) -> Any:
    if len(source) > _LONGEST_TOML:
        raise ValueError(f"they are longer than {_LONGEST_TOML} characters")
    return tomllib.loads(source)  # its error is a ValueError


def _yaml(source: str) -> Any:
    """YAML's plain values; aliases are refused, since a few of them can stand for billions of values."""
    import yaml

    class Loader(yaml.SafeLoader):
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.events.AliasEvent):
                raise yaml.YAMLError("aliases are not read")
            return super().compose_node(parent, index)

    try:
        return yaml.load(source, Loader)  # noqa: S506 - it is a safe one
    except (yaml.YAMLError, RecursionError, TypeError, OverflowError) as error:
        raise ValueError(str(error)) from None


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set):
        return [_plain(item) for item in value]
    if isinstance(value, datetime.date | datetime.time):  # datetime is a date
        return value.isoformat()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)
