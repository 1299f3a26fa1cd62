"""Does the response rise or fall with alpha? Permutation tests of trend and of monotonicity, and one result with all of it."""

import math
from dataclasses import dataclass
from itertools import permutations
from typing import Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from steerlab._checks import Alternative, InputError, check_alternative, check_rng, count
from steerlab._html import OneLine, Result
from steerlab.statistics._format import format_p
from steerlab.statistics._resampling import BLOCK, ONE_BY_ONE
from steerlab.statistics._sign_flips import enumerable, exceedance, flipped_sums
from steerlab.statistics.dose_models import (
    Asymmetry,
    Doses,
    IsotonicFit,
    LinearFit,
    SpearmanCorrelation,
    asymmetry_of,
    bootstrap_means,
    curve_of,
    line_of,
    matched,
    read_doses,
    rho_of,
)
from steerlab.statistics.multiplicity import LEVEL, significant

Null = Literal["reversal", "permutation"]


@dataclass(frozen=True, eq=False)
class TrendTest(
    OneLine, title="Trend over alpha", shown="statistic expected z pvalue alternative null draws exact n_problems rising falling n_doses"
):
    """A test of a monotone trend over alpha.

    Attributes:
        statistic: Page's L: the sum over alphas, in rising order, of their position times their sum of ranks, where
            each problem's responses are ranked among themselves.
        expected: L if alpha did not matter.
        z: (L - expected) over its standard deviation under the null; 0 if no flip could change L.
        pvalue: in (0, 1].
        rising, falling: how many problems have responses that rise, or fall, with alpha on the whole.
        n_problems: how many problems there were; None for means.
        n_doses: how many alphas there were.
        null: "reversal" or "permutation".
        draws: L - expected under the null, draw by draw.
        exact: whether draws holds every possibility rather than random ones.
        alternative: "greater" asks for a response that rises with alpha.
    """

    statistic: float
    expected: float
    z: float
    pvalue: float
    rising: int
    falling: int
    n_problems: int | None
    n_doses: int
    null: Null
    draws: NDArray[np.float64]
    exact: bool
    alternative: Alternative

    def __str__(self) -> str:
        over = "means" if self.n_problems is None else f"{self.n_problems} problems, {self.rising} rise and {self.falling} fall"
        return f"L = {self.statistic:g}, z = {self.z:.3f}, {format_p(self.pvalue)} ({self.alternative} {self.null} trend test, {over})"


def trend_test(
    alphas: ArrayLike,
    values: ArrayLike | pd.DataFrame,
    *,
    rng: np.random.Generator,
    null: Null | None = None,
    alternative: Alternative = "two-sided",
    n_resamples: int = 9999,
) -> TrendTest:
    """Permutation test of a monotone trend by Page's L, with alphas permuted within each problem.

    "reversal" compares each problem's response with the same response in the opposite order of alphas, which would
    be as likely if there were no trend in either direction. That keeps what responses at neighbouring alphas have in
    common. "permutation" is Page's test: every order of a problem's responses is as likely as any other. Steered
    answers break that without any trend: they switch from right to wrong at one alpha and stay so, some problems up
    and others down, and Page's test then rejects far too often. So it is used only where it is asked for, or where
    there is no choice, for means, which it takes as if they came from separate experiments.

    Args:
        alphas: one per dose, in any order, at least 3.
        values: [problem, alpha], outcomes or real numbers, with one column per alpha; or one mean per alpha.
        rng: draws the permutations.
        null: "reversal" (the default with problems; they must be independent) or "permutation" (the default for means).
        alternative: "greater" means that the response rises with alpha.
        n_resamples: number of random draws; where all possible ones are no more than this, all are used. Permutations of more than
            10,000 problems are drawn from their normal limit.

    Returns:
        The test; p is 1 when no response varies with alpha. Ties count against us.

    Raises:
        ValueError: fewer than 3 alphas or 2 problems, alphas that repeat, another number of columns than of alphas,
            NaN or infinite values, reversal of means, or an unknown option.
        TypeError: rng is not a generator.

    Source:
        Page (1963), J. Am. Stat. Assoc. 58, 216-230.

    Example:
        >>> right = [[0, 0, 1, 1], [0, 1, 1, 1], [0, 0, 0, 1], [1, 1, 1, 0], [0, 0, 1, 1], [0, 1, 0, 1]]
        >>> print(trend_test([-1, 0, 1, 2], right, rng=np.random.default_rng(0)))
        L = 163, z = 1.638, p = 0.1562 (two-sided reversal trend test, 6 problems, 5 rise and 1 fall)
    """
    check_alternative(alternative)
    check_rng(rng)
    return trend_of(read_doses(alphas, values), rng, null, alternative, count(n_resamples, "n_resamples", at_least=1))


