"""The main job: from a model and a task to the evidence on whether a direction causes a behaviour.

The protocol: evaluate train, balance right and wrong, cache, take the mean difference at each layer; choose layer and
alpha on validation; then, once, on test: every alpha at the chosen layer, and random directions of the same norm.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from steerlab.activations import Positions, cache_activations
from steerlab.controls import ControlResult, random_control
from steerlab.directions import Direction, mean_difference
from steerlab.interventions import ALPHAS
from steerlab.models import Model, n_layers
from steerlab.sweeps import SweepResult, sweep
from steerlab.tasks import Evaluation, Task, balance, evaluate


@dataclass(frozen=True, eq=False)
class Experiment:
    """Everything that the protocol measured.

    Attributes:
        task: name of the task.
        train: unsteered evaluation of the train split.
        directions: the mean difference at each layer.
        validation: the sweep that layer and alpha were chosen on.
        layer, alpha: the choice.
        test: the sweep of every alpha at the chosen layer, on the test split.
        controls: random-direction controls on the test split: at the chosen alpha, and at the strongest suppression.
        settings: the choices that are not in the results: positions, operator, seed, what the task says of its data.
    """

    task: str
    train: Evaluation
    directions: dict[int, Direction]
    validation: SweepResult
    layer: int
    alpha: float
    test: SweepResult
    controls: tuple[ControlResult, ...]
    settings: dict[str, Any]

    @property
    def direction(self) -> Direction:
        """The direction of the chosen layer."""
        return self.directions[self.layer]

    def __repr__(self) -> str:
        return (
            f"Experiment({self.task!r}, layer={self.layer}, alpha={self.alpha}, chosen on {self.validation.baseline.n} problems, "
            f"tested on {self.test.baseline.n}, {len(self.controls)} controls)"
        )

    def _repr_html_(self) -> str:
        return f"<p>{escape(repr(self))}</p>"


def contrast_directions(
    model: Model,
    evaluation: Evaluation,
    *,
    rng: np.random.Generator,
    layers: Sequence[int] | None = None,
    site: str = "resid_post",
    positions: Positions = "last",
    progress: bool = False,
) -> dict[int, Direction]:
    """Mean difference of balanced right and wrong problems, at each layer.

    Args:
        model: the model that was evaluated.
        evaluation: what it got right and wrong.
        rng: balances.
        layers: default all.
        site, positions: as in `steerlab.cache_activations`.
        progress: show a progress bar.

    Raises:
        ValueError: nothing right or nothing wrong, or activations that do not differ at a layer.

    Example:
        >>> import numpy as np, steerlab as sl
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic")
        >>> evaluation = sl.evaluate(model, task.train[:40])
        >>> sl.contrast_directions(model, evaluation, rng=np.random.default_rng(0), layers=[3])
        {3: Direction('mean difference', layer=3, site='resid_post', shape=[128], norm=7.68)}
    """
    groups = balance(evaluation, rng=rng, train=1.0)
    layers = list(range(n_layers(model))) if layers is None else list(layers)
    acts = cache_activations(model, groups.train, layers=layers, site=site, positions=positions, progress=progress)
    right = acts.select([p.id for p in groups.train_correct])
    wrong = acts.select([p.id for p in groups.train_incorrect])
    return {layer: mean_difference(right, wrong, layer=layer) for layer in layers}


def run_experiment(
    model: Model,
    task: Task,
    *,
    seed: int,
    layers: Sequence[int] | None = None,
    alphas: Sequence[float] = ALPHAS,
    n_controls: int = 99,
    cache_positions: Positions = "last",
    positions: Positions = "all",
    operator: str = "add",
    progress: bool = False,
) -> Experiment:
    """Run the protocol.

    Args:
        model: a TransformerLens model.
        task: with train, validation and test problems.
        seed: balancing and controls draw from streams of their own that it determines.
        layers: candidates; default all.
        alphas: candidates and dose-response; 0 and at least one negative value belong in it.
        n_controls: random directions at each of the two alphas; the smallest p-value is 1 / (n_controls + 1).
        cache_positions: where the direction is measured.
        positions: where it acts.
        operator: how it acts.
        progress: show progress bars.

    Raises:
        ValueError: bad input; see the functions called.

    Example:
        >>> import steerlab as sl
        >>> model = sl.load_model("tiny-arithmetic")
        >>> task = sl.load_task("arithmetic", limit=16)
        >>> sl.run_experiment(model, task, seed=0, layers=[3], alphas=[-2, 0, 2], n_controls=4).controls[0].n
        4
    """
    if n_controls < 1:
        raise ValueError(f"n_controls={n_controls}; use at least 1 (99 give p-values down to 0.01)")
    if 0 not in alphas or min(alphas) >= 0:
        raise ValueError(f"alphas={list(alphas)}; they must hold 0 (the baseline) and a negative value (the suppression control)")
    for split in ("train", "validation", "test"):
        if not getattr(task, split):
            raise ValueError(f"the {split} split of task {task.name!r} is empty; the protocol needs all three")
    balance_rng, *control_rngs = (np.random.default_rng([seed, stream]) for stream in range(3))
    train = evaluate(model, task.train, progress=progress)
    directions = contrast_directions(model, train, rng=balance_rng, layers=layers, positions=cache_positions, progress=progress)
    acting: dict[str, Any] = {"positions": positions, "operator": operator, "progress": progress}
    validation = sweep(model, task.validation, directions, alphas=alphas, **acting)
    best = validation.best()
    layer, alpha = int(best["layer"]), float(best["alpha"])
    test = sweep(model, task.test, directions[layer], alphas=alphas, **acting)
    strengths = list(dict.fromkeys([alpha, float(min(alphas))]))
    controls = tuple(
        random_control(model, task.test, directions[layer], alpha=strength, n=n_controls, rng=rng, **acting)
        for strength, rng in zip(strengths, control_rngs, strict=False)
    )
    settings = {
        "seed": seed,
        "cache_positions": cache_positions,
        "positions": positions,
        "operator": operator,
        "n_controls": n_controls,
        "task": dict(task.about),
    }
    return Experiment(task.name, train, directions, validation, layer, alpha, test, controls, settings)
