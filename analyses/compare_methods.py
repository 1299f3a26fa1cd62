"""Which steering methods work, and which of their differences are significant: methods at equal norm and at equal KL, on one test split.

Mean difference, function vector, PCA, probe, learned vectors at one and at several layers, and a prompt. Layer, sign and level are chosen on
validation, with equally many comparisons for each method; each is tested against random vectors of the same norm, and of the same KL.

    python analyses/compare_methods.py
    python analyses/compare_methods.py --model DIRECTORY --task blimp --task-path FILE.jsonl --layers 1,3
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

import steerlab as sl
from steerlab.cli.options import Setup, writes_run
from steerlab.cli.run import run
from steerlab.studies import KL_LEVELS, KNOWN_METHODS, METHODS


@dataclass(frozen=True)
class Config(Setup):
    """What the comparison needs to know."""

    methods: Annotated[tuple[str, ...], arg(help=f"what is compared, any of {', '.join(KNOWN_METHODS)}")] = METHODS
    matchings: tuple[str, ...] = ("norm", "kl")  # what is made equal: norm, kl, or own (each method its own norm)
    layers: tuple[int, ...] | None = None  # candidate layers; three, spread over the depth, by default
    norms: tuple[float, ...] | None = None  # levels of the norm; 0.1, 0.3 and 1 times the mean difference's by default
    kls: tuple[float, ...] = KL_LEVELS  # levels of the KL, in nats a token
    controls: int = 120  # random vectors for each method and matching; six methods need 120 for a corrected p below 0.05
    epochs: int = 3  # of learned vectors
    lr: float = 0.01  # of learned vectors
    train: int = 400  # at most so many train problems
    validation: int = 150  # at most so many validation problems
    test: int = 200  # at most so many test problems
    positions: str = "all"  # where vectors act: all, last, prompt or generated


@writes_run("compare_methods")
def main(config: Config, folder: Path) -> None:
    """Compare, print, write the run folder."""
    model, task = config.load()
    task = replace(task, train=task.train[: config.train], validation=task.validation[: config.validation], test=task.test[: config.test])
    found = sl.compare_methods(
        model,
        task,
        seed=config.seed,
        methods=config.methods,
        matchings=config.matchings,
        layers=config.layers or sorted({round(model.cfg.n_layers * depth) for depth in (1 / 3, 1 / 2, 5 / 6)}),
        norms=config.norms,
        kls=config.kls,
        n_controls=config.controls,
        epochs=config.epochs,
        lr=config.lr,
        positions=config.positions,
        progress=True,
    )
    shown = ["matching", "method", "layers", "norm", "kl", "accuracy", "change", "low", "high", "p_holm", "p_controls", "p_controls_holm"]
    print(found.frame[shown].to_string(index=False, float_format="%.3f", na_rep="", justify="left"))
    print("\n" + "\n".join([str(found), *(f"warning: {warning}" for warning in found.warnings())]))
    config.save(folder, found, model, task, about={"comparison": dict(found.settings)})


if __name__ == "__main__":
    run(main, Config)
