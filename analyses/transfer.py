"""Does a vector that is found on one task work on another, better than random vectors of its norm or vectors from shuffled labels?

$ python analyses/transfer.py
$ python analyses/transfer.py --tasks story,bare,largest --methods learned,probe
$ python analyses/transfer.py --model DIRECTORY --task blimp --task-path FOLDER --tasks anaphor_gender_agreement,determiner_noun_agreement_1
$ python analyses/transfer.py --model DIRECTORY --tasks gsm8k=GSM8K.jsonl,svamp=SVAMP.json
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from tyro.conf import arg

import steerlab as sl
from steerlab.cli.options import SeveralTasks, writes_run
from steerlab.cli.run import run
from steerlab.studies import TRANSFER_ALPHAS


@dataclass(frozen=True)
class Config(SeveralTasks):
    """What the study needs to know."""

    methods: Annotated[tuple[str, ...], arg(help=f"learned, {sl.ESTIMATORS.listed()}")] = ("learned", "mean_difference")
    layers: tuple[int, ...] | None = None  # candidates; a quarter, a half and three quarters of the depth by default
    alphas: tuple[float, ...] = TRANSFER_ALPHAS  # candidates of the estimators' coefficient; learned vectors act at 1
    train: int = 150  # train problems of each task
    validation: int = 100  # validation problems of each task
    test: int = 150  # test problems of each task
    epochs: int = 3  # of training
    random: int = 39  # random directions for each vector
    shuffled: int = 39  # shuffled-label vectors for each estimate
    shuffled_learned: int = 5  # trainings on permuted targets for each learned vector


@writes_run("transfer")
def main(config: Config, folder: Path) -> None:
    """Measure, print, write the run folder."""
    model, tasks = config.load_all()
    most = {split: min(len(getattr(task, split)) for task in tasks.values()) for split in ("train", "validation", "test")}
    found = sl.transfer(
        model,
        tasks,
        rng=np.random.default_rng([config.seed, 0]),
        methods=config.methods,
        layers=config.layers,
        alphas=config.alphas,
        n_train=min(config.train, most["train"]),
        n_validation=min(config.validation, most["validation"]),
        n_test=min(config.test, most["test"]),
        n_random=config.random,
        n_shuffled=config.shuffled,
        n_shuffled_learned=config.shuffled_learned,
        epochs=config.epochs,
        progress=True,
    )
    shown = found.frame[
        ["method", "source", "target", "layer", "alpha", "baseline", "change", "low", "high", "p_holm", "p_random", "shuffled"]
    ]
    print(f"{shown.to_string(index=False, float_format='%.3f')}\n\n{found}")
    config.save(folder, found, model, tasks)


if __name__ == "__main__":
    run(main, Config)
