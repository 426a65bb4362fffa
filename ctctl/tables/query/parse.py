"""The parser of filter expressions.

    expression = conjunction {"or" conjunction}
    conjunction = negation {"and" negation}
    negation = "not" negation | "(" expression ")" | term
    term = FIELD OPERATOR value | FIELD ["not"] "in" (value | "{" value {"," value} "}")
         | "flag" "(" NAME {"," NAME} ")" | BOOLEAN-FIELD | a bare protocol, state, direction or address

``&&``, ``||`` and ``!`` work too. Errors name the column (from 1) and the nearest right name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from ctctl.errors import UsageError
from ctctl.model.suggest import unknown_name
from ctctl.tables.query import printed, values
from ctctl.tables.query.aliases import ALIASES, NAT_ALIASES, NAT_UNCLEAR
from ctctl.tables.query.ast import MAX, And, HasFlags, Node, Not, Or, Range, Term, Value

FIELD_NAMES = tuple(values.READERS)
#: ``values.KNOWN_WORDS`` by every spelling of their fields.
KNOWN_WORDS = values.KNOWN_WORDS | {
    spelling: values.KNOWN_WORDS[name] for spelling, name in ALIASES.items() if name in values.KNOWN_WORDS
}


class Words(NamedTuple):
    """The fields that entries have: who reads a value, other spellings, what has an order, which word is two things."""

    readers: Mapping[str, Callable[[str], Value]]
    aliases: Mapping[str, str]
    ordered: Collection[str]
    unclear: Mapping[str, tuple[str, ...]]


CT_WORDS = Words(values.READERS, ALIASES, values.ORDERED, {})
#: Of SNAT entries; those that they do not have are refused by ``query.nat``, which says so.
NAT_WORDS = Words(
    {**values.READERS, **values.NAT_READERS},
    {**ALIASES, **NAT_ALIASES},
    values.ORDERED | {"age", "created", "needs_ct"},
    NAT_UNCLEAR,
)

_TOKEN = re.compile(r"\s*(?:(==|!=|<=|>=|&&|\|\||[=<>!(){}\[\],])|\"([^\"]*)\"|'([^']*)'|([\w.:/%*@+-]+))")
_WORD_OPERATORS = {"and": "and", "&&": "and", "or": "or", "||": "or", "not": "not", "!": "not"}
_COMPARISONS = frozenset({"==", "=", "!=", "<", "<=", ">", ">="})
_CLOSING = {"{": "}", "(": ")", "[": "]"}
_LIMITS = (4096, 64)  # characters, nesting: hostile input must not exhaust the stack


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    column: int
    quoted: bool = False
    end: bool = False

    @property
    def operator(self) -> str:
        return "" if self.quoted or self.end else _WORD_OPERATORS.get(self.text.lower(), self.text.lower())


def _tokens(text: str) -> list[_Token]:
    found, position = [], 0
    stripped = text.rstrip()
    while position < len(stripped):
        match = _TOKEN.match(stripped, position)
        if match is None:
            column = position + len(text[position:]) - len(text[position:].lstrip()) + 1
            raise UsageError(f"filter: cannot read {text[column - 1]!r} at column {column}")
        group = match.lastindex or 0
        found.append(_Token(match[group], match.start(group) + 1, quoted=group in (2, 3)))
        position = match.end()
    found.append(_Token("the end", len(stripped) + 1, end=True))
    return found


def parse_filter(text: str, words: Words = CT_WORDS) -> Node | None:
    """The filter a text says of entries with these fields, None for an empty one.

    Raises UsageError, one line with the column.
    """
    if not text.strip():
        return None
    if len(text) > _LIMITS[0]:
        raise UsageError(f"filter: {len(text)} characters; at most {_LIMITS[0]}")
    return _Parser(_tokens(text), words).parse()


class _Parser:
    def __init__(self, tokens: list[_Token], words: Words) -> None:
        self._tokens = tokens
        self._words = words
        self._at = 0
        self._depth = 0

    def parse(self) -> Node:
        node = self._expression()
        if not self._token.end:
            raise self._error(f"expected 'and' or 'or' before {self._token.text!r}")
        return node

    @property
    def _token(self) -> _Token:
        return self._tokens[self._at]

    def _next(self) -> _Token:
        token = self._token
        self._at += not token.end
        return token

    def _accept(self, operator: str) -> bool:
        if self._token.operator == operator:
            self._at += 1
            return True
        return False

    def _error(self, message: str, token: _Token | None = None) -> UsageError:
        token = token or self._token
        return UsageError(f"filter: {message} (column {token.column})")

    def _expression(self) -> Node:
        self._depth += 1
        if self._depth > _LIMITS[1]:
            raise self._error(f"nested deeper than {_LIMITS[1]}")
        items = [self._conjunction()]
        while self._accept("or"):
            items.append(self._conjunction())
        self._depth -= 1
        return items[0] if len(items) == 1 else Or(tuple(items))

    def _conjunction(self) -> Node:
        items = [self._negation()]
        while self._accept("and"):
            items.append(self._negation())
        return items[0] if len(items) == 1 else And(tuple(items))

    def _negation(self) -> Node:
        inverted = False
        while self._accept("not"):
            inverted = not inverted
        if self._accept("("):
            node = self._expression()
            if not self._accept(")"):
                raise self._error(f"expected ')' instead of {self._token.text!r}")
        else:
            node = self._term()
        return Not(node) if inverted else node

    def _term(self) -> Node:
        token = self._next()
        if token.end:
            raise self._error("a condition is missing at the end", token)
        if token.operator == "flag" and self._token.text == "(":
            return self._flags()
        word = token.text.lower().replace("-", "_")
        if word in self._words.unclear and not token.quoted:
            raise self._error(f"{token.text} can be {' or '.join(self._words.unclear[word])} here: say which", token)
        name = printed.FIELDS.get(word) or self._words.aliases.get(word, word)
        following = self._token.operator
        if name in self._words.readers and not token.quoted:
            if following in _COMPARISONS or following in ("in", "not"):
                return self._comparison(name, word, token)
            if name in values.BOOLEANS:
                return Term(name, ("true",))
            raise self._error(f"expected an operator after {token.text!r}, for example {token.text} == …")
        if following in _COMPARISONS or following == "in":
            raise self._error(
                unknown_name("field", token.text, (*self._words.readers, *self._words.aliases, *printed.FIELDS)), token
            )
        return self._bare(token)

    def _bare(self, token: _Token) -> Node:
        """A condition that is only a value: ``tcp``, ``closing``, ``svc``, ``10.64.0.0/16``."""
        word = token.text.lower()
        for field, words in (("proto", values.PROTOCOLS), ("state", values.STATES), ("direction", values.DIRECTIONS)):
            if word in words:
                return Term(field, (values.READERS[field](word),))
        if re.fullmatch(r"[0-9a-f.:]+(/\d+)?", word) and ("." in word or ":" in word):
            return Term("ip", (self._read("ip", token),))
        names = (
            *self._words.readers,
            *self._words.aliases,
            *values.PROTOCOLS,
            *values.STATES,
            *values.DIRECTIONS,
            "flag",
        )
        raise self._error(unknown_name("field", token.text, names), token)

    def _comparison(self, field: str, word: str, named: _Token) -> Node:
        """A condition on ``field``, which was typed as ``word``."""
        operator = self._next().operator
        if operator == "not":
            if not self._accept("in"):
                raise self._error(f"expected 'in' after {named.text} not")
            return Not(self._one_of(field, word, self._set()))
        if operator == "in":
            return self._one_of(field, word, self._set())
        token = self._next()
        if operator in ("==", "=", "!="):
            node = self._one_of(field, word, [token])
            return Not(node) if operator == "!=" else node
        value = self._read(field, token)
        if field not in self._words.ordered or word in printed.FIELDS or not isinstance(value, Range):
            raise self._error(f"{named.text} has no order: use ==, != or in", named)
        return Term(field, (_bounded(operator, value),))

    def _one_of(self, field: str, word: str, tokens: list[_Token]) -> Node:
        """The field is one of these values, which may be as a table prints them."""
        plain: list[Value] = []
        nodes: list[Node] = []
        for token in tokens:
            try:
                node = None if token.end else printed.condition(word, field, token.text)
            except ValueError as error:
                raise self._error(f"{word}: {error}", token) from None
            if node is None:
                plain.append(self._read(field, token))
            elif isinstance(node, Term) and node.field == field:
                plain += node.values
            else:
                nodes.append(node)
        if plain:
            nodes.insert(0, Term(field, tuple(plain)))
        return nodes[0] if len(nodes) == 1 else Or(tuple(nodes))

    def _set(self) -> list[_Token]:
        closing = _CLOSING.get(self._token.text) if not self._token.quoted else None
        if closing is None:
            return [self._next()]
        self._next()
        found = [self._next()]
        while self._accept(","):
            found.append(self._next())
        if not self._accept(closing):
            raise self._error(f"expected ',' or {closing!r} instead of {self._token.text!r}")
        return found

    def _flags(self) -> Node:
        self._next()
        mask = 0
        while True:
            token = self._next()
            try:
                mask |= values.flag_mask(token.text)
            except ValueError as error:
                raise self._error(str(error), token) from None
            if self._accept(")"):
                return HasFlags(mask)
            if not self._accept(","):
                raise self._error(f"expected ',' or ')' instead of {self._token.text!r}")

    def _read(self, field: str, token: _Token) -> Value:
        if token.end:
            raise self._error(f"a value for {field} is missing at the end", token)
        try:
            return self._words.readers[field](token.text)
        except ValueError as error:
            raise self._error(f"{field}: {error}", token) from None


def _bounded(operator: str, value: Range) -> Range:
    if operator == "<":
        return Range(-MAX, value.low - 1)
    if operator == "<=":
        return Range(-MAX, value.high)
    if operator == ">":
        return Range(value.high + 1, MAX)
    return Range(value.low, MAX)
