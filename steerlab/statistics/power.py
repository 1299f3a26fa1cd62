"""How small an effect the sign test could have seen."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import binom

from steerlab.statistics._input import RELATIVE_NOISE, count, finite, open_share


def smallest_detectable_change(n: int, *, discordant: float, level: float = 0.05, power: float = 0.8) -> float | None:
    """Smallest change in accuracy that the exact two-sided sign test detects with the given power.

    Computed exactly: the number of changed problems is binomial (n, discordant), and given m of them the number that
    became right is binomial (m, 1/2 + change / (2 discordant)). Detected means p <= level.

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
    discordant = finite(discordant, "discordant")
    if not 0 < discordant <= 1:
        raise ValueError(f"discordant={discordant}: use the expected share of changed problems, above 0 and at most 1")
    level, power = open_share(level, "level"), open_share(power, "power")
    if power <= level:
        raise ValueError(f"power={power}: not above level={level}, which is reached without any change; ask for more")

    changed = np.arange(n + 1)
    weights = binom.pmf(changed, n, discordant)
    critical = _critical_losses(changed, level)

    def shortfall(change: float) -> float:
        wins = min(0.5 + change / (2 * discordant), 1.0)
        # Few wins, or few losses: the losses are binomial with the complementary probability.
        detected = binom.cdf(critical, changed, wins) + binom.cdf(critical, changed, 1 - wins)
        return float(weights @ detected) - power

    if shortfall(discordant) < 0:
        return None
    return float(brentq(shortfall, 0.0, discordant, xtol=1e-12))


def _critical_losses(changed: NDArray[np.int_], level: float) -> NDArray[np.float64]:
    """For each number of changed problems, the most losses (or wins) at which p <= level; -1 where none is."""
    quantile = binom.ppf(level / 2, changed, 0.5)
    too_many = binom.cdf(quantile, changed, 0.5) > level / 2 * (1 + RELATIVE_NOISE)
    return np.asarray(np.where(too_many, quantile - 1, quantile), dtype=np.float64)
