"""Does a claim hold over all the ways in which it might have been tested? A specification curve with a joint permutation test.

Finished permutations are kept beside the run folder, in FOLDER.parts, until it is written; the same command goes on where it was interrupted.

    python analyses/multiverse.py
    python analyses/multiverse.py --estimators mean_difference,probe,pca --layer-rules separable,middle,late --permutations 199
    python analyses/multiverse.py --model DIRECTORY --tasks blimp=FILE.jsonl --goal raise --operators add,rotate
    python analyses/multiverse.py --tasks story,equation
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

import steerlab as sl
from steerlab.cli.options import Limited, SeveralTasks, writes_run
from steerlab.cli.run import run


@dataclass(frozen=True)
class Config(SeveralTasks, Limited):
    """What the study needs to know."""

    tasks: tuple[str, ...] = ("story",)
    """wordings of the task (templates): variants of arithmetic, paradigms of BLiMP, or task names, each perhaps with =FILE"""

    estimators: Annotated[tuple[str, ...], arg(help=sl.ESTIMATORS.listed())] = ("mean_difference", "lda")
    layer_rules: tuple[str, ...] = ("separable", "middle")  # separable (the best held-out separability), early, middle or late
    measured: tuple[str, ...] = ("last",)  # where activations are read: last or mean
    positions: tuple[str, ...] = ("all", "last")  # where directions act: all or last
    operators: Annotated[tuple[str, ...], arg(help=sl.OPERATORS.listed())] = ("add", "ablate")
    normalisations: tuple[str, ...] = ("contrast", "relative")  # lengths: of the mean difference, or relative to the activations
    goal: Literal["raise", "lower"] = "lower"  # what the directions are meant to do, named beforehand
    dose: float = 0.5  # of relative lengths
    measure: Literal["accuracy", "margin", "nll"] = "accuracy"  # what is compared
    layers: tuple[int, ...] | None = None  # candidates; all by default
    train: int = 200  # at most so many train problems
    test: int = 100  # at most so many test problems
    permutations: int = 49  # of the labels; the smallest p-value is 1 / (this + 1)


@writes_run("multiverse")
def main(config: Config, folder: Path) -> None:
    """Measure, print, write the run folder."""
    specs = sl.specifications(
        estimators=config.estimators,
        layer_rules=config.layer_rules,
        measured=config.measured,
        positions=config.positions,
        operators=config.operators,
        normalisations=config.normalisations,
    )
    model, tasks = config.load_all()
    parts = folder.with_name(f"{folder.name}.parts")
    found = sl.multiverse(
        model,
        {
            name: sl.Task(task.name, task.train[: config.train], task.validation, task.test[: config.test], task.scorer, task.about)
            for name, task in tasks.items()
        },
        seed=config.seed,
        specs=specs,
        n_permutations=config.permutations,
        goal=config.goal,
        dose=config.dose,
        measure=config.measure,
        layers=config.layers,
        folder=parts,
        **config.passes(),
    )
    print(f"{found.summary().to_string(index=False, float_format='%.3f')}\n\n{found}")
    config.save(folder, found, model, tasks)
    shutil.rmtree(parts)  # all of it is in the run's tables


if __name__ == "__main__":
    run(main, Config)
