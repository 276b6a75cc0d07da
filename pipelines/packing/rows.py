"""The rows of shards: a kernel over one bucket's samples and timelines."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from ...schemas.errors import ShardError
from ...storage.shard_layout import tier_name, tiers
from ...storage.shards import CONTENT_ROW

Int64s = npt.NDArray[np.int64]

KEYS = ("sample_id", "item_id", "seen", "request_time", "negative")
ORDER = ("user_id", "seen", "request_time", "sample_id")
# What events always have. Parquet decodes values that cannot be null, nor the lists they are in, a quarter faster.
EVENT_KEYS = ("event_id", "user_id", "item_id", "event_type", "event_time", "available_at", "known_at", "ordinal")
# A row holds at most this many samples, so that a chunk, the unit of shuffling, stays near its size.
ROW_SAMPLES = 1024


def row_starts(user: Int64s, seen: Int64s, *, length: int, row_samples: int = ROW_SAMPLES) -> Int64s:
    """(R,) where rows begin among S samples sorted by (user, seen).

    A user's row is cut where the next window does not touch the one before (that stores fewer events), where the row's
    window would grow beyond max(8 * length, 65,536) + length events, and after `row_samples` samples. The last two
    store `length` events again, and keep rows and the chunks made of them bounded.
    """
    if len(user) == 0:
        return np.empty(0, dtype=np.int64)
    apart = np.ones(len(user), dtype=bool)
    apart[1:] = (user[1:] != user[:-1]) | (seen[1:] - seen[:-1] > length)
    base = seen[np.maximum.accumulate(np.where(apart, np.arange(len(user)), 0))]
    piece = (seen - base) // max(8 * length, 65_536)
    apart[1:] |= piece[1:] != piece[:-1]
    begin = np.maximum.accumulate(np.where(apart, np.arange(len(user)), 0))
    apart |= (np.arange(len(user)) - begin) % row_samples == 0
    return np.flatnonzero(apart)


def pack_bucket(
    samples: pl.DataFrame,
    timeline: pl.DataFrame,
    *,
    length: int,
    history_fields: Sequence[str],
    labels: Sequence[str],
    features: Sequence[str],
    row_samples: int = ROW_SAMPLES,
) -> pa.Table:
    """Rows of a shard set (see `storage.shards`), sorted by user and time. A kernel: no I/O.

    Args:
        samples: shaped as `shapes.samples`, strings already coded; with `content_row` where the recipe has content.
        timeline: user_id, ordinal, known_at and the history fields; per user the range that the windows need, or more.
        length: L, events of a window at most.

    Raises:
        ShardError: an event of a window is missing, was not known before the request (law 4), or a column has a type
            that shards do not carry.
    """
    extra = (CONTENT_ROW,) if CONTENT_ROW in samples.columns else ()
    names = list(dict.fromkeys([*KEYS, *labels, "label_mature", *features, *extra]))
    samples = samples.select(["user_id", *(n for n in names if n != "user_id")]).sort(ORDER)
    timeline = timeline.sort("user_id", "ordinal")
    user, seen = _int64(samples["user_id"]), _int64(samples["seen"])
    starts = row_starts(user, seen, length=length, row_samples=row_samples)
    ends = np.append(starts[1:], len(user))[: len(starts)]
    first = np.maximum(seen[starts] - length, 0)
    counts = seen[ends - 1] - first if length else np.zeros(len(starts), dtype=np.int64)
    begin = _locate(timeline, user[starts], first, counts)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    index = np.repeat(begin - offsets[:-1], counts) + np.arange(offsets[-1])
    _check_windows(timeline, index, np.repeat(user[starts], counts), np.repeat(first - offsets[:-1], counts))
    _check_known(samples, timeline, np.repeat(begin - first, ends - starts), seen, length)
    sample_offsets = np.append(starts, len(user))
    columns = {"user_id": pa.array(user[starts]), "first_ordinal": pa.array(first)}
    end = counts
    for number, reach in enumerate(tiers(length)):
        # The events of the rows from `reach` before their first request on, that the newer tiers do not have.
        begin_at = np.minimum(np.maximum(seen[starts] - reach - first, 0), end)
        tier = np.concatenate([[0], np.cumsum(end - begin_at)])
        chosen = index[np.repeat(offsets[:-1] + begin_at - tier[:-1], end - begin_at) + np.arange(tier[-1])]
        history = [(name, timeline[name].gather(pl.Series(chosen))) for name in history_fields]
        columns[tier_name(number)] = _struct(history, tier, never_null=EVENT_KEYS)
        end = begin_at
    columns["samples"] = _struct(
        [(name, samples[name]) for name in names], sample_offsets, never_null=set(names) - set(features)
    )
    return pa.table(columns, schema=pa.schema([pa.field(n, c.type, nullable=False) for n, c in columns.items()]))


def _int64(column: pl.Series) -> Int64s:
    return column.cast(pl.Int64).to_numpy()


def _locate(timeline: pl.DataFrame, user: Int64s, first: Int64s, counts: Int64s) -> Int64s:
    """(R,) the row of the sorted timeline where each window begins, if its user's events are there."""
    users, ordinals = _int64(timeline["user_id"]), _int64(timeline["ordinal"])
    heads = np.flatnonzero(np.append(True, users[1:] != users[:-1]))[: len(users)]
    at = np.searchsorted(users[heads], user)
    known = at < len(heads)
    known[known] = users[heads[at[known]]] == user[known]
    missing = ~known & (counts > 0)
    if missing.any():
        row = np.flatnonzero(missing)[0]
        raise _missing(int(user[row]), int(first[row]))
    begin = np.zeros(len(user), dtype=np.int64)
    head = heads[at[known]]
    begin[known] = head + first[known] - ordinals[head]
    return begin


