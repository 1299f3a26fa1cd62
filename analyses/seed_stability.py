"""Is a learned vector the same with another seed or other problems, and how many problems does it need?

$ python analyses/seed_stability.py
$ python analyses/seed_stability.py --sizes 10,40,160 --layer 1
$ python analyses/seed_stability.py --model DIRECTORY --task blimp --task-path FILE.jsonl
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

import steerlab as sl
from steerlab.cli.options import Setup, writes_run
from steerlab.cli.run import run


@dataclass(frozen=True)
class Config(Setup):
    """What the study needs to know."""

    layer: int | None = None  # where vectors act; the middle layer by default
    sizes: tuple[int, ...] = (25, 50, 100, 200)  # numbers of training problems; the largest is the reference's
    seeds: int = 5  # vectors of the reference's problems
    subsets: int = 4  # vectors of each size from other problems
    shuffled: int = 4  # vectors from permuted targets
    test: int = 300  # test problems
    epochs: int = 3  # of the largest size; smaller ones take as many steps
    lr: float = 0.01  # learning rate


@writes_run("seed_stability")
def main(config: Config, folder: Path) -> None:
    """Measure, print, write the run folder."""
    model, task = config.load()
    found = sl.seed_stability(
        model,
        task,
        rng=np.random.default_rng([config.seed, 0]),
        layer=config.layer,
        sizes=config.sizes,
        seeds=config.seeds,
        subsets=config.subsets,
        n_shuffled=config.shuffled,
        n_test=min(config.test, len(task.test)),
        epochs=config.epochs,
        lr=config.lr,
        progress=True,
    )
    print(f"{found.curve().to_string(index=False, float_format='%.3f')}\n\n{found}")
    config.save(folder, found, model, task)


if __name__ == "__main__":
    run(main, Config)
