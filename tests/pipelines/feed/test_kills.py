"""A feed that is killed, and goes on in another process: its batches are those of a feed nobody killed."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

# argv: the shards, the saved state, threads, worker processes, world sizes from here on. One rank after the other takes
# its batch: what a step's ranks get, together, is what is compared.
TRAINER = """
import hashlib, json, os, sys
import reclake
shards, saved, threads, world = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
feeds = [
    reclake.Feed(shards, batch_size=30 // world, seed=7, pool_samples=200, workers=threads, rank=r, world_size=world,
                 where="seen > 1", weight="1.5 if click else 0.5", negatives=reclake.Negatives("uniform", 2))
    for r in range(world)
]
step = 0
if os.path.exists(saved):
    state = json.load(open(saved))
    step = state["step"]
    for feed in feeds:
        feed.load_state_dict(state["feed"])
while feeds[0].epoch < 3:
    for batches in zip(*feeds, strict=True):
        found = hashlib.blake2b(digest_size=8)
        names = [name for name in batches[0].keys()]
        for name in names:
            found.update(b"".join(batch[name].tobytes() for batch in batches))
        for name in batches[0].history:
            found.update(b"".join(batch.history[name].values.tobytes() for batch in batches))
        found.update(b"".join(batch.negatives["item_id"].tobytes() for batch in batches))
        ids = [int(i) for batch in batches for i in batch["sample_id"]]
        print(step, found.hexdigest(), *ids, flush=True)
        step += 1
        json.dump({"step": step, "feed": feeds[0].state_dict()}, open(saved + ".new", "w"))
        os.replace(saved + ".new", saved)
"""


def run(shards: Path, saved: Path, threads: int, world: int, lines: int | None) -> dict[int, str]:
    """What the trainer printed by step, killed (SIGKILL) after so many lines; None lets it end."""
    command = [sys.executable, "-c", TRAINER, str(shards), str(saved), str(threads), str(world)]
    found: dict[int, str] = {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if line.endswith("\n"):
                step, rest = line.split(" ", 1)
                found[int(step)] = rest
            if len(found) == lines:
                child.kill()  # and read on: steps that it has printed since may be in the saved state
        assert child.wait() in ((0,) if lines is None else (0, -signal.SIGKILL))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("threads", [0, 1, 2, 4])
def test_a_feed_killed_at_five_random_points_of_three_epochs_gives_what_one_that_was_not_gives(
    shards: Path, tmp_path: Path, threads: int
) -> None:
    expected = run(shards, tmp_path / "whole", 0, 1, None)
    rng = random.Random(threads)
    points = sorted(rng.sample(range(2, len(expected) - 1), 4))
    points.append(max(points[-1] + 1, len(expected) - 2))  # in the last epoch
    found: dict[int, str] = {}
    for number, point in enumerate(points):
        state = tmp_path / "state"
        done = json.loads(state.read_text())["step"] if state.exists() else 0
        # The world is 1, 2, 3, 1, 2 ranks: a step of all is always the next 30 samples.
        found |= run(shards, state, threads, 1 + number % 3, max(1, point - done))
    found |= run(shards, tmp_path / "state", threads, 1, None)
    assert found == expected
    assert len(json.loads((tmp_path / "state").read_text())["feed"]) == 13


@pytest.mark.slow
def test_worker_processes_of_a_killed_loader_end_and_another_goes_on(shards: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    code = """
import json, os, sys, time
import reclake
feed = reclake.Feed(sys.argv[1], batch_size=50, seed=7, pool_samples=200)
if os.path.exists(sys.argv[2]):
    feed.load_state_dict(json.load(open(sys.argv[2])))
for batch in feed.torch_loader(int(sys.argv[3])):
    json.dump(feed.state_dict(), open(sys.argv[2] + ".new", "w"))
    os.replace(sys.argv[2] + ".new", sys.argv[2])
    print(*batch["sample_id"].tolist(), flush=True)
"""
    import reclake

    whole = [b["sample_id"].tolist() for b in reclake.Feed(shards, batch_size=50, seed=7, pool_samples=200)]
    given: list[list[int]] = []
    for workers, lines in ((2, 5), (1, 4), (0, 99)):
        command = [sys.executable, "-W", "ignore", "-c", code, str(shards), str(tmp_path / "state"), str(workers)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            while lines and (line := child.stdout.readline()):
                given.append([int(word) for word in line.split()])
                lines -= 1
            child.kill()
        state = json.loads((tmp_path / "state").read_text())
        place = state["position"] // 50 if state["epoch"] == 0 else len(whole)
        given = given[:place] + whole[len(given) : place]  # a kill may fall between the state and the line
    assert given == whole
