"""GX's `row_condition` as a Polars expression: which rows an expectation looks at.

Two forms, both GX 1.24's own and both with the meaning its pandas engine gives them: the structured one
(`{"type": "comparison", "column": {"name": "x"}, "operator": "==", "parameter": 1}`, and "nullity", "and", "or"), and
the text of a pandas query (`x == 1 and y in ["a", "b"]`), where `col("x")` may be written for `x`. Of pandas' language:
`and or not & | ~`, comparisons of columns with values, with each other and with sums of them, chained ones, `in`,
`isin`, `between`, `isnull`, `notnull`, `.str.startswith`, `.endswith` and `.contains`, and `datetime.date(2024, 3, 1)`.
A comparison with a missing value is false, except `!=` and `not in`, which are true. A text is parsed, never run.
"""

from __future__ import annotations

import ast
import functools
import io
import operator
import re
import tokenize
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

import polars as pl

from ..schemas.errors import SuiteError
from .columns import HASHABLE, NUMBERS, ORDERED, Column, comparable, find
from .patterns import to_rust

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
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
_MAKERS = ("date", "datetime", "Timestamp")
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
        column = find(self.columns, name) if isinstance(name, str) else None
        if column is None:
            raise SuiteError(
                "a column that does not exist",
                where=self.where,
                expected="one of " + ", ".join(self.columns),
                got=repr(name),
            )
        return column

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
        if literal is None and ordered:
            raise self.error("a comparison that has no meaning", f"{column.name} ({column.type}) {op} {parameter!r}")
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
            tree = ast.parse(_as_python(quoted), mode="eval").body
        except (SyntaxError, ValueError, tokenize.TokenError):
            raise self.error("a condition that cannot be parsed", text) from None
        return self.node(tree, text)

    def node(self, tree: ast.expr, text: str) -> pl.Expr:
        match tree:
            case ast.BoolOp(op, values):
                join = operator.and_ if isinstance(op, ast.And) else operator.or_
                return functools.reduce(join, [self.node(value, text) for value in values])
            case ast.UnaryOp(ast.Not() | ast.Invert(), operand):
                return ~self.node(operand, text)
            case ast.Call(ast.Attribute(owner, method), arguments, []) if self.name(owner) is not None:
                return self.method(self.column(self.name(owner)), method.lower(), arguments, text)
            case ast.Call(ast.Attribute(ast.Attribute(owner, "str"), method), [ast.Constant(str(value))], []):
                column = self.column(self.name(owner))
                if column.kind == "string" and method in ("startswith", "endswith", "contains"):
                    return self.search(column, method, value)
            case ast.Compare(left, ops, rights) if all(type(op) in _AST_OPERATORS for op in ops):
                sides = [left, *rights]
                parts = [
                    self.comparison(a, _AST_OPERATORS[type(op)], b, text)
                    for a, op, b in zip(sides, ops, rights, strict=False)
                ]
                return functools.reduce(operator.and_, parts)
            case _ if self.name(tree) is not None and self.column(self.name(tree)).kind == "bool":
                return self.column(self.name(tree)).value.fill_null(False)
        raise self.error("a condition that cannot be evaluated", text)

    def method(self, column: Column, method: str, arguments: Sequence[ast.expr], text: str) -> pl.Expr:
        if method in ("isnull", "isna", "notnull", "notna") and not arguments:
            return column.present if method.startswith("not") else ~column.present
        if method == "isin" and len(arguments) == 1:
            return self.compare(column.name, "IN", self.value(arguments[0], text))
        if method == "between" and len(arguments) == 2:
            low, high = (self.value(each, text) for each in arguments)
            return self.compare(column.name, ">=", low) & self.compare(column.name, "<=", high)
        raise self.error("a condition that cannot be evaluated", text)

    def search(self, column: Column, method: str, value: str) -> pl.Expr:
        if method == "startswith":
            found = column.raw.str.starts_with(value)
        elif method == "endswith":
            found = column.raw.str.ends_with(value)
        else:
            found = column.raw.str.contains(to_rust(value, where=self.where))
        return found.fill_null(False)

    def comparison(self, left: ast.expr, op: str, right: ast.expr, text: str) -> pl.Expr:
        if op in ("IN", "NOT_IN"):
            return self.compare(self.name(left), op, self.value(right, text))
        a, b = self.operand(left, text), self.operand(right, text)
        if a is None and b is None:
            raise self.error("a condition that cannot be evaluated", text)
        if isinstance(a, Column) and b is None:
            return self.compare(a.name, op, self.value(right, text))
        if a is None and isinstance(b, Column):
            return self.compare(b.name, _FLIPPED[op], self.value(left, text))
        if isinstance(a, Column) and isinstance(b, Column) and not comparable(a, b):
            raise self.error("columns that do not compare", f"{a.name} ({a.type}) and {b.name} ({b.type})")
        sides = [self.number(side, tree, text) for side, tree in ((a, left), (b, right))]
        if isinstance(a, Column) and isinstance(b, Column):
            sides = [a.value, b.value]
        result: pl.Expr = _COMPARE[op](*sides)
        return result.fill_null(op == "!=")

    def operand(self, tree: ast.expr, text: str) -> Column | pl.Expr | None:
        """A column, arithmetic with columns of numbers, or None: a value."""
        if self.name(tree) is not None:
            return self.column(self.name(tree))
        if not isinstance(tree, ast.BinOp) or type(tree.op) not in _ARITHMETIC:
            return None
        sides = [(self.operand(side, text), side) for side in (tree.left, tree.right)]
        if all(side is None for side, _ in sides):
            return None
        numbers = [self.number(side, inner, text) for side, inner in sides]
        result: pl.Expr = _ARITHMETIC[type(tree.op)](*numbers)
        return result

    def number(self, operand: Column | pl.Expr | None, tree: ast.expr, text: str) -> pl.Expr:
        if isinstance(operand, Column) and operand.kind in NUMBERS:
            return operand.value
        if isinstance(operand, pl.Expr):
            return operand
        value = self.value(tree, text) if operand is None else None
        if isinstance(operand, Column) or isinstance(value, bool) or not isinstance(value, int | float):
            return self.any_side(operand, text)
        return pl.lit(value)

    def any_side(self, operand: Column | pl.Expr | None, text: str) -> pl.Expr:
        """A column of no numbers, which is compared with another of its kind; nothing else will do."""
        if isinstance(operand, Column) and operand.kind in HASHABLE:
            return operand.value
        raise self.error("a comparison that has no meaning", text)

    def value(self, tree: ast.expr, text: str) -> Any:
        """What stands for itself: a literal, or a date or time by its parts or in words."""
        match tree:
            case ast.Call(ast.Name("date" | "Timestamp" | "datetime") | ast.Attribute(), arguments, keywords):
                name = ast.unparse(tree.func).rpartition(".")[2]
                if name in _MAKERS:
                    given = [self.value(each, text) for each in arguments]
                    zone = [k for k in keywords if k.arg == "tzinfo" and ast.unparse(k.value).endswith(("UTC", "utc"))]
                    if len(given) == 1 and isinstance(given[0], str) and not keywords:
                        return given[0]
                    if given and all(isinstance(each, int) for each in given) and len(zone) == len(keywords):
                        return _made(name, given, utc=bool(zone))
        try:
            value = ast.literal_eval(tree)
        except (ValueError, TypeError, SyntaxError):
            raise self.error("a condition that cannot be evaluated", text) from None
        return list(value) if isinstance(value, tuple | set) else value

    @staticmethod
    def name(tree: ast.expr) -> str | None:
        match tree:
            case ast.Name(id):
                return id
            case ast.Call(ast.Name("col"), [ast.Constant(str(value))], []):
                return value
            case _:
                return None


def _made(name: str, parts: list[int], *, utc: bool) -> date:
    if name == "date":
        return date(*parts)
    made = datetime(*parts)  # type: ignore[arg-type]
    return made.replace(tzinfo=UTC) if utc else made


def _as_python(text: str) -> str:
    """`&` and `|` as pandas reads them: `and`, `or`, which bind less than a comparison does."""
    words = {"&": "and", "|": "or"}
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    pairs = [(tokenize.NAME, f" {words[word]} ") if word in words else (kind, word) for kind, word, *_ in tokens]
    return tokenize.untokenize(pairs).strip()
