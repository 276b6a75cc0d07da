"""A Ray Train worker loop over a feed: each worker takes its rank's batches; the feed's state is in the checkpoint.

    python examples/ray_train.py SHARDS RESULTS --workers 2 --steps 100
    python examples/ray_train.py SHARDS RESULTS --workers 4          # goes on at step 101's samples, with four

Needs torch, ray[train] and reclake. The model is a toy: the mean of the history's item embeddings, dotted with the
item's.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
import torch

import reclake

BUCKETS = 1 << 16
STATES = "states.pt"


class Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.histories = torch.nn.EmbeddingBag(BUCKETS, 16, mode="mean")
        self.items = torch.nn.Embedding(BUCKETS, 16)

    def forward(self, item: torch.Tensor, values: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
        return (self.items(item % BUCKETS) * self.histories(values % BUCKETS, offsets[:-1])).sum(1)


def train_loop(config: dict[str, Any]) -> None:
    context = ray.train.get_context()
    feed = reclake.Feed(
        config["shards"],
        batch_size=config["batch_size"],
        seed=7,
        rank=context.get_world_rank(),
        world_size=context.get_world_size(),
        remainder="pad",
    )
    model = ray.train.torch.prepare_model(Model())
    optimizer = torch.optim.Adam(model.parameters())
    parts = {"model": getattr(model, "module", model), "optimizer": optimizer, "feed": feed}
    # What an earlier run left (`config`), or an earlier attempt of this one, whose worker died.
    checkpoint = ray.train.get_checkpoint()
    found = config["resume"] if checkpoint is None else Path(checkpoint.path)
    if found is not None:
        for name, state in torch.load(found / STATES).items():
            parts[name].load_state_dict(state)
    for step, batch in enumerate(feed, 1):
        tensors = batch.to_torch()
        history = tensors.history["item_id"]
        scores = model(tensors["item_id"], history.values, history.offsets)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(scores, tensors["click"].float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        last = step == config["steps"] or feed.epoch > 0
        if step % 100 == 0 or last:
            with tempfile.TemporaryDirectory() as folder:
                torch.save({name: part.state_dict() for name, part in parts.items()}, Path(folder) / STATES)
                saved = ray.train.Checkpoint.from_directory(folder) if context.get_world_rank() == 0 else None
                ray.train.report({"loss": loss.item(), "first": int(batch["sample_id"][0])}, checkpoint=saved)
        if last:
            return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=0, help="stop after that many; default: at the end of the epoch")
    parser.add_argument("--batch-size", type=int, default=4096)
    given = parser.parse_args()
    kept = given.results / "checkpoint"
    trainer = ray.train.torch.TorchTrainer(
        train_loop,
        train_loop_config={
            "shards": str(given.shards.resolve()),
            "batch_size": given.batch_size,
            "steps": given.steps,
            "resume": kept.resolve() if kept.exists() else None,
        },
        scaling_config=ray.train.ScalingConfig(num_workers=given.workers),
        run_config=ray.train.RunConfig(storage_path=str(given.results.resolve() / "ray")),
    )
    result = trainer.fit()
    assert result.checkpoint is not None
    result.checkpoint.to_directory(kept)
    print(json.dumps(result.metrics | {"feed": torch.load(kept / STATES)["feed"]}))


if __name__ == "__main__":
    main()
