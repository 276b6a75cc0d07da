"""What a lake has made outside of itself: shard sets and reports, so that erasure can find them.

LAKE/outputs/DIGEST.json            kind and absolute path; the digest is of both
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..quality.reports.page import with_examples, without_rows
from . import documents
from .faults import translated
from .places import Place
from .shard_content import CONTENT
from .shard_manifest import ITEMS, MANIFEST
from .staging import clear, stagings
from .traces import Wanted

Kind = Literal["shards", "report"]

_LEAVING = f"{MANIFEST}.leaving"  # the manifest of a set that is being deleted; a killed deletion goes on


@dataclass(frozen=True, slots=True)
class Output:
    """A shard set's folder, or a report's file. It may have been moved or deleted since."""

    kind: Kind
    path: Path

    @property
    def present(self) -> bool:
        return self.path.exists() or bool(stagings(self.path))

    def holds(self, wanted: Wanted) -> bool:
        """Whether a shard of the set has a row of one of the users, or the set is half packed or half deleted."""
        empty = self.path.is_dir() and not any(self.path.iterdir())
        if empty or stagings(self.path) or (self.path / _LEAVING).exists():
            return True
        return any(_has_users(file, wanted) for file in sorted(self.path.glob("*.parquet")))


def register(root: Place, output: Output) -> None:
    """Remember an output before its first byte is written: a kill in between leaves nothing unknown.

    Raises:
        StorageError: the lake cannot be written, and what it cannot remember is not made.
    """
    path = output.path.absolute()
    documents.create(_document(root, output.kind, path), {"kind": output.kind, "path": str(path)})


def write_report(path: Path, html: str) -> int:
    """Write a report's file whole or not at all; its size in bytes."""
    data = html.encode()
    beside = path.with_name(f".{path.name}.part")
    with translated(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(data)
        os.replace(beside, path)
    return len(data)


def clean_report(path: Path, wanted: Wanted) -> bool:
    """Strike the users out of a report's examples, and take out rows, which may be theirs though masked; whether
    there was any. What is no report any more stays as it is.
    """
    try:
        html = path.read_text(encoding="utf-8")
    except (UnicodeDecodeError, IsADirectoryError):
        return False
    clean = without_rows(with_examples(html, wanted.struck_out))
    if clean != html:
        write_report(path, clean)
    return clean != html


def remove(root: Path, output: Output) -> None:
    """Delete a shard set: it loses its manifest first, so that nobody opens a part of it. Nothing else there goes."""
    leaving = output.path / _LEAVING
    with translated(output.path):
        if (output.path / MANIFEST).exists():
            (output.path / MANIFEST).rename(leaving)
        shutil.rmtree(output.path / CONTENT, ignore_errors=True)
        for file in output.path.glob("shard-*.parquet"):
            file.unlink()
        (output.path / ITEMS).unlink(missing_ok=True)
        leaving.unlink(missing_ok=True)
        if output.path.is_dir() and not any(output.path.iterdir()):
            output.path.rmdir()
        clear(output.path)
    _document(root, output.kind, output.path).unlink(missing_ok=True)


def registered(root: Path) -> list[Output]:
    """Every output of a lake, by path."""
    found = [documents.read(path) for path in (root / "outputs").glob("*.json")]
    return sorted((Output(doc["kind"], Path(doc["path"])) for doc in found), key=lambda output: output.path)


def _document(root: Place, kind: Kind, path: Path) -> Place:
    return root / "outputs" / f"{hashlib.blake2b(f'{kind} {path}'.encode(), digest_size=8).hexdigest()}.json"


def _has_users(file: Path, wanted: Wanted) -> bool:
    """A shard without its end was cut off while it was written: it is taken to hold them."""
    try:
        users = pq.read_table(file, columns=["user_id"])["user_id"]
    except pa.ArrowInvalid:
        return True
    return bool(pc.any(pc.is_in(users, wanted.values)).as_py())
