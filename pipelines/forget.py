"""Forget: remove users from everything the lake holds or has made, and prove it.

Requests wait as documents and are carried out together, each file rewritten once for all of them. What a kill
interrupts goes on: LAKE/erasures/run.json says for whom, the tables' own commits say how far. The receipt is written
when a scan of every file finds none of the users; it does not name them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from ..schemas.buckets import user_id_of
from ..schemas.errors import ErasureError, PinError, UsageError
from ..schemas.pii import pseudonym
from ..schemas.times import US_PER_DAY, iso
from ..storage import documents, log, outputs
from ..storage.catalog import Catalog
from ..storage.erasure import THREADS, Doomed, Erased, erase, holding
from ..storage.keys import known
from ..storage.locks import erasing
from ..storage.observed import Observed
from ..storage.pins import Pin
from ..storage.traces import Trace, Wanted, traces
from .carried import VERDICT_KEY
from .quarantine.of_users import quarantined_of
from .run import Run
from .uploads import Owners, Uploads, uploads_of

WITHIN_DAYS = 30
_WITHIN_DAYS_MAX = 36_500
_FIRST = (
    "events",
    "quarantine",
    "content",
    "dead_letters",
    "timelines",
    "directory",
)  # sources before what comes of them
_STAGED_HOURS = 1  # files that no commit names yet may belong to a writer at work


@dataclass(frozen=True, slots=True)
class Request:
    """Users that are to be forgotten, and by when (µs): until then pins may hold them, from then on no pin does."""

    request: str
    users: tuple[int, ...]
    asked_at_us: int
    deadline_us: int


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof: what was rewritten, and what a scan of every reachable file found afterwards."""

    run: str
    requests: tuple[str, ...]
    users: int
    began_at_us: int
    scan_began_at_us: int
    finished_at_us: int
    deadline_us: int
    tables: tuple[Erased, ...]
    bytes_removed: int
    bytes_written: int
    log_files_rewritten: int
    blobs_removed: int
    pins_ended: tuple[str, ...]
    shards_removed: tuple[str, ...]
    outputs_missing: tuple[str, ...]
    reports_cleaned: tuple[str, ...]
    files_scanned: int
    bytes_scanned: int
    identifiers_found: int
    texts_found: tuple[Trace, ...]


def ask(catalog: Catalog, users: Sequence[int], *, within_days: int = WITHIN_DAYS, run: Run | None = None) -> Request:
    """Put a request on record; `carry_out` does it, together with all others that wait.

    Raises:
        ErasureError: no users, what is no id, or days that are none.
        StorageError: the lake is in an object store; disk full, no permission, read-only.
    """
    run = run or Run()
    wanted = _ids(users, catalog)
    if not wanted or not 0 <= within_days <= _WITHIN_DAYS_MAX:
        raise ErasureError(
            "not a request",
            where=catalog.root,
            expected=f"at least one user, and 0 to {_WITHIN_DAYS_MAX:,} days",
            got=f"{len(wanted)} users, {within_days:,} days",
        )
    now = run.now_us()
    request = Request(run.id, wanted, now, now + within_days * US_PER_DAY)
    if not documents.create(catalog.on_disk() / "erasures" / f"{run.id}.json", asdict(request)):
        raise ErasureError("a request of this name waits already", where=catalog.root, got=run.id)
    return request


def _ids(users: Sequence[int], catalog: Catalog) -> tuple[int, ...]:
    """The ids, each once, in order.

    What is no id goes on no record: the run that takes it up would fail each time, for everybody in it.
    """
    if isinstance(users, str) or not isinstance(users, Iterable):
        raise ErasureError(
            "not a list of user ids", where=catalog.root, expected="for example [4711, 4712]", got=repr(users)[:80]
        )
    try:
        return tuple(sorted({user_id_of(user) for user in users}))
    except UsageError as error:
        raise ErasureError(error.what, where=catalog.root, expected=error.expected, got=error.got) from None


