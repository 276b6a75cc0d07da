"""Packing: pinned samples as shards, a user's window once and all samples pointing into it."""

from .days import Days
from .pinned import PinnedShards
from .verb import PackResult, pack

__all__ = ["Days", "PackResult", "PinnedShards", "pack"]
