"""The lake as a user holds it: one object, the verbs as its methods. Each verb lives in its own module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..schemas.contract import Contract, load
from ..schemas.times import Time, duration_us, to_us
from ..storage.catalog import DEFAULT_BUCKETS, Catalog
from ..storage.places import folder
from .run import Run, wall_clock_us

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

    from ..storage.maintenance import Compacted
    from ..storage.pins import Pin
    from ..storage.shard_manifest import Compression
    from .assemble import SamplesResult
    from .evolve import Plan
    from .feed import Feed
    from .forget import Receipt
    from .ingest import IngestResult
    from .media import MediaResult
    from .packing import Days, PackResult
    from .quarantine.replay import ReplayResult
    from .reports.report import ReportResult
    from .seal import SealResult
    from .writer import EventWriter


@dataclass(frozen=True, slots=True)
class Lake:
    """A lake on disk. Opening one is cheap; every method opens what it needs and may be called again safely."""

    catalog: Catalog

    @classmethod
    def create(
        cls,
        path: str | Path,
        *,
        buckets: int = DEFAULT_BUCKETS,
        storage_options: Mapping[str, str] | None = None,
    ) -> Lake:
        """A new lake with the shipped contracts and recipes; one that is there already is opened.

        Raises:
            LakeExistsError: it is there with another number of buckets.
        """
        return cls(Catalog.create(path, buckets=buckets, storage_options=storage_options))

    @classmethod
    def open(cls, path: str | Path, *, storage_options: Mapping[str, str] | None = None) -> Lake:
        """The lake at a folder, or at s3://BUCKET/PREFIX. See docs/object-stores.md for the options.

        Raises:
            LakeNotFoundError: there is none.
        """
        return cls(Catalog.open(path, storage_options=storage_options))

    def add_contract(self, path: str | Path) -> Contract:
        """Register the contract in `NAME.avsc` and the files beside it, or its next version. See `evolve`."""
        return self.evolve(path).contract

    def add_suite(self, path: str | Path) -> tuple[str, int]:
        """Register what partitions of a table that reclake makes must be, beyond its own checks, before they are
        published: `timelines.suite.json`, `RECIPE.suite.json`. The table and the suite's version. See pipelines.suites.
        """
        from .suites import add

        table, registered = add(self.catalog, Path(path))
        return table, registered.version

    def evolve(self, contract: str | Path | Contract, *, plan: bool = False) -> Plan:
        """Register the next version of a contract, after Great Expectations has read its suite; what becomes of the
        rows that are there. With `plan` only say so. See pipelines.evolve.

        Args:
            contract: the path of `NAME.avsc`, or a contract, such as `schemas.changes.changed` makes of the last one.

        Raises:
            ContractError: it is malformed, does not fit its table, or has a change that is refused.
            SuiteError: an expectation is unknown, or does not fit the contract's fields.
        """
        from ..quality.suite import check_with_gx
        from . import evolve
        from .ingest import target_of
        from .private import columns_of

        found = contract if isinstance(contract, Contract) else load(Path(contract))
        target_of(self.catalog, found)
        columns_of(found)
        check_with_gx(found.expectations)
        return evolve.plan(self.catalog, found) if plan else evolve.evolve(self.catalog, found)

    def scan(
        self, table: str, *, contract: str | None = None, pin: str | None = None, newest: bool = False
    ) -> pl.LazyFrame:
        """All rows of `events`, `timelines`, `content` or `samples/RECIPE`, lazily, by the names, types and defaults
        of the contracts, or of one contract; of a pin, as its own contracts say, or with `newest` as the newest ones.
        """
        from .reading import rows_of

        pinned = None if pin is None else self.catalog.pin(pin).opened_at(wall_clock_us())
        return rows_of(self.catalog, table, contract=contract, pin=pinned, newest=newest)

    def ingest(
        self,
        contract: str,
        sources: Sequence[str | Path] | str | Path,
        *,
        run: Run | None = None,
        batch_rows: int | None = None,
    ) -> IngestResult:
        """Read files or folders into the lake under a contract. See pipelines.ingest.ingest."""
        from .ingest import BATCH_ROWS, ingest

        paths = [sources] if isinstance(sources, (str, Path)) else sources
        return ingest(self.catalog, contract, paths, run=run, batch_rows=batch_rows or BATCH_ROWS)

    def writer(self, contract: str, *, run: Run | None = None) -> EventWriter:
        """For many producers with small batches: a context manager. See pipelines.writer.EventWriter."""
        from .writer import EventWriter

        return EventWriter(self.catalog, contract, run=run)

    def replay(self, contract: str, *, run: Run | None = None) -> ReplayResult:
        """Give quarantined rows to the contract as it is now. See pipelines.quarantine.replay."""
        from .quarantine.replay import replay

        return replay(self.catalog, contract, run=run)

    def seal(
        self,
        *,
        through: Time | None = None,
        engine: str = "local",
        ignore_watermarks: bool = False,
        run: Run | None = None,
    ) -> SealResult:
        """Close everything known before `through` for ever and give it ordinals. See pipelines.seal.seal."""
        from .seal import seal

        through_us = None if through is None else to_us(through)
        return seal(self.catalog, through_us=through_us, engine=engine, ignore_watermarks=ignore_watermarks, run=run)

    def timeline(self, user_id: int, *, before: Time | None = None, last: int | None = None) -> pa.Table:
        """The history a server had of a user at a time, oldest first. See pipelines.timeline.timeline."""
        from .timeline import timeline

        return timeline(self.catalog, user_id, before_us=None if before is None else to_us(before), last=last)

    def samples(self, recipe: str | Path, *, day: Time, run: Run | None = None) -> SamplesResult:
        """Assemble the samples of one sealed day. See pipelines.assemble.samples."""
        from .assemble import samples

        return samples(self.catalog, recipe, day=day, run=run)

    def media(self, plan: str | Path, manifest: str | Path, *, run: Run | None = None) -> MediaResult:
        """Turn media into content rows by a plan of operators. See pipelines.media.run_media."""
        from .media import run_media

        run = run or Run()
        return run_media(self.catalog, plan, Path(manifest), now_us=run.now_us(), progress=run.progress)

    def pin(self, name: str, *, until: Time | None = None) -> Pin:
        """Name the present versions of all tables and keep them alive, until a time if one is given."""
        return self.catalog.create_pin(name, until_us=None if until is None else to_us(until))

    def unpin(self, name: str) -> Pin:
        """Let go of what a pin keeps alive."""
        return self.catalog.remove_pin(name)

    def compact(self) -> list[Compacted]:
        """Merge small files, and sealed eras into longer ones. See storage.maintenance.compact."""
        from ..storage.maintenance import compact

        return compact(self.catalog)

    def forget(self, users: Sequence[int], *, within_days: int = 30, run: Run | None = None) -> Receipt | None:
        """Remove users, and whoever else waits to be forgotten; the receipt. See pipelines.forget."""
        from .forget import ask, carry_out

        ask(self.catalog, users, within_days=within_days, run=run)
        return carry_out(self.catalog, run=run)

    def pack(
        self,
        recipe: str,
        *,
        pin: str,
        out: str | Path,
        history: int | None = None,
        days: Days | None = None,
        window: str | None = None,
        compression: Compression = "lz4",
        run: Run | None = None,
    ) -> PackResult:
        """Write the pinned samples of a recipe, of some days or all, as shards that a feed reads. See packing.pack.

        With a window, such as "1h", the shards follow time: for feeds whose order is "chronological". Compressed with
        "lz4" they are read fastest, with "zstd" they are smallest; a feed gives the same batches of either.
        """
        from .packing import pack

        def report(done: int, total: int) -> None:
            (run or Run()).progress(f"pack {recipe}", done, total)

        window_us = 0 if window is None else duration_us(window)
        return pack(
            self.catalog,
            recipe,
            pin=pin,
            out=folder(out),
            history=history,
            days=days,
            window_us=window_us,
            compression=compression,
            progress=report,
            run=run,
        )

    def feed(
        self,
        recipe: str,
        *,
        pin: str,
        batch_size: int,
        days: Days | None = None,
        window: str | None = None,
        **given: Any,
    ) -> Feed:
        """A feed straight from a pin: the batches of its shards, byte for byte, made from the tables as they are read.

        Looks through all the samples once when it is made. Worth it for a pass or two; what is read often is packed.

        Args:
            days, window: as `pack` takes them.
            given: what else `Feed` takes.
        """
        from .feed import Feed
        from .packing import PinnedShards

        window_us = 0 if window is None else duration_us(window)
        shards = PinnedShards(self.catalog, recipe, pin=pin, days=days, window_us=window_us)
        return Feed(shards, batch_size=batch_size, **given)

    def report(self, out: str | Path, *, pin: str | None = None, run: Run | None = None) -> ReportResult:
        """Write the report: one self-contained HTML file. See pipelines.report.build_report."""
        from .reports.report import build_report

        return build_report(self.catalog, out=folder(out), pin=pin, generated_at_us=(run or Run()).now_us())

    def report_quality(self, out: str | Path, *, run: Run | None = None) -> ReportResult:
        """Write the quality report: one self-contained HTML file. See pipelines.reports.quality."""
        from .reports.quality import build_quality_report

        return build_quality_report(self.catalog, out=folder(out), generated_at_us=(run or Run()).now_us())

    def tables(self) -> Mapping[str, Any]:
        """Every table's address, for any Delta reader."""
        return {name: self.catalog.table(name).uri for name in self.catalog.table_names()}
