r"""``where`` expressions: which documents a search may return, by their metadata.

    year >= 2020 and lang = 'en' and not tag in ('x', 'y')

    expression := conjunction ("or" conjunction)*
    conjunction:= factor ("and" factor)*
    factor     := "not" factor | "(" expression ")" | predicate
    predicate  := field ("=" | "==" | "!=" | "<>" | "<" | "<=" | ">" | ">=") value
                | field ["not"] "in" "(" value ("," value)* ")"
                | field ["not"] "between" value "and" value
                | field ["not"] "like" string            -- % any run of characters, _ any one, case ignored for a-z
                | field ["not"] "contains" string        -- substring, case ignored for a-z
                | field "is" ["not"] "null"
                | field "is" ["not"] "empty"             -- missing, an empty string or an empty array
                | field "is" ["not"] string              -- this very string; neither as a date nor as a number
                | field "is" ["not"] "in" "(" string ("," string)* ")"
    field      := name ("." name)* | "_id" | "title"     -- see below; _id and title are the document's
    name       := letters, digits, "_", "-" | '"' anything '"'
    value      := number | date | 'string' | "string" | true | false
    date       := 2024-06-01 | 2024-06 | 2024-06-01T12:00:00Z  -- a day, a month, a moment
    string     := in quotes; a quote inside is doubled: 'it''s'

Keywords may be written in any case. Rules of comparison:

- ``author.name`` is the name in ``{"author": {"name": ...}}``; in a document that has none, ``{"author.name": ...}``.
- A field that holds an array satisfies a predicate if any of its elements does.
- What is typed in quotes compares with a string as a string, by code point (``version = '1.1'`` is not ``1.10``), and
  with a number as the number that it spells.
- What is typed as a number compares as a number, with strings that spell one too (CSV files know only strings).
  Integers of any size compare exactly.
- A date compares with strings that spell one, at the precision at which it is typed (`llm2comp_indexes.storage.dates`):
  ``date <= 2024-06-01`` holds all of that day. Days and moments may stand in quotes; they then compare with any other
  string as a string. ``is`` compares strings alone, as such: ``day is '2024-06-01'`` is not ``2024/06/01``.
- An id is a string, however the value is typed: ``_id = 7`` is neither ``007`` nor ``7.0``.
- ``title`` is the document's title, unless its metadata has a field of that name. An empty one is missing.
- true and false equal themselves and the strings that spell them; anything else is unequal.
- Logic has two values: a missing or null field satisfies no predicate but ``is null`` and ``is empty``, and ``x != 1``
  is ``not x = 1``, which it therefore does satisfy.

An expression becomes SQL in which every field and value is a bound parameter, so nothing in it can be injected.
"""

# ruff: noqa: S608  this module is what makes SQL: every value in it is a bound parameter

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from llm2comp_indexes.errors import FilterError
from llm2comp_indexes.storage.dates import LITERAL, precision_of
from llm2comp_indexes.storage.predicates import ID, Condition, Date, Predicates, Scalar, number

__all__ = ["Asked", "CompiledFilter", "can_be_asked_for", "compile_filter", "json_path", "json_paths", "place_sql"]

_TOKENS: Final = re.compile(
    rf"""\s*(?:
      (?P<date>{LITERAL})
    | (?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
    | (?P<quoted>'(?:[^']|'')*'|"(?:[^"]|"")*")
    | (?P<name>[^\W\d][\w-]*)
    | (?P<operator><=|>=|!=|<>|==|[=<>(),.])
    | (?P<end>\Z)
    )""",
    re.VERBOSE,
)
_KEYWORDS: Final = frozenset(("and", "or", "not", "in", "like", "contains", "between", "is", "null", "true", "false"))
_COMPARISONS: Final = {"=": "=", "==": "=", "<": "<", "<=": "<=", ">": ">", ">=": ">="}
_ID: Final = ["_id"]
_TITLE: Final = ["title"]
_TITLES: Final = "FROM texts WHERE texts.num = documents.num AND title <> ''"  # the document's, beside its metadata
_DEEPEST: Final = 64  # nested parentheses; SQLite parses about a thousand levels and Python's stack not many more
_MOST_PREDICATES: Final = 200
_LONGEST_PATTERN: Final = 49_000  # bytes; SQLite takes 50,000, with those that are put around it


