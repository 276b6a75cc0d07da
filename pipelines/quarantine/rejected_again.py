"""Rows that a replay rejects: their history gets a line where it would say something new."""

from __future__ import annotations

import numpy as np
import polars as pl

from ...quality.verdicts import BATCH, EXPECTED_OF_BATCH
from ...schemas import shapes

_REASON = pl.Struct({field.name: pl.String() for field in shapes.REASON})


def reasons_of(ids: pl.Series, places: np.ndarray, rejected: list[pl.DataFrame], *, stopped: bool) -> pl.DataFrame:
    """Kernel: quarantine_id and reasons of each row, in the order of `ids`, without the values that were found.

    Those stay with the row alone, so that nothing of a user is where erasure does not look.

    Args:
        places: for each `_row` of `rejected` (frames of `_row` and `reasons`), the row's place among `ids`.
        stopped: the batch as a whole was refused: that is why rows without a reason of their own stay.
    """
    default = {
        "check": BATCH if stopped else "resolve",
        "severity": "critical" if stopped else "error",
        "expected": EXPECTED_OF_BATCH if stopped else "an event",
    }
    flat = [frame.select("_row", "reasons").explode("reasons") for frame in rejected if frame.height]
    empty = pl.DataFrame(schema={"_row": pl.Int64(), "reasons": pl.List(_REASON)})
    found = pl.concat(flat).group_by("_row", maintain_order=True).agg("reasons") if flat else empty
    found = found.with_columns(pl.Series("_row", places[found["_row"].to_numpy()], dtype=pl.Int64))
    none = pl.DataFrame({"reasons": [[default]]}, schema={"reasons": pl.List(_REASON)})["reasons"]
    values = pl.element().struct.with_fields(pl.lit(None, dtype=pl.String).alias("got"))
    return (
        ids.to_frame("quarantine_id")
        .with_row_index("_row")
        .with_columns(pl.col("_row").cast(pl.Int64))
        .join(found, on="_row", how="left", maintain_order="left")
        .select("quarantine_id", pl.col("reasons").fill_null(pl.lit(none)).list.eval(values))
    )


def news(again: pl.DataFrame, known: pl.DataFrame, contract_version: int) -> pl.DataFrame:
    """Kernel: of rows that are rejected again those that were rejected by another version, or for other reasons.

    Args:
        again: quarantine_id and reasons.
        known: quarantine_id, contract_version and reasons of each row's last rejection.
    """
    last = known.select("quarantine_id", "contract_version", _key("reasons").alias("_known"))
    return (
        again.join(last, on="quarantine_id", how="left", maintain_order="left")
        .filter((pl.col("contract_version") != contract_version) | _key("reasons").ne_missing(pl.col("_known")))
        .select("quarantine_id", "reasons")
    )


def _key(column: str) -> pl.Expr:
    """What tells one list of reasons from another, whatever order they are in."""
    parts = [pl.element().struct.field(name).fill_null("") for name in ("check", "column", "expected")]
    return pl.col(column).list.eval(pl.concat_str(parts, separator="\x1f")).list.sort().list.join("\x1e")
