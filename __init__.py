"""reclake: what users did and what items are, turned into training samples on plain Delta tables.

The root only re-exports, and lazily: `import reclake` loads no engine and no table library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .pipelines.feed import Cache, Feed, Mix, Negatives
    from .pipelines.lake import Lake

    __version__: str

__all__ = ["Cache", "Feed", "Lake", "Mix", "Negatives", "__version__"]


def __getattr__(name: str) -> object:
    if name == "Lake":
        from .pipelines.lake import Lake

        return Lake
    if name in ("Cache", "Feed", "Mix", "Negatives"):
        from .pipelines import feed

        return getattr(feed, name)
    if name == "__version__":
        from importlib.metadata import version

        return version("reclake")
    raise AttributeError(f"module 'reclake' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
