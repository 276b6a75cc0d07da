"""Reading: rows of a table by the names, types and defaults of its contracts, whichever version they were written with.

Every row says which version that was (column `contract`), and every version says where the table keeps its fields. So
what a row reads as is known without a look at its file, and stays the same through compaction, sealing and erasure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, count
from typing import Any

import polars as pl
import pyarrow as pa

from ..schemas import shapes
from ..schemas.avro import AvroType, split_nullable, to_arrow
from ..schemas.changes import type_told
from ..schemas.contract import Contract, Field
from ..schemas.differences import counterparts
from ..schemas.errors import ContractError
from ..schemas.placing import same_type, widest
from ..schemas.recipe import RESERVED, Recipe
from ..storage.catalog import Catalog
from ..storage.pins import Pin
from .resolving.casts import default_of, polars_type


@dataclass(frozen=True, slots=True)
class Home:
    """Where rows of some versions have a field: in a column of the table, as a type, or, without one, in a default."""

    column: str | None
    avro: AvroType
    default: Field | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Reader:
    """A contract as it is read, with every version that rows may have been written with, oldest first."""

    contract: Contract
    versions: tuple[Contract, ...]
    by_name: Mapping[str, Field]
    by_any_name: Mapping[str, Field]  # those it had before included
    by_id: tuple[Mapping[int, Field], ...]  # of each version

    @classmethod
    def of(cls, contract: Contract, versions: Sequence[Contract]) -> Reader:
        former = {alias: field for field in contract.fields for alias in field.aliases}
        own = {field.name: field for field in contract.fields}
        by_id = tuple({f.id: f for f in version.fields} for version in versions)
        return cls(contract, tuple(versions), own, former | own, by_id)

    def fields(self, *, former: bool) -> Mapping[str, Field]:
        return self.by_any_name if former else self.by_name

    @property
    def plain(self) -> bool:
        """Whether the table's columns are what the contract says, as they are."""
        return len(self.versions) == 1 and all(field.column == field.name for field in self.contract.fields)

    def homes(self, field: Field) -> Iterator[tuple[str, Home]]:
        """(tag, where rows with it have the field) of every version.

        A row from before the field has the default that the field came with: another default later is for later rows.
        A row from after it was dropped has the reader's own.
        """
        born = next(place for place, fields in enumerate(self.by_id) if field.id in fields)
        for place, (version, fields) in enumerate(zip(self.versions, self.by_id, strict=True)):
            if field.id in fields:
                yield version.tag, Home(fields[field.id].column, split_nullable(fields[field.id].avro)[0])
                continue
            given = self.by_id[born][field.id] if place < born else field
            if given.required:
                raise ContractError(
                    "rows do not have a field that the contract requires",
                    where=f"contract {self.contract.tag}, field {field.name}",
                    expected="a default, or rows of versions that have the field",
                    got=f"rows of {version.tag}, which does not have it",
                    hint="read them by the newest contract",
                )
            yield version.tag, Home(None, field.avro, given)


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """Rows of one table as its contracts say."""

    readers: tuple[Reader, ...]

    def reads(self, names: Iterable[str], have: pa.Schema) -> list[str]:
        """The columns of a table that fields of these names are read from; a name that no field has is a column's."""
        wanted = {shapes.CONTRACT}
        for name in names:
            ids = [(reader, reader.by_any_name[name].id) for reader in self.readers if name in reader.by_any_name]
            wanted |= {fields[id_].column for reader, id_ in ids for fields in reader.by_id if id_ in fields}
            wanted.add(name)
        return [name for name in have.names if name in wanted]

    def of(self, rows: pl.LazyFrame, *, names: Iterable[str] = (), only: Iterable[str] | None = None) -> pl.LazyFrame:
        """The rows, with the fields of all contracts by their names, and the lake's own columns as they are.

        Args:
            names: fields that are wanted by a name they had before, besides.
            only: fields by their names that are wanted at all; None: all of them.
        """
        schema = rows.collect_schema()
        if all(reader.plain for reader in self.readers) and not set(names) - set(schema.names()):
            return rows
        kept, wanted = self.columns(), set(names)
        fields = [
            self._field(name, schema, former=name in wanted).alias(name)
            for name in dict.fromkeys(chain(self._names(schema) if only is None else only, names))
            if self.type_of(name, former=name in wanted) is not None
        ]
        others = [pl.col(name) for name in schema.names() if name not in kept]
        return rows.select(*fields, *others)

    def schema(self, table: pa.Schema, names: Iterable[str]) -> pa.Schema:
        """The Arrow schema of rows that `of` gives of a table, for those of the names that they have or had."""
        known, kept = {name: self.type_of(name, former=True) for name in names}, self.columns()
        return pa.schema(
            [
                table.field(name) if avro is None else pa.field(name, to_arrow(avro, where=name))
                for name, avro in known.items()
                if avro is not None or (name in table.names and name not in kept)
            ]
        )

    def type_of(self, name: str, *, former: bool = False) -> AvroType | None:
        """The Avro type that a field reads as, in every contract that has it by this name; None where none has.

        Args:
            former: or had it by this name.

        Raises:
            ContractError: the contracts do not agree.
        """
        types = [fields[name].avro for r in self.readers if name in (fields := r.fields(former=former))]
        found = types[0] if all(type_ == types[0] for type_ in types[1:]) and types else widest(types)
        if types and found is None:
            raise ContractError(
                "contracts have a field of this name in types that are not one",
                where=f"field {name}",
                expected="one type, or types of which one holds all values",
                got=", ".join(map(type_told, types)),
            )
        return found

    def names_of(self, name: str) -> list[str]:
        """All names of the fields of this name, those they had before included; the name itself first."""
        fields = [reader.by_any_name[name] for reader in self.readers if name in reader.by_any_name]
        return list(dict.fromkeys(chain([name], *[(field.name, *field.aliases) for field in fields])))

    def columns(self) -> set[str]:
        """All columns that fields have, or had."""
        return {field.column for reader in self.readers for fields in reader.by_id for field in fields.values()}

    def _names(self, schema: pl.Schema) -> list[str]:
        """Fields that have a column, or may be read by their default."""
        return [
            field.name
            for reader in self.readers
            for field in reader.contract.fields
            if len(reader.versions) > 1 or field.column in schema
        ]

    def _field(self, name: str, schema: pl.Schema, *, former: bool) -> pl.Expr:
        """One field: by the version that a row was written with, from where that version keeps it."""
        target = self.type_of(name, former=former)
        homes: dict[str, tuple[Home, AvroType, list[str]]] = {}
        for reader in self.readers:
            if name in reader.fields(former=former):
                field = reader.fields(former=former)[name]
                born = first_defaults(target, [fields[field.id].avro for fields in reader.by_id if field.id in fields])
                for tag, home in reader.homes(field):
                    homes.setdefault(repr((home, born)), (home, born, []))[2].append(tag)
        found = [(home.column, tags, _read(home, born, schema)) for home, born, tags in homes.values()]
        columns = {column for column, _, _ in found}
        lacking = [reader for reader in self.readers if name not in reader.fields(former=former)]
        if len(found) == 1 and not _use(lacking, columns):
            return found[0][2]
        # A row that does not say how it was written is from before rows did: whatever there is.
        dtype = polars_type(target)
        unknown = pl.coalesce(*[value for column, _, value in found if column], pl.lit(None, dtype))
        if shapes.CONTRACT not in schema:
            return unknown
        chosen = pl.when(pl.col(shapes.CONTRACT).is_null()).then(unknown)
        for _, tags, value in found:
            chosen = chosen.when(pl.col(shapes.CONTRACT).is_in(tags)).then(value)  # type: ignore[assignment]
        return chosen.otherwise(pl.lit(None, dtype))


