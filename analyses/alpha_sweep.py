"""Dose-response of one direction: accuracy and transitions at every alpha, at one layer.

The direction comes from a file, or is the mean difference of right and wrong train problems. Nothing is chosen, so the
split that is scored may be any.

    python analyses/alpha_sweep.py --layer 3
    python analyses/alpha_sweep.py --direction runs/random_control-tiny-arithmetic-arithmetic/direction.safetensors
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import steerlab as sl
from steerlab.cli.options import Limited, OneDirection, Operator, Where, writes_run
from steerlab.cli.run import run


@dataclass(frozen=True)
class Config(OneDirection, Limited):
    """What the sweep needs to know."""

    layer: int | None = None  # where the direction is measured and acts; the middle layer by default
    alphas: tuple[float, ...] = sl.ALPHAS  # coefficients
    split: Literal["train", "validation", "test"] = "validation"  # split that is scored; test only once all choices are made
    positions: Where = "all"
    operator: Operator = "add"


@writes_run("alpha_sweep")
def main(config: Config, folder: Path) -> None:
    """Sweep, print the table, write the run folder."""
    model, task, direction, layer = config.load_with_direction(config.layer)
    problems = getattr(task, config.split)
    result = sl.sweep(
        model,
        problems,
        direction,
        layer=layer,
        alphas=config.alphas,
        positions=config.positions,
        operator=config.operator,
        precision=config.precision,
        **config.passes(),
    )
    print(result.accuracy().to_string(index=False, float_format="%.3f"))
    question = f"How does accuracy on {config.split} problems of {task.name} depend on alpha at layer {layer}?"
    config.save(folder, result, model, task, question=question)


if __name__ == "__main__":
    run(main, Config)
