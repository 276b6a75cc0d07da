"""How well the feed shuffles, beside Mosaic's py1e and py1br, and what it costs to start in the middle.

Samples are stored by user, in shards, as both would store them. Reported: the rank correlation of the order with
storage order; that of a sample with the next one; how many samples of a batch share it with another of the same user;
and the time to know where a batch is. Mosaic's formulas are those of mosaicml-streaming 0.13
(base/shuffle/py1e.py, py1br.py) for one canonical node, written out here: the same ids for the same seed.

Then a feed of ten million samples (L = 256) loads states at 1 % to 99 % of an epoch: seconds to the first batch.

    python benchmarks/order.py [--quick]
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median

import numpy as np
from compare import arguments
from synthetic import write_shards

from reclake.pipelines.feed import Feed
from reclake.pipelines.feed.order import epoch_order
from reclake.storage.shard_manifest import read_manifest, write_manifest

BATCH = 4096
CHUNK = 6144  # samples, as ShardWriter cuts them
MOSAIC_SHARD = 15_000  # samples in 64 MB of fat rows at L = 256
FINGERPRINT = "00112233445566778899aabbccddeeff"

Order = np.ndarray


def sizes(samples: int, each: int) -> Order:
    whole, rest = divmod(samples, each)
    return np.array([each] * whole + [rest] * (rest > 0))


def ours(samples: int, seed: int, pool: int) -> Order:
    chunks = sizes(samples, CHUNK)
    order = epoch_order(
        chunks, chunks, fingerprint=FINGERPRINT, seed=seed, epoch=0, pool_samples=pool, pool_events=1 << 62
    )
    first = np.concatenate([[0], np.cumsum(chunks)])
    pools = []
    for number in range(order.pools):
        laid_out = np.concatenate([np.arange(first[c], first[c + 1]) for c in order.chunks_of(number)])
        pools.append(laid_out[order.within(number)])
    return np.concatenate(pools)


def _shuffled_spans(samples: int, seed: int) -> tuple[list[tuple[int, int]], np.random.Generator]:
    ends = np.cumsum(sizes(samples, MOSAIC_SHARD)).tolist()
    spans = list(zip([0, *ends[:-1]], ends, strict=True))
    np.random.default_rng(seed).shuffle(spans)
    rng = np.random.default_rng(seed)
    part = spans[:]
    rng.shuffle(part)
    return part, rng


def py1e(samples: int, seed: int, block: int) -> Order:
    spans, rng = _shuffled_spans(samples, seed)
    ids = []
    for begin, end in spans:
        own = np.arange(begin, end)
        rng.shuffle(own)
        ids.append(own)
    positions = np.arange(samples).astype(np.float64)
    at = 0
    for begin, end in spans:
        size = end - begin
        cutoff = max(0.0, (rng.integers(int(0.75 * block), int(1.25 * block)) - size) / 2)
        lower, upper = max(-cutoff, -at), min(cutoff, samples - at - size)
        positions[at : at + size] += rng.uniform(low=lower, high=upper, size=size)
        at += size
    return np.concatenate(ids)[np.argsort(positions, kind="stable")]


def py1br(samples: int, seed: int, block: int) -> Order:
    spans, rng = _shuffled_spans(samples, seed)
    ids = np.concatenate([np.arange(begin, end) for begin, end in spans])
    stagger = int(rng.integers(0, int(0.75 * block), (1,))[0])
    at, ranges = 0, []
    while at < samples:
        size = int(rng.integers(int(0.75 * block), int(1.25 * block)))
        begin, end = max(at - stagger, 0), min(at + size - stagger, samples)
        ranges.append((begin, end))
        at += end - begin
    for begin, end in ranges:
        rng.shuffle(ids[begin:end])
    return ids


def perfect(samples: int, seed: int) -> Order:
    return np.random.default_rng(seed).permutation(samples)


def quality(order: Order, per_user: int) -> tuple[float, float, float]:
    """(rank correlation with storage, of neighbours, share of a batch's samples that share it with their user)."""
    whole = len(order) // BATCH * BATCH
    users = np.sort(order[:whole].reshape(-1, BATCH) // per_user, axis=1)
    same = users[:, 1:] == users[:, :-1]
    shared = np.zeros(users.shape, dtype=bool)
    shared[:, 1:] |= same
    shared[:, :-1] |= same
    storage = np.corrcoef(order, np.arange(len(order)))[0, 1]
    neighbours = np.corrcoef(order[:-1], order[1:])[0, 1]
    return float(storage), float(neighbours), float(shared.mean())


def shuffles(samples: int, per_user: int, seeds: int) -> None:
    contenders: dict[str, Callable[[int], Order]] = {
        "reclake, pool 131,072": lambda seed: ours(samples, seed, 1 << 17),
        "reclake, pool 262,144": lambda seed: ours(samples, seed, 1 << 18),
        "py1e, block 262,144": lambda seed: py1e(samples, seed, 1 << 18),
        "py1br, block 262,144": lambda seed: py1br(samples, seed, 1 << 18),
        "a perfect shuffle": lambda seed: perfect(samples, seed),
    }
    print(f"{samples:,} samples, {per_user} a user, batches of {BATCH:,}; medians of absolutes over {seeds} seeds")
    print(f"{'':24} {'with storage':>13} {'neighbours':>11} {'share a batch':>14}")
    for name, make in contenders.items():
        found = [quality(make(seed), per_user) for seed in range(seeds)]
        storage, neighbours, shared = (median(abs(each[i]) for each in found) for i in range(3))
        print(f"{name:24} {storage:13.4f} {neighbours:11.4f} {shared:14.2%}")


def starts(samples: int) -> None:
    """Time to know where the batch at 99 % of an epoch is."""
    chunks = sizes(samples, CHUNK)
    at = samples * 99 // 100

    def locate() -> None:
        order = epoch_order(
            chunks, chunks, fingerprint=FINGERPRINT, seed=7, epoch=0, pool_samples=1 << 17, pool_events=1 << 62
        )
        for piece in order.pieces(at, at + BATCH):
            order.within(piece.pool)[piece.begin : piece.end]

    mosaic = {"py1e": py1e, "py1br": py1br}
    print(f"to know the batch at 99 % of {samples:,} samples, ms:", end="")
    for name in ("reclake", *mosaic):
        began = time.perf_counter()
        if name in mosaic:
            mosaic[name](samples, 7, 1 << 18)
        else:
            locate()
        print(f"  {name} {1e3 * (time.perf_counter() - began):,.0f}", end="")
    print()


def resumes(folder: Path, users: int, copies: int) -> None:
    """Seconds from a state to its first batch, anywhere in an epoch of copies of one set's shards."""
    write_shards(folder / "one", users, 15, 256)
    many = folder / "many"
    many.mkdir()
    manifest = read_manifest(folder / "one")
    shards = []
    for number in range(copies):
        for shard in manifest.shards:
            name = f"{number:03}-{shard.file}"
            (many / name).hardlink_to(folder / "one" / shard.file)
            shards.append(replace(shard, file=name))
    shutil.copy(folder / "one" / "items.parquet", many)
    write_manifest(many, replace(manifest, shards=tuple(shards)))
    feed = Feed(many, batch_size=BATCH, seed=7, workers=2)
    state = feed.state_dict()
    seconds: dict[int, list[float]] = {percent: [] for percent in (1, 25, 50, 75, 99)}
    for _ in range(4):
        for percent, taken in seconds.items():
            began = time.perf_counter()
            resumed = Feed(many, batch_size=BATCH, seed=7, workers=2)
            resumed.load_state_dict(state | {"position": feed.samples * percent // 100 // BATCH * BATCH})
            next(iter(resumed))
            taken.append(time.perf_counter() - began)
    told = ", ".join(f"{percent} %: {median(taken[1:]):.2f} s" for percent, taken in seconds.items())
    print(f"\n{feed.samples:,} samples, L = 256: open, load a state, first batch: {told}")


def main() -> None:
    given = arguments(__doc__ or "")
    samples, seeds, users, copies = (1_000_000, 3, 4_000, 10) if given.quick else (10_000_000, 3, 33_400, 20)
    for per_user in (15, 100):
        shuffles(samples, per_user, seeds)
    starts(samples)
    folder = Path(tempfile.mkdtemp(prefix="reclake-order-"))
    try:
        resumes(folder, users, copies)
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
