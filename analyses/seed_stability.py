"""Is a learned vector the same with another seed or other problems, and how many problems does it need?

python analyses/seed_stability.py
python analyses/seed_stability.py --sizes 10,40,160 --layer 1
python analyses/seed_stability.py --model DIRECTORY --task blimp --task-path FILE.jsonl
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

import steerlab as sl
from steerlab.cli.options import Setup, writes_run
from steerlab.cli.run import run
from steerlab.reports import runs
from steerlab.reports.runs import save_figures


@dataclass(frozen=True)
class Config(Setup):
    """What the study needs to know."""

    layer: int | None = None  # where vectors act; the middle layer by default
    sizes: tuple[int, ...] = (25, 50, 100, 200)  # numbers of training problems; the largest is the reference's
    seeds: int = 5  # vectors of the reference's problems
    subsets: int = 4  # vectors of each size from other problems
    shuffled: int = 4  # vectors from permuted targets
    test: int = 300  # test problems
    epochs: int = 3  # of the largest size; smaller ones take as many steps
    lr: float = 0.01  # learning rate


@writes_run("seed_stability")
def main(config: Config, folder: Path) -> None:
    """Measure, print, write the run folder."""
    model, task = config.load()
    found = sl.seed_stability(
        model,
        task,
        rng=np.random.default_rng([config.seed, 0]),
        layer=config.layer,
        sizes=config.sizes,
        seeds=config.seeds,
        subsets=config.subsets,
        n_shuffled=config.shuffled,
        n_test=min(config.test, len(task.test)),
        epochs=config.epochs,
        lr=config.lr,
        progress=True,
    )
    answer, figure = str(found), sl.plots.data_size_curve(found)
    print(f"{found.curve().to_string(index=False, float_format='%.3f')}\n\n{answer}")
    save_figures(
        folder,
        runs.provenance(model, config.recorded(), task.about),
        title=f"Stability of learned vectors: {task.name}, {config.model_name}",
        question="Is a learned vector the same with another seed or other problems, and how many problems does it need?",
        answer=answer,
        warnings=found.warnings(),
        figures=[
            ("Cosine with the reference and change of test accuracy, by number of training problems.", figure, sl.plots.words(figure))
        ],
        tables={
            "curve": ("Means over vectors, with 95% intervals over vectors.", found.curve()),
            "vectors": ("Every vector, with its paired interval on the test problems.", found.frame),
            "pairs": ("", found.pairs),
        },
        directions=[found.vectors[0]],
        overwrite=config.overwrite,
    )


if __name__ == "__main__":
    run(main, Config)
