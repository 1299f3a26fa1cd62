"""Intervals used as tests: how often do they miss the truth?"""

from collections.abc import Callable
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from steerlab import statistics as st
from steerlab.validation.scenarios._common import LEVELS, Scenario, answers, margins, missed

APPROXIMATE = "an interval for many problems, used with few"
FEW_TEMPLATES = "a percentile bootstrap over few templates is too narrow, and says so"
SCORE = "a score interval's rate swings around the level with n and the share; Clopper and Pearson's never exceeds it"


def _proportion(interval: Callable[..., st.Interval], n: int, share: float, rng: np.random.Generator) -> NDArray[np.float64]:
    right = int((rng.random(n) < share).sum())
    return missed(lambda confidence: interval(right, n, confidence=confidence), share)


def _change(n: int, discordant: float, change: float, rng: np.random.Generator) -> NDArray[np.float64]:
    before, after = answers(rng, n, discordant, change)
    return missed(lambda confidence: st.paired_interval(before, after, confidence=confidence), change)


def _odds(n: int, odds: float, rng: np.random.Generator) -> NDArray[np.float64]:
    before, after = answers(rng, n, 0.3, 0.3 * (odds - 1) / (odds + 1))
    if (before == after).all():  # no odds, no interval
        return np.zeros(len(LEVELS))
    return missed(st.discordant_odds_ratio(before, after).interval, odds)


