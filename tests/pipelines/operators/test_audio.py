"""Log-mel spectrograms: every sound gives numbers or a reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

pytest.importorskip("av")

from reclake.pipelines.operators.audio import BANDS, COLUMNS, FLOOR, SAMPLES, LogMel, decode, log_mel, mel_filters

Batch = Callable[..., pa.Table]
Tone = Callable[..., bytes]


def spectrum(sound: bytes) -> np.ndarray:
    return log_mel([decode(sound)])[0].reshape(BANDS, COLUMNS)


def test_bands_are_triangles_evenly_spaced_in_mel() -> None:
    filters = mel_filters()
    assert filters.shape == (257, 64)
    assert filters.min() == 0
    assert (np.diff(filters.argmax(axis=0)) >= 0).all()
    hz = np.arange(257) * 31.25
    assert filters[(hz < 125) | (hz > 7500)].sum() == 0


@pytest.mark.parametrize("hz", [300.0, 1000.0, 4000.0])
def test_a_tone_is_loudest_in_its_band(tone: Tone, hz: float) -> None:
    edges = 700 * (10 ** (np.linspace(*(2595 * np.log10(1 + f / 700) for f in (125.0, 7500.0)), BANDS + 2) / 2595) - 1)
    loudest = int(spectrum(tone(hz=hz))[:, 2].argmax())
    assert edges[loudest] <= hz <= edges[loudest + 2]


def test_the_power_of_a_tone_is_what_the_formula_says(tone: Tone) -> None:
    """A sine of amplitude a on an FFT bin has the power (a / 2 * sum(window))^2 there and a quarter beside it."""
    hz = 1000.0
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    t = np.arange(SAMPLES) / 16_000
    frame = 0.5 * np.sin(2 * np.pi * hz * t[:400]) * window
    expected = np.log(np.abs(np.fft.rfft(frame, 512)) ** 2 @ mel_filters() + FLOOR)
    found = log_mel([(0.5 * np.sin(2 * np.pi * hz * t)).astype(np.float32)])[0].reshape(BANDS, COLUMNS)
    np.testing.assert_allclose(found[:, 3], expected, atol=1e-3)  # 10 ms hold whole periods of 1 kHz: frames are alike


def test_what_follows_a_short_sound_is_silence(tone: Tone) -> None:
    found = spectrum(tone(seconds=1.0))
    assert found[:, 0].max() > 0
    assert found[:, 10:].max() == pytest.approx(np.log(FLOOR), abs=1e-4)


def test_only_the_first_ten_seconds_count(tone: Tone) -> None:
    assert len(decode(tone(seconds=12.0))) == SAMPLES
    np.testing.assert_array_equal(spectrum(tone(seconds=12.0)), spectrum(tone(seconds=11.0)))


def test_another_sample_rate_says_the_same(tone: Tone) -> None:
    loud = spectrum(tone(rate=16_000))[:, 2] > -5
    difference = np.abs(spectrum(tone(rate=16_000))[:, 2] - spectrum(tone(rate=44_100))[:, 2])
    assert difference[loud].max() < 0.2


def test_what_cannot_be_read_is_a_failure_and_the_rest_goes_on(
    batch: Batch, tone: Tone, clip: Callable[..., bytes]
) -> None:
    outcome = LogMel()(batch("audio", [tone(), b"", b"RIFF\0\0\0\0WAVEfmt ", None, clip(), tone(seconds=0.0), tone()]))
    values = outcome.outputs["log_mel"].to_pylist()
    assert [value is not None for value in values] == [True, False, False, False, False, False, True]
    assert len(values[0]) == BANDS * COLUMNS
    assert values[0] == values[6]
    reasons = {failure.row: failure.reason for failure in outcome.failures}
    assert sorted(reasons) == [1, 2, 4, 5]
    assert "no audio stream" in reasons[4]


def test_every_real_file_gives_numbers_or_a_reason(batch: Batch, real_media: Callable[[str], list[Path]]) -> None:
    files = real_media("audio") + real_media("video")
    outcome = LogMel()(batch("audio", [path.read_bytes() for path in files]))
    values = outcome.outputs["log_mel"].to_pylist()
    failed = {failure.row for failure in outcome.failures}
    assert {row for row, value in enumerate(values) if value is None} == failed
    assert all(np.isfinite(value).all() for value in values if value is not None)
    sounds = {row for row, path in enumerate(files) if path.suffix in (".ogg", ".mp3", ".wav")}
    assert not failed & sounds
