"""The feed beside what else feeds a trainer: the same samples and fields in batches of 4,096, as NumPy columns.

Every contender runs in processes of its own, in turn. After a first epoch it is measured over whole epochs, for a
second or more: samples, events and bytes a second, processor time with that of its workers, and the peak memory of it
and of its greatest worker. Processor time depends little on what else the machine does, samples a second much. Fat rows
are what a user would write instead: one row a sample with its history as list columns, shuffled when written, zstd.
Peers that are not installed are left out, with a word. The last line is a plain copy of the same bytes: the limit.

    pip install webdataset datasets torchdata mosaicml-streaming
    python benchmarks/feed.py [--quick] [--users N] [--samples-per-user N] [--length L] [--rounds N] [--cold]
                              [--only NAME ...]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from synthetic import BATCH, HISTORY, write_fat, write_shards

from reclake.pipelines.feed import Feed, windows
from reclake.pipelines.feed.order import permutation
from reclake.storage import shard_pages

POOL = 65_536  # samples that peers with a buffer shuffle among each other
Columns = dict[str, Any]


@cache
def opened(shards: Path, workers: int) -> Feed:
    """One feed for all epochs, as trainers have it: it uses the memory of batches again."""
    return Feed(shards, batch_size=BATCH, seed=7, workers=workers)


def feed(shards: Path, workers: int) -> Iterator[Columns]:
    for batch in opened(shards, workers):
        history = {f"history_{name}": jagged.values for name, jagged in batch.history.items()}
        yield {name: batch[name] for name in batch.keys()} | history  # noqa: SIM118 -- a batch is no mapping


def feed_not_compiled(folder: Path) -> Iterator[Columns]:
    """As it is installed where there is no compiler."""
    windows.copy_windows = shard_pages.page = None  # type: ignore[assignment]
    yield from feed(folder / "shards", 2)


def columns_of(rows: pa.RecordBatch | pa.Table) -> Columns:
    """Columns as NumPy, lists as their values."""
    found = {}
    for name, column in zip(rows.schema.names, rows.columns, strict=True):
        column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
        found[name] = (column.flatten() if name.startswith("history_") else column).to_numpy(zero_copy_only=False)
    return found


def fat_rows(folder: Path, seed: int = 7) -> Iterator[Columns]:
    """Shuffled when written; the row groups in a shuffled order, and nothing else."""
    file = pq.ParquetFile(folder / "fat.parquet", memory_map=True)
    groups = permutation(file.metadata.num_row_groups, seed).tolist()
    for batch in file.iter_batches(batch_size=BATCH, row_groups=groups, use_threads=True):
        yield columns_of(batch)


def fat_rows_shuffled(folder: Path) -> Iterator[Columns]:
    """The row groups in a shuffled order, and the rows of some among each other."""
    file = pq.ParquetFile(folder / "fat.parquet", memory_map=True)
    groups = permutation(file.metadata.num_row_groups, 7).tolist()
    step = POOL // BATCH
    for at in range(0, len(groups), step):
        table = file.read_row_groups(groups[at : at + step], use_threads=True).combine_chunks()
        order = permutation(table.num_rows, at)
        for begin in range(0, len(order), BATCH):
            yield columns_of(table.take(pa.array(order[begin : begin + BATCH])))


def stateful_loader(folder: Path) -> Iterator[Columns]:
    """Parquet fat rows in two worker processes, each with half of the row groups."""
    from torch import from_numpy
    from torch.utils.data import IterableDataset, get_worker_info
    from torchdata.stateful_dataloader import StatefulDataLoader

    class Rows(IterableDataset[Columns]):
        def __iter__(self) -> Iterator[Columns]:
            worker = get_worker_info()
            file = pq.ParquetFile(folder / "fat.parquet", memory_map=True)
            groups = permutation(file.metadata.num_row_groups, 7)[worker.id :: worker.num_workers].tolist()
            for batch in file.iter_batches(batch_size=BATCH, row_groups=groups, use_threads=False):
                yield {name: from_numpy(np.array(array)) for name, array in columns_of(batch).items()}

    yield from StatefulDataLoader(Rows(), batch_size=None, num_workers=2, multiprocessing_context="fork")


def hugging_face(folder: Path) -> Iterator[Columns]:
    """A shuffled Arrow dataset, read as Arrow."""
    import datasets

    datasets.disable_progress_bars()
    rows = datasets.Dataset.from_parquet(str(folder / "fat.parquet"), cache_dir=str(folder / "hf"))
    for table in rows.shuffle(seed=7).with_format("arrow").iter(batch_size=BATCH):
        yield columns_of(table)


def _joined(samples: list[Columns]) -> Columns:
    return {
        name: np.concatenate([each[name] for each in samples])
        if name.startswith("history_")
        else np.array([each[name] for each in samples])
        for name in samples[0]
    }


def _samples(folder: Path) -> Iterator[Columns]:
    for batch in pq.ParquetFile(folder / "fat.parquet").iter_batches(batch_size=BATCH):
        plain = [name for name in batch.schema.names if not name.startswith("history_")]
        lists = {name: batch[name] for name in batch.schema.names if name.startswith("history_")}
        values = {name: batch[name].to_numpy(zero_copy_only=False).tolist() for name in plain}
        for row in range(batch.num_rows):
            arrays = {name: lists[name][row].values.to_numpy() for name in lists}
            yield {name: int(values[name][row]) for name in plain} | arrays


def write_mosaic(folder: Path) -> None:
    from streaming import MDSWriter

    kinds = {"event_type": "int32"}
    out = str(folder / "mds")
    columns: dict[str, str] | None = None
    writer: Any = None
    for sample in _samples(folder):
        if columns is None:
            lists = {f"history_{name}": f"ndarray:{kinds.get(name, 'int64')}" for name in HISTORY}
            columns = {name: lists.get(name, "int64") for name in sample}
            writer = MDSWriter(out=out, columns=columns)
        writer.write(sample)
    writer.finish()


def mosaic(folder: Path) -> Iterator[Columns]:
    from streaming import StreamingDataset
    from streaming.base.util import clean_stale_shared_memory
    from torch.utils.data import DataLoader

    clean_stale_shared_memory()
    rows = StreamingDataset(local=str(folder / "mds"), shuffle=True, shuffle_seed=7, batch_size=BATCH)
    yield from DataLoader(rows, batch_size=BATCH, num_workers=2, collate_fn=_joined, multiprocessing_context="fork")


def write_webdataset(folder: Path) -> None:
    import webdataset

    (folder / "wds").mkdir()
    with webdataset.ShardWriter(str(folder / "wds" / "%05d.tar"), maxcount=BATCH, verbose=0) as sink:
        for number, sample in enumerate(_samples(folder)):
            sink.write({"__key__": f"{number:09}", "pyd": sample})  # pickled: npz takes six times as long to read


def web_dataset(folder: Path) -> Iterator[Columns]:
    import webdataset

    urls = sorted(map(str, (folder / "wds").glob("*.tar")))
    rows = (
        webdataset.WebDataset(urls, shardshuffle=1000, empty_check=False).shuffle(5000).decode().map(lambda s: s["pyd"])
    )
    batches = rows.batched(BATCH, collation_fn=_joined)
    yield from webdataset.WebLoader(batches, batch_size=None, num_workers=2)


@dataclass(frozen=True)
class Contender:
    """Reads an epoch of a folder's samples; `prepare` writes them first as it wants them."""

    read: Callable[[Path], Iterator[Columns]]
    prepare: Callable[[Path], None] | None = None
    needs: str = "numpy"


