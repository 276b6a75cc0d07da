"""One expectation of a suite while it is compiled, and the two kinds of check that come of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import polars as pl

from ..schemas.errors import SuiteError
from .columns import Column, Kind, find
from .facts import Facts, Proof

Severity = Literal["critical", "error", "warning"]
PERSONAL = "(personal data)"  # in place of a value that nobody is to be shown
DAYS, DAYS_LEAST, WIDTH = 28, 14, 3.5  # what bounds from history are of, where a suite does not say
COMMON_KEYS = frozenset({"row_condition", "condition_parser", "batch_id"})


class Outcome(NamedTuple):
    """What a batch-level check saw: whether it is met, the raw value, and the value written for a person."""

    success: bool
    value: Any
    observed: str


@dataclass(frozen=True, slots=True)
class FromHistory:
    """Bounds are learnt from the `last` days before the one that is judged, `least` of them at least; see history.py.

    `width`: how many spreads a day may be off. `fixed`: the expectation has bounds of its own, which hold besides.
    """

    last: int
    least: int
    width: float
    fixed: bool


@dataclass(frozen=True, slots=True)
class RowCheck:
    """A check with an answer for every row.

    `fails` has no nulls. `evaluated` is a count: what `mostly` is a share of. `got` is evaluated on failing rows only.
    `together`: the columns of whose values rows are looked at together (is there another of the same?); of most checks
    there are none, as they look at a row alone. `vouched`: a row may pass because of one of those, as an outcome does
    because of its exposure; elsewhere more rows can only make more fail. `proof`: what may show, of all rows at once,
    that none fails.
    """

    type: str
    columns: tuple[str, ...]
    severity: Severity
    expected: str
    mostly: float
    fails: pl.Expr
    evaluated: pl.Expr
    got: pl.Expr
    together: frozenset[str] = frozenset()
    vouched: bool = False
    proof: Proof | None = None

    def masked(self) -> RowCheck:
        """The same check, of a column whose values nobody is to be shown."""
        return replace(self, got=pl.lit(PERSONAL))

    def met(self, evaluated: int, unexpected: int) -> bool:
        """As GX has it: nothing to look at is success; else the share that conforms is at least `mostly`."""
        return evaluated == 0 or (evaluated - unexpected) / evaluated >= self.mostly


@dataclass(frozen=True, slots=True)
class BatchCheck:
    """A check with one answer for the batch. `judge` is given the values of `observe`, in order.

    `names_values`: what was observed is values of rows (a minimum, the values outside of a set), not counts or means.
    `history`: where its bounds come from, if not from the suite alone. `known`: the values of `observe`, if the facts
    of a batch have them.
    """

    type: str
    columns: tuple[str, ...]
    severity: Severity
    expected: str
    evaluated: pl.Expr
    observe: tuple[pl.Expr, ...]
    judge: Callable[[Sequence[Any]], Outcome]
    names_values: bool = False
    history: FromHistory | None = None
    known: Callable[[Facts], tuple[Any, ...] | None] | None = None

    def masked(self) -> BatchCheck:
        """The same check, of a column whose values nobody is to be shown."""
        judge = self.judge
        if not self.names_values:
            return self
        return replace(self, judge=lambda values: Outcome(judge(values).success, None, PERSONAL))


Check = RowCheck | BatchCheck


@dataclass(frozen=True, slots=True)
class Expectation:
    """An expectation's arguments, read with errors that name it.

    `domain` is the row condition, null-free; None: all rows. `where` names suite, place and type. `bounds` is
    `meta.bounds`: where bounds come from besides the arguments.
    """

    type: str
    kwargs: Mapping[str, Any]
    columns: Mapping[str, Column]
    severity: Severity
    domain: pl.Expr | None
    where: str
    bounds: Any = None

    def error(self, what: str, *, expected: object = None, got: object = None, hint: str | None = None) -> SuiteError:
        return SuiteError(what, where=self.where, expected=expected, got=got, hint=hint)

    def column(self, kinds: frozenset[Kind] | None = None, *, key: str = "column") -> Column:
        """The column that an argument names; `kinds`: those the expectation can be evaluated on."""
        return self.named(self.kwargs.get(key), kinds, key=key)

    def named(self, name: object, kinds: frozenset[Kind] | None, *, key: str) -> Column:
        column = find(self.columns, name) if isinstance(name, str) else None
        if column is None:
            raise self.error(
                "a column that does not exist",
                expected=f"{key}: one of " + ", ".join(self.columns),
                got=repr(name),
                hint="name a field of the contract",
            )
        if kinds is not None and column.kind not in kinds:
            raise self.error(
                f"column {name} is of a type this expectation cannot be evaluated on",
                expected="a column of " + ", ".join(sorted(kinds)),
                got=column.type,
            )
        return column

    def column_list(self, kinds: frozenset[Kind]) -> list[Column]:
        names = self.strings("column_list")
        if len(set(names)) < 2:
            raise self.error("not a list of columns", expected="column_list: two columns or more", got=names)
        return [self.named(name, kinds, key="column_list") for name in names]

    def strings(self, key: str) -> list[str]:
        value = self.kwargs.get(key)
        if not isinstance(value, list | tuple | set) or not all(isinstance(item, str) for item in value):
            raise self.error("not a list of strings", expected=f'{key}: ["...", "..."]', got=repr(value))
        return sorted(value) if isinstance(value, set) else list(value)

    def values(self, column: Column, *, empty_allowed: bool) -> list[Any]:
        """The `value_set`, as the column's values compare; null has no place in it and is left out, as pandas does."""
        raw = self.kwargs.get("value_set")
        if not isinstance(raw, list | tuple | set) or (not raw and not empty_allowed):
            raise self.error("not a set of values", expected="value_set: [value, value, ...]", got=repr(raw))
        fitted = [column.literal(item, where=self.where) for item in raw if item is not None]
        broken = [value for value in fitted if column.kind == "int" and isinstance(value, float)]
        if broken:
            raise self.error("a value that does not fit column " + column.name, expected="whole numbers", got=broken)
        # Polars does not look for whole numbers among floats.
        return list(dict.fromkeys(map(float, fitted) if column.kind == "float" else fitted))

    def flag(self, key: str, *, default: bool = False) -> bool:
        value = self.kwargs.get(key)
        if value is not None and not isinstance(value, bool):
            raise self.error("not a flag", expected=f"{key}: true or false", got=repr(value))
        return default if value is None else value

    def choice(self, key: str, allowed: tuple[str, ...]) -> str:
        """One of `allowed`, of which the first is the default."""
        value = self.kwargs.get(key)
        if value is None:
            return allowed[0]
        if value not in allowed:
            raise self.error("not a choice", expected=f"{key}: " + " or ".join(allowed), got=repr(value))
        return str(value)

    def number(self, key: str, *, whole: bool = False) -> float | int | None:
        value = self.kwargs.get(key)
        if value is None:
            return None
        kinds = (int,) if whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or not math.isfinite(value):
            raise self.error("not a number", expected=f"{key}: a {'whole ' if whole else ''}number", got=repr(value))
        return value

    @property
    def history(self) -> FromHistory | None:
        """What `meta.bounds` says.

        Raises:
            SuiteError: something else than it can.
        """
        if self.bounds is None:
            return None
        said = self.bounds if isinstance(self.bounds, Mapping) else {}
        found = FromHistory(
            last=said.get("last", DAYS),
            least=said.get("least", DAYS_LEAST),
            width=said.get("width", WIDTH),
            fixed=any(self.kwargs.get(key) is not None for key in ("min_value", "max_value")),
        )
        whole = all(type(days) is int for days in (found.last, found.least))
        wide = type(found.width) in (int, float) and 0 < found.width < math.inf
        known = said.get("from") == "history" and set(said) <= {"from", "last", "least", "width"}
        if not (known and whole and wide and 3 <= found.least <= found.last):
            raise self.error(
                "not bounds",
                expected='meta.bounds: {"from": "history", "last": days, "least": 3 days or more, "width": spreads}',
                got=repr(self.bounds),
            )
        return found

    @property
    def mostly(self) -> float:
        value = self.number("mostly")
        if value is not None and not 0 <= value <= 1:
            raise self.error("not a share", expected="mostly: a number from 0 to 1", got=repr(value))
        return 1.0 if value is None else float(value)

    def within(self, considered: pl.Expr) -> pl.Expr:
        """Those of the considered rows that the row condition keeps."""
        return considered if self.domain is None else considered & self.domain

    @property
    def rows(self) -> pl.Expr:
        """How many rows the row condition keeps."""
        return pl.len() if self.domain is None else self.domain.sum()


