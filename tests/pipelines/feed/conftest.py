"""What tests of the feed share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from reclake.pipelines.feed import Batch, Feed

POOL = 200  # several pools an epoch, so that batches cross from one to the next


def _feed_of(shards: Path, **given: Any) -> Feed:
    return Feed(shards, **({"batch_size": 50, "seed": 7, "pool_samples": POOL} | given))


def _contents(batch: Batch) -> dict[str, list[Any]]:
    """All of a batch as lists."""
    read = {name: batch[name].tolist() for name in batch.keys()}  # noqa: SIM118 -- a batch is no mapping
    for name, jagged in batch.history.items():
        read[f"history.{name}"] = jagged.values.tolist()
        read[f"history.{name} offsets"] = jagged.offsets.tolist()
        read[f"history.{name} valid"] = [] if jagged.valid is None else jagged.valid.tolist()
    read |= {f"negative {name}": array.tolist() for name, array in batch.negatives.items()}
    return read


def _ids(batches: Iterable[Batch]) -> list[int]:
    return [int(i) for batch in batches for i in batch["sample_id"]]


@pytest.fixture(scope="session")
def feed_of() -> Callable[..., Feed]:
    return _feed_of


@pytest.fixture(scope="session")
def contents() -> Callable[[Batch], dict[str, list[Any]]]:
    return _contents


@pytest.fixture(scope="session")
def ids() -> Callable[[Iterable[Batch]], list[int]]:
    return _ids
