"""Media: what items look, sound and read like, as gated content rows.

    manifest ─▶ blobs ─▶ steps on Ray Data ─▶ GATE ─▶ content
                              └─▶ dead letters, one for each item and operator that failed

An item is done when the content table has a row for it of the same plan identity (steps and operator versions) and
the same inputs, by digest. Done items are skipped, so a run that was killed goes on, and the same run again does
nothing. Dead letters and quarantine of a chunk of items are committed before its rows, each once by an application
transaction; the rows come last, in one commit that says that the chunk is done and carries its verdict (publish.py).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa

from ...quality import gate
from ...quality.findings import findings, told
from ...quality.suite import compile_suite
from ...schemas import plan as plans
from ...schemas import shapes
from ...schemas.contract import Contract
from ...schemas.errors import CommitConflictError, GateError
from ...schemas.placing import stored_schema
from ...schemas.plan import Plan
from ...schemas.times import from_us
from ...storage.catalog import Catalog
from ..learning import learnt
from ..operators.registry import OPERATORS, signatures
from ..private import Shield
from ..publish import Audited, published, restored_all
from . import manifest as manifests
from . import on_ray as media_ray
from .manifest import Manifest
from .rows import (
    PLACE,
    Job,
    content_rows,
    dead_letters,
    digest_column,
    quarantine_id,
    refused_lines,
    refused_rows,
    unread_column,
)
from .steps import media_columns, works_of

MEDIA = "media/"  # application transactions of chunks and manifests begin so
CHUNK_ITEMS = 1_024  # in one commit; their outputs are in memory at once
READERS = 8  # threads that read files: they wait for disks, not for each other
MISSING = "missing"  # in place of a digest, where the file is not there

Progress = Callable[[str, int, int | None], None]


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
        GateError: a critical check failed; nothing of that chunk is written.
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

    restored_all(catalog, catalog.table("content"), MEDIA)
    rejected = _quarantine_lines(job, found)
    stored, size = _store(job, found, report)
    pending = _pending(job, stored)
    admitted = quarantined = letters = 0
    if pending.height:
        with media_ray.session(ray_address) as cluster:
            for start in range(0, pending.height, CHUNK_ITEMS):
                report("media", start, pending.height)
                chunk = pending[start : start + CHUNK_ITEMS]
                made = media_ray.run(_given(job, chunk), job.works, catalog.blobs.root, cluster)
                counts = _write_chunk(job, chunk, made.sort_by(PLACE), found)
                admitted, quarantined, letters = admitted + counts[0], quarantined + counts[1], letters + counts[2]
        report("media", pending.height, pending.height)
    return MediaResult(
        rows=admitted,
        read=found.read,
        admitted=admitted,
        quarantined=quarantined + rejected,
        dead_letters=letters,
        skipped=found.read - admitted - quarantined - rejected,
        bytes=size,
        version=catalog.table("content").version,
        ignored_columns=tuple(sorted(set(columns) - set(wanted.names))),
    )


def _job(catalog: Catalog, contract: Contract, plan: Plan, *, source: str, now_us: int) -> Job:
    schema = shapes.content(contract)
    return Job(
        catalog=catalog,
        contract=contract,
        schema=schema,
        suite=compile_suite(contract.expectations, schema, name=contract.name, personal=contract.personal),
        plan=plan,
        identity=plan.identity(signatures()),
        media=media_columns(plan),
        works=works_of(plan),
        source=source,
        now_us=now_us,
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


def _pending(job: Job, rows: pl.DataFrame) -> pl.DataFrame:
    """The rows that are not done, each item and input once, by item_id."""
    rows = rows.sort("item_id", "_row").unique(["item_id", "input_digest"], keep="first", maintain_order=True)
    content, quarantine = job.catalog.table("content"), job.catalog.table("quarantine")
    if content.exists:
        done = content.scan().filter(pl.col("plan") == job.identity).select("item_id", "input_digest").collect()
        rows = rows.join(done.unique(), on=["item_id", "input_digest"], how="anti", maintain_order="left")
    rows = rows.with_columns(quarantine_id(job).alias("_quarantine_id"))
    if quarantine.exists:
        refused = quarantine.scan().filter(pl.col("contract") == job.contract.name).select("quarantine_id").collect()
        rows = rows.filter(~pl.col("_quarantine_id").is_in(refused["quarantine_id"].implode()))
    return rows


def _given(job: Job, chunk: pl.DataFrame) -> pa.Table:
    """What the steps read: digests of media, texts, and each row's place in the chunk."""
    names = job.plan.read_columns()
    columns = [pl.col(digest_column(name) if name in job.media else name).alias(name) for name in names]
    table = chunk.select(pl.int_range(pl.len(), dtype=pl.Int64).alias(PLACE), *columns).to_arrow()
    return table.cast(pa.schema([pa.field(PLACE, pa.int64()), *[pa.field(name, pa.string()) for name in names]]))


