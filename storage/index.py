"""Index: which values a table has for a key, in sorted runs beside the lake that follow the table's log.

An index is a cache. Delete it whenever you like: the next look builds it again. It is a function of committed versions
alone, so a kill between any two steps leaves nothing wrong behind:

LAKE/cache/NAME/TABLE-ID/FIRST-LAST-PART-PARTS.npy    what commits FIRST to LAST added; (2, n) int64, keys sorted

A look first reads what was committed since the last one into a new run. A run that has grown to half the size of the
one before it is merged with that one, so that there are about log2(history) runs, and a row is copied as often. Rows
are only ever added; where a commit took some away (erasure), the index is built afresh.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from . import log, places
from .faults import translated
from .places import Place
from .table import Table

RUN_ROWS = 32_000_000  # of one run at most: 512 MB, and as much again while it is made

Int64s = npt.NDArray[np.int64]
Pairs = tuple[Int64s, Int64s]

_NAME = re.compile(r"^(\d{20})-(\d{20})-(\d{4})-(\d{4})\.npy$")


@dataclass(frozen=True, slots=True)
class _Span:
    """The runs that hold what commits `first` to `last` added."""

    first: int
    last: int
    paths: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Index:
    """An index of one table.

    Attributes:
        folder: where the runs live.
        read: keys and values of the rows in some files of the table.
        fold: kernel; of pairs sorted by key, those worth keeping, still sorted.
    """

    folder: Path
    table: Table
    read: Callable[[Sequence[Place]], Pairs]
    fold: Callable[[Int64s, Int64s], Pairs]

    def find(self, keys: Int64s) -> Pairs:
        """Every match, as (place in `keys`, value), of all that was committed before this call, perhaps of later too.

        Costs in proportion to the keys and to what was committed since the last look.
        """
        found = [_matches(run, keys) for run in self.follow()]
        empty = np.empty(0, dtype=np.int64)
        return (
            np.concatenate([empty, *[places for places, _ in found]]),
            np.concatenate([empty, *[values for _, values in found]]),
        )

    def follow(self) -> list[Int64s]:
        """Bring the runs up to the table's newest version; they, mapped into memory."""
        while True:
            table_id, version = log.newest(self.table.root)
            folder = self.folder / table_id
            chain = _chain(folder)
            try:
                done = chain[-1].last if chain else -1
                if done < version:
                    chain = self._extend(folder, chain, version)
                return [np.load(path, mmap_mode="r") for span in chain for path in span.paths]
            except FileNotFoundError:
                # Somebody else merged the runs that this look had found, or compacted and vacuumed files of the table.
                continue

    def _extend(self, folder: Path, chain: list[_Span], version: int) -> list[_Span]:
        first = chain[-1].last + 1 if chain else 0
        new = log.changes(self.table.root, first, version) if chain else None
        if new is None or new.removed or not all(path.exists() for path in new.added):
            # Also where files were added, compacted and vacuumed since the last look.
            chain, first = [], 0
            now = log.snapshot(self.table.root)
            version = now.version
            files = [
                (places.beside(self.table.root, path), rows)
                for path, rows in now.files.select("path", "num_records").iter_rows()
            ]
            groups = _groups(files)
        else:
            groups = [list(new.added)]
        parts = [self.fold(*_sorted(*self.read(group))) if group else _NOTHING for group in groups]
        chain = [*chain, _write(folder, first, version, parts)]
        while len(chain) > 1 and _worth_merging(*chain[-2:]):
            chain = [*chain[:-2], self._merge(folder, *chain[-2:])]
        _clean(folder, chain)
        return chain

    def _merge(self, folder: Path, older: _Span, newer: _Span) -> _Span:
        runs = [np.load(path, mmap_mode="r") for path in (*older.paths, *newer.paths)]
        # A stable sort of sorted pieces is a merge.
        merged = _sorted(np.concatenate([run[0] for run in runs]), np.concatenate([run[1] for run in runs]))
        return _write(folder, older.first, newer.last, [self.fold(*merged)])


_NOTHING: Pairs = (np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))


def keep_all(keys: Int64s, values: Int64s) -> Pairs:
    """Kernel: every pair is worth keeping."""
    return keys, values


def keep_greatest(keys: Int64s, values: Int64s) -> Pairs:
    """Kernel: of each key, only its greatest value."""
    if not len(keys):
        return keys, values
    starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))
    return keys[starts], np.maximum.reduceat(values, starts)


def _sorted(keys: Int64s, values: Int64s) -> Pairs:
    order = np.argsort(keys, kind="stable")
    return keys[order], values[order]


def _matches(run: Int64s, keys: Int64s) -> Pairs:
    """(place in keys, value) of every pair of the run whose key is asked for."""
    order = np.argsort(keys)  # neighbours in the run are looked up one after the other
    wanted = keys[order]
    low, high = np.searchsorted(run[0], wanted), np.searchsorted(run[0], wanted, side="right")
    counts = high - low
    starts = np.cumsum(counts) - counts
    at = np.repeat(low - starts, counts) + np.arange(counts.sum())
    return np.repeat(order, counts).astype(np.int64), np.asarray(run[1][at], dtype=np.int64)


def _groups(files: list[tuple[Place, int]]) -> list[list[Place]]:
    """The files in groups of at most RUN_ROWS rows, or one file; no file gives one empty group."""
    groups: list[list[Place]] = [[]]
    rows = 0
    for path, count in files:
        if groups[-1] and rows + count > RUN_ROWS:
            groups.append([])
            rows = 0
        groups[-1].append(path)
        rows += count
    return groups


def _chain(folder: Path) -> list[_Span]:
    """Spans that follow each other from commit 0, each the longest there is."""
    found: dict[tuple[int, int, int], dict[int, Path]] = {}
    for path in folder.glob("*.npy"):
        if name := _NAME.match(path.name):
            first, last, part, parts = map(int, name.groups())
            found.setdefault((first, last, parts), {})[part] = path
    chain: list[_Span] = []
    following = 0
    while True:
        whole = [span for span in found if span[0] == following and len(found[span]) == span[2]]
        if not whole:
            return chain
        first, last, parts = max(whole)
        runs = found[first, last, parts]
        chain.append(_Span(first, last, tuple(runs[part] for part in sorted(runs))))
        following = last + 1


def _worth_merging(older: _Span, newer: _Span) -> bool:
    if len(older.paths) > 1 or len(newer.paths) > 1:
        return False
    sizes = [path.stat().st_size for path in (*older.paths, *newer.paths)]
    return sizes[0] <= 2 * sizes[1] and sum(sizes) <= 16 * RUN_ROWS


def _write(folder: Path, first: int, last: int, parts: Sequence[Pairs]) -> _Span:
    """Runs of a span, each there whole or not at all. Who else writes the same span writes the same bytes."""
    paths = []
    with translated(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for part, (keys, values) in enumerate(parts):
            path = folder / f"{first:020d}-{last:020d}-{part:04d}-{len(parts):04d}.npy"
            with tempfile.NamedTemporaryFile(dir=folder, delete=False) as staged:
                np.save(staged, np.stack([keys, values]))
            os.replace(staged.name, path)
            paths.append(path)
    return _Span(first, last, tuple(paths))


def _clean(folder: Path, chain: list[_Span]) -> None:
    """Remove runs that the chain has no need of any more. Who has one mapped keeps it."""
    kept = {path for span in chain for path in span.paths}
    for path in folder.glob("*.npy"):
        name = _NAME.match(path.name)
        if name and path not in kept and int(name[2]) <= chain[-1].last:
            path.unlink(missing_ok=True)
