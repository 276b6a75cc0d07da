"""The shapes of reclake's own tables, and of what stands between them. Arrow schemas; times are µs UTC."""

from __future__ import annotations

import pyarrow as pa

from .contract import TIME, Contract
from .errors import RecipeError
from .recipe import Recipe

REPLAYED = "quarantine"  # what verdicts of a replay give as their source
DAY = "known_day"  # partition of events: the UTC day of known_at
ERA = "era"  # partition of timelines and directory: see era_name
BUCKET = "bucket"
CONTRACT = "contract"  # of events, timelines and content: the contract and version a row was written with, `events/2`
OF_CONTRACT = pa.field(CONTRACT, pa.string())

REASON = pa.struct(
    [
        pa.field("check", pa.string()),  # expectation type, or "decode", "resolve"
        pa.field("column", pa.string()),
        pa.field("severity", pa.string()),
        pa.field("expected", pa.string()),
        pa.field("got", pa.string()),
    ]
)

QUARANTINE = pa.schema(
    [
        pa.field("quarantine_id", pa.string(), nullable=False),  # stable: digest of contract, source, row, emit
        pa.field("contract", pa.string(), nullable=False),
        pa.field("contract_version", pa.int32(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("row", pa.int64(), nullable=False),  # place in the source, from 0
        pa.field("emit", pa.int32(), nullable=False),  # which event of the row, -1 for the row as a whole
        pa.field("format", pa.string(), nullable=False),  # what `raw` is: "json", "csv" or "avro" (a framed message)
        pa.field("raw", pa.binary(), nullable=False),
        pa.field("reasons", pa.list_(REASON), nullable=False),
        pa.field("quarantined_at", TIME, nullable=False),
        pa.field("run_id", pa.string(), nullable=False),
    ]
)

REPLAYS = pa.schema(
    [
        pa.field("quarantine_id", pa.string(), nullable=False),
        pa.field("contract_version", pa.int32(), nullable=False),
        # "admitted", "duplicate" or "expired": it left quarantine; "quarantined": it was rejected again
        pa.field("outcome", pa.string(), nullable=False),
        pa.field("replayed_at", TIME, nullable=False),
        pa.field("run_id", pa.string(), nullable=False),
        pa.field("reasons", pa.list_(REASON)),  # of "quarantined", without `got`: values stay with the row
    ]
)

VERDICTS = pa.schema(
    [
        pa.field("verdict_id", pa.string(), nullable=False),  # one for a batch; a row for each check of it
        pa.field("run_id", pa.string(), nullable=False),
        pa.field("at", TIME, nullable=False),
        pa.field("table", pa.string(), nullable=False),
        pa.field("contract", pa.string(), nullable=False),
        pa.field("contract_version", pa.int32(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("event_day", pa.date32()),  # the day most rows of the batch happened on; of a partition, its day
        pa.field("verdict", pa.string(), nullable=False),  # of the batch: "pass", "warn", "quarantine", "stop"
        pa.field("check", pa.string(), nullable=False),  # "batch" for the row that sums the batch up
        pa.field("column", pa.string()),
        pa.field("severity", pa.string(), nullable=False),
        pa.field("success", pa.bool_(), nullable=False),
        pa.field("evaluated", pa.int64(), nullable=False),  # rows the check looked at; for "batch": read
        pa.field("unexpected", pa.int64(), nullable=False),  # rows that failed it; for "batch": quarantined
        pa.field("admitted", pa.int64()),  # "batch" only
        pa.field("duplicates", pa.int64()),  # "batch" only
        pa.field("late", pa.int64()),  # "batch" only: rows known a day or more after they happened
        pa.field("expected", pa.string()),
        pa.field("observed", pa.string()),
        pa.field("value", pa.float64()),  # what a check of the batch observed, where that is a number (times in µs)
        # Of the table, with these rows in it; null where none of them is (stop).
        pa.field("table_version", pa.int64()),
    ]
)

DIRECTORY = pa.schema(
    [
        pa.field(ERA, pa.string(), nullable=False),
        pa.field(BUCKET, pa.int32(), nullable=False),
        pa.field("user_id", pa.int64(), nullable=False),
        pa.field("first_ordinal", pa.int64(), nullable=False),
        pa.field("count", pa.int64(), nullable=False),
    ]
)

DEAD_LETTERS = pa.schema(
    [
        pa.field("item_id", pa.int64()),
        pa.field("plan", pa.string(), nullable=False),
        pa.field("operator", pa.string(), nullable=False),
        pa.field("input", pa.string()),  # the path or text that was given to the operator
        pa.field("digest", pa.string()),  # BLAKE2b-128 of the bytes, where there were any
        pa.field("reason", pa.string(), nullable=False),
        pa.field("at", TIME, nullable=False),
        pa.field("run_id", pa.string(), nullable=False),
    ]
)

METRICS = pa.schema(
    [
        pa.field("run_id", pa.string(), nullable=False),
        pa.field("pin", pa.string()),
        pa.field("model", pa.string(), nullable=False),
        pa.field("label", pa.string(), nullable=False),
        pa.field("metric", pa.string(), nullable=False),  # "auc", "logloss"
        pa.field("slice", pa.string(), nullable=False),  # "all", "history_length", "day", a feature's name
        pa.field("slice_value", pa.string(), nullable=False),
        pa.field("value", pa.float64()),  # null where it is undefined (one class only)
        pa.field("low", pa.float64()),  # 95 % interval
        pa.field("high", pa.float64()),
        pa.field("samples", pa.int64(), nullable=False),
        pa.field("positives", pa.int64(), nullable=False),
    ]
)


def events(contract: Contract) -> pa.Schema:
    """Rows of the events table: the contract's fields, when the lake could first have known, the user's bucket."""
    known = [
        pa.field("known_at", TIME, nullable=False),
        pa.field(BUCKET, pa.int32(), nullable=False),
        pa.field(DAY, pa.date32(), nullable=False),
    ]
    fields = [f.with_nullable(False) if f.name == "available_at" else f for f in contract.arrow]
    return pa.schema(fields + known)


def timelines(events_schema: pa.Schema) -> pa.Schema:
    """Rows of the timelines table: an event with its ordinal and era."""
    kept = [f for f in events_schema if f.name not in (DAY, BUCKET)]
    return pa.schema(
        [
            *kept,
            pa.field("ordinal", pa.int64(), nullable=False),
            pa.field(ERA, pa.string(), nullable=False),
            pa.field(BUCKET, pa.int32(), nullable=False),
        ]
    )


def content(contract: Contract) -> pa.Schema:
    """Rows of the content table: the contract's fields and known_at."""
    return pa.schema([*contract.arrow, pa.field("known_at", TIME, nullable=False)])


def samples(recipe: Recipe, timelines_schema: pa.Schema) -> pa.Schema:
    """Rows of a sample set. `timeline[seen-L : seen]` of the user is the history a server had at request_time."""
    features = []
    for name in recipe.features:
        index = timelines_schema.get_field_index(name)
        if index < 0:
            raise RecipeError(
                "a feature that no event has",
                where=f"recipe {recipe.name}",
                expected="one of " + ", ".join(timelines_schema.names),
                got=name,
            )
        features.append(timelines_schema.field(index).with_nullable(True))
    return pa.schema(
        [
            pa.field("sample_id", pa.int64(), nullable=False),
            pa.field("user_id", pa.int64(), nullable=False),
            pa.field("item_id", pa.int64(), nullable=False),
            pa.field("event_id", pa.string(), nullable=False),  # of the exposure
            pa.field("request_time", TIME, nullable=False),
            pa.field("ordinal", pa.int64(), nullable=False),  # of the exposure
            pa.field("seen", pa.int64(), nullable=False),
            pa.field("negative", pa.bool_(), nullable=False),  # drawn, not shown
            *[pa.field(label.name, pa.int8(), nullable=False) for label in recipe.labels],
            pa.field("label_mature", pa.bool_(), nullable=False),
            *features,
            pa.field("content_known_at", TIME),  # of the item's content row as of the request; null: none known then
            pa.field(BUCKET, pa.int32(), nullable=False),
            pa.field("day", pa.date32(), nullable=False),
        ]
    )
