"""Operators in a query: what a hit must hold, must not hold, or may hold in many forms.

    "cell division"     the words in this order, in any of their forms; one word in quotes: in this form
    +protein            the word must occur
    -mouse -"in vitro"  neither may
    title:review        the title must hold it; also title:"cell cycle"
    neuro*              any word that begins so

Quotes may be curled, as telephones type them. Whatever else is typed is text: an operator stands at the beginning of a
word, right before a letter or a quote, and is spelled out in full. So ``C++``, ``.NET``, ``foo:bar``, ``AND``, ``-5``,
``ls -l``, ``5" disk`` and ``*args`` mean themselves, and so does a query that would exclude everything it names.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

__all__ = ["Clause", "ParsedQuery", "parse_query"]

Sign: TypeAlias = Literal["must", "must not", "may"]

_WORD: Final = r"[^\W\d_](?:[\w'’.+#-]*[\w+#])?"
_CLAUSE: Final = re.compile(
    rf"""(?<![^\s(])
    (?P<sign>[+-]?)(?P<title>title:)?
    (?: "(?P<phrase>[^"]*[^\W_][^"]*)"(?=[\s,.;:!?)]|\Z)
      | [“„](?P<curled>[^“”„]*[^\W_][^“”„]*)[”“](?=[\s,.;:!?)]|\Z)
      | (?P<prefix>[^\W\d_][\w'’-]*\w)\*(?=[\s,.;:!?)]|\Z)
      | (?P<word>{_WORD})(?=[\s,.;:!?)]|\Z)
    )""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Clause:
    """One operator with what it stands before.

    Attributes:
        sign: whether hits must meet it, must not, or may.
        kind: ``word``, ``phrase`` or ``prefix``.
        text: what was typed, without the operators.
        title: look in the title alone.
    """

    sign: Sign
    kind: Literal["word", "phrase", "prefix"]
    text: str
    title: bool = False

    def __str__(self) -> str:
        """How it is typed."""
        shown = f'"{self.text}"' if self.kind == "phrase" else f"{self.text}{'*' if self.kind == 'prefix' else ''}"
        sign = "-" if self.sign == "must not" else "+" if self.sign == "must" and self.kind != "phrase" else ""
        return f"{'' if self.title and sign == '+' else sign}{'title:' if self.title else ''}{shown}"


@dataclass(frozen=True, slots=True)
class ParsedQuery:
    """A query as it is understood.

    Attributes:
        text: what is looked for, without operators and without what they exclude.
        clauses: the operators, in the order in which they were typed.
    """

    text: str
    clauses: tuple[Clause, ...] = ()

    @property
    def demands(self) -> tuple[Clause, ...]:
        """The clauses that keep documents out."""
        return tuple(clause for clause in self.clauses if clause.sign != "may")


def parse_query(query: str) -> ParsedQuery:
    """Find the operators of a query."""
    clauses: list[Clause] = []
    kept: list[str] = []
    position = 0
    for found in _CLAUSE.finditer(query):
        clause = _clause(found)
        if clause is None:
            continue
        clauses.append(clause)
        kept += [query[position : found.start()], "" if clause.sign == "must not" else clause.text]
        position = found.end()
    text = " ".join("".join([*kept, query[position:]]).split())
    if not clauses or not re.search(r"\w", text):
        return ParsedQuery(query)
    return ParsedQuery(text, tuple(clauses))


def _clause(found: re.Match[str]) -> Clause | None:
    """What a match means; ``None`` if it is plain text."""
    excluded, title = found["sign"] == "-", found["title"] is not None
    sign: Sign = "must not" if excluded else "must"
    phrase = found["curled"] if found["phrase"] is None else found["phrase"]
    if phrase is not None:
        return Clause(sign, "phrase", phrase.strip(), title)
    if found["prefix"] is not None:
        return Clause("may" if not found["sign"] and not title else sign, "prefix", found["prefix"], title)
    if title or (found["sign"] and len(found["word"]) > 1):
        return Clause(sign, "word", found["word"], title)
    return None