def _wrong_way(n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Margins that rise by one standard deviation of the change fall for one problem in six."""
    return missed(st.anti_steerable_share(*margins(rng, n, 1.0)).interval, float(norm.cdf(-1)))


def _of_mean(test: Callable[..., object], shape: str, rng: np.random.Generator) -> NDArray[np.float64]:
    return missed(test(*margins(rng, 20, 0.5, shape)).interval, 0.5)  # type: ignore[attr-defined]


def _flips(rng: np.random.Generator) -> NDArray[np.float64]:
    return missed(st.sign_flip_test(*margins(rng, 20, 0.5), rng=rng, n_resamples=99).interval, 0.5)


def _equivalence(rng: np.random.Generator) -> NDArray[np.float64]:
    return missed(st.equivalence_test(*margins(rng, 20, 0.5), margin=1.0).interval, 0.5)


def _templates(n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Problems asked with n templates, whose effects differ by as much as the problems' do."""
    changes = 0.5 + rng.normal(size=(n, 1)) * 0.5 + rng.normal(size=40) * 0.5 + rng.normal(size=(n, 40))
    labels = {"templates": np.repeat(np.arange(n), 40), "groups": np.tile(np.arange(40), n)}
    return missed(st.template_effects(np.zeros(n * 40), changes.ravel(), **labels, rng=rng, n_resamples=499).interval, 0.5)


def _pooled(n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Effects of unlike precision that differ from each other."""
    errors = rng.uniform(0.2, 1.0, n)
    effects = 0.5 + rng.normal(size=n) * 0.5 + rng.normal(size=n) * errors
    return missed(lambda confidence: st.pooled_effect(effects, errors, confidence=confidence).interval, 0.5)


def _welch(rng: np.random.Generator) -> NDArray[np.float64]:
    return missed(st.welch_t_test(rng.normal(1, 1, 20), rng.normal(0, 3, 10)).interval, 1.0)


def _effect(n: int, d: float, rng: np.random.Generator, *, corrected: bool = True) -> NDArray[np.float64]:
    return missed(st.effect_size(rng.normal(d, 1, n), corrected=corrected).interval, d)


def _paired_effect(n: int, d: float, rng: np.random.Generator) -> NDArray[np.float64]:
    return missed(st.paired_effect_size(*margins(rng, n, d)).interval, d)


def _bootstrap(clusters: int, each: int, method: str, rng: np.random.Generator, *, ignored: bool = False) -> NDArray[np.float64]:
    values = np.repeat(rng.normal(size=clusters), each) + rng.normal(size=clusters * each)
    labels = None if ignored or each == 1 else np.repeat(np.arange(clusters), each)
    found = st.bootstrap(values, rng=rng, groups=labels, n_resamples=499)
    return missed(lambda confidence: found.interval(confidence, method=method), 0.0)  # type: ignore[arg-type]


def _auc(n: int, distance: float, rng: np.random.Generator) -> NDArray[np.float64]:
    return missed(st.auc(rng.normal(distance, 1, n), rng.normal(size=n)).interval, float(norm.cdf(distance / 2**0.5)))


def _held_out(n: int, dimensions: int, distance: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Two Gaussian groups of n whose means are so many standard deviations apart."""
    values = rng.normal(size=(2, n, dimensions))
    values[0, :, 0] += distance
    return missed(st.cross_validated_auc(*values, rng=rng).interval, _expected(n * 4 // 5, dimensions, distance))


@cache
def _expected(n: int, dimensions: int, distance: float) -> float:
    """The AUC to expect of a mean difference of two groups of n: the direction is the true one plus noise of its own."""
    rng, noise = np.random.default_rng(0), (2 / n) ** 0.5
    along = distance + noise * rng.normal(size=200_000)
    across = noise**2 * rng.chisquare(dimensions - 1, 200_000)
    return float(norm.cdf(distance * along / np.sqrt(along**2 + across) / 2**0.5).mean())


SCENARIOS: list[Scenario] = [
    Scenario("Wilson's interval", "86 answers, 60% right", partial(_proportion, st.wilson_interval, 86, 0.6), why=SCORE),
    Scenario("Wilson's interval", "20 answers, 95% right", partial(_proportion, st.wilson_interval, 20, 0.95), why=SCORE),
    Scenario(
        "Clopper and Pearson's interval", "86 answers, 60% right", partial(_proportion, st.clopper_pearson_interval, 86, 0.6), share=0.3
    ),
    Scenario(
        "Clopper and Pearson's interval", "20 answers, 95% right", partial(_proportion, st.clopper_pearson_interval, 20, 0.95), share=0.3
    ),
    Scenario("Newcombe's paired interval", "86 problems, 30% discordant, +15 points", partial(_change, 86, 0.3, 0.15), why=SCORE),
    Scenario("Newcombe's paired interval", "20 problems, 10% discordant, no change", partial(_change, 20, 0.1, 0.0), why=SCORE),
    Scenario("interval of the discordant odds ratio", "86 problems, 30% discordant, odds 3", partial(_odds, 86, 3.0), share=0.3),
    Scenario("interval of the share moved the wrong way", "86 margins, +1 sd", partial(_wrong_way, 86), why=SCORE),
    Scenario("paired t interval", "20 problems, normal", partial(_of_mean, st.paired_t_test, "normal")),
    Scenario("interval of the signed ranks (Hodges-Lehmann)", "20 problems, heavy tails", partial(_of_mean, st.wilcoxon_test, "heavy")),
    Scenario("interval of the sign flips", "20 problems, normal", _flips),
    Scenario(
        "two-way bootstrap over templates and problems", "20 templates x 40 problems", partial(_templates, 20), why=FEW_TEMPLATES, share=0.1
    ),
    Scenario(
        "two-way bootstrap over templates and problems", "4 templates x 40 problems", partial(_templates, 4), why=FEW_TEMPLATES, share=0.1
    ),
    Scenario("interval of pooled effects (Hartung-Knapp)", "10 effects, tau as large as their errors", partial(_pooled, 10), share=0.3),
    Scenario("interval of the equivalence test", "20 problems, normal", _equivalence),
    Scenario("Welch's interval", "20 and 10 values, sd 1 and 3", _welch),
    Scenario("interval of Cohen's d", "10 values, d = 1", partial(_effect, 10, 1.0, corrected=False), share=0.2),
    Scenario("interval of Hedges' g", "10 values, d = 1", partial(_effect, 10, 1.0), share=0.2),
    Scenario("interval of Hedges' g, paired", "20 problems, normal, d = 0.5", partial(_paired_effect, 20, 0.5), share=0.2),
    Scenario("bootstrap, BCa", "40 problems", partial(_bootstrap, 40, 1, "BCa"), share=0.2, why=APPROXIMATE),
    Scenario("bootstrap, percentile", "40 problems", partial(_bootstrap, 40, 1, "percentile"), share=0.2, why=APPROXIMATE),
    Scenario("clustered bootstrap, BCa", "25 templates of 4 problems", partial(_bootstrap, 25, 4, "BCa"), share=0.2, why=APPROXIMATE),
    Scenario(
        "clustered bootstrap, percentile",
        "25 templates of 4 problems",
        partial(_bootstrap, 25, 4, "percentile"),
        share=0.2,
        why=APPROXIMATE,
    ),
    Scenario(
        "bootstrap that ignores the templates",
        "25 templates of 4 problems",
        partial(_bootstrap, 25, 4, "percentile", ignored=True),
        share=0.1,
        why="problems of one template are not independent; draw templates",
    ),
    Scenario("AUC interval", "30 against 30, AUC 0.5", partial(_auc, 30, 0.0), why=APPROXIMATE),
    Scenario("AUC interval", "30 against 30, AUC 0.92", partial(_auc, 30, 2.0), why=APPROXIMATE),
    Scenario("cross-validated AUC interval", "40 against 40 in 50 dimensions, no difference", partial(_held_out, 40, 50, 0.0), share=0.5),
    Scenario("cross-validated AUC interval", "40 against 40 in 50 dimensions, 2 sd apart", partial(_held_out, 40, 50, 2.0), share=0.5),
]