def _check_windows(timeline: pl.DataFrame, index: Int64s, user: Int64s, ordinal_base: Int64s) -> None:
    """Every gathered row must be the event it stands for: right user, right ordinal."""
    ordinal = ordinal_base + np.arange(len(index))
    inside = (index >= 0) & (index < timeline.height)
    right = inside.copy()
    rows = index[inside]
    right[inside] = (_int64(timeline["user_id"])[rows] == user[inside]) & (
        _int64(timeline["ordinal"])[rows] == ordinal[inside]
    )
    if not right.all():
        at = np.flatnonzero(~right)[0]
        raise _missing(int(user[at]), int(ordinal[at]))


def _check_known(samples: pl.DataFrame, timeline: pl.DataFrame, origin: Int64s, seen: Int64s, length: int) -> None:
    """The newest event of every window was known strictly before the request; timelines are sorted by known_at."""
    some = (seen > 0) & (length > 0)
    newest = _int64(timeline["known_at"].dt.timestamp("us"))[(origin + seen - 1)[some]]
    request = _int64(samples["request_time"].dt.timestamp("us"))[some]
    if (newest >= request).any():
        at = np.flatnonzero(some)[np.flatnonzero(newest >= request)[0]]
        raise ShardError(
            "a window holds an event that was not known before the request",
            where=f"sample {samples['sample_id'][int(at)]}, user {samples['user_id'][int(at)]}",
            expected="known_at < request_time",
            got=f"seen {seen[at]}",
        )


def _missing(user: int, ordinal: int) -> ShardError:
    return ShardError(
        "an event of a window is missing",
        where=f"user {user}",
        expected=f"ordinal {ordinal} in the timeline",
        got="no such event, or one twice",
        hint="the samples and the timelines must come from one pin",
    )


def _struct(
    columns: Sequence[tuple[str, pl.Series]], offsets: Int64s, *, never_null: Collection[str]
) -> pa.StructArray:
    """(R,) struct of lists. 64-bit offsets: no bucket is too large for them."""
    arrays, fields = [], []
    for name, series in columns:
        values = series.to_arrow()
        kind = values.type
        plain = pa.types.is_integer(kind) or pa.types.is_boolean(kind) or kind in (pa.float32(), pa.float64())
        if not (plain or kind == pa.timestamp("us", "UTC") or pa.types.is_date32(kind)):
            raise ShardError(
                "shards do not carry this type",
                where=f"column {name}",
                expected="numbers, booleans, strings, dates or times in µs UTC",
                got=kind,
                hint="leave the column out of the recipe",
            )
        type_ = pa.large_list(pa.field("element", kind, nullable=name not in never_null))
        arrays.append(pa.LargeListArray.from_arrays(pa.array(offsets), values, type=type_))
        fields.append(pa.field(name, type_, nullable=False))
    if not arrays:
        return pa.array([{}] * (len(offsets) - 1), type=pa.struct([]))
    return pa.StructArray.from_arrays(arrays, fields=fields)


def encode_strings(
    frame: pl.DataFrame, columns: Sequence[str], vocabularies: dict[str, list[str]]
) -> tuple[pl.DataFrame, dict[str, list[str]]]:
    """The frame with string columns as Int32 codes, null as -1, and the vocabularies grown by the new strings, sorted.

    A sample feature and a history field of one name share a vocabulary.
    """
    grown = dict(vocabularies)
    for name in columns:
        if frame.schema[name] != pl.String:
            continue
        words = grown.get(name, [])
        present = frame[name].drop_nulls().unique()
        words = words + present.filter(~present.is_in(words)).sort().to_list()
        codes = pl.col(name).cast(pl.Enum(words)).to_physical().cast(pl.Int32).fill_null(-1)
        frame, grown[name] = frame.with_columns(codes), words
    return frame, grown
