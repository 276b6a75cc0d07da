"""Avro schema resolution: may a reader's schema read what a writer's wrote, and the reading of it, column by column."""

from .compat import MODES, Mode, compatibility, evolution
from .framed import BadMessage, Framed, read_framed, read_framed_apart
from .matching import PROMOTIONS
from .reading import read

__all__ = [
    "MODES",
    "PROMOTIONS",
    "BadMessage",
    "Framed",
    "Mode",
    "compatibility",
    "evolution",
    "read",
    "read_framed",
    "read_framed_apart",
]
