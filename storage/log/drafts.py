"""Commits: durable before they are visible, and by one writer only.

On a disk an entry is there before it has its name (fsync, then a hard link, which fails where the name is taken), and
so are the data files it adds: no reader sees a commit that a power cut takes back. An object store takes it by a put
that fails where there is one.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from .. import places
from ..faults import translated
from ..parquet import DataFile
from ..places import Place
from . import entries

_SUFFIX = ".draft"


class Draft:
    """A log entry that has no version yet. A context manager: at its end what is left of the draft goes.

    Raises:
        StorageError: disk full, no permission, read-only.
    """

    def __init__(self, root: Place, actions: Iterable[Mapping[str, Any]]) -> None:
        self._root = root
        self._data = entries.encode(actions)
        self._path: Path | None = None
        if isinstance(root, Path):
            self._path = root / "_delta_log" / f".{secrets.token_hex(16)}{_SUFFIX}"
            with translated(self._path), self._path.open("xb") as file:
                file.write(self._data)
                file.flush()
                os.fsync(file.fileno())

    def commit(self, version: int) -> bool:
        """Make this the entry of a version; False where another commit is. Its name is durable after `settle`.

        Raises:
            UnknownOutcomeError: an object store does not say whether it took it. What it adds must stay.
        """
        target = entries.path_of(self._root, version)
        if self._path is None or not isinstance(target, Path):
            return places.create(target, self._data)
        with translated(self._root):
            try:
                os.link(self._path, target)
            except FileExistsError:
                return False
        return True

    def discard(self) -> None:
        """Remove the draft; a version that was made of it stays."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def __enter__(self) -> Draft:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()


def settle(root: Place) -> None:
    """Flush the names of the log's entries: the commits made so far are durable."""
    if not isinstance(root, Path):
        return
    with translated(root):
        _flush(root / "_delta_log")


def make_durable(root: Place, files: Sequence[DataFile], named: set[Path] | None = None) -> None:
    """Flush data files and the folders that name them to the disk.

    `named`: folders whose own names are on the disk, as far as the caller knows; those flushed here come to it.
    """
    if not isinstance(root, Path):
        return
    named = set() if named is None else named
    folders = set[Path]()
    with translated(root):
        for file in files:
            _flush(root / file.path)
            folder = (root / file.path).parent
            folders.add(folder)
            while folder != root and folder not in named:
                folder = folder.parent
                folders.add(folder)
        for folder in folders:
            _flush(folder)
    named |= folders - {root}


def discard_staged(root: Place, before_s: float) -> int:
    """Remove drafts that killed processes left, last touched before a time (s since 1970); returns how many."""
    if not isinstance(root, Path):
        return 0
    removed = 0
    for path in (root / "_delta_log").glob(f".*{_SUFFIX}"):
        with contextlib.suppress(FileNotFoundError):  # a writer at work has just given it its name
            if path.stat().st_mtime < before_s:
                path.unlink()
                removed += 1
    return removed


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
