"""Write the significance report of one or several finished runs of random_control.py again, from their run folders.

python analyses/significance_report.py runs/random_control-tiny-arithmetic-arithmetic
python analyses/significance_report.py RUN_A RUN_B --out comparison.html
"""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from steerlab import store
from steerlab.cli import run
from steerlab.runs import load_experiment, report_parts
from steerlab.significance import Significance


@dataclass(frozen=True)
class Config:
    """Which runs, and where to."""

    runs: tuple[Path, ...]  # run folders
    out: Path = Path("significance_report.html")  # the page


def main(config: Config) -> Path:
    """Read the runs, print the answers, write the page."""
    loaded = [(path, *load_experiment(path)) for path in config.runs]
    parts = [(path, report_parts(Significance(experiment), provenance)) for path, experiment, provenance in loaded]
    for path, part in parts:
        print(f"{path.name}\n  {part['answer']}\n")
    if len(parts) == 1:
        store.write_report(config.out, **parts[0][1])
    else:
        tests = [Significance(experiment).tests.assign(run=path.name) for path, experiment, _ in loaded]
        store.write_report(
            config.out,
            title=f"Random-direction controls: {len(parts)} runs",
            question="\n".join(f"{path.name}: {part['question']}" for path, part in parts),
            answer="\n\n".join(f"{path.name}: {part['answer']}" for path, part in parts),
            warnings=[f"{path.name}: {warning}" for path, part in parts for warning in part["warnings"]]
            + ["Each run corrects for its own tests; over several runs more looks were taken than each p-value knows of."],
            figures=[(f"{path.name}. {caption}", figure, text) for path, part in parts for caption, figure, text in part["figures"][:2]],
            tables=[("Every run's direction against its controls.", pd.concat(tests, ignore_index=True))],
            method=[f"{path.name}: {paragraph}" for path, part in parts for paragraph in part["method"]],
            provenance={f"{path.name}: {key}": value for path, part in parts for key, value in part["provenance"].items()},
        )
    print(f"report      {config.out}")
    return config.out


if __name__ == "__main__":
    run(main, Config)
