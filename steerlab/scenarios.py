"""What the tests are calibrated on: true nulls, among them those that break a test's assumptions, and real effects."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from steerlab import statistics as st

LEVELS = (0.05, 0.01)
Draw = Callable[[np.random.Generator], NDArray[np.float64]]


@dataclass(frozen=True)
class Scenario:
    """A procedure in a setting.

    Attributes:
        procedure: what is calibrated.
        setting: the data, in words.
        draw: draws data once; gives for each level whether (or what share of) null hypotheses were rejected.
        null: whether the null is true, so that a rejection is a false alarm; else the rate is power.
        why: why the rate of false alarms may exceed the level, where it may.
        share: of the simulations, where one takes long.
    """

    procedure: str
    setting: str
    draw: Draw
    null: bool = True
    why: str = ""
    share: float = 1.0


def rejected(p: float) -> NDArray[np.float64]:
    """One p-value against every level."""
    return np.array([p <= level + 1e-12 for level in LEVELS], float)


def missed(interval_at: Callable[[float], st.Interval], truth: float) -> NDArray[np.float64]:
    """An interval used as a test: does the one of confidence 1 - level miss the truth?"""
    intervals = [interval_at(1 - level) for level in LEVELS]
    return np.array([not interval.low <= truth <= interval.high for interval in intervals], float)


def answers(rng: np.random.Generator, n: int, discordant: float, change: float = 0.0) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Paired outcomes in which a share is discordant and accuracy changes by so much."""
    changed, won = rng.random(n) < discordant, rng.random(n) < 0.5 + change / (2 * discordant)
    before = np.where(changed, ~won, rng.random(n) < 0.5)
    return before, np.where(changed, won, before)


def margins(rng: np.random.Generator, n: int, shift: float = 0.0, shape: str = "normal") -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Paired margins whose differences have mean `shift` and are normal, heavy-tailed or skewed."""
    noise = {"normal": rng.normal(size=n), "heavy": rng.standard_t(3, n), "skewed": rng.exponential(size=n) - 1}[shape]
    before = rng.normal(size=n)
    return before, before + shift + noise


def grid(rng: np.random.Generator, n: int, cells: int, change: float = 0.0) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Outcomes before, and after in the cells of a grid whose neighbours move alike; the last cell may change accuracy."""
    common, before = rng.random(n), rng.random(n) < 0.5
    moves = (rng.random((n, cells)) < 0.5) & (common < 0.3)[:, None]  # the same fragile problems in every cell
    after = np.where(moves, rng.random((n, cells)) < 0.5, before[:, None])
    if change:
        after[:, -1] = answers_after(rng, before, change)
    return before, after


def answers_after(rng: np.random.Generator, before: NDArray[np.bool_], change: float) -> NDArray[np.bool_]:
    """Outcomes in which wrong answers became right, and few right ones wrong, so that accuracy rises by about `change`."""
    gained, lost = rng.random(before.size) < 2 * (change + 0.05), rng.random(before.size) < 0.1
    return np.where(before, ~lost, gained)


def effects(rng: np.random.Generator, k: int, shift: float = 0.0, shape: str = "normal") -> tuple[float, NDArray[np.float64]]:
    """The effect of a direction, and of k controls from the same distribution, moved by `shift` standard deviations."""
    drawn = {"normal": rng.normal(size=k + 1), "skewed": rng.exponential(size=k + 1), "heavy": rng.standard_t(3, k + 1)}[shape]
    return float(drawn[0] + shift), drawn[1:]


def _sign(rng: np.random.Generator, n: int, change: float, *, mid_p: bool = False) -> NDArray[np.float64]:
    return rejected(st.sign_test(*answers(rng, n, 0.3, change), mid_p=mid_p).p_value)


def _pairs(
    test: Callable[..., st.TTest | st.WilcoxonTest], n: int, shift: float, shape: str, rng: np.random.Generator
) -> NDArray[np.float64]:
    return rejected(test(*margins(rng, n, shift, shape)).p_value)


def _flips(n: int, shift: float, shape: str, rng: np.random.Generator) -> NDArray[np.float64]:
    return rejected(st.sign_flip_test(*margins(rng, n, shift, shape), rng=rng, n_resamples=999).p_value)


def _welch(shift: float, rng: np.random.Generator) -> NDArray[np.float64]:
    return rejected(st.welch_t_test(rng.normal(0, 1, 20) + shift, rng.normal(0, 3, 10)).p_value)


def _rank(k: int, shift: float, shape: str, rng: np.random.Generator) -> NDArray[np.float64]:
    return rejected(st.rank_test(*effects(rng, k, shift, shape)).p_value)


def _prediction(k: int, shift: float, shape: str, rng: np.random.Generator) -> NDArray[np.float64]:
    return rejected(st.prediction_test(*effects(rng, k, shift, shape)).p_value)


