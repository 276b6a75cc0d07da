"""Recipes: what a sample set is. Exposures, labels with attribution windows, negatives, features, history fields."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

from .contract import read_json
from .errors import ContractError, RecipeError
from .times import TimeError, duration_us

DEFAULT_LATENESS = "6h"  # outcomes that the lake learns of later than this do not count

# Columns that every sample has; a label or feature goes by another name.
RESERVED = frozenset(
    {
        *("sample_id", "user_id", "item_id", "event_id", "request_time", "ordinal", "seen", "negative"),
        *("label_mature", "content_known_at", "content_row", "bucket", "day", "known_at"),
    }
)

_NAME = re.compile(r"^[a-z][a-z0-9_]*$")


@dataclass(frozen=True, slots=True)
class Label:
    """One label: 1 where an event of `event_type` followed the exposure within `window_us`, by event_time.

    The outcome is credited to the last exposure of the same user and match fields that came no later than it, and
    counts only if the lake knew it by `exposure + window_us + lateness_us`: a label is a function of what was sealed
    through that time and never changes after it.
    """

    name: str
    event_type: str
    window_us: int
    lateness_us: int

    @property
    def maturity_us(self) -> int:
        """How long after the request the label is final."""
        return self.window_us + self.lateness_us


@dataclass(frozen=True, slots=True)
class Negatives:
    """Items drawn for each exposure that were not shown then. Drawn from items known before the day of the request."""

    kind: Literal["uniform", "popularity"]
    per_exposure: int
    seed: int


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a sample set is, at one version."""

    name: str
    version: int
    exposure: str
    match: tuple[str, ...]
    labels: tuple[Label, ...]
    features: tuple[str, ...]
    history_length: int
    history_fields: tuple[str, ...]
    negatives: Negatives | None
    content: tuple[str, ...]

    @property
    def maturity_us(self) -> int:
        """How long after a request its last label is final."""
        return max((label.maturity_us for label in self.labels), default=0)

    def transaction(self, day: date) -> str:
        """The application transaction of a sample table that says a day's samples are of this version."""
        return f"samples/{day}/r{self.version}"

    @property
    def fingerprint(self) -> str:
        content = json.dumps(self.to_json() | {"version": 0}, sort_keys=True)
        return hashlib.blake2b(content.encode(), digest_size=8).hexdigest()

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "version": self.version,
            "exposure": self.exposure,
            "match": list(self.match),
            "labels": {
                label.name: {
                    "event_type": label.event_type,
                    "window": f"{label.window_us}us",
                    "lateness": f"{label.lateness_us}us",
                }
                for label in self.labels
            },
            "features": list(self.features),
            "history": {"length": self.history_length, "fields": list(self.history_fields)},
            "negatives": None
            if self.negatives is None
            else {
                "kind": self.negatives.kind,
                "per_exposure": self.negatives.per_exposure,
                "seed": self.negatives.seed,
            },
            "content": list(self.content),
        }


