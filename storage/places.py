"""Places: where the files of a lake are, a folder or a prefix of an S3-compatible bucket.

`Place` is what both can do, by the names that pathlib has for it; the functions are what they do each in its own way.
"""

from __future__ import annotations

import os
import re
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import polars as pl
import pyarrow.parquet as pq

from ..schemas.errors import StorageError
from .faults import translated
from .objects import ATTEMPTS, ObjectPath, wait_s

Place = Path | ObjectPath

T = TypeVar("T")

_SCHEMES = ("s3://", "s3a://")
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")  # pathlib leaves one slash of two; C:/ is no address
_STORE_FAILED = "Generic S3 error"  # how the object_store crate calls what was not answered, or answered half


def place(root: str | Path, options: Mapping[str, str] | None = None) -> Place:
    """A path or an s3:// address as a place; `options` as object_store names them (aws_endpoint_url, ...).

    What `options` leave out is taken from the environment's AWS_ variables.

    Raises:
        StorageError: another kind of address.
    """
    text = str(root)
    if isinstance(root, str) and text.startswith(_SCHEMES):
        return ObjectPath.of(text, options or {})
    if "://" in text or (isinstance(root, str) and text.startswith(("s3:", "gs:", "az:"))):
        raise StorageError(
            "this kind of storage is not supported",
            where=text,
            expected="a path on a local or mounted file system, or s3://BUCKET/PREFIX",
        )
    if options:
        raise StorageError("a file system takes no storage options", where=text, got=", ".join(options))
    return Path(root).absolute()


def folder(out: str | Path) -> Path:
    """Where something is written that is written to a file system alone.

    Raises:
        StorageError: an address of something else. As a path it would be a folder called "s3:".
    """
    if _ADDRESS.match(str(out)):
        raise StorageError(
            "shards and reports are written to a file system",
            where=str(out),
            expected="a path",
            got="an address",
            hint="write it to a folder, then copy that to the store: a feed reads shards there",
        )
    return Path(out)


def options_of(root: Place) -> dict[str, str] | None:
    """Storage options as delta-rs and Polars want them; None on a file system."""
    return dict(root.options) if isinstance(root, ObjectPath) else None


def beside(root: Place, uri: str) -> Place:
    """The place of an absolute path or address in the same storage as `root`."""
    return root.at(uri) if isinstance(root, ObjectPath) else Path(uri)


def create(target: Place, data: bytes) -> bool:
    """Write a new file, durable and whole or not at all; False, and nothing written, if one is there already.

    Raises:
        StorageError: disk full, no permission, read-only.
        UnknownOutcomeError: an object store did not say whether it has it.
    """
    if isinstance(target, ObjectPath):
        return target.create(data)
    temporary = _temporary(target, data)
    try:
        with translated(target):
            os.link(temporary, target)
        return True
    except FileExistsError:
        return False
    finally:
        temporary.unlink()


def replace(target: Place, data: bytes) -> None:
    """Write a file over the one that may be there; a reader sees the old one or the new one."""
    if isinstance(target, ObjectPath):
        target.write_bytes(data)
        return
    temporary = _temporary(target, data)
    with translated(target):
        os.replace(temporary, target)


def names(folder: Place) -> list[str]:
    """What a folder holds, by name; nothing where it is not there."""
    return [path.name for path in folder.iterdir()] if folder.is_dir() else []


def persistently(root: Place, work: Callable[[], T]) -> T:
    """Do what delta-rs does with an object store, again while the store fails; it tries most requests again, not all.

    For work that may be repeated.
    """
    attempts = ATTEMPTS if isinstance(root, ObjectPath) else 1
    for attempt in range(1, attempts):
        try:
            return work()
        except Exception as error:
            if not store_failed(error):
                raise
        time.sleep(wait_s(attempt))
    return work()


def store_failed(error: Exception) -> bool:
    """Whether an error of delta-rs, of whatever class, says that an object store failed."""
    return _STORE_FAILED in str(error)


def parquet_file(path: Place) -> pq.ParquetFile:
    """A Parquet file, opened; of one in an object store only what is asked for is fetched."""
    if isinstance(path, ObjectPath):
        return pq.ParquetFile(path.open(), pre_buffer=True)
    return pq.ParquetFile(path)


def scan(files: Sequence[Place], **how: Any) -> pl.LazyFrame:
    """The rows of Parquet files of one storage, lazily. See polars.scan_parquet for `how`."""
    options = options_of(files[0])
    if options is not None:  # Polars' own look for credentials would find others than were given
        how |= {"storage_options": options, "credential_provider": None}
    return pl.scan_parquet([str(file) for file in files], **how)


def _temporary(target: Path, data: bytes) -> Path:
    with translated(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    return Path(name)
