"""Static or context-dependent vectors: do fewer parameters win where there are few problems to learn from?

A static vector, a modulated one, a dictionary with a router and a network are trained on the same problems for as many steps, over several
seeds; learning rate and epoch are chosen on validation, and all are scored once on test.

    python analyses/context_vectors.py
    python analyses/context_vectors.py --n-train 400 --seeds 0,1,2,3,4 --layer 3
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

import steerlab as sl
from steerlab.cli.options import Setup, writes_run
from steerlab.cli.run import run


@dataclass(frozen=True)
class Config(Setup):
    """What the comparison needs to know."""

    layer: int | None = None  # where the vectors act; the middle layer by default
    kinds: tuple[str, ...] = ("static", "modulated", "dictionary", "mlp")  # what is compared
    n_train: int = 100  # training problems of each seed
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)  # each draws its own training problems
    lrs: tuple[float, ...] = (1e-2, 1e-3)  # learning rates, chosen on validation
    epochs: int = 5  # passes over the training problems
    batch_size: int = 4  # problems a step
    pooling: str = "mean"  # what a vector sees of the prompt: its mean, or its last position


@writes_run("context_vectors")
def main(config: Config, folder: Path) -> None:
    """Train, compare, print, write the run folder."""
    model, task = config.load()
    found = sl.compare_context_vectors(
        model,
        task.train,
        task.validation,
        task.test,
        layer=config.layer if config.layer is not None else model.cfg.n_layers // 2,
        rng=np.random.default_rng([config.seed, 0]),
        kinds=config.kinds,
        n_train=config.n_train,
        seeds=config.seeds,
        lrs=config.lrs,
        epochs=config.epochs,
        batch_size=config.batch_size,
        pooling=config.pooling,
        progress=True,
    )
    print(f"{found}\n\n{found.kinds.to_string(index=False, float_format='%.3g')}")
    config.save(folder, found, model, task)


if __name__ == "__main__":
    run(main, Config)
