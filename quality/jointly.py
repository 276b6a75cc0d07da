"""Batches looked at together: what a suite says of each, for little more than one pass over all of their rows costs.

Most checks look at a row alone: what they find in all rows is cut up by batch. A check that looks at rows together
(`RowCheck.together`) finds no less among more rows, so that batches without a failing row are done and only the others
are asked again, by themselves. Checks of a batch, and those where a row may pass because of another one
(`RowCheck.vouched`), are asked batch by batch, and they only.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from .expectation import Check, RowCheck
from .judging import Judged, judge
from .reasons import Failure, texts
from .suite import Answers, CompiledSuite

Found = dict[str, Any]
_NO_ROWS = np.empty(0, np.uint32)


def judge_each(
    suite: CompiledSuite,
    rows: pa.Table,
    ends: npt.NDArray[np.int64],
    nulls: list[tuple[str, np.ndarray]],
    absent: Collection[str],
) -> tuple[list[Judged], pl.DataFrame]:
    """What `judge` says of each batch, and the columns of `rows`, which are all of theirs, in which any row fails.

    A batch ends before its one of `ends`. `nulls`: see missing.
    """
    known: dict[tuple[int, int], Judged] = {}  # most batches look alike, and share their answers
    judged = []
    found, frame = _answers_each(suite, rows, ends)
    start = 0
    for answers, end in zip(found, ends.tolist(), strict=True):
        within = [(path, at[(at >= start) & (at < end)] - np.uint32(start)) for path, at in nulls]
        mine = [(path, at) for path, at in within if len(at)]
        one = None if mine else known.get((id(answers), end - start))
        if one is None:
            one = judge(suite, Answers(answers, frame.slice(start, end - start)), mine, absent)
        if not mine:
            known[id(answers), end - start] = one
        judged.append(one)
        start = end
    return judged, frame


def merged(paths: Sequence[str], judged: Sequence[Judged], starts: np.ndarray) -> list[Failure]:
    """Failures of batches as failures of all their rows, in the order that each batch has them: paths, then places."""
    parts: dict[str | int, list[tuple[int, Failure]]] = {path: [] for path in paths}
    for one, start in zip(judged, starts.tolist(), strict=True):
        for key, failure in one.failures.items():
            parts.setdefault(key, []).append((start, failure))
    merged = []
    keys: list[str | int] = [*paths, *sorted(key for key in parts if isinstance(key, int))]
    for key in keys:
        rows = np.concatenate([failure.rows + np.uint32(start) for start, failure in parts[key]])
        seen = [failure.seen for _, failure in parts[key] if failure.seen is not None]
        known = pl.concat(seen) if len(seen) == len(parts[key]) else None
        merged.append(replace(parts[key][0][1], rows=rows, seen=known))
    return merged


def _answers_each(
    suite: CompiledSuite, rows: pa.Table, ends: npt.NDArray[np.int64]
) -> tuple[list[Found], pl.DataFrame]:
    """For each batch what `suite.run` would find in it, batches without a failing row may share one; and the columns
    of all batches in which any row may fail.
    """
    spans = list(zip(np.append(0, ends)[:-1].tolist(), ends.tolist(), strict=True))
    apart = {i for i, check in enumerate(suite.checks) if not isinstance(check, RowCheck) or check.vouched}
    joint = [i for i in range(len(suite.checks)) if i not in apart]
    asked = suite.only(joint)
    found = asked.run(rows).found
    if any(name.endswith(".error") for name in found):
        each = [suite.run(rows.slice(start, end - start)).found for start, end in spans]
        return each, suite.frame_of(rows, range(len(suite.checks)))
    frame = suite.frame_of(rows, [*apart, *(place for n, place in enumerate(joint) if len(found[f"{n}.fails"]))])
    evaluated = _evaluated_each(asked, rows, ends, [int(found[f"{n}.evaluated"]) for n in range(len(joint))])
    cut = [_Cut(frame, check, np.asarray(found[f"{n}.fails"]), ends) for n, check in enumerate(asked.checks)]
    alike: dict[tuple[int, ...], Found] = {}
    suites: dict[frozenset[int], CompiledSuite] = {}
    answers: list[Found] = []
    for i, (start, end) in enumerate(spans):
        failing = [(place, one) for place, one in zip(joint, cut, strict=True) if one.counts[i]]
        counts = evaluated[i].tolist()
        if not failing and not apart:
            known = alike.get((end - start, *counts))
            if known is not None:
                answers.append(known)
                continue
        mine: Found = {f"{place}.evaluated": count for place, count in zip(joint, counts, strict=True)}
        mine |= dict.fromkeys([f"{place}.fails" for place in joint], _NO_ROWS)
        again = set(apart)
        for place, one in failing:
            if one.check.together:
                again.add(place)
                continue
            mine[f"{place}.fails"], mine[f"{place}.seen"] = one.of_batch(i)
        if again:
            key = frozenset(again)
            some = suites.get(key) or suites.setdefault(key, suite.only(key))
            mine |= _placed(some.run(rows.slice(start, end - start)).found, sorted(key))
        elif not failing:
            alike[end - start, *counts] = mine
        answers.append(mine)
    return answers, frame


class _Cut:
    """The rows that fail one check, by batch."""

    def __init__(
        self, frame: pl.DataFrame, check: Check, rows: npt.NDArray[np.uint32], ends: npt.NDArray[np.int64]
    ) -> None:
        assert isinstance(check, RowCheck)
        self.check = check
        self._rows = rows
        self._starts = np.append(0, ends)[:-1]
        self._to = np.searchsorted(rows, ends)
        self.counts = np.diff(self._to, prepend=0)
        self._first_only = check.severity == "warning"
        self._seen: pl.Series | None = None
        if len(rows) and not check.together:
            firsts = (self._to - self.counts)[self.counts > 0]
            self._seen = texts(frame, check.got, rows[firsts] if self._first_only else rows)

    def of_batch(self, i: int) -> tuple[npt.NDArray[np.uint32], pl.Series]:
        """Rows of the batch, and what was found in them."""
        assert self._seen is not None
        to, count = int(self._to[i]), int(self.counts[i])
        rows = self._rows[to - count : to] - np.uint32(self._starts[i])
        if self._first_only:
            return rows, self._seen.slice(int(np.count_nonzero(self.counts[:i])), 1)
        return rows, self._seen.slice(to - count, count)


def _placed(answers: Found, places: Sequence[int]) -> Found:
    """The answers of a suite of some checks under the places that these have in the whole one."""
    named = ((name.partition("."), answer) for name, answer in answers.items())
    return {f"{places[int(number)]}.{what}": answer for (number, _, what), answer in named}


def _evaluated_each(
    suite: CompiledSuite, batch: pa.Table, ends: npt.NDArray[np.int64], whole: Sequence[int]
) -> npt.NDArray[np.int64]:
    """How many rows each check looks at, of each run of rows that ends before one of `ends` (rising): a row a run.

    `whole` are the counts of all rows: only of a check that looks at some rows and not at others must be counted.
    """
    sizes = np.diff(ends, prepend=0)
    each = np.where(np.asarray(whole, np.int64) > 0, sizes[:, None], 0)
    some = [i for i, count in enumerate(whole) if 0 < count < batch.num_rows]
    if some:
        found = (
            suite.frame_of(batch, some)
            .lazy()
            .with_columns(pl.Series("", np.repeat(np.arange(len(ends)), sizes)))
            .group_by("")
            .agg(suite.checks[i].evaluated.cast(pl.Int64).alias(f"{i}") for i in some)
            .collect(engine="in-memory")
            .to_numpy()
        )
        each[:, some] = 0
        each[found[:, :1], some] = found[:, 1:]
    return each
