"""The feed: what a trainer iterates. numpy and pyarrow, nothing else."""

from .batch import Batch, Jagged
from .feed import Feed

__all__ = ["Batch", "Feed", "Jagged"]
