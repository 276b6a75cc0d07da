"""CSV quoting, followed from piece to piece: text behind a closing quote is found, and marked for who reads the rows.

RFC 4180 has nothing behind a closing quote but a comma or the end of the record. Readers take `"c5"x` for c5x, or for
`"c5"x`, or drop the x; what the writer meant nobody knows.
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

#: Stands where a closing quote is followed by more text. Two code points that no text is to hold.
MARK = "\ufdd0\ufdd1".encode()

_QUOTE = ord('"')
_NONE = np.empty(0, dtype=np.int64)
_BESIDE = np.isin(np.arange(256), list(b',\r\n"'))  # what may stand before an opening quote, or behind a closing one
# Possessive throughout: what has matched is never looked at again, so the time is that of one pass.
_QUOTED = re.compile(rb'[^"]*+(?:""[^"]*+)*+')
_UNQUOTED = re.compile(rb"[^,\r\n]*+")
_FIELDS = re.compile(rb'(?:(?:"[^"]*+(?:""[^"]*+)*+"(?=[,\r\n])|[^",\r\n][^,\r\n]*+)?+[,\r\n])*+')


class Quotes:
    """Where in a file's quoting the next piece begins. `marked`: whether anything was marked so far."""

    def __init__(self) -> None:
        self.marked = False
        self._quoted = self._unquoted = False  # within a field of that kind
        self._held = b""  # quotes at the end of a piece: whether the last one closes is shown by what follows

    def mark(self, piece: bytes) -> bytes:
        """The next piece with MARK at every text behind a closing quote. Quotes at its end come with the next one."""
        whole = self._held + piece
        data = whole.rstrip(b'"')
        self._held = whole[len(data) :]
        if not data:
            return data
        quotes = np.flatnonzero(np.frombuffer(data, dtype=np.uint8) == _QUOTE) if b'"' in data else _NONE
        if not self._plain(data, quotes):
            return self._split(data)
        self._quoted ^= len(quotes) % 2 == 1
        if not self._quoted:
            self._unquoted = not data.endswith((b",", b"\r", b"\n"))
        return data

    def _plain(self, data: bytes, quotes: npt.NDArray[np.int64]) -> bool:
        """Whether every quote opens a field, closes one, or is doubled within one: then they take turns."""
        if not len(quotes):
            return True
        if quotes[0] == 0 and self._unquoted:
            return False
        padded = np.frombuffer(b"," + data, dtype=np.uint8)
        opening, closing = quotes[int(self._quoted) :: 2], quotes[int(not self._quoted) :: 2]
        return bool(_BESIDE[padded[opening]].all() and _BESIDE[padded[closing + 2]].all())

    def _split(self, data: bytes) -> bytes:
        places: list[int] = []
        at = 0
        while at < len(data):
            if self._quoted:
                at = _QUOTED.match(data, at).end()  # type: ignore[union-attr]
                if at == len(data):
                    break
                at, self._quoted = at + 1, False
                if data[at] not in b",\r\n":
                    places.append(at)
                    self._unquoted = True
            if self._unquoted:
                at = _UNQUOTED.match(data, at).end()  # type: ignore[union-attr]
                if at == len(data):
                    break
                self._unquoted = False
            at = _FIELDS.match(data, at).end()  # type: ignore[union-attr]
            if at < len(data):
                self._quoted, self._unquoted = data[at : at + 1] == b'"', data[at : at + 1] != b'"'
                at += 1
        if not places:
            return data
        self.marked = True
        return MARK.join(data[start:end] for start, end in zip([0, *places], [*places, len(data)], strict=True))
