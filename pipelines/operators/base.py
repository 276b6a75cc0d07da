"""What an operator is: columns in, columns out, the resources it wants, and failures that are rows.

An operator is a kernel: a function of its batch alone, no clock and no files. One item that it cannot read costs that
item that operator's outputs, and nothing else: the outputs are null, and a Failure says which input and why.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, ClassVar, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ...schemas.errors import MissingExtraError, OperatorError
from ...schemas.plan import Input, Signature

Floats = npt.NDArray[np.float32]
T = TypeVar("T")

EMBEDDING = pa.list_(pa.float32())
FRAMES = pa.list_(pa.binary())


@dataclass(frozen=True, slots=True)
class Resources:
    """What one worker of an operator wants. `num_gpus` is asked for only where the cluster has one."""

    num_cpus: float
    num_gpus: float
    memory_bytes: int
    batch_size: int  # items in one call


@dataclass(frozen=True, slots=True)
class Failure:
    """An item that an operator could not read: the row of the batch, which input, and why."""

    row: int
    input: str
    reason: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """`outputs` has a row for each row of the batch, null where the input was null or is among the failures."""

    outputs: pa.Table
    failures: tuple[Failure, ...]


class Operator(ABC):
    """One media step. Making one is cheap; `setup` loads what is heavy, once in each worker."""

    name: ClassVar[str]
    version: ClassVar[str]
    inputs: ClassVar[tuple[Input, ...]]
    outputs: ClassVar[tuple[pa.Field, ...]]
    resources: ClassVar[Resources]
    needs: ClassVar[tuple[str, ...]] = ()  # modules beyond what reclake always installs
    extra: ClassVar[str] = "media"  # the extra of reclake that installs them
    holds_model: ClassVar[bool] = False  # weights that are worth keeping loaded between batches

    @classmethod
    def signature(cls) -> Signature:
        return Signature(cls.name, cls.version, cls.inputs, cls.outputs)

    @classmethod
    def require(cls) -> None:
        """Refuse early, without loading anything.

        Raises:
            MissingExtraError: something that it needs is not installed.
        """
        missing = [module for module in cls.needs if find_spec(module) is None]
        if missing:
            raise MissingExtraError(
                f"the operator {cls.name} needs packages that are not installed",
                expected=", ".join(cls.needs),
                got="no " + ", ".join(missing),
                hint=f"pip install 'reclake[{cls.extra}]'",
            )

    def setup(self) -> None:  # noqa: B027 -- most operators have nothing to load
        """Load weights; nothing, where there are none."""

    @abstractmethod
    def __call__(self, batch: pa.Table) -> Outcome:
        """The outputs of a batch that has the operator's inputs as columns."""


def each(
    column: pa.ChunkedArray, function: Callable[[Any], T], *, input: str
) -> tuple[list[int], list[T], tuple[Failure, ...]]:
    """`function` of every value that is not null: the rows that worked, what they gave, and the others as failures.

    A decoder raises what it likes at bytes that a stranger made (Pillow alone: OSError, SyntaxError, struct.error …).
    Whatever it raises becomes this item's failure, with its words; the batch goes on.
    """
    rows: list[int] = []
    values: list[T] = []
    failures: list[Failure] = []
    for row, value in enumerate(column.to_pylist()):
        if value is None:
            continue
        try:
            values.append(function(value))
            rows.append(row)
        except Exception as error:  # noqa: BLE001 -- kept as the item's dead letter, never dropped
            failures.append(Failure(row, input, reason_of(error)))
    return rows, values, tuple(failures)


def reason_of(error: Exception) -> str:
    """One line that says what went wrong."""
    if isinstance(error, OperatorError):
        got = f" (expected {error.expected}, got {error.got})" if error.got is not None else ""
        return error.what + got
    text = " ".join(str(error).split()) or "no message"
    return f"{type(error).__name__}: {text}"[:500]


def scatter(rows: Sequence[int], vectors: Floats, count: int) -> pa.Array:
    """Vectors as a list column of `count` rows, null where no row has one."""
    place = np.full(count, -1, dtype=np.int64)
    place[list(rows)] = np.arange(len(rows))
    width = vectors.shape[1] if vectors.ndim == 2 else 0
    offsets = np.arange(len(rows) + 1, dtype=np.int32) * width
    lists = pa.ListArray.from_arrays(pa.array(offsets), pa.array(vectors.reshape(-1), type=pa.float32()))
    return lists.take(pa.array(place, mask=place < 0))


def normalised(vectors: Floats) -> Floats:
    """Every row at Euclidean length 1; a row of zeros stays zeros."""
    length = np.sqrt((vectors.astype(np.float64) ** 2).sum(axis=1, keepdims=True))
    return (vectors / np.where(length > 0, length, 1.0)).astype(np.float32)
