"""Follow: watch a folder and ingest each file that comes to rest in it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ..schemas.errors import GateError, ReclakeError, SourceError, SourceNotFoundError
from ..storage import followed
from ..storage.catalog import Catalog
from . import sources
from .ingest import IngestResult, ingest
from .run import Run


def follow(
    catalog: Catalog,
    contract: str,
    folder: Path,
    *,
    run: Run,
    on_ingest: Callable[[IngestResult], None],
    on_refused: Callable[[ReclakeError], None],
    stop: Callable[[], bool],
    poll_seconds: float = 1.0,
) -> None:
    """Ingest what is in the folder and what comes, until `stop()`.

    A file is read once it has the same size and time in two looks, so a file that is still being written waits; names
    that start with `.` or `_` are never read. A file that cannot be read, or that a critical check stops, is given to
    `on_refused` and tried again once it changes; the others go on. While this runs, sealing waits for the watermark of
    this source: the time of the last look that left nothing untried.

    Raises:
        SourceNotFoundError: it is not a folder.
        LakeBusyError: somebody else follows it under this contract.
        ContractError: the contract is unknown, or its mapping does not fit the files.
    """
    if not folder.is_dir():
        raise SourceNotFoundError(
            "not a folder", where=folder, expected="a folder to follow", hint="without --follow a file can be read"
        )
    seen: dict[Path, tuple[int, int]] = {}
    done: dict[Path, tuple[int, int]] = {}
    with followed.following(catalog.sources_folder, _source(contract, folder), catalog.sealed_through_us or 0) as move:
        while not stop():
            looked_us = run.now_us()
            now = _states(folder)
            waiting = [path for path in now if done.get(path) != now[path]]
            at_rest = [path for path in waiting if seen.get(path) == now[path]]
            for path in at_rest:
                try:
                    on_ingest(ingest(catalog, contract, [path], run=run))
                except (SourceError, SourceNotFoundError, GateError) as error:
                    on_refused(error)
                done[path] = now[path]
            if len(at_rest) == len(waiting):
                move(looked_us)
            seen = now
            if not stop():
                time.sleep(poll_seconds)


def _source(contract: str, folder: Path) -> followed.Source:
    path = str(folder.absolute())
    digest = hashlib.blake2b(f"{contract}\n{path}".encode(), digest_size=8).hexdigest()
    return followed.Source(f"folder-{digest}", contract, path)


def _states(folder: Path) -> dict[Path, tuple[int, int]]:
    """Size and time of every file that could be read; one that goes away meanwhile is not there."""
    found = {}
    for path in sources.discover_quietly(folder):
        with suppress(FileNotFoundError):
            status = path.stat()
            found[path] = (status.st_size, status.st_mtime_ns)
    return found
