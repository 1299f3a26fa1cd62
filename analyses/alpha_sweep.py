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
from steerlab.cli.options import Setup, stem, writes_run
from steerlab.cli.run import run
from steerlab.reports import runs
from steerlab.reports.runs import save_sweep
from steerlab.steering import ALPHAS


@dataclass(frozen=True)
class Config(Setup):
    """What the sweep needs to know."""

    layer: int | None = None  # where the direction is measured and acts; the middle layer by default
    direction: str | None = None  # safetensors file of a direction; without it the mean difference is taken
    other_model: bool = False  # use the direction although it was found in another model, such as the one that this is a variant of
    alphas: tuple[float, ...] = ALPHAS  # coefficients
    split: Literal["train", "validation", "test"] = "validation"  # split that is scored; test only once all choices are made
    positions: str = "all"  # where it acts: all, last, prompt or generated
    operator: str = "add"  # how it acts: add, ablate, clamp or rotate

    def part(self) -> list[str]:
        """What is run, and with which direction."""
        return super().part() + ([] if self.direction is None else [stem(self.direction)])


@writes_run("alpha_sweep")
def main(config: Config, folder: Path) -> None:
    """Sweep, print the table, write the run folder."""
    given = None if config.direction is None else sl.load_direction(config.direction)
    model, task = config.load()
    direction, layer = config.direction_at(model, task, config.layer, given, other_model=config.other_model)
    problems = getattr(task, config.split)
    result = sl.sweep(
        model, problems, direction, layer=layer, alphas=config.alphas, positions=config.positions, operator=config.operator, progress=True
    )
    print(result.accuracy().to_string(index=False, float_format="%.3f"))
    drawn = {
        "Accuracy against alpha, with 95% Wilson intervals.": sl.plots.alpha_progression(result),
        "Problems that became right or wrong.": sl.plots.transition_matrix(result),
    }
    figures = [sl.Drawing(caption, figure, sl.plots.words(figure), sl.changed_problems(result)) for caption, figure in drawn.items()]
    question = f"How does accuracy on {config.split} problems of {task.name} depend on alpha at layer {layer}?"
    save_sweep(
        folder,
        result,
        runs.provenance(model, config.recorded(), task.about),
        question=question,
        figures=figures,
        overwrite=config.overwrite,
    )


if __name__ == "__main__":
    run(main, Config)
