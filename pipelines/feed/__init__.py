"""The feed: what a trainer iterates. numpy and pyarrow, nothing else."""

from ...storage.shard_files import Cache
from .batch import Batch, Jagged
from .feed import Feed
from .mix import Mix
from .negatives import Negatives

__all__ = ["Batch", "Cache", "Feed", "Jagged", "Mix", "Negatives"]
