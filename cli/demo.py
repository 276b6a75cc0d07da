"""The demo's way: every step through the same verbs a user calls, a line for each."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from ..pipelines.lake import Lake
from ..pipelines.run import Run
from ..schemas.errors import ReclakeError, SourceNotFoundError
from .output import Output, account, count, plain, size

LABEL = "click"
HISTORY = 128
FEATURES = ("surface", "duration_ms")
EPOCHS = 3
KUAIRAND_BATCH_ROWS = 16_384
_MARK = "demo.json"


@dataclass(slots=True)
class Demo:
    """One run of the demo: where it writes, and what it has done so far."""

    root: Path
    lake: Lake
    seed: int
    run: Run
    output: Output
    started: float = field(default_factory=time.monotonic)
    steps: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def start(cls, root: Path, *, seed: int, run: Run, output: Output) -> Demo:
        """An empty folder with a lake in it; what an earlier demo left there is removed.

        Raises:
            ReclakeError: the folder holds something else.
        """
        if root.exists() and any(root.iterdir()):
            if not (root / _MARK).is_file():
                raise ReclakeError(
                    "the folder is not empty, and not an earlier demo's",
                    where=root,
                    expected="an empty or new folder",
                    hint="choose another with --out",
                )
            shutil.rmtree(root)
        root.mkdir(parents=True, exist_ok=True)
        (root / _MARK).write_text(json.dumps({"seed": seed}))
        output.line(f"reclake demo, seed {seed}, in {root}")
        output.line()
        return cls(root, Lake.create(root / "lake", buckets=8), seed, run, output)

    @contextmanager
    def step(self, name: str) -> Iterator[Callable[..., None]]:
        """One step: the block says what it did, and a line with its seconds is printed."""
        began = time.monotonic()
        said: list[tuple[str, dict[str, Any]]] = []

        def say(text: str, **facts: Any) -> None:
            said.append((text, facts))

        yield say
        seconds = time.monotonic() - began
        facts = {key: value for _, more in said for key, value in more.items()}
        self.steps.append({"step": name, **plain(facts), "seconds": round(seconds, 3)})
        for index, (text, _) in enumerate(said):
            head = f"{name:<11}" if index == 0 else " " * 11
            self.output.line(f"{head}{text}" + (f"   {seconds:.1f} s" if index == len(said) - 1 else ""))

    def finish(self) -> None:
        """The last line, or the one object for machines."""
        seconds = time.monotonic() - self.started
        report = self.root / "report.html"
        self.output.line()
        self.output.line(f"report: {report.absolute()}")
        self.output.line(f"done in {seconds:.0f} s; look around with: reclake doctor {self.lake.catalog.root}")
        self.output.result({"steps": self.steps, "report": str(report.absolute()), "seconds": round(seconds, 3)})


def simulated(demo: Demo, *, scale: float, users: int) -> None:
    """The simulated app: events with every fault real logs have, and items with covers, clips, sounds and titles."""
    from ..pipelines.simulate import simulate

    with demo.step("simulate") as say:
        app = simulate(demo.root / "source", seed=demo.seed, scale=scale, users=users)
        say(
            f"{count(app.rows)} rows = {count(app.events)} events + {count(app.duplicates)} sent twice"
            f" + {count(sum(app.malformed.values()))} malformed; {count(app.late)} late;"
            f" {count(app.users)} users, {count(app.items)} items, {len(app.days)} days",
            rows=app.rows,
            events=app.events,
            duplicates=app.duplicates,
            malformed=sum(app.malformed.values()),
        )
    with demo.step("media") as say:
        made = demo.lake.media("short_video", app.manifest, run=demo.run)
        say(
            f"{count(made.read)} items = {count(made.admitted)} admitted + {count(made.quarantined)} quarantined"
            f" + {count(made.skipped)} skipped; {count(made.dead_letters)} dead letters   {size(made.bytes)}",
            **plain(made),
        )
    for path in app.paths:
        _ingest(demo, "events", path)
    days = [date.fromisoformat(day) for day in app.days]
    _train(demo, "short_video", days=days, test=days[-1])


def kuairand_logs(data: Path) -> list[Path]:
    """KuaiRand-Pure's logs in a folder.

    Raises:
        SourceNotFoundError: the folder does not hold them.
    """
    logs = sorted(data.glob("log_*.parquet")) or sorted(data.glob("log_*.csv"))
    if not logs:
        raise SourceNotFoundError(
            "no KuaiRand logs here",
            where=data,
            expected="log_*.parquet or log_*.csv of KuaiRand-Pure",
            got="no such folder" if not data.is_dir() else ", ".join(sorted(p.name for p in data.iterdir())[:8]),
            hint="leave --data out for the simulated app",
        )
    return logs


def kuairand(demo: Demo, logs: Sequence[Path]) -> None:
    """KuaiRand-Pure's logs, read by the mapping of the contract `kuairand`."""
    for path in logs:
        # About a batch a day, so that the quality history has a point a day.
        _ingest(demo, "kuairand", path, batch_rows=KUAIRAND_BATCH_ROWS)
    test = date(2022, 5, 7)
    days = [test - timedelta(days=back) for back in range(12, -1, -1)]
    _train(demo, "ctr", days=days, test=test)


