"""Media bytes by digest: the same bytes are stored once, and a blob never changes.

LAKE/blobs/ab/abcdef…                BLAKE2b-128 of the bytes, hex; the first two digits name the folder
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from ..schemas.errors import StorageError
from .faults import translated

_DIGEST = re.compile(r"^[0-9a-f]{32}$")


def digest_of(data: bytes) -> str:
    """BLAKE2b with 16 bytes of output (RFC 7693), as 32 hex digits."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class Blobs:
    """A folder of immutable blobs."""

    root: Path

    def put(self, data: bytes) -> str:
        """Store bytes and return their digest. Bytes that are there already are not written again.

        Raises:
            StorageError: disk full, no permission, read-only.
        """
        digest = digest_of(data)
        path = self._path(digest)
        # A file of another length is what a crash of the machine can leave behind: it is written anew.
        if path.is_file() and path.stat().st_size == len(data):
            return digest
        with translated(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = path.with_name(f".{digest}.{secrets.token_hex(4)}.tmp")
            try:
                temporary.write_bytes(data)
                temporary.replace(path)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
        return digest

    def path(self, digest: str) -> str:
        """Where the bytes of a digest are, whether they are stored or not."""
        return str(self._path(digest))

    def __contains__(self, digest: str) -> bool:
        return self._path(digest).is_file()

    def read(self, digest: str) -> bytes:
        """The bytes of a digest, checked against it.

        Raises:
            StorageError: there are none, or they are no longer what was stored.
        """
        path = self._path(digest)
        try:
            with translated(path):
                data = path.read_bytes()
        except FileNotFoundError:
            raise StorageError("no such blob", where=path, expected=digest, got="no file") from None
        found = digest_of(data)
        if found != digest:
            raise StorageError(
                "a blob is damaged",
                where=path,
                expected=digest,
                got=f"{found}, {len(data)} bytes",
                hint="delete the file and run `reclake media` again: it is stored anew",
            )
        return data

    def _path(self, digest: str) -> Path:
        if not _DIGEST.match(digest):
            raise StorageError("not a digest", where=self.root, expected="32 hex digits", got=repr(digest))
        return self.root / digest[:2] / digest
