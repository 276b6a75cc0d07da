"""Sound: a log-mel spectrogram of the first ten seconds."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ...schemas.errors import OperatorError
from ...schemas.plan import Input
from .base import EMBEDDING, Operator, Outcome, Resources, each, scatter
from .containers import open_container

RATE_HZ = 16_000
WINDOW, HOP, FFT = 400, 160, 512  # 25 ms every 10 ms
BANDS, LOW_HZ, HIGH_HZ = 64, 125.0, 7_500.0
POOLED = 16  # neighbouring 10 ms frames that become one
COLUMNS = 64
SAMPLES = COLUMNS * POOLED * HOP  # 10.24 s
FLOOR = 1e-6

Samples = npt.NDArray[np.float32]


def decode(data: bytes) -> Samples:
    """The first SAMPLES samples of the first audio stream, 16 kHz mono, -1 to 1; fewer where it is shorter.

    Raises:
        OperatorError: no audio stream, or nothing in it.
        OSError and others: as PyAV says it.
    """
    import av

    parts: list[Samples] = []
    count = 0
    with open_container(data) as container:
        if not container.streams.audio:
            raise OperatorError("no audio stream", expected="a sound", got=container.format.name)
        resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE_HZ)
        for frame in container.decode(container.streams.audio[0]):
            for resampled in resampler.resample(frame):
                parts.append(resampled.to_ndarray().ravel().astype(np.float32))
                count += len(parts[-1])
            if count >= SAMPLES:
                break
        if count < SAMPLES:
            parts += [last.to_ndarray().ravel().astype(np.float32) for last in resampler.resample(None)]
    samples = np.concatenate(parts)[:SAMPLES] if parts else np.zeros(0, dtype=np.float32)
    if len(samples) == 0:
        raise OperatorError("no sound could be decoded", expected="at least one sample", got=f"{len(data)} bytes")
    if not np.isfinite(samples).all():
        raise OperatorError("samples that are no numbers", expected="finite samples", got="NaN or infinity")
    return samples


@cache
def mel_filters() -> npt.NDArray[np.float64]:
    """Triangles over FFT bins, [bins, bands], evenly spaced in mel(f) = 2595 log10(1 + f / 700).

    Source: O'Shaughnessy, Speech Communication (1987); band edges as in VGGish (Hershey et al., ICASSP 2017).
    """
    low, high = (2595.0 * np.log10(1.0 + hz / 700.0) for hz in (LOW_HZ, HIGH_HZ))
    edges = 700.0 * (10.0 ** (np.linspace(low, high, BANDS + 2) / 2595.0) - 1.0)
    hz = np.arange(FFT // 2 + 1) * RATE_HZ / FFT
    rising = (hz[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - hz[:, None]) / (edges[2:] - edges[1:-1])
    return np.maximum(0.0, np.minimum(rising, falling))


def log_mel(sounds: list[Samples]) -> npt.NDArray[np.float32]:
    """[n, 64 x 64] of log(mel power + 1e-6), row-major (bands, columns of 160 ms).

    Periodic Hann window of 25 ms every 10 ms, power of a 512-point FFT, mel bands, mean over 16 frames, log. A sound
    shorter than 10.24 s is followed by silence.
    """
    found = np.full((len(sounds), BANDS, COLUMNS), np.log(FLOOR), dtype=np.float32)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
    for row, samples in enumerate(sounds):
        columns = -(-len(samples) // (HOP * POOLED))  # behind them is silence, which is FLOOR already
        padded = np.zeros(columns * POOLED * HOP + WINDOW - HOP, dtype=np.float64)
        padded[: len(samples)] = samples
        frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP] * window
        power = np.abs(np.fft.rfft(frames, FFT, axis=1)) ** 2
        pooled = (power @ mel_filters()).reshape(columns, POOLED, BANDS).mean(axis=1)
        found[row, :, :columns] = np.log(pooled + FLOOR).T
    return found.reshape(len(sounds), BANDS * COLUMNS)


class LogMel(Operator):
    """The spectrogram of `log_mel`; of a clip, its sound."""

    name = "log_mel"
    version = "1"
    inputs = (Input("audio", "media"),)
    outputs = (pa.field("log_mel", EMBEDDING),)
    resources = Resources(num_cpus=1, num_gpus=0, memory_bytes=512 << 20, batch_size=16)
    needs = ("av",)

    def __call__(self, batch: pa.Table) -> Outcome:
        rows, sounds, failures = each(batch["audio"], decode, input="audio")
        return Outcome(pa.table({"log_mel": scatter(rows, log_mel(sounds), batch.num_rows)}), failures)
