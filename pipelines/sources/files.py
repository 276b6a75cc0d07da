"""Sources: files to batches of rows. Memory is bounded by a batch, any row can be resumed at, every row accounted for.

A source gives the same batches every time, cut at multiples of `batch_rows` or at the format's own blocks next below;
one resumed at the end of a batch gives the batches that were left.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl

from ...schemas.contract import Contract
from ...schemas.errors import SourceError, SourceNotFoundError
from ..resolving.mapping import columns_read
from . import decode_avro, decode_csv, decode_json, decode_parquet
from .batch import SourceBatch
from .pieces import Piece

Format = Literal["avro", "parquet", "json", "csv"]
_FORMATS: dict[str, Format] = {
    ".avro": "avro",
    ".parquet": "parquet",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
    ".csv": "csv",
}
_READ_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Found:
    """`files` to read, each once, in order; `skipped`: files in folders whose suffix says no format."""

    files: tuple[Path, ...]
    skipped: tuple[Path, ...]


def discover(paths: Sequence[str | Path]) -> Found:
    """The files that paths name: files as they are, folders with all below them in order of their paths.

    Below a folder, names that start with `.` or `_` are not looked at, nor anything below them.

    Raises:
        SourceNotFoundError: a path does not exist, or there is no file to read.
        SourceError: a file named directly has a suffix that says no format.
    """
    files: dict[str, Path] = {}
    skipped: dict[str, Path] = {}
    for path in map(Path, paths):
        if path.is_dir():
            below = _below(path)
        elif path.exists():
            _format_of(path)
            below = [path]
        else:
            raise SourceNotFoundError(
                "no such file or folder",
                where=path,
                expected="a file or a folder",
                got="nothing at this path",
                hint="check the path",
            )
        for file in below:
            kind = files if _format_or_none(file) else skipped
            kind.setdefault(os.path.abspath(file), file)
    if not files:
        raise SourceNotFoundError(
            "nothing to ingest",
            where=", ".join(map(str, paths)) or "no path",
            expected="files " + _suffixes(),
            got=f"{len(skipped)} files of other kinds" if skipped else "no file",
            hint="name a file, or a folder that holds some",
        )
    return Found(tuple(files.values()), tuple(skipped.values()))


def discover_quietly(folder: Path) -> list[Path]:
    """The files below a folder that could be read, maybe none."""
    return [path for path in _below(folder) if _format_or_none(path)]


def _below(folder: Path) -> list[Path]:
    hidden = (".", "_")
    below = (path for path in folder.rglob("*") if path.is_file())
    return sorted(p for p in below if not any(part.startswith(hidden) for part in p.relative_to(folder).parts))


def _format_or_none(path: Path) -> Format | None:
    suffixes = path.suffixes
    packed = bool(suffixes) and suffixes[-1].lower() == ".gz"
    format_ = _FORMATS.get((suffixes[-2] if packed and len(suffixes) > 1 else path.suffix).lower())
    return None if packed and format_ not in ("json", "csv") else format_


def _format_of(path: Path) -> Format:
    format_ = _format_or_none(path)
    if format_ is None:
        raise SourceError(
            "a file of unknown kind",
            where=path,
            expected="a name that ends in " + _suffixes(),
            got=path.suffix or "no suffix",
            hint="rename the file by what it holds",
        )
    return format_


def _suffixes() -> str:
    return ", ".join(_FORMATS) + ", or .gz behind one of JSON lines or CSV"


@dataclass(frozen=True, slots=True)
class Source:
    """One file, opened: its header is read and fits its format.

    `key` identifies path and content: the same file at the same place is the same source, and a changed one another.
    """

    path: Path
    key: str
    format: Format
    batch_rows: int
    plan: decode_json.Plan | decode_csv.Plan | None

    def batches(self, start_row: int = 0) -> Iterator[SourceBatch]:
        """Rows from `start_row` on. `end_row` of a batch, given as `start_row`, resumes exactly after it.

        Raises:
            SourceError: where the file is damaged or cannot be read, after all rows before.
        """
        match self.plan:
            case decode_json.Plan():
                found = decode_json.batches(self.path, self.plan, start_row=start_row, batch_rows=self.batch_rows)
            case decode_csv.Plan():
                found = decode_csv.batches(self.path, self.plan, start_row=start_row, batch_rows=self.batch_rows)
            case _:
                decode = decode_avro.pieces if self.format == "avro" else decode_parquet.pieces
                found = map(_whole, decode(self.path, start_row=start_row, batch_rows=self.batch_rows))
        try:
            yield from found
        except OSError as error:
            raise _unreadable(self.path, error) from None


def _whole(piece: Piece) -> SourceBatch:
    """Every row of it decodes."""
    end_row = piece.first_row + piece.frame.height
    return SourceBatch(piece.frame, np.arange(piece.first_row, end_row), piece.first_row, end_row)


def open_source(path: Path, *, contract: Contract, batch_rows: int) -> Source:
    """A file by its suffix: .avro, .parquet, .jsonl/.ndjson/.json, .csv, the text formats also with .gz behind.

    Reads it once to the end for `key`.

    Raises:
        SourceNotFoundError: it does not exist.
        SourceError: it is empty, of an unknown kind, not permitted, or not what its name says.
    """
    path = Path(path)
    format_ = _format_of(path)
    if batch_rows < 1:
        raise ValueError(f"batch_rows is at least 1, got {batch_rows}")
    try:
        if path.stat().st_size == 0:
            raise SourceError(
                "an empty file", where=path, expected=f"a {format_} file", got="0 bytes", hint="was it written wholly?"
            )
        key = _key(path)
        plan: decode_json.Plan | decode_csv.Plan | None = None
        match format_:
            case "json":
                plan = decode_json.check(path, contract)
            case "csv":
                plan = decode_csv.check(path, contract)
            case "avro":
                decode_avro.check(path)
            case "parquet":
                decode_parquet.check(path)
    except FileNotFoundError:
        raise SourceNotFoundError("no such file", where=path, expected="a file", hint="check the path") from None
    except OSError as error:
        raise _unreadable(path, error) from None
    return Source(path, key, format_, batch_rows, plan)


def _unreadable(path: Path, error: OSError) -> SourceError:
    hint = "check the permissions" if isinstance(error, PermissionError) else "check the disk, then run it again"
    return SourceError("a file that cannot be read", where=path, got=error.strerror or str(error), hint=hint)


def _key(path: Path) -> str:
    """BLAKE2b-128 of the absolute path and the content, read in pieces."""
    digest = hashlib.blake2b(os.fsencode(os.path.abspath(path)) + b"\0", digest_size=16)
    with path.open("rb") as file:
        while data := file.read(_READ_BYTES):
            digest.update(data)
    return digest.hexdigest()


def raw_to_frame(raws: list[bytes], contract: Contract) -> tuple[pl.DataFrame, list[int]]:
    """Quarantined rows (JSON objects, as SourceBatch.raw gives them) as a frame to resolve, in their order, and the
    indexes of those that are not in it because they are no such objects.
    """
    found = decode_json.decode(raws, decode_json.plan(raws, contract, all_fields=True))
    bad = sorted(set(range(len(raws))) - set(found.kept.tolist()))
    # What none of these rows has is null in each, though their source had it: they are known to be the contract's.
    read = columns_read(contract.mapping.emits) if contract.mapping is not None else frozenset[str]()
    absent = sorted(read - set(found.frame.columns))
    return found.frame.with_columns(pl.lit(None).alias(name) for name in absent), bad
