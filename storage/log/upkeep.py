"""Keeps a Delta log short: checkpoints, and no more entries than somebody may still ask for."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from ...schemas.errors import ReclakeError
from ..faults import translated
from ..places import Place, persistently
from .drafts import discard_staged
from .entries import path_of
from .handles import open_table

CHECKPOINT_EVERY = 20  # versions; opening a table reads the entries since
LOG_HOURS = 24.0  # how long a version that nobody holds can be opened by its number, at least
_LOG = logging.getLogger("reclake")


@dataclass(frozen=True, slots=True)
class Needed:
    """What log clean-up must leave: versions that pins hold; with `all_entries`, every entry, however old."""

    versions: frozenset[int] = frozenset()
    all_entries: bool = False


def checkpoint(root: Place, version: int | None = None) -> None:
    """Write down the state of a version (the newest unless told), so that opening it reads no older entry."""
    with translated(root):
        persistently(root, open_table(root, version).create_checkpoint)


def checkpoint_if_due(root: Place, version: int) -> None:
    """After a commit. What fails here is logged and due again: the commit stands."""
    if version % CHECKPOINT_EVERY:
        return
    try:
        checkpoint(root, version)
    except (ReclakeError, OSError, RuntimeError, ValueError) as error:  # delta-rs's are RuntimeErrors or ValueErrors
        _LOG.warning("no checkpoint of %s at version %d: %s", root, version, error)


def clean(root: Place, needed: Needed, *, hours: float = LOG_HOURS) -> int:
    """Remove entries and checkpoints from before the last checkpoint older than `hours`; returns how many.

    Every later version stays readable, and of earlier ones those that are needed, which get checkpoints of their own.
    Ages are told by the newest entry's time, so a table that rests keeps what it had. Writers that follow the log rely
    on no entry going that they may not have seen: `hours` are well above handles.FOLLOWED_S.
    """
    log = root / "_delta_log"
    numbered = sorted((int(path.name[:20]), path) for path in log.iterdir() if path.name[:20].isdigit())
    newest_s = max((path.stat().st_mtime for _, path in numbered), default=0.0)
    discard_staged(root, newest_s - hours * 3600)
    checkpoints = [version for version, path in numbered if path.name.endswith(".checkpoint.parquet")]
    old = [version for version in checkpoints if _older(path_of(root, version), newest_s - hours * 3600)]
    if needed.all_entries or not old:
        return 0
    cut = max(old)
    for version in sorted(needed.versions):
        if 0 <= version < cut and version not in checkpoints:
            checkpoint(root, version)
    gone = [path for version, path in numbered if version < cut and version not in needed.versions]
    for path in gone:  # oldest first: an entry that is there, and is not needed, says that no later one was removed
        path.unlink(missing_ok=True)
    return len(gone)


def _older(entry: Place, than_s: float) -> bool:
    return entry.exists() and entry.stat().st_mtime < than_s
