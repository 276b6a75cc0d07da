"""Gathering history windows: many slices of arrays, one after the other, at the speed of memory copies."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

try:
    from ._copy import copy_windows
except ImportError:  # installed where there was no compiler
    copy_windows = None  # type: ignore[assignment]

Array = npt.NDArray[Any]
Int64s = npt.NDArray[np.int64]

# Binary views point into a buffer by 32 bits: an array of more bytes than this is several buffers of one memory.
_REACH = 1 << 30
# Values of so many bytes or fewer stand in the view itself.
_INLINE = 12


Lend = Callable[[int, np.dtype[Any]], Array]
Parts = Sequence[tuple[Array, Int64s, Int64s]]


def gather_windows(parts: Parts, lend: Lend) -> Array:
    """Of each part (source, starts, lengths) the windows source[start : start + length], all one after the other.

    By a compiled loop into memory that `lend` gives; where that was not compiled, by Arrow: the same values.

    Args:
        parts: one or more, their sources (N,) contiguous and of one type; a window has less than a GiB.
        lend: gives uninitialised memory for so many values of a type.
    """
    return by_arrow(parts) if copy_windows is None else by_loop(parts, lend)


def by_loop(parts: Parts, lend: Lend) -> Array:
    """As `gather_windows`, by `_copy.c`."""
    assert copy_windows is not None
    dtype = parts[0][0].dtype
    counts = [int(lengths.sum()) for _, _, lengths in parts]
    out, at = lend(sum(counts), dtype), 0
    for (source, starts, lengths), count in zip(parts, counts, strict=True):
        copy_windows(source, starts, lengths, dtype.itemsize, out, at * dtype.itemsize)
        at += count
    return out


def by_arrow(parts: Parts) -> Array:
    """As `gather_windows`, by Arrow alone.

    A window is a value of a binary view array, where values may lie in any order and overlap, and its cast to a binary
    array copies each with one memcpy. NumPy takes half as long again: it has no way to copy blocks of differing
    lengths at once.
    """
    dtype = parts[0][0].dtype
    views: list[npt.NDArray[np.int32]] = []
    buffers: list[pa.Buffer] = []
    for source, starts, lengths in parts:
        views.append(_views(source, starts, lengths, first_buffer=len(buffers)))
        raw = source.view(np.uint8)
        buffers += [pa.py_buffer(raw[at:]) for at in range(0, max(1, len(raw)), _REACH)]
    every = np.concatenate(views)
    windows = pa.Array.from_buffers(pa.binary_view(), len(every), [None, pa.py_buffer(every), *buffers])
    count = sum(int(lengths.sum()) for _, _, lengths in parts)
    if count == 0:  # Arrow may give a buffer all the same, and what is in it is nothing
        return np.empty(0, dtype=dtype)
    return np.frombuffer(windows.cast(pa.large_binary()).buffers()[2], dtype=dtype, count=count)


def _views(source: Array, starts: Int64s, lengths: Int64s, *, first_buffer: int) -> npt.NDArray[np.int32]:
    """(B, 4) as the Arrow format has it: the length in bytes, then the value itself or its prefix, buffer and offset.

    The prefix is there to compare values, which nobody does here, and stays 0.
    """
    width = source.itemsize
    views = np.zeros((len(starts), 4), dtype=np.int32)
    views[:, 0] = lengths * width
    views[:, 2] = first_buffer + starts * width // _REACH
    views[:, 3] = starts * width % _REACH
    short = np.flatnonzero(lengths <= _INLINE // width)
    if len(short):
        places = np.arange(_INLINE // width)
        inside = places < lengths[short, None]
        values = np.zeros(inside.shape, dtype=source.dtype)
        values[inside] = source[(starts[short, None] + places)[inside]]
        inline = np.zeros((len(short), 3), dtype=np.int32)
        inline[:, : values.nbytes // (4 * len(short))] = values.view(np.int32)
        views[short, 1:] = inline
    return views


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
