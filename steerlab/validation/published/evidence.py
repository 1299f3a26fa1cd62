"""Recipes for p-values and effect sizes, by the tests of `steerlab.statistics`."""

import math
from typing import cast

import numpy as np

from steerlab._checks import Alternative, InputError
from steerlab.statistics.controls import cohens_d, one_sample_t_test, rank_test
from steerlab.statistics.paired import sign_test
from steerlab.validation.published.answers import Answer
from steerlab.validation.published.numbers import Range
from steerlab.validation.published.recipes import count_of, one, problems, shown, whole_number
from steerlab.validation.published.tables import Cell, Cells


def paired_p(became_right: int, became_wrong: int) -> float:
    """The p-value of the exact two-sided sign test from the two counts that it looks at."""
    if became_right + became_wrong == 0:
        return 1.0
    before = np.repeat([0, 1], [became_right, became_wrong])
    return sign_test(before, 1 - before).pvalue


def sign_test_p(became_right: Cells, became_wrong: Cells) -> Answer:
    """The p-value of the exact sign test from printed transitions."""
    right, wrong = whole_number(became_right, "became_right"), whole_number(became_wrong, "became_wrong")
    p = paired_p(right, wrong)
    return Answer((Range.point(p),), f"exact sign test: {right} became right, {wrong} became wrong, p = {p:.3g}")


def sign_test_p_from_accuracies(after: Cells, before: Cells, n: Cells) -> Answer:
    """All p-values of the exact sign test that two accuracies allow: over every number of problems that became right or wrong."""
    size = count_of(n)
    now, was = _count(one(after, "after"), size), _count(one(before, "before"), size)
    # Of the problems that became right, at least now - was, and at most all that were wrong before or are right now.
    gains = range(max(now - was, 0), min(now, size - was) + 1)
    by_gain = {gain: paired_p(gain, gain + was - now) for gain in gains}
    least, most = min(by_gain.values()), max(by_gain.values())
    said = (
        f"exact sign test: {was} of {size} right before, {now} after; which problems changed is not printed, "
        f"and {gains[0]} to {gains[-1]} may have become right: p = {Range(least, most)}"
    )
    return Answer((Range(least, most),), said, determined=len(gains) == 1)


def even_chance_p(of: Cells, n: Cells) -> Answer:
    """The two-sided p-value of the exact binomial test of a share of n problems against one half."""
    size = count_of(n)
    right = _count(one(of, "of"), size)
    # The sign test is the binomial test against one half, of right answers among all as of gains among changes.
    p = paired_p(right, size - right)
    return Answer((Range.point(p),), f"exact binomial test: {right} of {size} against one half, p = {p:.3g}")


def controls_p_rank(observed: Cells, controls: Cells, alternative: str, n: Cells | None = None) -> Answer:
    """The rank p-value of an effect against controls; "less" asks whether it lies below them."""
    value, draws, said = _against(observed, controls, n)
    result = rank_test(value, draws, alternative=cast(Alternative, alternative))
    said += f": {result.exceeds} of {result.n_controls} controls at least as extreme, p = {result.rank}/{result.n_controls + 1}"
    return Answer((Range.point(result.pvalue),), f"{said}; {result.n_controls} controls can never give less than {result.smallest_p:.3f}")


def controls_p_t(observed: Cells, controls: Cells, n: Cells | None = None) -> Answer:
    """The p-value of the one-sample t-test of controls against an observed effect, two-sided or one-sided in its favour."""
    value, draws, said = _against(observed, controls, n)
    result = one_sample_t_test(draws, value)
    one_sided = min(one_sample_t_test(draws, value, alternative=side).pvalue for side in ("greater", "less"))
    said += f": t({result.df}) = {abs(result.statistic):.2f}, p = {result.pvalue:.3f} two-sided, {one_sided:.3f} one-sided"
    return Answer((Range.point(one_sided), Range.point(result.pvalue)), said)


def controls_d(observed: Cells, controls: Cells, n: Cells | None = None) -> Answer:
    """The size of Cohen's d of an effect against controls, with n - 1 or with n in their standard deviation."""
    value, draws, said = _against(observed, controls, n)
    sample = abs(cohens_d(value, draws))
    population = sample * math.sqrt(draws.size / (draws.size - 1))
    said += f": d = {sample:.2f} with n - 1 in the sd, {population:.2f} with n"
    return Answer((Range.point(sample), Range.point(population)), said)


EVIDENCE = (sign_test_p, sign_test_p_from_accuracies, even_chance_p, controls_p_rank, controls_p_t, controls_d)


def _against(observed: Cells, controls: Cells, n: Cells | None) -> "tuple[float, np.ndarray, str]":
    size = problems(n)
    value = _value(one(observed, "observed"), size)
    draws = np.array([_value(cell, size) for cell in controls])
    return value, draws, f"{shown(observed, size)} against {shown(controls, size)}"


def _value(cell: Cell, n: int | None) -> float:
    if n is not None:
        return float(_count(cell, n))
    if cell.value.range.low != cell.value.range.high:
        raise InputError(f"{cell}: rounded; name n, so that the count behind it can be found")
    return float(cell.value.range.low)


def _count(cell: Cell, n: int) -> int:
    counts = cell.value.counts(n)
    if counts.low != counts.high:
        raise InputError(f"{cell}: {counts} of {n} problems are printed so; this recipe needs a number that says which")
    return int(counts.low)
