"""Per-token magnitudes: the norm of the residual stream at each token, and its projection on the direction.

$ python analyses/token_magnitudes.py --layers 2,4
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import steerlab as sl
from steerlab.cli.options import OneDirection, writes_run
from steerlab.cli.run import run


@dataclass(frozen=True)
class Config(OneDirection):
    """What the analysis needs to know."""

    layers: tuple[int, ...] | None = None  # layers; all by default
    split: Literal["train", "validation", "test"] = "validation"  # split whose prompts are measured


@writes_run("token_magnitudes")
def main(config: Config, folder: Path) -> None:
    """Measure, print the means by token, write the run folder."""
    middle = config.layers[len(config.layers) // 2] if config.layers else None
    model, task, direction, _ = config.load_with_direction(middle)
    layers = config.layers or range(model.cfg.n_layers)
    found = sl.token_magnitudes(model, getattr(task, config.split), layers=list(layers), direction=direction, progress=True)
    print(found.by_token().groupby("layer").head(5).to_string(index=False, float_format="%.2f"))
    config.save(folder, found, model, task)


if __name__ == "__main__":
    run(main, Config)
