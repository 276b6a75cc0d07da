"""Small JSON documents of a lake: written whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from ..schemas.errors import StorageError
from .faults import translated


def read(path: Path) -> Any:
    """The document at `path`.

    Raises:
        FileNotFoundError: there is none.
        StorageError: it is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise StorageError("a document of the lake is not JSON", where=path, got=str(error)) from None


def create(path: Path, document: Any) -> bool:
    """Write a new document; False, and nothing written, if one is there already. Of two writers one wins."""
    temporary = _write_temporary(path, document)
    try:
        with translated(path):
            os.link(temporary, path)
        return True
    except FileExistsError:
        return False
    finally:
        temporary.unlink()


def replace(path: Path, document: Any) -> None:
    """Write a document over the one that may be there; a reader sees the old one or the new one."""
    temporary = _write_temporary(path, document)
    with translated(path):
        os.replace(temporary, path)


def _write_temporary(path: Path, document: Any) -> Path:
    with translated(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(document, file, indent=2, sort_keys=True)
            file.flush()
            os.fsync(file.fileno())
    return Path(name)