OURS = "reclake, 2 workers"
CONTENDERS = {
    OURS: Contender(lambda folder: feed(folder / "shards", 2)),
    "reclake, 2 workers, zstd": Contender(lambda folder: feed(folder / "zstd", 2)),
    "reclake, no workers": Contender(lambda folder: feed(folder / "shards", 0)),
    "reclake, 2 workers, not compiled": Contender(feed_not_compiled),
    "fat rows, row groups shuffled": Contender(fat_rows),
    "fat rows, 65,536 shuffled": Contender(fat_rows_shuffled),
    "StatefulDataLoader, fat rows": Contender(stateful_loader, needs="torchdata"),
    "Hugging Face datasets, shuffled": Contender(hugging_face, needs="datasets"),
    "Mosaic StreamingDataset": Contender(mosaic, write_mosaic, "streaming"),
    "WebDataset": Contender(web_dataset, write_webdataset, "webdataset"),
}


def measure(name: str, folder: Path, cold: bool, least_s: float) -> dict[str, float]:
    """Whole epochs of a contender behind its first, in this process, for `least_s` or more; one epoch if cold."""
    read = CONTENDERS[name].read
    epoch(read, folder, cold)
    taken = [epoch(read, folder, cold)]
    while not cold and sum(each["wall_s"] for each in taken) < least_s:
        taken.append(epoch(read, folder, cold))
    summed = {key: sum(each[key] for each in taken) for key in taken[0]}
    return summed | {"peak_mb": peak_mb() + resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024}


def epoch(read: Callable[[Path], Iterator[Columns]], folder: Path, cold: bool) -> dict[str, float]:
    if cold:
        evict(folder)
    wall, cpu = time.perf_counter(), cpu_s()
    samples = events = size = 0
    for batch in read(folder):
        samples += len(batch["sample_id"])
        events += len(batch["history_item_id"])
        size += sum(array.nbytes for array in batch.values())
    taken = {"wall_s": time.perf_counter() - wall, "cpu_s": cpu_s() - cpu}
    return taken | {"samples": samples, "events": events, "bytes": size}


