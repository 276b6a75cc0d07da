"""Expressions over the columns of samples, such as `tab == 1 and label_mature`: parsed here, never evaluated as Python.

The grammar is Python's, cut down: names of columns, numbers, strings, True, False; `and`, `or`, `not`; comparisons,
also chained; `in (…)`; `is None`; + - * / % and a conditional `a if c else b`. A string is compared with a column of
strings, by == and != and `in` (words are stored as codes, which have no order and are no numbers), or stands for a time
where it is compared with a column of times, or a day with one of dates. A value that is missing makes what is computed
of it missing (as in SQL; `and` and `or` look at the other side first), and what is missing does not hold.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt

from ...schemas.errors import FeedError
from ...schemas.times import US_PER_DAY, TimeError, day_start_us, to_us
from ...storage.shard_arrays import Values
from ...storage.shard_manifest import Column

Array = npt.NDArray[Any]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Known:
    """Values, (S,) or a scalar, and where they are known; None is everywhere."""

    values: Any
    valid: Flags | None = None

    def true(self) -> Flags:
        """Where it is known to hold."""
        held = np.asarray(self.values).astype(np.bool_)
        return held if self.valid is None else held & self.valid


Columns = Mapping[str, Known]

_COMPARE: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: np.equal,
    ast.NotEq: np.not_equal,
    ast.Lt: np.less,
    ast.LtE: np.less_equal,
    ast.Gt: np.greater,
    ast.GtE: np.greater_equal,
}
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.true_divide,
    ast.Mod: np.mod,
}


class Expression:
    """A parsed expression. `columns` are those it reads.

    Args:
        text: the expression.
        known: the columns there are: their types by name.
        vocabularies: for each column of strings its words; a string compared with it becomes its word's code.

    Raises:
        FeedError: it cannot be parsed, holds something outside the grammar, or names a column that is not there.
    """

    def __init__(self, text: str, known: Mapping[str, str], vocabularies: Mapping[str, tuple[str, ...]]) -> None:
        if not isinstance(text, str):
            raise FeedError("not an expression", expected=f"a text such as {str(text)!r}", got=repr(text))
        self.text = text
        self._known = known
        self._vocabularies = vocabularies
        try:
            self._tree = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise FeedError("not an expression", where=repr(text), expected=_GRAMMAR, got=str(error)) from None
        self.columns = sorted({node.id for node in ast.walk(self._tree) if isinstance(node, ast.Name)})
        for name in self.columns:
            if name not in known:
                raise FeedError("no such column", where=repr(text), expected="one of " + ", ".join(known), got=name)
        # Once over nothing: what is outside the grammar is found here, not at the first batch.
        empty = {name: Known(np.zeros(0, dtype=Column(name, known[name]).dtype)) for name in self.columns}
        try:
            self.evaluate(empty)
        except RecursionError as error:
            raise FeedError("not an expression", where=repr(text), expected=_GRAMMAR, got=str(error)) from None

    def evaluate(self, columns: Columns) -> Known:
        """Its values over some samples."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return self._value(self._tree, columns)

    def _value(self, node: ast.expr, columns: Columns) -> Known:
        if isinstance(node, ast.Name):
            if node.id in self._vocabularies:
                raise FeedError(
                    "a column of strings where there is none to compare it with",
                    where=repr(self.text),
                    expected=f"{node.id} == 'word', {node.id} in ('one', 'other') or {node.id} is None",
                    got=node.id,
                )
            return columns[node.id]
        if isinstance(node, ast.Constant) and isinstance(node.value, bool | int | float):
            return Known(np.asarray(node.value))
        if isinstance(node, ast.BoolOp):
            every = isinstance(node.op, ast.And)
            return reduce(lambda a, b: _both(a, b, every), [self._value(n, columns) for n in node.values])
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            inner = self._value(node.operand, columns)
            return Known(~np.asarray(inner.values).astype(np.bool_), inner.valid)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            inner = self._value(node.operand, columns)
            return Known(np.negative(_number(inner)), inner.valid)
        if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
            left, right = self._value(node.left, columns), self._value(node.right, columns)
            return Known(_ARITHMETIC[type(node.op)](_number(left), _number(right)), _valid(left, right))
        if isinstance(node, ast.IfExp):
            test = self._value(node.test, columns).true()
            then, other = self._value(node.body, columns), self._value(node.orelse, columns)
            valid = None
            if then.valid is not None or other.valid is not None:
                valid = np.where(test, _flags(then), _flags(other))
            return Known(np.where(test, then.values, other.values), valid)
        if isinstance(node, ast.Compare):
            return self._compared(node, columns)
        raise FeedError("not allowed in an expression", where=repr(self.text), expected=_GRAMMAR, got=ast.unparse(node))

    def _compared(self, node: ast.Compare, columns: Columns) -> Known:
        sides = [node.left, *node.comparators]
        found = [self._pair(a, op, b, columns) for a, op, b in zip(sides, node.ops, sides[1:], strict=False)]
        return reduce(lambda a, b: _both(a, b, True), found)

    def _pair(self, left: ast.expr, op: ast.cmpop, right: ast.expr, columns: Columns) -> Known:
        if isinstance(op, ast.Is | ast.IsNot) and isinstance(right, ast.Constant) and right.value is None:
            missing = ~_flags(columns[left.id] if isinstance(left, ast.Name) else self._value(left, columns))
            return Known(missing if isinstance(op, ast.Is) else ~missing)
        if isinstance(op, ast.In | ast.NotIn) and isinstance(right, ast.Tuple | ast.List | ast.Set):
            equal = [self._pair(left, ast.Eq(), item, columns) for item in right.elts]
            found = reduce(lambda a, b: _both(a, b, False), equal, Known(np.asarray(False)))
            return found if isinstance(op, ast.In) else Known(~np.asarray(found.values), found.valid)
        if type(op) not in _COMPARE:
            raise FeedError(
                "not allowed in an expression", where=repr(self.text), expected=_GRAMMAR, got=ast.unparse(left)
            )
        alike = isinstance(op, ast.Eq | ast.NotEq)
        one, two = self._side(left, right, columns, alike), self._side(right, left, columns, alike)
        return Known(_COMPARE[type(op)](one.values, two.values), _valid(one, two))

    def _side(self, node: ast.expr, other: ast.expr, columns: Columns, alike: bool) -> Known:
        """One side of a comparison: a string is what the column on the other side makes of it."""
        if not _is_string(node):
            if alike and _is_string(other) and isinstance(node, ast.Name):
                return columns[node.id]
            return self._value(node, columns)
        name = other.id if isinstance(other, ast.Name) else None
        if name is not None and name in self._vocabularies and alike:
            words, word = self._vocabularies[name], str(node.value)
            # A word that no sample has is no word's code, and not that of a missing one either.
            return Known(np.asarray(words.index(word) if word in words else -2))
        kind = "" if name is None else self._known[name]
        if kind.startswith(("timestamp", "date")):
            try:
                text = str(node.value)
                return Known(np.asarray(day_start_us(text) // US_PER_DAY if kind[0] == "d" else to_us(text)))
            except TimeError as error:
                raise FeedError(error.what, where=repr(self.text), expected=error.expected, got=error.got) from None
        raise FeedError(
            "a string compared with what holds none",
            where=repr(self.text),
            expected="a column of strings, times or dates on the other side",
            got=ast.unparse(other),
        )


def known(values: Mapping[str, Values], vocabularies: Mapping[str, tuple[str, ...]]) -> dict[str, Known]:
    """Columns as they are read from shards; the code -1 stands for no word."""
    return {
        name: Known(read.array, read.array >= 0 if name in vocabularies else read.valid)
        for name, read in values.items()
    }


_GRAMMAR = "columns, numbers, strings, and, or, not, comparisons, in (…), is None, + - * / %, a if c else b"


def _is_string(node: ast.expr) -> TypeGuard[ast.Constant]:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _number(known: Known) -> Any:
    """The values, to be reckoned with: NumPy subtracts no booleans, and sums of small integers wrap around."""
    values = np.asarray(known.values)
    return values.astype(np.int64) if values.dtype.kind in "biu" else values


def _flags(known: Known) -> Flags:
    shape = np.shape(known.values)
    return np.ones(shape, dtype=np.bool_) if known.valid is None else known.valid


def _valid(left: Known, right: Known) -> Flags | None:
    if left.valid is None or right.valid is None:
        return right.valid if left.valid is None else left.valid
    return left.valid & right.valid


def _both(left: Known, right: Known, every: bool) -> Known:
    """Kleene's and (`every`) and or: one side that decides does so whatever is missing on the other."""
    a, b = np.asarray(left.values).astype(np.bool_), np.asarray(right.values).astype(np.bool_)
    values = a & b if every else a | b
    if left.valid is None and right.valid is None:
        return Known(values)
    known_a, known_b = _flags(left), _flags(right)
    decided = (known_a & ~a) | (known_b & ~b) if every else (known_a & a) | (known_b & b)
    valid = (known_a & known_b) | decided
    return Known(np.where(decided, not every, values), valid)