def _write_chunk(job: Job, chunk: pl.DataFrame, made: pa.Table, found: Manifest) -> tuple[int, int, int]:
    """Gate and commit one chunk: its rows admitted, its rows quarantined, its dead letters."""
    items = json.dumps(chunk.select("item_id", "input_digest").rows())
    digest = hashlib.blake2b(items.encode(), digest_size=16).hexdigest()
    cursor = f"{MEDIA}{job.identity}/{job.contract.version}/{digest}"
    letters = dead_letters(job, chunk, made)
    content = job.catalog.table("content")
    stored = stored_schema(job.contract, job.schema)
    content.create(stored)
    name, day = job.contract.name, from_us(job.now_us).date()
    suite = learnt(job.catalog, job.suite, table=content.name, contract=name, day=day, partitions=False)
    while True:
        version = content.version  # read before the barrier is: the rows must be committed right after it
        admission = gate.admit(
            content_rows(job, chunk, made, job.catalog.barrier_us(content)),
            suite,
            job.schema,
            contract=name,
            contract_version=job.contract.version,
            verdict_id=cursor,
            quarantine_limit=job.contract.quarantine_limit,
            quarantine_limit_rows=job.contract.quarantine_limit_rows,
        )
        verdict = _verdict(job, admission, chunk.height)
        if admission.verdict == "stop":
            _stop(job, admission, verdict)
        _once(job, "dead_letters", letters, shapes.DEAD_LETTERS, cursor)
        _once(job, "quarantine", refused_rows(job, chunk, admission, found), shapes.QUARANTINE, cursor)
        staged = content.stage(admission.admitted.stored_as(stored))
        try:
            published(job.catalog, Audited(content, (staged,), admission, verdict, stored), (cursor, 1), after=version)
        except CommitConflictError:
            if content.transaction(cursor) is not None:
                return 0, 0, 0  # somebody else ran the same plan over the same items meanwhile
            continue  # somebody wrote or sealed meanwhile: what may have been known when may be another now
        return admission.admitted.rows.num_rows, admission.rejected.height, letters.num_rows


def _verdict(job: Job, admission: gate.Admission, items: int) -> pa.Table:
    return gate.verdict_rows(
        admission,
        run_id=job.run_id,
        at_us=job.now_us,
        table="content",
        source=job.source,
        event_day=from_us(job.now_us).date(),
        read=items,
        duplicates=0,
        late=0,
    )


def _stop(job: Job, admission: gate.Admission, verdict: pa.Table) -> None:
    """Store the verdict of a chunk that may not be written, and say so."""
    job.catalog.table("verdicts").append(gate.record(verdict, shapes.VERDICTS, name="verdicts"))
    raise GateError(
        "a critical check failed: nothing of these items was written",
        where=f"{job.source}, contract {job.contract.name}",
        expected="every critical check to pass",
        got=admission.stop_reason,
        hint="mend the manifest or the contract, then run the same command again; it goes on where it stopped; more: "
        f"reclake report quality {job.catalog.root}",
        **told(findings(admission)),
    )


def _quarantine_lines(job: Job, found: Manifest) -> int:
    """Put lines that are no items where they live, once for each state of the manifest. How many were put now."""
    cursor = f"{MEDIA}{found.digest}"
    if not found.rejected or job.catalog.table("quarantine").transaction(cursor) is not None:
        return 0
    _once(job, "quarantine", refused_lines(job, found), shapes.QUARANTINE, cursor)
    return len(found.rejected)


def _once(job: Job, name: str, rows: pa.Table, schema: pa.Schema, cursor: str) -> None:
    """Append reclake's own records, unless a run that was cut short did so already."""
    table = job.catalog.table(name)
    if rows.num_rows == 0 or table.transaction(cursor) is not None:
        return
    try:
        table.append(gate.record(rows, schema, name=name), transactions={cursor: 1})
    except CommitConflictError:
        if table.transaction(cursor) is None:
            raise
