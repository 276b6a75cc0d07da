"""The feed under torch's loaders: the same batches in the same order, whatever makes them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from reclake.schemas.errors import FeedError

torch = pytest.importorskip("torch")
# Machines with one core: torch warns of more workers than cores.
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")

Fixture = Callable[..., Any]


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_loader_gives_what_the_feed_gives(
    shards: Path, feed_of: Fixture, contents: Fixture, num_workers: int
) -> None:
    alone, loaded = feed_of(shards), feed_of(shards)
    loader = loaded.torch_loader(num_workers)
    for _ in range(2):
        assert [contents(b) for b in loader] == [contents(b) for b in alone]
        assert loaded.state_dict() == alone.state_dict()


@pytest.mark.slow
def test_a_loader_works_with_spawned_workers(shards: Path, feed_of: Fixture, contents: Fixture) -> None:
    loader = feed_of(shards, workers=1, where="seen > 3").torch_loader(2, multiprocessing_context="spawn")
    assert [contents(b) for b in loader] == [contents(b) for b in feed_of(shards, where="seen > 3")]


def test_a_loader_counts_what_its_workers_did(shards: Path, feed_of: Fixture) -> None:
    feed = feed_of(shards)
    batches = list(feed.torch_loader(2))
    stats = feed.stats()
    assert (stats["batches"], stats["samples"]) == (len(batches), feed.samples)
    assert min(stats["seconds"].values()) > 0
    assert stats["busy"] < 0.95, "it does nothing else than wait"
    assert stats["stall"] == max(("read", "arrange", "cut"), key=lambda stage: float(stats["seconds"][stage]))


def test_a_loader_goes_behind_an_epoch_of_which_nothing_is_selected(shards: Path, feed_of: Fixture) -> None:
    feed = feed_of(shards, where="sample_id < 1003", weight="0.4")
    empty = next(epoch for epoch in range(99) if feed.set_epoch(epoch) or feed.samples == 0)
    assert list(feed.torch_loader(1)) == []
    assert feed.epoch == empty + 1
    alone, loaded = (feed_of(shards, where="sample_id < 1003", weight="0.4") for _ in range(2))
    for epoch in range(empty + 2):
        assert alone.epoch == loaded.epoch == epoch
        assert len(list(alone)) == len(list(loaded.torch_loader(1)))


def test_a_loader_is_resumed_in_the_middle_with_other_workers(shards: Path, feed_of: Fixture, ids: Fixture) -> None:
    whole = feed_of(shards)
    expected = ids(whole) + ids(whole)
    first = feed_of(shards)
    got = ids(first.torch_loader(2))
    loop = iter(first.torch_loader(2))
    got += ids(islice(loop, 5))
    del loop
    second = feed_of(shards)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert got + ids(second.torch_loader(1)) == expected


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")  # torchdata 0.11 under torch 2.13
@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_stateful_data_loader_resumes(shards: Path, feed_of: Fixture, ids: Fixture, num_workers: int) -> None:
    stateful = pytest.importorskip("torchdata.stateful_dataloader")

    def made() -> Any:
        return stateful.StatefulDataLoader(
            feed_of(shards).torch_dataset(), batch_size=None, num_workers=num_workers, snapshot_every_n_steps=1
        )

    whole = ids(feed_of(shards))
    for stop in (1, 4, 17):
        loader = made()
        loop = iter(loader)
        got = ids(islice(loop, stop))
        state = loader.state_dict()
        del loop
        resumed = made()
        resumed.load_state_dict(state)
        assert got + ids(resumed) == whole


@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")  # torchdata 0.11 under torch 2.13
def test_each_epoch_of_a_stateful_data_loader_is_another_and_is_resumed(
    shards: Path, feed_of: Fixture, ids: Fixture
) -> None:
    stateful = pytest.importorskip("torchdata.stateful_dataloader")
    alone = feed_of(shards)
    expected = [ids(alone) for _ in range(3)]

    def made() -> tuple[Any, Any]:
        feed = feed_of(shards)
        return feed, stateful.StatefulDataLoader(feed.torch_dataset(), batch_size=None, num_workers=2)

    feed, loader = made()
    got = ids(loader)
    feed.set_epoch(1)
    loop = iter(loader)
    second = ids(islice(loop, 5))
    state = loader.state_dict()
    del loop
    feed, loader = made()
    loader.load_state_dict(state)
    feed.set_epoch(1)
    second += ids(loader)
    feed.set_epoch(2)
    assert [got, second, ids(loader)] == expected


def test_tensors_are_padded_and_nested_as_arrays_are(shards: Path, feed_of: Fixture) -> None:
    batch = next(iter(feed_of(shards)))
    jagged, tensors = batch.history["watch_ms"], batch.to_torch().history["watch_ms"]
    assert np.array_equal(tensors.padded(8, fill=-1).numpy(), jagged.padded(8, fill=-1))
    nested = tensors.nested()
    assert [len(each) for each in nested.unbind()] == jagged.lengths.tolist()
    assert nested.values().data_ptr() == tensors.values.data_ptr()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_batch_goes_to_a_device_from_pinned_memory(shards: Path, feed_of: Fixture) -> None:
    batch = next(iter(feed_of(shards)))
    sent = batch.to_torch().pin_memory().to("cuda", non_blocking=True)
    torch.cuda.synchronize()
    assert torch.equal(sent["item_id"].cpu(), torch.from_numpy(batch["item_id"]))
    assert sent.history["item_id"].values.is_cuda


def test_what_takes_tensors_says_so_of_arrays_and_of_fields_that_are_not_there(shards: Path, feed_of: Fixture) -> None:
    pytest.importorskip("torchrec")
    batch = next(iter(feed_of(shards)))
    for make in (batch.history["item_id"].nested, lambda: batch.keyed_jagged("item_id")):
        with pytest.raises(FeedError, match=r"to_torch\(\) first"):
            make()
    for fields in ((), ("item_id", "nope")):
        with pytest.raises(FeedError, match=r"no such history field[\s\S]*one of item_id, event_type"):
            batch.to_torch().keyed_jagged(*fields)


def test_histories_become_a_keyed_jagged_tensor(shards: Path, feed_of: Fixture) -> None:
    pytest.importorskip("torchrec")
    batch = next(iter(feed_of(shards))).to_torch()
    keyed = batch.keyed_jagged("item_id", "event_time")
    assert keyed.keys() == ["item_id", "event_time"]
    assert torch.equal(keyed["item_id"].values(), batch.history["item_id"].values)
    assert torch.equal(keyed["event_time"].lengths(), batch.history["event_time"].lengths)
    with pytest.raises(FeedError, match=r"event_type: torch\.int32"):
        batch.keyed_jagged("item_id", "event_type")


def test_distinct_histories_are_embedded_once_and_given_to_every_sample(shards: Path, feed_of: Fixture) -> None:
    pytest.importorskip("torchrec")
    from torchrec import EmbeddingBagCollection, EmbeddingBagConfig

    plain, distinct = (next(iter(feed_of(shards, deduplicate=deduplicate))).to_torch() for deduplicate in (False, True))
    assert distinct.dedup_factor > 1
    for batch in (plain, distinct):
        batch.history["item_id"].values.remainder_(50)
    table = EmbeddingBagConfig(name="item_table", num_embeddings=50, embedding_dim=4, feature_names=["item_id"])
    bags = EmbeddingBagCollection(tables=[table])
    of_plain, of_distinct = (bags(batch.keyed_jagged("item_id")).values() for batch in (plain, distinct))
    assert of_plain.shape == (len(plain), 4)
    assert torch.equal(of_plain, of_distinct)


RANK = """
import json, os, sys
import torch, torch.distributed as dist
import reclake
dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()
feed = reclake.Feed(sys.argv[1], batch_size=25, seed=7, pool_samples=200, rank=rank, world_size=world)
state = sys.argv[2] + ".state"
if os.path.exists(state):
    feed.load_state_dict(json.load(open(state)))
