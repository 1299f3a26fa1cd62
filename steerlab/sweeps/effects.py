"""Paired effects of many vectors against no vector in one batched run, and the nulls to compare them with."""

from collections.abc import Sequence
from typing import Any, Unpack

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy.stats import beta, t

from steerlab._checks import InputError, are_outcomes, takes_options
from steerlab.directions.direction import Direction, site_of
from steerlab.models.backends import Model
from steerlab.statistics.intervals import Interval, paired_interval
from steerlab.statistics.paired import SignTest, paired_t_test, sign_test
from steerlab.steering.cells import InterventionRun, run_interventions
from steerlab.steering.options import ScoreOptions
from steerlab.steering.variants import Intervention, Placed
from steerlab.tasks.problems import Problem


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


def points(*shares: float) -> str:
    """Shares as points of accuracy.

    Example:
        >>> points(0.015), points(-0.2, 0.1)
        ('+1.5', '-20.0 to +10.0')
    """
    return " to ".join(f"{100 * share:+.1f}" for share in shares)


def change_of(test: SignTest) -> dict[str, Any]:
    """A sign test as tables have it: n, change with low and high (95%, Newcombe), became_right, became_wrong, p."""
    low, high = test.interval()
    found = {"n": test.n, "change": test.change, "low": low, "high": high}
    return found | {"became_right": test.became_right, "became_wrong": test.became_wrong, "p": test.pvalue}


def effect(before: pd.DataFrame, after: pd.DataFrame) -> dict[str, float]:
    """The paired effect of one vector on the same problems in one order: n, baseline, accuracy, change, low and high (95%, Newcombe), p (exact sign test), margin_change.

    Example:
        >>> before = pd.DataFrame({"correct": [True, False, False], "margin": [1.0, -1.0, -2.0]})
        >>> after = pd.DataFrame({"correct": [True, True, False], "margin": [2.0, 1.0, -2.0]})
        >>> found = effect(before, after)
        >>> round(found["change"], 3), found["margin_change"], found["p"]
        (0.333, 1.0, 1.0)
    """
    was, now = before["correct"].to_numpy(bool), after["correct"].to_numpy(bool)
    found = change_of(sign_test(was, now))
    moved = float((after["margin"].to_numpy(float) - before["margin"].to_numpy(float)).mean())
    kept = {name: found[name] for name in ("change", "low", "high", "p")}
    return {"n": found["n"], "baseline": float(was.mean()), "accuracy": float(now.mean()), **kept, "margin_change": moved}


def change_interval(before: ArrayLike, after: ArrayLike, groups: Sequence[str]) -> Interval:
    """The 95% interval of a paired change of a measure: of outcomes or real values, by group where problems share one.

    Example:
        >>> print(change_interval([0.1, 0.4, 0.2], [0.6, 0.7, 0.9], ["a", "b", "c"]))
        95% interval 0.003172 to 0.9968 (t)
    """
    labels = groups if len(set(groups)) < len(groups) else None
    if are_outcomes(before, after) or labels is not None:
        return paired_interval(before, after, groups=labels)
    return paired_t_test(before, after).interval()


def cosine_band(width: int, level: float = 0.05) -> float:
    """The absolute cosine that two independent isotropic directions exceed with this chance.

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
    given, half = np.asarray(values, float), float("nan")
    if given.size > 1 and np.ptp(given) > 1e-12 * np.abs(given).max():
        half = float(t.ppf((1 + confidence) / 2, given.size - 1) * given.std(ddof=1) / np.sqrt(given.size))
    return Interval(float(given.mean()) - half, float(given.mean()) + half, confidence, "Student")
