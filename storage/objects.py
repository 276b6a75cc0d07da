"""Objects of an S3-compatible bucket, by the names that pathlib has for files.

Every request is tried again while the store fails, times out or answers half. Writes are whole objects: one that is
repeated writes the same bytes. Only `create` must not be repeated blindly, see there.
"""

from __future__ import annotations

import fnmatch
import functools
import io
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

from ..schemas.errors import StorageError, UnknownOutcomeError

if TYPE_CHECKING:
    from obstore.store import S3Store

ATTEMPTS = 12  # with waits of 20 ms doubling up to 2 s: about 15 s beside what the requests themselves take
_FROM_ENVIRONMENT = (
    "AWS_ACCESS_KEY_ID",
    "AWS_ALLOW_HTTP",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_REGION",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
)
_CLIENT_OPTIONS = frozenset({"allow_http", "timeout", "connect_timeout", "allow_invalid_certificates"})

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Stat:
    """What a store says of an object: bytes, and when it was written (s since 1970)."""

    st_size: int
    st_mtime: float

    @property
    def st_mtime_ns(self) -> int:
        return int(self.st_mtime * 1e9)

    @property
    def st_ino(self) -> int:
        return 0


@dataclass(frozen=True, slots=True, order=True)
class ObjectPath:
    """An object, or a prefix, of a bucket. It can be pickled."""

    bucket: str
    key: str
    options: tuple[tuple[str, str], ...] = field(default=(), repr=False)  # credentials among them
    known: Stat | None = field(default=None, compare=False, repr=False)

    @classmethod
    def of(cls, uri: str, options: Mapping[str, str]) -> ObjectPath:
        """The place of an s3:// address; what `options` leave out comes from the environment.

        Raises:
            StorageError: it names no bucket.
        """
        bucket, _, key = uri.partition("://")[2].partition("/")
        if not bucket:
            raise StorageError("an address without a bucket", expected="s3://BUCKET/PREFIX", got=uri)
        given = {name.lower(): str(value) for name, value in options.items()}
        around = {name.lower(): os.environ[name] for name in _FROM_ENVIRONMENT if name in os.environ}
        return cls(bucket, key.strip("/"), tuple(sorted((around | given).items())))

    def at(self, uri: str) -> ObjectPath:
        """An address of the same store."""
        bucket, _, key = uri.partition("://")[2].partition("/")
        return ObjectPath(bucket, key, self.options)

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    def __truediv__(self, name: str) -> ObjectPath:
        return replace(self, key=f"{self.key}/{name}".strip("/"), known=None)

    @property
    def name(self) -> str:
        return self.key.rpartition("/")[2]

    @property
    def suffix(self) -> str:
        stem, dot, end = self.name.rpartition(".")
        return f".{end}" if dot and stem else ""

    @property
    def stem(self) -> str:
        return self.name.removesuffix(self.suffix)

    @property
    def parent(self) -> ObjectPath:
        return replace(self, key=self.key.rpartition("/")[0], known=None)

    def mkdir(self, *, parents: bool = False, exist_ok: bool = False) -> None:
        """Nothing: prefixes need no making."""

    def exists(self) -> bool:
        """Whether there is an object, or one below this prefix."""
        return self.is_file() or self.is_dir()

    def is_file(self) -> bool:
        try:
            self.stat()
        except FileNotFoundError:
            return False
        return True

    def is_dir(self) -> bool:
        return any(self.iterdir())

    def stat(self) -> Stat:
        """
        Raises:
            FileNotFoundError: there is no object.
        """
        if self.known is not None:
            return self.known
        import obstore

        return _stat(self._ask(lambda: obstore.head(self._store, self.key)))

    def iterdir(self) -> Iterator[ObjectPath]:
        """Objects and prefixes directly below, by name."""
        import obstore

        found = self._ask(lambda: obstore.list_with_delimiter(self._store, f"{self.key}/"))
        below = [replace(self, key=prefix.rstrip("/"), known=None) for prefix in found["common_prefixes"]]
        below += [replace(self, key=each["path"], known=_stat(each)) for each in found["objects"]]
        yield from sorted(below)

    def glob(self, pattern: str) -> Iterator[ObjectPath]:
        """Those directly below whose name fits a pattern."""
        return (path for path in self.iterdir() if fnmatch.fnmatchcase(path.name, pattern))

    def read_bytes(self) -> bytes:
        """
        Raises:
            FileNotFoundError: there is no object.
        """
        import obstore

        return self._ask(lambda: bytes(obstore.get(self._store, self.key).bytes()))

    def read_text(self, encoding: str = "utf-8") -> str:
        return self.read_bytes().decode(encoding)

    def write_bytes(self, data: bytes) -> int:
        """Put the object in place of the one that may be there."""
        import obstore

        self._ask(lambda: obstore.put(self._store, self.key, data, use_multipart=False))
        return len(data)

    def create(self, data: bytes) -> bool:
        """Put the object if there is none (If-None-Match); False if there is another.

        A request that failed may have been carried out, or be carried out later. It is repeated until the store says
        what is there: if that is `data`, it was this call that put it, so `data` must be like no other writer's.

        Raises:
            UnknownOutcomeError: the store did not answer to the end; the object may be there, or come.
        """
        import obstore
        from obstore.exceptions import AlreadyExistsError

        def put() -> bool:
            try:
                obstore.put(self._store, self.key, data, mode="create", use_multipart=False)
            except AlreadyExistsError:
                return bytes(obstore.get(self._store, self.key).bytes()) == data
            return True

        _ = self._store  # what is wrong with the options is said as it is
        try:
            return self._ask(put, absence_passes=True)
        except StorageError as error:
            raise UnknownOutcomeError(
                "an object store did not say whether it took an object",
                where=self,
                got=error.got,
                hint="look again later: it may be there, or come",
            ) from error

    def check_conditions(self) -> None:
        """Put an object below this prefix that must be new, twice, and take it away.

        Raises:
            StorageError: the store takes both: it would lose the commits of writers that are there at once.
        """
        probe = self / f".probe-{secrets.token_hex(8)}"
        try:
            if probe.create(b"first") and probe.create(b"second"):
                raise StorageError(
                    "an object store that knows no conditional puts: of two commits at once it would lose one",
                    where=self,
                    expected="no answer but 409 or 412 to a put with If-None-Match: * of an object that is there",
                    got="it was put in place of the other",
                    hint="use a store, or a newer version of it, that knows them: S3, MinIO and R2 do",
                )
        finally:
            probe.unlink()

    def unlink(self, missing_ok: bool = False) -> None:
        """Delete the object; a store does not tell whether there was one."""
        import obstore

        self._ask(lambda: obstore.delete(self._store, self.key))

    def open(self) -> io.BufferedIOBase:
        """The object's bytes, each fetched when it is read."""
        return io.BufferedReader(_Ranges(self), buffer_size=1 << 16)

    def range(self, start: int, length: int) -> bytes:
        """Some of the object's bytes."""
        import obstore

        return self._ask(lambda: bytes(obstore.get_range(self._store, self.key, start=start, length=length)))

    @property
    def _store(self) -> S3Store:
        return _client(self.bucket, self.options)

    def _ask(self, request: Callable[[], T], *, absence_passes: bool = False) -> T:
        """The answer to a request, asked again while the store fails."""
        from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError

        for attempt in range(ATTEMPTS):
            try:
                return request()
            except StorageError:
                raise
            except FileNotFoundError:
                if not absence_passes:
                    raise
                last: Exception = FileNotFoundError(str(self))
            except (PermissionError, PermissionDeniedError, UnauthenticatedError) as error:
                raise StorageError(
                    "no permission",
                    where=self,
                    expected="a bucket that these credentials may read and write",
                    got=str(error).splitlines()[0],
                ) from error
            except (BaseError, OSError) as error:
                last = error
            if "NoSuchBucket" in str(last):
                raise StorageError(
                    "no such bucket",
                    where=self,
                    expected="a bucket that is there",
                    got=self.bucket,
                    hint="make the bucket, or check its name and the endpoint",
                ) from last
            time.sleep(wait_s(attempt))
        raise StorageError(
            "an object store does not answer",
            where=self,
            expected=f"an answer within {ATTEMPTS} attempts",
            got=str(last).splitlines()[0],
            hint="check the endpoint, the bucket and the network, and run the same command again",
        ) from last


