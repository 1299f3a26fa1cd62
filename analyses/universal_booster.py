"""Does one vector from a mixture of tasks help the tasks that it was learned from, and a task that was left out?

$ python analyses/universal_booster.py
$ python analyses/universal_booster.py --tasks story,bare,largest --left-out bare
$ python analyses/universal_booster.py --model DIRECTORY --task blimp --task-path FOLDER --tasks PARADIGM,PARADIGM,PARADIGM
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

import steerlab as sl
from steerlab.cli.options import SeveralTasks, writes_run
from steerlab.cli.run import run


@dataclass(frozen=True)
class Config(SeveralTasks):
    """What the study needs to know."""

    tasks: tuple[str, ...] = ("story", "equation", "largest", "subtractions")
    """variants of arithmetic, paradigms of BLiMP, or task names, each perhaps with =FILE"""
    left_out: tuple[str, ...] | None = None  # tasks to leave out, one at a time; each by default
    layers: tuple[int, ...] | None = None  # candidates; a quarter, a half and three quarters of the depth by default
    train: int = 150  # train problems of each vector
    validation: int = 90  # validation problems of each vector
    test: int = 150  # test problems of each task
    epochs: int = 3  # of training
    lr: float = 0.01  # learning rate
    random: int = 39  # random directions for each mixture


@writes_run("universal_booster")
def main(config: Config, folder: Path) -> None:
    """Measure, print, write the run folder."""
    model, tasks = config.load_all()
    most = {split: min(len(getattr(task, split)) for task in tasks.values()) for split in ("train", "validation", "test")}
    found = sl.universal_booster(
        model,
        tasks,
        rng=np.random.default_rng([config.seed, 0]),
        layers=config.layers,
        left_out=config.left_out,
        n_train=min(config.train, most["train"]),
        n_validation=min(config.validation, most["validation"]),
        n_test=min(config.test, most["test"]),
        n_random=config.random,
        epochs=config.epochs,
        lr=config.lr,
        progress=True,
    )
    shown = found.frame[["vector", "task", "trained", "layer", "baseline", "change", "low", "high", "p_holm", "random", "p_random"]]
    print(f"{shown.to_string(index=False, float_format='%.3f')}\n\n{found}")
    config.save(folder, found, model, tasks)


if __name__ == "__main__":
    run(main, Config)
