"""The vectors of one task for a study of transfer: found, chosen on its validation problems, with nulls and halves."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from steerlab._checks import InputError
from steerlab.aft.aft import learn_vectors, vectors_work
from steerlab.directions.contrasts import balanced_activations
from steerlab.directions.direction import Direction
from steerlab.directions.estimators import ESTIMATORS
from steerlab.directions.random import shuffled_labels
from steerlab.models.backends import Model
from steerlab.models.forecasts import Work
from steerlab.models.model import n_layers
from steerlab.steering.operators import Operator
from steerlab.steering.work import rows_of, steered, unsteered
from steerlab.sweeps.sweep import sweep
from steerlab.tasks.evaluation import evaluate
from steerlab.tasks.problems import Problem, shuffled_targets

Item = TypeVar("Item")
LEARNED = "learned"
ALPHAS = (-2.0, -1.0, 1.0, 2.0)
SPLITS = 20  # halves of the problems, for an estimator's reliability


@dataclass(frozen=True)
class Learning:
    """How vectors are trained."""

    epochs: int
    lr: float
    operator: str | Operator
    n_shuffled: int
    progress: bool


@dataclass(frozen=True, eq=False)
class Found:
    """One task's vector by one method.

    Attributes:
        vector: alpha times what was found, so that it acts at 1.
        layer, alpha: the choice.
        candidates: how many were compared for it.
        validation_change: of accuracy, of the chosen one.
        shuffled: vectors of the same making and length from labels that mean nothing.
        by_layer: the vector at each candidate layer, at alpha 1.
        reliability: at each candidate layer, the cosine to expect with the vector of as many other problems.
        shuffled_by_layer: at each candidate layer, where they are cheap.
    """

    vector: Direction
    layer: int
    alpha: float
    candidates: int
    validation_change: float
    shuffled: tuple[Direction, ...]
    by_layer: Mapping[int, Direction]
    reliability: Mapping[int, float]
    shuffled_by_layer: Mapping[int, Sequence[Direction]]


def chosen_depths(model: Model, layers: Sequence[int] | None) -> list[int]:
    """Layers as given, or at a quarter, a half and three quarters of the depth.

    Raises:
        ValueError: no layers, or one twice.
    """
    n = n_layers(model)
    where = sorted({int(n * share) for share in (0.25, 0.5, 0.75)}) if layers is None else list(layers)
    if not where or len(set(where)) < len(where):
        raise InputError(f"layers={where}; give at least one, each once")
    return where


def full_reliability(halves: float) -> float:
    """The cosine to expect between estimates of all problems, from that between estimates of halves (Spearman and Brown); 0 where halves disagree."""
    return 2 * halves / (1 + halves) if halves > 0 else 0.0


def cosine(a: Direction, b: Direction) -> float:
    """Of two vectors of one shape."""
    first, second = a.vector.double().flatten(), b.vector.double().flatten()
    return float(first @ second / (first.norm() * second.norm()))


def learned_source(
    model: Model,
    name: str,
    train: Sequence[Problem],
    validation: Sequence[Problem],
    layers: Sequence[int] | None,
    learning: Learning,
    *,
    rng: np.random.Generator,
) -> Found:
    """A learned vector: layer and epoch chosen on validation, alpha 1.

    Its nulls are trained on permuted targets at the same layer, for as many epochs as the vector's best one, and brought to its length.
    """
    where = chosen_depths(model, layers)
    seed = int(rng.integers(2**31))
    shared: dict[str, Any] = {"lrs": learning.lr, "operator": learning.operator, "progress": learning.progress, "seeds": [seed]}
    found = learn_vectors(model, train, layers=where, validation=validation, epochs=learning.epochs, **shared)
    best = found.best()
    by_layer = {one.layer: one for one in found}
    halves = [learn_vectors(model, half, layers=where, epochs=learning.epochs, **shared) for half in _halves(train, rng)]
    agreed = [{one.layer: one for one in half} for half in halves]
    reliability = {
        layer: full_reliability(cosine(agreed[0][layer], agreed[1][layer])) if all(layer in half for half in agreed) else float("nan")
        for layer in by_layer
    }
    shuffled = []
    for k in range(learning.n_shuffled):
        permuted = shuffled_targets(train, rng=rng)
        (one,) = learn_vectors(model, permuted, layers=[best.layer], epochs=int(best.method["epoch"]), **shared)
        about = {"estimator": "learned from permuted targets", "norm_before": one.norm}
        shuffled.append(best.with_vector(one.vector * (best.norm / one.norm), f"shuffled-{k:03d} {LEARNED} {name}", about))
    change = float(best.method["validation_accuracy"] - best.method["unsteered_validation_accuracy"])
    vector = best.with_vector(best.vector, f"{LEARNED} {name}", dict(best.method))
    return Found(vector, best.layer, 1.0, len(found.frame), change, tuple(shuffled), by_layer, reliability, {})


def contrast_source(
    model: Model,
    name: str,
    method: str,
    train: Sequence[Problem],
    validation: Sequence[Problem],
    layers: Sequence[int] | None,
    alphas: Sequence[float],
    n_shuffled: int,
    *,
    operator: str | Operator,
    rng: np.random.Generator,
    progress: bool,
) -> Found:
    """An estimate from right against wrong train problems: layer and alpha chosen on validation; nulls with shuffled labels."""
    where = chosen_depths(model, layers)
    acts, right, wrong = balanced_activations(model, evaluate(model, train, progress=progress), rng=rng, layers=where)
    ids = [right.problem_ids, wrong.problem_ids]
    estimator = ESTIMATORS[method]
    by_layer = {layer: estimator(right, wrong, layer=layer) for layer in where}
    swept = sweep(model, validation, by_layer, alphas=list(alphas), operator=operator, progress=progress)
    best = swept.best()
    layer, alpha = int(best["layer"]), float(best["alpha"])
    vector = by_layer[layer].with_vector(alpha * by_layer[layer].vector, f"{method} {name}")
    agreement: dict[int, list[float]] = {at: [] for at in where}
    for _ in range(SPLITS if min(map(len, ids)) >= 4 else 0):
        parts = [_halves(group, rng) for group in ids]
        for at in where:
            one, other = (estimator(acts.select(parts[0][k]), acts.select(parts[1][k]), layer=at) for k in (0, 1))
            agreement[at].append(cosine(one, other))
    reliability = {at: full_reliability(float(np.median(seen))) if seen else float("nan") for at, seen in agreement.items()}
    draw = shuffled_labels(right, wrong, estimator=estimator, name=f"shuffled {method} {name}")
    by_draw = {at: draw(by_layer[at], n_shuffled, rng=rng) for at in where}
    shuffled = tuple(one.with_vector(alpha * one.vector, one.name) for one in by_draw[layer])
    return Found(vector, layer, alpha, len(where) * len(list(alphas)), float(best["change"]), shuffled, by_layer, reliability, by_draw)


def learned_work(
    model: Model, train: Sequence[Problem], validation: Sequence[Problem], layers: Sequence[int] | None, learning: Learning
) -> list[Work]:
    """What `learned_source` is made of; its shuffled vectors as if they trained for all epochs."""
    how: dict[str, Any] = {"epochs": learning.epochs, "operator": learning.operator}
    where, half = chosen_depths(model, layers), train[: len(train) // 2]
    return [
        *vectors_work(model, train, validation=validation, layers=where, **how),
        *vectors_work(model, half, layers=where, times=2, **how),
        *vectors_work(model, train, layers=where[len(where) // 2 :][:1], times=learning.n_shuffled, **how),
    ]


def contrast_work(
    model: Model,
    train: Sequence[Problem],
    validation: Sequence[Problem],
    layers: Sequence[int] | None,
    alphas: Sequence[float],
    *,
    operator: str | Operator,
) -> list[Work]:
    """What `contrast_source` is made of; train problems run once more for their activations, at most, which is not counted."""
    where, rows = chosen_depths(model, layers), rows_of(model, train)
    cells = len(where) * sum(alpha != 0 for alpha in alphas)
    swept = steered(model, validation, (1 + cells) * rows_of(model, validation), layers=where, operator=operator, together=cells)
    return [unsteered(model, train, rows, again=rows), swept]


def _halves(items: Sequence[Item], rng: np.random.Generator) -> tuple[list[Item], list[Item]]:
    order = rng.permutation(len(items))
    half = len(items) // 2
    return [items[i] for i in order[:half]], [items[i] for i in order[half : 2 * half]]


def cosines(found: Mapping[tuple[str, str], Found], band: float) -> pd.DataFrame:
    """Cosines between tasks' vectors of one method at each layer that both have, with what to hold them against."""
    lines = []
    for method in dict.fromkeys(method for method, _ in found):
        mine = {name: one for (m, name), one in found.items() if m == method}
        for (first, a), (second, b) in combinations(mine.items(), 2):
            for layer in sorted(set(a.by_layer) & set(b.by_layer)):
                ceiling = float(np.sqrt(a.reliability[layer] * b.reliability[layer]))
                null = [cosine(x, y) for x in a.shuffled_by_layer.get(layer, ()) for y in b.shuffled_by_layer.get(layer, ())]
                wide = float(np.quantile(np.abs(null), 0.95)) if null else float("nan")
                lines.append((method, layer, first, second, cosine(a.by_layer[layer], b.by_layer[layer]), ceiling, band, wide))
    return pd.DataFrame(lines, columns=["method", "layer", "first", "second", "cosine", "ceiling", "random", "shuffled"])
