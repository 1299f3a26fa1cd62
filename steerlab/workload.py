"""What the main job is made of, counted before it starts: its stages, the runs of each, and about how long they take.

A run is one row (a prompt with what is scored behind it) under one intervention, or under none.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from steerlab import progress
from steerlab.activations import Positions
from steerlab.cells import run_cells
from steerlab.directions import Direction, random_directions
from steerlab.distributions import compare_distributions, positions_on_text, text_rows
from steerlab.interventions import Operator
from steerlab.models import Model, d_model
from steerlab.progress import MINUTE, forecast_made, say_forecast
from steerlab.tasks import Problem, Task, evaluate
from steerlab.tasks.scorers import scorer_for
from steerlab.tasks.scoring import plan
from steerlab.variants import Cell, Place

TIMED = 4  # interventions of the timed batch, spread over the layers
SEARCH = 6  # passes over the texts that a search for controls of equal KL takes, about


@dataclass(frozen=True)
class Workload:
    """Runs of the stages of the main job, in their order.

    Attributes:
        train: rows of the train split, each run once.
        validation: the sweep that is chosen on.
        test: the sweep of the chosen layer.
        controls: random directions at one of two coefficients.
        effects: side effects.
        families: further controls, by family.
        search: passes over the texts, in runs, that depend on what is found; not counted.
    """

    train: int
    validation: int
    test: int
    controls: int
    effects: int
    families: dict[str, int]
    search: int

    @property
    def stages(self) -> int:
        """How many: evaluation, activations, two sweeps, controls at two coefficients, side effects, and the families."""
        return 7 + len(self.families)

    @property
    def scored(self) -> int:
        """Runs whose answers are judged."""
        return self.validation + self.test + 2 * self.controls + sum(self.families.values())

    @property
    def runs(self) -> int:
        """All that is counted."""
        return self.train + self.scored + self.effects


def workload(
    model: Model,
    task: Task,
    texts: Sequence[str | Sequence[int]],
    *,
    layers: int,
    alphas: Sequence[float],
    n_controls: int,
    families: Sequence[str],
) -> Workload:
    """Count the runs of the main job.

    Args:
        model: the model.
        task: with three splits.
        texts: what side effects are measured on.
        layers: how many are compared.
        alphas: coefficients; 0 is the baseline, which is run once.
        n_controls: of each kind.
        families: further controls.

    Raises:
        ValueError: problems that the model or their scorer cannot take.
    """
    train, validation, test = (_rows(model, problems) for problems in (task.train, task.validation, task.test))
    steered = sum(alpha != 0 for alpha in alphas)
    control = test * (2 + n_controls)  # the baseline, the direction, and its controls
    return Workload(
        train,
        validation * (1 + layers * steered),
        test * (1 + steered),
        control,
        len(texts) * (1 + steered + 2 * (1 + n_controls)),
        dict.fromkeys(families, control),
        len(texts) * (1 + n_controls) * SEARCH if "equal_kl" in families else 0,
    )


def forecast(
    model: Model,
    task: Task,
    texts: Sequence[str | Sequence[int]],
    work: Workload,
    *,
    layers: Sequence[int],
    operator: str | Operator,
    positions: Positions,
) -> None:
    """Where the main job will take over a minute, say so; from small batches that are timed, with directions that are random.

    Raises:
        ValueError: what `steerlab.sweep` and `steerlab.side_effects` refuse.
    """
    like = Direction(torch.ones(d_model(model)) / d_model(model) ** 0.5, layers[0])
    at = [layers[k] for k in np.linspace(0, len(layers) - 1, min(TIMED, len(layers))).round().astype(int)]
    drawn = random_directions(like, len(at), rng=np.random.default_rng(0))
    cells = [Cell((Place(one, layer, "resid_post"),), 1.0) for one, layer in zip(drawn, at, strict=True)]
    how: dict[str, Any] = {"operator": operator}

    def scored(some: Sequence[Problem]) -> int:
        run_cells(model, some, cells, positions=positions, **how)
        return _rows(model, some) * (1 + len(cells))

    def read(some: Sequence[str]) -> int:
        compare_distributions(model, text_rows(model, some), cells, positions=positions_on_text(positions), **how)
        return len(some) * (1 + len(cells))

    def unsteered(some: Sequence[Problem]) -> int:
        evaluate(model, some)
        return _rows(model, some)

    seconds = _timed(unsteered, task.train, 2 * work.train)  # evaluated, and run again for their activations, at most
    seconds += _timed(scored, task.validation, work.scored) + _timed(read, texts, work.effects + work.search)
    more = ", beside a search for controls of equal KL" if work.search else ""
    say_forecast(work.runs, seconds, extra=f" in {work.stages} stages{more}")
    forecast_made()


def _timed(run: Callable[[Any], int], given: Sequence[Any], runs: int) -> float:
    """About how many seconds so many runs take: from a batch that takes a second, or from all that there is, if it is less than a minute's work."""
    size = 1
    while True:
        some = given[: min(size, len(given))]
        begun = progress.clock()
        done = run(some)
        taken = progress.clock() - begun
        if taken >= progress.FIRST or size >= len(given) or taken / done * runs < MINUTE / 10:
            return taken / done * runs
        size *= 4


def _rows(model: Model, problems: Sequence[Problem]) -> int:
    return len(plan(model, problems, scorer_for(problems, None)).rows)
