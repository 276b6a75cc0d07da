"""Entries of a Delta log: one JSON action a line. Written and read here, as the Delta protocol has them."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

from ..parquet import DataFile
from ..places import Place

ENGINE = "reclake"
_MARK = f'"engineInfo":"{ENGINE}"'


@dataclass(frozen=True, slots=True)
class Entry:
    """One commit.

    Attributes:
        added: files with new rows, relative to the table; not those that compaction wrote.
        adds: the `add` actions, compaction's too.
        removed: files that went, with their rows or compacted.
        took_rows: whether rows were taken away or changed.
        transactions: application transactions.
        reshaped: whether the schema or the protocol changed.
    """

    version: int
    added: tuple[str, ...]
    adds: tuple[Mapping[str, Any], ...]
    removed: frozenset[str]
    took_rows: bool
    transactions: Mapping[str, int]
    reshaped: bool


@dataclass(frozen=True, slots=True)
class Changes:
    """What some successive commits did to the rows: files added, and whether rows were taken away or changed.

    Compaction moves rows from file to file and is neither.
    """

    added: tuple[Place, ...]
    removed: bool


@dataclass(frozen=True, slots=True)
class Removed:
    """A live file that a commit takes out of the table: its path below the table, and what the log says of it."""

    path: str
    size: int
    partition_values: Mapping[str, str | None]


def now_s() -> float:
    """The time for a log's own books, s since 1970: when a commit was made, when the log was looked at."""
    return time.time()


def path_of(root: Place, version: int) -> Place:
    """Where the entry of a version is."""
    return root / "_delta_log" / f"{version:020d}.json"


def commit_actions(
    added: Sequence[DataFile],
    removed: Iterable[Removed] = (),
    *,
    transactions: Mapping[str, int],
    metadata: Mapping[str, str],
    operation: str = "WRITE",
    data_change: bool = True,
) -> list[dict[str, Any]]:
    """The actions of a commit. Without `data_change` what is added holds the rows of what is removed: compaction."""
    now_ms = int(now_s() * 1000)
    # The txnId tells this commit from every other, where an object store does not say whose it took.
    info = {"timestamp": now_ms, "operation": operation, "engineInfo": ENGINE, "txnId": secrets.token_hex(16)}
    return [
        {"commitInfo": info | dict(metadata)},
        *({"txn": {"appId": app_id, "version": version}} for app_id, version in transactions.items()),
        *({"remove": _remove(file, now_ms, data_change)} for file in removed),
        *({"add": _add(file, now_ms, data_change)} for file in added),
    ]


def encode(actions: Iterable[Mapping[str, Any]]) -> bytes:
    """The text of an entry."""
    return "".join(json.dumps(action, separators=(",", ":")) + "\n" for action in actions).encode()


def is_ours(text: str) -> bool:
    """Whether an entry was written by `encode`: such ones are on the disk before they have a name."""
    return _MARK in text


def parse(version: int, text: str) -> Entry:
    """An entry by its text, whoever wrote it."""
    added: list[str] = []
    adds: list[Mapping[str, Any]] = []
    removed = set[str]()
    transactions: dict[str, int] = {}
    took_rows = reshaped = False
    for line in text.splitlines():
        if not line.strip():
            continue
        action = json.loads(line)
        if "add" in action:
            adds.append(action["add"])
            if action["add"].get("dataChange"):
                added.append(unquote(action["add"]["path"]))
        elif "remove" in action:
            removed.add(unquote(action["remove"]["path"]))
            took_rows |= bool(action["remove"].get("dataChange"))
        elif "txn" in action:
            transactions[action["txn"]["appId"]] = int(action["txn"]["version"])
        elif "metaData" in action or "protocol" in action:
            reshaped = True
    return Entry(version, tuple(added), tuple(adds), frozenset(removed), took_rows, transactions, reshaped)


def _add(file: DataFile, now_ms: int, data_change: bool) -> dict[str, Any]:
    return {
        "path": quote(file.path, safe="/=:+,@"),
        "partitionValues": dict(file.partition_values),
        "size": file.size,
        "modificationTime": now_ms,
        "dataChange": data_change,
        "stats": file.stats,
    }


def _remove(file: Removed, now_ms: int, data_change: bool) -> dict[str, Any]:
    return {
        "path": quote(file.path, safe="/=:+,@"),
        "deletionTimestamp": now_ms,
        "dataChange": data_change,
        "extendedFileMetadata": True,
        "partitionValues": dict(file.partition_values),
        "size": file.size,
    }
