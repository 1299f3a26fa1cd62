"""How a response depends on alpha: trend, line, monotone curve, rank correlation and asymmetry in one result."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from steerlab._checks import Alternative, check_alternative, check_rng, count
from steerlab._html import html_table
from steerlab.statistics._display import format_p
from steerlab.statistics._doses import bootstrap_means, read_doses
from steerlab.statistics.dose_curves import IsotonicFit, SpearmanCorrelation, curve_of, rho_of
from steerlab.statistics.dose_lines import Asymmetry, LinearFit, asymmetry_of, line_of, matched
from steerlab.statistics.trends import Reversal, TrendTest, reversal_of, trend_of


@dataclass(frozen=True, eq=False)
class DoseResponse:
    """A response at several alphas, and what it says.

    Attributes:
        alphas: rising.
        values: [problem, alpha], as numbers and in that order; one row of means if only means were given.
        n_problems: None for means.
        trend: does the response rise or fall with alpha?
        linear: the line.
        isotonic: the nearest monotone curve.
        spearman: rank correlation of alpha and the mean response.
        asymmetry: amplification against suppression; None without alpha = 0 and some alpha with both signs.
        reversal: the largest step against the direction of the isotonic fit; None if there is none.
    """

    alphas: NDArray[np.float64]
    values: NDArray[np.float64]
    n_problems: int | None
    trend: TrendTest
    linear: LinearFit
    isotonic: IsotonicFit
    spearman: SpearmanCorrelation
    asymmetry: Asymmetry | None
    reversal: Reversal | None

    @property
    def frame(self) -> pd.DataFrame:
        """One line an alpha: alpha, mean, linear, isotonic (fitted values)."""
        line = self.linear.intercept + self.linear.slope * self.alphas
        return pd.DataFrame({"alpha": self.alphas, "mean": self.isotonic.means, "linear": line, "isotonic": self.isotonic.fitted})

    @property
    def is_monotonic(self) -> bool:
        """Whether the means never step back, beyond rounding."""
        return self.reversal is None

    def warnings(self) -> list[str]:
        """What a reader of the line or of the trend must know: where the response is not monotonic."""
        return [] if self.reversal is None else [str(self.reversal)]

    def __str__(self) -> str:
        over = "means" if self.n_problems is None else f"{self.n_problems} problems"
        shape = "monotonic" if self.is_monotonic else "not monotonic"
        return (
            f"{self.alphas.size} alphas from {self.alphas[0]:g} to {self.alphas[-1]:g}, {over}: {shape}, "
            f"slope {self.linear.slope:.4g}, rho = {self.spearman.rho:.3f}, trend {format_p(self.trend.p_value)} ({self.trend.alternative})"
        )

    def _repr_html_(self) -> str:
        rows: dict[str, object] = {
            "alphas": f"{self.alphas.size}, from {self.alphas[0]:g} to {self.alphas[-1]:g}",
            "problems": "means only" if self.n_problems is None else self.n_problems,
            "trend": self.trend,
            "line": self.linear,
            "monotone curve": self.isotonic,
            "rank correlation": self.spearman,
            "asymmetry": self.asymmetry or "needs alpha = 0 and an alpha with both signs",
        }
        rows |= {f"warning {position}": sentence for position, sentence in enumerate(self.warnings(), start=1)}
        return html_table("Dose-response", rows)


def dose_response(
    alphas: ArrayLike,
    values: ArrayLike | pd.DataFrame,
    *,
    rng: np.random.Generator,
    alternative: Alternative = "two-sided",
    n_resamples: int = 9999,
) -> DoseResponse:
    """Everything that this package knows about a response at several alphas.

    Each part is what the function of its name returns: `trend_test`, `linear_fit`, `isotonic_fit`, `spearman`,
    `asymmetry` and `largest_reversal`; their docstrings say what each assumes. Give outcomes by problem where they
    exist: problems are the unit that varies, and means alone do not tell how much.

    Args:
        alphas: one per dose, in any order, at least 3.
        values: [problem, alpha], outcomes or real numbers, with one column per alpha; or one mean per alpha.
        rng: draws permutations and bootstrap samples.
        alternative: of the trend test; "greater" means that the response rises with alpha.
        n_resamples: number of permutations, and of bootstrap samples.

    Raises:
        ValueError: fewer than 3 alphas or 2 problems, alphas that repeat, another number of columns than of alphas,
            columns called after the alphas in a different order, NaN or infinite values, or an unknown alternative.
        TypeError: rng is not a generator.

    Example:
        >>> result = dose_response([-1, 0, 1, 2], [0.2, 0.5, 0.4, 0.7], rng=np.random.default_rng(0))
        >>> print(result)
        4 alphas from -1 to 2, means: not monotonic, slope 0.14, rho = 0.800, trend p = 0.3333 (two-sided)
        >>> result.warnings()[0][:86]
        'The response is not monotonic: on the whole it rises with alpha, but from alpha = 0 to'
    """
    check_alternative(alternative)
    check_rng(rng)
    n_resamples = count(n_resamples, "n_resamples", at_least=1)
    doses = read_doses(alphas, values)
    trend = trend_of(doses, rng, None, alternative, n_resamples)
    resampled = bootstrap_means(doses, n_resamples, rng)
    isotonic = curve_of(doses, resampled, None)
    pairs = matched(doses)
    return DoseResponse(
        alphas=doses.alphas,
        values=doses.table,
        n_problems=doses.n_problems,
        trend=trend,
        linear=line_of(doses),
        isotonic=isotonic,
        spearman=rho_of(doses, resampled),
        asymmetry=asymmetry_of(doses, pairs) if pairs else None,
        reversal=reversal_of(doses, rng, isotonic.increasing, n_resamples),
    )
