"""At which tokens does steering act, and at which do right and wrong answers diverge?

Each problem's prompt runs with its right answer and with the wrong answer that the model likes best, without and with steering.
The sources' hypothesis is that nine tenths of the separation is on few "critical" tokens; this measures how few.

    python analyses/critical_tokens.py
    python analyses/critical_tokens.py --model DIRECTORY --task blimp --task-path FILE.jsonl --alpha -2
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import steerlab as sl
from steerlab.cli.options import OneDirection, Operator, writes_run
from steerlab.cli.run import run


@dataclass(frozen=True)
class Config(OneDirection):
    """What the analysis needs to know."""

    layer: int | None = None  # where the direction is measured and acts; the middle layer by default
    alpha: float = -1.0  # coefficient
    split: Literal["train", "validation", "test"] = "test"  # whose problems are run
    positions: str = "all"  # where it acts: all or last
    operator: Operator = "add"


@writes_run("critical_tokens")
def main(config: Config, folder: Path) -> None:
    """Measure, print, write the run folder."""
    model, task, direction, layer = config.load_with_direction(config.layer)
    found = sl.critical_tokens(
        model,
        getattr(task, config.split),
        direction,
        layer=layer,
        alpha=config.alpha,
        positions=config.positions,
        operator=config.operator,
        progress=True,
    )
    page = found.report_parts(seed=config.seed)
    print(f"{page['answer']}\n\n{found.summary().to_string(index=False, float_format='%.3g')}")
    config.save(folder, page, model, task)


if __name__ == "__main__":
    run(main, Config)
