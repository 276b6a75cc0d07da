"""A lake: a folder with contracts, recipes, pins and Delta tables, and what it says about itself.

LAKE/lake.json                      format and number of buckets
LAKE/contracts/NAME/0001.json       every version of every contract
LAKE/recipes/NAME/0001.json         every version of every recipe
LAKE/suites/TABLE/0002.json         what partitions of derived tables must be besides
LAKE/pins/NAME.json                 exact versions of all tables
LAKE/outputs/…                      shard sets and reports that were made of it
LAKE/erasures/…, LAKE/receipts/…    requests to forget users, and proof that it was done
LAKE/sources/NAME.json              sources that are being followed
LAKE/tables/…                       plain Delta tables
LAKE/blobs/…                        media, by digest
LAKE/work/…                         what operators made for media runs that are not published yet
LAKE/cache/…                        what can be made again from the tables: delete it whenever you like
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import lru_cache, reduce
from pathlib import Path
from typing import TypeVar

import pyarrow as pa

from ..schemas import contract as contracts
from ..schemas import recipe as recipes
from ..schemas.changes import apply
from ..schemas.contract import Contract
from ..schemas.differences import changes_between, refuse_reuse
from ..schemas.errors import (
    ContractError,
    LakeExistsError,
    LakeNotFoundError,
    PinError,
    RecipeError,
    ReclakeError,
    StorageError,
)
from ..schemas.placing import placed
from ..schemas.recipe import Recipe
from ..schemas.rulings import judge, refuse
from . import documents, followed, log, places
from .blobs import Blobs
from .faults import translated
from .followed import Followed
from .forked import check_process
from .objects import ObjectPath
from .pins import Pin
from .places import Place
from .table import Layout, Table
from .work import Work

FORMAT = 1
DEFAULT_BUCKETS = 16
SEAL = "reclake/seal"  # application transaction: a table is sealed through this many µs

LAYOUTS: dict[str, Layout] = {
    "events": Layout(("known_day",), ("bucket", "user_id", "known_at", "event_id"), "bucket"),
    "timelines": Layout(("era", "bucket"), ("user_id", "ordinal")),
    "directory": Layout(("era",), ("bucket", "user_id")),
    "samples": Layout(("day",), ("bucket", "user_id", "request_time", "sample_id"), "bucket"),
    "content": Layout((), ("item_id", "known_at")),
    "quarantine": Layout(),
    "replays": Layout(),
    "verdicts": Layout(),
    "dead_letters": Layout(),
    "metrics": Layout(),
}

_PIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")

T = TypeVar("T", Contract, Recipe)


@dataclass(frozen=True, slots=True)
class Catalog:
    """The places of one lake."""

    root: Place
    buckets: int

    @classmethod
    def create(
        cls,
        root: str | Path,
        *,
        buckets: int = DEFAULT_BUCKETS,
        storage_options: Mapping[str, str] | None = None,
    ) -> Catalog:
        """A new lake with the shipped contracts and recipes; a lake that is there already is opened.

        Raises:
            LakeExistsError: it is there with another number of buckets, which never changes.
            StorageError: the place cannot be written, or is an object store that knows no conditional puts.
        """
        where = _place(root, storage_options)
        if not 1 <= buckets <= 4096:
            raise ReclakeError("not a number of buckets", expected="1 to 4096", got=buckets)
        if isinstance(where, ObjectPath) and not (where / "lake.json").exists():
            where.check_conditions()
        if not documents.create(where / "lake.json", {"format": FORMAT, "buckets": buckets}):
            catalog = cls.open(root, storage_options=storage_options)
            if catalog.buckets != buckets:
                raise LakeExistsError(
                    "a lake with another number of buckets is already here",
                    where=where,
                    expected=f"{buckets} buckets",
                    got=f"{catalog.buckets} buckets",
                    hint="open the lake as it is, or choose another folder",
                )
        catalog = cls(where, buckets)
        for name in contracts.shipped_names():
            catalog.add_contract(contracts.shipped(name))
        for recipe in recipes.shipped():
            catalog.add_recipe(recipe)
        return catalog

    @classmethod
    def open(cls, root: str | Path, *, storage_options: Mapping[str, str] | None = None) -> Catalog:
        """The lake at a folder or an s3:// address; see storage.places for the options.

        Raises:
            LakeNotFoundError: there is none.
        """
        where = _place(root, storage_options)
        try:
            about = documents.read(where / "lake.json")
        except (FileNotFoundError, NotADirectoryError):
            raise LakeNotFoundError(
                "no lake here",
                where=where,
                expected="a folder made by `reclake init`",
                got="a folder without lake.json" if where.is_dir() else "nothing at this path",
                hint=f"reclake init {root}",
            ) from None
        if not isinstance(about, dict) or about.get("format") != FORMAT or not isinstance(about.get("buckets"), int):
            raise LakeNotFoundError(
                "a lake of another format",
                where=where / "lake.json",
                expected=f'"format": {FORMAT} and "buckets": a number',
                got=about,
                hint="restore the file, or open the lake with the reclake that made it",
            )
        return cls(where, int(about["buckets"]))

    def table(self, name: str) -> Table:
        """A table by name; sample sets are `samples/RECIPE`. It may not exist yet.

        Raises:
            EngineError: this process was forked from one that had used Polars.
        """
        check_process()
        layout = LAYOUTS[name.partition("/")[0]]
        return Table(self.root / "tables" / name, name, layout, self.cache / "footers")

    def table_names(self) -> list[str]:
        """The tables that exist."""
        base = self.root / "tables"
        names = []
        for name in places.names(base):
            inner = [] if self.table(name).exists else places.names(base / name)
            names += [f"{name}/{each}" for each in inner] or [name]
        return sorted(name for name in names if name.partition("/")[0] in LAYOUTS and self.table(name).exists)

    def on_disk(self) -> Path:
        """The folder of a lake on a file system.

        Raises:
            StorageError: the lake is in an object store.
        """
        if not isinstance(self.root, Path):
            raise StorageError(
                "this cannot be done with a lake in an object store",
                where=self.root,
                expected="init, contract, ingest, writer, quarantine, seal (engine local), samples, pin, pack, report, "
                "compact, vacuum, doctor",
                hint="for media, forget and the Spark engine keep the lake on a file system",
            )
        return self.root

    @property
    def blobs(self) -> Blobs:
        return Blobs(self.on_disk() / "blobs")

    @property
    def work(self) -> Work:
        return Work(self.on_disk() / "work")

    @property
    def cache(self) -> Path:
        """Where caches of the tables live; of a lake in an object store, on this machine."""
        if isinstance(self.root, Path):
            return self.root / "cache"
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        return Path(base) / "reclake" / hashlib.blake2b(str(self.root).encode(), digest_size=8).hexdigest()

    @property
    def sealed_through_us(self) -> int | None:
        """The end of the last sealed era, µs; None where nothing is sealed."""
        return self.table("timelines").transaction(SEAL)

    def barrier_us(self, table: Table) -> int | None:
        """Before when, µs, nothing that is appended to a table can have been known; None where no seal was begun.

        A seal sets it on `events`, then on `content` if that is there. So it holds for a commit that directly follows a
        version of `table` that was read before this.
        """
        barriers = self.table("events").transaction(SEAL), table.transaction(SEAL)
        return max((barrier for barrier in barriers if barrier is not None), default=None)

    def followed(self) -> list[Followed]:
        """Sources that are being followed, with their watermarks."""
        return followed.read(self.sources_folder)

    @property
    def sources_folder(self) -> Place:
        return self.root / "sources"

    def contract(self, name: str, version: int | None = None) -> Contract:
        """A contract; the newest version unless told.

        Raises:
            ContractError: the lake does not have it.
        """
        path = self._path("contracts", name, version, ContractError, "reclake contract add LAKE NAME.avsc")
        stat = path.stat()
        return _contract(path, stat.st_ino, stat.st_mtime_ns)

    def contract_versions(self, name: str) -> list[Contract]:
        """All versions of a contract, oldest first; none where the lake does not have it."""
        return [self.contract(name, version) for version in self._versions("contracts", name)]

    def contracts(self) -> list[Contract]:
        """The newest version of every contract."""
        return [self.contract(name) for name in self._names("contracts")]

    def next_contract(self, contract: Contract) -> Contract:
        """What a contract would be registered as: the version it gets, and where the table keeps its fields. A
        contract that says nothing new is its last version.

        Raises:
            ContractError: an id or a name is used again, or another contract of the table has another type.
        """
        versions = self.contract_versions(contract.name)
        if versions:
            last = versions[-1]
            if contract.kind != last.kind:
                raise ContractError(
                    "a contract of another kind",
                    where=f"contract {contract.name}",
                    expected=f"{last.kind}, as version {last.version}",
                    got=contract.kind,
                    hint="give the new contract another name",
                )
            refuse_reuse(versions, contract)
            # What is registered is the last version with the changes: names that the field had stay as aliases.
            record = reduce(apply, changes_between(last, contract), last.in_full)
            policy = contract.to_json()["policy"]
            contract = contracts.parse(contract.name, record, suite=contract.expectations, policy=policy)
            if contract.fingerprint == last.fingerprint:
                return last
        others = [c for c in self.contracts() if c.table == contract.table and c.name != contract.name]
        table = self.table(contract.table)
        columns = table.schema() if table.exists else pa.schema([])
        return placed(replace(contract, version=len(versions) + 1), versions, others, columns)

    def add_contract(self, contract: Contract) -> Contract:
        """Register a contract; the same again changes nothing, a change that is accepted is its next version.

        What stored rows must fulfil is not looked at here: see pipelines.evolve.

        Raises:
            ContractError: rows written under the last version could not be read by this one.
        """
        following = self.next_contract(contract)
        if following.version in self._versions("contracts", contract.name):
            return following
        if following.version > 1:
            last = self.contract(contract.name)
            changes = changes_between(last, following)
            refuse(judge(changes, last.in_full, following.in_full, last.kind), last)
        return self._add("contracts", following, following.version)

    def recipe(self, name: str, version: int | None = None) -> Recipe:
        """A recipe; the newest version unless told.

        Raises:
            RecipeError: the lake does not have it.
        """
        hint = "give the path of a recipe file, e.g. reclake samples LAKE ./my.json --day DAY"
        return recipes.parse(documents.read(self._path("recipes", name, version, RecipeError, hint)))

    def recipes(self) -> list[Recipe]:
        """The newest version of every recipe."""
        return [self.recipe(name) for name in self._names("recipes")]

    def add_recipe(self, recipe: Recipe) -> Recipe:
        """Register a recipe; the same again changes nothing, another is its next version."""
        if recipe.name not in self._names("recipes"):
            return self._add("recipes", recipe, 1)
        last = self.recipe(recipe.name)
        if last.fingerprint == recipe.fingerprint:
            return last
        return self._add("recipes", recipe, last.version + 1)

    def pin(self, name: str) -> Pin:
        """A pin by name.

        Raises:
            PinError: there is none of that name.
        """
        try:
            return Pin.from_json(documents.read(self._pin_path(name)))
        except FileNotFoundError:
            raise PinError(
                "unknown pin",
                where=self.root,
                expected=", ".join(self.pin_names()) or "a pin; there are none yet",
                got=name,
                hint=f"reclake pin {self.root} {name}",
            ) from None

    def pin_names(self) -> list[str]:
        return sorted(path.stem for path in (self.root / "pins").glob("*.json"))

    def create_pin(self, name: str, *, until_us: int | None = None) -> Pin:
        """Name the present versions of all tables. The same name again is the same pin if nothing changed.

        They belong together, whatever commits meanwhile: what a pinned table was made from is pinned too.
        With `until_us` it expires then: it no longer keeps anything, and cannot be opened.

        Raises:
            PinError: the name is taken by other versions.
        """
        sealed, tables = self._present()
        pin = Pin(
            name=name,
            tables=tables,
            contracts={contract.name: contract.version for contract in self.contracts()},
            recipes={recipe.name: recipe.version for recipe in self.recipes()},
            sealed_through_us=sealed,
            until_us=until_us,
        )
        if not documents.create(self._pin_path(name), pin.to_json()):
            taken = self.pin(name)
            if taken != pin:
                another = replace(taken, until_us=until_us) == pin
                raise PinError(
                    f"the name is taken by a pin {'until another time' if another else 'of other versions'}",
                    where=self.root,
                    expected="a new name",
                    got=name,
                    hint=f"reclake unpin {self.root} {name}, or choose another name",
                )
        return pin

    def _present(self) -> tuple[int | None, dict[str, int]]:
        """How far the lake is sealed, and the version of each table then.

        A seal is in all of them or in none; samples come first, so that what they name is there.
        """
        while True:
            sealed, names = self.sealed_through_us, self.table_names()
            versions = {name: self.table(name).version for name in sorted(names, key=_is_made_of_others, reverse=True)}
            if self.sealed_through_us == sealed:
                return sealed, {name: versions[name] for name in names}

    def remove_pin(self, name: str) -> Pin:
        """Let go of the versions a pin holds."""
        pin = self.pin(name)
        with translated(self.root):
            self._pin_path(name).unlink(missing_ok=True)
        return pin

    def end_pin(self, name: str, at_us: int) -> None:
        """Let a pin expire at a time, and say so to whoever opens it later."""
        documents.replace(self._pin_path(name), replace(self.pin(name), until_us=at_us).to_json())

    def pins(self) -> list[Pin]:
        return [self.pin(name) for name in self.pin_names()]

    def needed(self, table: str, now_us: int) -> log.Needed:
        """What log clean-up must leave of a table: pinned versions, and all of it while something is half done.

        An erasure that was interrupted finds what it did by its commits, and a replay what became of its rows.
        """
        replays = [replay_cursor(name) for name in self._names("contracts")]
        settled = self.table("verdicts")
        half = any(
            (self.table(table).transaction(cursor) or 0) > (settled.transaction(cursor) or 0) for cursor in replays
        )
        versions = {pin.tables[table] for pin in self.pins() if pin.holds_at(now_us) and table in pin.tables}
        return log.Needed(frozenset(versions), all_entries=half or (self.root / "erasures" / "run.json").exists())

    def _pin_path(self, name: str) -> Place:
        if not _PIN_NAME.fullmatch(name):
            raise PinError(
                "not a pin name",
                where=self.root,
                expected="letters, digits, - _ and ., a letter or digit first",
                got=repr(name),
                hint="choose another name",
            )
        return self.root / "pins" / f"{name}.json"

    def _names(self, kind: str) -> list[str]:
        return sorted(path.name for path in (self.root / kind).glob("*") if path.is_dir())

    def _versions(self, kind: str, name: str) -> list[int]:
        return sorted(int(path.stem) for path in (self.root / kind / name).glob("[0-9]*.json"))

    def _path(self, kind: str, name: str, version: int | None, error: Callable[..., ReclakeError], hint: str) -> Place:
        versions = self._versions(kind, name)
        if not versions:
            names = self._names(kind)
            close = get_close_matches(name, names, n=1)
            raise error(
                f"unknown {kind.removesuffix('s')}",
                where=self.root,
                expected=", ".join(names),
                got=name,
                hint=f"did you mean {close[0]}?" if close else hint,
            )
        wanted = versions[-1] if version is None else version
        if wanted not in versions:
            raise error(f"unknown version of {kind.removesuffix('s')} {name}", expected=versions, got=version)
        return self.root / kind / name / f"{wanted:04d}.json"

    def _add(self, kind: str, noun: T, version: int) -> T:
        numbered = replace(noun, version=version)
        path = self.root / kind / noun.name / f"{version:04d}.json"
        if not documents.create(path, numbered.to_json()):
            raise ReclakeError(
                f"somebody else registered {noun.name} at the same time", where=path, hint="run the command again"
            )
        return numbered


def replay_cursor(contract: str) -> str:
    """The application transaction that numbers a contract's replays: one for each batch that settled rows."""
    return f"replay/{contract}"


@lru_cache(maxsize=1024)
def _contract(path: Place, inode: int, mtime_ns: int) -> Contract:
    """A version of a contract; what is registered never changes, and a file is told from another at its path."""
    return Contract.from_json(documents.read(path))


def _place(root: str | Path, options: Mapping[str, str] | None) -> Place:
    if not str(root):
        raise LakeNotFoundError(
            "no path for a lake", expected="a folder", got="an empty path", hint="reclake init ./lake"
        )
    return places.place(root, options)


def _is_made_of_others(table: str) -> bool:
    return table.startswith("samples/")