@dataclass(frozen=True, slots=True)
class Asked:
    """One predicate of an expression.

    Attributes:
        text: as it was typed.
        names: of the field.
        values: that the field is compared with, none for ``is null``; a `Date` is a string, too.
        sql: to follow ``WHERE``, with the parameters of the whole expression.
    """

    text: str
    names: tuple[str, ...]
    values: tuple[str | float, ...]
    sql: str


@dataclass(frozen=True, slots=True)
class CompiledFilter:
    """A condition on the table ``documents``.

    Attributes:
        sql: to follow ``WHERE``; never NULL.
        parameters: its named parameters.
        fields: the fields that the expression names, each once, as the names that lead to it.
        predicates: what it asks of them, in the order in which it does.
    """

    sql: str
    parameters: dict[str, Any]
    fields: tuple[tuple[str, ...], ...] = ()
    predicates: tuple[Asked, ...] = ()


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  # number, date, string, name, keyword, operator, end
    value: Any
    start: int
    text: str


def _tokens(expression: str) -> list[_Token]:
    tokens, position = [], 0
    while True:
        match = _TOKENS.match(expression, position)
        if match is None:
            start = position + len(expression[position:]) - len(expression[position:].lstrip())
            raise _error(expression, start, "nothing fits here (is a quote left open?)")
        kind = str(match.lastgroup)
        text = match.group(kind)
        token = _Token(kind, text, match.start(kind), text)
        if kind == "date":
            if precision_of(text) is None:
                raise _error(expression, token.start, "there is no such date")
            token = _Token("date", Date(text), token.start, text)
        elif kind == "number":
            token = _Token("number", number(text), token.start, text)
        elif kind == "quoted":
            token = _Token("string", text[1:-1].replace(text[0] * 2, text[0]), token.start, text)
        elif kind == "name" and text.lower() in _KEYWORDS:
            token = _Token("keyword", text.lower(), token.start, text)
        tokens.append(token)
        if kind == "end":
            return tokens
        position = match.end()


def _error(expression: str, position: int, message: str) -> FilterError:
    before, after = expression[max(0, position - 60) : position], expression[position : position + 60]
    return FilterError(f"cannot be read: {message}: {before} >>> {after or '(end)'}", field="where")


