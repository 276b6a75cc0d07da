"""Piecewise: a batch that is judged as one though no more than a piece of it is in memory at a time.

The answer is that of `gate.admit` for all of its rows: checks, counts, which rows are rejected and why. What a check of
rows says of a piece is kept: which rows fail it, and with what. Of checks that look at rows together (is there another
of the same?) the columns they look at are kept, of checks of the batch nothing: they read the rows once more, lazily.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from . import gate
from .audit import asked_of_all
from .conform import check_shape
from .expectation import RowCheck
from .judging import judge
from .reasons import missing, texts
from .suite import Answers, CompiledSuite


@dataclass(slots=True)
class _Seen:
    """What a check of rows saw so far: rows of the batch that fail it, and what was found in each."""

    evaluated: int = 0
    failing: list[np.ndarray] = field(default_factory=lambda: [np.empty(0, np.uint32)])
    found: list[pl.Series] = field(default_factory=lambda: [pl.Series("got", [], pl.String)])
    error: str | None = None

    def answers(self, place: int) -> dict[str, Any]:
        """As CompiledSuite.run gives them for all rows."""
        if self.error is not None:
            return {f"{place}.error": self.error}
        rows, found = np.concatenate(self.failing), pl.concat(self.found)
        return {f"{place}.evaluated": self.evaluated, f"{place}.fails": rows, f"{place}.seen": found}


class Piecewise:
    """Looks at the pieces of one batch, one after another, and answers at the end."""

    def __init__(self, suite: CompiledSuite, schema: pa.Schema, *, contract: str) -> None:
        self._suite, self._schema, self._contract = suite, schema, contract
        of_rows = {i: check for i, check in enumerate(suite.checks) if isinstance(check, RowCheck)}
        self._alone = [i for i, check in of_rows.items() if not check.together]
        self._together = [i for i, check in of_rows.items() if check.together]
        self._of_alone, self._of_together = suite.only(self._alone), suite.only(self._together)
        self._seen = {i: _Seen() for i in of_rows}
        self._kept: list[pa.Table] = []
        self._nulls: dict[str, list[np.ndarray]] = {}
        self._rows = 0

    @property
    def rereads(self) -> bool:
        """Whether `judge` reads the rows once more."""
        return len(self._seen) < len(self._suite.checks)

    def look(self, piece: pa.Table) -> None:
        """Look at the next rows of the batch.

        Raises:
            GateError: they have other columns or types than the schema.
        """
        check_shape(piece, self._schema, self._contract)
        for path, at in missing(piece, self._schema):
            self._nulls.setdefault(path, []).append(at + np.uint32(self._rows))
        self._add(self._of_alone, self._alone, piece, self._rows)
        if self._together:
            self._kept.append(piece.select(list(self._of_together.columns)))
        self._rows += piece.num_rows

    def judge(
        self,
        rows: pl.LazyFrame,
        *,
        contract_version: int,
        verdict_id: str,
        quarantine_limit: float = 1.0,
        quarantine_limit_rows: int | None = None,
    ) -> gate.Admission:
        """The answer for the batch. `rows` are all of its rows, read for checks of the batch alone; see `rereads`.

        `rejected` says rows of the batch, over all pieces; the rows that are admitted are not in it.
        """
        if self._together:
            self._add(self._of_together, self._together, pa.concat_tables(self._kept), 0)
        of_batch = {i: check for i, check in enumerate(self._suite.checks) if i not in self._seen}
        answers = asked_of_all(of_batch, rows)
        for place, seen in self._seen.items():
            answers |= seen.answers(place)
        nulls = [(path, np.concatenate(at)) for path, at in self._nulls.items()]
        every_row = pl.int_range(self._rows, eager=True).to_frame()
        judged = judge(self._suite, Answers(answers, every_row), nulls, ())
        failures = {
            key: failure if isinstance(key, str) else replace(failure, seen=answers[f"{key}.seen"])
            for key, failure in judged.failures.items()
        }
        return gate.admit_pieces(
            replace(judged, failures=failures),
            self._rows,
            self._schema,
            contract=self._contract,
            contract_version=contract_version,
            verdict_id=verdict_id,
            quarantine_limit=quarantine_limit,
            quarantine_limit_rows=quarantine_limit_rows,
        )

    def _add(self, suite: CompiledSuite, places: Sequence[int], rows: pa.Table, first: int) -> None:
        """What checks saw in rows that begin at row `first` of the batch."""
        asked = suite.run(rows)
        answers = asked.found
        for number, place in enumerate(places):
            seen = self._seen[place]
            if f"{number}.error" in answers:
                seen.error = seen.error or str(answers[f"{number}.error"])
                continue
            failing = np.asarray(answers[f"{number}.fails"])
            seen.evaluated += int(answers[f"{number}.evaluated"])
            if len(failing):
                seen.failing.append(failing + np.uint32(first))
                check = suite.checks[number]
                assert isinstance(check, RowCheck)
                seen.found.append(texts(asked.frame, check.got, failing))
