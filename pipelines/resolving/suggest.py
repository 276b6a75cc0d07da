"""A name that was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(wanted: str, have: Iterable[str]) -> str:
    """`did you mean 'item_id'? ` for the nearest of the names, or nothing where none is near."""
    names = {name.lower(): name for name in sorted(have)}
    near = difflib.get_close_matches(wanted.lower(), names, n=1, cutoff=0.6)
    return f"did you mean {names[near[0]]!r}? " if near else ""