def trend_of(doses: Doses, rng: np.random.Generator, null: Null | None, alternative: Alternative, n_resamples: int) -> TrendTest:
    """`trend_test` for doses that were read."""
    null = null or ("reversal" if doses.by_problem else "permutation")
    if null not in get_args(Null):
        raise InputError(f"null={null!r}: use 'reversal' or 'permutation'")
    if null == "reversal" and not doses.by_problem:
        raise InputError("null='reversal': means are a single response; give values [problem, alpha], or use 'permutation'")
    n_doses = doses.alphas.size
    positions = np.arange(1.0, n_doses + 1)
    centred = doses.ranks(doses.table) - (n_doses + 1) / 2
    each = centred @ positions
    varies = centred.any(axis=1)
    observed = float(each.sum())
    if null == "reversal":
        # Reversing the alphas of a problem turns the sign of its share of L.
        rows = each[varies][:, None]
        exact = enumerable(rows.size, n_resamples)
        draws = np.concatenate([sums[:, 0] for sums in flipped_sums(rows, n_resamples, rng)])
        variance = float((each**2).sum())
    else:
        exact = enumerable_orders(n_doses, int(varies.sum()), n_resamples)
        draws = _permuted(centred[varies], positions, n_resamples, rng, exact=exact)
        variance = float((centred**2).sum() * positions.var(ddof=1))
    oriented = {"two-sided": np.abs, "greater": np.positive, "less": np.negative}[alternative]
    # L moves in steps of one half or more, computed without rounding; any smaller number finds the ties.
    pvalue = exceedance(oriented(draws), oriented(np.array([observed])), 0.1, exact=exact)
    expected = doses.table.shape[0] * n_doses * (n_doses + 1) ** 2 / 4
    return TrendTest(
        statistic=expected + observed,
        expected=expected,
        z=observed / math.sqrt(variance) if variance else 0.0,
        pvalue=float(pvalue[0]),
        rising=int((each > 0).sum()),
        falling=int((each < 0).sum()),
        n_problems=doses.n_problems,
        n_doses=n_doses,
        null=null,
        draws=draws,
        exact=exact,
        alternative=alternative,
    )


def enumerable_orders(n_doses: int, n_rows: int, n_resamples: int) -> bool:
    """Whether all orders of so many responses are no more than the draws that were asked for."""
    return math.factorial(n_doses) ** n_rows <= n_resamples


