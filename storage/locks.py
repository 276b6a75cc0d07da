"""Locks between processes: they end with the process that holds them, however it ends.

On a lake: those who derive rows from a user's rows, and those who erase them. Appends, compaction and vacuum need none:
Delta's commits arbitrate. What reads a user's rows and later commits rows made of them (seal, samples, pack)
would bring an erased user back, so it shares a lock that erasure holds alone; so does the publishing of media.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..schemas.errors import LakeBusyError
from .faults import translated
from .places import Place

#: What a file system says that has no locks for such a file.
UNSUPPORTED = (errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP)


def hold(path: Path) -> int | None:
    """Take the lock on a file or folder that is there, and keep it until the handle is closed; None if it is taken.

    Raises:
        FileNotFoundError: it is not there.
    """
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    except OSError:
        os.close(handle)
        raise
    return handle


def is_held(path: Path) -> bool:
    """Whether somebody holds the lock on a file or folder; where the file system cannot say, somebody does."""
    try:
        handle = hold(path)
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno not in UNSUPPORTED:
            raise
        return True
    if handle is not None:
        os.close(handle)
    return handle is None


def wait(handle: int) -> None:
    """Take the lock on an open file or folder as soon as nobody else has it."""
    fcntl.flock(handle, fcntl.LOCK_EX)


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """While nobody else holds the lock on a file, which is made where it is not there; waits.

    Where a file system has no locks, two at once are not kept apart.

    Raises:
        StorageError: no permission, read-only.
    """
    with translated(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        try:
            wait(handle)
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
        yield
    finally:
        os.close(handle)


@contextmanager
def deriving(root: Place) -> Iterator[None]:
    """While rows are made of users' rows. Any number at once; waits until an erasure that runs has ended."""
    if not isinstance(root, Path):  # nobody is erased in an object store
        yield
        return
    try:
        handle = _open(root)
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise
        # Who may not write here cannot bring anybody back.
        yield
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_SH)
        yield
    finally:
        os.close(handle)


@contextmanager
def erasing(root: Path) -> Iterator[None]:
    """While users are removed: alone.

    Raises:
        LakeBusyError: somebody seals, assembles, publishes media, packs, replays or erases right now. The lock ends
            with its process.
    """
    with translated(root):
        handle = _open(root)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise LakeBusyError(
            "somebody else works on users' rows right now",
            where=root,
            expected="no seal, samples, media, pack, replay or forget at the same time",
            hint="run the same command again when that has ended",
        ) from None
    finally:
        os.close(handle)


def _open(root: Path) -> int:
    return os.open(root / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
