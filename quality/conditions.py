"""GX's `row_condition` as a Polars expression: which rows an expectation looks at.

Two forms, both GX 1.24's own and both with the meaning its pandas engine gives them: the structured one
(`{"type": "comparison", "column": {"name": "x"}, "operator": "==", "parameter": 1}`, and "nullity", "and", "or"), and
the text of a pandas query (`x == 1 and y in ["a", "b"]`), where `col("x")` may be written for `x`.
A comparison with a missing value is false, except `!=` and `not in`, which are true. A text is parsed, never run.
"""

from __future__ import annotations

import ast
import functools
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

import polars as pl

from ..schemas.errors import SuiteError
from .columns import HASHABLE, ORDERED, Column

_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_FLIPPED = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_AST_OPERATORS: dict[type[ast.cmpop], str] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.In: "IN",
    ast.NotIn: "NOT_IN",
}
_PARSERS = (None, "pandas", "great_expectations", "great_expectations__experimental__")


def compile_condition(raw: Any, parser: Any, columns: Mapping[str, Column], *, where: str) -> pl.Expr:
    """Rows for which the condition holds, as booleans without null.

    Raises:
        SuiteError: a form, column, operator or value that has no sound meaning here.
    """
    condition = _Condition(columns, f"{where}, row_condition")
    if isinstance(raw, dict):
        return condition.structured(raw)
    if isinstance(raw, str) and parser in _PARSERS:
        return condition.text(raw)
    raise condition.error("a condition that cannot be evaluated", raw if parser in _PARSERS else f"parser {parser!r}")


class _Condition:
    def __init__(self, columns: Mapping[str, Column], where: str) -> None:
        self.columns = columns
        self.where = where

    def error(self, what: str, got: object) -> SuiteError:
        return SuiteError(
            what,
            where=self.where,
            expected='comparisons of columns with values, joined by and, or, not: x == 1 and y in ["a", "b"]',
            got=got,
        )

    def column(self, name: object) -> Column:
        if not isinstance(name, str) or name not in self.columns:
            raise SuiteError(
                "a column that does not exist",
                where=self.where,
                expected="one of " + ", ".join(self.columns),
                got=repr(name),
            )
        return self.columns[name]

    def compare(self, name: object, op: object, parameter: Any) -> pl.Expr:
        column = self.column(name)
        if op in ("IN", "NOT_IN"):
            if not isinstance(parameter, list) or column.kind not in HASHABLE:
                raise self.error("not a list of values", f"{column.name} {op} {parameter!r}")
            values = [column.literal(value, where=self.where) for value in parameter]
            found = functools.reduce(operator.or_, [column.value == value for value in values], pl.lit(False))
            return found.fill_null(False) if op == "IN" else ~found.fill_null(False)
        ordered = op in ("<", "<=", ">", ">=")
        if op not in _COMPARE or column.kind not in (ORDERED if ordered else HASHABLE):
            raise self.error("a comparison that has no meaning", f"{column.name} ({column.type}) {op}")
        literal = column.literal(parameter, where=self.where)
        result: pl.Expr = _COMPARE[str(op)](column.value, pl.lit(literal))
        return result.fill_null(op == "!=")

    def structured(self, node: Any) -> pl.Expr:
        match node:
            case {"type": "comparison", "column": {"name": name}, "operator": op, "parameter": parameter}:
                return self.compare(name, op, parameter)
            case {"type": "nullity", "column": {"name": name}, "is_null": bool(is_null)}:
                present = self.column(name).present
                return ~present if is_null else present
            case {"type": "and", "conditions": [_, *_] as parts}:
                return functools.reduce(operator.and_, [self.structured(part) for part in parts])
            case {"type": "or", "conditions": [_, *_] as parts}:
                return functools.reduce(operator.or_, [self.structured(part) for part in parts])
            case {"type": "pass_through", "pass_through_filter": str(text)}:
                return self.text(text)
            case _:
                raise self.error("a condition that cannot be evaluated", repr(node))

    def text(self, text: str) -> pl.Expr:
        # pandas writes names that are not identifiers in backticks; col("x") is the same to the parser below.
        quoted = re.sub(r"`([^`]+)`", lambda m: f"col({m.group(1)!r})", text.strip())
        try:
            tree = ast.parse(quoted, mode="eval").body
        except (SyntaxError, ValueError):
            raise self.error("a condition that cannot be parsed", text) from None
        return self.node(tree, text)

    def node(self, tree: ast.expr, text: str) -> pl.Expr:
        match tree:
            case ast.BoolOp(op, values):
                join = operator.and_ if isinstance(op, ast.And) else operator.or_
                return functools.reduce(join, [self.node(value, text) for value in values])
            case ast.BinOp(left, ast.BitAnd() | ast.BitOr() as op, right):
                # To Python `&` binds tighter than `==`, to pandas it does not: without parentheses an operand is not
                # a condition and is refused below.
                join = operator.and_ if isinstance(op, ast.BitAnd) else operator.or_
                return join(self.node(left, text), self.node(right, text))  # type: ignore[no-any-return]
            case ast.UnaryOp(ast.Not() | ast.Invert(), operand):
                return ~self.node(operand, text)
            case ast.Call(ast.Attribute(owner, "isnull" | "isna" | "notnull" | "notna" as test), [], []):
                present = self.column(self.name(owner)).present
                return present if test.startswith("not") else ~present
            case ast.Compare(left, [op], [right]) if type(op) in _AST_OPERATORS:
                return self.comparison(left, _AST_OPERATORS[type(op)], right, text)
            case _:
                raise self.error("a condition that cannot be evaluated", text)

    def comparison(self, left: ast.expr, op: str, right: ast.expr, text: str) -> pl.Expr:
        name = self.name(left)
        if name is None and self.name(right) is not None and op in _FLIPPED:
            name, op, right = self.name(right), _FLIPPED[op], left
        try:
            value = ast.literal_eval(right)
        except (ValueError, TypeError, SyntaxError):
            raise self.error("a condition that cannot be evaluated", text) from None
        if name is None:
            raise self.error("a condition that cannot be evaluated", text)
        return self.compare(name, op, list(value) if isinstance(value, tuple | list) else value)

    @staticmethod
    def name(tree: ast.expr) -> str | None:
        match tree:
            case ast.Name(id):
                return id
            case ast.Call(ast.Name("col"), [ast.Constant(str(value))], []):
                return value
            case _:
                return None
