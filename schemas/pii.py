"""Pseudonyms: what a contract's `"pii": "hash"` makes of a value. The same in Python, Polars and Spark, for ever.

`HMAC-SHA256(key, text)`, its first 16 bytes as 32 hex digits for a field of type string, its first 8 as a signed
big-endian integer for one of type long. The text is the value's UTF-8, or a long's decimal digits: so the pseudonym of
4711 as a long and that of "4711" as a string begin alike, and tables that spell the id differently still join.

Source: RFC 2104 (HMAC), FIPS 180-4 (SHA-256).
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from .errors import PiiKeyError

_BLOCK_BYTES = 64  # of SHA-256
_ENTRY = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*):([0-9a-fA-F]{64,})")
_PROBE = b"\xff reclake pii key"  # not UTF-8: the text of no value


@dataclass(frozen=True, slots=True)
class Key:
    """A secret of 32 bytes or more, and the name it has where names may be seen."""

    id: str
    secret: bytes = field(repr=False)

    @property
    def pads(self) -> tuple[bytes, bytes]:
        """The inner and the outer block of RFC 2104: HMAC = H(outer + H(inner + text))."""
        short = self.secret if len(self.secret) <= _BLOCK_BYTES else hashlib.sha256(self.secret).digest()
        block = short.ljust(_BLOCK_BYTES, b"\0")
        return bytes(b ^ 0x36 for b in block), bytes(b ^ 0x5C for b in block)

    @property
    def check(self) -> str:
        """What tells this key from another of the same name, and nothing else of it."""
        return _digests([_PROBE], self)[0][:8].hex()


def parse_keys(text: str, *, where: str) -> tuple[Key, ...]:
    """Keys as `ID:HEX`, apart by spaces or lines, the one for new rows first; lines with # in front are comments.

    Raises:
        PiiKeyError: an entry is something else, or an id is there twice. What it says does not repeat the entry.
    """
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    keys = []
    for number, entry in enumerate(" ".join(lines).split()):
        found = _ENTRY.fullmatch(entry)
        if found is None or len(found[2]) % 2:
            raise PiiKeyError(
                "not a key", where=f"{where}, entry {number}", expected="ID:HEX, 32 bytes or more as hex digits"
            )
        keys.append(Key(found[1], bytes.fromhex(found[2])))
    twice = sorted({key.id for key in keys if [k.id for k in keys].count(key.id) > 1})
    if twice:
        raise PiiKeyError("a key's id is used twice", where=where, got=", ".join(twice))
    return tuple(keys)


def pseudonym(value: int | str, key: Key) -> int | str:
    """The pseudonym of one value, an integer or text as the value is."""
    digest = _digests([str(value).encode()], key)[0]
    return digest[:16].hex() if isinstance(value, str) else int.from_bytes(digest[:8], "big", signed=True)


def pseudonyms(values: pl.Series, key: Key) -> pl.Series:
    """Kernel: the pseudonym of each value of an Int64 or String column; nulls stay null. Each value is hashed once."""
    codes, known = _distinct(values)
    digests = _digests([text.encode() for text in known.cast(pl.String).to_list()], key)
    made: pl.Series
    if values.dtype == pl.String:
        made = pl.Series([digest[:16].hex() for digest in digests], dtype=pl.String)
    else:
        firsts = np.frombuffer(b"".join(digest[:8] for digest in digests), dtype=">i8").astype(np.int64)
        made = pl.Series(firsts, dtype=pl.Int64)
    return made.gather(codes).alias(values.name)


def _distinct(values: pl.Series) -> tuple[pl.Series, pl.Series]:
    """For each value its place among the distinct ones (null for null), and those."""
    known = values.drop_nulls().unique(maintain_order=True).alias("value")
    table = known.to_frame().with_row_index("code")
    coded = values.alias("value").to_frame().join(table, on="value", how="left", maintain_order="left")
    return coded["code"], known


def _digests(texts: list[bytes], key: Key) -> list[bytes]:
    """HMAC-SHA256 of each text; the key's blocks are hashed once for all."""
    inner, outer = (hashlib.sha256(pad) for pad in key.pads)
    made = []
    for text in texts:
        first, second = inner.copy(), outer.copy()
        first.update(text)
        second.update(first.digest())
        made.append(second.digest())
    return made
