"""The partition of content is the media run: all items that it has to do are judged as one and published in one commit.

    stage      chunk by chunk, what operators made (storage/work.py) becomes content rows in files that no commit names
    audit      one verdict for all of them; rows that fail a check of rows are set aside, with their reasons
    publish    dead letters and quarantine, then one commit of all rows that are left, with the verdict; or
    discard    the files are taken away, the verdict is stored, and what operators made stays for the next run

One run of a lake is published at a time, and says so on record before it writes its dead letters. So whoever comes
next knows that a run was killed meanwhile: it takes back what that had set aside, or, where its commit had come to be,
writes down the verdict that the commit carries.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import polars as pl
import pyarrow as pa

from ...quality import gate
from ...quality.findings import Finding, findings
from ...quality.piecewise import Piecewise
from ...schemas import shapes
from ...schemas.errors import CommitConflictError
from ...schemas.placing import stored_schema
from ...schemas.times import from_us
from ...storage.catalog import SEAL, Catalog
from ...storage.locks import deriving
from ...storage.table import Staged
from ...storage.work import KEYS, Publishing
from ..learning import learnt
from ..publish import Audited, published, restored
from ..refusal import refusal, refuse
from .manifest import Manifest
from .rows import Job, content_rows, dead_letters, quarantine_id, refused_rows

MEDIA = "media/"  # application transactions of runs and manifests begin so

Progress = Callable[[str, int, int | None], None]


@dataclass(frozen=True, slots=True)
class Published:
    """What was made of the pending items of a run."""

    admitted: int = 0
    quarantined: int = 0
    dead_letters: int = 0
    findings: tuple[Finding, ...] = ()


@dataclass(slots=True)
class _Draft:
    """The rows of a run on their way: pending items by chunk, their staged files, what operators could not read."""

    job: Job
    chunks: list[pl.DataFrame]
    schema: pa.Schema  # of the rows as the table keeps them
    barrier_us: int | None
    staged: list[Staged]
    letters: list[pa.Table]

    def rows(self, chunk: pl.DataFrame) -> tuple[pa.Table, pa.Table] | None:
        """A chunk's content rows, and what operators made for them; None where that is gone."""
        made = self.job.catalog.work.read(chunk["file"][0])
        if made is None:
            return None
        places = chunk["place"].to_numpy()
        if len(places) != made.num_rows or (places[1:] <= places[:-1]).any():
            made = made.take(pa.array(places))
        return content_rows(self.job, chunk, made, self.barrier_us), made

    def stage(self, rows: pa.Table) -> Staged:
        contract = self.job.contract
        held = gate.hold(rows, self.job.schema, self.schema, contract=contract.name, contract_version=contract.version)
        return self.job.catalog.table("content").stage(held)

    def discard(self) -> None:
        self.job.catalog.table("content").discard(self.staged)

    def scan(self) -> pl.LazyFrame:
        """The staged rows, lazily, by the names and types of the contract."""
        types = pl.DataFrame(self.job.schema.empty_table()).schema
        columns = [
            pl.col(stored).cast(types[name]).alias(name)
            for stored, name in zip(self.schema.names, self.job.schema.names, strict=True)
        ]
        return self.job.catalog.table("content").scan_staged(self.staged).select(columns)


def pending(job: Job, rows: pl.DataFrame) -> pl.DataFrame:
    """The items that are not done, each item and input once, by item_id; `file` and `place` of what was made for them,
    null where nothing is there.
    """
    rows = rows.sort("item_id", "_row").unique(["item_id", "input_digest"], keep="first", maintain_order=True)
    content, quarantine = job.catalog.table("content"), job.catalog.table("quarantine")
    if content.exists:
        done = content.scan().filter(pl.col("plan") == job.identity).select("item_id", "input_digest").collect()
        rows = rows.join(done.unique(), on=["item_id", "input_digest"], how="anti", maintain_order="left")
    rows = rows.with_columns(quarantine_id(job).alias("_quarantine_id"))
    if quarantine.exists:
        refused = quarantine.scan().filter(pl.col("contract") == job.contract.name).select("quarantine_id").collect()
        rows = rows.filter(~pl.col("_quarantine_id").is_in(refused["quarantine_id"].implode()))
    kept = job.catalog.work.kept(job.identity)
    return rows.join(kept, left_on=["item_id", "input_digest"], right_on=KEYS, how="left", maintain_order="left")


def publish(job: Job, rows: pl.DataFrame, found: Manifest, progress: Progress) -> Published | None:
    """Judge and publish all of a run's items that are not done; None where that must be tried again: something that
    operators made is gone, or a seal has changed when the items may have been known.

    Raises:
        GateError: a critical check failed; nothing of the run is written but its verdict.
    """
    with job.catalog.work.alone(), deriving(job.catalog.root):
        settle(job.catalog)
        items = pending(job, rows)
        if items.is_empty():
            return Published()
        if items["file"].null_count():
            return None
        keys = json.dumps(items.select("item_id", "input_digest").rows())
        digest = hashlib.blake2b(keys.encode(), digest_size=16).hexdigest()
        cursor = f"{MEDIA}{job.identity}/{job.contract.version}/{digest}"
        run_id = hashlib.blake2b(f"{cursor} {job.now_us}".encode(), digest_size=6).hexdigest()
        try:
            return _publish(replace(job, run_id=run_id), cursor, items, found, progress)
        except CommitConflictError:
            return None


