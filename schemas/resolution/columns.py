"""Decoded columns of a writer's type as columns of a reader's type, whole columns at a time. Pure.

`a` is always laid out as `wire.Wire.arrow` of the writer's type says; what comes back is of `arrow_type(reader)`.
Records, arrays and maps are resolved without nulls: where one may be null, the others are taken out and put back.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from ..avro import LOGICAL, PRIMITIVES
from ..errors import ContractError, SourceError
from . import defaults
from .decimals import decimals
from .matching import branch_for, fields, matches, mismatch
from .own import own
from .telling import told
from .types import ANY, Array, Decimal, Enum, Field, Fixed, Map, Plain, Primitive, Record, Type, Union, identity, label
from .wire import wire

_LEAVES = (Primitive, Fixed, Enum)
_BRANCHES_MAX = 127  # what Arrow's type codes can name


def arrow_type(type_: Type, at: str) -> pa.DataType:
    """The Arrow type of a reader's type. Uuids are text, or 16 bytes where they are fixed; durations are 12 bytes.

    Raises:
        ContractError: a union of too many types; types that contain themselves are refused by `wire` before.
    """
    match type_:
        case Union(branches=branches) if len(branches) > _BRANCHES_MAX:
            what, most = "a union of more types than a column can hold", f"at most {_BRANCHES_MAX} types"
            raise ContractError(what, where=at, expected=most, got=f"{len(branches)}")
        case Union(branches=branches, values=values) if len(values) > 1:
            return pa.dense_union([pa.field(identity(branch), arrow_type(branch, at)) for branch in branches])
        case Union(values=values):
            return arrow_type(values[0], at) if values else pa.null()
        case Primitive(logical=Decimal() as decimal) | Fixed(logical=Decimal() as decimal):
            wide = pa.decimal128 if decimal.precision <= 38 else pa.decimal256
            return wide(decimal.precision, decimal.scale)
        case Primitive(kind=kind, logical="timestamp-nanos"):
            return pa.timestamp("ns", tz="UTC")
        case Primitive(kind=kind, logical="local-timestamp-nanos"):
            return pa.timestamp("ns")
        case Primitive(kind=kind, logical=logical):
            return LOGICAL.get((kind, str(logical)), PRIMITIVES[kind])
        case Fixed(size=size):
            return pa.binary(size)
        case Enum():
            return pa.string()
        case Array(items=items):
            return pa.list_(arrow_type(items, f"{at}[]"))
        case Map(values=values):
            return pa.map_(pa.string(), arrow_type(values, f"{at}{{}}"))
        case Record():
            return pa.struct([_arrow_field(field, _step(at, field.name)) for field in type_.fields])


def column(a: pa.Array, writer: Type, reader: Type, at: str) -> pa.Array:
    """A column resolved to the reader's type. Union branches that no value took are not looked into.

    Raises:
        ContractError: the types do not match, or a field is missing that has no default.
        SourceError: a value has no place in the reader's type: a null, an enum symbol, a decimal of too many digits.
    """
    if isinstance(writer, Union):
        return _from_union(a, writer, reader, at)
    if isinstance(reader, Union):
        branch = branch_for(writer, reader)
        if branch is None:
            raise _no_match(label(writer), reader, at, f"no branch takes {label(writer)}")
        if len(reader.values) > 1:
            return _of_branch(column(a, writer, branch, at), branch, reader, at)
        if branch.kind == "null":
            return pa.nulls(len(a), arrow_type(reader, at))
        return column(a, writer, branch, at)
    return _plain(a, writer, reader, at)


def record(a: pa.StructArray, writer: Record, reader: Record, at: str) -> pa.StructArray:
    """Records, none of them null: fields by name or alias, in the reader's order, else their defaults."""
    children, told = [], []
    for _, field, source in fields(writer, reader):
        here = _step(at, field.name)
        if source is not None:
            children.append(column(a.field(source), writer.fields[source].type, field.type, here))
        elif field.has_default:
            children.append(_repeated(field, len(a), here))
        else:
            raise _no_match("absent", field.type, here, "the writer has no such field, and it has no default")
        told.append(_arrow_field(field, here))
    if not children:
        return pa.array([{}] * len(a), pa.struct([]))
    return pa.StructArray.from_arrays(children, fields=told)


def _plain(a: pa.Array, writer: Plain, reader: Plain, at: str) -> pa.Array:
    if reader is ANY:
        return _told(a, writer, at)
    if not matches(writer, reader):
        raise _no_match(label(writer), reader, at, mismatch(writer, reader))
    match writer, reader:
        case Enum(), Enum():
            return _symbols(a, writer, reader, at)
        case Fixed(), Fixed():
            return _meaning(a, reader, at)
        case Primitive(), Primitive():
            return _meaning(_promoted(a, writer.kind, reader.kind, at), reader, at)
        case Array(), Array():
            items = column(a.flatten(), writer.items, reader.items, f"{at}[]")
            return pa.ListArray.from_arrays(_offsets(a), items, type=pa.list_(items.type))
        case Map(), Map():
            entries = a.flatten()
            values = column(entries.field(1), writer.values, reader.values, f"{at}{{}}")
            keys = entries.field(0)
            return pa.MapArray.from_arrays(_offsets(a), keys, values, type=pa.map_(pa.string(), values.type))
        case Record(), Record():
            return record(a, writer, reader, at)
    raise _no_match(label(writer), reader, at, mismatch(writer, reader))


def _told(a: pa.Array, writer: Plain, at: str) -> pa.Array:
    """Values of any type as text. What itself has no column, a decimal of many digits, is read as what it is first."""
    as_it_is = own(writer)
    return told(column(a, writer, writer if as_it_is is ANY else as_it_is, at))


