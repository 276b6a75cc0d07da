"""Recipes: what can be assembled is kept exactly, what cannot is refused with every part of a message."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reclake.schemas.errors import RecipeError
from reclake.schemas.recipe import load, parse, shipped

GOOD: dict[str, Any] = {
    "name": "mine",
    "exposure": "shown",
    "labels": {"buy": {"event_type": "bought", "window": "1d", "lateness": "1h"}},
    "match": ["item_id"],
    "features": ["price"],
    "history": {"length": 8, "fields": ["item_id"]},
    "negatives": {"kind": "uniform", "per_exposure": 2, "seed": 1},
    "content": ["image_embedding"],
}


def test_a_recipe_survives_its_json_form() -> None:
    for recipe in [parse(GOOD), *shipped()]:
        assert parse(json.loads(json.dumps(recipe.to_json()))) == recipe


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({"exposure": 5}, "names the event_type"),
        ({"foo": 1}, "unknown entry"),
        ({"labels": []}, "not labels"),
        ({"labels": {"buy": {}}}, "label without an event_type"),
        ({"labels": {"seen": {"event_type": "bought"}}}, "name of another column"),
        ({"labels": {"price": {"event_type": "bought"}}}, "name of another column"),
        ({"labels": {"buy": {"event_type": "bought", "window": "soon"}}}, "not a duration"),
        ({"features": ["item_id"]}, "name of another column"),
        ({"features": "price"}, "not features"),
        ({"features": ["price", "price"]}, "twice in features"),
        ({"history": 5}, "not history"),
        ({"history": {"length": -1}}, "not a history length"),
        ({"history": {"fields": "item_id"}}, "not fields"),
        ({"negatives": {"kind": "uniform", "per_exposure": 1}}, "need a seed"),
        ({"negatives": {"kind": "uniform", "per_exposure": -1, "seed": 1}}, "number of negatives"),
        ({"negatives": {"kind": "all", "seed": 1}}, "not negatives"),
    ],
)
def test_what_cannot_be_assembled_is_refused(entries: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words) as caught:
        parse(GOOD | entries)
    assert {"where", "expected", "got", "what to do"} <= caught.value.parts().keys()


def test_a_recipe_file_that_is_no_json_is_a_recipes_error(tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text("{")
    with pytest.raises(RecipeError, match="not valid JSON"):
        load(tmp_path / "mine.json")
