"""The language of a swap matrix: which models may be in memory together, as an expression.

``a & b`` allows two models together, ``a | b`` either, ``+name`` what the set *name* allows, and
``2 of (a, b, c)`` any two. ``&`` binds tighter than ``|``. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

Operator = Literal["model", "set", "and", "or", "of"]

NAME = re.compile(r"[\w.-]+")
"""What a name consists of; one with other characters needs a variable."""
MAX_DEPTH = 50
"""Parentheses within parentheses."""

_TOKEN = re.compile(r"\s*(?:([&|(),])|\+([\w.-]+)|([\w.-]+)|(\S))")


class ExpressionError(Exception):
    """An expression is not one. *at* is the index of the character."""

    def __init__(self, what: str, fix: str, at: int) -> None:
        self.what = what
        self.fix = fix
        self.at = at
        super().__init__(f"{what} - {fix}")


@dataclass(frozen=True, slots=True)
class Expression:
    """A node of an expression: a model, a reference to a set, or an operator with its operands.

    *name* is that of the model or set, *count* how many operands ``of`` takes, *at* the index of
    the name in the text.
    """

    op: Operator
    name: str = ""
    count: int = 0
    operands: tuple[Expression, ...] = ()
    at: int = field(default=0, compare=False, repr=False)

    def __str__(self) -> str:
        if self.op in ("model", "set"):
            return self.name if self.op == "model" else f"+{self.name}"
        if self.op == "of":
            return f"{self.count} of ({', '.join(map(str, self.operands))})"
        sign = " & " if self.op == "and" else " | "
        return sign.join(
            f"({each})" if each.op == "or" and self.op == "and" else str(each)
            for each in self.operands
        )

    def leaves(self) -> Iterator[Expression]:
        """Yield the models and references to sets, from left to right."""
        if self.op in ("model", "set"):
            yield self
        for operand in self.operands:
            yield from operand.leaves()

    def renamed(self, model_of: Callable[[str], str]) -> Expression:
        """Return the same expression with each name of a model replaced, without positions."""
        if self.op in ("model", "set"):
            return Expression(self.op, model_of(self.name) if self.op == "model" else self.name)
        operands = tuple(each.renamed(model_of) for each in self.operands)
        return replace(self, operands=operands, at=0)


def parse(text: str) -> Expression:
    """Return the expression in *text*. Raises: ExpressionError, with the place."""
    parser = _Parser(text)
    if not parser.tokens:
        raise ExpressionError("is empty", "write the models that may run together: a & b", 0)
    found = parser.alternatives(0)
    if parser.token is not None:
        raise parser.unexpected()
    return found


@dataclass(frozen=True, slots=True)
class _Token:
    kind: Literal["sign", "set", "name"]
    text: str
    at: int


def _tokens(text: str) -> Iterator[_Token]:
    for match in _TOKEN.finditer(text):
        sign, reference, name, other = match.groups()
        at = match.start(match.lastindex or 0)
        if other == "+":
            fix = "write the name of the set directly after it, as in +small"
            raise ExpressionError("+ stands alone", fix, at)
        if other is not None:
            fix = "a name has letters, digits, _ - and .; give a model of another name a short one"
            raise ExpressionError(f'unexpected "{other}"', f"{fix} under vars", at)
        if sign:
            yield _Token("sign", sign, at)
        else:
            yield _Token("set" if reference else "name", reference or name, at)


class _Parser:
    """Recursive descent over the tokens of one text."""

    def __init__(self, text: str) -> None:
        self.tokens = list(_tokens(text))
        self._next = 0
        self._end = len(text)

    @property
    def token(self) -> _Token | None:
        """The next token, None at the end."""
        return self.tokens[self._next] if self._next < len(self.tokens) else None

    def alternatives(self, depth: int) -> Expression:
        """Read operands with ``|`` between them."""
        found = [self._together(depth)]
        while self._takes("|"):
            found.append(self._together(depth))
        return found[0] if len(found) == 1 else Expression("or", operands=tuple(found))

    def unexpected(self) -> ExpressionError:
        """Return the error of a token that cannot stand where it does."""
        token = self.token
        if token is None:
            return ExpressionError("ends where a name has to follow", "complete it", self._end)
        if token.kind == "sign" and token.text == ",":
            fix = "commas stand between the operands of `2 of (a, b, c)` only; use & or |"
            return ExpressionError('unexpected ","', fix, token.at)
        if token.kind == "sign" and token.text == ")":
            return ExpressionError('")" closes nothing', 'remove it, or write its "("', token.at)
        fix = "put & (both run) or | (either runs) between them"
        return ExpressionError(f'"{token.text}" follows an operand directly', fix, token.at)

    def _together(self, depth: int) -> Expression:
        found = [self._operand(depth)]
        while self._takes("&"):
            found.append(self._operand(depth))
        return found[0] if len(found) == 1 else Expression("and", operands=tuple(found))

    def _operand(self, depth: int) -> Expression:
        token = self.token
        if token is None:
            raise self.unexpected()
        if token.kind != "sign":
            self._next += 1
            if token.kind == "name" and self._is_of():
                return self._any_of(token, depth)
            return Expression("model" if token.kind == "name" else "set", token.text, at=token.at)
        if token.text != "(":
            fix = "write a name, a set or parentheses there"
            raise ExpressionError(f'an operand is missing before "{token.text}"', fix, token.at)
        self._next += 1
        found = self.alternatives(self._deeper(depth, token))
        self._close(token)
        return found

    def _is_of(self) -> bool:
        following = self.tokens[self._next : self._next + 2]
        return [(each.kind, each.text) for each in following] == [("name", "of"), ("sign", "(")]

    def _any_of(self, number: _Token, depth: int) -> Expression:
        """Read ``(a, b, c)`` after the number and ``of``."""
        opening = self.tokens[self._next + 1]
        self._next += 2
        below = self._deeper(depth, opening)
        found = [self.alternatives(below)]
        while self._takes(","):
            found.append(self.alternatives(below))
        self._close(opening)
        count = int(number.text) if number.text.isdecimal() and len(number.text) < 6 else 0
        if not 1 <= count <= len(found):
            what = f'"{number.text}" of {len(found)} is not possible'
            fix = f"write a number from 1 to {len(found)} before `of`"
            raise ExpressionError(what, fix, number.at)
        return Expression("of", count=count, operands=tuple(found))

    def _takes(self, sign: str) -> bool:
        token = self.token
        taken = token is not None and token.kind == "sign" and token.text == sign
        self._next += taken
        return taken

    def _close(self, opening: _Token) -> None:
        if self._takes(")"):
            return
        if self.token is None:
            raise ExpressionError('"(" is not closed', 'write its ")"', opening.at)
        raise self.unexpected()

    @staticmethod
    def _deeper(depth: int, opening: _Token) -> int:
        if depth == MAX_DEPTH:
            what = f"more than {MAX_DEPTH} parentheses within each other"
            raise ExpressionError(what, "make a set of the inner part, and write +name", opening.at)
        return depth + 1
