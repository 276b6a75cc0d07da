"""Bytes of text files, plain or gzipped, with their defects named."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from ...schemas.errors import SourceError

_BUFFER_BYTES = 1 << 20
_UTF8_MARK = b"\xef\xbb\xbf"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_GZIP_MAGIC = b"\x1f\x8b"
GZIP_FAILURES = (gzip.BadGzipFile, EOFError, zlib.error)


@contextmanager
def open_text(path: Path) -> Iterator[BinaryIO]:
    """The bytes of a text file, behind a UTF-8 byte order mark if it has one; decompressed if its name ends in .gz.

    Raises:
        SourceError: it is empty, of another encoding, or not gzip though its name says so; also from within the
            block that reads it, where the compressed data is damaged.
    """
    try:
        with io.BufferedReader(io.FileIO(path), _BUFFER_BYTES) as file:
            if path.suffix.lower() == ".gz":
                with gzip.GzipFile(fileobj=file) as unpacked, io.BufferedReader(unpacked, _BUFFER_BYTES) as buffered:
                    yield _past_mark(buffered, path)
            else:
                yield _past_mark(file, path)
    except GZIP_FAILURES as error:
        raise SourceError(
            "damaged gzip data",
            where=path,
            expected="a complete gzip file",
            got=str(error),
            hint="fetch or write the file again; rows that were read already are found to be duplicates",
        ) from None


def _past_mark(file: io.BufferedReader[Any], path: Path) -> BinaryIO:
    start = file.peek(4)[:4]
    if not start:
        raise SourceError("an empty file", where=path, expected="at least one row", got="0 bytes")
    if path.suffix.lower() != ".gz" and start.startswith(_GZIP_MAGIC):
        raise SourceError(
            "gzip data without .gz in the name", where=path, expected="text", got="gzip", hint=f"name it {path.name}.gz"
        )
    utf16 = start.startswith(_UTF16_MARKS)
    if utf16 or b"\0" in start:
        raise SourceError(
            "not UTF-8 text",
            where=path,
            expected="UTF-8",
            got=f"the bytes {start.hex(' ')}" + (", UTF-16" if utf16 else ""),
            hint=f"convert it first: iconv -f UTF-16 -t UTF-8 {path.name}" if utf16 else "is it a text file?",
        )
    if start.startswith(_UTF8_MARK):
        file.read(len(_UTF8_MARK))
    return file
