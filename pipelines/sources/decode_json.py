"""JSON lines to batches. Lines that are no JSON object are set aside as they stand; the rest is read by column."""

from __future__ import annotations

import io
import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from ...schemas.avro import AvroType, split_nullable
from ...schemas.contract import Contract
from ...schemas.errors import SourceError
from ...schemas.failures import POLARS_FAILURES
from ..resolving.isolate import first_line, isolate
from .batch import Rows, SourceBatch, Undecodable, decode_reason
from .text_stream import GZIP_FAILURES, open_text
from .text_types import HEAD_ROWS, apply_types, declared_types

_LEAF = 256
_EXPECTED = "a JSON object on one line"
_SCALARS: dict[type[pl.DataType], AvroType] = {
    pl.Int64: "long",
    pl.UInt64: "long",
    pl.Float64: "double",
    pl.Boolean: "boolean",
}


@dataclass(frozen=True, slots=True)
class Plan:
    """`schema`: the columns and the types they are read as, text wherever a strict cast follows; `types`: those casts
    that belong to decoding, by column; `numbers`: text columns tried as numbers first, which is faster. Polars takes
    only JSON numbers of the type then, so that what it takes is what the cast would give. `former`: other names that a
    field goes by; every row names its own fields, so that rows of old and new writers may stand in one file.
    `absent`: what a field is that may be null and has another default, where a row does not name it. `optional`: other
    fields that the first lines do not name; where no row gives one of them, there is no such column.
    """

    schema: dict[str, pl.DataType]
    types: dict[str, AvroType]
    numbers: dict[str, pl.DataType]
    former: dict[str, tuple[str, ...]]
    absent: dict[str, Any]
    optional: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Lines:
    """Decoded lines: `frame`, `kept` (the line of each of its rows), `bad` (line, reason)."""

    frame: pl.DataFrame
    kept: Rows
    bad: list[tuple[int, dict[str, str | None]]]


def plan(lines: Sequence[bytes], contract: Contract, *, all_fields: bool = False) -> Plan:
    """How to read lines that begin like these.

    The columns are the keys of the first lines, the contract's optional fields and what its mapping declares. Without
    a mapping everything is read as text. With one, columns it gives no type get the type they have in these lines.
    `all_fields` adds the required fields too, for rows that are known to belong to the contract.
    """
    head = [line for line in lines if _is_object(line)]
    natural = _natural(head)
    types = declared_types(contract)
    schema: dict[str, pl.DataType] = dict.fromkeys(natural, pl.String())
    if contract.mapping is None:
        by_name = {name: field.avro for field in contract.fields for name in (*field.aliases, field.name)}
        wanted = [
            field
            for field in contract.fields
            if all_fields or not (head and field.required) or natural.keys() & {field.name, *field.aliases}
        ]
        names = [name for field in wanted for name in (field.name, *field.aliases)]
        former = {field.name: field.aliases for field in wanted if field.aliases}
        absent = {field.name: field.default for field in wanted if field.nullable and field.default is not None}
        numbers = _numbers(natural, by_name)
        optional = frozenset() if all_fields else frozenset(names) - natural.keys() - absent.keys()
        return Plan(schema | dict.fromkeys(names, pl.String()), {}, numbers, former, absent, optional)
    for name, dtype in natural.items():
        if name in types:
            continue
        if dtype.is_nested():
            schema[name] = dtype
        elif type(dtype) in _SCALARS:
            types[name] = _SCALARS[type(dtype)]
    return Plan(schema | dict.fromkeys(types, pl.String()), types, _numbers(natural, types), {}, {})


def _numbers(natural: dict[str, pl.DataType], wanted: dict[str, AvroType]) -> dict[str, pl.DataType]:
    """Columns that are numbers in the first lines and are wanted as such."""
    numbers: dict[str, pl.DataType] = {}
    for name in natural.keys() & wanted.keys():
        inner, _ = split_nullable(wanted[name])
        kind = inner.get("type") if isinstance(inner, dict) else inner
        if kind in ("int", "long") and natural[name] == pl.Int64:
            numbers[name] = pl.Int64()
        elif kind == "double" and natural[name] in (pl.Int64, pl.Float64):
            numbers[name] = pl.Float64()
    return numbers


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False


