"""Video: key frames as small JPEGs with their times, and the mean of their image descriptors.

Clips are untrusted: only key frames are decoded, at most MAX_KEY_FRAMES of them, out of at most MAX_PACKETS packets,
of pictures of at most MAX_PIXELS. Rotation that the container asks for is applied.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ...schemas.errors import OperatorError
from ...schemas.plan import Input
from .base import (
    EMBEDDING,
    FRAMES,
    Failure,
    Operator,
    Outcome,
    Resources,
    each,
    normalised,
    reason_of,
    scatter,
)
from .containers import open_container
from .image import MAX_PIXELS, SIDE, decode, describe

FRAMES_KEPT = 8
FRAME_PX = 128  # of the longer side
JPEG_QUALITY = 85
MAX_KEY_FRAMES = 512  # half an hour at a key frame every four seconds; what comes later is not looked at
MAX_PACKETS = 200_000


def key_frames(data: bytes) -> tuple[list[bytes], list[int]]:
    """Up to FRAMES_KEPT key frames, evenly chosen, as JPEG, and when each is shown, in ms from the clip's beginning.

    Raises:
        OperatorError: no video stream, no key frame, or too many pixels.
        OSError and others: as PyAV says it.
    """
    pictures: list[tuple[int, npt.NDArray[np.uint8]]] = []
    with open_container(data) as container:
        if not container.streams.video:
            raise OperatorError("no video stream", expected="a clip", got=container.format.name)
        stream = container.streams.video[0]
        if stream.width * stream.height > MAX_PIXELS:
            raise OperatorError(
                "too many pixels", expected=f"at most {MAX_PIXELS}", got=f"{stream.width} x {stream.height}"
            )
        stream.codec_context.skip_frame = "NONKEY"
        stream.codec_context.thread_count = 1
        first_us = int((stream.start_time or 0) * stream.time_base * 1_000_000) if stream.time_base else 0
        for number, packet in enumerate(container.demux(stream)):
            if number > MAX_PACKETS or len(pictures) >= MAX_KEY_FRAMES:
                break
            for frame in packet.decode():
                at_us = int(frame.pts * frame.time_base * 1_000_000) - first_us if frame.pts is not None else 0
                pictures.append((max(at_us, 0) // 1_000, _small(frame)))
    if not pictures:
        raise OperatorError("no key frame could be decoded", expected="at least one", got=f"{len(data)} bytes")
    kept = np.unique(np.linspace(0, len(pictures) - 1, min(FRAMES_KEPT, len(pictures))).round().astype(np.int64))
    chosen = [pictures[i] for i in kept]
    return [_jpeg(picture) for _, picture in chosen], [at_ms for at_ms, _ in chosen]


def _small(frame: Any) -> npt.NDArray[np.uint8]:
    """RGB pixels, the longer side FRAME_PX or less, upright."""
    shrink = min(1.0, FRAME_PX / max(frame.width, frame.height))
    width, height = (max(1, round(side * shrink)) for side in (frame.width, frame.height))
    rgb = frame.reformat(width=width, height=height, format="rgb24").to_ndarray()
    return upright(rgb, frame.rotation)


def upright(rgb: npt.NDArray[np.uint8], rotation: int) -> npt.NDArray[np.uint8]:
    """Turned by the counter-clockwise angle, in degrees, that the container's display matrix asks for."""
    return np.ascontiguousarray(np.rot90(rgb, k=round(rotation / 90) % 4))


def _jpeg(rgb: npt.NDArray[np.uint8]) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return buffer.getvalue()


class VideoFrames(Operator):
    """Key frames as JPEG and their times."""

    name = "video_frames"
    version = "1"
    inputs = (Input("video", "media"),)
    outputs = (pa.field("frames", FRAMES), pa.field("frame_times_ms", pa.list_(pa.int64())))
    resources = Resources(num_cpus=1, num_gpus=0, memory_bytes=1 << 30, batch_size=8)
    needs = ("av", "PIL")

    def __call__(self, batch: pa.Table) -> Outcome:
        rows, found, failures = each(batch["video"], key_frames, input="video")
        frames: list[list[bytes] | None] = [None] * batch.num_rows
        times: list[list[int] | None] = [None] * batch.num_rows
        for row, (jpegs, at_ms) in zip(rows, found, strict=True):
            frames[row], times[row] = jpegs, at_ms
        table = pa.table({"frames": pa.array(frames, FRAMES), "frame_times_ms": pa.array(times, pa.list_(pa.int64()))})
        return Outcome(table, failures)


class VideoEmbedding(Operator):
    """The mean of the frames' image descriptors, at length 1: 128 numbers, comparable with `image_embedding`."""

    name = "video_embedding"
    version = "1"
    inputs = (Input("frames", "frames"),)
    outputs = (pa.field("video_embedding", EMBEDDING),)
    resources = Resources(num_cpus=1, num_gpus=0, memory_bytes=512 << 20, batch_size=32)
    needs = ("PIL",)

    def __call__(self, batch: pa.Table) -> Outcome:
        rows: list[int] = []
        clips: list[npt.NDArray[np.uint8]] = []
        failures: list[Failure] = []
        for row, frames in enumerate(batch["frames"].to_pylist()):
            if frames is None:
                continue
            try:
                clips.append(_decoded(frames))
                rows.append(row)
            except Exception as error:  # noqa: BLE001 -- kept as the item's dead letter, never dropped
                failures.append(Failure(row, "frames", reason_of(error)))
        vectors = np.zeros((0, describe(np.zeros((0, SIDE, SIDE, 3), dtype=np.uint8)).shape[1]), dtype=np.float32)
        if clips:
            begins = np.cumsum([0] + [len(clip) for clip in clips[:-1]])
            sums = np.add.reduceat(describe(np.concatenate(clips)), begins, axis=0)
            vectors = normalised(sums)
        return Outcome(pa.table({"video_embedding": scatter(rows, vectors, batch.num_rows)}), tuple(failures))


def _decoded(frames: Sequence[bytes]) -> npt.NDArray[np.uint8]:
    if not frames:
        raise OperatorError("a clip without frames", expected="at least one", got="an empty list")
    return np.stack([decode(frame, SIDE) for frame in frames])
