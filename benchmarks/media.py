"""Operators through Ray Data beside a plain Python loop and a thread pool, on the same files.

The peers are what a user would write instead: open each file, call the same operator on it, keep the vectors. Ray is
started before anything is timed and its workers are warm; starting it (about four seconds) is printed apart. On one
machine Ray buys what a thread pool buys at best; what it adds is resources, actors that keep models, other machines.

    python benchmarks/media.py [--quick]
"""

from __future__ import annotations

import os

# One BLAS thread for everybody: Ray gives its workers one, and many make a loop over small matrices slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
from compare import arguments, in_turn
from PIL import Image

from reclake.pipelines.media import on_ray as media_ray
from reclake.pipelines.media.steps import ready, works_of
from reclake.pipelines.simulate import simulate
from reclake.schemas.plan import Plan, Step
from reclake.storage.blobs import Blobs

COVER_PX = 720  # a cover as an app uploads it
STEPS = {
    "image_embedding": Step("image_embedding", (("image", "file"),), (("image_embedding", "image_embedding"),)),
    "video_frames": Step("video_frames", (("video", "file"),), (("frames", "video_frames"),)),
    "log_mel": Step("log_mel", (("audio", "file"),), (("log_mel", "log_mel"),)),
}


def files_of(folder: Path, covers: int) -> dict[str, list[Path]]:
    """Covers at full size, clips and sounds of a simulated app; the last two repeated to make a load."""
    app = simulate(folder, seed=7, users=1, items=covers, days=1)
    for path in sorted((folder / "covers").iterdir()):
        if app.broken is not None and str(path.relative_to(folder)) != app.broken.cover:
            Image.open(path).resize((COVER_PX, COVER_PX)).save(path, quality=85)
    clips, sounds = (sorted((folder / name).iterdir()) for name in ("clips", "sounds"))
    return {
        "image_embedding": sorted((folder / "covers").iterdir()),
        "video_frames": clips * max(1, covers // len(clips)),
        "log_mel": sounds * max(1, covers // len(sounds)),
    }


def one(name: str, path: Path) -> object:
    """What a loop does with one file."""
    operator = ready(name)
    given = pa.table({operator.inputs[0].name: pa.array([path.read_bytes()], pa.large_binary())})
    return operator(given).outputs


def contenders(
    name: str, files: list[Path], blobs: Blobs, cluster: media_ray.Cluster
) -> dict[str, Callable[[], object]]:
    """Ours first: the others are compared with it."""
    works = works_of(Plan("bench", (STEPS[name],)))
    digests = [blobs.put(path.read_bytes()) for path in files]
    table = pa.table({"_place": pa.array(range(len(files)), pa.int64()), "file": pa.array(digests, pa.string())})
    threads = os.cpu_count() or 1

    def pool() -> object:
        with ThreadPoolExecutor(threads) as executor:
            return list(executor.map(lambda path: one(name, path), files))

    return {
        "reclake on Ray Data": lambda: media_ray.run(table, works, blobs.root, cluster),
        "plain loop": lambda: [one(name, path) for path in files],
        f"pool of {threads} threads": pool,
    }


def main() -> None:
    asked = arguments(__doc__ or "")
    covers, rounds = (240, 3) if asked.quick else (2_000, 3)
    folder = Path(tempfile.mkdtemp(prefix="reclake-bench-"))
    try:
        files, blobs = files_of(folder, covers), Blobs(folder / "blobs")
        began = time.perf_counter()
        with media_ray.session(None) as cluster:
            print(f"Ray started in {time.perf_counter() - began:.1f} s: {cluster.cpus:g} CPUs, {cluster.gpus:g} GPUs")
            for name in STEPS:
                seconds = in_turn(contenders(name, files[name], blobs, cluster), rounds=rounds)
                print(f"\n{name}: {len(files[name])} files, {rounds} rounds in turn")
                ours = seconds["reclake on Ray Data"]
                for contender, times in seconds.items():
                    ratio = statistics.median(theirs / mine for theirs, mine in zip(times, ours, strict=True))
                    rate = len(files[name]) / statistics.median(times)
                    print(f"  {contender:<24}{rate:>10.0f} items/s   {ratio:>6.2f}x the time of reclake")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
