"""Which problems became right and which wrong under steering, by difficulty, length and margin; why amplification fails and suppression works.

Takes the test sweep of a finished run of random_control.py, or sweeps a mean difference itself. The counts are compared with what
margins alone would give, if the same changes of the margin were assigned to problems at random.

    python analyses/failure_analysis.py
    python analyses/failure_analysis.py --run runs/random_control-tiny-arithmetic-arithmetic
"""

from dataclasses import dataclass
from pathlib import Path

import steerlab as sl
from steerlab.cli.options import Operator, Setup, Where, stem, writes_run
from steerlab.cli.run import run


@dataclass(frozen=True)
class Config(Setup):
    """What the analysis needs to know."""

    run: str | None = None  # folder of a random_control.py run, whose test sweep is taken; without it a sweep is made
    layer: int | None = None  # where the direction is measured and acts; the middle layer by default
    alphas: tuple[float, ...] = sl.ALPHAS  # coefficients
    positions: Where = "all"
    operator: Operator = "add"

    def subject(self) -> list[str]:
        """What is run: a finished run, or a model and a task."""
        return super().subject() if self.run is None else [stem(self.run)]


@writes_run("failure_analysis")
def main(config: Config, folder: Path) -> None:
    """Sort the problems, print, write the run folder."""
    from steerlab.reports import runs

    if config.run is not None:
        experiment, provenance = sl.load_experiment(config.run)
        result = experiment.test
        provenance = {key: provenance[key] for key in ("model", "task", "versions")} | {"config": config.recorded()}
    else:
        model, task = config.load()
        direction, _ = config.direction_at(model, task, config.layer)
        result = sl.sweep(
            model, task.test, direction, alphas=config.alphas, positions=config.positions, operator=config.operator, progress=True
        )
        provenance = runs.provenance(model, config.recorded(), task)
    found = sl.failure_analysis(result)
    print(f"{found}\n\n{found.headroom.to_string(index=False, float_format='%.3g')}")
    changes = {"changes": ("", sl.changed_problems(result))}
    warnings = result.warnings()
    runs.save_result(folder, found, provenance, overwrite=config.overwrite, warnings=warnings, tables=changes, directions=result.directions)


if __name__ == "__main__":
    run(main, Config)
