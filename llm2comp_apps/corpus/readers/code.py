"""Source code: a part for each function or class, where a line without indentation plainly begins one.

Nothing is parsed: what all these languages have in common is that a definition begins at the margin (or at that of its
class), behind an empty line or the comment that explains it. Short ones are kept together, long classes are cut between
their methods. A file in which no border is plain is one part.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

from llm2comp_apps.corpus.readers import CODE_SUFFIXES
from llm2comp_apps.corpus.readers.parts import Part

__all__ = ["cut_code"]

_SHORT, _LONG = 600, 6000  # characters: what is shorter joins its neighbours, what is longer is cut inside
_WIDE, _MOST = 400, 200  # characters of a line and lines that may hold a name: looking takes the square of the first
# What leads to a name, in the languages above: def name, func (r *T) name, pub fn name, export async function name, ...
_WORDS = (
    "def|class|func|fun|function|fn|struct|enum|trait|impl|interface|module|object|protocol|namespace|type|record|"
    "macro_rules!|sub|defmodule|defp|procedure|table|view"
)
_BEFORE = (
    "abstract|async|const|create|data|default|export|extern|final|fileprivate|inline|internal|local|open|or|override|"
    r"partial|private|protected|pub(?:\([^)]*\))?|public|replace|sealed|static|unsafe|virtual"
)
_NAME = re.compile(
    rf"(?i)\s*(?:(?:{_BEFORE})\s+)*(?:{_WORDS})\s+(?:if\s+not\s+exists\s+)?"
    r"(?:\([^)]*\)\s*)?(?:<[^>]*>\s*)?([A-Za-z_$][\w$.:]*)"
)
_C_NAME = re.compile(r"[\w\s*&:<>,~$]*?([A-Za-z_$][\w$:~]*)\s*\([^;]*$")  # int name(, name() {
_NO_NAME = {"if", "for", "while", "switch", "return", "else", "catch", "with"}
_CLOSING = re.compile(r"[)\]}]|end\b|fi\b|done\b|esac\b|else\b|elif\b|except\b|finally\b|catch\b")
#: Decorators and comments, which belong to what stands below them.
_LEADS = re.compile(r"@|#\[|#(?!include|define|if|endif)|//|/\*|\*|--|\"\"\"|'''|%")
_QUOTES = ('"""', "'''")


def cut_code(text: str, suffix: str, title: str) -> Iterator[Part]:
    """The parts of a source file.

    Args:
        text: the file.
        suffix: of its name, in lower case.
        title: what the file is called; each part's title begins with it.
    """
    language = CODE_SUFFIXES.get(suffix, "")
    lines = text.split("\n")
    bare = _without_long_strings(lines)
    pieces = [(start, end) for start, end in _pieces(bare) if any(line.strip() for line in lines[start:end])]
    used: dict[str, int] = {}
    for start, end in pieces:
        fields = {"language": language, "line": start + 1} if language else {"line": start + 1}
        body = "\n".join(lines[start:end]).strip("\n")
        if len(pieces) == 1:
            yield Part(text=body, title=title, fields=fields)
            return
        called = _called(bare[start:end])
        name = called or "part"
        used[name] = used.get(name, 0) + 1
        name = name if used[name] == 1 else f"{name}~{used[name]}"
        yield Part(text=body, title=f"{title}: {called}" if called else title, name=name, fields=fields)


def _without_long_strings(lines: list[str]) -> list[str]:
    """The lines, those inside of strings of several lines as mere spaces: what they say begins nothing."""
    bare = []
    closing = ""
    for line in lines:
        bare.append("  " * len(line) if closing else line)
        for quote in _QUOTES:
            if closing in ("", quote) and line.count(quote) % 2:
                closing = "" if closing else quote
    return bare


def _pieces(lines: list[str]) -> list[tuple[int, int]]:
    """Runs of lines, short ones joined and long ones cut."""
    found: list[tuple[int, int]] = []
    for start, end in _runs(lines, 0, len(lines), 0):
        size = _size(lines, start, end)
        if size > _LONG:
            margin = min((_indent(line) for line in lines[start:end] if _indent(line) > 0 and line.strip()), default=0)
            inner = _joined(lines, _runs(lines, start, end, margin)) if margin else [(start, end)]
            found += inner
        else:
            found.append((start, end))
    return _joined(lines, found)


def _runs(lines: list[str], first: int, last: int, margin: int) -> list[tuple[int, int]]:
    """The runs of lines between those that begin something at a margin."""
    borders = [first]
    top = first  # of the lines that lead to this one
    for number in range(first + 1, last):
        line = lines[number]
        if not _leads(lines[number - 1], margin):
            top = number
        begins = line.strip() and _indent(line) == margin and not _CLOSING.match(line.strip())
        if begins and (not lines[number - 1].strip() or top < number) and top > borders[-1]:
            borders.append(top)
    return list(zip(borders, [*borders[1:], last], strict=True))


def _leads(line: str, margin: int) -> bool:
    """Whether a line explains or decorates what comes below it."""
    return bool(line.strip()) and _indent(line) in (margin, margin + 1) and bool(_LEADS.match(line.strip()))


def _joined(lines: list[str], runs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Neighbours together as long as they are short."""
    joined: list[tuple[int, int]] = []
    for start, end in runs:
        if joined and _size(lines, joined[-1][0], joined[-1][1]) + _size(lines, start, end) <= _SHORT:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined


def _size(lines: list[str], start: int, end: int) -> int:
    return sum(map(len, lines[start:end]))


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" \t"))


def _called(lines: list[str]) -> str:
    """The name of the first definition."""
    said = (line[:_WIDE] for line in lines if line.strip() and not _LEADS.match(line.strip()))
    for line in islice(said, _MOST):
        found = _NAME.match(line) or (_C_NAME.match(line) if line[:1].strip() else None)
        if found and found.group(1) not in _NO_NAME:
            return found.group(1).strip(":.")
    return ""
