"""Many tests at once: corrections of p-values, and the best cell of a grid."""

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from steerlab import statistics as st
from steerlab._checks import Alternative
from steerlab.validation.scenarios._common import LEVELS, Scenario, missed, rejected

CEILING = (
    "many cells share a baseline that is nearly always right, so that flips are no exact symmetry; "
    "one-sided tests there are too eager on one side, two-sided ones slightly; fewer cells or more wrong answers mend it"
)


def grid(
    rng: np.random.Generator, n: int, cells: int, change: float = 0.0, *, effects: int = 1
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Outcomes before, and after in the cells of a grid whose neighbours move alike; the last cells may change accuracy."""
    common, before = rng.random(n), rng.random(n) < 0.5
    moves = (rng.random((n, cells)) < 0.5) & (common < 0.3)[:, None]  # the same fragile problems in every cell
    after = np.where(moves, rng.random((n, cells)) < 0.5, before[:, None])
    if change:
        for cell in range(cells - effects, cells):
            after[:, cell] = _answers_after(rng, before, change)
    return before, after


def _answers_after(rng: np.random.Generator, before: NDArray[np.bool_], change: float) -> NDArray[np.bool_]:
    """Outcomes in which wrong answers became right, and few right ones wrong, so that accuracy rises by about `change`."""
    gained, lost = rng.random(before.size) < 2 * (change + 0.05), rng.random(before.size) < 0.1
    return np.where(before, ~lost, gained)


def _many(adjust: Callable[..., NDArray[np.float64]], dependence: float, effects: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Twenty tests, some with a real effect; Holm: any false rejection, Benjamini-Hochberg: their share among all rejections."""
    z = dependence**0.5 * rng.normal() + (1 - dependence) ** 0.5 * rng.normal(size=20)
    z[:effects] += 3
    adjusted = adjust(norm.sf(z))
    return np.array([_false(adjusted <= level, effects, family=adjust is st.holm) for level in LEVELS])


def _false(rejections: NDArray[np.bool_], effects: int, *, family: bool) -> float:
    wrong, made = int(rejections[effects:].sum()), int(rejections.sum())
    return float(wrong > 0) if family else wrong / max(1, made)


def _best_cell(change: float, rng: np.random.Generator) -> NDArray[np.float64]:
    before, after = grid(rng, 86, 156, change)
    return rejected(st.max_statistic_test(before, after, rng=rng, n_resamples=499).pvalue)


def _false_survivors(rng: np.random.Generator) -> NDArray[np.float64]:
    """Ten of forty cells have an effect; is any other one rejected?"""
    before, after = grid(rng, 86, 40, 0.2, effects=10)
    found = st.max_statistic_test(before, after, rng=rng, n_resamples=499)
    return np.array([(found.survivors(level).index < 30).any() for level in LEVELS], float)


def _best_of_margins(statistic: str, shift: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Margins whose changes in 40 cells go together, are heavy-tailed, and in half of the cells ten times as large."""
    before = rng.normal(size=30)
    changes = (rng.standard_t(3, (30, 1)) + rng.standard_t(3, (30, 40))) * np.where(np.arange(40) % 2, 10.0, 1.0)
    changes[:, 0] += shift
    return rejected(st.max_statistic_test(before, before[:, None] + changes, rng=rng, statistic=statistic, n_resamples=499).pvalue)  # type: ignore[arg-type]


def _at_the_ceiling(alternative: Alternative, rng: np.random.Generator) -> NDArray[np.float64]:
    """Before and in 50 cells, 98% of 100 problems are right, each time others."""
    before, after = rng.random(100) < 0.98, rng.random((100, 50)) < 0.98
    return rejected(st.max_statistic_test(before, after, rng=rng, alternative=alternative, n_resamples=499).pvalue)


def _interval_of_the_best(rng: np.random.Generator) -> NDArray[np.float64]:
    before, after = grid(rng, 86, 40)
    return missed(st.max_statistic_test(before, after, rng=rng, n_resamples=99).interval, 0.0)


def _effects_against_controls(size: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Twelve effects of one direction and of 99 controls, which go together and spread differently; the last effect may be real."""
    moves = (rng.normal(size=(1, 100)) + rng.normal(size=(12, 100))) * np.logspace(-1, 1, 12)[:, None]
    observed, controls = moves[:, 0], moves[:, 1:]
    observed[-1] += size * controls[-1].std()
    return rejected(float(st.rank_tests(observed, controls)[1].min()))


def _best_cell_uncorrected(rng: np.random.Generator) -> NDArray[np.float64]:
    before, after = grid(rng, 86, 156)
    best = after[:, int(np.abs(after.mean(0) - before.mean()).argmax())]
    return rejected(st.sign_test(before, best).pvalue)


SCENARIOS: list[Scenario] = [
    Scenario("Holm, any of 20 tests", "all null, independent", partial(_many, st.holm, 0.0, 0)),
    Scenario("Holm, any of 20 tests", "10 real effects, correlation 0.5", partial(_many, st.holm, 0.5, 10)),
    Scenario("Benjamini-Hochberg, share of false discoveries", "all null, independent", partial(_many, st.benjamini_hochberg, 0.0, 0)),
    Scenario(
        "Benjamini-Hochberg, share of false discoveries", "10 real effects, correlation 0.5", partial(_many, st.benjamini_hochberg, 0.5, 10)
    ),
    Scenario("max statistic, best of a grid", "156 cells, 86 problems", partial(_best_cell, 0.0), share=0.5),
    Scenario("max statistic, any false survivor", "40 cells, 10 of them +20 points, 86 problems", _false_survivors, share=0.5),
    Scenario("max statistic, best of a grid", "margins, 40 cells, 30 problems, heavy tails", partial(_best_of_margins, "studentized", 0.0)),
    Scenario("max statistic of means", "margins, 40 cells, 30 problems, heavy tails", partial(_best_of_margins, "mean", 0.0)),
    Scenario(
        "max statistic, best of a grid", "50 cells, 100 problems, 98% right", partial(_at_the_ceiling, "two-sided"), why=CEILING, share=0.5
    ),
    Scenario(
        "max statistic, one-sided (less)", "50 cells, 100 problems, 98% right", partial(_at_the_ceiling, "less"), why=CEILING, share=0.5
    ),
    Scenario(
        "max statistic, one-sided (greater)",
        "50 cells, 100 problems, 98% right",
        partial(_at_the_ceiling, "greater"),
        why=CEILING,
        share=0.5,
    ),
    Scenario("rank tests of many effects, any of 12", "99 controls, effects that go together", partial(_effects_against_controls, 0.0)),
    Scenario("interval of the best cell misses its change", "40 cells, 86 problems", _interval_of_the_best, share=0.3),
    Scenario(
        "sign test of the best of a grid, uncorrected",
        "156 cells, 86 problems",
        _best_cell_uncorrected,
        why="the best of 156 cells is not one cell",
        share=0.3,
    ),
    # A real effect
    Scenario(
        "rank tests of many effects, any of 12", "99 controls, one effect of 4 sd", partial(_effects_against_controls, 4.0), null=False
    ),
    Scenario("max statistic, best of a grid", "156 cells, 86 problems, one +20 points", partial(_best_cell, 0.2), null=False, share=0.5),
    Scenario(
        "max statistic, best of a grid",
        "margins, 40 cells, 30 problems, one quiet cell +3",
        partial(_best_of_margins, "studentized", 3.0),
        null=False,
    ),
    Scenario(
        "max statistic of means", "margins, 40 cells, 30 problems, one quiet cell +3", partial(_best_of_margins, "mean", 3.0), null=False
    ),
]
