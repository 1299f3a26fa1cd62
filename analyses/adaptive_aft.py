"""The adaptive protocol against the rapid one, with the selection bias measured: what each reports, and what its vector does on fresh problems.

$ python analyses/adaptive_aft.py
$ python analyses/adaptive_aft.py --repetitions 12 --seed 1
$ python analyses/adaptive_aft.py --model DIRECTORY --task blimp --task-path FILE.jsonl
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

    repetitions: int = 6  # how often everything is drawn and run again
    train: int = 50  # train problems of a repetition
    validation: int = 50  # validation problems of a repetition
    outcome: int = 50  # problems that the sources' rules choose by and report on
    fresh: int = 300  # test problems that have no part in anything
    attempts: int = 3  # the most seeds
    rapid_epochs: int = 3  # of the rapid protocol
    epochs: int = 5  # of the adaptive protocol
    extend: int = 3  # so many more, at most, while the loss still falls
    lr: float = 0.01  # learning rate


@writes_run("adaptive_aft")
def main(config: Config, folder: Path) -> None:
    """Measure, print, write the run folder."""
    model, task = config.load()
    found = sl.compare_protocols(
        model,
        task,
        rng=np.random.default_rng([config.seed, 0]),
        repetitions=config.repetitions,
        n_train=config.train,
        n_validation=config.validation,
        n_outcome=config.outcome,
        n_fresh=min(config.fresh, len(task.test)),
        attempts=config.attempts,
        rapid_epochs=config.rapid_epochs,
        epochs=config.epochs,
        extend=config.extend,
        lr=config.lr,
        progress=True,
    )
    print(f"{found.summary().to_string(index=False, float_format='%.3f')}\n\n{found}")
    config.save(folder, found, model, task)


if __name__ == "__main__":
    run(main, Config)
