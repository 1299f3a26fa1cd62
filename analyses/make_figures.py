"""Draw the pictures of the README from the run folder that `make demo` wrote, or from a new run. Needs Chromium.

python analyses/make_figures.py
"""

from dataclasses import dataclass
from pathlib import Path

import random_control

import steerlab as sl
from steerlab import files
from steerlab.cli import run
from steerlab.questions import Questions


@dataclass(frozen=True)
class Config:
    """Where the pictures come from and go to."""

    run: Path = Path("runs/random_control-tiny-arithmetic-arithmetic")  # run folder; made if it is not there
    out: Path = Path("figures")  # folder of the pictures
    scale: float = 1.5  # pixels of the picture for each pixel of the page


def main(config: Config) -> Path:
    """Write one PNG for each figure of the README."""
    if not config.run.exists():
        random_control.main(random_control.Config(out=str(config.run)))
    experiment, _ = sl.load_experiment(config.run)
    pictures = {
        "dose_response": sl.plots.alpha_progression(experiment.test, control=experiment.controls[0]),
        "null_distribution": sl.plots.null_distribution(experiment.controls[-1]),
        "layer_alpha_heatmap": sl.plots.layer_alpha_heatmap(experiment.validation, tested=Questions(experiment).best_cell),
        "transitions": sl.plots.transition_matrix(experiment.test),
        "direction_heatmap": sl.plots.direction_heatmap(list(experiment.directions.values())),
    }
    for name, figure in pictures.items():
        with files.replacing(config.out / f"{name}.png") as temporary:
            temporary.write_bytes(figure.to_image("png", width=860, scale=config.scale))
    print(f"{len(pictures)} pictures in {config.out}")
    return config.out


if __name__ == "__main__":
    run(main, Config)
