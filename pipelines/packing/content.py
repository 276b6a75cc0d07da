"""Content for shards: the vectors that samples point at, each once, as memory-mappable arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from ...schemas.errors import ShardError
from ...storage.shard_content import CONTENT, array_name, block_sums, sums_name
from ...storage.shards import CONTENT_ROW

KEY = ("item_id", "content_known_at")
# Content rows in memory at once.
_SLICE = 16_384


@dataclass(frozen=True, slots=True)
class ContentIndex:
    """The content rows that samples refer to, in order: item_id, content_known_at, and the number of each."""

    rows: pl.DataFrame

    @classmethod
    def of(cls, samples: pl.LazyFrame) -> ContentIndex:
        """All that a sample set refers to; of the samples only two columns are read."""
        used = samples.select(KEY).drop_nulls("content_known_at").unique().sort(KEY).collect()
        return cls(used.with_row_index(CONTENT_ROW).with_columns(pl.col(CONTENT_ROW).cast(pl.Int32)))

    def number(self, samples: pl.DataFrame) -> pl.DataFrame:
        """The samples with `content_row` (int32): their content's row, -1 where none was known at the request."""
        numbered = samples.join(self.rows, on=KEY, how="left", maintain_order="left")
        return numbered.with_columns(pl.col(CONTENT_ROW).fill_null(-1))


def write_content(
    folder: Path, index: ContentIndex, content: pl.LazyFrame, names: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Write content/NAME.npy (float32, (rows, D)) for each name with its checksums, and content/index.parquet.

    Returns manifest entries. Where no sample refers to any content an array holds one row, of zeros, to be mapped.
    Where several content rows have one item and known_at, the one whose plan sorts last counts. A row whose vector is
    null is zeros, and False in the index.

    Raises:
        ShardError: a row is missing from the content table, or vectors of one column differ in length.
    """
    (folder / CONTENT).mkdir()
    dimensions = {name: _dimensions(content, name) for name in names}
    shapes = {name: (max(1, index.rows.height), dimensions[name]) for name in names}
    arrays = {
        name: np.lib.format.open_memmap(folder / array_name(name), mode="w+", dtype=np.float32, shape=shape)
        for name, shape in shapes.items()
    }
    slices = []
    for part in index.rows.iter_slices(_SLICE):
        found = _lookup(content, part, names)
        for name in names:
            present = found[name].is_not_null().to_numpy()
            vectors = found[name].drop_nulls()
            if vectors.len():
                begin = int(part[CONTENT_ROW][0])
                flat = vectors.explode().to_numpy().astype(np.float32, copy=False)
                arrays[name][begin : begin + part.height][present] = flat.reshape(-1, dimensions[name])
        slices.append(found.select(*KEY, *(pl.col(name).is_not_null() for name in names)))
    for name in names:
        arrays.pop(name).flush()
        np.save(folder / sums_name(name), block_sums(folder / array_name(name)))
    table = pl.concat(slices) if slices else index.rows.select(*KEY, *(pl.lit(False).alias(n) for n in names))
    pq.write_table(table.to_arrow(), folder / CONTENT / "index.parquet", compression="zstd")
    return {
        name: {"file": array_name(name), "rows": index.rows.height, "dimensions": dimensions[name]} for name in names
    }


def _dimensions(content: pl.LazyFrame, name: str) -> int:
    """D of the vectors of a column, the same for all of them."""
    kind = content.collect_schema()[name]
    if not isinstance(kind, pl.List) or not kind.inner.is_numeric():
        raise ShardError("shards carry content as vectors", where=f"content.{name}", expected="list of float", got=kind)
    lengths = content.select(pl.col(name).list.len().drop_nulls().unique()).collect()[name].sort().to_list()
    if len(lengths) > 1:
        raise ShardError(
            "vectors of one column differ in length", where=f"content.{name}", expected=lengths[0], got=lengths
        )
    return int(lengths[0]) if lengths else 0


def _lookup(content: pl.LazyFrame, part: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    """The content of the index's rows, in their order."""
    items = pl.col("item_id").is_between(part["item_id"].min(), part["item_id"].max())
    found = (
        content.filter(items)
        .select("item_id", pl.col("known_at").alias("content_known_at"), "plan", *names)
        .join(part.lazy(), on=KEY, how="semi")
        .sort("plan")
        .unique(KEY, keep="last", maintain_order=True)
        .with_columns(pl.lit(True).alias("_found"))
        .collect()
    )
    joined = part.join(found, on=KEY, how="left", maintain_order="left")
    missing = joined.filter(pl.col("_found").is_null())
    if missing.height:
        item, known_at, *_ = missing.row(0)
        raise ShardError(
            "samples refer to content that is not there",
            where=f"item {item}",
            expected=f"content known at {known_at}",
            hint="the samples and the content must come from one pin",
        )
    return joined
