"""Power: what the sign test and the paired t-test could have seen, and how many controls and problems a plan needs."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats
from scipy.optimize import brentq

from steerlab._checks import (
    RELATIVE_NOISE,
    Alternative,
    InputError,
    are_outcomes,
    check_alternative,
    check_pairs,
    common_scale,
    count,
    finite,
    group_numbers,
    open_share,
    reals,
)
from steerlab._html import OneLine
from steerlab.statistics.groups import standard_error


def power_of_sign_test(n: int, *, change: float, discordant: float, level: float = 0.05, alternative: Alternative = "two-sided") -> float:
    """Power of the exact sign test (McNemar exact) on n problems, computed exactly.

    The number of changed problems is binomial (n, discordant), and given m of them the number that became right is
    binomial (m, 1/2 + change / (2 discordant)).

    Args:
        n: number of paired problems.
        change: true change in accuracy, a proportion; below 0 for a loss. At 0 the result is the test's true level.
        discordant: expected share of problems whose outcome changes, in (0, 1], at least the size of the change.
        level: the level of the test.
        alternative: "greater" means that after is better.

    Returns:
        The power, from 0 to 1.

    Raises:
        ValueError: n < 1, discordant outside (0, 1], a change beyond it, a level outside (0, 1), or an unknown alternative.

    Source:
        Direct summation; the setting is that of Connett, Smith and McHugh (1987), Statistics in Medicine 6.

    Example:
        >>> round(power_of_sign_test(86, change=0.137, discordant=0.2), 3)
        0.8
    """
    check_alternative(alternative)
    n, level = count(n, "n", at_least=1), open_share(level, "level")
    discordant = check_discordant(discordant)
    wins = win_share(change, discordant)
    changed = np.arange(n + 1)
    chance = float(stats.binom.pmf(changed, n, discordant) @ detected(changed, wins, level, alternative))
    return min(chance, 1.0)


def power_of_t_test(n: int, *, effect: float, level: float = 0.05, alternative: Alternative = "two-sided") -> float:
    """Power of a paired (or one-sample) t-test of n differences, by the noncentral t distribution.

    Args:
        n: number of pairs, at least 2.
        effect: true mean difference over the standard deviation of the differences (Cohen's d_z), with its sign.
        level: the level of the test.
        alternative: "greater" means that after is larger.

    Returns:
        The power, from 0 to 1, for differences that are normal.

    Raises:
        ValueError: n < 2, an effect that is not finite, a level outside (0, 1), or an unknown alternative.

    Source:
        Cohen (1988), Statistical Power Analysis for the Behavioral Sciences; computed by SciPy.

    Example:
        >>> round(power_of_t_test(34, effect=0.5), 4)
        0.8078
    """
    check_alternative(alternative)
    n, level = count(n, "n", at_least=2), open_share(level, "level")
    shift = finite(effect, "effect") * n**0.5
    tail = level / 2 if alternative == "two-sided" else level
    critical = float(stats.t.isf(tail, n - 1))
    # Far below the critical value SciPy's upper tail is precise where its lower one is not, so both sides are upper tails.
    above = float(stats.nct.sf(critical, n - 1, shift)) if alternative != "less" else 0.0
    below = float(stats.nct.sf(critical, n - 1, -shift)) if alternative != "greater" else 0.0
    return min(above + below, 1.0)


def power_curve(
    *,
    n: int | Sequence[int],
    change: float | Sequence[float],
    discordant: float | Sequence[float],
    level: float = 0.05,
    alternative: Alternative = "two-sided",
) -> pd.DataFrame:
    """Exact power of the sign test over every combination of the values given.

    Args:
        n: one or several numbers of problems.
        change: one or several true changes in accuracy.
        discordant: one or several expected shares of changed problems; none below the size of any change.
        level: the level of the test.
        alternative: "greater" means that after is better.

    Returns:
        One line a combination: n, change, discordant, level, alternative, power. Along n the power moves in a sawtooth,
        because p takes only few values.

    Raises:
        ValueError: nothing to combine, or bad values as in `power_of_sign_test`.

    Example:
        >>> print(power_curve(n=[50, 100, 200], change=0.1, discordant=0.2).round(3)[["n", "change", "power"]].to_string(index=False))
          n  change  power
         50     0.1  0.241
        100     0.1  0.544
        200     0.1  0.875
    """
    axes = {name: np.atleast_1d(np.asarray(axis)) for name, axis in (("n", n), ("change", change), ("discordant", discordant))}
    for name, axis in axes.items():
        if axis.ndim != 1 or axis.size < 1:
            raise InputError(f"{name}: shape {axis.shape}; give one value, or several in one dimension")
    lines = [
        {
            "n": problems,
            "change": moved,
            "discordant": share,
            "level": float(level),
            "alternative": alternative,
            "power": power_of_sign_test(problems, change=moved, discordant=share, level=level, alternative=alternative),
        }
        for problems, moved, share in product(*(axis.tolist() for axis in axes.values()))
    ]
    return pd.DataFrame(lines)


def smallest_detectable_change(n: int, *, discordant: float, level: float = 0.05, power: float = 0.8) -> float | None:
    """Smallest change in accuracy that the exact two-sided sign test detects with the given power.

    Computed exactly, as in `power_of_sign_test`. Detected means p <= level.

    Args:
        n: number of paired problems.
        discordant: expected share of problems whose outcome changes, in (0, 1].
        level: the level of the test.
        power: the wanted chance of detection; above level.

    Returns:
        The change as a proportion of n, in (0, discordant], the same for gains and losses; None when even the largest
        possible change, all of the changed problems in one direction, is detected with less power.

    Raises:
        ValueError: n < 1, discordant outside (0, 1], level or power outside (0, 1), or power <= level.

    Source:
        Direct summation; the setting is that of Connett, Smith and McHugh (1987), Statistics in Medicine 6.

    Example:
        >>> round(smallest_detectable_change(86, discordant=0.2), 3)
        0.137
        >>> print(smallest_detectable_change(20, discordant=0.2))
        None
    """
    n = count(n, "n", at_least=1)
    discordant = check_discordant(discordant)
    level, power = open_share(level, "level"), check_power(power, level)
    changed = np.arange(n + 1)
    weights = stats.binom.pmf(changed, n, discordant)
    critical = _critical(changed, level / 2)

    def shortfall(change: float) -> float:
        wins = win_share(change, discordant)
        few = stats.binom.cdf(critical, changed, wins) + stats.binom.cdf(critical, changed, 1 - wins)
        return float(weights @ few) - power

    if shortfall(discordant) < 0:
        return None
    return float(brentq(shortfall, 0.0, discordant, xtol=1e-12))


EXACT = 5_000  # problems for which a power is computed exactly in half a second


def detectable_change(
    before: ArrayLike, after: ArrayLike, *, groups: ArrayLike | None = None, level: float = 0.05, power: float = 0.8
) -> float | None:
    """Smallest mean change, in the direction named beforehand, that a one-sided sign-flip test detects with the given power.

    Of up to 5,000 answers without groups, computed exactly (the sign test), with the share of changed answers that was seen, or that the change
    itself needs. Else the spread is that of the changes seen, by group, and the test statistic is taken as Student's t, which is near what
    a sign-flip test does where many problems (or groups) change.

    Args:
        before, after: the same problems, in the same order: right or wrong, or real values.
        groups: one label a problem; problems of one group are not independent.
        level: of the one-sided test, corrected where there are several.
        power: the wanted chance of detection; above level.

    Returns:
        The change, above 0; None where nothing changed, which tells nothing of how large an effect could be missed, or where the problems
        are too few for any.

    Raises:
        ValueError: unequal lengths, fewer than 2 pairs or groups, NaN or infinite values, labels of another length or missing, or a level or
            power outside (0, 1).

    Source:
        As `power_of_sign_test`, or Cohen (1988), Statistical Power Analysis for the Behavioral Sciences, solved for the effect.

    Example:
        >>> round(detectable_change([0] * 86, [1] * 15 + [0] * 71), 3)
        0.116
        >>> print(detectable_change([0, 1, 1], [0, 1, 1]))
        None
    """
    check_pairs(before, after)
    was, now = reals(before, "before", at_least=2), reals(after, "after", at_least=2)
    level, power = open_share(level, "level"), check_power(power, level)
    numbers = None if groups is None else group_numbers(groups, was.size)
    n_groups = was.size if numbers is None else int(numbers.max()) + 1
    seen = float((was != now).mean())
    if seen and n_groups == was.size <= EXACT and are_outcomes(before, after):

        def shortfall(change: float) -> float:
            return power_of_sign_test(was.size, change=change, discordant=max(seen, change), level=level, alternative="greater") - power

        return float(brentq(shortfall, 0.0, 1.0, xtol=1e-9)) if shortfall(1.0) > 0 else None
    if 0.5**n_groups > level:  # even if all of them changed alike
        return None
    error = standard_error(now - was, numbers, RELATIVE_NOISE * common_scale(was, now))
    df = n_groups - 1
    return float(stats.t.isf(level, df) + stats.t.ppf(power, df)) * error or None


def check_discordant(discordant: float) -> float:
    """An expected share of changed problems."""
    share = finite(discordant, "discordant")
    if not 0 < share <= 1:
        raise InputError(f"discordant={share}: use the expected share of changed problems, above 0 and at most 1")
    return share


def check_power(power: float, level: float) -> float:
    """A wanted power that is not had for nothing."""
    wanted = open_share(power, "power")
    if wanted <= level:
        raise InputError(f"power={wanted}: not above level={level}, which is reached without any change; ask for more")
    return wanted


def win_share(change: float, discordant: float) -> float:
    """Share of the changed problems that become right."""
    change = finite(change, "change")
    if abs(change) > discordant * (1 + RELATIVE_NOISE):
        raise InputError(f"change={change}: larger than discordant={discordant}, the share of problems that change at all")
    return min(max(0.5 + change / (2 * discordant), 0.0), 1.0)


def detected(changed: NDArray[np.int_], wins: float, level: float, alternative: Alternative) -> NDArray[np.float64]:
    """For each number of changed problems, the chance that the sign test has p <= level."""
    # After is better if few problems were lost, and worse if few were won.
    critical = _critical(changed, level / 2 if alternative == "two-sided" else level)
    better = stats.binom.cdf(critical, changed, 1 - wins) if alternative != "less" else 0.0
    worse = stats.binom.cdf(critical, changed, wins) if alternative != "greater" else 0.0
    return np.asarray(better + worse, dtype=np.float64)


def _critical(changed: NDArray[np.int_], tail: float) -> NDArray[np.float64]:
    """For each number of changed problems, the most losses (or wins) whose tail is at most this; -1 where none is."""
    quantile = stats.binom.ppf(tail, changed, 0.5)
    too_many = stats.binom.cdf(quantile, changed, 0.5) > tail * (1 + RELATIVE_NOISE)
    return np.asarray(np.where(too_many, quantile - 1, quantile), dtype=np.float64)


# Powers of all n up to this many are computed in a few seconds; beyond it the search is refused.
LARGEST_N = 40_000


@dataclass(frozen=True)
class Plan(
    OneLine,
    title="Plan",
    shown="n_controls level comparisons level_per_comparison alternative n_problems change discordant power_reached power",
):
    """Controls and problems that an experiment needs.

    Attributes:
        n_controls: the fewest control directions with which the rank test's p, corrected for all comparisons, can reach the level
            (p <= level). Even then it is reached only by an effect beyond every control.
        level: of the whole family of tests.
        comparisons: how many tests are corrected for together.
        level_per_comparison: level / comparisons: what the smallest p-value must reach under Bonferroni, and in Holm's first step.
        alternative: of both tests.
        change: the true change in accuracy that is to be detected; None if no problems were planned.
        discordant: the expected share of changed problems; None likewise.
        power: the wanted chance of detection.
        n_problems: the least n from which the exact sign test at level_per_comparison has the wanted power, for this and every
            larger n up to twice as many; None if no problems were planned.
        power_reached: its power there; None likewise.
    """

    n_controls: int
    level: float
    comparisons: int
    level_per_comparison: float
    alternative: Alternative
    change: float | None
    discordant: float | None
    power: float
    n_problems: int | None
    power_reached: float | None

    def __str__(self) -> str:
        corrected = f", corrected for {self.comparisons} comparisons (Bonferroni, or Holm's first step)," if self.comparisons > 1 else ""
        controls = (
            f"Use at least {self.n_controls} controls: the smallest p of the rank test{corrected} is then "
            f"{self.comparisons / (self.n_controls + 1):.4g}, which is at most the level {self.level:g}."
        )
        if self.n_problems is None or self.change is None:
            return controls
        at = (
            f"level {self.level:g}"
            if self.comparisons == 1
            else f"level {self.level:g} / {self.comparisons} comparisons = {self.level_per_comparison:.4g}"
        )
        return (
            f"{controls} Use at least {self.n_problems} problems: if {self.discordant:.4g} of them change and accuracy moves by "
            f"{self.change:+.4g}, the {self.alternative} sign test at {at} detects it with a probability of {self.power_reached:.4f} "
            f"({self.power:g} wanted)."
        )


def plan(
    *,
    change: float | None = None,
    discordant: float | None = None,
    power: float = 0.8,
    level: float = 0.05,
    comparisons: int = 1,
    alternative: Alternative = "two-sided",
) -> Plan:
    """How many controls a level needs, and how many problems a wanted power at that level, both corrected for the number of comparisons.

    Controls: the rank test's p is never below 1 / (K + 1), so K + 1 >= comparisons / level. Problems: the exact sign test's power
    moves in a sawtooth along n, because p takes only few values; so the answer is the least n from which the power
    stays at or above the wanted one, checked for every n up to twice as many.

    Args:
        change: true change in accuracy to be detected, a proportion with its sign; None plans controls only.
        discordant: expected share of problems whose outcome changes, right to wrong or wrong to right; at least the
            size of the change. A pilot tells; the larger, the more problems are needed.
        power: the wanted chance of detection.
        level: the level of the whole family of tests, at or below which a corrected p counts.
        comparisons: how many tests (cells, layers, alphas) are corrected for together.
        alternative: of both tests.

    Returns:
        The plan.

    Raises:
        ValueError: a change without discordant or the reverse, a change of 0, beyond discordant or against the alternative,
            level or power outside (0, 1), power <= level, comparisons < 1, an unknown alternative, or more than 40,000
            problems needed.

    Example:
        >>> print(plan(change=-0.1, discordant=0.2))
        Use at least 19 controls: the smallest p of the rank test is then 0.05, which is at most the level 0.05. Use at least 168 problems: \
if 0.2 of them change and accuracy moves by -0.1, the two-sided sign test at level 0.05 detects it with a probability of 0.8006 (0.8 wanted).
    """
    check_alternative(alternative)
    level, comparisons = open_share(level, "level"), count(comparisons, "comparisons", at_least=1)
    per_comparison = level / comparisons
    power = check_power(power, level)
    problems, reached = None, None
    if (change is None) != (discordant is None):
        missing = "change" if change is None else "discordant"
        raise InputError(f"{missing} is missing; give change and discordant together to plan problems, or neither")
    if change is not None and discordant is not None:
        change, discordant = _possible(change, alternative), check_discordant(discordant)
        problems, reached = _problems_needed(change, discordant, power, per_comparison, alternative)
    return Plan(
        n_controls=controls_needed(level, comparisons, alternative),
        level=level,
        comparisons=comparisons,
        level_per_comparison=per_comparison,
        alternative=alternative,
        change=change,
        discordant=discordant,
        power=power,
        n_problems=problems,
        power_reached=reached,
    )


def controls_needed(level: float, comparisons: int, alternative: Alternative) -> int:
    """The fewest controls with which the smallest of so many rank tests' p-values can reach the level after correction."""
    needed = math.ceil(comparisons / level * (1 - RELATIVE_NOISE)) - 1
    # Two-sided, one control is always as far from the middle as the observed effect.
    return max(needed, 2 if alternative == "two-sided" else 1)


def _possible(change: float, alternative: Alternative) -> float:
    change = finite(change, "change")
    if change == 0:
        raise InputError("change=0: no number of problems detects it; give the smallest change that matters")
    if (alternative == "greater" and change < 0) or (alternative == "less" and change > 0):
        raise InputError(f"change={change:+g} with alternative={alternative!r}: the test is of the other direction; change one of them")
    return change


def _problems_needed(change: float, discordant: float, power: float, level: float, alternative: Alternative) -> tuple[int, float]:
    """The least n from which power stays, up to 2 n, and the power there."""
    wins = win_share(change, discordant)
    limit = 2 * _rough_n(change, discordant, power, level, alternative) + 64
    while True:
        if limit > 2 * LARGEST_N:
            raise InputError(
                f"change={change:+g}, discordant={discordant:g}: about {limit // 2:,} problems needed for power {power:g} at level "
                f"{level:.3g}, beyond the {LARGEST_N:,} that are searched; ask for a larger change, less power or fewer comparisons"
            )
        powers = _powers(limit, wins, discordant, level, alternative)
        needed = int(np.flatnonzero(powers < power).max(initial=-1)) + 1
        if 2 * needed <= limit:
            return needed, float(powers[needed])
        limit = 2 * needed


def _rough_n(change: float, discordant: float, power: float, level: float, alternative: Alternative) -> int:
    """The normal approximation of Connett, Smith and McHugh, which says where to search."""
    z_level = float(stats.norm.isf(level / 2 if alternative == "two-sided" else level))
    z_power = float(stats.norm.ppf(power))
    spread = math.sqrt(max(discordant - change**2, 0.0))
    return math.ceil(max(z_level * math.sqrt(discordant) + z_power * spread, 0.0) ** 2 / change**2)


def _powers(limit: int, wins: float, discordant: float, level: float, alternative: Alternative) -> NDArray[np.float64]:
    """Power of the sign test for every n from 0 to limit.

    The number of changed problems among n + 1 follows from that among n, so one pass serves all n.
    """
    seen = detected(np.arange(limit + 1), wins, level, alternative)
    chances = np.zeros(limit + 1)
    chances[0] = 1.0
    powers = np.zeros(limit + 1)
    for n in range(1, limit + 1):
        chances[1 : n + 1] = chances[1 : n + 1] * (1 - discordant) + chances[:n] * discordant
        chances[0] *= 1 - discordant
        powers[n] = chances[: n + 1] @ seen[: n + 1]
    return powers
