"""The keys that pseudonyms are made with: from the environment, and what the lake remembers of those it has seen.

RECLAKE_PII_KEY         ID:HEX, the key for new rows; older ones may follow, apart by spaces
RECLAKE_PII_KEY_FILE    a file of the same, for example a mounted secret
LAKE/keys.json          id and check value of each key that made pseudonyms here, oldest first; never a key
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ..schemas.errors import PiiKeyError
from ..schemas.pii import Key, parse_keys
from . import documents
from .places import Place

VARIABLE = "RECLAKE_PII_KEY"
FILE_VARIABLE = "RECLAKE_PII_KEY_FILE"


def given(environment: Mapping[str, str] = os.environ) -> tuple[Key, ...]:
    """The keys this process was given, the one for new rows first.

    Raises:
        PiiKeyError: both variables are set, the file cannot be read, or an entry is no key.
    """
    text, path = environment.get(VARIABLE, ""), environment.get(FILE_VARIABLE, "")
    if text and path:
        raise PiiKeyError("keys from two places", expected=f"{VARIABLE} or {FILE_VARIABLE}", got="both")
    if path:
        try:
            text = Path(path).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise PiiKeyError("a key file that cannot be read", where=path, got=str(error)) from None
    return parse_keys(text, where=path or VARIABLE)


def current(root: Place) -> Key:
    """The key for new pseudonyms of a lake, which remembers it.

    Raises:
        PiiKeyError: there is none, it is another than the lake knows by this id, or one that a newer one replaced.
    """
    keys = given()
    if not keys:
        raise PiiKeyError("no key to make pseudonyms with", where=root, expected=f"{VARIABLE} or {FILE_VARIABLE}")
    key, seen = keys[0], _seen(root)
    _check(root, key, seen)
    ids = list(seen)
    if key.id in ids and key.id != ids[-1]:
        raise PiiKeyError(
            "a key that was replaced by a newer one",
            where=root,
            expected=f"{ids[-1]} first: the same user must not get pseudonyms of two keys in turn",
            got=key.id,
        )
    if key.id not in ids:
        documents.replace(root / "keys.json", {"keys": [*_entries(seen), {"id": key.id, "check": key.check}]})
    return key


def known(root: Place) -> list[Key]:
    """Every key that made pseudonyms in a lake; none where there are none.

    Raises:
        PiiKeyError: one of them was not given, or is another.
    """
    seen = _seen(root)
    keys = {key.id: key for key in given()} if seen else {}
    missing = [id_ for id_ in seen if id_ not in keys]
    if missing:
        raise PiiKeyError(
            "a key that pseudonyms of this lake were made with is not here",
            where=root,
            expected="all of " + ", ".join(seen),
            got="without " + ", ".join(missing),
            hint=f"add it behind the first in {VARIABLE}; for one that was destroyed, take its entry out of"
            f" {root / 'keys.json'}: its users can then only be named by their pseudonyms",
        )
    for id_ in seen:
        _check(root, keys[id_], seen)
    return [keys[id_] for id_ in seen]


def _check(root: Place, key: Key, seen: Mapping[str, str]) -> None:
    if seen.get(key.id, key.check) != key.check:
        raise PiiKeyError(
            "another key than the lake knows by this id",
            where=root,
            expected=f"{key.id} with check value {seen[key.id]}",
            got=key.check,
            hint="give the key that was used before, or a new key under a new id",
        )


def _seen(root: Place) -> dict[str, str]:
    """Check values by id, oldest first."""
    try:
        return {entry["id"]: entry["check"] for entry in documents.read(root / "keys.json")["keys"]}
    except FileNotFoundError:
        return {}


def _entries(seen: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"id": id_, "check": check} for id_, check in seen.items()]
