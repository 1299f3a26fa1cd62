"""Draw the pictures of the README from the run folder that `make demo` wrote, or from a new run. Needs Kaleido and Chromium.

The same run gives the same bytes on the same machine.

    python analyses/make_figures.py
"""

from dataclasses import dataclass
from pathlib import Path

import random_control

import steerlab as sl
from steerlab import _files
from steerlab._checks import InputError
from steerlab.cli.run import run

MOST_BYTES = 5_000_000


@dataclass(frozen=True)
class Config:
    """Where the pictures come from and go to."""

    run: Path = Path("runs/random_control-tiny-arithmetic-arithmetic")  # run folder; made if it is not there
    out: Path = Path("figures")  # folder of the pictures
    width: int = 860  # of a picture, in pixels of a page
    scale: float = 1.5  # pixels of the picture for each pixel of the page


def main(config: Config) -> Path:
    """Write one PNG for each figure of the README."""
    from steerlab.reports.export import draw_images
    from steerlab.reports.secondary import Questions

    if not config.run.exists():
        random_control.main(random_control.Config(out=str(config.run)))
    experiment, provenance = sl.load_experiment(config.run)
    model = sl.load_model(provenance["config"]["model"])
    prompt = experiment.test.baseline.problems[:1]
    norms = sl.token_magnitudes(model, prompt, layers=list(experiment.directions), direction=experiment.direction, progress=True)
    figures = {
        "dose_response": experiment.plot(layer=experiment.layer),
        "null_distribution": experiment.pipelines[0].plot(goal="lower"),
        "layer_alpha_heatmap": sl.plots.layer_alpha_heatmap(experiment.validation, tested=Questions(experiment).best_cell),
        "transitions": sl.plots.transition_matrix(experiment.test, experiment.layer),
        "direction_heatmap": sl.plots.direction_heatmap(list(experiment.directions.values())),
        "token_magnitudes": sl.plots.token_magnitudes(norms),
    }
    drawn = draw_images(list(figures.values()), ["png"], width=config.width, scale=config.scale, progress=True)
    for name, picture in zip(figures, drawn, strict=True):
        _files.write_bytes(config.out / f"{name}.png", picture["png"])
    size = sum(file.stat().st_size for file in config.out.iterdir())
    if size > MOST_BYTES:
        raise InputError(f"{config.out} has {size:,} bytes: at most {MOST_BYTES:,} are allowed; use a smaller scale than {config.scale:g}")
    print(f"pictures    {config.out}: {len(figures)}, {size / 1e6:.1f} MB")
    return config.out


if __name__ == "__main__":
    run(main, Config)
