"""Suites of derived tables: `timelines.suite.json`, and `RECIPE.suite.json` for the samples of a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from ..quality.suite import check_with_gx
from ..schemas.contract import read_json
from ..schemas.errors import SuiteError
from ..storage import suites
from ..storage.catalog import Catalog
from ..storage.suites import Registered
from .publish import Suite
from .references import referred

ENDING = ".suite.json"


def load(path: Path) -> dict[str, Any]:
    """A suite from a file.

    Raises:
        SuiteError: it is none.
    """
    document = read_json(path)
    if not isinstance(document, Mapping) or not isinstance(document.get("expectations"), list):
        raise SuiteError("not a suite", where=path, expected='{"name": ..., "expectations": [...]}')
    return {"name": path.name.removesuffix(ENDING)} | dict(document)


def register(catalog: Catalog, table: str, suite: Mapping[str, Any], schema: pa.Schema | None) -> Registered:
    """Make a suite the next version of what a lake expects of a derived table. The same again changes nothing.

    `schema` is the table's, where it can be known; without it, what does not fit is found when a partition is made.

    Raises:
        SuiteError: Great Expectations or the gate does not take an expectation, or it does not fit the schema.
    """
    if suites.registered(catalog.root, table).own == suite["expectations"]:
        return suites.registered(catalog.root, table)
    check_with_gx(suite)
    if schema is not None:
        asked = Suite.of(catalog, table)
        replace(asked, expectations=referred(catalog, suite)).compiled(schema, apart=None)
    return suites.add(catalog.root, table, suite)


def add(catalog: Catalog, path: Path) -> tuple[str, Registered]:
    """Register the suite in `timelines.suite.json` or `RECIPE.suite.json`; the table and the version.

    Raises:
        SuiteError: see `register`; or the file is named after neither.
    """
    name = path.name.removesuffix(ENDING)
    suite = load(path)
    if name == "timelines":
        from .seal import timelines_schema

        schema = timelines_schema(catalog) if catalog.table("events").exists else None
        return name, register(catalog, name, suite, schema)
    recipes = [recipe.name for recipe in catalog.recipes()]
    if name not in recipes:
        raise SuiteError(
            "a suite of no table that reclake makes",
            where=path,
            expected=f"timelines{ENDING}, or RECIPE{ENDING} of one of " + ", ".join(recipes),
            got=path.name,
            hint=f"a contract's suite is registered with it: reclake contract add LAKE {name}.avsc",
        )
    table = catalog.table(f"samples/{name}")
    return table.name, register(catalog, table.name, suite, table.schema() if table.exists else None)
