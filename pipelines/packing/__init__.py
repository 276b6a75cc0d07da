"""Packing: pinned samples as shards, a user's window once and all samples pointing into it."""

from .verb import PackResult, pack

__all__ = ["PackResult", "pack"]
