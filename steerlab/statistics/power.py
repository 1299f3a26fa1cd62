"""What the tests could have seen: power of the sign test, exactly, and of the paired t-test."""

from collections.abc import Sequence
from itertools import product

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats
from scipy.optimize import brentq

from steerlab._checks import RELATIVE_NOISE, Alternative, InputError, check_alternative, count, finite, open_share


def power_of_sign_test(n: int, *, change: float, discordant: float, level: float = 0.05, alternative: Alternative = "two-sided") -> float:
    """Chance that the exact sign test (McNemar exact) on n problems has p <= level, computed exactly.

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
    """Chance that a paired (or one-sample) t-test of n differences has p <= level, by the noncentral t distribution.

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
