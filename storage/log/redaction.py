"""What a Delta log says of users: minima and maxima of files, kept long after the files are gone, and verdicts.

A file's statistics are optional and only let readers skip files. Those that name an erased user are taken out of
commits and checkpoints, each replaced whole; every version stays readable that was so before.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ..faults import translated

Names = Callable[[str, Any], bool]  # (column, value): does the value name an erased user?
Said = Callable[[str, str], str]


def redact(log: Path, names: Names, said: Said) -> int:
    """Take what names erased users out of a `_delta_log`; how many files were rewritten.

    Args:
        said: what a commit says of itself under a key, without them.
    """
    done = 0
    for path in sorted(log.glob("*.json")):
        text = path.read_text(encoding="utf-8")
        clean = "\n".join(_clean_line(line, names, said) for line in text.split("\n"))
        if clean != text:
            _put(path, clean.encode())
            done += 1
    for path in sorted(log.glob("*.checkpoint*.parquet")):
        done += _redact_checkpoint(path, names)
    return done


def _clean_line(line: str, names: Names, said: Said) -> str:
    if '"stats"' not in line and '"commitInfo"' not in line:
        return line
    action = json.loads(line)
    told = action.get("commitInfo", {})
    clean_told = {key: said(key, value) if isinstance(value, str) else value for key, value in told.items()}
    changed = clean_told != told
    if changed:
        action["commitInfo"] = clean_told
    for kind in ("add", "remove"):
        stats = action.get(kind, {}).get("stats")
        clean = _clean_stats(stats, names)
        if clean != stats:
            action[kind]["stats"] = clean
            changed = True
    return json.dumps(action, separators=(",", ":")) if changed else line


def _clean_stats(stats: str | None, names: Names) -> str | None:
    if not stats:
        return stats
    known = json.loads(stats)
    bounds = [known.get("minValues", {}), known.get("maxValues", {})]
    named = {column for bound in bounds for column, value in bound.items() if names(column, value)}
    if not named:
        return stats
    for bound in bounds:
        for column in named:
            bound.pop(column, None)
    return json.dumps(known)


def _redact_checkpoint(path: Path, names: Names) -> int:
    table = pq.ParquetFile(path).read()
    changed = 0
    for kind in ("add", "remove"):
        place = table.schema.get_field_index(kind)
        if place < 0 or table.schema.field(place).type.get_field_index("stats") < 0:
            continue
        actions = table.column(place).combine_chunks()
        stats = actions.field("stats").to_pylist()
        clean = [_clean_stats(each, names) for each in stats]
        if clean == stats:
            continue
        changed = 1
        children = [
            pa.array(clean, field.type) if field.name == "stats" else actions.field(i)
            for i, field in enumerate(actions.type)
        ]
        rebuilt = pa.StructArray.from_arrays(children, fields=list(actions.type), mask=actions.is_null())
        table = table.set_column(place, table.schema.field(place), rebuilt)
    if changed:
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        _put(path, sink.getvalue().to_pybytes())
        _update_pointer(path)
    return changed


def _update_pointer(checkpoint: Path) -> None:
    """`_last_checkpoint` repeats the size of the newest one."""
    pointer = checkpoint.with_name("_last_checkpoint")
    if not pointer.exists():
        return
    known = json.loads(pointer.read_text(encoding="utf-8"))
    if checkpoint.name.startswith(f"{known['version']:020d}.") and "sizeInBytes" in known:
        known["sizeInBytes"] = checkpoint.stat().st_size
        known.pop("checksum", None)
        _put(pointer, json.dumps(known).encode())


def _put(path: Path, data: bytes) -> None:
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    with translated(path):
        try:
            beside.write_bytes(data)
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)
