"""Does the response rise with alpha? A permutation test of a monotone trend, and of the largest step against it."""

import math
from dataclasses import dataclass
from html import escape
from itertools import permutations
from typing import Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from steerlab._checks import Alternative, InputError, check_alternative, check_rng, count
from steerlab._html import html_table
from steerlab.statistics._display import format_p
from steerlab.statistics._doses import BLOCK, Doses, read_doses
from steerlab.statistics._sign_flips import enumerable, exceedance, flipped_sums
from steerlab.statistics.many_looks import max_statistic_test

Null = Literal["reversal", "permutation"]


@dataclass(frozen=True, eq=False)
class TrendTest:
    """A test of a monotone trend over alpha.

    Attributes:
        statistic: Page's L: the sum over alphas, in rising order, of their position times their sum of ranks, where
            each problem's responses are ranked among themselves.
        expected: L if alpha did not matter.
        z: (L - expected) over its standard deviation under the null; 0 if no flip could change L.
        p_value: in (0, 1].
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
    p_value: float
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
        return f"L = {self.statistic:g}, z = {self.z:.3f}, {format_p(self.p_value)} ({self.alternative} {self.null} trend test, {over})"

    def _repr_html_(self) -> str:
        rows = {
            "L (expected)": f"{self.statistic:g} ({self.expected:g})",
            "z": f"{self.z:.3f}",
            "p": format_p(self.p_value),
            "alternative": self.alternative,
            "null": f"{self.null}, {'all' if self.exact else 'random'} {self.draws.size} draws",
            "problems": "means only" if self.n_problems is None else self.n_problems,
            "rising, falling": f"{self.rising}, {self.falling}",
            "alphas": self.n_doses,
        }
        return html_table("Trend over alpha", rows)


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
        n_resamples: number of random draws; where all possible ones are no more than this, all are used.

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
    p_value = exceedance(oriented(draws), oriented(np.array([observed])), 0.1, exact=exact)
    expected = doses.table.shape[0] * n_doses * (n_doses + 1) ** 2 / 4
    return TrendTest(
        statistic=expected + observed,
        expected=expected,
        z=observed / math.sqrt(variance) if variance else 0.0,
        p_value=float(p_value[0]),
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
    step = max(1, BLOCK // centred.size)
    draws = []
    for start in range(0, n_resamples, step):
        rows = np.broadcast_to(centred, (min(step, n_resamples - start), n, n_doses))
        draws.append((rng.permuted(rows, axis=2) @ positions).sum(axis=1))
    return np.concatenate(draws)


@dataclass(frozen=True)
class Reversal:
    """The largest step of a response against its direction.

    Attributes:
        alpha_from, alpha_to: between which alphas, alpha_from < alpha_to.
        size: by how much the mean moves against the direction between them, in its units; above 0.
        increasing: the direction of the whole response.
        p_value: adjusted for having picked the largest of n_pairs steps; None for means, where chance cannot be judged.
        n_pairs: how many pairs of alphas were compared.
    """

    alpha_from: float
    alpha_to: float
    size: float
    increasing: bool
    p_value: float | None
    n_pairs: int

    def __str__(self) -> str:
        course, step = ("rises", "falls") if self.increasing else ("falls", "rises")
        sentence = (
            f"The response is not monotonic: on the whole it {course} with alpha, "
            f"but from alpha = {self.alpha_from:g} to {self.alpha_to:g} it {step} by {self.size:.4g}"
        )
        if self.p_value is None:
            return f"{sentence}; means alone cannot tell whether that exceeds chance."
        verdict = "more than" if self.p_value <= 0.05 else "no more than"
        return f"{sentence}, {verdict} chance explains at 0.05 ({format_p(self.p_value)}, adjusted for {self.n_pairs} pairs of alphas)."

    def _repr_html_(self) -> str:
        return f"<p>{escape(str(self))}</p>"


def largest_reversal(
    alphas: ArrayLike, values: ArrayLike | pd.DataFrame, *, rng: np.random.Generator, increasing: bool, n_resamples: int = 9999
) -> Reversal | None:
    """The largest fall of a response that should rise (or rise of one that should fall), and whether chance explains it.

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
    p_value = None
    if doses.by_problem:
        steps = sign * (doses.table[:, earlier] - doses.table[:, later])
        zeros = np.zeros(len(steps))
        test = max_statistic_test(zeros, steps, rng=rng, statistic="mean", alternative="greater", n_resamples=n_resamples)
        p_value = test.p_value
    return Reversal(
        alpha_from=float(doses.alphas[earlier[largest]]),
        alpha_to=float(doses.alphas[later[largest]]),
        size=float(drops[largest]),
        increasing=increasing,
        p_value=p_value,
        n_pairs=drops.size,
    )
