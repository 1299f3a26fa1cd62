"""Does this direction cause the behaviour, or would any direction of the same norm do?

The main job: evaluate a model on a task, take the direction from wrong to right answers, choose layer and alpha on
validation, and on test compare the direction with whole pipelines that had the same choice: of random directions of the same
norms, and of shuffled labels. Writes a run folder with per-problem results (Parquet), the direction (safetensors), provenance
(JSON) and one self-contained report.html.

    python analyses/random_control.py
    python analyses/random_control.py --full
    steerlab plan --out plan.json; python analyses/random_control.py --plan plan.json
    python analyses/random_control.py --model DIRECTORY --task blimp --task-path FILE.jsonl --backend bridge
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

import steerlab as sl
from steerlab.cli.options import Protocol, writes_run
from steerlab.cli.run import run
from steerlab.controls import FAMILIES


@dataclass(frozen=True)
class Config(Protocol):
    """What the main job needs to know."""

    plan: str | None = None  # file that `steerlab plan` wrote: the report says whether it was followed
    same_cell: int = 20  # random directions at each chosen cell, and of each further family; no conclusion rests on them
    families: Annotated[
        tuple[str, ...] | None, arg(help=f"further directions at the chosen cell: {', '.join(FAMILIES)}; equal_kl by default")
    ] = None


@writes_run("random_control")
def main(config: Config, folder: Path) -> None:
    """Run the protocol, print the summary, write the run folder."""
    from steerlab.reports import runs
    from steerlab.reports.evidence import evidence

    model, task = config.load()
    experiment = sl.run_experiment(
        model,
        task,
        **config.protocol(),
        plan=config.plan,
        n_same_cell=config.same_cell,
        families=config.families,
        precision=config.precision,
        **config.passes(),
    )
    print(f"model       {config.model}\ntask        {task}")
    print(evidence(experiment))
    runs.save_experiment(folder, experiment, runs.provenance(model, config.recorded(), task), overwrite=config.overwrite)


if __name__ == "__main__":
    run(main, Config)
