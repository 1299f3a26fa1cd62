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
from steerlab.cli.options import Limited, Operator, Where, stem, writes_run
from steerlab.cli.run import run


@dataclass(frozen=True)
class Config(Limited):
    """What the sweep needs to know."""

    layer: int | None = None  # where the direction is measured and acts; the middle layer by default
    direction: str | None = None  # safetensors file of a direction; without it the mean difference is taken
    other_model: bool = False  # use the direction although it was found in another model, such as the one that this is a variant of
    alphas: tuple[float, ...] = sl.ALPHAS  # coefficients
    split: Literal["train", "validation", "test"] = "validation"  # split that is scored; test only once all choices are made
    positions: Where = "all"
    operator: Operator = "add"

    def part(self) -> list[str]:
        """What is run, and with which direction."""
        return super().part() + ([] if self.direction is None else [stem(self.direction)])


@writes_run("alpha_sweep")
def main(config: Config, folder: Path) -> None:
    """Sweep, print the table, write the run folder."""
    from steerlab.reports import runs

    given = None if config.direction is None else sl.load_direction(config.direction)
    model, task = config.load()
    direction, layer = config.direction_at(model, task, config.layer, given, other_model=config.other_model)
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
    runs.save_result(folder, result, runs.provenance(model, config.recorded(), task), overwrite=config.overwrite, question=question)


if __name__ == "__main__":
    run(main, Config)
