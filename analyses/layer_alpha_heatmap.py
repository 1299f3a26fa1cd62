"""Layer × alpha heatmap: the mean difference of each layer, steered at each alpha, on the validation split.

A heatmap shows many cells; its best cell is a choice, and a claim about it needs other problems (see random_control.py).

    python analyses/layer_alpha_heatmap.py --alphas=-2,-1,0,1,2
"""

from dataclasses import dataclass
from pathlib import Path

import steerlab as sl
from steerlab.cli.options import Setup, writes_run
from steerlab.cli.run import run
from steerlab.reports import runs
from steerlab.reports.runs import save_sweep
from steerlab.steering import ALPHAS


@dataclass(frozen=True)
class Config(Setup):
    """What the heatmap needs to know."""

    layers: tuple[int, ...] | None = None  # layers; all by default
    alphas: tuple[float, ...] = ALPHAS  # coefficients
    positions: str = "all"  # where directions act: all, last, prompt or generated
    operator: str = "add"  # how they act: add, ablate, clamp or rotate


@writes_run("layer_alpha_heatmap")
def main(config: Config, folder: Path) -> None:
    """Sweep every layer, print the best cells, write the run folder."""
    model, task = config.load()
    directions = config.contrasts(model, task, config.layers)
    result = sl.sweep(
        model, task.validation, directions, alphas=config.alphas, positions=config.positions, operator=config.operator, progress=True
    )
    table = result.accuracy()
    print(table.sort_values("accuracy", ascending=False).head(10).to_string(index=False, float_format="%.3f"))
    drawn = sl.plots.layer_alpha_heatmap(result)
    figures = [sl.Drawing("Change of accuracy by layer and alpha.", drawn, sl.plots.words(drawn), sl.changed_problems(result))]
    question = f"At which layer and alpha does the mean difference of right and wrong answers move accuracy on {task.name}?"
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
