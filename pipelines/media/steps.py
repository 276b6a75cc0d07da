"""One step of a plan on one batch of items: the kernel that every engine runs.

A batch holds `item_id`, for each media column of the manifest the digest of its bytes, for each text column the text,
and what earlier steps made. A step adds its outputs and one column that says which items it could not read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import pyarrow as pa

from ...schemas.errors import StorageError
from ...schemas.plan import INPUT_TYPES, Plan, Step
from ..operators.base import Failure, Operator, Outcome
from ..operators.registry import OPERATORS

FAILURE = pa.struct([pa.field("input", pa.string()), pa.field("reason", pa.string())])

Read = Callable[[str], bytes]  # the bytes of a digest; StorageError where there are none


@dataclass(frozen=True, slots=True)
class Work:
    """A step, where it stands in its plan, and which of its columns hold digests of media."""

    number: int
    step: Step
    media: tuple[str, ...]

    @property
    def operator(self) -> type[Operator]:
        return OPERATORS[self.step.operator]

    @property
    def failed(self) -> str:
        """The column of the failures of this step: null where there was none."""
        return f"_failed_{self.number}"


def works_of(plan: Plan) -> tuple[Work, ...]:
    """The steps of a checked plan."""
    media = media_columns(plan)
    return tuple(Work(number, step, media) for number, step in enumerate(plan.steps))


def media_columns(plan: Plan) -> tuple[str, ...]:
    """The manifest columns that hold paths of media, each once, in order."""
    read = plan.read_columns()
    found: dict[str, None] = {}
    for step in plan.steps:
        kinds = {given.name: given.kind for given in OPERATORS[step.operator].inputs}
        found.update((column, None) for name, column in step.inputs if kinds[name] == "media" and column in read)
    return tuple(found)


@cache
def ready(name: str) -> Operator:
    """The operator, set up; once in each process.

    Raises:
        MissingExtraError: it needs a package that is not installed.
    """
    OPERATORS[name].require()
    operator = OPERATORS[name]()
    operator.setup()
    return operator


def run_step(batch: pa.Table, work: Work, operator: Operator, read: Read) -> pa.Table:
    """The batch with the step's outputs and failures. Bytes of media live only as long as this call."""
    columns: dict[str, pa.ChunkedArray] = {}
    unread: list[Failure] = []
    kinds = {given.name: given.kind for given in operator.inputs}
    for name, column in work.step.inputs:
        values = batch[column]
        if column in work.media:
            values, missing = _bytes(values, read, name)
            unread += missing
        columns[name] = values.cast(INPUT_TYPES[kinds[name]])
    outcome: Outcome = operator(pa.table(columns))
    for output, column in work.step.outputs:
        batch = batch.append_column(column, outcome.outputs[output])
    return batch.append_column(work.failed, _failures([*unread, *outcome.failures], batch.num_rows))


def run_steps(batch: pa.Table, works: Sequence[Work], read: Read) -> pa.Table:
    """All steps, one after another, in this process."""
    for work in works:
        batch = run_step(batch, work, ready(work.step.operator), read)
    return batch


def _bytes(digests: pa.ChunkedArray, read: Read, name: str) -> tuple[pa.ChunkedArray, list[Failure]]:
    values: list[bytes | None] = []
    missing = []
    for row, digest in enumerate(digests.to_pylist()):
        try:
            values.append(None if digest is None else read(digest))
        except StorageError as error:
            values.append(None)
            missing.append(Failure(row, name, f"{error.what}: {error.got}"))
    return pa.chunked_array([pa.array(values, INPUT_TYPES["media"])]), missing


def _failures(failures: Sequence[Failure], count: int) -> pa.Array:
    column: list[list[dict[str, str]] | None] = [None] * count
    for failure in failures:
        column[failure.row] = [*(column[failure.row] or []), {"input": failure.input, "reason": failure.reason}]
    return pa.array(column, pa.list_(FAILURE))