def _from_union(a: pa.Array, writer: Union, reader: Type, at: str) -> pa.Array:
    target, taken = arrow_type(reader, at), 0
    pieces: list[pa.Array] = []
    places = np.full(len(a), -1, np.int64)
    optional, several = writer.nullable and len(writer.values) == 1, isinstance(target, pa.DenseUnionType)
    for index, branch in enumerate(writer.branches):
        if branch.kind == "null":
            continue
        part = a if optional else a.field(f"b{index}")
        leaves = isinstance(branch, _LEAVES) and not several
        if optional and len(a) > a.null_count and (a.null_count == 0 or leaves):
            _check_nulls(a.null_count, reader, at)
            return column(a, branch, reader, at)
        taking = pc.and_(a.is_valid(), part.is_valid())  # below a null, a decoder leaves what it likes
        rows = np.flatnonzero(taking.to_numpy(zero_copy_only=False))
        if not len(rows):
            continue
        pieces.append(column(part.filter(taking), branch, reader, at))
        places[rows] = taken + np.arange(len(rows))
        taken += len(rows)
    nulls = len(a) - taken
    _check_nulls(nulls, reader, at)
    if not several:
        taking = pa.array(places, mask=places < 0)
        return pa.concat_arrays(pieces).take(taking) if pieces else pa.nulls(len(a), target)
    null = Primitive("null")  # no union is null itself: one of its branches is
    pieces += [column(pa.nulls(nulls), null, reader, at)] if nulls else []
    places[places < 0] = taken + np.arange(nulls)
    return pa.concat_arrays(pieces).take(pa.array(places)) if pieces else pa.nulls(0, target)


def _of_branch(a: pa.Array, branch: Plain, reader: Union, at: str) -> pa.UnionArray:
    """A branch's values as those of a union of several types."""
    told, place = arrow_type(reader, at), reader.branches.index(branch)
    children = [a if child == place else pa.nulls(0, field.type) for child, field in enumerate(told)]
    places, offsets = np.full(len(a), place, np.int8), np.arange(len(a), dtype=np.int32)
    names = [field.name for field in told]
    return pa.UnionArray.from_dense(pa.array(places), pa.array(offsets), children, names)


def _check_nulls(nulls: int, reader: Type, at: str) -> None:
    accepts = reader.nullable if isinstance(reader, Union) else reader.kind == "null"
    if nulls and not accepts:
        raise SourceError(
            "nulls in a field that has none",
            where=at,
            expected=label(reader),
            got=f"{nulls} nulls",
            hint='give the reader\'s field the type ["null", …]',
        )


def _symbols(a: pa.Array, writer: Enum, reader: Enum, at: str) -> pa.Array:
    """Symbols by their places; the reader's default for those it does not know."""
    wanted = [s if s in reader.symbols else reader.default for s in writer.symbols]
    if len(a) > a.null_count:
        least, most = pc.min_max(a).values()
        if least.as_py() < 0 or most.as_py() >= len(wanted):
            got = f"places {least} to {most}"
            raise SourceError("an enum's place that no symbol has", where=at, expected=label(writer), got=got)
    out = pa.array(wanted, pa.string()).take(a)
    if out.null_count > a.null_count:
        unknown = [s for s, w in zip(writer.symbols, wanted, strict=True) if w is None]
        used = pa.array(writer.symbols, pa.string()).take(a.drop_null()).unique().to_pylist()
        raise SourceError(
            "a symbol that the reader does not have",
            where=at,
            expected=", ".join(reader.symbols),
            got=", ".join(s for s in unknown if s in used),
            hint="give the reader's enum this symbol, or a default",
        )
    return out


def _promoted(a: pa.Array, writer: str, reader: str, at: str) -> pa.Array:
    """The promotions; those to float and double round to the nearest."""
    if writer == reader:
        return a
    try:
        return a.cast(PRIMITIVES[reader], safe=reader in ("string", "bytes", "long"))
    except pa.ArrowInvalid as error:
        raise SourceError("bytes that are no text", where=at, expected="UTF-8", got=str(error)) from None


def _meaning(a: pa.Array, reader: Primitive | Fixed, at: str) -> pa.Array:
    """Bits as the values they stand for."""
    target = arrow_type(reader, at)
    if isinstance(reader.logical, Decimal):
        return decimals(a, target, at)
    if target == a.type:
        return a
    return a.cast(target) if isinstance(reader, Fixed) else a.view(target)


def _repeated(field: Field, rows: int, at: str) -> pa.Array:
    value: Any = defaults.of_field(field, where=at)
    one = pa.array([value], wire(field.type, where=at).arrow)
    return column(one, field.type, field.type, at).take(pa.array(np.zeros(rows, np.int32)))


def _offsets(a: pa.ListArray) -> pa.Array:
    """Offsets from 0 on, whatever the array was sliced from."""
    offsets: npt.NDArray[np.int32] = a.offsets.to_numpy()
    return pa.array(offsets - offsets[0])


def _arrow_field(field: Field, at: str) -> pa.Field:
    nullable = field.type.nullable if isinstance(field.type, Union) else field.type.kind == "null"
    return pa.field(field.name, arrow_type(field.type, at), nullable=nullable)


def _step(at: str, name: str) -> str:
    return f"{at}.{name}" if at else name


def _no_match(writer: str, reader: Type, at: str, why: str) -> ContractError:
    return ContractError(
        "the writer's type does not resolve to the reader's",
        where=at,
        expected=label(reader),
        got=f"{writer} ({why})",
        hint="reclake contract diff WRITER.avsc READER.avsc tells all that differs; mend the reader's schema",
    )
