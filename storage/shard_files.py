"""The files of a shard set: in a folder, or in an object store and cached on disk. numpy and pyarrow only.

A cached shard is a sparse file of the shard's length in the cache's folder, named by the shard's digest; chunks are
written at their places when they are first read. Nothing else says which are there: what is not there does not have
the manifest's checksum, nor does what a killed process wrote half. So processes share a cache without a protocol: they
write equal bytes to equal places, each under the file's lock so that a chunk is fetched once.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

import pyarrow as pa
import pyarrow.fs as pafs

from ..schemas.errors import FeedError, ShardError
from .shard_manifest import MANIFEST, ShardFile, file_digest

_BLOCK = 1 << 22


@dataclass(frozen=True, slots=True)
class Cache:
    """Where chunks of remote shards are kept, and how many bytes of them. Any number of processes may share it.

    Content arrays are kept whole beside them, and not counted.
    """

    folder: str | os.PathLike[str]
    bytes: int

    def __post_init__(self) -> None:
        if not isinstance(self.bytes, int) or self.bytes < 0:
            raise FeedError(
                "not a size for a cache", expected="a number of bytes, such as 50 << 30", got=repr(self.bytes)
            )


class OpenShard:
    """A shard mapped into memory. What was read of it stays mapped, also when it is closed or the file deleted."""

    def __init__(self, handle: int, fetch: Callable[[int, int], memoryview] | None = None) -> None:
        self._handle = handle
        self._fetch = fetch
        # Mapped by Arrow: its threads may be the last to let go of a buffer, and one of Python's they cannot give back
        # while the interpreter ends ("terminate called without an active exception").
        with pa.memory_map(f"/dev/fd/{handle}") as mapped:
            self.data = mapped.read_buffer()
        self.source = pa.BufferReader(self.data)

    def fetch(self, begin: int, end: int, needed: Callable[[], bool]) -> None:
        """Bring bytes [begin, end) from where the shard comes from, if they are still needed once nobody else does."""
        if self._fetch is None:
            return
        fcntl.flock(self._handle, fcntl.LOCK_EX)
        try:
            if needed():
                os.pwrite(self._handle, self._fetch(begin, end), begin)
        finally:
            fcntl.flock(self._handle, fcntl.LOCK_UN)


class ShardFiles(Protocol):
    """How a shard set reaches its files."""

    @property
    def where(self) -> str:
        """The set's folder, for messages."""

    def manifest(self) -> bytes | None:
        """The bytes of the manifest; None where there is none."""

    def check(self, shard: ShardFile) -> None:
        """Raise ShardError where the file is not there, or not as long as it was packed."""

    def open(self, shard: ShardFile) -> AbstractContextManager[OpenShard]:
        """The shard as a local file, mapped into memory."""

    def whole(self, name: str, digest: str) -> Path:
        """The local path of another file of the set."""