def waiting(catalog: Catalog) -> list[Request]:
    """Requests that are not carried out yet, the most urgent first."""
    folder = catalog.root / "erasures"
    found = [documents.read(path) for path in folder.glob("*.json") if path.name != "run.json"]
    requests = [Request(d["request"], tuple(d["users"]), d["asked_at_us"], d["deadline_us"]) for d in found]
    return sorted(requests, key=lambda request: (request.deadline_us, request.request))


def carry_out(catalog: Catalog, *, run: Run | None = None) -> Receipt | None:
    """Forget everybody who waits to be forgotten; None if nobody does. A run that was interrupted goes on first.

    Raises:
        PinError: pins hold versions with these users, and the deadline has not come; nothing was removed.
        LakeBusyError: somebody seals, assembles, packs or erases right now.
        PiiKeyError: the lake has pseudonyms of a key that was not given.
        ErasureError: something is left, for example a file that a writer has not committed yet; run it again.
    """
    run = run or Run()
    with erasing(catalog.on_disk()):
        journal = _journal(catalog, run)
        if journal is None:
            return None
        ended = _free_of_pins(catalog, journal, run.now_us())
        documents.replace(catalog.root / "erasures" / "run.json", journal)
        receipt = _erase(catalog, journal, ended, run)
        documents.create(catalog.root / "receipts" / f"{receipt.run}.json", asdict(receipt))
        _strike_out(catalog, receipt)
    return receipt


def _strike_out(catalog: Catalog, receipt: Receipt) -> None:
    """Delete the requests that were carried out, with what kills left of writing them; the run's own document last."""
    folder = catalog.root / "erasures"
    for name in (*receipt.requests, "run"):
        for left in folder.glob(f".{name}.json.*.tmp"):
            left.unlink()
        (folder / f"{name}.json").unlink(missing_ok=True)
    for left in folder.glob(".*.tmp"):  # of a request that was never put on record
        if left.stat().st_mtime * 1_000_000 < receipt.finished_at_us - _STAGED_HOURS * 3_600_000_000:
            left.unlink()


def _journal(catalog: Catalog, run: Run) -> dict[str, Any] | None:
    """The run that was interrupted, or a new one of all that waits."""
    try:
        interrupted: dict[str, Any] = documents.read(catalog.root / "erasures" / "run.json")
        return interrupted
    except FileNotFoundError:
        requests = waiting(catalog)
    if not requests:
        return None
    asked = sorted({user for request in requests for user in request.users})
    keys = known(catalog.root)
    # Where a contract hashes ids the tables know its users by other numbers, and texts.
    users = sorted({*asked, *(int(pseudonym(user, key)) for user in asked for key in keys)})
    return {
        "run": run.id,
        "requests": [request.request for request in requests],
        "asked": len(asked),
        "users": users,
        "pseudonyms": [pseudonym(str(user), key) for user in asked for key in keys],
        "began_at_us": run.now_us(),
        "deadline_us": requests[0].deadline_us,
        # Found now: once the content is gone nothing says which items and blobs were theirs.
        "uploads": asdict(uploads_of(catalog, users)),
        "pins_ended": [],
    }


def _free_of_pins(catalog: Catalog, journal: dict[str, Any], now_us: int) -> list[str]:
    """Pins that hold these users: they block until the deadline, and are ended from then on."""
    blocking = [pin for pin in catalog.pins() if pin.holds_at(now_us) and _pin_holds(catalog, pin, journal)]
    deadline = int(journal["deadline_us"])
    if blocking and now_us < deadline:
        until = [
            f"{pin.name} ({'for ever' if pin.until_us is None else f'until {iso(pin.until_us)}'})" for pin in blocking
        ]
        raise PinError(
            "pins hold versions with these users; nothing was removed, and the request waits",
            where=catalog.root,
            expected=f"no such pins; at the deadline, {iso(deadline)}, they are ended",
            got=", ".join(until),
            hint=f"reclake unpin {catalog.root} {blocking[0].name}, then reclake forget {catalog.root}",
        )
    for pin in blocking:
        catalog.end_pin(pin.name, now_us)
    journal["pins_ended"] = sorted({*journal["pins_ended"], *(pin.name for pin in blocking)})
    return list(journal["pins_ended"])