def parse(document: Mapping[str, Any]) -> Recipe:
    """A recipe from its JSON form.

    Raises:
        RecipeError: naming the entry, what was expected and what was found.
    """
    name = document.get("name")
    where = f"recipe {name}"
    if not isinstance(name, str) or not _NAME.match(name):
        raise RecipeError("not a recipe name", expected="lower-case letters, digits and _", got=repr(name))
    known = {"name", "version", "exposure", "match", "labels", "features", "history", "negatives", "content"}
    unknown = sorted(set(document) - known)
    if unknown:
        raise RecipeError("unknown entry", where=where, expected=", ".join(sorted(known)), got=", ".join(unknown))
    if not isinstance(document.get("exposure"), str):
        raise RecipeError(
            "a recipe names the event_type of its exposures",
            where=where,
            expected='"exposure": "exposure"',
            got=repr(document.get("exposure")),
        )
    for entry in ("labels", "history"):
        if not isinstance(document.get(entry, {}), dict):
            raise RecipeError(f"not {entry}", where=where, expected="a JSON object", got=repr(document[entry]))
    history = document.get("history", {})
    labels = document.get("labels", {})
    features = _names(document, "features", (), where)
    taken = sorted(RESERVED & {*labels, *features} | set(labels) & set(features))
    if taken:
        raise RecipeError(
            "a label or feature by the name of another column of a sample",
            where=where,
            expected="none of " + ", ".join(sorted(RESERVED)) + ", and no name twice",
            got=", ".join(taken),
        )
    length = history.get("length", 256)
    if not isinstance(length, int) or length < 0:
        raise RecipeError("not a history length", where=where, expected="a whole number >= 0", got=repr(length))
    return Recipe(
        name=name,
        version=int(document.get("version", 1)),
        exposure=document["exposure"],
        match=_names(document, "match", ("item_id",), where),
        labels=tuple(_label(key, value, where) for key, value in labels.items()),
        features=features,
        history_length=length,
        history_fields=_names(history, "fields", ("item_id", "event_type", "event_time"), f"{where}, history"),
        negatives=_negatives(document.get("negatives"), where),
        content=_names(document, "content", (), where),
    )


def _names(document: Mapping[str, Any], entry: str, default: tuple[str, ...], where: str) -> tuple[str, ...]:
    names = document.get(entry, default)
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise RecipeError(f"not {entry}", where=where, expected="a list of names", got=repr(names))
    twice = sorted(name for name, count in Counter(names).items() if count > 1)
    if twice:
        raise RecipeError(f"a name twice in {entry}", where=where, expected="each once", got=", ".join(twice))
    return tuple(names)


def load(path: Path) -> Recipe:
    """A recipe from a JSON file."""
    try:
        document = read_json(path)
    except ContractError as error:
        raise RecipeError(error.what, where=error.where, expected=error.expected, got=error.got) from None
    if not isinstance(document, dict):
        raise RecipeError("not a recipe", where=path, expected="a JSON object", got=type(document).__name__)
    return parse({"name": path.stem} | document)


def shipped() -> list[Recipe]:
    """The recipes that come with reclake."""
    return [load(path) for path in sorted((Path(__file__).parent / "recipes").glob("*.json"))]


def _label(name: str, raw: Any, where: str) -> Label:
    at = f"{where}, label {name}"
    if not isinstance(raw, dict) or not isinstance(raw.get("event_type"), str):
        raise RecipeError(
            "a label without an event_type", where=at, expected='{"event_type": "click", "window": "1h"}', got=repr(raw)
        )
    unknown = sorted(set(raw) - {"event_type", "window", "lateness"})
    if unknown:
        raise RecipeError("unknown entry", where=at, expected="event_type, window, lateness", got=", ".join(unknown))
    try:
        return Label(
            name,
            raw["event_type"],
            duration_us(raw.get("window", "1h")),
            duration_us(raw.get("lateness", DEFAULT_LATENESS)),
        )
    except TimeError as error:
        raise RecipeError(error.what, where=at, expected=error.expected, got=error.got) from None


def _negatives(raw: Any, where: str) -> Negatives | None:
    if raw is None:
        return None
    at = f"{where}, negatives"
    if not isinstance(raw, dict) or raw.get("kind") not in ("uniform", "popularity"):
        raise RecipeError(
            "not negatives",
            where=at,
            expected='{"kind": "uniform" | "popularity", "per_exposure": 1, "seed": 7}',
            got=repr(raw),
        )
    if not isinstance(raw.get("seed"), int):
        raise RecipeError("negatives need a seed", where=at, expected='"seed": an integer', got=repr(raw.get("seed")))
    count = raw.get("per_exposure", 1)
    if not isinstance(count, int) or count < 1:
        raise RecipeError(
            "not a number of negatives", where=at, expected='"per_exposure": a whole number >= 1', got=repr(count)
        )
    return Negatives(raw["kind"], count, raw["seed"])