def _ingest(demo: Demo, contract: str, path: Path, *, batch_rows: int | None = None) -> None:
    with demo.step("ingest") as say:
        result = demo.lake.ingest(contract, [path], run=demo.run, batch_rows=batch_rows)
        if result.ignored_columns:
            say(f"{path.name}: columns that the contract does not have: {', '.join(result.ignored_columns)}")
        say(f"{path.name}: {account(result)}   {size(result.bytes)}", source=path.name, **plain(result))


def _train(demo: Demo, recipe: str, *, days: Sequence[date], test: date) -> None:
    """From the ingested events to the report: the same for every data set."""
    lake, shards = demo.lake, demo.root / "shards"
    with demo.step("seal") as say:
        sealed = lake.seal(run=demo.run)
        say(f"{count(sealed.rows)} events of all users got ordinals, {len(sealed.eras)} eras", **plain(sealed))
    with demo.step("samples") as say:
        made = [lake.samples(recipe, day=day, run=demo.run) for day in days]
        labels = {name: sum(m.positives[name] for m in made) for name in made[0].positives}
        rows = sum(m.rows for m in made)
        rates = ", ".join(f"{name} {n / max(rows, 1):.1%}" for name, n in labels.items())
        say(f"{count(rows)} samples of {len(days)} days ({rates})", samples=rows, positives=labels)
    with demo.step("pin") as say:
        pin = lake.pin(f"{recipe}-{test}")
        say(f"{pin.name}: {len(pin.tables)} tables at their versions", pin=pin.name)
    with demo.step("pack") as say:
        packed = lake.pack(recipe, pin=pin.name, out=shards, history=HISTORY, run=demo.run)
        per = packed.bytes / max(packed.samples, 1)
        say(
            f"{count(packed.samples)} samples of {count(packed.users)} users, each history once,"
            f" {per:.0f} bytes a sample   {size(packed.bytes)}",
            **plain(packed),
        )
    _interrupt(demo, shards)
    _learn(demo, shards, pin.name, days=days, test=test)
    with demo.step("report") as say:
        report = lake.report(demo.root / "report.html", pin=pin.name, run=demo.run)
        say(f"{report.path}   {size(report.bytes)}", path=str(report.path), bytes=report.bytes)


def _interrupt(demo: Demo, shards: Path) -> None:
    """Kill a feed in the middle of an epoch, resume it, and hold its next batch against an uninterrupted feed's."""
    from .interruption import interrupt

    with demo.step("feed") as say:
        proof = interrupt(shards, demo.root / "feed-state.json", seed=demo.seed)
        if not proof.equal:
            raise ReclakeError(
                "the resumed feed gave another batch", where=shards, expected=proof.expected, got=proof.resumed
            )
        say(
            f"killed (SIGKILL) after batch {proof.killed_after} of {proof.batches}, resumed in a new process:"
            f" batch {proof.killed_after + 1} is equal, byte for byte ({proof.resumed[:12]})",
            **plain(proof),
        )


def _learn(demo: Demo, shards: Path, pin: str, *, days: Sequence[date], test: date) -> None:
    """Train the toy model on the days before, evaluate it and the popularity baseline on the test day.

    The days before are evaluated too, each with models of the days before it: points to hold data quality against.
    """
    import pyarrow as pa

    from ..pipelines.feed import Feed
    from ..pipelines.training import train as trainer
    from ..quality import gate
    from ..schemas import shapes

    def passes(epoch: int) -> Feed:
        return Feed(shards, batch_size=4096, seed=demo.seed, epoch=epoch)

    with demo.step("train") as say:
        trained = trainer.train(
            passes,
            label=LABEL,
            seed=demo.seed,
            epochs=EPOCHS,
            before=test,
            features=FEATURES,
            on_epoch=lambda epoch, loss: demo.run.progress("train, epoch", epoch + 1, EPOCHS),
        )
        losses = " → ".join(f"{loss:.3f}" for loss in trained.losses)
        say(f"{count(trained.samples)} samples, {EPOCHS} epochs, log loss {losses}", samples=trained.samples)
    with demo.step("evaluate") as say:
        scorers = (trained.model, trained.baseline)
        metrics = trainer.evaluate(
            passes(0), scorers, label=LABEL, first=test, last=test, run_id=demo.run.id, pin=pin, slices=("surface",)
        )
        earlier = [day for day in days[1:] if day < test][-8:]
        found = [metrics]
        for number, day in enumerate(earlier):
            demo.run.progress("evaluate earlier days", number, len(earlier))
            found.append(
                trainer.backtest(
                    passes,
                    label=LABEL,
                    seed=demo.seed,
                    epochs=1,
                    days=[day],
                    run_id=demo.run.id,
                    pin=pin,
                    features=FEATURES,
                )
            )
        rows = pa.concat_tables(found)
        demo.lake.catalog.table("metrics").append(gate.record(rows, shapes.METRICS, name="metrics"))
        auc = trainer.headline(metrics)
        shown = {name: estimate.value for name, estimate in auc.items()}
        model, baseline = auc[trained.model.name], auc[trained.baseline.name]
        say(
            f"{LABEL} on {test}: AUC {model.value:.3f} [{model.low:.3f}, {model.high:.3f}],"
            f" popularity {baseline.value:.3f} [{baseline.low:.3f}, {baseline.high:.3f}]",
            auc=shown,
        )