def _use(lacking: Sequence[Reader], columns: set[str | None]) -> bool:
    """Whether rows of contracts without a field have something else in these columns, or it is a default."""
    used = {field.column for reader in lacking for fields in reader.by_id for field in fields.values()}
    return bool(columns & used) or (None in columns and bool(lacking))


def view(catalog: Catalog, table: str, versions: Mapping[str, int] | None = None) -> View:
    """How rows of `events`, `timelines` or `content` read by the newest contracts, or by these versions of them."""
    kept_by = "events" if table == "timelines" else table
    readers = []
    for newest in catalog.contracts():
        if newest.table == kept_by and (versions is None or newest.name in versions):
            contract = newest if versions is None else catalog.contract(newest.name, versions[newest.name])
            readers.append(Reader.of(contract, catalog.contract_versions(newest.name)))
    return View(tuple(readers))


def rows_of(
    catalog: Catalog,
    table: str,
    *,
    contract: str | None = None,
    pin: Pin | None = None,
    newest: bool = False,
    names: Iterable[str] = (),
    only: Iterable[str] | None = None,
    partition: Mapping[str, Any] | None = None,
) -> pl.LazyFrame:
    """All rows of `events`, `timelines`, `content` or `samples/RECIPE`, lazily, as the contracts say.

    Args:
        contract: only rows and fields of this one, and rows from before rows said whose they are.
        pin: the rows of that pin, as its contracts and recipes say.
        newest: of a pin, as the newest ones say.
        names: fields that are wanted by a name they had before, besides.
        only: fields that are wanted at all; None: all. Of a table with thousands name those you need.
        partition: only rows with these values of partition columns.

    Raises:
        PinError: the pin does not hold the table.
        RecipeError: the recipe is unknown.
    """
    kept, version = catalog.table(table), None if pin is None else pin.version_of(table)
    recipe_name = table.partition("/")[2]
    contracts = None if pin is None or newest else pin.contracts
    if recipe_name:
        rows = kept.scan(version, partition=partition)
        recipe = catalog.recipe(recipe_name, None if pin is None or newest else pin.recipes.get(recipe_name))
        return with_features(rows, recipe, view(catalog, "timelines", contracts))
    how = view(catalog, table, contracts)
    columns = None if only is None else how.reads([*only, *names], kept.schema(version))
    rows = kept.scan(version, columns=columns, partition=partition)
    if contract is not None:
        catalog.contract(contract)  # an unknown one has no rows, but is a mistake
        how = View(tuple(reader for reader in how.readers if reader.contract.name == contract))
        if shapes.CONTRACT in rows.collect_schema():
            tags = [version.tag for reader in how.readers for version in reader.versions]
            rows = rows.filter(pl.col(shapes.CONTRACT).is_in(tags) | pl.col(shapes.CONTRACT).is_null())
        others = view(catalog, table).columns() - how.columns()
        rows = rows.drop(others, strict=False)
    return how.of(rows, names=names, only=only)


