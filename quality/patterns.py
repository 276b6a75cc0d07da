"""Python regular expressions as the Rust ones Polars runs, or an error where the two would disagree.

Great Expectations' pandas engine searches with Python's `re`. Most patterns mean the same to Rust's `regex` crate;
those that silently mean something else are translated (`$`, `\\Z`, `\\<`, `[` `&` `~` inside a class) or refused
(possessive quantifiers, `--` inside a class, flags that change the syntax). What remains different is the membership of
a few characters outside ASCII in `\\w`, and of the separators 0x1c to 0x1f in `\\s`.
"""

from __future__ import annotations

import re
import warnings

import polars as pl

from ..schemas.errors import SuiteError

_FLAGS = re.compile(r"\(\?([a-zA-Z]*)(?:-[a-zA-Z]+)?[:)]")
_ESCAPES = {"Z": r"\z", "<": "<", ">": ">"}


def to_rust(pattern: object, *, where: str) -> str:
    """The Rust form of a Python pattern.

    Raises:
        SuiteError: not a pattern of Python's, or one that Rust cannot run with the same meaning.
    """
    if not isinstance(pattern, str):
        raise SuiteError("not a regular expression", where=where, expected="a string", got=repr(pattern))
    try:
        with warnings.catch_warnings():
            # Of a "possible nested set", which today's Python has not, and Rust has: it is translated.
            warnings.simplefilter("ignore", FutureWarning)
            re.compile(pattern)
    except re.error as error:
        raise SuiteError("not a regular expression", where=where, got=f"{pattern!r}: {error}") from None
    flags = "".join(_FLAGS.findall(pattern))
    if set(flags) - set("ims"):
        raise _refused(pattern, f"the flags {flags}", where)
    rust = _translate(pattern, where, multiline="m" in flags)
    try:
        pl.Series([""]).str.contains(rust)
    except pl.exceptions.ComputeError as error:
        reason = " ".join(str(error).split())
        raise _refused(pattern, reason[-120:], where) from None
    return rust


def _refused(pattern: str, why: str, where: str) -> SuiteError:
    return SuiteError(
        "a regular expression that Polars cannot run as Python does",
        where=where,
        expected="no look-around, back-references, possessive quantifiers or flags other than i, m, s",
        got=f"{pattern!r}: {why}",
        hint="write it without that, or as two expectations",
    )


def _translate(pattern: str, where: str, *, multiline: bool) -> str:
    out: list[str] = []
    inside = False  # of a character class
    class_start = 0
    place = 0
    while place < len(pattern):
        char, rest = pattern[place], pattern[place + 1 :]
        if char == "\\":
            out.append(_ESCAPES.get(rest[:1], char + rest[:1]))
            place += 2
            continue
        if inside:
            if char == "]" and place > class_start:
                inside = False
            if char == "-" and rest[:1] == "-":
                raise _refused(pattern, "-- inside a class, which is a difference of sets", where)
            out.append("\\" + char if char in "[&~" else char)
        elif char == "[":
            inside = True
            # A `]` that comes first, with or without a `^` before it, is a member and does not close the class.
            class_start = place + (2 if rest[:1] == "^" else 1)
            out.append(char)
        elif char == "$" and not multiline:
            # Python's `$` also matches before a newline that ends the text. Rust has no look-ahead, so the newline is
            # consumed, which is the same as long as nothing follows.
            if rest[:1] not in ("", "|", ")"):
                raise _refused(pattern, "a $ that is followed by more", where)
            out.append(r"(?:\n?\z)")
        elif char == "+" and place and pattern[place - 1] in "*+?}" and not _escaped(pattern, place - 1):
            raise _refused(pattern, "a possessive quantifier", where)
        else:
            out.append(char)
        place += 1
    return "".join(out)


def _escaped(pattern: str, place: int) -> bool:
    before = pattern[:place]
    return (len(before) - len(before.rstrip("\\"))) % 2 == 1


def like_to_regex(pattern: str, escape: str | None) -> str:
    """SQL's LIKE as a Python regular expression: `%` any text, `_` any character, `escape` makes the next one plain."""
    parts, place = [], 0
    while place < len(pattern):
        char = pattern[place]
        if escape and char == escape and place + 1 < len(pattern):
            place += 1
            parts.append(re.escape(pattern[place]))
        else:
            parts.append({"%": ".*", "_": "."}.get(char) or re.escape(char))
        place += 1
    return r"(?s)\A" + "".join(parts) + r"\Z"
