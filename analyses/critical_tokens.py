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
from steerlab.cli.options import Operator, Setup, stem, writes_run
from steerlab.cli.run import run


@dataclass(frozen=True)
class Config(Setup):
    """What the analysis needs to know."""

    layer: int | None = None  # where the direction is measured and acts; the middle layer by default
    direction: str | None = None  # safetensors file of a direction; without it the mean difference is taken
    other_model: bool = False  # use the direction although it was found in another model, such as the one that this is a variant of
    alpha: float = -1.0  # coefficient
    split: Literal["train", "validation", "test"] = "test"  # whose problems are run
    positions: str = "all"  # where it acts: all or last
    operator: Operator = "add"

    def part(self) -> list[str]:
        """What is run, and with which direction."""
        return super().part() + ([] if self.direction is None else [stem(self.direction)])


@writes_run("critical_tokens")
def main(config: Config, folder: Path) -> None:
    """Measure, print, write the run folder."""
    from steerlab.reports import runs

    given = None if config.direction is None else sl.load_direction(config.direction)
    model, task = config.load()
    direction, layer = config.direction_at(model, task, config.layer, given, other_model=config.other_model)
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
    runs.save_result(folder, page, runs.provenance(model, config.recorded(), task), overwrite=config.overwrite)


if __name__ == "__main__":
    run(main, Config)