def _pin_holds(catalog: Catalog, pin: Pin, journal: Mapping[str, Any]) -> bool:
    return any(
        not holding(catalog.table(name), doomed, version).is_empty()
        for name, version in pin.tables.items()
        if version >= 0
        for doomed in _doomed(catalog, name, journal, version)
    )


def _doomed(
    catalog: Catalog, name: str, journal: Mapping[str, Any], version: int | None = None
) -> Iterator[Doomed | Observed]:
    """The rows of a table that go with these users, or that name them."""
    users, items = journal["users"], journal["uploads"]["items"]
    columns = catalog.table(name).schema(version).names
    for column in sorted(_columns(catalog, name) & set(columns)):
        yield Doomed.users(users, catalog.buckets, column)
    if name == "dead_letters" and items:
        yield Doomed("item_id", pa.array(sorted(items), pa.int64()))
    if name == "verdicts":
        yield _observed(catalog, _wanted(journal))
    if name == "quarantine" and (ids := quarantined_of(catalog, _wanted(journal), version)):
        yield Doomed("quarantine_id", pa.array(ids, pa.string()))


def _wanted(journal: Mapping[str, Any]) -> Wanted:
    return Wanted(journal["users"], journal["pseudonyms"])


def _columns(catalog: Catalog, name: str) -> frozenset[str]:
    """The columns of a table whose rows go with the users they hold. An owner is one of content alone: in an event a
    field of that name says whose item somebody else looked at.
    """
    return frozenset({"user_id"}) | (Owners.of(catalog).columns if name == "content" else frozenset())


def _observed(catalog: Catalog, wanted: Wanted) -> Observed:
    return Observed(wanted, {"user_id"} | Owners.of(catalog).names)


def _erase(catalog: Catalog, journal: Mapping[str, Any], ended: Sequence[str], run: Run) -> Receipt:
    wanted = _wanted(journal)
    names = catalog.table_names()
    ordered = [name for name in _FIRST if name in names] + [name for name in names if name not in _FIRST]
    done: list[Erased] = []
    for number, name in enumerate(ordered):
        run.progress(f"forget: {name}", number, len(ordered))
        for doomed in _doomed(catalog, name, journal):
            erased = erase(catalog.table(name), doomed, run_id=journal["run"])
            done += [erased] if erased.rows or isinstance(doomed, Doomed) else []
    blobs = Uploads(**journal["uploads"]).remove_blobs(catalog)
    removed, missing, reports = _outputs(catalog, wanted)
    cleaned = sum(_sweep(catalog, name, wanted, run.now_us()) for name in ordered)
    # It may hold their uploads, and can be made again.
    catalog.work.clear(run.now_us() / 1_000_000)
    # The index of users names them. After the tables, so that nobody builds it again from rows that are still there.
    if catalog.cache.exists():
        shutil.rmtree(catalog.cache)
    scan_began_at_us = run.now_us()
    files, size, found = _scan(catalog, wanted, run)
    certain = [trace for trace in found if trace.kind == "identifier"]
    if certain:
        raise ErasureError(
            "some of these users are still there",
            where=", ".join(f"{trace.path} ({trace.place})" for trace in certain[:3]),
            expected="no file that holds them",
            got=f"{sum(trace.count for trace in certain)} identifiers in {len({t.path for t in certain})} files",
            hint=f"a writer's files are left alone for {_STAGED_HOURS} h; then run reclake forget {catalog.root}",
        )
    return Receipt(
        run=journal["run"],
        requests=tuple(journal["requests"]),
        users=journal["asked"],
        began_at_us=journal["began_at_us"],
        scan_began_at_us=scan_began_at_us,
        finished_at_us=run.now_us(),
        deadline_us=journal["deadline_us"],
        tables=tuple(done),
        bytes_removed=sum(each.bytes_removed for each in done),
        bytes_written=sum(each.bytes_written for each in done),
        log_files_rewritten=cleaned,
        blobs_removed=blobs,
        pins_ended=tuple(ended),
        shards_removed=tuple(removed),
        outputs_missing=tuple(missing),
        reports_cleaned=tuple(reports),
        files_scanned=files,
        bytes_scanned=size,
        identifiers_found=0,
        texts_found=tuple(found),
    )


