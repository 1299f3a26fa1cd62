"""Does this direction cause the behaviour, or would any direction of the same norm do?

The main job: evaluate a model on a task, take the direction from wrong to right answers, choose layer and alpha on
validation, and on test compare the direction with whole pipelines that had the same choice: of random directions of the same
norms, and of shuffled labels. Writes a run folder with per-problem results (Parquet), the direction (safetensors), provenance
(JSON) and one self-contained report.html.

    python analyses/random_control.py
    python analyses/random_control.py --full
    python analyses/random_control.py --model DIRECTORY --task blimp --task-path FILE.jsonl --backend bridge
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import arg

import steerlab as sl
from steerlab.cli.options import Limited, Operator, Where, writes_run
from steerlab.cli.run import run
from steerlab.controls import FAMILIES, PIPELINES


@dataclass(frozen=True)
class Config(Limited):
    """What the main job needs to know."""

    layers: tuple[int, ...] | None = None  # candidate layers; all by default
    alphas: tuple[float, ...] = sl.ALPHAS  # coefficients; 0 and a negative one belong to them
    measure: Annotated[Literal["accuracy", "margin", "nll"], arg(help="what is chosen by and tested")] = "accuracy"
    choose: Literal["shortlist", "grid", "preset"] = "shortlist"  # the candidates: a few cells, every one, or one for each goal
    full: bool = False  # every layer and alpha (as --choose grid), and all controls without early stopping
    controls: int = 99  # control pipelines of each kind; 99 give p-values down to 0.01
    stop_after: int | None = 10  # end a kind of pipelines when so many are at least as good for each goal
    pipelines: Annotated[tuple[str, ...], arg(help=f"kinds of control pipelines: {', '.join(PIPELINES)}")] = tuple(PIPELINES)
    same_cell: int = 20  # random directions at each chosen cell, and of each further family; no conclusion rests on them
    families: Annotated[
        tuple[str, ...] | None, arg(help=f"further directions at the chosen cell: {', '.join(FAMILIES)}; equal_kl by default")
    ] = None
    cache_positions: str = "last"  # where the direction is measured: last or mean
    positions: Where = "all"
    operator: Operator = "add"


@writes_run("random_control")
def main(config: Config, folder: Path) -> None:
    """Run the protocol, print the summary, write the run folder."""
    from steerlab.reports import runs
    from steerlab.reports.evidence import evidence

    model, task = config.load()
    experiment = sl.run_experiment(
        model,
        task,
        seed=config.seed,
        layers=config.layers,
        alphas=config.alphas,
        measure=config.measure,
        choose="grid" if config.full else config.choose,
        n_controls=config.controls,
        stop_after=None if config.full else config.stop_after,
        pipelines=config.pipelines,
        n_same_cell=config.same_cell,
        families=config.families,
        cache_positions=config.cache_positions,
        positions=config.positions,
        operator=config.operator,
        precision=config.precision,
        **config.passes(),
    )
    print(f"model       {config.model}\ntask        {task}")
    print(evidence(experiment))
    runs.save_experiment(folder, experiment, runs.provenance(model, config.recorded(), task), overwrite=config.overwrite)


if __name__ == "__main__":
    run(main, Config)
