"""A folder that appears whole or not at all: made beside its place, and renamed there at the end.

.NAME.packing-TOKEN     locked by whoever makes it; the lock ends with its process, so one that nobody holds is rubbish

Any number of processes may make the same folder at once: the first that is ready wins.
"""

from __future__ import annotations

import errno
import glob
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import locks
from .faults import translated


@contextmanager
def staged(place: Path) -> Iterator[Path]:
    """A folder that becomes `place` at the end of the block, and is gone if there is an error.

    What killed processes left there is removed.

    Raises:
        FileExistsError: somebody else was faster.
        StorageError: it cannot be written there.
    """
    with translated(place):
        clear(place)
        folder, handle = _make(place)
        try:
            yield folder
            _rename(folder, place)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            os.close(handle)


def stagings(place: Path) -> list[Path]:
    """What is being made for a place, or was left there by killed processes."""
    return sorted(place.parent.glob(f".{glob.escape(place.name)}.packing-*"))


def clear(place: Path) -> None:
    """Remove what processes that are gone have left of making a place."""
    for folder in stagings(place):
        try:
            handle = locks.hold(folder)
        except FileNotFoundError:
            continue  # it is finished, or somebody else removed it
        except OSError as error:
            if error.errno not in locks.UNSUPPORTED:
                raise
            continue  # nobody can say whose it is
        if handle is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(handle)


def _make(place: Path) -> tuple[Path, int]:
    while True:
        folder = place.parent / f".{place.name}.packing-{secrets.token_hex(4)}"
        folder.mkdir(parents=True)
        handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            locks.wait(handle)
        except OSError as error:
            if error.errno not in locks.UNSUPPORTED:
                raise
        if folder.exists():
            return folder, handle
        os.close(handle)  # it was taken for rubbish before it was locked


def _rename(folder: Path, place: Path) -> None:
    try:
        folder.rename(place)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            raise FileExistsError(error.errno, "somebody else was faster", str(place)) from None
        raise
