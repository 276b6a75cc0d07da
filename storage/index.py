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
RECENT_ROWS = 1_000_000  # that a follower keeps in memory: 16 MB

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
        return _matches(self.follow()[1], keys)

    def follow(self) -> tuple[int, list[Int64s]]:
        """Bring the runs up to the table's newest version; it, and they, mapped into memory."""
        while True:
            table_id, version = log.newest(self.table.root)
            folder = self.folder / table_id
            chain = _chain(folder)
            try:
                done = chain[-1].last if chain else -1
                if done < version:
                    chain = self._extend(folder, chain, version)
                return chain[-1].last, [np.load(path, mmap_mode="r") for span in chain for path in span.paths]
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
        return self._extended(folder, chain, _write(folder, first, version, parts))

    def _extended(self, folder: Path, chain: list[_Span], span: _Span) -> list[_Span]:
        chain = [*chain, span]
        while len(chain) > 1 and _worth_merging(*chain[-2:]):
            chain = [*chain[:-2], self._merge(folder, *chain[-2:])]
        _clean(folder, chain)
        return chain

    def keep(self, first: int, version: int, pairs: Pairs) -> bool:
        """Write down what commits `first` to `version` added, unless runs end elsewhere; whether it was written."""
        folder = self.folder / log.newest(self.table.root)[0]
        chain = _chain(folder)
        if not chain or chain[-1].last != first - 1:
            return False
        self._extended(folder, chain, _write(folder, first, version, [pairs]))
        return True

    def _merge(self, folder: Path, older: _Span, newer: _Span) -> _Span:
        runs = [np.load(path, mmap_mode="r") for path in (*older.paths, *newer.paths)]
        # A stable sort of sorted pieces is a merge.
        merged = _sorted(np.concatenate([run[0] for run in runs]), np.concatenate([run[1] for run in runs]))
        return _write(folder, older.first, newer.last, [self.fold(*merged)])


class Follower:
    """An index for a writer that looks before each of its commits and knows what they add: that it keeps in memory,
    and writes down now and then. For one thread.
    """

    def __init__(self, index: Index) -> None:
        self._index = index
        self._version: int | None = None
        self._written = -1
        self._runs: list[Int64s] = []  # of the versions up to `_written`
        self._recent: list[Int64s] = []  # of those from there to `_version`, each more than twice as large as the next

    def find(self, keys: Int64s, version: int) -> Pairs:
        """As Index.find, of all that was committed up to a version of the table, perhaps of later too."""
        self._follow(version)
        return _matches([*self._runs, *self._recent], keys)

    def add(self, version: int, pairs: Pairs) -> None:
        """What the next version after the one that `find` was asked for, made by who follows, adds."""
        if self._version is not None and version == self._version + 1:
            self._push(pairs)
            self._version = version

    def keep(self) -> None:
        """Write down what is in memory, so that nobody has to read it from the table."""
        if self._version is None or self._written == self._version:
            return
        while len(self._recent) > 1:
            self._join()
        run = self._recent[0] if self._recent else np.stack(_NOTHING)
        self._index.keep(self._written + 1, self._version, (run[0], run[1]))  # if not, others did
        self._forget()

    def _forget(self) -> None:
        self._version, self._written, self._runs, self._recent = None, -1, [], []

    def _follow(self, version: int) -> None:
        if self._version is not None and self._version < version and not self._read(self._version + 1, version):
            self._forget()
        if sum(run.shape[1] for run in self._recent) > RECENT_ROWS:
            self.keep()
        if self._version is None:
            self._version, self._runs = self._index.follow()
            self._written = self._version

    def _read(self, first: int, last: int) -> bool:
        """Take what others committed from the table; False where rows went, or the log or files are gone."""
        new = log.changes(self._index.table.root, first, last)
        if new is None or new.removed:
            return False
        try:
            self._push(self._index.read(new.added) if new.added else _NOTHING)
        except FileNotFoundError:  # compacted and vacuumed since
            return False
        self._version = last
        return True

    def _push(self, pairs: Pairs) -> None:
        if not len(pairs[0]):
            return
        self._recent.append(np.stack(self._index.fold(*_sorted(*pairs))))
        while len(self._recent) > 1 and self._recent[-2].shape[1] <= 2 * self._recent[-1].shape[1]:
            self._join()

    def _join(self) -> None:
        older, newer = self._recent[-2:]
        joined = self._index.fold(*_sorted(*np.concatenate([older, newer], axis=1)))
        self._recent[-2:] = [np.stack(joined)]


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


def _matches(runs: Sequence[Int64s], keys: Int64s) -> Pairs:
    """(place in keys, value) of every pair of the runs whose key is asked for."""
    order = np.argsort(keys)  # neighbours in a run are looked up one after the other
    wanted = keys[order]
    places, values = [np.empty(0, dtype=np.int64)], [np.empty(0, dtype=np.int64)]
    for run in runs:
        if not run.shape[1]:
            continue
        low = np.searchsorted(run[0], wanted)
        hit = np.flatnonzero(run[0][np.minimum(low, run.shape[1] - 1)] == wanted)
        if not len(hit):  # of most runs nothing is found
            continue
        counts = np.searchsorted(run[0], wanted[hit], side="right") - low[hit]
        starts = np.cumsum(counts) - counts
        at = np.repeat(low[hit] - starts, counts) + np.arange(counts.sum())
        places.append(np.repeat(order[hit], counts).astype(np.int64))
        values.append(np.asarray(run[1][at], dtype=np.int64))
    return np.concatenate(places), np.concatenate(values)


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
