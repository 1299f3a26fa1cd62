"""Does a Watcher that learns online where right answers come from make a frozen model better?

Emergent Activation Snapping on a stream of problems, one at a time, with its baselines: no Watcher, attractors that never learn, fixed
strength, no clamp, the sources' literal formula, and attractors at the norm of what is drawn to them. All see the same stream, so that
every difference is paired. Nothing is chosen here, so the stream may be any split.

    python analyses/eas.py
    python analyses/eas.py --layer 2 --strength 1.0 --problems 300
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

import steerlab as sl
from steerlab.cli.options import Setup, writes_run
from steerlab.cli.run import run


@dataclass(frozen=True)
class Config(Setup):
    """What the stream and the Watcher are made of."""

    split: Literal["train", "validation", "test"] = "train"  # where the stream comes from
    problems: int = 1000  # length of the stream, at most
    layer: int | None = None  # watched block; the middle one by default
    attractors: int = 10  # points that activations are drawn to
    strength: float = 0.3  # how much of the way to the nearest one a nudge goes, at most
    clamp: float = 0.5  # largest coordinate of a nudge, in standard deviations
    every: int = 5  # right answers between two updates
    repeats: int = 3  # starts of the attractors
    updates: int = 30  # of the claim that is judged
    points: float = 0.15  # of the claim that is judged: gain in accuracy, as a share of 1


@writes_run("eas")
def main(config: Config, folder: Path) -> None:
    """Run the stream, print the table, write the run folder."""
    watcher = sl.Watcher(attractors=config.attractors, strength=config.strength, clamp=config.clamp, every=config.every)
    model, task = config.load()
    layer = config.layer if config.layer is not None else model.cfg.n_layers // 2
    found = sl.compare_eas(
        model,
        getattr(task, config.split)[: config.problems],
        layer=layer,
        rng=np.random.default_rng([config.seed, 0]),
        watcher=watcher,
        repeats=config.repeats,
        timed=20,
        progress=True,
    )
    claim, table = found.claim(points=config.points, updates=config.updates), found.summary()
    print(f"{table.to_string(index=False, float_format='%.3f')}\n\n{claim}\n")
    print("median seconds a problem: " + ", ".join(f"{name} {seconds:.4f}" for name, seconds in found.latency.items()))
    config.save(folder, found, model, task, answer=str(claim))


if __name__ == "__main__":
    run(main, Config)