_WHO = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)


def cpu_s() -> float:
    """Of this process and of the workers it had."""
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, _WHO))


def peak_mb() -> float:
    """Of this process; what getrusage says of it may be its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def evict(folder: Path) -> None:
    """Take the files out of the page cache."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def in_a_process(*given: object) -> dict[str, float]:
    """What `measure` returns for these arguments."""
    command = [sys.executable, "-W", "ignore", __file__, "--one", *map(str, given)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{given[0]}: {done.stderr[-2000:]}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def show(taken: dict[str, list[dict[str, float]]]) -> None:
    ours = taken[OURS]
    print(f"{'':32} {'k samples/s':>11} {'M events/s':>11} {'GB/s':>6} {'CPU µs':>7} {'MB':>6}   times ours: time, CPU")
    for name, rounds in taken.items():
        rate = median(r["samples"] / r["wall_s"] for r in rounds)
        each = {key: rounds[0][key] / rounds[0]["samples"] for key in ("events", "bytes")}
        cpu = median(r["cpu_s"] / r["samples"] for r in rounds)
        pairs = list(zip(rounds, ours, strict=True))
        walls, cpus = (
            median(r[key] / r["samples"] * own["samples"] / own[key] for r, own in pairs) for key in ("wall_s", "cpu_s")
        )
        print(
            f"{name:32} {rate / 1e3:11,.0f} {rate * each['events'] / 1e6:11,.0f} {rate * each['bytes'] / 1e9:6.2f} "
            f"{cpu * 1e6:7.2f} {median(r['peak_mb'] for r in rounds):6,.0f}   {walls:8.1f}x {cpus:6.1f}x"
        )


def copy_rate(bytes_per_sample: float) -> float:
    """Samples a second of a plain copy of the delivered bytes into a reused buffer."""
    source = np.ones(int(bytes_per_sample) * BATCH, dtype=np.uint8)
    target = source.copy()
    begin = time.perf_counter()
    for _ in range(20):
        np.copyto(target, source)
    return 20 * BATCH / (time.perf_counter() - begin)


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        name, path, cold, least_s = sys.argv[2:]
        print(json.dumps(measure(name, Path(path), cold == "True", float(least_s))))
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="9,000 samples, 1 round")
    parser.add_argument("--users", type=int, default=16_000)
    parser.add_argument("--samples-per-user", type=int, default=15)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cold", action="store_true", help="every epoch out of an empty page cache")
    parser.add_argument(
        "--only", nargs="*", default=list(CONTENDERS), help="of the contenders, those whose names begin so"
    )
    given = parser.parse_args()
    users, rounds = (600, 1) if given.quick else (given.users, given.rounds)
    samples = users * given.samples_per_user
    folder = Path(tempfile.mkdtemp(prefix="reclake-feed-"))
    try:
        began = time.perf_counter()
        write_shards(folder / "shards", users, given.samples_per_user, given.length)
        packed = time.perf_counter() - began
        write_shards(folder / "zstd", users, given.samples_per_user, given.length, "zstd")
        write_fat(folder / "shards", folder / "fat.parquet")
        lz4, zstd, fat = (
            sum(file.stat().st_size for file in folder.glob(pattern)) / samples
            for pattern in ("shards/shard-*", "zstd/shard-*", "fat.parquet")
        )
        print(f"{samples:,} samples, L={given.length}, {given.samples_per_user} a user, {', '.join(HISTORY)}")
        print(
            f"bytes a sample: {lz4:,.0f} in shards (lz4), {zstd:,.0f} (zstd), {fat:,.0f} in fat rows; "
            f"packed {samples / packed:,.0f} samples/s"
        )
        chosen = {}
        for name, contender in CONTENDERS.items():
            if not name.startswith((OURS, *given.only)):
                continue
            if importlib.util.find_spec(contender.needs) is None:
                print(f"{name}: not installed")
                continue
            if contender.prepare is not None:
                contender.prepare(folder)
            chosen[name] = list[dict[str, float]]()
        for _ in range(rounds):
            for name, found in chosen.items():
                found.append(in_a_process(name, folder, given.cold, 0.2 if given.quick else 1.0))
        show(chosen)
        ours = chosen[OURS]
        limit = copy_rate(ours[0]["bytes"] / ours[0]["samples"])
        share = median(r["samples"] / r["wall_s"] for r in ours) / limit
        print(f"{'plain copy of the bytes':32} {limit / 1e3:11,.0f}   the feed reaches {share:.0%} of it")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