@dataclass(frozen=True, slots=True)
class Bounds:
    """`min_value`, `max_value`, `strict_min`, `strict_max` of an expectation, fitted to what they are compared with."""

    low: Any
    high: Any
    strict_low: bool
    strict_high: bool

    @classmethod
    def of(cls, expectation: Expectation, fit: Callable[[str], Any], *, required: bool) -> Bounds:
        """`fit` turns the name of an argument into a value that compares, or None.

        Raises:
            SuiteError: both bounds are missing though one is required, or they exclude everything.
        """
        low, high = fit("min_value"), fit("max_value")
        if required and low is None and high is None:
            raise expectation.error("no bound", expected="min_value, max_value or both", got="neither")
        if low is not None and high is not None and low > high:
            raise expectation.error("min_value is greater than max_value", got=f"{low} > {high}")
        return cls(low, high, expectation.flag("strict_min"), expectation.flag("strict_max"))

    def holds_for(self, value: pl.Expr) -> pl.Expr:
        parts = []
        if self.low is not None:
            parts.append(value > pl.lit(self.low) if self.strict_low else value >= pl.lit(self.low))
        if self.high is not None:
            parts.append(value < pl.lit(self.high) if self.strict_high else value <= pl.lit(self.high))
        return pl.all_horizontal(parts) if len(parts) > 1 else parts[0]

    def hold(self, value: Any) -> bool:
        above = self.low is None or (value > self.low if self.strict_low else value >= self.low)
        below = self.high is None or (value < self.high if self.strict_high else value <= self.high)
        return bool(above and below)

    def show(self, show: Callable[[Any], str], *, prefix: str = "") -> str:
        """`>= 0 and <= 1`"""
        parts = []
        if self.low is not None:
            parts.append(f"{'>' if self.strict_low else '>='} {show(self.low)}")
        if self.high is not None:
            parts.append(f"{'<' if self.strict_high else '<='} {show(self.high)}")
        return prefix + (" and ".join(parts) or "any value")
