"""Problems in groups (a template, a lexical pair, a source): the error of a mean change by group, and what the groups cost."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from steerlab._checks import RELATIVE_NOISE, check_pairs, common_scale, group_numbers, reals
from steerlab._html import OneLine


def standard_error(values: NDArray[np.float64], numbers: NDArray[np.intp] | None, noise: float) -> float:
    """Standard error of the mean of values: sd / sqrt(n), or cluster-robust (CR1), which is the same where every value is a group.

    Args:
        values: one a problem, at least 2.
        numbers: each problem's group, 0 to G - 1; None where problems are independent.
        noise: differences up to this size are rounding; values, or groups, that differ by no more have an error of 0.
    """
    if numbers is None:
        return float(values.std(ddof=1)) / math.sqrt(values.size) if np.ptp(values) > noise else 0.0
    sums = np.bincount(numbers, weights=values - values.mean())
    return math.sqrt(sums.size / (sums.size - 1) * float(sums @ sums)) / values.size if np.abs(sums).max() > noise else 0.0


@dataclass(frozen=True)
class DesignEffect(OneLine, title="Design effect", shown="value n n_groups effective_n"):
    """How many times as large groups make the variance of a mean change.

    Attributes:
        value: variance of the mean change by group over its variance if all problems were independent; 1 where the groups do
            not matter, NaN where no change varies.
        n: problems.
        n_groups: groups.
    """

    value: float
    n: int
    n_groups: int

    @property
    def effective_n(self) -> float:
        """How many independent problems tell as much: n / value; infinite where all groups have the same change."""
        return self.n / self.value if self.value else math.inf

    def __str__(self) -> str:
        if math.isnan(self.value):
            return f"design effect unknown, for no change varies: {self.n} problems in {self.n_groups} groups"
        return (
            f"design effect {self.value:.3g}: {self.n} problems in {self.n_groups} groups count as {self.effective_n:.3g} independent ones"
        )


def design_effect(before: ArrayLike, after: ArrayLike, groups: ArrayLike) -> DesignEffect:
    """How many times as large groups make the variance of the mean change after - before.

    Args:
        before: one value per problem without the intervention: outcomes or real numbers.
        after: the same problems, in the same order, with it.
        groups: one label a problem.

    Returns:
        The design effect. It is an estimate, and a rough one where groups are few; below 1 where changes within groups oppose each other.

    Raises:
        ValueError: unequal lengths, fewer than 2 pairs or groups, labels of another length or missing, NaN or infinite values, or
            two Series whose labels are in different orders.

    Source:
        Kish (1965), Survey Sampling, section 8.2; by group as in Liang and Zeger (1986), Biometrika 73, with the factor
        G / (G - 1) for G groups.

    Example:
        >>> print(design_effect([0, 0, 0, 0, 0, 0], [1, 1, 0, 0, 1, 1], groups=list("aabbcc")))
        design effect 2.5: 6 problems in 3 groups count as 2.4 independent ones
    """
    check_pairs(before, after)
    was, now = reals(before, "before", at_least=2), reals(after, "after", at_least=2)
    numbers, differences = group_numbers(groups, was.size), now - was
    noise = RELATIVE_NOISE * common_scale(was, now)
    by_group, independent = (standard_error(differences, which, noise) for which in (numbers, None))
    return DesignEffect((by_group / independent) ** 2 if independent else math.nan, was.size, int(numbers.max()) + 1)
