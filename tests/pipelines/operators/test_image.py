"""Image embeddings: every picture gives numbers or a reason."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

pytest.importorskip("PIL")

from PIL import Image

from reclake.pipelines.operators.base import Outcome
from reclake.pipelines.operators.image import ImageEmbedding, ImageEmbeddingEfficientNet, describe
from reclake.schemas.errors import MissingExtraError

Batch = Callable[..., pa.Table]


def saved(image: Any, form: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def gradient() -> Any:
    """Dark blue on top, bright on the right: nothing about it is symmetric."""
    pixels = np.zeros((60, 80, 3), dtype=np.uint8)
    pixels[..., 0] = np.linspace(0, 255, 80)[None, :]
    pixels[..., 1] = np.linspace(20, 180, 60)[:, None]
    pixels[:20, :, 2] = 200
    return Image.fromarray(pixels)


def embedded(batch: Batch, *pictures: bytes | None) -> tuple[list[np.ndarray | None], Outcome]:
    outcome = ImageEmbedding()(batch("image", list(pictures)))
    values = outcome.outputs["image_embedding"].to_pylist()
    return [None if value is None else np.array(value) for value in values], outcome


def test_an_embedding_has_128_numbers_and_length_one(batch: Batch) -> None:
    (value,), outcome = embedded(batch, saved(gradient()))
    assert value is not None
    assert value.shape == (128,)
    assert np.linalg.norm(value) == pytest.approx(1.0, abs=1e-6)
    assert outcome.outputs.schema.field("image_embedding").type == pa.list_(pa.float32())
    assert outcome.failures == ()


def test_the_descriptor_does_not_move() -> None:
    ramp = np.arange(64 * 64 * 3, dtype=np.uint32).reshape(1, 64, 64, 3) ** 2 // 7 % 251
    found = describe(ramp.astype(np.uint8))[0]
    golden = [0.5767, -0.0018, 0.0021, 0.0001, 0.0759, 0.4122, 0.0647, 0.0827]
    np.testing.assert_allclose(found[[0, 1, 17, 30, 40, 63, 64, 127]], golden, atol=1e-4)


def test_like_pictures_are_near_and_unlike_ones_far(batch: Batch) -> None:
    picture = gradient()
    (first, compressed, turned, red), _ = embedded(
        batch,
        saved(picture),
        saved(picture, "JPEG", quality=60),
        saved(picture.rotate(180)),
        saved(Image.new("RGB", (50, 50), "red")),
    )
    assert first is not None
    assert first @ compressed > 0.97
    assert first @ turned < 0.9
    assert first @ red < 0.7


def test_exif_orientation_is_applied(batch: Batch) -> None:
    picture = gradient()
    exif = Image.Exif()
    exif[0x0112] = 6  # stored turned by 90 degrees: shown turned back
    stored = picture.transpose(Image.Transpose.ROTATE_90)
    (upright, turned), _ = embedded(
        batch, saved(picture, "JPEG", quality=95), saved(stored, "JPEG", quality=95, exif=exif)
    )
    assert upright @ turned > 0.99


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I;16", "I", "F"])
def test_pictures_of_every_mode_are_read(batch: Batch, mode: str) -> None:
    if mode == "I;16":
        picture = Image.fromarray(np.linspace(0, 65_535, 4_800).reshape(60, 80).astype(np.uint16))
    elif mode == "LAB":
        from PIL import ImageCms

        profiles = (ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"))
        picture = ImageCms.applyTransform(gradient(), ImageCms.buildTransform(*profiles, "RGB", "LAB"))
    elif mode in ("LA", "I", "F"):
        picture = gradient().convert("L").convert(mode)
    else:
        picture = gradient().convert(mode)
    form = "TIFF" if mode in ("CMYK", "YCbCr", "LAB", "I;16", "I", "F") else "PNG"
    (value,), outcome = embedded(batch, saved(picture.convert("RGB") if mode == "HSV" else picture, form))
    assert outcome.failures == ()
    assert value is not None
    assert np.linalg.norm(value) == pytest.approx(1.0, abs=1e-6)


def test_sixteen_bits_say_the_same_as_eight(batch: Batch) -> None:
    grey = np.linspace(0, 255, 4_800).reshape(60, 80).astype(np.uint8)
    (eight, sixteen), _ = embedded(
        batch, saved(Image.fromarray(grey)), saved(Image.fromarray(grey.astype(np.uint16) * 257), "TIFF")
    )
    assert eight @ sixteen > 0.999


def test_transparency_is_laid_on_white(batch: Batch) -> None:
    clear = Image.new("RGBA", (40, 40), (255, 0, 0, 0))
    (transparent, white), _ = embedded(batch, saved(clear), saved(Image.new("RGB", (40, 40), "white")))
    assert transparent @ white == pytest.approx(1.0, abs=1e-6)


def bomb() -> bytes:
    """A PNG of a hundred bytes that claims 60,000 x 60,000 pixels."""

    def part(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + part(b"IDAT", zlib.compress(b"\0" * 100)) + part(b"IEND", b"")


def test_what_cannot_be_read_is_a_failure_with_a_reason_and_the_rest_goes_on(batch: Batch) -> None:
    whole = saved(gradient(), "JPEG")
    values, outcome = embedded(
        batch, whole, b"", b"no picture", whole[: len(whole) // 2], bomb(), None, b"%!PS-Adobe-3.0 EPSF-3.0\n", whole
    )
    assert [value is not None for value in values] == [True, False, False, False, False, False, False, True]
    reasons = {failure.row: failure.reason for failure in outcome.failures}
    assert sorted(reasons) == [1, 2, 3, 4, 6]  # not 5: an item without a cover is no failure
    assert "not a picture" in reasons[1]
    assert "runcated" in reasons[3] or "truncated" in reasons[3]
    assert "pixels" in reasons[4] or "bomb" in reasons[4].lower()
    assert "not a picture" in reasons[6]  # PostScript would start another program
    assert {failure.input for failure in outcome.failures} == {"image"}


def test_every_real_file_gives_numbers_or_a_reason(batch: Batch, real_media: Callable[[str], list[Path]]) -> None:
    files = real_media("images")
    values, outcome = embedded(batch, *[path.read_bytes() for path in files])
    failed = {failure.row for failure in outcome.failures}
    assert {row for row, value in enumerate(values) if value is None} == failed
    assert all(failure.reason for failure in outcome.failures)
    pictures = [row for row, path in enumerate(files) if path.parent.name in ("skimage", "cc0-mdn")]
    assert not failed & set(pictures)


def test_without_pillow_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(MissingExtraError) as caught:
        ImageEmbedding.require()
    assert "reclake[media]" in str(caught.value.hint)


def test_efficientnet_gives_1280_numbers_on_the_cpu_too(batch: Batch) -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("torch")
    operator = ImageEmbeddingEfficientNet()
    operator.setup()
    picture = saved(gradient())
    outcome = operator(
        batch(
            "image", [picture, b"broken", None, saved(gradient(), "JPEG", quality=80), saved(Image.new("RGB", (9, 9)))]
        )
    )
    first, broken, absent, near, far = outcome.outputs["image_embedding"].to_pylist()
    assert broken is None
    assert absent is None
    assert [failure.row for failure in outcome.failures] == [1]
    assert len(first) == 1280
    assert np.linalg.norm(first) == pytest.approx(1.0, abs=1e-5)
    assert np.dot(first, near) > np.dot(first, far)
