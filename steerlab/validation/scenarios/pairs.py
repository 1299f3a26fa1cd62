"""Paired, one-sample, two-sample and equivalence tests."""

from collections.abc import Callable
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from steerlab import statistics as st
from steerlab._checks import Alternative
from steerlab.validation.scenarios._common import Scenario, answers, margins, rejected

MID_P = "mid-p trades the guarantee for a rate near the level; it may lie slightly above"


def _sign(
    rng: np.random.Generator, n: int, change: float, *, mid_p: bool = False, alternative: Alternative = "two-sided"
) -> NDArray[np.float64]:
    return rejected(st.sign_test(*answers(rng, n, 0.3, change), mid_p=mid_p, alternative=alternative).pvalue)


def _pairs(
    test: Callable[..., st.TTest | st.WilcoxonTest],
    n: int,
    shift: float,
    shape: str,
    rng: np.random.Generator,
    *,
    alternative: Alternative = "two-sided",
) -> NDArray[np.float64]:
    return rejected(test(*margins(rng, n, shift, shape), alternative=alternative).pvalue)


def _flips(n: int, shift: float, shape: str, rng: np.random.Generator) -> NDArray[np.float64]:
    return rejected(st.sign_flip_test(*margins(rng, n, shift, shape), rng=rng, n_resamples=999).pvalue)


def _one_sample(n: int, shift: float, rng: np.random.Generator) -> NDArray[np.float64]:
    return rejected(st.one_sample_t_test(rng.normal(1 + shift, 1, n), 1.0).pvalue)


def _welch(shift: float, rng: np.random.Generator) -> NDArray[np.float64]:
    return rejected(st.welch_t_test(rng.normal(0, 1, 20) + shift, rng.normal(0, 3, 10)).pvalue)


def _equivalence(shift: float, rng: np.random.Generator) -> NDArray[np.float64]:
    return rejected(st.equivalence_test(*margins(rng, 40, shift), margin=0.5).pvalue)


def _equivalence_of_answers(n: int, discordant: float, change: float, rng: np.random.Generator) -> NDArray[np.float64]:
    before, after = answers(rng, n, discordant, change)
    return rejected(_exact_equivalence(n, int((~before & after).sum()), int((before & ~after).sum())))


@cache  # the exact test is slow, and depends on these counts only
def _exact_equivalence(n: int, gains: int, losses: int) -> float:
    before, after = np.zeros(n, bool), np.zeros(n, bool)
    after[:gains] = before[gains : gains + losses] = True
    return st.equivalence_test(before, after, margin=0.1).pvalue


SCENARIOS: list[Scenario] = [
    Scenario("sign test", "86 problems, 30% discordant", partial(_sign, n=86, change=0.0)),
    Scenario("sign test", "12 problems, 30% discordant", partial(_sign, n=12, change=0.0)),
    Scenario("sign test, one-sided", "86 problems, 30% discordant", partial(_sign, n=86, change=0.0, alternative="greater")),
    Scenario("sign test, mid-p", "86 problems, 30% discordant", partial(_sign, n=86, change=0.0, mid_p=True), why=MID_P),
    Scenario("paired t", "20 problems, normal", partial(_pairs, st.paired_t_test, 20, 0.0, "normal")),
    Scenario("paired t", "20 problems, heavy tails", partial(_pairs, st.paired_t_test, 20, 0.0, "heavy")),
    Scenario(
        "paired t", "20 problems, skewed", partial(_pairs, st.paired_t_test, 20, 0.0, "skewed"), why="t assumes normal differences, or many"
    ),
    Scenario("signed ranks (Wilcoxon)", "20 problems, heavy tails", partial(_pairs, st.wilcoxon_test, 20, 0.0, "heavy")),
    Scenario(
        "signed ranks (Wilcoxon), one-sided",
        "20 problems, heavy tails",
        partial(_pairs, st.wilcoxon_test, 20, 0.0, "heavy", alternative="less"),
    ),
    Scenario("sign flips", "20 problems, heavy tails", partial(_flips, 20, 0.0, "heavy"), share=0.3),
    Scenario(
        "sign flips",
        "20 problems, skewed",
        partial(_flips, 20, 0.0, "skewed"),
        share=0.3,
        why="a skewed difference is no exchange of before and after",
    ),
    Scenario("one-sample t", "20 values, normal", partial(_one_sample, 20, 0.0)),
    Scenario("Welch's t", "20 and 10 values, sd 1 and 3", partial(_welch, 0.0)),
    Scenario("equivalence, paired t", "40 problems, true change at the margin", partial(_equivalence, 0.5)),
    Scenario("equivalence of answers", "200 problems, true change at the margin", partial(_equivalence_of_answers, 200, 0.2, 0.1)),
    Scenario(
        "equivalence of answers",
        "40 problems, true change at the margin, all changes one way",
        partial(_equivalence_of_answers, 40, 0.1, -0.1),
    ),
    # A real effect
    Scenario("sign test", "86 problems, 30% discordant, +15 points", partial(_sign, n=86, change=0.15), null=False),
    Scenario("sign test, mid-p", "86 problems, 30% discordant, +15 points", partial(_sign, n=86, change=0.15, mid_p=True), null=False),
    Scenario("paired t", "20 problems, normal, 0.7 sd", partial(_pairs, st.paired_t_test, 20, 0.7, "normal"), null=False),
    Scenario("signed ranks (Wilcoxon)", "20 problems, normal, 0.7 sd", partial(_pairs, st.wilcoxon_test, 20, 0.7, "normal"), null=False),
    Scenario("sign flips", "20 problems, normal, 0.7 sd", partial(_flips, 20, 0.7, "normal"), null=False, share=0.3),
    Scenario("one-sample t", "20 values, normal, 0.7 sd", partial(_one_sample, 20, 0.7), null=False),
    Scenario("Welch's t", "20 and 10 values, sd 1 and 3, difference 3", partial(_welch, 3.0), null=False),
    Scenario("equivalence, paired t", "40 problems, no change", partial(_equivalence, 0.0), null=False),
    Scenario(
        "equivalence of answers", "200 problems, 20% discordant, no change", partial(_equivalence_of_answers, 200, 0.2, 0.0), null=False
    ),
]
