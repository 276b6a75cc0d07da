"""Sources that are being followed, and how far each has got: what a seal waits for.

LAKE/sources/NAME.json      who follows what, and how far it has got
LAKE/sources/NAME.lock      held by the follower; the lock ends with its process, however that ends

An object store has no locks: there every follower counts as alive until it ends in order.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from ..schemas.errors import LakeBusyError
from . import documents, locks, places
from .faults import translated
from .places import Place

_PATIENCE = 20  # looks at a lock that somebody may hold just to see whether it is held
_LOOK_S = 0.05


@dataclass(frozen=True, slots=True)
class Source:
    """What is followed: a folder, under a contract. `name` is unique for the two."""

    name: str
    contract: str
    path: str


@dataclass(frozen=True, slots=True)
class Followed:
    """A source that may still bring events. None of them will be known before `watermark_us`.

    `alive`: its follower runs. One that was killed brings nothing before it is started again, and what it brings then
    is known from its arrival.
    """

    source: Source
    watermark_us: int
    follower: str
    alive: bool


@contextmanager
def following(folder: Place, source: Source, watermark_us: int) -> Iterator[Callable[[int], None]]:
    """While a source is being followed, by this process alone. Gives what moves its watermark.

    Raises:
        LakeBusyError: somebody follows it already.
        StorageError: the lake cannot be written.
    """
    follower = f"process {os.getpid()} on {socket.gethostname()}"
    place = folder / f"{source.name}.json"

    def move(watermark_us: int) -> None:
        documents.replace(place, {"source": asdict(source), "watermark_us": watermark_us, "follower": follower})

    with _held(folder, source):
        try:
            move(watermark_us)
            yield move
        finally:
            place.unlink(missing_ok=True)


def read(folder: Place) -> list[Followed]:
    """Every source that is being followed, or was until its follower was killed; by name."""
    found = [documents.read(folder / name) for name in sorted(places.names(folder)) if name.endswith(".json")]
    return [
        Followed(source, doc["watermark_us"], doc["follower"], _alive(folder, source))
        for doc in found
        for source in [Source(**doc["source"])]
    ]


def strike_out(folder: Place, source: Source) -> None:
    """Remove what a follower that was killed has left; if somebody follows the source again, nothing."""
    if not isinstance(folder, Path):
        return
    try:
        handle = locks.hold(_lock(folder, source))
    except FileNotFoundError:
        return
    if handle is not None:
        with translated(folder):
            (folder / f"{source.name}.json").unlink(missing_ok=True)
            _lock(folder, source).unlink(missing_ok=True)
        os.close(handle)


def _alive(folder: Place, source: Source) -> bool:
    return not isinstance(folder, Path) or locks.is_held(_lock(folder, source))


def _lock(folder: Path, source: Source) -> Path:
    return folder / f"{source.name}.lock"


@contextmanager
def _held(folder: Place, source: Source) -> Iterator[None]:
    if not isinstance(folder, Path):
        yield
        return
    with translated(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle = _hold(folder, source)
    try:
        for left in folder.glob(f".{source.name}.json.*.tmp"):
            left.unlink()  # of a follower that was killed
        yield
    finally:
        _lock(folder, source).unlink(missing_ok=True)
        os.close(handle)


def _hold(folder: Path, source: Source) -> int:
    path = _lock(folder, source)
    for _ in range(_PATIENCE):
        path.touch()
        handle = locks.hold(path)
        if handle is not None:
            if path.exists() and os.path.samestat(os.fstat(handle), path.stat()):
                return handle
            os.close(handle)  # whoever had it took the file away
        time.sleep(_LOOK_S)
    known = next((each for each in read(folder) if each.source == source), None)
    raise LakeBusyError(
        "somebody follows this folder already",
        where=source.path,
        expected=f"one follower of a folder under contract {source.contract}",
        got="another one" if known is None else known.follower,
        hint="let that one go on, or end it first",
    )
