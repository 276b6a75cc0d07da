"""Work: what operators made for a media run that is not published yet. It can be made again, by running them again.

LAKE/work/media/PLAN/DIGEST.parquet     outputs and failures of some items, by what they were made of
LAKE/work/publishing.json               the run that is being published; where nobody is at it, it was killed meanwhile
LAKE/work/lock                          whoever publishes holds it

A file appears whole or not at all, and its pages have checksums that are compared when they are read: one that does not
hold what was written is removed, and its items are made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from . import documents, locks
from .faults import translated

KEYS = ("_item_id", "_input_digest")  # what an item's outputs are found by; int64 and string
_WRITTEN_S = 3600  # what is being written may be a process's at work for so long


@dataclass(frozen=True, slots=True)
class Publishing:
    """A run that is being published: its rows in other tables, its transaction on content, the files it uses."""

    run_id: str
    cursor: str
    number: int
    files: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Work:
    """The folder of a lake's unpublished work."""

    root: Path

    def put(self, plan: str, made: pa.Table) -> None:
        """Keep what a plan (its identity) made of some items; KEYS among the columns. The same again is kept once.

        Raises:
            StorageError: disk full, no permission, read-only.
        """
        items = json.dumps([made[key].to_pylist() for key in KEYS])
        target = self._folder(plan) / f"{hashlib.blake2b(items.encode(), digest_size=16).hexdigest()}.parquet"
        with translated(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            temporary = target.with_name(f".{target.stem}.{secrets.token_hex(4)}.tmp")
            try:
                # Vectors and pictures: what makes other files small finds nothing in these.
                pq.write_table(
                    made,
                    temporary,
                    compression="lz4",
                    use_dictionary=False,
                    write_statistics=False,
                    write_page_checksum=True,
                )
                os.replace(temporary, target)
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise

    def kept(self, plan: str) -> pl.DataFrame:
        """What there is of a plan, each item once: KEYS, `file`, and the item's `place` in the file."""
        found = [pl.DataFrame(schema={KEYS[0]: pl.Int64, KEYS[1]: pl.String, "file": pl.String, "place": pl.Int64})]
        for path in sorted(self._folder(plan).glob("*.parquet")):
            keys = self._read(path, KEYS)
            if keys is not None:
                at = pl.int_range(keys.num_rows, dtype=pl.Int64, eager=True)
                frame = pl.DataFrame(keys).select(KEYS)
                found.append(frame.with_columns(pl.lit(str(path)).alias("file"), at.alias("place")))
        return pl.concat(found).unique(KEYS, keep="first", maintain_order=True)

    def read(self, file: str) -> pa.Table | None:
        """A file's rows; None where it is gone, or damaged, and gone now."""
        return self._read(Path(file), None)

    def remove(self, files: Collection[str]) -> None:
        """Take away what is published."""
        for file in files:
            with translated(file):
                Path(file).unlink(missing_ok=True)

    def files(self) -> list[Path]:
        """All that was made; not what is being written."""
        return sorted((self.root / "media").rglob("*.parquet"))

    def stale(self, before_s: float) -> dict[str, int]:
        """What was written, or half written, before a time (s since 1970), and its bytes."""
        found = {}
        for path in sorted((self.root / "media").rglob("*")):
            with suppress(FileNotFoundError):  # published meanwhile
                if path.suffix in (".parquet", ".tmp") and path.stat().st_mtime < before_s:
                    found[str(path)] = path.stat().st_size
        return found

    def clear(self, now_s: float) -> None:
        """Take away everything, whoever it was made for; what has just been written half may belong to a process."""
        self.remove([*map(str, self.files()), *self.stale(now_s - _WRITTEN_S)])

    def damaged(self) -> list[Path]:
        """Files that do not hold what was written."""
        return [path for path in self.files() if _rows(path, None) is None]

    @contextmanager
    def alone(self) -> Iterator[None]:
        """While a run is published: one at a time in a lake; others wait."""
        with locks.alone(self.root / "lock"):
            yield

    def begin(self, publishing: Publishing) -> None:
        """Put on record what is being published."""
        documents.replace(self.root / "publishing.json", asdict(publishing))

    def begun(self) -> Publishing | None:
        """What is being published, or was when its process was killed."""
        try:
            said: Mapping[str, Any] = documents.read(self.root / "publishing.json")
        except FileNotFoundError:
            return None
        return Publishing(said["run_id"], said["cursor"], said["number"], tuple(said["files"]))

    def end(self) -> None:
        """It is published, or taken back."""
        (self.root / "publishing.json").unlink(missing_ok=True)

    def _folder(self, plan: str) -> Path:
        return self.root / "media" / plan

    def _read(self, path: Path, columns: Collection[str] | None) -> pa.Table | None:
        rows = _rows(path, columns)
        if rows is None:
            self.remove([str(path)])
        return rows


def _rows(path: Path, columns: Collection[str] | None) -> pa.Table | None:
    """The rows of a file, compared with its checksums; None where there is none that holds what was written."""
    try:
        with translated(path), pa.OSFile(str(path)) as file:
            try:
                with pq.ParquetFile(file, page_checksum_verification=True) as opened:
                    return opened.read(columns=None if columns is None else list(columns))
            except (OSError, pa.ArrowException):
                return None
    except FileNotFoundError:
        return None
