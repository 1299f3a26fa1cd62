"""Does a learned vector help on every model and every dataset? Each pair of the two is a cell: learned, chosen and tested on its own.

Finished cells are kept in the run folder; the same command goes on where it was interrupted and tries failed cells again.

    python analyses/universality.py
    python analyses/universality.py --models DIRECTORY,gpt2 --datasets blimp=FILE.jsonl,gsm8k=FILE.jsonl,arithmetic:bare
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import steerlab as sl
from steerlab import _files
from steerlab.cli.run import run
from steerlab.tasks.arithmetic import VARIANTS


@dataclass(frozen=True)
class Config:
    """What the grid needs to know."""

    models: tuple[str, ...] = ("tiny-arithmetic",)  # embedded model, local Hugging Face directories, HookedTransformer names or Hub ids
    datasets: tuple[str, ...] = tuple(f"arithmetic:{variant}" for variant in VARIANTS)  # TASK, TASK:VARIANT, TASK:PARADIGM or TASK=PATH
    train: int = 100  # at most so many train problems of each dataset
    validation: int = 100  # at most so many validation problems
    test: int = 200  # at most so many test problems
    layers: str = "all"  # candidate layers: all, middle (25% to 75% of the depth), or numbers
    epochs: int = 3  # of training
    lr: float = 0.01  # of training
    controls: int = 39  # random vectors for each learned one; 0 for none
    form: str | None = None  # form of the tasks, e.g. choice or continuation
    scorer: str | None = None  # how answers are judged; each task's own by default
    backend: str = "auto"  # auto, hooked or bridge
    device: str | None = None  # e.g. cpu or cuda; CUDA where there is one
    dtype: str = "float32"  # float32, bfloat16 or float16
    prepend_bos: bool | None = None  # whether a beginning-of-sequence token stands before each text; TransformerLens' default for the model
    too_long: Literal["error", "drop", "truncate"] = "error"
    """problems beyond a model's context: no result, leave them out, or cut prompts from the left"""
    seed: int = 0  # the only source of chance
    out: str = "runs/universality"  # run folder, taken up again where it holds the same grid


def main(config: Config) -> Path:
    """Run the grid, print the summary, write the report beside the cells."""
    options: dict[str, Any] = {key: value for key, value in asdict(config).items() if key not in ("models", "datasets", "out", "layers")}
    try:
        layers = config.layers if config.layers in ("all", "middle") else tuple(int(layer) for layer in config.layers.split(","))
    except ValueError:
        raise sl.InputError(f"layers={config.layers!r}; use all, middle, or numbers such as 2,4") from None
    cells = sl.model_task_grid(config.models, config.datasets, layers=layers, **options)
    with _files.locked(config.out) as folder:  # until the report is written, too
        found = sl.run_grid(cells, folder, progress=True)
        show(found)
        write(config, cells, found, folder)
    print(f"\nreport      {folder / 'report.html'}")
    return folder


def show(found: "sl.Universality") -> None:
    """Print every cell and the summary."""
    shown = ["model", "dataset", "baseline", "steered", "improvement", "low", "high", "p_holm", "p_bh", "p_controls", "outcome", "error"]
    print(found.frame[shown].dropna(axis=1, how="all").to_string(index=False, float_format="%.3f", na_rep=""))
    print(f"\n{found}")


def write(config: Config, cells: "Sequence[sl.GridJob]", found: "sl.Universality", folder: Path) -> None:
    """Write tables and report beside the cells."""
    from steerlab.reports import runs

    _files.write_json(folder / "summary.json", found.summary_json())
    names = zip(*(cell.key for cell in cells), strict=True)
    recorded = asdict(config) | {key: list(dict.fromkeys(found)) for key, found in zip(("models", "datasets"), names, strict=True)}
    recorded.pop("out")
    runs.write_result(folder, found, runs.provenance(None, recorded, cells=found.origins()), further=["summary.json"])


if __name__ == "__main__":
    run(main, Config)
