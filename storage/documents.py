"""Small JSON documents of a lake: written whole or not at all."""

from __future__ import annotations

import json
from typing import Any

from ..schemas.errors import StorageError
from . import places
from .places import Place


def read(path: Place) -> Any:
    """The document at `path`.

    Raises:
        FileNotFoundError: there is none.
        StorageError: it is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise StorageError("a document of the lake is not JSON", where=path, got=str(error)) from None


def create(path: Place, document: Any) -> bool:
    """Write a new document; False, and nothing written, if one is there already. Of two writers one wins."""
    return places.create(path, _encoded(document))


def replace(path: Place, document: Any) -> None:
    """Write a document over the one that may be there; a reader sees the old one or the new one."""
    places.replace(path, _encoded(document))


def _encoded(document: Any) -> bytes:
    return json.dumps(document, indent=2, sort_keys=True).encode()
