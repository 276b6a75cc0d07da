"""The manifest of a shard set: what the set is, and the files and chunks it holds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..schemas.errors import ShardError

FORMAT_VERSION = 2
MANIFEST = "manifest.json"
ITEMS = "items.parquet"

# How the chunks of shards are compressed: lz4 is read fastest, zstd is smallest.
Compression = Literal["lz4", "zstd"]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the samples or of the history: its Arrow type by name, and how many nulls the whole set has in it."""

    name: str
    type: str
    nulls: int = 0

    @property
    def dtype(self) -> np.dtype[Any]:
        """The NumPy type it is read as: times are int64 µs, dates int32 days since 1970."""
        return _dtype(self.type)


@cache
def _dtype(kind: str) -> np.dtype[Any]:
    if kind.startswith("timestamp"):
        return np.dtype(np.int64)
    names = {"date32[day]": "int32", "float": "float32", "double": "float64"}
    return np.dtype(names.get(kind, kind))


@dataclass(frozen=True, slots=True)
class ShardFile:
    """One Parquet file, and the samples, rows and events (in all, and by tier) of each of its chunks (row groups).

    Damage is found where it is read: `footer_blake2b` covers the last `footer_bytes`, all behind the last chunk, and
    `chunk_crc32` each chunk's bytes, column by column in the order of the footer.
    """

    file: str
    rows: int
    samples: int
    bytes: int
    blake2b: str
    footer_bytes: int
    footer_blake2b: str
    chunk_rows: tuple[int, ...]
    chunk_samples: tuple[int, ...]
    chunk_events: tuple[int, ...]
    chunk_tiers: tuple[tuple[int, ...], ...]
    chunk_windows: tuple[int, ...]
    chunk_crc32: tuple[tuple[int, ...], ...]

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> ShardFile:
        fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in document.items()}
        nested = {name: tuple(tuple(each) for each in document[name]) for name in ("chunk_tiers", "chunk_crc32")}
        return cls(**(fields | nested))


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a shard set is. `fingerprint` names its samples and their order whatever the files' encoding."""

    recipe: dict[str, Any]  # name, version, fingerprint
    pin: dict[str, Any]  # name, tables: versions by table
    history_length: int
    window_us: int  # rows are apart by windows of request_time of this length, in their order; 0: they are not
    labels: tuple[str, ...]
    features: tuple[str, ...]
    samples: tuple[Column, ...]
    history: tuple[Column, ...]
    vocabularies: dict[str, tuple[str, ...]]
    content: dict[str, dict[str, Any]]  # by name: file, rows, dimensions
    samples_blake2b: str  # digest of every row's user_id, sample_id and seen, in order
    users: int
    shards: tuple[ShardFile, ...]
    files: dict[str, dict[str, Any]] = field(default_factory=dict)  # bytes and blake2b of the files beside the shards
    compression: Compression = "lz4"
    days: tuple[str, ...] | None = None  # of the samples, such as 2024-03-01; None: every day that the pin has

    @property
    def sample_count(self) -> int:
        return sum(shard.samples for shard in self.shards)

    @property
    def identity(self) -> dict[str, Any]:
        """What a set was asked to be: two packs with equal identities hold the same samples."""
        every = {
            "format_version": FORMAT_VERSION,
            "recipe": self.recipe,
            "pin": self.pin,
            "history_length": self.history_length,
            "window_us": self.window_us,
        }
        return every if self.days is None else every | {"days": list(self.days)}

    @property
    def fingerprint(self) -> str:
        # Of all chunks as if they were in one file: where files end says nothing of the order.
        chunks = [[[n for s in self.shards for n in s.chunk_samples], [n for s in self.shards for n in s.chunk_events]]]
        return digest_of(json.dumps([self.identity, self.samples_blake2b, chunks], sort_keys=True).encode())

    def to_json(self) -> dict[str, Any]:
        document = {
            **self.identity,
            "fingerprint": self.fingerprint,
            "labels": list(self.labels),
            "features": list(self.features),
            "samples": [asdict(column) for column in self.samples],
            "history": [asdict(column) for column in self.history],
            "vocabularies": {name: list(words) for name, words in self.vocabularies.items()},
            "content": self.content,
            "samples_blake2b": self.samples_blake2b,
            "users": self.users,
            "shards": [asdict(shard) for shard in self.shards],
            "files": self.files,
            "compression": self.compression,
        }
        return document | {"digest": digest_of(json.dumps(document, sort_keys=True).encode())}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Manifest:
        return cls(
            recipe=document["recipe"],
            pin=document["pin"],
            history_length=document["history_length"],
            window_us=document["window_us"],
            labels=tuple(document["labels"]),
            features=tuple(document["features"]),
            samples=tuple(Column(**c) for c in document["samples"]),
            history=tuple(Column(**c) for c in document["history"]),
            vocabularies={name: tuple(words) for name, words in document["vocabularies"].items()},
            content=document["content"],
            samples_blake2b=document["samples_blake2b"],
            users=document["users"],
            shards=tuple(ShardFile.from_json(s) for s in document["shards"]),
            files=document["files"],
            compression=document.get("compression", "lz4"),
            days=tuple(document["days"]) if "days" in document else None,
        )


def write_manifest(folder: Path, manifest: Manifest) -> Manifest:
    """Write, and return, the manifest of a folder whose files are complete. The caller renames it into place."""
    shards = {shard.file for shard in manifest.shards}
    others = sorted(path for path in folder.rglob("*") if path.is_file() and path.name not in {MANIFEST, *shards})
    described = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "blake2b": file_digest(path)}
        for path in others
    }
    manifest = replace(manifest, files=described)
    text = json.dumps(manifest.to_json(), sort_keys=True)
    (folder / MANIFEST).write_text(text + "\n", encoding="utf-8")
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a shard set.

    Raises:
        ShardError: there is none, it is of another format version, or its bytes are not what was written.
    """
    path = folder / MANIFEST
    return parse_manifest(path.read_bytes() if path.is_file() else None, folder, folder.exists())


def parse_manifest(data: bytes | None, where: object, exists: bool = True) -> Manifest:
    """As `read_manifest`, of the bytes of the file; None where there is no such file."""
    path = f"{where}/{MANIFEST}"
    if data is None:
        raise ShardError(
            "no shard set here",
            where=where,
            expected=f"a folder with {MANIFEST}",
            got="a path without a manifest" if exists else "no such folder",
            hint="write one with `reclake pack LAKE RECIPE --pin NAME --out DIR`",
        )
    try:
        document = json.loads(data)
        version = document["format_version"]
    except (ValueError, KeyError, TypeError) as error:
        raise ShardError("the manifest cannot be read", where=path, expected="JSON", got=repr(error)) from None
    if version != FORMAT_VERSION:
        raise ShardError(
            "another shard format",
            where=path,
            expected=f"format_version {FORMAT_VERSION}",
            got=version,
            hint="pack again, or install the release of reclake that wrote it",
        )
    written = document.pop("digest", None)
    digest = digest_of(json.dumps(document, sort_keys=True).encode())
    if written != digest:
        raise ShardError("the manifest was changed after it was written", where=path, expected=written, got=digest)
    return Manifest.from_json(document)


def file_digest(path: Path) -> str:
    """BLAKE2b-128 of a file, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def digest_of(data: bytes) -> str:
    """BLAKE2b-128, as hex."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()