def _outputs(catalog: Catalog, wanted: Wanted) -> tuple[list[str], list[str], list[str]]:
    """Shard sets with these users are removed whole, examples of theirs in reports are struck out.

    Returns:
        Shard sets that were removed, outputs that are not where they were, and reports that were changed.
    """
    removed: list[str] = []
    missing: list[str] = []
    reports: list[str] = []
    for output in outputs.registered(catalog.on_disk()):
        if not output.present:
            missing.append(str(output.path))
        elif output.kind == "report":
            reports += [str(output.path)] if outputs.clean_report(output.path, wanted) else []
        elif output.holds(wanted):
            outputs.remove(catalog.on_disk(), output)
            removed.append(str(output.path))
    return removed, missing, reports


def _sweep(catalog: Catalog, name: str, wanted: Wanted, now_us: int) -> int:
    """Delete the files that held the rows, and what the log says of them; how many log files were rewritten."""
    table = catalog.table(name)
    keep = sorted(
        {pin.tables[name] for pin in catalog.pins() if pin.holds_at(now_us) and pin.tables.get(name, -1) >= 0}
    )
    # What commits named goes at once; what none names yet may be a writer's, and goes when that has had its time.
    table.vacuum(retention_hours=0, keep=keep, dry_run=False, staged_too=False)
    table.vacuum(retention_hours=_STAGED_HOURS, keep=keep, dry_run=False)
    log.discard_staged(table.root, now_us / 1_000_000 - _STAGED_HOURS * 3600)
    columns, observed = _columns(catalog, name), _observed(catalog, wanted)
    return log.redact(
        catalog.on_disk() / "tables" / name / "_delta_log",
        lambda column, value: wanted.names(columns, column, value),
        lambda key, text: observed.in_json(text) if key.startswith(VERDICT_KEY) else text,
    )


def _scan(catalog: Catalog, wanted: Wanted, run: Run) -> tuple[int, int, list[Trace]]:
    """Look for the users in every file of the lake but the requests themselves, and in the outputs it knows of."""
    folders = [
        catalog.on_disk(),
        *(output.path for output in outputs.registered(catalog.on_disk()) if output.present),
    ]
    paths = [path for folder in folders for path in [folder, *sorted(folder.rglob("*"))] if path.is_file()]
    root = catalog.on_disk()
    inside = {path for path in paths if path.is_relative_to(root)}
    paths = [p for p in paths if p not in inside or p.relative_to(root).parts[0] != "erasures"]
    names = [str(path.relative_to(root) if path in inside else path) for path in paths]
    content, of_content, of_others = root / "tables" / "content", _columns(catalog, "content"), _columns(catalog, "")
    columns = [of_content if path.is_relative_to(content) else of_others for path in paths]
    found: list[Trace] = []
    with ThreadPoolExecutor(THREADS) as pool:
        looked_at = pool.map(lambda path, name, of_users: traces(path, name, wanted, of_users), paths, names, columns)
        for number, some in enumerate(looked_at):
            run.progress("forget: scan", number, len(paths))
            found += some
    return len(paths), sum(path.stat().st_size for path in paths), found
