"""The text of a pandas query as a Polars expression: `x == 1 and y in ["a", "b"]`. It is parsed, never run.

Of pandas' language: `and or not & | ~`; comparisons, chained ones and `in`; columns (`x`, `` `two words` ``, or
`col("x")`), values, lists of them, and times (`datetime.date(2024, 3, 1)`, `Timestamp("…")`); `+ - * / // % **`, `abs`,
`sqrt`, `exp`, `log`, `log10`, `floor` and `ceil` of numbers; of a column `.isin`, `.between`, `.isnull`, `.notnull`,
`.abs`, `.str.startswith`, `.endswith`, `.contains`, `.match`, `.fullmatch` (with `case`, `na`, `regex`), `.str.len`,
`.lower`, `.upper`, `.strip`, and `.dt.year` to `.dt.second`. What needs other rows (`x.mean()`, `index`) has no place
here: a condition says the same of a row whatever batch it comes in.
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
import pyarrow as pa

from ..schemas.errors import SuiteError
from .columns import HASHABLE, NUMBERS, ORDERED, Column, Kind, comparable, find
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
_CONSTANTS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
# A power is taken of columns only: that of two constants may be as long as it likes.
_ARITHMETIC = _CONSTANTS | {ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow}
_MAKERS = ("date", "datetime", "Timestamp")
_TYPES: Mapping[Kind, pa.DataType] = {
    "int": pa.int64(),
    "float": pa.float64(),
    "bool": pa.bool_(),
    "string": pa.large_string(),
}
_MATHS: Mapping[str, Callable[[pl.Expr], pl.Expr]] = {
    "sqrt": pl.Expr.sqrt,
    "exp": pl.Expr.exp,
    "log": pl.Expr.log,
    "log10": pl.Expr.log10,
    "floor": pl.Expr.floor,
    "ceil": pl.Expr.ceil,
}
_WORDS: Mapping[str, tuple[Kind, Callable[[pl.Expr], pl.Expr]]] = {
    "len": ("int", lambda value: value.str.len_chars().cast(pl.Int64)),
    "lower": ("string", lambda value: value.str.to_lowercase()),
    "upper": ("string", lambda value: value.str.to_uppercase()),
    "strip": ("string", lambda value: value.str.strip_chars()),
}
_TIMES: Mapping[str, Callable[[pl.Expr], pl.Expr]] = {
    "year": lambda value: value.dt.year(),
    "quarter": lambda value: value.dt.quarter(),
    "month": lambda value: value.dt.month(),
    "day": lambda value: value.dt.day(),
    "dayofyear": lambda value: value.dt.ordinal_day(),
    "dayofweek": lambda value: value.dt.weekday() - 1,  # pandas' Monday is 0, Polars' 1
    "weekday": lambda value: value.dt.weekday() - 1,
    "hour": lambda value: value.dt.hour(),
    "minute": lambda value: value.dt.minute(),
    "second": lambda value: value.dt.second(),
}
_METHODS = (
    "isnull",
    "isna",
    "notnull",
    "notna",
    "isin",
    "between",
    "startswith",
    "endswith",
    "contains",
    "match",
    "fullmatch",
)
_SEARCHES: Mapping[str, str] = {"contains": "{}", "match": r"\A(?:{})", "fullmatch": r"\A(?:{})\Z"}


class Query:
    """Conditions on `columns`; `where` stands in errors. Each method that gives an expression gives it null-free."""

    def __init__(self, columns: Mapping[str, Column], where: str) -> None:
        self.columns = columns
        self.where = where
        self._made = next((type(column) for column in columns.values()), Column)

    def error(self, what: str, got: object) -> SuiteError:
        return SuiteError(
            what,
            where=self.where,
            expected='comparisons of columns with values, joined by and, or, not: x == 1 and y in ["a", "b"]',
            got=got,
        )

    def column(self, name: object) -> Column:
        """
        Raises:
            SuiteError: there is no such column.
        """
        column = find(self.columns, name) if isinstance(name, str) else None
        if column is None:
            raise SuiteError(
                "a column that does not exist",
                where=self.where,
                expected="one of " + ", ".join(self.columns),
                got=repr(name),
            )
        return column

    def compare(self, column: Column, op: object, parameter: Any) -> pl.Expr:
        """A column with a value; equal to a list means in it, as pandas has it.

        Raises:
            SuiteError: they do not compare.
        """
        if isinstance(parameter, list) and op in ("==", "!="):
            op = "IN" if op == "==" else "NOT_IN"
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

    def text(self, text: str) -> pl.Expr:
        """
        Raises:
            SuiteError: a text that has no sound meaning here.
        """
        # pandas writes names that are not identifiers in backticks; col("x") is the same to the parser below.
        quoted = re.sub(r"`([^`]+)`", lambda m: f"col({m.group(1)!r})", text.strip())
        try:
            tree = ast.parse(_as_python(quoted), mode="eval").body
        except (SyntaxError, ValueError, tokenize.TokenError, RecursionError, MemoryError):
            raise self.error("a condition that cannot be parsed", text) from None
        try:
            found = self.condition(tree)
        except RecursionError:
            found = None
        if found is None:
            raise self.error("a condition that cannot be evaluated", text)
        return found

    def condition(self, tree: ast.expr) -> pl.Expr | None:
        """Whether a row is kept; None: the text means no such thing."""
        match tree:
            case ast.BoolOp(op, values):
                parts = [self.condition(value) for value in values]
                kept = [part for part in parts if part is not None]
                how = operator.and_ if isinstance(op, ast.And) else operator.or_
                return functools.reduce(how, kept) if len(kept) == len(parts) else None
            case ast.UnaryOp(ast.Not() | ast.Invert(), operand):
                part = self.condition(operand)
                return None if part is None else ~part
            case ast.Compare(left, ops, rights) if all(type(op) in _AST_OPERATORS for op in ops):
                sides = [left, *rights]
                pairs = zip(sides, ops, rights, strict=False)
                parts = [self.comparison(a, _AST_OPERATORS[type(op)], b) for a, op, b in pairs]
                return functools.reduce(operator.and_, [part for part in parts if part is not None])
            case ast.Call(ast.Attribute(owner, method), arguments, keywords) if method.lower() in _METHODS:
                return self.method(owner, method.lower(), arguments, {str(k.arg): k.value for k in keywords})
        column = self.operand(tree)
        return column.value.fill_null(False) if column is not None and column.kind == "bool" else None

    def comparison(self, left: ast.expr, op: str, right: ast.expr) -> pl.Expr:
        a, b = self.operand(left), self.operand(right)
        if a is not None and b is None:
            return self.compare(a, op, self.value(right))
        if b is not None and a is None and op in _FLIPPED:
            return self.compare(b, _FLIPPED[op], self.value(left))
        if a is None or b is None or op not in _COMPARE:
            raise self.error("a condition that cannot be evaluated", f"{ast.unparse(left)} {op} {ast.unparse(right)}")
        if not comparable(a, b):
            raise self.error("columns that do not compare", f"{a.name} ({a.type}) and {b.name} ({b.type})")
        result: pl.Expr = _COMPARE[op](a.value, b.value)
        return result.fill_null(op == "!=")

    def method(
        self, owner: ast.expr, method: str, given: Sequence[ast.expr], options: Mapping[str, ast.expr]
    ) -> pl.Expr | None:
        """A method that gives true or false; None: it is none of those."""
        if isinstance(owner, ast.Attribute) and owner.attr == "str" and len(given) == 1:
            column = self.operand(owner.value)
            return None if column is None else self.search(column, method, self.value(given[0]), options)
        column, values = self.operand(owner), [self.value(each) for each in given]
        if column is None or set(options) > {"inclusive"}:
            return None
        ends = self.value(options["inclusive"]) if options else "both"
        match method, values:
            case (("isnull" | "isna"), []):
                return ~column.present
            case (("notnull" | "notna"), []):
                return column.present
            case "isin", [listed]:
                return self.compare(column, "IN", listed)
            case "between", [low, high] if ends in ("both", "left", "right", "neither"):
                above = self.compare(column, ">=" if ends in ("both", "left") else ">", low)
                return above & self.compare(column, "<=" if ends in ("both", "right") else "<", high)
        return None

    def search(self, column: Column, method: str, wanted: Any, given: Mapping[str, ast.expr]) -> pl.Expr | None:
        """`.str.startswith` and its like; `na`, which pandas asks for, is what missing strings give: False."""
        options = {name: self.value(value) for name, value in given.items()}
        missing, regex, case = options.pop("na", False), options.pop("regex", True), options.pop("case", True)
        if column.kind != "string" or options or not {missing, regex, case} <= {True, False}:
            return None
        if method in ("startswith", "endswith") and set(given) <= {"na"}:
            words = wanted if isinstance(wanted, list) else [wanted]
            if not words or not all(isinstance(word, str) for word in words):
                return None
            ends = [column.raw.str.starts_with(w) if method[0] == "s" else column.raw.str.ends_with(w) for w in words]
            found = functools.reduce(operator.or_, ends)
        elif method in _SEARCHES and isinstance(wanted, str) and (regex or method == "contains"):
            pattern = _SEARCHES[method].format(wanted) if regex else re.escape(wanted)
            found = column.raw.str.contains(to_rust(pattern if case else f"(?i){pattern}", where=self.where))
        else:
            return None
        return found.fill_null(bool(missing))

    def operand(self, tree: ast.expr) -> Column | None:
        """A column, or what is worked out of columns and compares like one; None: a value, or nothing known."""
        match tree:
            case ast.Name(name) | ast.Call(ast.Name("col"), [ast.Constant(str(name))], []):
                return self.column(name)
            case ast.BinOp(left, op, right) if type(op) in _ARITHMETIC:
                return self.arithmetic(tree, left, type(op), right)
            case ast.UnaryOp(ast.USub(), inner):
                return self.worked(tree, inner, operator.neg)
            case ast.Call(ast.Name("abs"), [inner], []) | ast.Call(ast.Attribute(inner, "abs"), [], []):
                return self.worked(tree, inner, pl.Expr.abs)
            case ast.Call(ast.Name(name), [inner], []) if name in _MATHS:
                return self.worked(tree, inner, _MATHS[name], floats=True)
            case ast.Call(ast.Attribute(ast.Attribute(inner, "str"), name), [], []) if name in _WORDS:
                column, (kind, function) = self.operand(inner), _WORDS[name]
                return self.made(tree, kind, function(column.raw)) if column and column.kind == "string" else None
            case ast.Attribute(ast.Attribute(inner, "dt"), name) if name in _TIMES:
                column = self.operand(inner)
                dated = column is not None and column.kind in ("time", "date")
                return self.made(tree, "int", _TIMES[name](column.raw).cast(pl.Int64)) if column and dated else None
            case ast.Compare() | ast.BoolOp() | ast.UnaryOp(ast.Not() | ast.Invert()):
                rows = self.condition(tree)
                return None if rows is None else self.made(tree, "bool", rows)
            case ast.Call(ast.Attribute(_, name)) if name.lower() in _METHODS:
                rows = self.condition(tree)
                return None if rows is None else self.made(tree, "bool", rows)
        return None

    def arithmetic(self, tree: ast.expr, left: ast.expr, op: type[ast.operator], right: ast.expr) -> Column | None:
        a, b = self.operand(left), self.operand(right)
        if a is None and b is None:
            return None
        sides = [self.number(a, left), self.number(b, right)]
        floats = op in (ast.Div, ast.Pow) or any(kind == "float" for kind, _ in sides)
        one, other = (value.cast(pl.Float64) if floats else value for _, value in sides)
        return self.made(tree, "float" if floats else "int", _ARITHMETIC[op](one, other))

    def worked(
        self, tree: ast.expr, inner: ast.expr, function: Callable[[pl.Expr], pl.Expr], *, floats: bool = False
    ) -> Column | None:
        """A function of a number."""
        column = self.operand(inner)
        if column is None:
            return None
        kind, value = self.number(column, inner)
        return (
            self.made(tree, "float", function(value.cast(pl.Float64)))
            if floats
            else self.made(tree, kind, function(value))
        )

    def number(self, column: Column | None, tree: ast.expr) -> tuple[Kind, pl.Expr]:
        """Wide enough to be reckoned with: a small integer would wrap."""
        value = self.value(tree) if column is None else None
        if column is None and isinstance(value, int | float) and not isinstance(value, bool):
            return ("int", pl.lit(value, pl.Int64)) if isinstance(value, int) else ("float", pl.lit(value))
        if column is None or column.kind not in NUMBERS:
            raise self.error("a comparison that has no meaning", ast.unparse(tree))
        if column.kind == "int":
            return "int", column.raw.cast(pl.Int128 if column.type == pa.uint64() else pl.Int64)
        return "float", column.value.cast(pl.Float64)

    def made(self, tree: ast.expr, kind: Kind, value: pl.Expr) -> Column:
        return self._made(ast.unparse(tree), _TYPES[kind], kind, value)

    def value(self, tree: ast.expr) -> Any:
        """What stands for itself: a literal, a sum of such, or a date or time by its parts or in words.

        Raises:
            SuiteError: it does not.
        """
        match tree:
            case ast.Call(ast.Name(name) | ast.Attribute(_, name), arguments, keywords) if name in _MAKERS:
                given = [self.value(each) for each in arguments]
                zone = [k for k in keywords if k.arg == "tzinfo" and ast.unparse(k.value).endswith(("UTC", "utc"))]
                if len(given) == 1 and isinstance(given[0], str) and not keywords:
                    return given[0]
                if given and all(isinstance(each, int) for each in given) and len(zone) == len(keywords):
                    return self.time(name, given, tree, utc=bool(zone))
            case ast.BinOp(left, op, right) if type(op) in _CONSTANTS:
                sides = [self.value(left), self.value(right)]
                if all(isinstance(side, int | float) for side in sides) and not (type(op) is ast.Div and not sides[1]):
                    return _CONSTANTS[type(op)](*sides)
        try:
            value = ast.literal_eval(tree)
        except (ValueError, TypeError, SyntaxError):
            raise self.error("a condition that cannot be evaluated", ast.unparse(tree)) from None
        return list(value) if isinstance(value, tuple | set) else value

    def time(self, name: str, parts: list[int], tree: ast.expr, *, utc: bool) -> date:
        try:
            if name == "date":
                return date(*parts)
            made = datetime(*parts)  # type: ignore[arg-type]
        except (ValueError, TypeError, OverflowError):
            raise self.error("a time that does not exist", ast.unparse(tree)) from None
        return made.replace(tzinfo=UTC) if utc else made


def _as_python(text: str) -> str:
    """`&` and `|` as pandas reads them: `and`, `or`, which bind less than a comparison does."""
    words = {"&": "and", "|": "or"}
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    pairs = [(tokenize.NAME, f" {words[word]} ") if word in words else (kind, word) for kind, word, *_ in tokens]
    return tokenize.untokenize(pairs).strip()
