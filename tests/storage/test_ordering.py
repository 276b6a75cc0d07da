"""Rows in their order: packed keys sort as columns do."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import given
from hypothesis import strategies as st

from reclake.storage import ordering

KEYS = {
    "day": (pa.date32(), st.integers(0, 2)),
    "bucket": (pa.int32(), st.integers(-3, 3)),
    "user": (pa.int64(), st.sampled_from([-(2**63), -1, 0, 1, 2**40, 2**63 - 1])),
    "few": (pa.int64(), st.none() | st.integers(0, 1)),
    "at": (pa.timestamp("us", "UTC"), st.integers(0, 3)),
    "id": (pa.string(), st.sampled_from(["", "a", "b"])),
}


@given(names=st.permutations(list(KEYS)), count=st.integers(1, len(KEYS)), data=st.data())
def test_rows_are_put_in_the_order_that_a_sort_by_columns_gives(names: list[str], count: int, data: Any) -> None:
    rows = data.draw(st.lists(st.tuples(*(KEYS[name][1] for name in names[:count])), max_size=12))
    columns = [pa.array([row[i] for row in rows], KEYS[name][0]) for i, name in enumerate(names[:count])]
    keys = pa.table(columns, names[:count])
    wanted = pc.sort_indices(keys, sort_keys=[(name, "ascending") for name in names[:count]])
    assert ordering.order_of(keys).to_pylist() == wanted.to_pylist()


def test_rows_in_no_order_are_split_by_partition_and_those_of_one_are_left_as_they_are() -> None:
    rows = pa.table({"day": [2, 1, 2], "a": [5, 4, 3]})
    assert [(by, part["a"].to_pylist()) for by, part in ordering.partitions(rows, ["day"], [])] == [
        ({"day": 1}, [4]),
        ({"day": 2}, [5, 3]),
    ]
    one = rows.filter(pc.equal(rows["day"], 2))
    assert [(by, part["a"].to_pylist()) for by, part in ordering.partitions(one, ["day"], [])] == [({"day": 2}, [5, 3])]
    assert [part["a"].to_pylist() for _, part in ordering.partitions(rows, ["day"], ["a"])] == [[4], [3, 5]]
