"""Does this direction cause the behaviour, or would any direction of its size have done it?

The main job: evaluate a model on a task, take the direction from wrong to right answers, choose layer and alpha on
validation, and on test compare the direction with random ones of the same norm. Writes a run folder with per-problem
results (Parquet), the direction (safetensors), provenance (JSON) and one self-contained report.html.

    python analyses/random_control.py
    python analyses/random_control.py --model DIRECTORY --task blimp --task-path FILE.jsonl --backend bridge
"""

from dataclasses import dataclass
from pathlib import Path

from steerlab.cli.options import Setup, writes_run
from steerlab.cli.run import run
from steerlab.reports import runs
from steerlab.reports.evidence import Significance
from steerlab.reports.runs import save_experiment
from steerlab.steering import ALPHAS
from steerlab.studies.protocol import run_experiment


@dataclass(frozen=True)
class Config(Setup):
    """What the main job needs to know."""

    layers: tuple[int, ...] | None = None  # candidate layers; all by default
    alphas: tuple[float, ...] = ALPHAS  # coefficients; 0 and a negative one belong to them
    controls: int = 99  # random directions at each of two alphas; 99 give p-values down to 0.01
    families: tuple[str, ...] | None = (
        None  # further controls: covariance_matched, shuffled_labels, orthogonal, equal_kl; shuffled_labels and equal_kl by default
    )
    cache_positions: str = "last"  # where the direction is measured: last or mean
    positions: str = "all"  # where it acts: all, last, prompt or generated
    operator: str = "add"  # how it acts: add, ablate, clamp or rotate


@writes_run("random_control")
def main(config: Config, folder: Path) -> None:
    """Run the protocol, print the summary, write the run folder."""
    model, task = config.load()
    experiment = run_experiment(
        model,
        task,
        seed=config.seed,
        layers=config.layers,
        alphas=config.alphas,
        n_controls=config.controls,
        families=config.families,
        cache_positions=config.cache_positions,
        positions=config.positions,
        operator=config.operator,
        progress=True,
    )
    print(f"model       {config.model}\ntask        {task}")
    print(Significance(experiment))
    save_experiment(folder, experiment, runs.provenance(model, config.recorded(), task.about), overwrite=config.overwrite)


if __name__ == "__main__":
    run(main, Config)
