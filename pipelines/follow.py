"""Follow: watch a folder and ingest each file that comes to rest in it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

from ..schemas.errors import SourceNotFoundError
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
    stop: Callable[[], bool],
    poll_seconds: float = 1.0,
) -> None:
    """Ingest what is in the folder and what comes, until `stop()`.

    A file is read once it has the same size and time in two looks, so a file that is still being written waits; names
    that start with `.` or `_` are never read. While it runs, sealing waits for the watermark of this source: the time
    of the last look that found nothing unread.
    """
    if not folder.is_dir():
        raise SourceNotFoundError("not a folder", where=folder, expected="a folder to follow")
    name = "folder-" + hashlib.blake2b(f"{contract}\n{folder.absolute()}".encode(), digest_size=8).hexdigest()
    watermark = catalog.sealed_through_us or 0
    followed.write(catalog.sources_folder, followed.Followed(name, contract, watermark))
    seen: dict[Path, tuple[int, int]] = {}
    done: dict[Path, tuple[int, int]] = {}
    try:
        while not stop():
            looked_us = run.now_us()
            now = {path: _state(path) for path in sources.discover_quietly(folder)}
            waiting = [path for path in now if done.get(path) != now[path]]
            at_rest = [path for path in waiting if seen.get(path) == now[path]]
            for path in at_rest:
                on_ingest(ingest(catalog, contract, [path], run=run))
                done[path] = now[path]
            if len(at_rest) == len(waiting):
                followed.write(catalog.sources_folder, followed.Followed(name, contract, looked_us))
            seen = now
            if not stop():
                time.sleep(poll_seconds)
    finally:
        followed.remove(catalog.sources_folder, name)


def _state(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns
