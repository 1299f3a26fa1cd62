"""Per-token magnitudes: the norm of the residual stream at each token, and its projection on the direction.

$ python analyses/token_magnitudes.py --layers 2,4
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import steerlab as sl
from steerlab.cli.options import Setup, stem, writes_run
from steerlab.cli.run import run


@dataclass(frozen=True)
class Config(Setup):
    """What the analysis needs to know."""

    layers: tuple[int, ...] | None = None  # layers; all by default
    direction: str | None = None  # safetensors file of a direction to project on; by default the middle layer's mean difference
    other_model: bool = False  # use the direction although it was found in another model, such as the one that this is a variant of
    split: Literal["train", "validation", "test"] = "validation"  # split whose prompts are measured

    def part(self) -> list[str]:
        """What is run, and with which direction."""
        return super().part() + ([] if self.direction is None else [stem(self.direction)])


@writes_run("token_magnitudes")
def main(config: Config, folder: Path) -> None:
    """Measure, print the means by token, write the run folder."""
    from steerlab.reports import runs

    given = None if config.direction is None else sl.load_direction(config.direction)
    model, task = config.load()
    layers = list(range(model.cfg.n_layers)) if config.layers is None else list(config.layers)
    layer = None if given is not None else layers[len(layers) // 2]
    given, _ = config.direction_at(model, task, layer, given, other_model=config.other_model)
    found = sl.token_magnitudes(model, getattr(task, config.split), layers=layers, direction=given, progress=True)
    print(found.by_token().groupby("layer").head(5).to_string(index=False, float_format="%.2f"))
    runs.save_result(folder, found, runs.provenance(model, config.recorded(), task), overwrite=config.overwrite)


if __name__ == "__main__":
    run(main, Config)
