"""The operators that plans can name."""

from __future__ import annotations

from ...schemas.plan import Signature
from .audio import LogMel
from .base import Operator
from .image import ImageEmbedding, ImageEmbeddingEfficientNet
from .text import TextEmbedding, TextEmbeddingMiniLM
from .video import VideoEmbedding, VideoFrames

OPERATORS: dict[str, type[Operator]] = {
    operator.name: operator
    for operator in (
        ImageEmbedding,
        ImageEmbeddingEfficientNet,
        TextEmbedding,
        TextEmbeddingMiniLM,
        VideoFrames,
        VideoEmbedding,
        LogMel,
    )
}


def signatures() -> dict[str, Signature]:
    """What every operator takes and gives, by name."""
    return {name: operator.signature() for name, operator in OPERATORS.items()}
