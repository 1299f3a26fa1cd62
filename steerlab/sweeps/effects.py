"""Paired effects of many vectors against no vector in one batched run, and the nulls to compare them with."""

from collections.abc import Sequence
from typing import Unpack

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import beta, t

from steerlab._checks import InputError, takes_options
from steerlab.directions.direction import Direction, site_of
from steerlab.models.backends import Model
from steerlab.statistics.intervals import Interval
from steerlab.statistics.paired import sign_test
from steerlab.steering.cells import InterventionRun, run_interventions
from steerlab.steering.options import ScoreOptions
from steerlab.steering.variants import Intervention, Placed
from steerlab.tasks.problems import Problem

EFFECT = ["n", "baseline", "accuracy", "change", "low", "high", "p", "margin_change"]


@takes_options
def score_vectors(
    model: Model,
    problems: Sequence[Problem],
    vectors: Sequence[tuple[Direction, float]],
    *,
    label: str = "score",
    **options: Unpack[ScoreOptions],
) -> InterventionRun:
    """Score problems under every vector, each where it was measured and at its own coefficient, in one batched run.

    Args:
        vectors: directions with their alphas.
        model, problems: as in `steerlab.sweep`.
        label: of the progress bar.

    Raises:
        ValueError: no vectors, or what `run_interventions` says.

    Example:
        >>> import steerlab as sl, torch
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic")
        >>> one = sl.Direction(torch.ones(model.cfg.d_model), layer=3)
        >>> len(score_vectors(model, task.test[:8], [(one, 1.0), (one, -2.0)]).frames)
        2
    """
    if not vectors:
        raise InputError("no vectors given; there is nothing to score")
    cells = [Intervention((Placed(direction, site_of(direction)),), alpha) for direction, alpha in vectors]
    return run_interventions(model, problems, cells, label=label, **options)


def effect(before: pd.DataFrame, after: pd.DataFrame) -> dict[str, float]:
    """The paired effect of one vector: n, baseline, accuracy, change, low and high (95%, Newcombe), p (exact sign test), margin_change.

    Args:
        before, after: outcomes of the same problems in the same order, with correct and margin.

    Example:
        >>> before = pd.DataFrame({"correct": [True, False, False], "margin": [1.0, -1.0, -2.0]})
        >>> after = pd.DataFrame({"correct": [True, True, False], "margin": [2.0, 1.0, -2.0]})
        >>> found = effect(before, after)
        >>> round(found["change"], 3), found["margin_change"], found["p"]
        (0.333, 1.0, 1.0)
    """
    was, now = before["correct"].to_numpy(bool), after["correct"].to_numpy(bool)
    found = sign_test(was, now)
    low, high = found.interval()
    moved = float((after["margin"].to_numpy(float) - before["margin"].to_numpy(float)).mean())
    values = (found.n, float(was.mean()), float(now.mean()), found.change, low, high, found.pvalue, moved)
    return dict(zip(EFFECT, values, strict=True))


def cosine_band(width: int, level: float = 0.05) -> float:
    """The absolute cosine that two independent isotropic directions exceed with this chance.

    Args:
        width: dimensions.
        level: the chance.

    Source:
        The squared cosine of a random unit vector with a fixed one is Beta(1/2, (d - 1)/2).

    Example:
        >>> round(cosine_band(128), 3)
        0.173
    """
    return 1.0 if width < 2 else float(np.sqrt(beta.ppf(1 - level, 0.5, (width - 1) / 2)))


def mean_interval(values: ArrayLike, confidence: float = 0.95) -> Interval:
    """Student's interval of a mean, for a few repetitions; missing (NaN) for fewer than two, and where all are equal, which tells no spread.

    Example:
        >>> low, high = mean_interval([0.01, 0.03, 0.02])
        >>> round(low, 4), round(high, 4)
        (-0.0048, 0.0448)
    """
    given = np.asarray(values, float)
    if given.size < 2 or np.ptp(given) <= 1e-12 * np.abs(given).max():
        return Interval(float("nan"), float("nan"), confidence, "Student")
    half = float(t.ppf((1 + confidence) / 2, given.size - 1) * given.std(ddof=1) / np.sqrt(given.size))
    return Interval(float(given.mean()) - half, float(given.mean()) + half, confidence, "Student")
