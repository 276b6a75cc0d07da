"""What a command prints: a line a step for people, one object for machines, progress where it takes long."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, is_dataclass
from typing import TYPE_CHECKING, Any

from ..pipelines.run import Run
from ..schemas.errors import ReclakeError

if TYPE_CHECKING:
    from ..quality.findings import Finding

_SHOW_AFTER_S = 1.0
_PLAIN_EVERY_S = 5.0
_FINDINGS_MAX = 12
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\n\t"}


@dataclass(frozen=True, slots=True)
class Output:
    """Lines go to stdout, progress and errors to stderr; with `machine` stdout holds one JSON object alone."""

    machine: bool = False

    def line(self, text: str = "") -> None:
        """A line for people."""
        if not self.machine:
            print(shown(text), flush=True)

    def table(self, title: str, columns: list[str], rows: list[list[object]]) -> None:
        """A table for people."""
        if self.machine:
            return
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(title=Text(title) if title else None, title_justify="left", header_style="bold")
        for name in columns:
            table.add_column(Text(name), overflow="fold")
        for row in rows:
            # A Text is shown as it is; of a str, what looks like Rich's markup, such as the [a-z] of a regex, is not.
            table.add_row(*[Text("" if cell is None else shown(str(cell))) for cell in row])
        # A pipe has no width of its own, and a folded table is no use to grep.
        Console(width=None if sys.stdout.isatty() else 160).print(table)

    def findings(self, found: Sequence[Finding]) -> None:
        """What a gate found, for people: one short table, or nothing."""
        if found and not self.machine:
            from ..quality.findings import HEADS

            self.table("not as expected", list(HEADS), [list(one.line) for one in found[:_FINDINGS_MAX]])

    def result(self, value: object) -> None:
        """The one object for machines."""
        if self.machine:
            print(json.dumps(plain(value), default=str), flush=True)

    def error(self, error: ReclakeError) -> None:
        """What went wrong, in labelled lines on stderr (an object with --json)."""
        if self.machine:
            print(json.dumps({"error": {"type": type(error).__name__} | error.facts()}), flush=True)
        print(shown(f"error: {error}"), file=sys.stderr)

    @contextmanager
    def running(self) -> Iterator[Run]:
        """A run whose progress is shown once it takes longer than a second."""
        with _Progress(enabled=not self.machine) as progress:
            yield Run(progress=progress.update)


class _Progress:
    """A bar on a terminal, now and then a line elsewhere."""

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled
        self._bar: Any = None
        self._task: Any = None
        self._started = self._last = time.monotonic()

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, step: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        if not self._enabled or now - self._started < _SHOW_AFTER_S:
            return
        if total is not None and done >= total:
            self.__exit__()  # the next step begins with a bar of its own
            self._bar = None
            return
        if not sys.stderr.isatty():
            if now - self._last >= _PLAIN_EVERY_S:
                self._last = now
                print(f"  … {step}: {done:,}{'' if total is None else f' of {total:,}'}", file=sys.stderr, flush=True)
            return
        if self._bar is None:
            self._bar, self._task = _bar()
        described = step if total is not None else f"{step} {done:,}"
        self._bar.update(self._task, description=described, completed=done, total=total)


def _bar() -> tuple[Any, Any]:
    from rich.console import Console
    from rich.progress import Progress

    bar = Progress(console=Console(stderr=True), transient=True)
    bar.start()
    return bar, bar.add_task("", total=None)


def plain(value: object) -> Any:
    """Dataclasses, mappings and sequences as JSON values."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def shown(text: str) -> str:
    """A text in which values of data stand, without what a terminal would obey: control characters as \\x1b."""
    return text.translate(_CONTROLS)


def count(number: int) -> str:
    """228,329."""
    return f"{number:,}"


def size(number: float) -> str:
    """6.8 MB."""
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"


def account(result: Any) -> str:
    """The law in one line: rows → read = admitted + quarantined + duplicates."""
    return (
        f"{count(result.rows)} rows → {count(result.read)} events = {count(result.admitted)} admitted"
        f" + {count(result.quarantined)} quarantined + {count(result.duplicates)} duplicates"
    )
