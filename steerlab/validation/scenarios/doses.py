"""Dose-responses: trends, monotonicity, lines, curves, rank correlation, asymmetry."""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from steerlab import statistics as st
from steerlab.validation.scenarios._common import LEVELS, Scenario, missed, rejected

ALPHAS = np.linspace(-3, 3, 7)
APPROXIMATE = "percentiles over 40 problems; an interval for many"
CLOSE = "true means lie closer together than their errors, so that the sample does not tell their order; use the trend test"
FLAT = "the bootstrap of an isotonic fit is not consistent where the true curve is flat"


def responses(rng: np.random.Generator, n: int, slope: float = 0.0) -> NDArray[np.float64]:
    """Margins [problem, alpha]: each problem has a level and a slope of its own around the common ones."""
    slopes = slope + 0.3 * rng.normal(size=(n, 1))
    return np.asarray(rng.normal(size=(n, 1)) + slopes * ALPHAS + rng.normal(size=(n, 7)))


def switches(rng: np.random.Generator, n: int) -> NDArray[np.bool_]:
    """Answers [problem, alpha] that switch at one alpha and stay so, as many up as down."""
    up = rng.random((n, 1)) < 0.5
    return np.asarray((rng.integers(1, 7, size=(n, 1)) <= np.arange(7)) == up)


def _trend(slope: float, rng: np.random.Generator) -> NDArray[np.float64]:
    values = rng.normal(size=(20, 1)) + slope * ALPHAS + rng.normal(size=(20, 7))
    return rejected(st.trend_test(ALPHAS, values, rng=rng, n_resamples=499).pvalue)


def _trend_of_switches(null: str, rng: np.random.Generator) -> NDArray[np.float64]:
    return rejected(st.trend_test(ALPHAS, switches(rng, 40), rng=rng, null=null, n_resamples=499).pvalue)  # type: ignore[arg-type]


def _trend_of_means(slope: float, rng: np.random.Generator) -> NDArray[np.float64]:
    return rejected(st.trend_test(ALPHAS, slope * ALPHAS + rng.normal(size=7), rng=rng, n_resamples=999).pvalue)


def _reversal(slope: float, bend: float, rng: np.random.Generator) -> NDArray[np.float64]:
    values = responses(rng, 40, slope) - bend * np.maximum(ALPHAS, 0)
    found = st.largest_reversal(ALPHAS, values, rng=rng, increasing=True, n_resamples=499)
    return rejected(1.0 if found is None or found.pvalue is None else found.pvalue)


def _line(of: str, rng: np.random.Generator) -> NDArray[np.float64]:
    found = st.linear_fit(ALPHAS, 0.5 + responses(rng, 20, 0.2))
    return missed(found.interval, 0.2) if of == "slope" else missed(found.intercept_interval, 0.5)


def _line_of_answers(rng: np.random.Generator) -> NDArray[np.float64]:
    """Right with a chance that rises from 0.2 to 0.8."""
    answers = rng.random((40, 7)) < 0.5 + 0.1 * ALPHAS
    return missed(st.linear_fit(ALPHAS, answers).interval, 0.1)


def _line_of_means(rng: np.random.Generator) -> NDArray[np.float64]:
    return missed(st.linear_fit(ALPHAS, 0.2 * ALPHAS + rng.normal(size=7)).interval, 0.2)


def _curve(slope: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """The share of alphas whose limits miss the true curve."""
    found = st.isotonic_fit(ALPHAS, responses(rng, 40, slope), rng=rng, increasing=True, n_resamples=499)
    limits = [found.interval(1 - level) for level in LEVELS]
    return np.array([((one["low"] > slope * ALPHAS) | (one["high"] < slope * ALPHAS)).mean() for one in limits])


def _rho(slope: float, rng: np.random.Generator) -> NDArray[np.float64]:
    found = st.spearman(ALPHAS, responses(rng, 20, slope), rng=rng, n_resamples=499)
    return missed(found.interval, float(np.sign(slope)))


def _rho_of_means(rng: np.random.Generator) -> NDArray[np.float64]:
    return missed(st.spearman(ALPHAS, rng.normal(size=7), rng=rng).interval, 0.0)


def _asymmetry(rng: np.random.Generator) -> NDArray[np.float64]:
    return missed(st.asymmetry(ALPHAS, responses(rng, 20, 0.2)).interval, 0.0)


SCENARIOS: list[Scenario] = [
    Scenario("trend over alpha", "20 problems, 7 alphas", partial(_trend, 0.0)),
    Scenario("trend over alpha", "40 problems that switch once, up or down", partial(_trend_of_switches, "reversal")),
    Scenario(
        "Page's trend test (null='permutation')",
        "40 problems that switch once, up or down",
        partial(_trend_of_switches, "permutation"),
        share=0.1,
        why="answers at neighbouring alphas go together, so that not every order of them is as likely; use the default null",
    ),
    Scenario("trend over alpha, of means", "7 means, independent", partial(_trend_of_means, 0.0)),
    Scenario("largest step against the trend", "40 problems, 7 alphas, flat", partial(_reversal, 0.0, 0.0)),
    Scenario("largest step against the trend", "40 problems, 7 alphas, rising", partial(_reversal, 0.2, 0.0)),
    Scenario("interval of the slope", "20 problems, 7 alphas", partial(_line, "slope")),
    Scenario("interval of the slope", "40 problems, right or wrong, 7 alphas", _line_of_answers),
    Scenario("interval of the slope, of means", "7 means, independent", _line_of_means),
    Scenario("interval of the intercept", "20 problems, 7 alphas", partial(_line, "intercept")),
    Scenario("limits of the isotonic fit, at one alpha", "40 problems, 7 alphas, rising", partial(_curve, 0.5), share=0.3, why=APPROXIMATE),
    Scenario("limits of the isotonic fit, at one alpha", "40 problems, 7 alphas, flat", partial(_curve, 0.0), share=0.3, why=FLAT),
    Scenario("interval of Spearman's rho", "20 problems, 7 alphas, rising", partial(_rho, 0.2), share=0.3),
    Scenario("interval of Spearman's rho", "20 problems, 7 alphas, hardly rising", partial(_rho, 0.05), share=0.3, why=CLOSE),
    Scenario("interval of Spearman's rho", "20 problems, 7 alphas, flat", partial(_rho, 0.0), share=0.3, why=CLOSE),
    Scenario("interval of Spearman's rho, of means", "7 means, independent", _rho_of_means),
    Scenario("interval of the asymmetry", "20 problems, 7 alphas", _asymmetry),
    # A real effect
    Scenario("trend over alpha", "20 problems, 7 alphas, 0.15 sd a unit", partial(_trend, 0.15), null=False),
    Scenario("trend over alpha, of means", "7 means, independent, 0.5 sd a unit", partial(_trend_of_means, 0.5), null=False),
    Scenario(
        "largest step against the trend", "40 problems, 7 alphas, falls by 0.3 sd a unit above 0", partial(_reversal, 0.2, 0.5), null=False
    ),
]