def feature_columns(recipe: Recipe, wanted: pa.Schema, have: pa.Schema) -> dict[str, str]:
    """The columns in which a sample table keeps the features of a recipe: by their names, or, where the table has that
    name with another type, by the next that is free.
    """
    chosen = {}
    for name in recipe.features:
        names = chain([name], (f"{name}__v{number}" for number in count(2)))
        type_ = wanted.field(name).type
        chosen[name] = next(n for n in names if n not in have.names or same_type(have.field(n).type, type_))
    return chosen


def with_features(samples: pl.LazyFrame, recipe: Recipe, events: View) -> pl.LazyFrame:
    """Samples with the recipe's features by its names and as the events have them now.

    Days that were assembled when a feature had another name or type have it in another column, and null in this one.
    """
    have = samples.collect_schema()
    others = RESERVED | {label.name for label in recipe.labels}
    taken: set[str] = set()
    features = []
    for name in recipe.features:
        known = [n for n in events.names_of(name) if n == name or n not in others]
        columns = [c for n in known for c in have.names() if re.fullmatch(rf"{re.escape(n)}(__v\d+)?", c)]
        avro = events.type_of(name, former=True)
        if columns != [name] and avro is not None:
            dtype = polars_type(avro)
            features.append(pl.coalesce(*[pl.col(c).cast(dtype) for c in columns], pl.lit(None, dtype)).alias(name))
            taken |= set(columns)
    if not features:
        return samples
    return samples.with_columns(features).drop([c for c in taken if c not in recipe.features])


