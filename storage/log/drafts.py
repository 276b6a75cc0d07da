"""Commits on a local disk: durable before they are visible, and by one writer only.

An entry is on the disk before it has its name (fsync, then a hard link, which fails where the name is taken), and so
are the data files it adds. So no reader sees a commit that a power cut takes back.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from ..faults import translated
from ..parquet import DataFile
from . import entries

_SUFFIX = ".draft"


class Draft:
    """A log entry that has no version yet. A context manager: at its end what is left of the draft goes.

    Raises:
        StorageError: disk full, no permission, read-only.
    """

    def __init__(self, root: Path, actions: Iterable[Mapping[str, Any]]) -> None:
        self._root = root
        self._path = root / "_delta_log" / f".{secrets.token_hex(16)}{_SUFFIX}"
        with translated(self._path), self._path.open("xb") as file:
            file.write(entries.encode(actions))
            file.flush()
            os.fsync(file.fileno())

    def commit(self, version: int) -> bool:
        """Make this the entry of a version; False where another commit is. Its name is durable after `settle`."""
        with translated(self._root):
            try:
                os.link(self._path, entries.path_of(self._root, version))
            except FileExistsError:
                return False
        return True

    def discard(self) -> None:
        """Remove the draft; a version that was made of it stays."""
        self._path.unlink(missing_ok=True)

    def __enter__(self) -> Draft:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()


def settle(root: Path) -> None:
    """Flush the names of the log's entries: the commits made so far are durable."""
    with translated(root):
        _flush(root / "_delta_log")


def make_durable(root: Path, files: Sequence[DataFile]) -> None:
    """Flush data files and the folders that name them to the disk."""
    folders = set[Path]()
    with translated(root):
        for file in files:
            _flush(root / file.path)
            folders.update(root / parent for parent in Path(file.path).parents)
        for folder in folders:
            _flush(folder)


def discard_staged(root: Path, before_s: float) -> int:
    """Remove drafts that killed processes left, last touched before a time (s since 1970); returns how many."""
    left = [path for path in (root / "_delta_log").glob(f".*{_SUFFIX}") if path.stat().st_mtime < before_s]
    for path in left:
        path.unlink(missing_ok=True)
    return len(left)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
