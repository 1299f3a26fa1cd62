"""Who was fixed and who was broken by steering, by difficulty, length and margin; why amplification fails and suppression works.

Takes the test sweep of a finished run of random_control.py, or sweeps a mean difference itself. The counts are compared with what
margins alone would give: had the same moves of the margin befallen problems at random.

    python analyses/failure_analysis.py
    python analyses/failure_analysis.py --run runs/random_control-tiny-arithmetic-arithmetic
"""

from dataclasses import dataclass
from pathlib import Path

import steerlab as sl
from steerlab.cli.options import Setup, stem, writes_run
from steerlab.cli.run import run
from steerlab.reports import runs
from steerlab.reports.runs import save_figures
from steerlab.steering import ALPHAS


@dataclass(frozen=True)
class Config(Setup):
    """What the analysis needs to know."""

    run: str | None = None  # folder of a random_control.py run, whose test sweep is taken; without it a sweep is made
    layer: int | None = None  # where the direction is measured and acts; the middle layer by default
    alphas: tuple[float, ...] = ALPHAS  # coefficients
    positions: str = "all"  # where it acts: all, last, prompt or generated
    operator: str = "add"  # how it acts: add, ablate, clamp or rotate

    def subject(self) -> list[str]:
        """What is run: a finished run, or a model and a task."""
        return super().subject() if self.run is None else [stem(self.run)]


@writes_run("failure_analysis")
def main(config: Config, folder: Path) -> None:
    """Sort the problems, print, write the run folder."""
    if config.run is not None:
        experiment, provenance = sl.load_experiment(config.run)
        result = experiment.test
        name = experiment.task
        provenance = {key: provenance[key] for key in ("model", "task", "versions")} | {"config": config.recorded()}
    else:
        model, task = config.load()
        name = task.name
        direction, _ = config.direction_at(model, task, config.layer)
        result = sl.sweep(
            model, task.test, direction, alphas=config.alphas, positions=config.positions, operator=config.operator, progress=True
        )
        provenance = runs.provenance(model, config.recorded(), task.about)
    found = sl.failure_analysis(result)
    print(f"{found}\n\n{found.headroom.to_string(index=False, float_format='%.3g')}")
    save_figures(
        folder,
        provenance,
        title=f"Failure analysis: {name}, {provenance['model']['name']}",
        question="Which problems did steering fix and which did it break, and do the counts say more than how near to the line problems stood?",
        answer=str(found),
        warnings=result.warnings(),
        figures=[("Fixed and broken answers, observed and expected from margins alone.", sl.plots.headroom(found), str(found))],
        tables={
            "headroom": ("Headroom, moves of the margin, and counts observed and expected.", found.headroom),
            "changes": ("", sl.changed_problems(result)),
            "groups": ("Medians of each group; margins without steering.", found.groups()),
            "tests": ("Problems that moved against those that stayed (Mann-Whitney), with Holm's correction over all lines.", found.tests),
            "problems": ("", found.frame),
        },
        directions=result.directions,
        overwrite=config.overwrite,
    )


if __name__ == "__main__":
    run(main, Config)
