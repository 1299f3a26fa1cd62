"""Does a vector that is found on one task work on another, better than any vector of its size or from labels that mean nothing?

python analyses/transfer.py
python analyses/transfer.py --tasks story,bare,largest --methods learned,probe
python analyses/transfer.py --model DIRECTORY --task blimp --task-path FOLDER --tasks anaphor_gender_agreement,determiner_noun_agreement_1
python analyses/transfer.py --model DIRECTORY --tasks gsm8k=GSM8K.jsonl,svamp=SVAMP.json
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

import steerlab as sl
from steerlab.cli.options import SeveralTasks, writes_run
from steerlab.cli.run import run
from steerlab.reports import runs
from steerlab.reports.runs import save_figures
from steerlab.studies import TRANSFER_ALPHAS


@dataclass(frozen=True)
class Config(SeveralTasks):
    """What the study needs to know."""

    methods: tuple[str, ...] = ("learned", "mean_difference")  # learned, or names of estimators
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
    answer = str(found)
    shown = found.frame[
        ["method", "source", "target", "layer", "alpha", "baseline", "change", "low", "high", "p_holm", "p_random", "shuffled"]
    ]
    print(f"{shown.to_string(index=False, float_format='%.3f')}\n\n{answer}")
    figure = sl.plots.transfer_matrix(found)
    save_figures(
        folder,
        runs.provenance(model, config.recorded(), {name: dict(task.about) for name, task in tasks.items()}),
        title=f"Transfer between {len(tasks)} tasks: {config.model_name}",
        question="Does a vector that is found on one task change accuracy on another, more than random and shuffled-label vectors do?",
        answer=answer,
        warnings=found.warnings(),
        figures=[("Change of accuracy: rows found on, columns tested on.", figure, sl.plots.words(figure))],
        tables={
            "transfer": ("Every vector on every task.", found.frame),
            "cosines": ("Cosines between tasks' vectors, with ceiling and nulls.", found.cosines),
            "choices": ("What was chosen on the source's validation problems.", found.choices),
            "nulls": ("", found.nulls),
        },
        directions=list(found.vectors.values()),
        overwrite=config.overwrite,
    )


if __name__ == "__main__":
    run(main, Config)
