"""A feed that is killed in the middle of an epoch, and the proof that it goes on where it was."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from ..pipelines.feed import Batch, Feed
from ..schemas.errors import FeedError

BATCH_SIZE = 1024


@dataclass(frozen=True, slots=True)
class Proof:
    """Digests of the batch after the kill: the resumed feed's, and that of a feed nobody killed."""

    batches: int
    killed_after: int
    resumed: str
    expected: str

    @property
    def equal(self) -> bool:
        return self.resumed == self.expected


def interrupt(shards: Path, state: Path, *, seed: int) -> Proof:
    """Run a feed in a process of its own, kill it half-way, resume in another process, compare the next batch."""
    total = len(_feed(shards, seed))
    wanted = max(1, total // 2)
    command = [sys.executable, "-m", "reclake.cli.interruption", str(shards), str(state), str(seed)]
    with subprocess.Popen([*command, str(wanted)], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        child.stdout.readline()  # it stands behind batch `wanted`, with more read ahead
        child.kill()
    if not state.is_file():
        raise FeedError("the feed ended before it was killed", where=shards, expected=f"{wanted} batches", got="none")
    saved = json.loads(state.read_text())
    resumed = subprocess.run([*command, "resume"], capture_output=True, text=True, check=False)
    if resumed.returncode:
        raise FeedError("the feed did not resume", where=state, got=resumed.stderr.strip()[-500:])
    untouched = next(islice(iter(_feed(shards, seed)), saved["batches"], None), None)
    expected = "the end of the epoch" if untouched is None else digest(untouched)
    return Proof(total, saved["batches"], resumed.stdout.strip(), expected)


def digest(batch: Batch) -> str:
    """BLAKE2b-128 of every array of a batch, histories included."""
    hashed = hashlib.blake2b(digest_size=16)
    for name in batch.keys():  # noqa: SIM118 -- a batch is no mapping
        hashed.update(name.encode() + batch[name].tobytes())
    for name, jagged in sorted(batch.history.items()):
        hashed.update(name.encode() + jagged.values.tobytes() + jagged.offsets.tobytes())
    return hashed.hexdigest()


def _feed(shards: Path, seed: int, *, workers: int = 0) -> Feed:
    samples = Feed(shards, batch_size=1, order="stored").samples
    return Feed(shards, batch_size=max(1, min(BATCH_SIZE, samples // 4)), seed=seed, workers=workers)


def _run(shards: Path, state: Path, seed: int, wanted: int) -> None:
    """Iterate and save the state after every batch; at batch `wanted` say so, and wait to be killed."""
    feed = _feed(shards, seed, workers=2)
    for number, _ in enumerate(feed, 1):
        saved: dict[str, Any] = {"batches": number, "feed": feed.state_dict()}
        unfinished = state.with_suffix(".tmp")
        unfinished.write_text(json.dumps(saved))
        unfinished.replace(state)
        if number == wanted:
            print(number, flush=True)
            time.sleep(600)


def _resume(shards: Path, state: Path, seed: int) -> None:
    feed = _feed(shards, seed)
    feed.load_state_dict(json.loads(state.read_text())["feed"])
    print(digest(next(iter(feed))))


def _main(shards: str, state: str, seed: str, what: str) -> None:
    if what == "resume":
        _resume(Path(shards), Path(state), int(seed))
    else:
        _run(Path(shards), Path(state), int(seed), int(what))


if __name__ == "__main__":
    _main(*sys.argv[1:])