class _Parser:
    """Recursive descent, one method a rule of the grammar; each returns SQL."""

    def __init__(self, expression: str) -> None:
        self._expression = expression
        self._tokens = _tokens(expression)
        self._position = 0
        self._depth = 0
        self._count = 0
        self._of_id = False  # whether the predicate is about ids, which are strings
        self._predicates = Predicates()
        self._values: list[str | float] = []  # of the predicate
        self.fields: dict[tuple[str, ...], None] = {}  # a set that keeps the order
        self.asked: list[Asked] = []

    @property
    def _token(self) -> _Token:
        return self._tokens[self._position]

    def _fail(self, message: str) -> FilterError:
        return _error(self._expression, self._token.start, message)

    def _take(self, kind: str, *values: str) -> _Token | None:
        token = self._token
        if token.kind != kind or (values and token.value not in values):
            return None
        self._position += 1
        return token

    def _need(self, kind: str, *values: str, what: str) -> _Token:
        token = self._take(kind, *values)
        if token is None:
            raise self._fail(f"expected {what}")
        return token

    @property
    def parameters(self) -> dict[str, Any]:
        """What `parse` bound."""
        return self._predicates.parameters

    def parse(self) -> str:
        if self._token.kind == "end":
            raise FilterError("is empty", field="where")
        sql = self._expression_()
        self._need("end", what='"and", "or" or the end')
        return sql

    def _expression_(self) -> str:
        parts = [self._conjunction()]
        while self._take("keyword", "or"):
            parts.append(self._conjunction())
        return f"({' OR '.join(parts)})"

    def _conjunction(self) -> str:
        parts = [self._factor()]
        while self._take("keyword", "and"):
            parts.append(self._factor())
        return f"({' AND '.join(parts)})"

    def _factor(self) -> str:
        negations = 0
        while self._take("keyword", "not"):
            negations += 1
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._fail(f"more than {_DEEPEST} nested parentheses")
        if self._take("operator", "("):
            sql = self._expression_()
            self._need("operator", ")", what='")"')
        else:
            sql = self._predicate()
        self._depth -= 1
        return f"(NOT {sql})" if negations % 2 else sql

    def _predicate(self) -> str:
        self._count += 1
        if self._count > _MOST_PREDICATES:
            raise self._fail(f"more than {_MOST_PREDICATES} conditions; FIELD in (...) takes any number of values")
        start, self._values = self._token.start, []
        names = self._field()
        self._of_id = names == _ID
        sql = self._asked_of(names)
        text = self._expression[start : self._token.start].strip()
        self.asked.append(Asked(text, tuple(names), tuple(self._values), sql))
        return sql

    def _asked_of(self, names: list[str]) -> str:
        if token := self._take("operator", "!=", "<>", *_COMPARISONS):
            if token.value in ("!=", "<>"):
                return f"(NOT {self._any(names, self._comparison('=', self._value()))})"
            return self._any(names, self._comparison(_COMPARISONS[token.value], self._value()))
        if self._take("keyword", "is"):
            negated = self._take("keyword", "not") is not None
            sql = self._is(names)
            return f"(NOT {sql})" if negated else sql
        negated = self._take("keyword", "not") is not None
        token = self._need(
            "keyword", "in", "between", "like", "contains", what="a comparison (=, <, in, like, contains, is null, ...)"
        )
        sql = self._any(names, getattr(self, f"_{token.value}")())
        return f"(NOT {sql})" if negated else sql

    def _is(self, names: list[str]) -> str:
        if self._take("keyword", "null"):
            return f"({self._stored(names)} = 'null')"
        if self._token.kind == "name" and self._token.value.lower() == "empty":
            self._position += 1
            return f"({self._stored(names)} IN ('null', '[]', '\"\"'))"
        if self._take("keyword", "in"):
            texts = self._listed(lambda: self._text("a quoted string"))
        else:
            texts = [self._text('"null", "empty" or a quoted string')]
        return self._any(names, self._predicates.exactly(texts))

    def _field(self) -> list[str]:
        names = [self._name()]
        while self._take("operator", "."):
            names.append(self._name())
        self.fields[tuple(names)] = None
        return names

    def _name(self) -> str:
        token = self._token
        if token.kind == "name" or (token.kind == "string" and token.text[0] == '"'):
            self._position += 1
            if not can_be_asked_for(token.value):
                reason = "a field name with a quote, backslash or NUL cannot be used"
                raise _error(self._expression, token.start, reason)
            return str(token.value)
        raise self._fail("expected a field name")

    def _value(self) -> Any:
        token = self._token
        if token.kind in ("number", "date", "string"):
            self._position += 1
            self._values.append(token.text if self._of_id and token.kind != "string" else token.value)
            return self._values[-1]
        if self._take("keyword", "true", "false"):
            self._values.append(token.text if self._of_id else token.value == "true")
            return self._values[-1]
        hint = ' (to find missing fields write "is null")' if token.value == "null" else ""
        raise self._fail(f"expected a number, a date, a quoted string, true or false{hint}")

    def _text(self, what: str) -> str:
        self._values.append(self._need("string", what=what).value)
        return str(self._values[-1])

    def _pattern(self, what: str) -> str:
        token = self._token
        text = self._text(what)
        if len(text.encode()) + sum(map(text.count, "%_\\")) > _LONGEST_PATTERN:  # each of which may be escaped
            raise _error(self._expression, token.start, f"a pattern has at most {_LONGEST_PATTERN:,} bytes")
        return text

    def _in(self) -> Condition:
        return self._predicates.among(self._listed(self._value))

    def _listed(self, one: Callable[[], Any]) -> list[Any]:
        self._need("operator", "(", what='"("')
        values = [one()]
        while self._take("operator", ","):
            values.append(one())
        self._need("operator", ")", what='"," or ")"')
        return values

    def _between(self) -> Condition:
        low = self._comparison(">=", self._value())
        self._need("keyword", "and", what='"and"')
        high = self._comparison("<=", self._value())
        return lambda scalar: f"({low(scalar)}) AND ({high(scalar)})"

    def _like(self) -> Condition:
        return self._predicates.like(self._pattern("a quoted pattern"))

    def _contains(self) -> Condition:
        return self._predicates.contains(self._pattern("a quoted string"))

    def _comparison(self, operator: str, value: Any) -> Condition:
        if isinstance(value, bool) and operator != "=":
            raise self._fail("true and false can only be compared with = and !=")
        return self._predicates.compare(operator, value)

    def _place(self, names: list[str]) -> str:
        return place_sql(*map(self._predicates.bind, json_paths(names)))

    def _stored(self, names: list[str]) -> str:
        """The field as JSON, ``null`` if it is missing."""
        if names == _ID:
            return "json_quote(id)"
        stored = f"coalesce(metadata -> {self._place(names)}, 'null')"
        if names != _TITLE:
            return stored
        return f"iif({stored} = 'null', coalesce((SELECT json_quote(title) {_TITLES}), 'null'), {stored})"

    def _any(self, names: list[str], condition: Condition) -> str:
        """Apply ``condition`` to the field, or to each element of it if it is an array."""
        if names == _ID:
            return f"coalesce(({condition(ID)}), 0)"
        path = self._place(names)
        kind = f"json_type(metadata, {path})"
        scalar = condition(Scalar(f"json_extract(metadata, {path})", kind, f"(metadata -> {path})"))
        if names == _TITLE:
            title = condition(Scalar("title", "'text'", "title"))
            scalar = f"CASE WHEN {kind} <> 'null' THEN ({scalar}) ELSE EXISTS (SELECT 1 {_TITLES} AND ({title})) END"
        element = condition(Scalar("e.value", "e.type", "(metadata -> e.fullkey)"))
        return (
            f"coalesce(CASE {kind} WHEN 'array' THEN EXISTS (SELECT 1 FROM json_each(metadata, {path}) AS e "
            f"WHERE e.type NOT IN ('array', 'object') AND ({element})) WHEN 'object' THEN 0 ELSE ({scalar}) END, 0)"
        )