for number, batch in enumerate(feed, 1):
    tensors = batch.to_torch()
    given = [None] * world
    dist.all_gather_object(given, tensors["sample_id"].tolist())
    if rank == 0:
        print(json.dumps(sum(given, [])), file=open(sys.argv[2], "a"))
    if number == 7 and not os.path.exists(state):
        dist.barrier()
        if rank == 0:
            json.dump(feed.state_dict(), open(state, "w"))
        dist.barrier()
        break
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_under_torchrun_share_one_order_and_resume(
    shards: Path, feed_of: Fixture, ids: Fixture, tmp_path: Path
) -> None:
    script, out = tmp_path / "rank.py", tmp_path / "out"
    script.write_text(RANK)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script)]
    for _ in range(2):
        done = subprocess.run([*command, str(shards), str(out)], capture_output=True, text=True, check=False)
        assert not done.returncode, done.stderr[-2000:]
    steps = [json.loads(line) for line in out.read_text().splitlines()]
    assert [i for step in steps for i in step] == ids(feed_of(shards))


MODEL = """
import torch
class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.items = torch.nn.EmbeddingBag(100, 4, include_last_offset=True)
    def forward(self, item, values, offsets):
        return self.items(values % 100, offsets).sum(dim=1) + item * 0
"""


@pytest.mark.slow
def test_the_loop_of_the_page_for_trainers_runs_and_goes_on_from_its_checkpoint(
    shards: Path, checkout: Path, tmp_path: Path
) -> None:
    page = (checkout / "docs" / "training.md").read_text()
    loop = page.split("```python\n")[1].split("```")[0]
    for given, here in {
        '"shards/", batch_size=4096, history=256': f"{str(shards)!r}, batch_size=25, history=32",
        "step % 1000 == 999": "step % 10 == 9",
    }.items():
        assert given in loop
        loop = loop.replace(given, here)
    ending = 'pathlib.Path(f"rank-{rank}").write_text(str(step + 1))\n'
    (tmp_path / "train.py").write_text(loop + ending)
    (tmp_path / "model.py").write_text(MODEL)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "train.py"]
    whole = None
    for began in (0, 2):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert not done.returncode, done.stderr[-2000:]
        state = torch.load(tmp_path / "checkpoint.pt")
        assert state["feed"]["epoch"] == 2
        assert state["optimizer"]["state"], "the optimizer goes on too"
        steps = [(tmp_path / f"rank-{rank}").read_text() for rank in range(2)]
        whole = whole or steps
        assert len(set(steps)) == 1, "every rank makes the same number of steps"
        assert (steps == whole) == (began == 0), (
            "the second run makes the steps that the first made after its checkpoint"
        )
