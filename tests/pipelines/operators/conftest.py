"""Media made for a test: small, exact, and broken on demand."""

from __future__ import annotations

import io
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

Clip = Callable[..., bytes]
Tone = Callable[..., bytes]


@pytest.fixture(scope="session")
def clip() -> Clip:
    """clip(frames, every, width, height): H.264 in MP4, ten frames a second, a key frame every so many frames."""
    av = pytest.importorskip("av")

    def make(*, frames: int = 20, every: int = 5, width: int = 64, height: int = 48) -> bytes:
        buffer = io.BytesIO()
        with av.open(buffer, "w", format="mp4") as container:
            options = {
                "preset": "ultrafast",
                "threads": "1",
                "x264-params": f"keyint={every}:min-keyint={every}:scenecut=0",
            }
            stream = container.add_stream("libx264", rate=10, options=options)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for number in range(frames):
                pixels = np.zeros((height, width, 3), dtype=np.uint8)
                pixels[:, : width // 2, 0] = 255  # red on the left
                pixels[:, width // 2 :, 2] = 5 * number
                for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                    container.mux(packet)
            for packet in stream.encode(None):
                container.mux(packet)
        return buffer.getvalue()

    return make


@pytest.fixture(scope="session")
def tone() -> Tone:
    """tone(hz, seconds, rate): a sine of half the full scale as a 16-bit mono WAV."""

    def make(*, hz: float = 1000.0, seconds: float = 1.0, rate: int = 16_000) -> bytes:
        t = np.arange(int(seconds * rate)) / rate
        buffer = io.BytesIO()
        with wave.open(buffer, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(rate)
            file.writeframes((np.sin(2 * np.pi * hz * t) * 16_000).astype("<i2").tobytes())
        return buffer.getvalue()

    return make


@pytest.fixture
def batch() -> Callable[..., pa.Table]:
    """batch(name, values): the one-column table an operator takes."""

    def make(name: str, values: list[bytes | str | None]) -> pa.Table:
        kind = pa.string() if any(isinstance(value, str) for value in values) else pa.large_binary()
        return pa.table({name: pa.array(values, kind)})

    return make


@pytest.fixture
def real_media(real_data: Path) -> Callable[[str], list[Path]]:
    """Every file below media/KIND, real and broken, pictures and licences."""

    def files(kind: str) -> list[Path]:
        found = sorted(path for path in (real_data / "media" / kind).rglob("*") if path.is_file())
        if not found:
            pytest.skip(f"no real media at {real_data / 'media' / kind}")
        return found

    return files
