"""Kernels between the steps of a plan and the tables: content rows, dead letters, refused rows. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl
import pyarrow as pa

from ...quality.gate import Admission
from ...quality.suite import CompiledSuite
from ...schemas import shapes
from ...schemas.contract import Contract
from ...schemas.plan import Plan
from ...schemas.times import from_us
from ...storage.catalog import Catalog
from ..knowing import TIME, available, known_at
from .manifest import Line, Manifest
from .steps import Work

PLACE = "_place"  # of an item in its chunk: what puts the rows of an engine back in order
READ = "read"  # in the place of an operator's name: the file could not be read at all


@dataclass(frozen=True, slots=True)
class Job:
    """One run: where to, by which laws, under which names."""

    catalog: Catalog
    contract: Contract
    schema: pa.Schema
    suite: CompiledSuite
    plan: Plan
    identity: str
    media: tuple[str, ...]
    works: tuple[Work, ...]
    source: str
    now_us: int
    run_id: str


def digest_column(column: str) -> str:
    """Of a media column, the column with the digest of its bytes; a content field of that name keeps it."""
    return f"{column}_digest"


def unread_column(column: str) -> str:
    """Of a media column, the column that says why its file could not be read; null where it was."""
    return f"_unread_{column}"


def quarantine_id(job: Job) -> pl.Expr:
    """Stable: the same item refused by the same contract and plan is the same entry."""
    prefix = f"media-{job.identity}-{job.contract.version}"
    return pl.format("{}-{}-{}", pl.lit(prefix), "item_id", "input_digest")


def content_rows(job: Job, chunk: pl.DataFrame, made: pa.Table, barrier_us: int | None) -> pa.Table:
    """The chunk as rows of the content table, nothing of it known before the barrier.

    `made` has a row for each of the chunk's, in its order.
    """
    claims = chunk if "available_at" in chunk.columns else chunk.with_columns(pl.lit(None, TIME).alias("available_at"))
    given = claims.with_columns(
        available(job.contract, happened="available_at", arrival_us=job.now_us).alias("available_at")
    ).with_columns(
        known_at(job.contract, pl.col("available_at"), arrival_us=job.now_us, sealed_us=barrier_us).alias("known_at"),
        pl.lit(job.identity).alias("plan"),
    )
    outputs = {column for work in job.works for _, column in work.step.outputs}
    columns = []
    for field in job.schema:
        if field.name in outputs:
            columns.append(made[field.name].cast(field.type))
        elif field.name in given.columns:
            columns.append(given[field.name].to_arrow().cast(field.type))
        else:
            columns.append(pa.nulls(chunk.height, field.type))
    return pa.Table.from_arrays(columns, names=job.schema.names)


def dead_letters(job: Job, chunk: pl.DataFrame, made: pa.Table) -> pa.Table:
    """One row of shapes.DEAD_LETTERS for each failure, by item and step. An item without failures has none."""
    letters: list[dict[str, Any]] = []
    for column in job.media:
        for item in chunk.filter(pl.col(unread_column(column)).is_not_null()).iter_rows(named=True):
            letters.append(_letter(job, item, READ, column, item[unread_column(column)]))
    for work in job.works:
        inputs = dict(work.step.inputs)
        for place, failures in enumerate(made[work.failed].to_pylist()):
            for failure in failures or ():
                item = chunk.row(place, named=True)
                letters.append(_letter(job, item, work.step.operator, inputs[failure["input"]], failure["reason"]))
    letters.sort(key=lambda letter: letter["item_id"])
    return pa.Table.from_pylist(letters, schema=shapes.DEAD_LETTERS)


def _letter(job: Job, item: dict[str, Any], operator: str, column: str, reason: str) -> dict[str, Any]:
    return {
        "item_id": item["item_id"],
        "plan": job.identity,
        "operator": operator,
        "input": item.get(column, column),  # what an earlier step made has no path: its column's name
        "digest": item.get(digest_column(column)),
        "reason": reason,
        "at": from_us(job.now_us),
        "run_id": job.run_id,
    }


def refused_rows(job: Job, run: pl.DataFrame, admission: Admission, found: Manifest) -> pa.Table:
    """Items that the gate rejected, as rows of shapes.QUARANTINE: what the manifest said of them, and every reason."""
    items = run[admission.rejected["index"].to_numpy()].select("_row", "_quarantine_id")
    lines = [found.lines[row] for row in items["_row"].to_list()]
    return _quarantine(job, items["_quarantine_id"].to_list(), lines, admission.rejected["reasons"].to_list())


def refused_lines(job: Job, found: Manifest) -> pa.Table:
    """Lines of a manifest that are no items, as rows of shapes.QUARANTINE."""
    ids = [f"media-{found.digest}-{line.row}" for line in found.rejected]
    return _quarantine(job, ids, found.rejected, [[dict(line.reason or {})] for line in found.rejected])


def _quarantine(job: Job, ids: Sequence[str], lines: Sequence[Line], reasons: Sequence[Any]) -> pa.Table:
    rows = [
        {
            "quarantine_id": id_,
            "contract": job.contract.name,
            "contract_version": job.contract.version,
            "source": job.source,
            "row": line.row,
            "emit": -1,
            "format": line.format,
            "raw": line.raw,
            "reasons": why,
            "quarantined_at": from_us(job.now_us),
            "run_id": job.run_id,
        }
        for id_, line, why in zip(ids, lines, reasons, strict=True)
    ]
    return pa.Table.from_pylist(rows, schema=shapes.QUARANTINE)