class _Ranges(io.RawIOBase):
    """A readable, seekable file over an object."""

    def __init__(self, path: ObjectPath) -> None:
        self._path, self._at, self._size = path, 0, path.stat().st_size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        length = min(len(buffer), self._size - self._at)
        if length > 0:
            buffer[:length] = self._path.range(self._at, length)
            self._at += length
        return max(length, 0)


def wait_s(attempt: int) -> float:
    """How long to wait before an attempt, s."""
    return min(0.02 * 2.0**attempt, 2.0)


@functools.lru_cache(maxsize=64)
def _client(bucket: str, options: tuple[tuple[str, str], ...]) -> S3Store:
    from obstore.exceptions import BaseError
    from obstore.store import S3Store

    plain = {name.removeprefix("aws_"): value for name, value in options}
    client: Any = {name: value for name, value in plain.items() if name in _CLIENT_OPTIONS}
    if "allow_http" in client:
        client["allow_http"] = client["allow_http"].lower() in ("true", "1")
    config: Any = {name: value for name, value in plain.items() if name not in _CLIENT_OPTIONS}
    try:
        # Retries are made here, where it is known which requests may be repeated.
        return S3Store(bucket, config=config, client_options=client, retry_config={"max_retries": 0})
    except BaseError as error:
        raise StorageError(
            "a storage option that the object store does not know", where=bucket, got=str(error).splitlines()[0]
        ) from error


def _stat(meta: Mapping[str, Any]) -> Stat:
    return Stat(int(meta["size"]), meta["last_modified"].timestamp())
