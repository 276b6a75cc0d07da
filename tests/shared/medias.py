"""What tests of media share: plans of some operators, manifests, and what a lake has of a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl

from reclake.schemas import plan as plans
from reclake.storage.catalog import Catalog

NOW_US = 1_709_251_200_000_000  # 2024-03-01


def content(catalog: Catalog) -> pl.DataFrame:
    return catalog.table("content").scan().collect().sort("item_id", "input_digest")


def letters(catalog: Catalog) -> list[dict[str, Any]]:
    return catalog.table("dead_letters").scan().collect().sort("item_id", "operator").to_dicts()


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def only(*operators: str) -> plans.Plan:
    """The shipped plan's steps of some operators."""
    whole = plans.load("short_video")
    return plans.Plan(whole.name, tuple(step for step in whole.steps if step.operator in operators))
