"""Media without Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from reclake.pipelines.media import on_ray as media_ray
from reclake.pipelines.media.on_ray import Cluster
from reclake.pipelines.media.steps import run_steps


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same kernels without Ray: for what is not about Ray."""

    def run(table: pa.Table, works: Any, blobs: Path, cluster: Any) -> pa.Table:
        from reclake.storage.blobs import Blobs

        parts = [run_steps(table.slice(start, 7), works, Blobs(blobs).read) for start in range(0, table.num_rows, 7)]
        return pa.concat_tables(reversed(parts))  # engines finish in any order

    class Session:
        def __init__(self, address: str | None) -> None:
            self.cluster = Cluster(cpus=2, gpus=0, memory_bytes=8 << 30, nodes=1)

        def __enter__(self) -> Cluster:
            return self.cluster

        def __exit__(self, *error: object) -> None: ...

    monkeypatch.setattr(media_ray, "run", run)
    monkeypatch.setattr(media_ray, "session", Session)
