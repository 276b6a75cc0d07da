"""The Delta log of a table: all that reads or writes one, and nothing else does.

`entries` is the format, `drafts` makes an entry durable before it is visible, `handles` says which files a version has,
`tail` follows the log commit by commit, `upkeep` keeps it short, `redaction` takes users out of it.
"""

from .drafts import Draft, discard_staged, make_durable, settle
from .entries import Changes, Entry, Removed, commit_actions
from .handles import (
    Snapshot,
    changes,
    check_writable,
    committed,
    live_files,
    may_hold,
    newest,
    open_table,
    schema,
    snapshot,
    transaction,
    version,
)
from .redaction import redact
from .tail import LogTail
from .upkeep import CHECKPOINT_EVERY, LOG_HOURS, Needed, checkpoint, checkpoint_if_due, clean

__all__ = [
    "CHECKPOINT_EVERY",
    "LOG_HOURS",
    "Changes",
    "Draft",
    "Entry",
    "LogTail",
    "Needed",
    "Removed",
    "Snapshot",
    "changes",
    "check_writable",
    "checkpoint",
    "checkpoint_if_due",
    "clean",
    "commit_actions",
    "committed",
    "discard_staged",
    "live_files",
    "make_durable",
    "may_hold",
    "newest",
    "open_table",
    "redact",
    "schema",
    "settle",
    "snapshot",
    "transaction",
    "version",
]
