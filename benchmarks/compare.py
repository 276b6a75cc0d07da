"""What every benchmark here does: run ours and the peers in turn, several rounds, and print medians and ratios."""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Mapping


def arguments(about: str) -> argparse.Namespace:
    """--quick for small data and fewer rounds."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--quick", action="store_true", help="small data, fewer rounds")
    return parser.parse_args()


def in_turn(contenders: Mapping[str, Callable[[], object]], *, rounds: int) -> dict[str, list[float]]:
    """Seconds of each contender, round by round, A B C A B C …: a machine that drifts drifts for all of them."""
    for run in contenders.values():
        run()  # the first time pays for imports and cold caches
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            began = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - began)
    return seconds


def report(title: str, seconds: Mapping[str, list[float]], *, rows: int, unit: str = "rows") -> None:
    """A line each: median seconds, rows a second, and how many times as long as the first (ours) it took."""
    ours = next(iter(seconds))
    print(f"\n{title} ({os.cpu_count()} cores, {len(seconds[ours])} rounds)")
    print(f"  {'':<34}{'median s':>10}{'M ' + unit + '/s':>14}{'against ' + ours:>22}")
    for name, times in seconds.items():
        median = statistics.median(times)
        pairs = statistics.median(theirs / mine for theirs, mine in zip(times, seconds[ours], strict=True))
        ratio = "" if name == ours else f"{pairs:.2f}x the time"
        print(f"  {name:<34}{median:>10.3f}{rows / median / 1e6:>14.2f}{ratio:>22}")
