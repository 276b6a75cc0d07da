"""Media bytes by digest."""

from __future__ import annotations

from pathlib import Path

import pytest

from reclake.schemas.errors import StorageError
from reclake.storage.blobs import Blobs, digest_of


def test_bytes_come_back_by_their_digest(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path / "blobs")
    digest = blobs.put(b"a cover")
    assert blobs.read(digest) == b"a cover"
    assert digest in blobs
    assert Path(blobs.path(digest)).read_bytes() == b"a cover"


def test_the_digest_is_blake2b_128_and_does_not_move() -> None:
    assert digest_of(b"") == "cae66941d9efbd404e4d88758ea67670"
    assert digest_of(b"reclake") == "42b9829645d3c88e64c4bf36a1caac3b"


def test_the_same_bytes_are_stored_once(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    first = blobs.put(b"same")
    before = Path(blobs.path(first)).stat().st_mtime_ns
    assert blobs.put(b"same") == first
    assert Path(blobs.path(first)).stat().st_mtime_ns == before
    assert len([p for p in tmp_path.rglob("*") if p.is_file()]) == 1


def test_a_half_written_blob_is_written_anew(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    digest = blobs.put(b"whole")
    Path(blobs.path(digest)).write_bytes(b"wh")
    assert blobs.put(b"whole") == digest
    assert blobs.read(digest) == b"whole"


def test_a_damaged_blob_is_refused_with_both_digests(tmp_path: Path) -> None:
    blobs = Blobs(tmp_path)
    digest = blobs.put(b"whole")
    Path(blobs.path(digest)).write_bytes(b"whale")
    with pytest.raises(StorageError, match="damaged") as caught:
        blobs.read(digest)
    assert caught.value.expected == digest
    assert digest_of(b"whale") in str(caught.value.got)


@pytest.mark.parametrize("wrong", ["", "../../etc/passwd", "ABCDEF", "0" * 31])
def test_what_is_not_a_digest_never_becomes_a_path(tmp_path: Path, wrong: str) -> None:
    with pytest.raises(StorageError, match="not a digest"):
        Blobs(tmp_path).read(wrong)


def test_an_unknown_digest_says_so(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no such blob"):
        Blobs(tmp_path).read("0" * 32)
