"""What libraries raise on data that they cannot take, where that is not one exception."""

from __future__ import annotations

import polars as pl

#: A panic of Polars' Rust core is a BaseException, hence by name.
POLARS_FAILURES: tuple[type[BaseException], ...] = (pl.exceptions.PolarsError, pl.exceptions.PanicException)
