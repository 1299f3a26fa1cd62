"""Each method's vectors on the validation grid of layers, signs and levels, the choice, and its one test with random controls.

A level is how much everything that is added weighs: its norm over all layers, or the KL on other text that it causes. All methods
get the same layers, levels and signs, so all are compared equally often.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from steerlab.activations.positions import Positions
from steerlab.controls.control import scales_for
from steerlab.directions.direction import Direction, site_of
from steerlab.directions.random import random_directions
from steerlab.models.backends import Model
from steerlab.models.forecasts import Work
from steerlab.steering.cells import run_interventions
from steerlab.steering.distributions import mean_kl, positions_on_text, text_rows
from steerlab.steering.variants import Intervention, Placed
from steerlab.steering.work import on_texts, rows_of, steered
from steerlab.studies.method_vectors import MethodVectors
from steerlab.tasks.evaluation import Evaluation
from steerlab.tasks.problems import Problem

MATCHINGS = ("norm", "kl", "own")
SOUGHT = (2.0, 3.5)  # passes over the texts that a search for a KL takes, about: of contenders, and of controls
KL_TOLERANCE = 0.02  # of a wanted KL
MOST_SCALE = 1024.0  # a learned vector may have to grow a lot to do what a long one does


@dataclass(frozen=True, eq=False)
class Setting:
    """What all trials share: the model, where vectors act, and the texts on which KL is measured."""

    model: Model
    texts: Sequence[str | Sequence[int]]
    positions: Positions = "all"
    progress: bool = False

    def kl(self, cells: Sequence[Intervention]) -> np.ndarray:
        """Mean KL(unsteered || steered) of each cell, in nats a token."""
        return mean_kl(self.model, text_rows(self.model, self.texts), cells, positions=positions_on_text(self.positions))

    def score(self, problems: Sequence[Problem], cells: Sequence[Intervention], label: str) -> tuple[Evaluation, list[pd.DataFrame]]:
        """Unsteered outcomes, and those of each cell."""
        done = run_interventions(self.model, problems, cells, positions=self.positions, progress=self.progress, label=label)
        return done.baseline, done.frames


def trials_work(
    bench: Setting,
    validation: Sequence[Problem],
    test: Sequence[Problem],
    matchings: Sequence[str],
    *,
    layers: Sequence[int],
    levels: Mapping[str, int],
    contenders: int,
    places: Mapping[str, int],
    n_controls: int,
) -> list[Work]:
    """What all comparisons and tests are made of; searches for a KL, whose passes depend on what is found, are not counted.

    Args:
        levels, places: of each matching, how many levels there are, and at how many places controls act, at most.
    """
    model, texts = bench.model, len(bench.texts)
    looked, tested, read, search = 0, 0, 0, 0
    for matching in matchings:
        seen, doses, drawn = contenders * len(layers) * levels[matching] * 2, contenders * levels[matching], places[matching] * n_controls
        looked, tested = looked + 1 + seen, tested + 1 + doses + drawn
        if matching == "kl":
            search += texts * round(SOUGHT[0] * (seen + doses) + SOUGHT[1] * drawn)
        else:
            read += texts * (2 + places[matching] + seen + doses + drawn)
    how: dict[str, Any] = {"layers": layers, "positions": bench.positions}
    return [
        steered(model, validation, looked * rows_of(model, validation), **how),
        steered(model, test, tested * rows_of(model, test), **how),
        on_texts(model, bench.texts, read, search=search, **how),
    ]


def cell_of(directions: Sequence[Direction], alpha: float) -> Intervention:
    """Directions that act together, each at its own place."""
    return Intervention(tuple(Placed(direction, site_of(direction)) for direction in directions), float(alpha))


def scaled(
    bench: Setting,
    groups: Sequence[Sequence[Direction]],
    signs: Sequence[int],
    levels: Sequence[float],
    matching: str,
    *,
    start: float = 0.0,
) -> pd.DataFrame:
    """One line a group of directions that act together: the alpha at which it reaches its level, norm, kl and reached (within 2% of a wanted KL).

    Args:
        levels: the wanted norm or, with matching="kl", KL.
        start: the norm at which the search for a KL begins; 0 begins where that would be if KL grew with the norm's square from norm 1.
    """
    norms = np.array([np.sqrt(sum(direction.norm**2 for direction in group)) for group in groups])
    wanted = np.asarray(levels, dtype=float)

    def kl_of(which: Sequence[int], sizes: Sequence[float] | np.ndarray) -> np.ndarray:
        return bench.kl([cell_of(groups[k], signs[k] * size / norms[k]) for k, size in zip(which, sizes, strict=True)])

    if matching == "kl":
        begin = np.full(len(groups), start)
        if not start:
            first = {(id(group), sign): k for k, (group, sign) in enumerate(zip(groups, signs, strict=True))}
            at_one = dict(zip(first, kl_of(list(first.values()), [1.0] * len(first)), strict=True))
            found_at = np.array([at_one[id(group), sign] for group, sign in zip(groups, signs, strict=True)])
            begin = np.sqrt(wanted / np.maximum(found_at, wanted / MOST_SCALE**2))
        found = scales_for(lambda which, scales: kl_of(which, begin[which] * scales), levels, tolerance=KL_TOLERANCE, max_scale=MOST_SCALE)
        scales, kl, reached = (np.array(values) for values in zip(*found, strict=True))
        sizes = begin * scales
    else:
        sizes, kl = wanted, kl_of(range(len(groups)), wanted)
        reached = np.ones(len(sizes), dtype=bool)
    return pd.DataFrame({"alpha": np.asarray(signs) * sizes / norms, "norm": sizes, "kl": kl, "reached": reached.astype(bool)})


def validation_grid(
    bench: Setting, problems: Sequence[Problem], contenders: Sequence[MethodVectors], levels: Sequence[float], matching: str
) -> pd.DataFrame:
    """Every contender at every layer, level and sign: method, layer, sign, level, alpha, norm, kl, reached, accuracy, change, margin (mean)."""
    keys = [(one.name, layer, sign, level) for one in contenders for layer in one.candidates for level in levels for sign in (1, -1)]
    by_name = {one.name: one for one in contenders}
    groups = [by_name[name].candidates[layer] for name, layer, _, _ in keys]
    table = pd.DataFrame(keys, columns=["method", "layer", "sign", "level"])
    at = scaled(bench, groups, table["sign"].tolist(), table["level"].tolist(), matching)
    cells = [cell_of(group, alpha) for group, alpha in zip(groups, at["alpha"], strict=True)]
    base, frames = bench.score(problems, cells, f"validation ({matching})")
    table = pd.concat([table, at], axis=1)
    table["accuracy"] = [float(frame["correct"].mean()) for frame in frames]
    table["change"] = table["accuracy"] - base.accuracy
    return table.assign(margin=[float(frame["margin"].mean()) for frame in frames])


def choose(table: pd.DataFrame, matching: str) -> pd.DataFrame:
    """The choice of each method: with "norm" and "kl" all at one level, with "own" each at its best.

    Within a level a method takes its vector of highest accuracy, then of larger mean margin, then of the lower layer. The common level is the one
    at which these accuracies are highest in the mean over methods; the lowest of equals. What did not reach its level is no candidate where
    anything else is.

    Example:
        >>> lines = [("a", 1, 0.1, 0.6), ("a", 1, 0.2, 0.5), ("b", 2, 0.1, 0.5), ("b", 2, 0.2, 0.7)]
        >>> table = pd.DataFrame(lines, columns=["method", "layer", "level", "accuracy"]).assign(sign=1, margin=0.0, reached=True)
        >>> choose(table, "kl")["level"].tolist(), choose(table, "own")["level"].tolist()
        ([0.2, 0.2], [0.1, 0.2])
    """
    order = ["reached", "accuracy", "margin", "layer", "sign"]
    ranked = table.sort_values(order, ascending=[False, False, False, True, False], kind="stable")
    best = ranked.groupby(["method", "level"], sort=False).head(1)
    if matching == "own":
        chosen = best.sort_values("level", kind="stable").sort_values("accuracy", ascending=False, kind="stable").groupby("method").head(1)
    else:
        means = best.groupby("level")["accuracy"].mean().round(12)
        chosen = best[best["level"] == means.idxmax()]
    place = {name: k for k, name in enumerate(dict.fromkeys(table["method"]))}
    return chosen.assign(place=chosen["method"].map(place)).sort_values("place").drop(columns="place").reset_index(drop=True)


@dataclass(frozen=True, eq=False)
class Tested:
    """What the choices did on test; the frames are those of `MethodComparison`."""

    outcomes: pd.DataFrame
    controls: pd.DataFrame
    doses: pd.DataFrame


def score_selected(
    bench: Setting,
    problems: Sequence[Problem],
    contenders: Sequence[MethodVectors],
    chosen: pd.DataFrame,
    levels: Sequence[float],
    matching: str,
    *,
    n_controls: int,
    seed: Sequence[int],
) -> Tested:
    """Score the choices, their other levels and their random controls on test problems, in one run.

    A control is a random direction at the layer (or, with the same scale at each, the layers) of the choice, at its level: of its norm, or
    as long as it takes for its KL. Methods that chose the same layers share controls.
    """
    by_name = {one.name: one for one in contenders}
    groups = {name: by_name[name].candidates[int(layer)] for name, layer in zip(chosen["method"], chosen["layer"], strict=True)}
    level_of = dict(zip(chosen["method"], chosen["level"], strict=True))
    others = chosen[["method", "layer", "sign"]].merge(pd.DataFrame({"level": levels}), how="cross")
    of_dose = [groups[name] for name in others["method"]]
    doses = pd.concat([others, scaled(bench, of_dose, others["sign"].tolist(), others["level"].tolist(), matching)], axis=1)
    cells = [cell_of(group, alpha) for group, alpha in zip(of_dose, doses["alpha"], strict=True)]
    drawn: dict[Any, tuple[int, pd.DataFrame]] = {}
    place_of = {name: _place(group, float(level_of[name])) for name, group in groups.items()}
    for place in dict.fromkeys(place_of.values()):
        rng = np.random.default_rng([*seed, *(layer for layer, _ in place[0])])
        name = next(name for name, at in place_of.items() if at == place)
        random = _random(groups[name], n_controls, rng)
        start = float(doses.loc[(doses["method"] == name) & (doses["level"] == place[1]), "norm"].iloc[0])
        at = scaled(bench, random, [1] * n_controls, [place[1]] * n_controls, matching, start=start)
        drawn[place] = len(cells), at
        cells += [cell_of(group, alpha) for group, alpha in zip(random, at["alpha"], strict=True)]
    _, frames = bench.score(problems, cells, f"test ({matching})")
    doses["accuracy"] = [float(frame["correct"].mean()) for frame in frames[: len(doses)]]
    doses["chosen"] = doses["level"] == doses["method"].map(level_of)
    outcomes = [frames[k].assign(method=doses["method"][k]) for k in range(len(doses)) if doses["chosen"][k]]
    controls = []
    for name, place in place_of.items():
        first, at = drawn[place]
        mine = frames[first : first + n_controls]
        means = {key: [float(frame[column].mean()) for frame in mine] for key, column in (("accuracy", "correct"), ("margin", "margin"))}
        controls.append(at.assign(method=name, control=range(n_controls), **means))
    return Tested(pd.concat(outcomes, ignore_index=True), pd.concat(controls, ignore_index=True), doses)


def _place(group: Sequence[Direction], level: float) -> tuple[tuple[tuple[int, float], ...], float]:
    """Where, and in what shares, a group acts, and its level: groups alike in both have the same controls."""
    first = group[0].vector.double().flatten()
    shares = [1.0 if group[0] is one else float(one.vector.double().flatten() @ first / (first @ first)) for one in group]
    return tuple((one.layer, round(share, 6)) for one, share in zip(group, shares, strict=True)), level


def _random(group: Sequence[Direction], n: int, rng: np.random.Generator) -> list[tuple[Direction, ...]]:
    """Random directions that act where a group does; of a group of several, which are multiples of one vector, each is that multiple."""
    (_, *rest), _ = _place(group, 0.0)
    found = []
    for one in random_directions(group[0], n, rng=rng):
        more = (Direction(share * one.vector, layer, one.site, one.positions, one.name, one.method, one.model) for layer, share in rest)
        found.append((one, *more))
    return found
