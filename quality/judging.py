"""Judging: what a suite answered of a batch becomes a line a check, and the rows that fail what is unmet."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import polars as pl

from .expectation import BatchCheck
from .reasons import Failure, texts
from .results import SCHEMA, CheckResult, column_of, not_evaluated, not_there, of_batch, of_counts, of_schema, told
from .suite import Answers, CompiledSuite


@dataclass(frozen=True, slots=True)
class Judged:
    """What every check saw, the schema first; the unmet ones about rows, by path or place; and why the batch stops
    where one that rejects has no answer.
    """

    checks: tuple[CheckResult, ...]
    failures: dict[str | int, Failure]
    unknown: str | None


def judge(
    suite: CompiledSuite,
    answers: Answers,
    nulls: list[tuple[str, np.ndarray]],
    absent: Collection[str],
) -> Judged:
    """By what the suite answered of a batch. `nulls`: see missing. `absent`: columns that the source does not have."""
    found, frame = answers.found, answers.frame
    results = [of_schema(nulls, frame.height)]
    failures: dict[str | int, Failure] = {
        path: Failure(SCHEMA, path, "error", "not null", rows, pl.lit("null")) for path, rows in nulls
    }
    unknown = None
    for i, check in enumerate(suite.checks):
        broken = found.get(f"{i}.error")
        if broken is not None:
            results.append(not_evaluated(check, broken))
            if check.severity != "warning":
                unknown = unknown or told(results[-1])
            continue
        evaluated = int(found[f"{i}.evaluated"])
        nothing = not_there(check, suite.roots[i], evaluated, frame.height, absent)
        if nothing is not None:
            results.append(nothing)
            continue
        if isinstance(check, BatchCheck):
            outcome = check.judge([found[f"{i}.{j}"] for j in range(len(check.observe))])
            results.append(of_batch(check, evaluated, outcome))
            continue
        failing = np.asarray(found[f"{i}.fails"])
        success = check.met(evaluated, len(failing))
        if not len(failing):
            results.append(of_counts(check, evaluated, 0, success, None))
            continue
        rejects = not success and check.severity != "warning"
        seen = found.get(f"{i}.seen")
        if seen is None:
            seen = texts(frame, check.got, failing if rejects else failing[:1])
        results.append(of_counts(check, evaluated, len(failing), success, str(seen[0])))
        if not success:
            of = (check.type, column_of(check), check.severity, check.expected)
            failures[i] = Failure(*of, failing, check.got, seen if rejects else None)
    return Judged(tuple(results), failures, unknown)