def _recipe(k: int, shift: float, rng: np.random.Generator) -> NDArray[np.float64]:
    observed, controls = effects(rng, k, shift)
    return rejected(st.one_sample_t_test(controls, observed).p_value)


def _bootstrap(clusters: int, each: int, method: str, rng: np.random.Generator, *, ignored: bool = False) -> NDArray[np.float64]:
    values = np.repeat(rng.normal(size=clusters), each) + rng.normal(size=clusters * each)
    labels = None if ignored or each == 1 else np.repeat(np.arange(clusters), each)
    found = st.bootstrap(values, rng=rng, clusters=labels, n_resamples=499)
    return missed(lambda confidence: found.interval(confidence, method=method), 0.0)  # type: ignore[arg-type]


def _many(adjust: Callable[..., NDArray[np.float64]], dependence: float, effects_: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Twenty tests, some with a real effect; Holm: any false rejection, Benjamini-Hochberg: their share among all rejections."""
    z = dependence**0.5 * rng.normal() + (1 - dependence) ** 0.5 * rng.normal(size=20)
    z[:effects_] += 3
    adjusted = adjust(norm.sf(z))
    return np.array([_false(adjusted <= level, effects_, family=adjust is st.holm) for level in LEVELS])


def _false(rejections: NDArray[np.bool_], effects_: int, *, family: bool) -> float:
    wrong, made = int(rejections[effects_:].sum()), int(rejections.sum())
    return float(wrong > 0) if family else wrong / max(1, made)


def _best_cell(change: float, rng: np.random.Generator) -> NDArray[np.float64]:
    before, after = grid(rng, 86, 156, change)
    return rejected(st.max_statistic_test(before, after, rng=rng, n_resamples=499).p_value)


def _best_cell_uncorrected(rng: np.random.Generator) -> NDArray[np.float64]:
    before, after = grid(rng, 86, 156)
    best = after[:, int(np.abs(after.mean(0) - before.mean()).argmax())]
    return rejected(st.sign_test(before, best).p_value)


def _equivalence(shift: float, rng: np.random.Generator) -> NDArray[np.float64]:
    return rejected(st.equivalence_test(*margins(rng, 40, shift), margin=0.5).p_value)


def _equivalence_of_answers(change: float, rng: np.random.Generator) -> NDArray[np.float64]:
    return rejected(st.equivalence_test(*answers(rng, 200, 0.2, change), margin=0.1).p_value)


def _trend(slope: float, rng: np.random.Generator) -> NDArray[np.float64]:
    alphas = np.linspace(-3, 3, 7)
    values = rng.normal(size=(20, 1)) + slope * alphas + rng.normal(size=(20, 7))
    return rejected(st.trend_test(alphas, values, rng=rng, n_resamples=499).p_value)


MID_P = "mid-p trades the guarantee for a rate near the level; it may lie slightly above"
APPROXIMATE = "an interval for many problems, used with few"
RECIPE = (
    "the sources' recipe asks whether the mean of five controls equals the direction's effect, which it takes as known; "
    "one more random direction would be called special this often"
)

SCENARIOS: list[Scenario] = [
    Scenario("sign test", "86 problems, 30% discordant", partial(_sign, n=86, change=0.0)),
    Scenario("sign test", "12 problems, 30% discordant", partial(_sign, n=12, change=0.0)),
    Scenario("sign test, mid-p", "86 problems, 30% discordant", partial(_sign, n=86, change=0.0, mid_p=True), why=MID_P),
    Scenario("paired t", "20 problems, normal", partial(_pairs, st.paired_t_test, 20, 0.0, "normal")),
    Scenario("paired t", "20 problems, heavy tails", partial(_pairs, st.paired_t_test, 20, 0.0, "heavy")),
    Scenario(
        "paired t", "20 problems, skewed", partial(_pairs, st.paired_t_test, 20, 0.0, "skewed"), why="t assumes normal differences, or many"
    ),
    Scenario("signed ranks (Wilcoxon)", "20 problems, heavy tails", partial(_pairs, st.wilcoxon_test, 20, 0.0, "heavy")),
    Scenario("sign flips", "20 problems, heavy tails", partial(_flips, 20, 0.0, "heavy"), share=0.3),
    Scenario(
        "sign flips",
        "20 problems, skewed",
        partial(_flips, 20, 0.0, "skewed"),
        share=0.3,
        why="a skewed difference is no exchange of before and after",
    ),
    Scenario("Welch's t", "20 and 10 values, sd 1 and 3", partial(_welch, 0.0)),
    Scenario("rank test", "99 controls, normal", partial(_rank, 99, 0.0, "normal")),
    Scenario("rank test", "99 controls, skewed", partial(_rank, 99, 0.0, "skewed")),
    Scenario("rank test", "19 controls, heavy tails", partial(_rank, 19, 0.0, "heavy")),
    Scenario("prediction t", "5 controls, normal", partial(_prediction, 5, 0.0, "normal")),
    Scenario(
        "prediction t",
        "99 controls, heavy tails",
        partial(_prediction, 99, 0.0, "heavy"),
        why="it assumes normal effects; use the rank test",
    ),
    Scenario("one-sample t on controls (the sources' recipe)", "5 controls, normal", partial(_recipe, 5, 0.0), why=RECIPE),
    Scenario("one-sample t on controls (the sources' recipe)", "99 controls, normal", partial(_recipe, 99, 0.0), why=RECIPE),
    Scenario("bootstrap, BCa", "40 problems", partial(_bootstrap, 40, 1, "BCa"), share=0.1, why=APPROXIMATE),
    Scenario("bootstrap, percentile", "40 problems", partial(_bootstrap, 40, 1, "percentile"), share=0.1, why=APPROXIMATE),
    Scenario(
        "clustered bootstrap, percentile",
        "25 templates of 4 problems",
        partial(_bootstrap, 25, 4, "percentile"),
        share=0.1,
        why=APPROXIMATE,
    ),
    Scenario(
        "bootstrap that ignores the templates",
        "25 templates of 4 problems",
        partial(_bootstrap, 25, 4, "percentile", ignored=True),
        share=0.1,
        why="problems of one template are not independent; draw templates",
    ),
    Scenario("Holm, any of 20 tests", "all null, independent", partial(_many, st.holm, 0.0, 0)),
    Scenario("Holm, any of 20 tests", "10 real effects, correlation 0.5", partial(_many, st.holm, 0.5, 10)),
    Scenario("Benjamini-Hochberg, share of false discoveries", "all null, independent", partial(_many, st.benjamini_hochberg, 0.0, 0)),
    Scenario(
        "Benjamini-Hochberg, share of false discoveries", "10 real effects, correlation 0.5", partial(_many, st.benjamini_hochberg, 0.5, 10)
    ),
    Scenario("max statistic, best of a grid", "156 cells, 86 problems", partial(_best_cell, 0.0), share=0.1),
    Scenario(
        "sign test of the best of a grid, uncorrected",
        "156 cells, 86 problems",
        _best_cell_uncorrected,
        why="the best of 156 looks is not one look",
        share=0.3,
    ),
    Scenario("equivalence, paired t", "40 problems, true change at the margin", partial(_equivalence, 0.5)),
    Scenario("equivalence of answers", "200 problems, true change at the margin", partial(_equivalence_of_answers, 0.1), share=0.3),
    Scenario("trend over alpha", "20 problems, 7 alphas", partial(_trend, 0.0), share=0.1),
    # What a real effect looks like
    Scenario("sign test", "86 problems, 30% discordant, +15 points", partial(_sign, n=86, change=0.15), null=False),
    Scenario("sign test, mid-p", "86 problems, 30% discordant, +15 points", partial(_sign, n=86, change=0.15, mid_p=True), null=False),
    Scenario("paired t", "20 problems, normal, 0.7 sd", partial(_pairs, st.paired_t_test, 20, 0.7, "normal"), null=False),
    Scenario("signed ranks (Wilcoxon)", "20 problems, normal, 0.7 sd", partial(_pairs, st.wilcoxon_test, 20, 0.7, "normal"), null=False),
    Scenario("sign flips", "20 problems, normal, 0.7 sd", partial(_flips, 20, 0.7, "normal"), null=False, share=0.3),
    Scenario("Welch's t", "20 and 10 values, sd 1 and 3, difference 3", partial(_welch, 3.0), null=False),
    Scenario("rank test", "99 controls, 3 sd away", partial(_rank, 99, 3.0, "normal"), null=False),
    Scenario("rank test", "5 controls, 3 sd away", partial(_rank, 5, 3.0, "normal"), null=False),
    Scenario("prediction t", "99 controls, 3 sd away", partial(_prediction, 99, 3.0, "normal"), null=False),
    Scenario("prediction t", "5 controls, 3 sd away", partial(_prediction, 5, 3.0, "normal"), null=False),
    Scenario("max statistic, best of a grid", "156 cells, 86 problems, one +20 points", partial(_best_cell, 0.2), null=False, share=0.1),
    Scenario("equivalence, paired t", "40 problems, no change", partial(_equivalence, 0.0), null=False),
    Scenario(
        "equivalence of answers", "200 problems, 20% discordant, no change", partial(_equivalence_of_answers, 0.0), null=False, share=0.3
    ),
    Scenario("trend over alpha", "20 problems, 7 alphas, 0.15 sd a unit", partial(_trend, 0.15), null=False, share=0.1),
]
