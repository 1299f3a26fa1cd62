"""Heatmap of directions: layers (or token positions) by dimensions, and how alike the layers' directions are.

$ python analyses/direction_heatmap.py
$ python analyses/direction_heatmap.py --direction FILE.safetensors
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

import steerlab as sl
from steerlab.cli.options import Setup, stem, writes_run
from steerlab.cli.run import run


@dataclass(frozen=True)
class Config(Setup):
    """What the heatmap needs to know."""

    direction: str | None = None  # safetensors file of a direction; without it the mean differences of all layers are taken
    cache_positions: str = "last"  # where directions are measured: last or mean

    def subject(self) -> list[str]:
        """What is run: a direction, or a model and a task."""
        return super().subject() if self.direction is None else [stem(self.direction)]


@writes_run("direction_heatmap")
def main(config: Config, folder: Path) -> None:
    """Get the directions, print their norms and cosines, write the run folder."""
    import pandas as pd

    from steerlab.reports import runs

    if config.direction is not None:
        directions = [sl.load_direction(config.direction)]
        provenance = runs.provenance(None, config.recorded())
    else:
        model, task = config.load()
        directions = list(config.contrasts(model, task, positions=config.cache_positions).values())
        provenance = runs.provenance(model, config.recorded(), task)
    units = np.stack([d.unit().vector.numpy().ravel() for d in directions])
    cosines = pd.DataFrame(units @ units.T, columns=[f"cosine with layer {d.layer}" for d in directions])
    table = pd.concat([pd.DataFrame({"layer": [d.layer for d in directions], "norm": [d.norm for d in directions]}), cosines], axis=1)
    print(table.to_string(index=False, float_format="%.3f"))
    parts = {
        "title": "Direction heatmap",
        "question": "Where does the direction differ between right and wrong answers, layer by layer?",
        "figures": [("Directions by dimension.", sl.plots.direction_heatmap(directions))],
        "tables": {"norms": ("Norm of each direction, and cosines between layers.", table)},
        "directions": directions,
    }
    runs.save_result(folder, parts, provenance, overwrite=config.overwrite)


if __name__ == "__main__":
    run(main, Config)
