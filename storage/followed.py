"""Sources that are being followed, and how far each has got: what a seal waits for."""

from __future__ import annotations

from dataclasses import dataclass

from . import documents, places
from .places import Place


@dataclass(frozen=True, slots=True)
class Followed:
    """A source that may still bring events. None of them will be known before `watermark_us`."""

    name: str
    contract: str
    watermark_us: int


def write(folder: Place, source: Followed) -> None:
    """Register a followed source, or move its watermark."""
    documents.replace(
        folder / f"{source.name}.json",
        {"name": source.name, "contract": source.contract, "watermark_us": source.watermark_us},
    )


def remove(folder: Place, name: str) -> None:
    """The source has ended: nobody waits for it any more."""
    (folder / f"{name}.json").unlink(missing_ok=True)


def read(folder: Place) -> list[Followed]:
    """Every source that is being followed, by name."""
    found = [documents.read(folder / name) for name in sorted(places.names(folder)) if name.endswith(".json")]
    return [Followed(doc["name"], doc["contract"], doc["watermark_us"]) for doc in found]