class LocalFiles:
    """A folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def where(self) -> str:
        return str(self._folder)

    def manifest(self) -> bytes | None:
        path = self._folder / MANIFEST
        return path.read_bytes() if path.is_file() else None

    def check(self, shard: ShardFile) -> None:
        path = self._folder / shard.file
        _check_size(path, shard, path.stat().st_size if path.is_file() else None)

    @contextmanager
    def open(self, shard: ShardFile) -> Iterator[OpenShard]:
        handle = os.open(self._folder / shard.file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield OpenShard(handle)
        finally:
            os.close(handle)

    def whole(self, name: str, digest: str) -> Path:
        return self._folder / name


class CachedFiles:
    """A folder of a file system that pyarrow knows (S3, GCS, HDFS …), through a cache on disk."""

    def __init__(self, uri: str, cache: Cache) -> None:
        try:
            self._remote, self._root = pafs.FileSystem.from_uri(uri)
        except (OSError, pa.ArrowException) as error:
            raise ShardError("not a place for shards", where=uri, expected="a URI", got=str(error)) from error
        self._uri = uri.partition("?")[0].rstrip("/")
        self._cache = Path(cache.folder)
        self._bytes = cache.bytes
        try:
            self._cache.mkdir(parents=True, exist_ok=True)
            with self._locked():
                pass
        except OSError as error:
            raise FeedError(
                "the cache cannot be written", where=self._cache, expected="a folder of this machine", got=str(error)
            ) from error

    @property
    def where(self) -> str:
        return self._uri

    def manifest(self) -> bytes | None:
        path = self._at(MANIFEST)
        with self._translated(MANIFEST):
            if self._remote.get_file_info(path).type != pafs.FileType.File:
                return None
            with self._remote.open_input_stream(path) as source:
                return bytes(source.read())

    def check(self, shard: ShardFile) -> None:
        with self._translated(shard.file):
            _check_size(f"{self._uri}/{shard.file}", shard, self._remote.get_file_info(self._at(shard.file)).size)

    @contextmanager
    def open(self, shard: ShardFile) -> Iterator[OpenShard]:
        fetched = False

        def fetch(begin: int, end: int) -> memoryview:
            nonlocal fetched
            fetched = True
            with self._translated(shard.file), self._remote.open_input_file(self._at(shard.file)) as source:
                return memoryview(source.read_at(end - begin, begin))

        path = self._cache / f"{shard.blake2b}.parquet"
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            if os.fstat(handle).st_size != shard.bytes:
                os.ftruncate(handle, shard.bytes)
            os.utime(handle)  # who was used last stays longest
            yield OpenShard(handle, fetch)
        finally:
            os.close(handle)
            if fetched:
                self._evict()

    def whole(self, name: str, digest: str) -> Path:
        path = self._cache / f"{digest}-{PurePosixPath(name).name}"
        with self._locked():
            if path.is_file() and file_digest(path) == digest:
                return path
            partial = path.with_suffix(".partial")
            with (
                self._translated(name),
                self._remote.open_input_stream(self._at(name)) as source,
                partial.open("wb") as sink,
            ):
                while block := source.read(_BLOCK):
                    sink.write(block)
            found = file_digest(partial)
            if found != digest:
                raise ShardError(
                    "not the file that was packed", where=f"{self._uri}/{name}", expected=digest, got=found
                )
            partial.replace(path)
        return path

    def _evict(self) -> None:
        """Delete the shards used longest ago while all take more than the bound. Who reads one keeps what it maps."""
        with self._locked():
            kept = []
            for entry in os.scandir(self._cache):
                if entry.name.endswith(".parquet"):
                    with suppress(FileNotFoundError):
                        status = entry.stat()
                        kept.append((status.st_mtime_ns, entry.path, status.st_blocks * 512))
            used = sum(size for _, _, size in kept)
            for _, path, size in sorted(kept):
                if used <= self._bytes:
                    break
                Path(path).unlink(missing_ok=True)
                used -= size

    def _at(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        handle = os.open(self._cache / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)

    @contextmanager
    def _translated(self, name: str) -> Iterator[None]:
        try:
            yield
        except (OSError, pa.ArrowException) as error:
            raise ShardError(
                "a remote shard set cannot be read", where=f"{self._uri}/{name}", got=str(error)
            ) from error


def files_of(path: str | os.PathLike[str], cache: Cache | None) -> ShardFiles:
    """The files of a set, by its folder or URI.

    Raises:
        FeedError: a URI without a cache.
    """
    text = os.fspath(path)
    if "://" not in text:
        return LocalFiles(Path(text))
    if cache is None:
        raise FeedError(
            "remote shards need a cache on disk",
            where=text,
            expected="cache=reclake.Cache(folder, bytes)",
            got="cache=None",
        )
    return CachedFiles(text, cache)


def _check_size(where: object, shard: ShardFile, size: int | None) -> None:
    hint = "copy the file again, or pack again"
    expected = f"{shard.bytes} bytes"
    if size is None:
        raise ShardError("a shard is missing", where=where, expected=expected, got="no file", hint=hint)
    if size != shard.bytes:
        raise ShardError(
            "a shard is not as long as it was packed", where=where, expected=expected, got=f"{size} bytes", hint=hint
        )
