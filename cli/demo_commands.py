"""demo: the whole way on one machine."""

from __future__ import annotations

from pathlib import Path

import click

from .options import json_option
from .output import Output


@click.command()
@click.option("--data", type=click.Path(), help="A folder with KuaiRand-Pure's logs; default: a simulated app.")
@click.option("--out", type=click.Path(), default="reclake-demo", show_default=True, help="Where to write.")
@click.option("--seed", default=7, show_default=True, help="Of the simulation, the feed and the model.")
@click.option("--scale", default=1.0, show_default=True, help="Multiplies the simulated events of each user.")
@click.option("--users", default=2000, show_default=True, help="Simulated users.")
@json_option
def demo(data: str | None, out: str, seed: int, scale: float, users: int, machine: bool) -> None:
    """The whole way on one machine: from raw events to a trained model and a report.

    No cluster, no JVM, no GPU, no account, no network.
    """
    from .demo import Demo, kuairand, kuairand_logs, simulated

    logs = None if data is None else kuairand_logs(Path(data))
    output = Output(machine)
    with output.running() as run:
        demo = Demo.start(Path(out), seed=seed, run=run, output=output)
        if logs is None:
            simulated(demo, scale=scale, users=users)
        else:
            kuairand(demo, logs)
    demo.finish()