def _natural(lines: list[bytes]) -> dict[str, pl.DataType]:
    """Names and types of the columns of some lines, by Polars, which may know fewer lines as JSON than Python."""
    found = isolate(
        len(lines),
        lambda start, stop: pl.read_ndjson(io.BytesIO(b"\n".join(lines[start:stop])), infer_schema_length=None),
    )
    schema: dict[str, pl.DataType] = {}
    for _, _, frame in found.pieces:
        for name, dtype in frame.schema.items():
            known = schema.get(name, pl.Null())
            mixed = dtype != known and pl.Null() not in (dtype, known)
            schema[name] = pl.String() if mixed else known if dtype == pl.Null() else dtype
    return schema


def decode(lines: Sequence[bytes], how: Plan) -> Lines:
    """Lines to columns. Blank ones are neither kept nor bad."""
    kept, bad = np.arange(len(lines)), list[tuple[int, dict[str, str | None]]]()
    frame = _read_or_none(lines, how.schema | how.numbers) if how.numbers else None
    if frame is None:
        frame = _read_or_none(lines, how.schema)
    if frame is None:
        frame, kept, bad = _isolated(lines, how)
    frame = _with_absent(
        _by_present_names(frame, how), [lines[place] for place in kept.tolist()] if how.absent else [], how
    )
    if frame.height:
        given = how.optional & set(frame.columns)
        frame = frame.drop(name for name in given if frame[name].null_count() == frame.height)
    typed = apply_types(frame, how.types)
    if typed.bad:
        places = np.array([place for place, _ in typed.bad])
        bad = sorted(bad + [(int(kept[place]), reason) for place, reason in typed.bad], key=lambda one: one[0])
        good = np.setdiff1d(np.arange(frame.height), places)
        return Lines(typed.frame[good], kept[good], bad)
    return Lines(typed.frame, kept, bad)


def _by_present_names(frame: pl.DataFrame, how: Plan) -> pl.DataFrame:
    """Each field in one column, of the name it has now: of a row, what it gives by that name, else by a former one."""
    for name, former in how.former.items():
        columns = [name, *former]
        if len({frame.schema[column] for column in columns}) > 1:
            frame = frame.with_columns(pl.col(columns).cast(pl.String))
        frame = frame.with_columns(pl.coalesce(columns).alias(name)).drop(former)
    return frame


def _with_absent(frame: pl.DataFrame, lines: Sequence[bytes], how: Plan) -> pl.DataFrame:
    """Defaults for fields that a row does not name; a null that it gives stays."""
    for name, default in how.absent.items():
        names = (name, *how.former.get(name, ()))
        null = frame[name].is_null()
        if not null.any():
            continue
        text = pl.Series(lines, dtype=pl.Binary)
        named = pl.select(pl.any_horizontal([pl.lit(text.bin.contains(b'"%s"' % n.encode())) for n in names]))
        perhaps = (null & named.to_series()).arg_true().to_list()  # the name may stand elsewhere in the line
        given = [place for place in perhaps if json.loads(lines[place]).keys() & set(names)]
        absent = null.scatter(given, False) if given else null
        value = default if frame.schema[name].is_numeric() or isinstance(default, str) else json.dumps(default)
        frame = frame.with_columns(
            pl.when(absent).then(pl.lit(value)).otherwise(name).cast(frame.schema[name]).alias(name)
        )
    return frame


def _read(lines: Sequence[bytes], schema: dict[str, pl.DataType]) -> pl.DataFrame:
    text = b"\n".join(lines) if lines and not lines[0].endswith(b"\n") else b"".join(lines)
    return pl.read_ndjson(io.BytesIO(text), schema=schema)


def _read_or_none(lines: Sequence[bytes], schema: dict[str, pl.DataType]) -> pl.DataFrame | None:
    """The lines as a frame, or None where not each of them is a row of it."""
    try:
        frame = _read(lines, schema)
    except POLARS_FAILURES:
        return None
    return frame if frame.height == len(lines) else None


