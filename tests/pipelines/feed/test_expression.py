"""Expressions over columns: what they mean where values are missing, and what they refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reclake.pipelines.feed.expression import Expression, Known
from reclake.schemas.errors import FeedError

TYPES = {
    "tab": "int32",
    "click": "int8",
    "mature": "bool",
    "place": "int32",
    "at": "timestamp[us, tz=UTC]",
    "price": "double",
}
WORDS = {"place": ("home", "search")}
COLUMNS = {
    "tab": Known(np.array([1, 1, 2, 0]), np.array([True, True, True, False])),
    "click": Known(np.array([0, 1, 1, 0], dtype=np.int8)),
    "mature": Known(np.array([True, False, True, True])),
    "place": Known(np.array([0, 1, 0, -1]), np.array([True, True, True, False])),
    "at": Known(np.array([0, 86_400_000_000, 2, 3])),
    "price": Known(np.array([1.5, 0.0, 4.0, 2.0])),
}


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("tab == 1 and mature", [1, 0, 0, 0]),
        ("tab == 1", [1, 1, 0, 0]),
        ("not tab == 1", [0, 0, 1, 0]),  # where tab is missing, neither holds
        ("tab == 1 or mature", [1, 1, 1, 1]),  # and a missing side does not matter where the other decides
        ("tab is None", [0, 0, 0, 1]),
        ("tab is not None and not click", [1, 0, 0, 0]),
        ("tab in (0, 2)", [0, 0, 1, 0]),
        ("tab not in (0, 2)", [1, 1, 0, 0]),
        ("place == 'home'", [1, 0, 1, 0]),
        ("place in ('search', 'nowhere')", [0, 1, 0, 0]),
        ("place != 'nowhere'", [1, 1, 1, 0]),
        ("at >= '1970-01-02'", [0, 1, 0, 0]),
        ("0 < price <= 2", [1, 0, 0, 1]),
        ("price * 2 - 1 > tab", [1, 0, 1, 0]),
        ("-price < -1.9", [0, 0, 1, 1]),
        ("(price if click else 9) > 5", [1, 0, 0, 1]),
        ("click", [0, 1, 1, 0]),
        ("place is None", [0, 0, 0, 1]),
        ("'home' == place", [1, 0, 1, 0]),
        ("not place == 'home'", [0, 1, 0, 0]),
        ("mature - click == 1", [1, 0, 0, 1]),
        ("-mature < 0", [1, 0, 1, 1]),
        ("True", 1),
    ],
)
def test_an_expression_holds_where_it_is_known_to(text: str, holds: Any) -> None:
    found = Expression(text, TYPES, WORDS).evaluate(COLUMNS).true()
    assert found.astype(int).tolist() == holds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tab ==", "not an expression"),
        ("tab = 1", "not an expression"),
        ("nothing == 1", r"no such column[\s\S]*got: nothing"),
        ("__import__('os').system('true')", "no such column"),
        ("(lambda: 1)()", "not allowed"),
        ("tab.dtype", "not allowed"),
        ("tab[0] == 1", "not allowed"),
        ("[x for x in (1, 2)]", "no such column"),
        ("tab ** 99999", "not allowed"),
        ("tab is 1", "not allowed"),
        ("tab == 'home'", "a string compared with what holds none"),
        ("at > 'yesterday'", "not a time"),
        ("'home'", "not allowed"),
        # What a code is says nothing: words have no order and are no numbers.
        ("place", "a column of strings"),
        ("not place", "a column of strings"),
        ("place == 1", r"a column of strings[\s\S]*expected: place == 'word'"),
        ("place in ('home', 1)", "a column of strings"),
        ("place + 1 > 1", "a column of strings"),
        ("place == place", "a column of strings"),
        ("place < 'search'", "a column of strings|a string compared"),
        ("'home' <= place", "a string compared with what holds none"),
        ("tab" + " + tab" * 2000, "not an expression"),
        ("not " * 5000 + "tab", "not an expression"),
    ],
)
def test_what_is_outside_the_grammar_is_refused_and_never_run(text: str, message: str) -> None:
    with pytest.raises(FeedError, match=message):
        Expression(text, TYPES, WORDS)


def test_small_integers_are_reckoned_with_as_large_ones() -> None:
    for kind, largest in (("int8", 127), ("int32", 2**31 - 1)):
        column = {"n": Known(np.array([largest, -largest - 1], dtype=kind))}
        assert Expression("n + n > n", {"n": kind}, {}).evaluate(column).true().tolist() == [True, False]
        assert Expression("n * n > 0 and -n != n", {"n": kind}, {}).evaluate(column).true().all()


def test_a_column_of_dates_is_compared_with_days() -> None:
    known, types = {"born": Known(np.array([0, 365], dtype=np.int32))}, {"born": "date32[day]"}
    assert Expression("born >= '1971-01-01'", types, {}).evaluate(known).true().tolist() == [False, True]
    assert Expression("born in ('1970-01-01', '1999-01-01')", types, {}).evaluate(known).true().tolist() == [
        True,
        False,
    ]
    with pytest.raises(FeedError, match=r"not a day[\s\S]*where[\s\S]*born"):
        Expression("born > '1971-01-01T12:00'", types, {})


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(FeedError, match=r"not an expression[\s\S]*a text such as '2'"):
        Expression(2, TYPES, WORDS)  # type: ignore[arg-type]


def texts() -> st.SearchStrategy[str]:
    leaves = st.sampled_from(["tab == 1", "tab > 1", "click", "mature", "place == 'home'", "price < 2"])
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            inner.map(lambda a: f"(not {a})"),
            st.tuples(inner, st.sampled_from(["and", "or"]), inner).map(lambda abc: f"({' '.join(abc)})"),
        ),
        max_leaves=6,
    )


@given(text=texts())
def test_predicates_agree_with_sql(text: str) -> None:
    duckdb = pytest.importorskip("duckdb")
    rows = (
        "(1, 0, true, 'home', 1.5), (1, 1, false, 'search', 0.0), (2, 1, true, 'home', 4.0), (NULL, 0, true, NULL, 2.0)"
    )
    sql = text.replace("==", "=").replace("click", "(click <> 0)")
    query = f"select coalesce({sql}, false) from (values {rows}) as t(tab, click, mature, place, price)"
    expected = [bool(row[0]) for row in duckdb.sql(query).fetchall()]
    assert Expression(text, TYPES, WORDS).evaluate(COLUMNS).true().tolist() == expected