def can_be_asked_for(name: str) -> bool:
    """Whether SQLite can look for a field of this name."""
    return not any(sign in name for sign in '"\\\0')


def json_path(names: Sequence[str]) -> str:
    """What SQLite calls the place in a JSON object to which ``names`` lead."""
    return "$" + "".join(f'."{name}"' for name in names)


def json_paths(names: Sequence[str]) -> list[str]:
    """Where a field may be: inside of objects, or under a name with points, as tables are flattened."""
    return [json_path(names), json_path([".".join(names)])][: len(names)]


def place_sql(nested: str, flat: str | None = None) -> str:
    """SQL of the place where ``metadata`` have a field, by the parameters of its `json_paths`."""
    if flat is None:
        return nested
    return f"(CASE WHEN json_type(metadata, {nested}) IS NULL THEN {flat} ELSE {nested} END)"


def compile_filter(expression: str) -> CompiledFilter:
    """Compile a ``where`` expression; the grammar is at the top of this module.

    Raises:
        FilterError: it is no text, or cannot be read; the message shows where.
    """
    if not isinstance(expression, str):
        raise FilterError(f"must be text, not {expression!r:.60}", field="where")
    try:
        expression.encode()
    except UnicodeEncodeError as error:  # half a surrogate pair, as arguments have it that are no UTF-8
        raise FilterError("is not valid UTF-8; type it again as text", field="where") from error
    parser = _Parser(expression)
    sql = parser.parse()
    return CompiledFilter(sql, parser.parameters, tuple(parser.fields), tuple(parser.asked))
