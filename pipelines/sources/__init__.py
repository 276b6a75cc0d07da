"""Sources: files of every format as batches of rows that can be resumed at any row."""

from .batch import SourceBatch, Undecodable
from .files import Found, Source, discover, discover_quietly, open_source, raw_to_frame
from .framed import framed_batch

__all__ = [
    "Found",
    "Source",
    "SourceBatch",
    "Undecodable",
    "discover",
    "discover_quietly",
    "framed_batch",
    "open_source",
    "raw_to_frame",
]
