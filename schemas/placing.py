"""Where a table keeps the fields of a contract, and whether contracts that share a table agree on it. Pure.

A column of a plain Delta table never changes its name or its type. So a field gets a column when it is new, and another
one when what it holds changes its type; a rename keeps the column. See docs/adr/0011.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import count

import pyarrow as pa

from .avro import AvroType, to_arrow
from .changes import type_told
from .contract import REQUIRED, RESERVED, Contract, Field
from .errors import ContractError
from .rulings import reads_exactly


def placed(contract: Contract, versions: Sequence[Contract], others: Sequence[Contract], table: pa.Schema) -> Contract:
    """The contract with a column for each field.

    Args:
        versions: the contract's versions so far, oldest first; `contract` is to follow them.
        others: the other contracts of the table.
        table: the columns that it has, empty where there is none yet.

    Raises:
        ContractError: another contract of the table has a field by this name, of a type that is not the same.
    """
    for field in contract.fields:
        stored_type(field.arrow.type, where=f"contract {contract.name}, field {field.name}")
        refuse_conflict(contract, field, others)
    last = {field.id: field for field in versions[-1].fields} if versions else {}
    kept = {
        f.id: last[f.id].column
        for f in contract.fields
        if f.id in last and _holds(last[f.id].arrow, f.arrow) and _fits(table, last[f.id].column, f.arrow)
    }
    kept |= {f.id: f.name for f in contract.fields if f.name in REQUIRED[contract.kind]}
    own = {f.column for version in versions for f in version.fields}
    # Names of fields that have their column elsewhere are no column for another: a reader would be led astray.
    taken = own | set(kept.values()) | {f.name for f in contract.fields if f.id in kept}
    columns = {field.column for other in others for field in other.fields}
    for field in contract.fields:
        if field.id not in kept:
            base = last[field.id].column.partition("__v")[0] if field.id in last else field.name
            kept[field.id] = next(
                name
                for name in _names(base, contract.version)
                if name not in taken
                and _apart(name, {*taken, *table.names, *columns, *RESERVED})
                and _fits(table, name, field.arrow)
                and _agree(others, name, field.arrow)
            )
            taken.add(kept[field.id])
    return contract.stored_in(kept)


def refuse_conflict(contract: Contract, field: Field, others: Sequence[Contract]) -> None:
    """A name means one thing in a table: the types of all its contracts' fields of that name become one."""
    for other in others:
        theirs = next((one for one in other.fields if one.name == field.name), None)
        if theirs is not None and widest([theirs.avro, field.avro]) is None:
            raise ContractError(
                "a field has another type in the table that the contract writes to",
                where=f"contract {contract.name}, field {field.name}",
                expected=f"{type_told(theirs.avro)}, as contract {other.name} has it in {other.table}",
                got=type_told(field.avro),
                hint="give the field another name; a source's column can keep its own, as an alias or in the mapping",
            )


def widest(types: Sequence[AvroType]) -> AvroType | None:
    """That of the types as which values of all of them are read exactly; None where there is none."""
    for type_ in types:
        if all(_kept_alike(other, type_) or reads_exactly(_optional(other), _optional(type_)) for other in types):
            return type_
    return None


def _kept_alike(a: AvroType, b: AvroType) -> bool:
    """Whether a table keeps values of both in the same column: an enum is text there."""
    return same_type(to_arrow(a, where="a type"), to_arrow(b, where="a type"))


def _optional(type_: AvroType) -> AvroType:
    return type_ if isinstance(type_, list) else ["null", type_]


def stored_schema(contract: Contract, rows: pa.Schema) -> pa.Schema:
    """How a table keeps rows of the contract: its columns in the order of `rows` (the contract's fields, and the
    lake's own), types that Delta knows, and null wherever another contract, or another version, may have nothing.
    """
    columns = {field.name: field.column for field in contract.fields if field.name not in REQUIRED[contract.kind]}
    return pa.schema(
        [
            pa.field(
                columns.get(f.name, f.name),
                stored_type(f.type, where=f.name),
                nullable=f.nullable or f.name in columns,
            )
            for f in rows
        ]
    )


def stored_type(type_: pa.DataType, *, where: str) -> pa.DataType:
    """The type of the column that keeps values of a type: times in µs, bytes of any length.

    Raises:
        ContractError: Delta has no such column.
    """
    if pa.types.is_timestamp(type_):
        return pa.timestamp("us", type_.tz)
    if pa.types.is_fixed_size_binary(type_):
        return pa.binary()
    if pa.types.is_list(type_):
        return pa.list_(stored_type(type_.value_type, where=f"{where}[]"))
    if pa.types.is_map(type_):
        return pa.map_(type_.key_type, stored_type(type_.item_type, where=f"{where}{{}}"))
    if pa.types.is_struct(type_):
        return pa.struct([pa.field(f.name, stored_type(f.type, where=f"{where}.{f.name}")) for f in type_])
    if pa.types.is_time(type_) or pa.types.is_null(type_):
        raise ContractError(
            "a type that Delta tables do not have",
            where=where,
            expected="a type with a column of its own",
            got=type_,
            hint="keep a time of day as a long, and leave out a field that is always null",
        )
    return type_


def same_type(a: pa.DataType, b: pa.DataType) -> bool:
    """Equal but for the names of list elements, which engines spell differently, and for what may be null."""
    if pa.types.is_map(a) and pa.types.is_map(b):
        return same_type(a.key_type, b.key_type) and same_type(a.item_type, b.item_type)
    if pa.types.is_list(a) and pa.types.is_list(b):
        return same_type(a.value_type, b.value_type)
    if pa.types.is_struct(a) and pa.types.is_struct(b):
        return a.num_fields == b.num_fields and all(
            x.name == y.name and same_type(x.type, y.type) for x, y in zip(a, b, strict=True)
        )
    plain = {pa.string_view(): pa.string(), pa.large_string(): pa.string(), pa.binary_view(): pa.binary()}
    return bool(plain.get(a, a).equals(plain.get(b, b)))


def _holds(was: pa.Field, now: pa.Field) -> bool:
    return same_type(stored_type(was.type, where=was.name), stored_type(now.type, where=now.name))


def _apart(name: str, columns: Iterable[str]) -> bool:
    """Whether no other column has the name but for case: to Delta tables, and many who read them, that is the same."""
    return not any(name != column and name.lower() == column.lower() for column in columns)


def _fits(table: pa.Schema, name: str, field: pa.Field) -> bool:
    """Whether the table may get, or has, a column of this name for the field."""
    index = table.get_field_index(name)
    if index < 0:
        return True
    column = table.field(index)
    return same_type(column.type, stored_type(field.type, where=name)) and (column.nullable or not field.nullable)


def _agree(others: Sequence[Contract], column: str, field: pa.Field) -> bool:
    return all(_holds(f.arrow, field) for other in others for f in other.fields if f.column == column)


def _names(base: str, version: int) -> Iterator[str]:
    yield base
    for number in count(version):
        yield f"{base}__v{number}"