def settle(catalog: Catalog) -> None:
    """End what a run that was killed while it was published has left: done, or as if it had not begun."""
    work, content = catalog.work, catalog.table("content")
    run = work.begun()
    if run is None:
        return
    if (content.transaction(run.cursor) or 0) >= run.number:
        restored(catalog, content, (run.cursor, run.number))
        work.remove(run.files)
    else:
        for name in ("dead_letters", "quarantine"):
            table = catalog.table(name)
            if table.exists:
                table.delete(f"run_id = '{run.run_id}'")
    work.end()


def _publish(job: Job, cursor: str, items: pl.DataFrame, found: Manifest, progress: Progress) -> Published | None:
    catalog, content, name = job.catalog, job.catalog.table("content"), job.contract.name
    stored = stored_schema(job.contract, job.schema)
    kept = stored.append(shapes.OF_CONTRACT)
    content.create(kept)
    expected = {SEAL: content.transaction(SEAL)}  # read before the barrier is: while it stands, so does the barrier
    draft = _Draft(job, items.partition_by("file", maintain_order=True), stored, catalog.barrier_us(content), [], [])
    day = from_us(job.now_us).date()
    suite = learnt(catalog, job.suite, table=content.name, contract=name, day=day, partitions=False)
    whole = Piecewise(suite, job.schema, contract=name)
    try:
        if not _stage(draft, whole, progress):
            draft.discard()
            return None
        admission = whole.judge(
            draft.scan() if whole.rereads else pl.LazyFrame(),
            contract_version=job.contract.version,
            verdict_id=f"{MEDIA}{job.run_id}",
            quarantine_limit=job.contract.quarantine_limit,
            quarantine_limit_rows=job.contract.quarantine_limit_rows,
        )
        verdict = _verdict(job, admission, items.height)
        if admission.verdict == "stop":
            _stop(job, admission, verdict)
        if not _set_aside(draft, admission):
            draft.discard()
            return None
        number = (content.transaction(cursor) or 0) + 1  # more than once where its rows were erased meanwhile
        files = tuple(chunk["file"][0] for chunk in draft.chunks)
        catalog.work.begin(Publishing(job.run_id, cursor, number, files))
        letters = pa.concat_tables(draft.letters)
        _append(job, "dead_letters", letters, shapes.DEAD_LETTERS)
        in_order = pl.concat(draft.chunks)
        _append(job, "quarantine", refused_rows(job, in_order, admission, found), shapes.QUARANTINE)
    except BaseException:
        draft.discard()
        raise
    audited = Audited(content, tuple(draft.staged), admission, verdict, kept)
    published(catalog, audited, (cursor, number), expected=expected)
    catalog.work.remove(files)
    catalog.work.end()
    rejected = admission.rejected.height
    return Published(items.height - rejected, rejected, letters.num_rows, findings(admission))


def _stage(draft: _Draft, whole: Piecewise, progress: Progress) -> bool:
    """Stage every chunk and have it looked at; False where something that operators made is gone."""
    done, total = 0, sum(chunk.height for chunk in draft.chunks)
    for chunk in draft.chunks:
        progress("publish", done, total)
        rows = draft.rows(chunk)
        if rows is None:
            return False
        whole.look(rows[0])
        draft.staged.append(draft.stage(rows[0]))
        draft.letters.append(dead_letters(draft.job, chunk, rows[1]))
        done += chunk.height
    progress("publish", total, total)
    return True


def _set_aside(draft: _Draft, admission: gate.Admission) -> bool:
    """Stage the chunks that have rejected rows once more, without them; False where what was made for them is gone."""
    for number, kept in _kept(draft.chunks, admission):
        rows = draft.rows(draft.chunks[number])
        if rows is None:
            return False
        before = draft.staged[number]
        draft.staged[number] = draft.stage(rows[0].filter(pa.array(kept)))
        draft.job.catalog.table("content").discard([before])
    return True


def _kept(chunks: Sequence[pl.DataFrame], admission: gate.Admission) -> Iterator[tuple[int, np.ndarray]]:
    """The chunks with rejected rows, by number, and which of their rows are none."""
    kept = np.ones(sum(chunk.height for chunk in chunks), dtype=np.bool_)
    kept[admission.rejected["index"].to_numpy()] = False
    ends = np.cumsum([chunk.height for chunk in chunks])
    for number, mine in enumerate(np.split(kept, ends[:-1])):
        if not mine.all():
            yield number, mine


def _verdict(job: Job, admission: gate.Admission, items: int) -> pa.Table:
    stopped, rejected = admission.verdict == "stop", admission.rejected.height
    return gate.verdict_rows(
        admission,
        run_id=job.run_id,
        at_us=job.now_us,
        table="content",
        source=job.source,
        event_day=from_us(job.now_us).date(),
        read=items,
        admitted=0 if stopped else items - rejected,
        duplicates=0,
        late=0,
    )


def _stop(job: Job, admission: gate.Admission, verdict: pa.Table) -> None:
    """Store the verdict of a run that may not be published, and say so."""
    error = refusal(
        admission,
        "stopped at the gate: nothing of these items was written",
        where=f"{job.source}, contract {job.contract.name}",
        hint="mend the manifest or the contract, then run the same command again; what the operators made is kept, and "
        f"only what changed is made again; more: reclake report quality {job.catalog.root}",
    )
    refuse(job.catalog, verdict, error)


def _append(job: Job, name: str, rows: pa.Table, schema: pa.Schema) -> None:
    """Append reclake's own records of a run that is on record."""
    if rows.num_rows:
        job.catalog.table(name).append(gate.record(rows, schema, name=name))
