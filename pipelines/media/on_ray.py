"""The steps of a plan on Ray Data: where each runs, with what, and that nothing waits for what the cluster has not."""

from __future__ import annotations

import logging
import math
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from ...schemas.errors import MissingExtraError
from ...storage.blobs import Blobs
from .steps import Work, ready, run_step

BLOCKS_PER_CPU = 4


@dataclass(frozen=True, slots=True)
class Cluster:
    """What there is to share, as `ray.cluster_resources()` says it."""

    cpus: float
    gpus: float
    memory_bytes: float
    nodes: int


@dataclass(frozen=True, slots=True)
class Placement:
    """What every worker of one step gets. `workers` is the most of them that keep a model; None: tasks, any number."""

    num_cpus: float
    num_gpus: float
    memory_bytes: int
    batch_size: int
    workers: int | None


@contextmanager
def session(address: str | None) -> Iterator[Cluster]:
    """A Ray cluster: the one this process is connected to, the one at `address`, or one of this machine's own.

    What was started here is shut down here; a connection that was there before stays.

    Raises:
        MissingExtraError: Ray is not installed.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtraError(
            "media runs on Ray Data, which is not installed", got=str(error), hint="pip install 'reclake[media]'"
        ) from error
    started = not ray.is_initialized()
    if started:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a lake's runs are nobody else's business
        # Ray's coming default; without it a worker that asked for no GPU is told at length that this will change.
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if address is None:
            ray.init(num_cpus=os.cpu_count() or 1, include_dashboard=False, **quiet)
        else:
            ray.init(address=address, **quiet)
    try:
        yield _cluster(ray)
    finally:
        if started:
            ray.shutdown()


def _cluster(ray: Any) -> Cluster:
    have = ray.cluster_resources()
    nodes = sum(1 for node in ray.nodes() if node["Alive"])
    return Cluster(have.get("CPU", 0.0), have.get("GPU", 0.0), have.get("memory", 0.0), max(1, nodes))


def place(works: Sequence[Work], cluster: Cluster) -> tuple[Placement, ...]:
    """What each step gets of a cluster, so that all steps can run at once: Ray waits for ever for what is not there.

    Workers that keep a model hold their share as long as the run lasts. They get GPUs where there are any, divided
    where there are fewer GPUs than such steps, and always leave half a CPU or more to the other steps.
    """
    models = sum(work.operator.holds_model for work in works)
    gpu_steps = sum(work.operator.resources.num_gpus > 0 for work in works)
    cramped = cluster.cpus < models + 1
    placements = []
    for work in works:
        wants, keeps = work.operator.resources, work.operator.holds_model
        gpus = min(wants.num_gpus, cluster.gpus / gpu_steps) if wants.num_gpus > 0 else 0.0
        cpus = min(wants.num_cpus, cluster.cpus / 2 / (models if keeps else 1)) if cramped else wants.num_cpus
        by_gpu = int(cluster.gpus / gpu_steps / gpus) if gpus else int((cluster.cpus - 1) / max(models, 1))
        placements.append(
            Placement(
                num_cpus=cpus,
                num_gpus=gpus,
                # Ray Data fuses neighbours of equal resources, and a decoder would end up inside a model's worker:
                # a byte keeps them apart.
                memory_bytes=int(min(wants.memory_bytes, cluster.memory_bytes / cluster.nodes / (len(works) + 1)))
                + work.number,
                batch_size=wants.batch_size,
                workers=max(1, by_gpu) if keeps else None,
            )
        )
    return tuple(placements)


def run(table: pa.Table, works: Sequence[Work], blobs: Path, cluster: Cluster) -> pa.Table:
    """The table with the outputs of all steps; rows in whatever order they were finished."""
    import ray.data

    with _quiet(ray.data):
        dataset = _dataset(table, works, blobs, cluster)
        parts = [part for part in dataset.iter_batches(batch_size=None, batch_format="pyarrow") if part.num_rows]
    return pa.concat_tables(parts)


def _dataset(table: pa.Table, works: Sequence[Work], blobs: Path, cluster: Cluster) -> Any:
    import ray.data

    rows = max(1, math.ceil(table.num_rows / max(1, int(cluster.cpus) * BLOCKS_PER_CPU)))
    blocks = [table.slice(start, rows) for start in range(0, table.num_rows, rows)]
    dataset: Any = ray.data.from_arrow(blocks)
    for work, placed in zip(works, place(works, cluster), strict=True):
        shared: dict[str, Any] = {
            "batch_format": "pyarrow",
            "batch_size": placed.batch_size,
            "num_cpus": placed.num_cpus,
            "memory": placed.memory_bytes,
        }
        if placed.num_gpus:
            shared["num_gpus"] = placed.num_gpus
        if placed.workers is None:
            dataset = dataset.map_batches(_task, fn_kwargs={"work": work, "blobs": blobs}, **shared)
        else:
            pool = ray.data.ActorPoolStrategy(min_size=1, max_size=placed.workers)
            dataset = dataset.map_batches(
                _Worker, fn_constructor_kwargs={"work": work, "blobs": blobs}, compute=pool, **shared
            )
    return dataset


def _task(batch: pa.Table, work: Work, blobs: Path) -> pa.Table:
    return run_step(batch, work, ready(work.step.operator), Blobs(blobs).read)


class _Worker:
    """A worker that keeps its operator's model between batches."""

    def __init__(self, work: Work, blobs: Path) -> None:
        self.work, self.blobs = work, Blobs(blobs)
        self.operator = ready(work.step.operator)

    def __call__(self, batch: pa.Table) -> pa.Table:
        return run_step(batch, self.work, self.operator, self.blobs.read)


@contextmanager
def _quiet(data: Any) -> Iterator[None]:
    """No progress bars and no log lines of Ray Data on the user's terminal; as before afterwards."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Ray 2.60 sets a default that it deprecates itself
        context, logger = data.DataContext.get_current(), logging.getLogger("ray.data")
    before = (context.enable_progress_bars, logger.level)
    context.enable_progress_bars = False
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        context.enable_progress_bars = before[0]
        logger.setLevel(before[1])
