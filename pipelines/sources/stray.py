"""Bytes that are no UTF-8, written as text from piece to piece, for readers that stop at them; and back.

Arrow's CSV reader gives up a file at a row of the wrong number of fields, though told to pass over it, when the row is
not UTF-8 either.
"""

from __future__ import annotations

import codecs
import re

#: Stands before each stray byte, which follows as the code point of its number. Code points that no text is to hold.
STRAY = "\ufdd2\ufdd3".encode()
_AS_TEXT = {0xDC00 + byte: STRAY.decode() + chr(byte) for byte in range(0x80, 0x100)}
_WRITTEN = re.compile(STRAY + rb"([\xc2\xc3][\x80-\xbf])")


class Stray:
    """Where in a file's characters the next piece begins. `found`: whether anything was no UTF-8 so far."""

    def __init__(self) -> None:
        self.found = False
        self._held = b""  # the beginning of a character at the end of a piece

    def text(self, piece: bytes, *, final: bool) -> bytes:
        """The next piece as UTF-8. A character that it ends within comes with the next one."""
        whole = self._held + piece
        if whole.isascii():
            self._held = b""
            return whole
        try:
            _, end = codecs.utf_8_decode(whole, "strict", final)
            data = whole[:end]
        except UnicodeDecodeError:
            found, end = codecs.utf_8_decode(whole, "surrogateescape", final)
            self.found, data = True, found.translate(_AS_TEXT).encode()
        self._held = whole[end:]
        return data


def restored(value: bytes) -> bytes:
    """The bytes as the file has them."""
    return _WRITTEN.sub(lambda found: found[1].decode().encode("latin-1"), value)
