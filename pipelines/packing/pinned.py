"""Late materialization: a pin read as the shard set that packing it would write, chunk by chunk, and nothing packed.

One pass over the pin, as packing's own but without a file, says which rows each chunk holds, and gives the same
fingerprint, order, vocabularies and codes. A chunk is made by the same kernel when it is read.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ...schemas.errors import FeedError
from ...storage.locks import deriving
from ...storage.shard_arrays import Array, rows_of
from ...storage.shard_files import LocalFiles
from ...storage.shard_manifest import ShardFile, write_manifest
from ...storage.shard_writer import ShardWriter
from ...storage.shards import Chunk, ShardSet
from ..run import Run
from .days import Days
from .source import Coded, Part, Source

if TYPE_CHECKING:
    from ...storage.catalog import Catalog

Int64s = npt.NDArray[np.int64]


class _Planner(ShardWriter):
    """Cuts chunks as a writer does, and writes none."""

    def _store(self, rows: pa.Table) -> None:
        pass

    def _is_full(self) -> bool:
        return False

    def _end_shard(self) -> None:
        rows, samples, events, windows, tiers = zip(*self._chunks, strict=True)
        self.shards = [
            ShardFile(
                file="",
                rows=sum(rows),
                samples=sum(samples),
                bytes=0,
                blake2b="",
                footer_bytes=0,
                footer_blake2b="",
                chunk_rows=rows,
                chunk_samples=samples,
                chunk_events=events,
                chunk_tiers=tiers,
                chunk_windows=windows,
                chunk_crc32=(),
            )
        ]


class PinnedShards(ShardSet):
    """The samples of a recipe at a pin, as a shard set without shards: reads the lake whenever a chunk is read.

    What stands beside shards (content vectors, the list of items) is in a folder that goes with this object. Other
    processes may be given it while it lives.

    Raises:
        As `pack`.
    """

    def __init__(
        self,
        catalog: Catalog,
        recipe: str,
        *,
        pin: str,
        days: Days | None = None,
        window_us: int = 0,
        run: Run | None = None,
    ) -> None:
        source = Source.open(catalog, recipe, pin=pin, history=None, days=days, window_us=window_us, run=run)
        folder = Path(tempfile.mkdtemp(prefix="reclake-pinned-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._coded = Coded.of(source)
        self._parts = source.parts()
        users: list[Int64s] = []  # of each part the user of each row
        planner = _Planner(folder)
        with deriving(catalog.root):
            for part in self._parts:
                rows = self._coded.rows(part)
                planner.add(rows, window=part.window)
                users.append(rows["user_id"].to_numpy())
        self._process = os.getpid()
        self._users = users
        self._part_rows = np.concatenate([[0], np.cumsum([len(each) for each in users])])
        self.where = f"pin {pin} of {catalog.root}"
        self._files = LocalFiles(folder)
        self.manifest = write_manifest(folder, self._coded.manifest(folder, planner, planner.close()))
        self._chunk_rows = np.concatenate([[0], np.cumsum(self.manifest.shards[0].chunk_rows)])

    def read_chunk(
        self,
        chunk: int,
        *,
        samples: Sequence[str],
        history: Sequence[str],
        length: int | None = None,
        into: Mapping[str, Array] | None = None,
    ) -> Chunk:
        """Make one chunk from the lake's tables.

        Raises:
            FeedError: in a process that was forked: the libraries that read tables live in threads, which it lacks.
        """
        if os.getpid() != self._process:
            raise FeedError(
                "a pin cannot be read in a process that was forked",
                where=self.where,
                expected="threads (workers=2), or processes that are spawned",
                got="a forked process",
                hint='torch_loader(2, multiprocessing_context="spawn"), or pack the samples',
            )
        begin, end = int(self._chunk_rows[chunk]), int(self._chunk_rows[chunk + 1])
        first = int(np.searchsorted(self._part_rows, begin, side="right")) - 1
        last = int(np.searchsorted(self._part_rows, end, side="left"))
        bases = self._part_rows[first:last].tolist()
        table = pa.concat_tables(
            self._rows(part, max(begin - base, 0), min(end - base, len(self._users[part])))
            for part, base in zip(range(first, last), bases, strict=True)
        ).combine_chunks()
        rows = rows_of(table, self._structs(samples, history, length), f"{self.where}, chunk {chunk}")
        return self._chunk(rows, self.manifest.shards[0], chunk, into or {})

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state | {"_process": os.getpid()})

    def _rows(self, number: int, begin: int, end: int) -> pa.Table:
        """Rows [begin, end) of a part: those of their users are made, which are a few more at most."""
        users, part = self._users[number], self._parts[number]
        some = Part(part.window, part.bucket, int(users[begin]), int(users[end - 1]))
        return self._coded.rows(some).slice(begin - int(np.searchsorted(users, users[begin])), end - begin)
