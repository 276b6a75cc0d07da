"""What the simulated items look, sound and read like. A cover, a clip, a sound and a title all tell the topic.

Needs Pillow for covers and PyAV for clips. One cover is no image, one clip stops short and one sound is no sound.
"""

from __future__ import annotations

import colorsys
import wave
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from ...schemas.errors import MissingExtraError
from ...schemas.times import US_PER_DAY
from .log import TIME
from .world import TOPICS, World, random

COVER_PX = 96
CLIP_PX, CLIP_FRAMES, CLIP_FPS = 64, 12, 12
SOUND_HZ, SOUND_S = 16_000, 0.5
CLIPS, SOUNDS = 40, 60  # of the items, at most

_WORDS = {
    "ocean": ("waves", "surf", "reef", "tide", "sail", "whale"),
    "forest": ("trees", "moss", "trail", "cabin", "fern", "owl"),
    "city": ("street", "tram", "skyline", "night", "market", "bridge"),
    "kitchen": ("soup", "bread", "spice", "pan", "noodles", "cake"),
    "music": ("guitar", "drums", "choir", "encore", "beat", "vinyl"),
    "sport": ("goal", "sprint", "climb", "match", "team", "record"),
    "space": ("rocket", "orbit", "comet", "lander", "stars", "eclipse"),
    "animals": ("puppy", "kitten", "fox", "parrot", "otter", "panda"),
}
_PLAIN = ("my", "the best", "a day with", "how to love", "watch this", "slow", "another", "ten minutes of")


@dataclass(frozen=True, slots=True)
class Broken:
    """Files that are not what their names say, relative to the app's folder."""

    cover: str
    clip: str
    sound: str


def titles(world: World) -> list[str]:
    """A title for each item: a plain beginning and two words of its topic."""
    rng = random(world.seed, 4)
    found = []
    for topic in world.items.topic.tolist():
        first, second = rng.choice(_WORDS[TOPICS[topic]], 2, replace=False)
        found.append(f"{_PLAIN[int(rng.integers(len(_PLAIN)))]} {first} and {second}")
    return found


def manifest(world: World, *, media: bool) -> pl.DataFrame:
    """One row for each item: id, title, paths relative to the app's folder, when it could be seen, how long it is.

    An item can be seen an hour before the day it is first shown on, so its content may be known before any exposure.
    """
    items = world.items
    count = len(items.id)
    number = pl.Series(np.arange(count)).cast(pl.String).str.zfill(6)
    first_us = world.start_us + items.first_day * US_PER_DAY - 3_600_000_000
    paths = {
        "cover": _paths("covers/" + number + ".jpg", count if media else 0),
        "clip": _paths("clips/" + number + ".mp4", CLIPS if media else 0),
        "sound": _paths("sounds/" + number + ".wav", SOUNDS if media else 0),
    }
    return pl.DataFrame(
        {
            "item_id": items.id,
            "title": titles(world),
            **paths,
            "available_at": pl.Series(first_us).cast(TIME),
            "duration_ms": items.duration_ms,
        }
    )


def _paths(every: pl.Series, limit: int) -> pl.Series:
    """At most `limit` of the paths, spread evenly over shelves and topics; null for the other items."""
    chosen = np.zeros(len(every), dtype=bool)
    chosen[np.linspace(0, len(every) - 1, min(limit, len(every))).astype(np.int64)] = True
    return every.zip_with(pl.Series(chosen), pl.Series([None], dtype=pl.String).new_from_index(0, len(every)))


def require() -> None:
    """Refuse early where covers and clips cannot be made.

    Raises:
        MissingExtraError: Pillow or PyAV is not installed.
    """
    try:
        import av  # noqa: F401
        import PIL.Image  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            "simulating media needs Pillow and PyAV",
            got=str(error),
            hint="pip install 'reclake[media]', or simulate with media=False",
        ) from error


def render(root: Path, world: World, rows: pl.DataFrame) -> Broken:
    """Write every cover, clip and sound that the manifest names, three of them broken."""
    for folder in ("covers", "clips", "sounds"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for index, topic in enumerate(world.items.topic.tolist()):
        rng = random(world.seed, 5, index)
        cover, clip, sound = (rows[name][index] for name in ("cover", "clip", "sound"))
        if cover is not None:
            _draw(rng, topic, COVER_PX).save(root / cover, quality=85)
        if clip is not None:
            _film(root / clip, rng, topic)
        if sound is not None:
            _play(root / sound, rng, topic)
    broken = Broken(*(rows[name].drop_nulls()[3] for name in ("cover", "clip", "sound")))
    (root / broken.cover).write_bytes(b"\xff\xd8\xff\xe0" + random(world.seed, 6).bytes(2_000))
    whole = (root / broken.clip).read_bytes()
    (root / broken.clip).write_bytes(whole[: len(whole) // 2])
    (root / broken.sound).write_bytes(b"RIFF\x00\x00\x00\x00WAVEfmt nothing that plays")
    return broken


def _colour(rng: np.random.Generator, topic: int, *, value: float) -> tuple[int, int, int]:
    hue = (topic / len(TOPICS) + float(rng.normal(0.0, 0.02))) % 1.0
    red, green, blue = colorsys.hsv_to_rgb(hue, float(rng.uniform(0.6, 0.95)), value)
    return int(red * 255), int(green * 255), int(blue * 255)


def _draw(rng: np.random.Generator, topic: int, size: int, *, shift: float = 0.0) -> Any:
    """A picture of a topic: its colour, and shapes with as many corners as the topic's number."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (size, size), _colour(rng, topic, value=0.85))
    draw = ImageDraw.Draw(image)
    for _ in range(3):
        x, y = (float(v) for v in rng.uniform(0.2, 0.8, 2) * size)
        radius = float(rng.uniform(0.12, 0.25)) * size
        fill = _colour(rng, topic, value=0.45)
        x += shift * size
        if topic == 0:
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=fill)
        else:
            draw.regular_polygon((x, y, radius), n_sides=topic + 2, fill=fill)
    noise = rng.normal(0.0, 8.0, (size, size, 3))
    return Image.fromarray((np.asarray(image, dtype=np.float64) + noise).clip(0, 255).astype(np.uint8))


def _film(path: Path, rng: np.random.Generator, topic: int) -> None:
    """A second of H.264 in which the topic's shapes drift to the right."""
    import av

    seed = int(rng.integers(1 << 31))
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=CLIP_FPS, options={"preset": "ultrafast", "threads": "1"})
        stream.width = stream.height = CLIP_PX
        stream.pix_fmt = "yuv420p"
        for number in range(CLIP_FRAMES):
            picture = _draw(random(seed), topic, CLIP_PX, shift=0.2 * number / CLIP_FRAMES)
            for packet in stream.encode(av.VideoFrame.from_ndarray(np.asarray(picture), format="rgb24")):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)


def _play(path: Path, rng: np.random.Generator, topic: int) -> None:
    """Half a second of the topic's tone and its octave in a little noise; 16 kHz mono, 16 bits."""
    t: npt.NDArray[np.float64] = np.arange(int(SOUND_HZ * SOUND_S)) / SOUND_HZ
    base = 220.0 * 2 ** (topic / 3) * float(rng.uniform(0.98, 1.02))
    signal = 0.5 * np.sin(2 * np.pi * base * t) + 0.25 * np.sin(4 * np.pi * base * t) + rng.normal(0.0, 0.02, len(t))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SOUND_HZ)
        file.writeframes((signal.clip(-1, 1) * 32_000).astype("<i2").tobytes())
