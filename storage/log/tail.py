"""Following a Delta log entry by entry: a commit costs a look at what is new, not at the table."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ..places import Place
from . import entries
from .entries import Entry, now_s, path_of
from .handles import check_protocol, committed, long_ago, open_table

if TYPE_CHECKING:
    from deltalake import DeltaTable

_TRANSACTIONS_REMEMBERED = 50_000


class LogTail:
    """Follows a table's log from the version it was opened at. For one thread; the table must exist."""

    def __init__(self, root: Place) -> None:
        self._root = root
        self._version = -1
        self._transactions: dict[str, int | None] = {}
        self._reopen()

    @property
    def opened(self) -> DeltaTable:
        """The table as it was opened, at `version` or before it."""
        return self._opened

    @property
    def version(self) -> int:
        """The version that was followed to; a commit that relies on what is known of it is the next version's."""
        return self._version

    @property
    def stale(self) -> bool:
        """Whether the last look is so long ago that the next version may have come and gone: look before you commit."""
        return long_ago(self._looked_s)

    def advance(self) -> list[Entry] | None:
        """The commits since, oldest first. None: the log may have been cleaned up past this point, look at all."""
        if self.stale:
            self._reopen()
            return None
        self._looked_s = now_s()
        new: list[Entry] = []
        while True:
            try:
                text = _read_flushed(path_of(self._root, self._version + 1))
            except FileNotFoundError:
                if path_of(self._root, self._version).exists():
                    return new
                self._reopen()
                return None
            entry = entries.parse(self._version + 1, text)
            self._version = entry.version
            self._transactions.update(entry.transactions)
            new.append(entry)
            if entry.reshaped:
                check_protocol(open_table(self._root, entry.version))

    def step(self, transactions: Mapping[str, int]) -> None:
        """Go on to the next version, made by whoever follows with these transactions: it need not be read."""
        self._version += 1
        self._transactions.update(transactions)

    def transaction(self, app_id: str) -> int | None:
        """The last version an application committed, as of `version`."""
        if app_id not in self._transactions:
            if len(self._transactions) >= _TRANSACTIONS_REMEMBERED:
                at = self._version
                self._transactions.clear()
                self._opened = open_table(self._root, at)
            self._transactions[app_id] = committed(self._opened, self._root, app_id)
        return self._transactions[app_id]

    def _reopen(self) -> None:
        self._looked_s = now_s()
        self._opened = open_table(self._root)
        check_protocol(self._opened)
        self._version = int(self._opened.version())
        self._transactions = {}


def _read_flushed(path: Place) -> str:
    if not isinstance(path, Path):
        return path.read_text(encoding="utf-8")
    with path.open(encoding="utf-8") as file:
        text = file.read()
        if not entries.is_ours(text):
            os.fsync(file.fileno())  # what follows a commit is no more durable than that
        return text
