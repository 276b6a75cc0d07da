"""Every error reclake raises: what happened, where, what was expected, what was found, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self


class ReclakeError(Exception):
    """Base of all errors a user may see.

    `what` is one sentence; the other parts are optional and are printed as one labelled line each. Without a `hint` the
    advice of the class stands.
    """

    advice: str | None = None

    def __init__(
        self,
        what: str,
        *,
        where: object = None,
        expected: object = None,
        got: object = None,
        hint: str | None = None,
    ) -> None:
        self.what = what
        self.where = None if where is None else str(where)
        self.expected = None if expected is None else str(expected)
        self.got = None if got is None else str(got)
        self.hint = hint
        super().__init__(self.what)

    def parts(self) -> dict[str, str]:
        """The labelled parts that are present, in reading order; `what` comes first."""
        named = {
            "what": self.what,
            "where": self.where,
            "expected": self.expected,
            "got": self.got,
            "what to do": self.hint or self.advice,
        }
        return {label: text for label, text in named.items() if text is not None}

    def facts(self) -> dict[str, Any]:
        """The parts as JSON values, and what else an error of its class knows."""
        return {**self.parts()}

    def within(self, place: object) -> Self:
        """This error, said to be at a place that whoever raised it did not know."""
        self.where = str(place) if self.where is None else f"{place}, {self.where}"
        return self

    def __str__(self) -> str:
        lines = [self.what]
        lines += [f"  {label}: {text}" for label, text in self.parts().items() if label != "what"]
        return "\n".join(lines)


class UsageError(ReclakeError, ValueError):
    """A command was given arguments that it does not take."""


class LakeNotFoundError(ReclakeError, FileNotFoundError):
    """The path holds no lake."""


class LakeExistsError(ReclakeError, FileExistsError):
    """A lake is already there, with other settings."""


class StorageError(ReclakeError, OSError):
    """The storage refused: disk full, no permission, read-only, unreachable."""


class UnknownOutcomeError(StorageError):
    """An object store did not say whether it carried out a write."""


class CommitConflictError(ReclakeError, RuntimeError):
    """Another process committed first, and this commit no longer holds."""


class LakeBusyError(ReclakeError, RuntimeError):
    """Another process does something to the lake that this command must not run beside."""


class ErasureError(ReclakeError, ValueError):
    """An erasure request is malformed, or cannot be carried out now."""

    advice = "ask again with the ids as the lake's tables have them: nothing was put on record"


class ContractError(ReclakeError, ValueError):
    """A contract is malformed, unknown, or changed in a way its readers cannot follow."""

    advice = "mend the contract's files, then add it again"


class PiiKeyError(ReclakeError, ValueError):
    """The key that pseudonyms are made with is missing, malformed, or not the one that was used before."""

    advice = (
        'export RECLAKE_PII_KEY="main:$(openssl rand -hex 32)" and keep it as a secret,'
        " or name a file of it in RECLAKE_PII_KEY_FILE"
    )


class MappingError(ContractError):
    """A contract's mapping names a column or an expression that does not resolve."""

    advice = "mend the mapping in NAME.contract.json, then add the contract again"


class SourceNotFoundError(ReclakeError, FileNotFoundError):
    """A source path does not exist or holds nothing that can be ingested."""


class SourceError(ReclakeError, ValueError):
    """A source cannot be read as what it claims to be."""

    advice = "mend the file, then run the same command again"


class GateError(ReclakeError, ValueError):
    """A critical check failed: nothing of the batch was written.

    `table` has the unmet checks as lines of text, `findings` as objects: see quality.findings.Finding.
    """

    def __init__(
        self, what: str, *, table: Sequence[str] = (), findings: Sequence[Mapping[str, Any]] = (), **parts: Any
    ) -> None:
        super().__init__(what, **parts)
        self.table = tuple(table)
        self.findings = tuple(findings)

    def facts(self) -> dict[str, Any]:
        return {**super().facts(), "findings": [dict(one) for one in self.findings]}

    def __str__(self) -> str:
        return "\n".join([super().__str__(), *([""] if self.table else []), *[f"  {line}" for line in self.table]])


class SuiteError(ReclakeError, ValueError):
    """A Great Expectations suite is malformed or holds an expectation that cannot be evaluated."""

    advice = "mend NAME.suite.json, then add the contract again"


class SealError(ReclakeError, ValueError):
    """A span cannot be sealed now."""


class RecipeError(ReclakeError, ValueError):
    """A recipe is malformed or unknown."""

    advice = "mend the recipe's file, or choose another recipe"


class SamplesError(ReclakeError, ValueError):
    """Samples cannot be assembled for the day that was asked for."""


class PinError(ReclakeError, ValueError):
    """A pin is unknown, taken, or names data that is gone."""


class PlanError(ReclakeError, ValueError):
    """A media plan is malformed or names an unknown operator."""

    advice = "mend the plan's file, or choose another plan"


class OperatorError(ReclakeError, ValueError):
    """An operator was given something it cannot process."""


class ShardError(ReclakeError, ValueError):
    """A shard or its manifest is missing, truncated or not what the manifest says."""


class FeedError(ReclakeError, ValueError):
    """A feed was asked for something it cannot give."""


class FeedStateError(FeedError):
    """A feed's saved state belongs to other shards, another seed or another batch layout."""


class EngineError(ReclakeError, RuntimeError):
    """An engine is unknown, not installed, or could not start."""


class MissingExtraError(ReclakeError, ImportError):
    """An optional dependency is needed and not installed."""


class TaskError(ReclakeError, RuntimeError):
    """A task of a DAG is unknown or failed."""
