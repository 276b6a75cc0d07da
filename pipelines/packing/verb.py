"""Pack: a pinned sample set as shards, one row per user with its history window once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from ...schemas.errors import ShardError
from ...storage.locks import deriving
from ...storage.outputs import Output, register
from ...storage.shard_manifest import MANIFEST, Compression, Manifest, read_manifest, write_manifest
from ...storage.shard_writer import ShardWriter
from ...storage.staging import staged
from ..run import Run
from .days import Days
from .source import Coded, Source

if TYPE_CHECKING:
    from ...storage.catalog import Catalog


Kept = Literal["before", "meanwhile"]


@dataclass(frozen=True, slots=True)
class PackResult:
    """What a pack wrote, or found there. `events` counts stored history events.

    `kept`: the same set was there, packed `before`, or by somebody else `meanwhile`; null if this pack made it.
    """

    path: Path
    samples: int
    users: int
    rows: int
    events: int
    shards: int
    chunks: int
    bytes: int
    fingerprint: str
    kept: Kept | None


def pack(
    catalog: Catalog,
    recipe_name: str,
    *,
    pin: str,
    out: Path,
    history: int | None = None,
    days: Days | None = None,
    window_us: int = 0,
    compression: Compression = "lz4",
    progress: Callable[[int, int], None] | None = None,
    run: Run | None = None,
) -> PackResult:
    """Write the shard set of a recipe's samples at a pin into the folder `out`, in memory bounded by `PART_EVENTS`.

    With a window of time, shards hold one such window after the other, so that a feed can follow time. A user's history
    is then stored once a window.

    The folder appears whole or not at all. Where it holds the same set already (pin, recipe, history, days, window and
    compression), it is kept; of two packs into it at once the first that is ready wins.

    Args:
        history: events of a window at most; the recipe's own by default.
        days: which of the pin's sample days: a list, or a text such as "2024-03-01..2024-03-07"; every one by default.
        window_us: length of the windows of request_time; 0 for none.
        compression: "lz4", read fastest, or "zstd", 7 to 10 % smaller. The samples and their order are the same.
        progress: called with (parts done, parts).

    Raises:
        PinError, RecipeError: the pin or recipe is unknown, or the pin has no samples of the recipe.
        SamplesError: there is no sample, a day is not there, or some days are of an older version of the recipe.
        TimeError: a day cannot be read.
        ShardError: `out` holds something else, maybe since just now, the samples do not fit the timelines, or there is
            no such compression.
        StorageError: the folder cannot be written.
    """
    if compression not in get_args(Compression):
        raise ShardError("no such compression", expected="one of " + ", ".join(get_args(Compression)), got=compression)
    source = Source.open(catalog, recipe_name, pin=pin, history=history, days=days, window_us=window_us, run=run)
    wanted = source.identity | {"compression": compression}
    kept = _existing(out, wanted)
    if kept is not None:
        return _result(out, kept, "before")
    with deriving(catalog.root):
        register(catalog.root, Output("shards", out))
        try:
            with staged(out) as folder:
                manifest = write_manifest(folder, _write(source, folder, compression, progress))
        except FileExistsError:
            kept = _existing(out, wanted)
            if kept is None:
                raise
            return _result(out, kept, "meanwhile")
    return _result(out, manifest, None)


def _write(
    source: Source, folder: Path, compression: Compression, progress: Callable[[int, int], None] | None
) -> Manifest:
    writer = ShardWriter(folder, compression=compression)
    coded = Coded.of(source)
    try:
        parts = source.parts()
        for done, part in enumerate(parts, 1):
            writer.add(coded.rows(part), window=part.window)
            if progress is not None:
                progress(done, len(parts))
        columns = writer.close()
    finally:
        writer.abort()
    return coded.manifest(folder, writer, columns)


def _existing(out: Path, wanted: dict[str, Any]) -> Manifest | None:
    """The manifest of the same set, if `out` holds it; None if there is nothing."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return None
    hint = "choose another folder, or remove this one"
    if not (out / MANIFEST).is_file():
        raise ShardError("the folder holds something else", where=out, expected="no folder, or a shard set", hint=hint)
    manifest = read_manifest(out)
    found = {name: value for name, value in manifest.identity.items() if name != "format_version"}
    found["compression"] = manifest.compression
    if found != wanted:
        differing = [name for name in {**wanted, **found} if wanted.get(name) != found.get(name)]
        raise ShardError(
            "the folder holds another shard set",
            where=out,
            expected=", ".join(f"{name} {wanted.get(name)}" for name in differing),
            got=", ".join(f"{name} {found.get(name)}" for name in differing),
            hint=hint,
        )
    return manifest


def _result(out: Path, manifest: Manifest, kept: Kept | None) -> PackResult:
    shards = manifest.shards
    return PackResult(
        path=out,
        samples=manifest.sample_count,
        users=manifest.users,
        rows=sum(s.rows for s in shards),
        events=sum(sum(s.chunk_events) for s in shards),
        shards=len(shards),
        chunks=sum(len(s.chunk_samples) for s in shards),
        bytes=sum(s.bytes for s in shards),
        fingerprint=manifest.fingerprint,
        kept=kept,
    )