def _isolated(lines: Sequence[bytes], how: Plan) -> tuple[pl.DataFrame, Rows, list[tuple[int, dict[str, str | None]]]]:
    """Without blank lines, and the bad ones found: by halves, then line by line among the few around a bad one."""
    kept = np.array([place for place, line in enumerate(lines) if not line.isspace() and line], dtype=np.int64)
    full = [lines[place] for place in kept]

    def attempt(start: int, stop: int) -> pl.DataFrame:
        frame = _read(full[start:stop], how.schema)
        if frame.height != stop - start:
            raise pl.exceptions.ComputeError("it does not hold one object")
        return frame

    coarse = isolate(len(full), attempt, leaf=_LEAF)
    pieces, bad = list(coarse.pieces), list[tuple[int, BaseException]]()
    for start, stop, _ in coarse.failed:
        # Most bad lines are no JSON at all: without them the rest of these lines is read in few attempts.
        good = [place for place in range(start, stop) if _is_object(full[place])]
        refused = sorted(set(range(start, stop)) - set(good))
        bad += [(place, ValueError("not a JSON object")) for place in refused]
        for run in _runs(good):
            fine = isolate(len(run), lambda a, b, at=run[0]: attempt(at + a, at + b))  # type: ignore[misc]
            pieces += [(run[0] + a, run[0] + b, frame) for a, b, frame in fine.pieces]
            bad += [(run[0] + a, error) for a, _, error in fine.failed]
    pieces.sort(key=lambda piece: piece[0])
    frames = [frame for _, _, frame in pieces] or [pl.DataFrame(schema=how.schema)]
    lost = {place for place, _ in bad}
    reasons = [
        (int(kept[place]), decode_reason(_EXPECTED, f"{_shown(full[place])}: {first_line(error)[:200]}"))
        for place, error in sorted(bad, key=lambda one: one[0])
    ]
    return pl.concat(frames), kept[[place not in lost for place in range(len(full))]], reasons


def _runs(places: list[int]) -> list[list[int]]:
    """Neighbouring numbers together."""
    runs: list[list[int]] = []
    for place in places:
        if runs and runs[-1][-1] == place - 1:
            runs[-1].append(place)
        else:
            runs.append([place])
    return runs


def _shown(line: bytes) -> str:
    text = line.decode(errors="replace").rstrip("\r\n")
    return repr(text[:100]) + ("…" if len(text) > 100 else "")


def check(path: Path, contract: Contract) -> Plan:
    """Read the first lines; how to read them all.

    Raises:
        SourceError: it is empty, or holds one JSON document instead of one a line.
    """
    with open_text(path) as file:
        head = [line for line in itertools.islice(file, HEAD_ROWS) if not line.isspace()]
    first = head[0].strip() if head else b""
    if first in (b"[", b"{") or first.startswith((b"[{", b"[ {")):
        raise SourceError(
            "one JSON document, not JSON lines",
            where=path,
            expected=_EXPECTED,
            got=_shown(head[0]),
            hint=f"write one object a line: jq -c '.[]' {path.name} > {path.stem}.jsonl",
        )
    return plan(head, contract)


def batches(path: Path, how: Plan, *, start_row: int, batch_rows: int) -> Iterator[SourceBatch]:
    """Lines from `start_row` on, cut at multiples of `batch_rows` lines. A row's number is its line's, from 0."""
    with open_text(path) as file:
        end = 0
        damage: BaseException | None = None
        while damage is None:
            lines: list[bytes] = []
            try:
                lines.extend(itertools.islice(file, batch_rows))  # what came before an error stays in the list
            except GZIP_FAILURES as error:
                damage = error
            first, end = max(end, start_row), end + len(lines)
            if end > start_row and lines:
                yield _batch(lines[first - end :], how, first)
            if not lines:
                break
        if damage is not None:
            raise damage


def _batch(lines: list[bytes], how: Plan, first_row: int) -> SourceBatch:
    found = decode(lines, how)
    every = len(found.kept) == len(lines)
    some = [line for line in lines[:: -(-len(lines) // HEAD_ROWS)] if _is_object(line)]
    return SourceBatch(
        frame=found.frame,
        rows=found.kept + first_row,
        first_row=first_row,
        end_row=first_row + len(lines),
        undecodable=tuple(
            Undecodable(first_row + place, lines[place].rstrip(b"\r\n"), "json", reason) for place, reason in found.bad
        ),
        lines=tuple(lines) if every else tuple(lines[place] for place in found.kept),
        unread=tuple(name for name in _natural(some) if name not in how.schema),
    )