def _permuted(
    centred: NDArray[np.float64], positions: NDArray[np.float64], n_resamples: int, rng: np.random.Generator, *, exact: bool
) -> NDArray[np.float64]:
    """L - expected for all orders of each row, or for random ones."""
    n, n_doses = centred.shape
    if exact:
        sums = np.zeros(1)
        orders = np.array(list(permutations(positions)))
        for row in centred:
            sums = np.add.outer(sums, orders @ row).ravel()
        return sums
    if n > ONE_BY_ONE:  # a sum of so many independent terms, each as likely as its opposite
        return rng.normal(0.0, math.sqrt(float((centred**2).sum() * positions.var(ddof=1))), n_resamples)
    step = max(1, BLOCK // centred.size)
    draws = []
    for start in range(0, n_resamples, step):
        rows = np.broadcast_to(centred, (min(step, n_resamples - start), n, n_doses))
        draws.append((rng.permuted(rows, axis=2) @ positions).sum(axis=1))
    return np.concatenate(draws)


@dataclass(frozen=True)
class Reversal(OneLine, shown="alpha_from alpha_to size increasing pvalue n_pairs"):
    """The largest step of a response against its trend.

    Attributes:
        alpha_from, alpha_to: between which alphas, alpha_from < alpha_to.
        size: by how much the mean moves against the direction between them, in its units; above 0.
        increasing: the direction of the whole response.
        pvalue: adjusted for having picked the largest of n_pairs steps; None for means, where chance cannot be judged.
        n_pairs: how many pairs of alphas were compared.
    """

    alpha_from: float
    alpha_to: float
    size: float
    increasing: bool
    pvalue: float | None
    n_pairs: int

    def __str__(self) -> str:
        course, step = ("rises", "falls") if self.increasing else ("falls", "rises")
        sentence = (
            f"The response is not monotonic: on the whole it {course} with alpha, "
            f"but from alpha = {self.alpha_from:g} to {self.alpha_to:g} it {step} by {self.size:.4g}"
        )
        if self.pvalue is None:
            return f"{sentence}; means alone cannot tell whether that exceeds chance."
        verdict = f"more than chance explains at {LEVEL}" if significant(self.pvalue) else "which is consistent with chance"
        return f"{sentence}, {verdict} ({format_p(self.pvalue)}, adjusted for {self.n_pairs} pairs of alphas)."


def largest_reversal(
    alphas: ArrayLike, values: ArrayLike | pd.DataFrame, *, rng: np.random.Generator, increasing: bool, n_resamples: int = 9999
) -> Reversal | None:
    """The largest step of a response against its trend, with a permutation p-value.

    All pairs of alphas are compared; the p-value is that of `max_statistic_test` over all of them (one-sided, mean
    differences), so it has paid for picking the largest, and it is small only if no monotonic response explains it.

    Args:
        alphas: one per dose, in any order, at least 3.
        values: [problem, alpha], outcomes or real numbers; or one mean per alpha.
        rng: draws the flips.
        increasing: whether the response should rise with alpha.
        n_resamples: number of random flips.

    Returns:
        The reversal, or None if there is none.

    Raises:
        ValueError: bad input, as in `trend_test`.
        TypeError: rng is not a generator.

    Example:
        >>> print(largest_reversal([0, 1, 2], [0.2, 0.5, 0.4], rng=np.random.default_rng(0), increasing=True).alpha_to)
        2.0
    """
    check_rng(rng)
    return reversal_of(read_doses(alphas, values), rng, increasing, count(n_resamples, "n_resamples", at_least=1))


def reversal_of(doses: Doses, rng: np.random.Generator, increasing: bool, n_resamples: int) -> Reversal | None:
    """`largest_reversal` for doses that were read."""
    earlier, later = np.triu_indices(doses.alphas.size, k=1)
    sign = 1.0 if increasing else -1.0
    drops = sign * (doses.means[earlier] - doses.means[later])
    largest = int(drops.argmax())
    if drops[largest] <= doses.noise:
        return None
    pvalue = None
    if doses.by_problem:
        # Steps are differences of columns, and so are their flipped sums.
        moves = sign * (doses.table - doses.table[:, :1])
        moves[np.abs(moves) <= doses.noise] = 0.0
        moves = moves[moves.any(axis=1)]
        null = [(sums[:, earlier] - sums[:, later]).max(axis=1) for sums in flipped_sums(moves, n_resamples, rng)]
        exact, n = enumerable(len(moves), n_resamples), len(doses.table)
        pvalue = float(exceedance(np.concatenate(null) / n, drops[[largest]], doses.noise, exact=exact)[0])
    return Reversal(
        alpha_from=float(doses.alphas[earlier[largest]]),
        alpha_to=float(doses.alphas[later[largest]]),
        size=float(drops[largest]),
        increasing=increasing,
        pvalue=pvalue,
        n_pairs=drops.size,
    )


@dataclass(frozen=True, eq=False)
class DoseResponse(Result, title="Dose-response"):
    """A response at several alphas: trend, line, monotone curve, rank correlation, asymmetry.

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
        """What a reader of the line or of the trend must know: where the response is not monotonic, and where intervals are approximate."""
        return [*([] if self.reversal is None else [str(self.reversal)]), *self.spearman.warnings(), *self.isotonic.warnings()]

    def __str__(self) -> str:
        over = "means" if self.n_problems is None else f"{self.n_problems} problems"
        shape = "monotonic" if self.is_monotonic else "not monotonic"
        return (
            f"{self.alphas.size} alphas from {self.alphas[0]:g} to {self.alphas[-1]:g}, {over}: {shape}, "
            f"slope {self.linear.slope:.4g}, rho = {self.spearman.rho:.3f}, trend {format_p(self.trend.pvalue)} ({self.trend.alternative})"
        )

    def summary(self) -> pd.DataFrame:
        """One line a question: what is measured, its estimate, and where they are known low, high (95%) and pvalue."""
        parts: list[tuple[str, str, Result | None]] = [("trend", "z", self.trend), ("slope per unit of alpha", "slope", self.linear)]
        parts += [("Spearman's rho", "rho", self.spearman), ("amplification plus suppression", "mean", self.asymmetry)]
        lines = [one.summary().rename(columns={name: "estimate"}).assign(measure=measure) for measure, name, one in parts if one]
        return pd.concat(lines, ignore_index=True).reindex(columns=["measure", "estimate", "low", "high", "pvalue"])


def dose_response(
    alphas: ArrayLike,
    values: ArrayLike | pd.DataFrame,
    *,
    rng: np.random.Generator,
    alternative: Alternative = "two-sided",
    n_resamples: int = 9999,
) -> DoseResponse:
    """Trend, line, monotone curve, rank correlation and asymmetry of a response at several alphas.

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
