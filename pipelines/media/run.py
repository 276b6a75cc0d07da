"""Media: what items look, sound and read like, as gated content rows.

    manifest ─▶ blobs ─▶ steps on Ray Data ─▶ work, by the chunk ─▶ GATE, once ─▶ content
                                                  └─▶ dead letters, one for each item and operator that failed

An item is done when the content table has a row for it of the same plan identity (steps and operator versions) and
the same inputs, by digest. Done items are skipped, so the same run again does nothing. What the operators made is kept
chunk by chunk, so a run that was killed, or stopped by the gate, goes on without running them again for those items;
all that a run has to do is published at once or not at all (partition.py).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa

from ...quality import gate
from ...quality.findings import Finding
from ...quality.suite import compile_suite
from ...schemas import plan as plans
from ...schemas import shapes
from ...schemas.contract import Contract
from ...schemas.errors import CommitConflictError, StorageError
from ...schemas.plan import Plan
from ...storage.catalog import Catalog
from ...storage.work import KEYS
from ..operators.registry import OPERATORS, signatures
from ..private import Shield
from ..references import referred
from . import manifest as manifests
from . import on_ray as media_ray
from .manifest import Manifest
from .partition import MEDIA, Progress, Published, pending, publish
from .rows import PLACE, Job, digest_column, refused_lines, unread_column
from .steps import media_columns, works_of

CHUNK_ITEMS = 1_024  # whose outputs are in memory at once
READERS = 8  # threads that read files: they wait for disks, not for each other
MISSING = "missing"  # in place of a digest, where the file is not there
_ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class MediaResult:
    """What one run did. read = admitted + quarantined + skipped, in rows of the manifest.

    `skipped` were done before: content that exists, rows quarantined by an earlier run, and repetitions within the
    manifest. `bytes` are those of the media files that the manifest names.
    """

    rows: int
    read: int
    admitted: int
    quarantined: int
    dead_letters: int
    skipped: int
    bytes: int
    version: int
    ignored_columns: tuple[str, ...]  # of the manifest, that neither the plan nor the content contract reads
    findings: tuple[Finding, ...] = ()  # what was not as expected, worst first


def run_media(
    catalog: Catalog,
    plan: Plan | str | Path,
    manifest: Path,
    *,
    now_us: int,
    ray_address: str | None = None,
    progress: Progress | None = None,
) -> MediaResult:
    """Run a plan's operators over the items of a manifest and write gated content rows.

    A file or text that an operator cannot read costs the item that operator's outputs (null) and becomes a dead
    letter. The result does not depend on the order in which Ray finishes.

    Raises:
        PlanError: the plan is unknown or malformed, or does not fit the operators, the manifest or the contract.
        SourceNotFoundError, SourceError: the manifest is missing or unreadable.
        MissingExtraError: Ray, or what an operator needs, is not installed.
        GateError: a critical check failed; nothing of the run is written but its verdict.
        PiiKeyError: the contract hashes fields and there is no key; nothing was read.
    """
    plan = plan if isinstance(plan, Plan) else plans.load(plan)
    contract = catalog.contract("content")
    shield = Shield.of(catalog, contract)
    lines = manifests.read_lines(manifest)
    if shield is not None:
        lines = manifests.shielded(lines, shield)
    columns = manifests.columns_of(lines)
    plans.check(plan, signatures(), manifest=columns, content=contract.arrow)
    for step in plan.steps:
        OPERATORS[step.operator].require()
    job = _job(catalog, contract, plan, source=str(manifest), now_us=now_us)
    wanted = _wanted(job, columns)
    found = manifests.resolve(manifest, lines, wanted)
    report = progress or (lambda step, done, total: None)

    rejected = _quarantine_lines(job, found)
    stored, size = _store(job, found, report)
    done = _carried_out(job, stored, found, ray_address, report)
    return MediaResult(
        rows=done.admitted,
        read=found.read,
        admitted=done.admitted,
        quarantined=done.quarantined + rejected,
        dead_letters=done.dead_letters,
        skipped=found.read - done.admitted - done.quarantined - rejected,
        bytes=size,
        version=catalog.table("content").version,
        ignored_columns=tuple(sorted(set(columns) - set(wanted.names))),
        findings=done.findings,
    )


def _carried_out(
    job: Job, rows: pl.DataFrame, found: Manifest, ray_address: str | None, progress: Progress
) -> Published:
    """Run the operators over what they have not made yet, then publish all of it; again where it is gone by then."""
    for _ in range(_ATTEMPTS):
        _make(job, rows, ray_address, progress)
        done = publish(job, rows, found, progress)
        if done is not None:
            return done
    raise StorageError(
        "what the operators make does not last until it is published",
        where=job.catalog.work.root,
        got=f"{_ATTEMPTS} attempts",
        hint="somebody vacuums or forgets all the time, or the disk does not keep what is written",
    )


def _make(job: Job, rows: pl.DataFrame, ray_address: str | None, progress: Progress) -> None:
    """Run the operators over the items of which nothing is kept, chunk by chunk."""
    lacking = pending(job, rows).filter(pl.col("file").is_null())
    if lacking.is_empty():
        return
    with media_ray.session(ray_address) as cluster:
        for start in range(0, lacking.height, CHUNK_ITEMS):
            progress("media", start, lacking.height)
            chunk = lacking[start : start + CHUNK_ITEMS]
            made = media_ray.run(_given(job, chunk), job.works, job.catalog.blobs.root, cluster).sort_by(PLACE)
            kept = [column for work in job.works for column in (*dict(work.step.outputs).values(), work.failed)]
            of_items = [chunk["item_id"].to_arrow(), chunk["input_digest"].to_arrow().cast(pa.string())]
            job.catalog.work.put(
                job.identity, pa.Table.from_arrays([*of_items, *made.select(kept).columns], names=[*KEYS, *kept])
            )
    progress("media", lacking.height, lacking.height)


def _job(catalog: Catalog, contract: Contract, plan: Plan, *, source: str, now_us: int) -> Job:
    schema, identity = shapes.content(contract), plan.identity(signatures())
    return Job(
        catalog=catalog,
        contract=contract,
        schema=schema,
        suite=compile_suite(
            referred(catalog, contract.expectations), schema, name=contract.name, personal=contract.personal
        ),
        plan=plan,
        identity=identity,
        media=media_columns(plan),
        works=works_of(plan),
        source=source,
        now_us=now_us,
        run_id=hashlib.blake2b(f"{identity} {source} {now_us}".encode(), digest_size=6).hexdigest(),
    )


def _wanted(job: Job, columns: Sequence[str]) -> pa.Schema:
    """What is read of the manifest: the id, what the plan reads, and content fields that nobody else makes."""
    made = {column for step in job.plan.steps for _, column in step.outputs}
    made |= {"plan", "input_digest"} | {f"{column}_digest" for column in job.media}
    read = [name for name in job.plan.read_columns() if name not in made]
    others = [
        field
        for field in job.contract.arrow
        if field.name in columns and field.name not in made | set(read) and field.type in manifests.SCALARS
    ]
    fields = {"item_id": pa.field("item_id", pa.int64())} | {field.name: field for field in others}
    return pa.schema([*fields.values(), *[pa.field(name, pa.string()) for name in read]])


def _store(job: Job, found: Manifest, report: Progress) -> tuple[pl.DataFrame, int]:
    """Every file as a blob. The rows with digests, reasons of unreadable files and `input_digest`; bytes read."""
    folder, blobs = found.path.parent, job.catalog.blobs

    def put(path: str | None) -> tuple[str | None, str | None, int]:
        if path is None:
            return None, None, 0
        try:
            data = (folder / path).read_bytes()
        except (OSError, ValueError) as error:  # ValueError: a path with a null character
            return None, f"{type(error).__name__}: {getattr(error, 'strerror', None) or error}", 0
        return blobs.put(data), None, len(data)

    rows, size = found.rows, 0
    with ThreadPoolExecutor(READERS) as pool:
        for number, column in enumerate(job.media):
            report("store", number, len(job.media))
            answers = list(pool.map(put, rows[column].to_list()))
            size += sum(answer[2] for answer in answers)
            rows = rows.with_columns(
                pl.Series(digest_column(column), [answer[0] for answer in answers], dtype=pl.String),
                pl.Series(unread_column(column), [answer[1] for answer in answers], dtype=pl.String),
            )
    inputs = [
        pl.when(pl.col(unread_column(name)).is_not_null())
        .then(pl.lit(MISSING))
        .otherwise(digest_column(name))
        .alias(name)
        if name in job.media
        else pl.col(name)
        for name in job.plan.read_columns()
    ]
    told = rows.select(pl.struct(inputs).struct.json_encode().alias("told"))["told"].to_list()
    digests = [hashlib.blake2b(text.encode(), digest_size=16).hexdigest() for text in told]
    return rows.with_columns(pl.Series("input_digest", digests, dtype=pl.String)), size


def _given(job: Job, chunk: pl.DataFrame) -> pa.Table:
    """What the steps read: digests of media, texts, and each row's place in the chunk."""
    names = job.plan.read_columns()
    columns = [pl.col(digest_column(name) if name in job.media else name).alias(name) for name in names]
    table = chunk.select(pl.int_range(pl.len(), dtype=pl.Int64).alias(PLACE), *columns).to_arrow()
    return table.cast(pa.schema([pa.field(PLACE, pa.int64()), *[pa.field(name, pa.string()) for name in names]]))


def _quarantine_lines(job: Job, found: Manifest) -> int:
    """Put lines that are no items where they live, once for each state of the manifest. How many were put now."""
    cursor, table = f"{MEDIA}{found.digest}", job.catalog.table("quarantine")
    if not found.rejected or table.transaction(cursor) is not None:
        return 0
    rows = gate.record(refused_lines(job, found), shapes.QUARANTINE, name=table.name)
    try:
        table.append(rows, transactions={cursor: 1})
    except CommitConflictError:
        if table.transaction(cursor) is None:
            raise
        return 0  # somebody else ran over the same manifest at the same time
    return len(found.rejected)
