"""Layer × alpha heatmap: the mean difference of each layer, steered at each alpha, on the validation split.

A heatmap shows many cells; its best cell is a choice, and a claim about it needs other problems (see random_control.py).

    python analyses/layer_alpha_heatmap.py --alphas=-2,-1,0,1,2
"""

from dataclasses import dataclass
from pathlib import Path

import steerlab as sl
from steerlab.cli.options import Limited, Operator, writes_run
from steerlab.cli.run import run


@dataclass(frozen=True)
class Config(Limited):
    """What the heatmap needs to know."""

    layers: tuple[int, ...] | None = None  # layers; all by default
    alphas: tuple[float, ...] = sl.ALPHAS  # coefficients
    positions: str = "all"  # where directions act: all, last, prompt or generated
    operator: Operator = "add"


@writes_run("layer_alpha_heatmap")
def main(config: Config, folder: Path) -> None:
    """Sweep every layer, print the best cells, write the run folder."""
    model, task = config.load()
    directions = config.contrasts(model, task, config.layers)
    result = sl.sweep(
        model,
        task.validation,
        directions,
        alphas=config.alphas,
        positions=config.positions,
        operator=config.operator,
        precision=config.precision,
        **config.passes(),
    )
    table = result.accuracy()
    print(table.sort_values("accuracy", ascending=False).head(10).to_string(index=False, float_format="%.3f"))
    question = f"At which layer and alpha does the mean difference of right and wrong answers move accuracy on {task.name}?"
    config.save(folder, result, model, task, question=question)


if __name__ == "__main__":
    run(main, Config)
