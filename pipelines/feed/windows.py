"""Gathering history windows: many slices of one array, one after the other, at the speed of memory copies."""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Int64s = npt.NDArray[np.int64]

# Blocks pass through a temporary of this many bytes: small enough to stay in a core's cache, large enough that the
# Python loop around it does not show.
_STEP_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class WindowPlan:
    """How to copy B windows: lists of equal blocks (length, where from, where to), the same for every field."""

    offsets: Int64s  # (B+1,) of the windows in the output
    blocks: tuple[tuple[int, Int64s, Int64s], ...]


def plan_windows(starts: Int64s, lengths: Int64s, *, offset: int = 0) -> WindowPlan:
    """The plan that copies source[starts[i] : starts[i] + lengths[i]] one after the other, from `offset` of the output.

    NumPy copies blocks of one length several times faster than it gathers elements. A window of n elements is exactly
    covered by two blocks of the largest power of two that fits, one at its start, one at its end, overlapping, as
    memcpy does it; the windows of the greatest length, commonly most of them, are one block each.
    """
    offsets = np.empty(len(lengths) + 1, dtype=np.int64)
    offsets[0] = offset
    np.cumsum(lengths, out=offsets[1:])
    offsets[1:] += offset
    targets = offsets[:-1]
    longest = int(lengths.max(initial=0))
    blocks = []
    whole = lengths == longest
    if longest:
        blocks.append((longest, starts[whole], targets[whole]))
    exponent = np.frexp(lengths.astype(np.float64))[1]  # n is in [2^(e-1), 2^e)
    exponent[whole] = 0
    for e in range(1, longest.bit_length() + 1):
        chosen = np.flatnonzero(exponent == e)
        if len(chosen):
            block = 1 << (e - 1)
            start, target, rest = starts[chosen], targets[chosen], lengths[chosen] - block
            blocks.append((block, np.concatenate([start, start + rest]), np.concatenate([target, target + rest])))
    return WindowPlan(offsets, tuple(blocks))


def copy_windows(source: Array, plan: WindowPlan, out: Array) -> None:
    """Copy the windows of a plan from `source` (N,) into `out` (at least plan.offsets[-1],), both contiguous."""
    for block, starts, targets in plan.blocks:
        take, put = _blocks(source, block), _blocks(out, block)
        step = max(1, _STEP_BYTES // (block * source.itemsize))
        for at in range(0, len(starts), step):
            put[targets[at : at + step]] = take[starts[at : at + step]]


def _blocks(array: Array, length: int) -> Array:
    """(N - length + 1,): every run of `length` elements as one opaque item, overlapping; a view."""
    return np.ndarray(
        shape=(len(array) - length + 1,),
        dtype=np.dtype((np.void, length * array.itemsize)),
        buffer=array,
        strides=(array.itemsize,),
    )


class Buffers:
    """Lends arrays on memory that is used again once nothing refers to it: fresh pages cost as much as the gather.

    A lent array owns its memory as long as it, a view of it, or a tensor on it lives; only then is it lent again.
    """

    def __init__(self, kept: int = 24) -> None:
        self._kept = kept
        self._free: list[npt.NDArray[np.uint8]] = []
        # Reentrant: a garbage collection inside `lend` may run `_give_back` on the same thread.
        self._lock = threading.RLock()

    def lend(self, n: int, dtype: np.dtype[Any]) -> Array:
        """(n,) uninitialised."""
        need = max(64, n * dtype.itemsize)
        with self._lock:
            fitting = [i for i, memory in enumerate(self._free) if need <= len(memory) <= 4 * need]
            best = min(fitting, key=lambda i: len(self._free[i]), default=None)
            memory = None if best is None else self._free.pop(best)
        if memory is None:
            # An eighth of the next power of two: windows of later batches, a little longer, still fit.
            grain = max(4096, 1 << (need.bit_length() - 3))
            memory = np.empty(-(-need // grain) * grain, dtype=np.uint8)
        # Over a memoryview NumPy does not collapse the chain of bases: views of `lent` keep `lent` alive.
        lent: Array = np.frombuffer(memory.data, dtype=dtype, count=n)
        weakref.finalize(lent, self._give_back, memory).atexit = False
        return lent

    def _give_back(self, memory: npt.NDArray[np.uint8]) -> None:
        with self._lock:
            self._free.append(memory)
            del self._free[: -self._kept]
