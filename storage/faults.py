"""What the file system and delta-rs say when they refuse, in reclake's words."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from ..schemas.errors import StorageError

_REFUSALS = {  # what happened, what was expected, what to do
    errno.ENOSPC: (
        "the disk is full",
        "room for what is being written",
        "free some space and run the same command again: nothing half-written is visible",
    ),
    errno.EDQUOT: (
        "the disk quota is used up",
        "room for what is being written",
        "free some space and run the same command again",
    ),
    errno.EACCES: (
        "no permission",
        "a place that may be read and written",
        "check who owns the path, or run as a user that may write there",
    ),
    errno.EPERM: (
        "no permission",
        "a place that may be read and written",
        "check who owns the path, or run as a user that may write there",
    ),
    errno.EROFS: (
        "the file system is read-only",
        "a place that may be written",
        "remount it writable, or use a lake elsewhere",
    ),
}
_TEXTS = {
    "No space left on device": errno.ENOSPC,
    "os error 28": errno.ENOSPC,
    "Permission denied": errno.EACCES,
    "os error 13": errno.EACCES,
    "Read-only file system": errno.EROFS,
    "os error 30": errno.EROFS,
}
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_FRAME = re.compile(r"[0-9]+: |at ")


@contextmanager
def translated(where: object) -> Iterator[None]:
    """Turn refusals of the storage below into StorageError; everything else passes through unchanged."""
    try:
        yield
    except StorageError:
        raise
    except OSError as error:
        known = error.errno if error.errno in _REFUSALS else _by_text(str(error))
        if known is None:
            raise
        what, expected, hint = _REFUSALS[known]
        raise StorageError(
            what, where=error.filename or where, expected=expected, got=_plain(str(error)), hint=hint
        ) from error
    except Exception as error:
        known = _by_text(str(error))
        if known is None:
            raise
        what, expected, hint = _REFUSALS[known]
        raise StorageError(what, where=where, expected=expected, got=_plain(str(error)), hint=hint) from error


def _plain(text: str) -> str:
    """What an error says on one line, without the colours and the backtrace that delta-rs adds."""
    lines = [line.strip(" \u21b3") for line in _COLOURS.sub("", text).splitlines()]
    return ": ".join(line for line in lines if line and not _FRAME.match(line))


def _by_text(text: str) -> int | None:
    return next((number for marker, number in _TEXTS.items() if marker in text), None)