def _read(home: Home, target: AvroType, schema: pl.Schema) -> pl.Expr:
    if home.column is None:
        assert home.default is not None
        return _literal(home.default.default, home.default.avro, target)
    if home.column not in schema:
        return pl.lit(None, polars_type(target))
    return adapted(pl.col(home.column), home.avro, target)


def _literal(value: object, avro: AvroType, target: AvroType) -> pl.Expr:
    dtype = polars_type(target)
    if value is None:
        return pl.lit(None, dtype)
    return adapted(pl.lit(default_of(value, avro, where="a default")).first(), avro, target).cast(dtype)


def first_defaults(type_: AvroType, versions: Sequence[AvroType]) -> AvroType:
    """A type in which every field within has the default that it came with: rows from before it read that one.

    Args:
        versions: the types that the field had, oldest first.
    """
    if isinstance(type_, list):
        return [branch if branch == "null" else first_defaults(branch, versions) for branch in type_]
    if not isinstance(type_, dict):
        return type_
    inner = [split_nullable(version)[0] for version in versions]
    alike = [one for one in inner if isinstance(one, dict) and one["type"] == type_["type"]]
    for entry in ("items", "values"):
        if entry in type_:
            return type_ | {entry: first_defaults(type_[entry], [one[entry] for one in alike])}
    finders, fields = [counterparts(one["fields"]) for one in alike if "fields" in one], []
    for field in type_.get("fields", ()):
        known = [one for one in (find(field) for find in finders) if one is not None]
        came_with = {"default": known[0]["default"]} if known and "default" in known[0] else {}
        fields.append(field | came_with | {"type": first_defaults(field["type"], [one["type"] for one in known])})
    return type_ | {"fields": fields} if "fields" in type_ else type_


def adapted(values: pl.Expr, old: AvroType, new: AvroType) -> pl.Expr:
    """Kernel: values of an older type as a newer one that reads them: widened, with new fields' defaults, by new names.
    Types of one layout differ in defaults, docs or symbols, which leave values as they are.

    Which changes of a type there can be is said in schemas.rulings.
    """
    was, now = split_nullable(old)[0], split_nullable(new)[0]
    if was == now or polars_type(was) == polars_type(now):
        return values
    match was, now:
        case {"type": "record"}, {"type": "record"}:
            parts, known_as = [], counterparts(was["fields"])
            for field in now["fields"]:
                known = known_as(field)
                if known is None:
                    part = _literal(field.get("default"), field["type"], field["type"])
                else:
                    part = adapted(values.struct.field(known["name"]), known["type"], field["type"])
                parts.append(part.alias(field["name"]))
            return pl.when(values.is_not_null()).then(pl.struct(parts))
        case {"type": "array"}, {"type": "array"}:
            return values.list.eval(adapted(pl.element(), was["items"], now["items"]))
        case {"type": "map"}, {"type": "map"}:
            entries = pl.List(pl.Struct({"key": pl.String(), "value": polars_type(was["values"])}))
            key, value = pl.element().struct.field("key"), pl.element().struct.field("value")
            pairs = pl.struct(key, adapted(value, was["values"], now["values"]).alias("value"))
            return values.cast(entries).list.eval(pairs).cast(polars_type(now))
        case _:
            return values.cast(polars_type(now))
