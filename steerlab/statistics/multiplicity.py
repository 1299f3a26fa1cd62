"""Corrections for many tests: Holm, Benjamini-Hochberg, and permutation tests of the best cell of a grid and of many effects."""

import math
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any, Literal, get_args, overload

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.stats import false_discovery_control

from steerlab._checks import (
    RELATIVE_NOISE,
    Alternative,
    InputError,
    are_outcomes,
    check_alternative,
    check_pairs,
    check_rng,
    common_scale,
    count,
    group_numbers,
    open_share,
    probabilities,
    problem_table,
    reals,
    vectors,
)
from steerlab._html import Result
from steerlab.statistics._format import format_p
from steerlab.statistics._sign_flips import enumerable, exceedance, flipped_sums
from steerlab.statistics.controls import rank_test
from steerlab.statistics.intervals import Interval, mean_interval, paired_interval

LEVEL = 0.05  # at which a corrected p-value counts, in every verdict of the library


@overload
def significant(p: float, level: float = LEVEL) -> bool: ...
@overload
def significant(p: pd.Series, level: float = LEVEL) -> pd.Series: ...
def significant(p: Any, level: float = LEVEL) -> Any:
    """Whether a p-value, or each of a Series, is at most the level; a product such as 3 * (1 / 60) that only rounding puts above it is, too."""
    return p <= level * (1 + RELATIVE_NOISE)


def holm(pvalues: ArrayLike) -> NDArray[np.float64]:
    """Holm's adjusted p-values, which control the family-wise error (the probability of one or more false rejections).

    Args:
        pvalues: one or more p-values in any shape, from 0 to 1; they may depend on each other.

    Returns:
        The adjusted p-values in the shape and order given; reject where one is at most the level.

    Raises:
        ValueError: no p-values, or one that is not finite or outside [0, 1].

    Source:
        Holm (1979), Scandinavian Journal of Statistics 6, 65-70.

    Example:
        >>> holm([0.01, 0.04, 0.03]).round(3).tolist()
        [0.03, 0.06, 0.06]
    """
    numbers = probabilities(pvalues, "pvalues")
    flat = numbers.ravel()
    order = np.argsort(flat, kind="stable")
    stepwise = np.maximum.accumulate(flat[order] * np.arange(flat.size, 0, -1))
    adjusted = np.empty_like(flat)
    adjusted[order] = np.minimum(stepwise, 1.0)
    return adjusted.reshape(numbers.shape)


def benjamini_hochberg(pvalues: ArrayLike) -> NDArray[np.float64]:
    """Benjamini and Hochberg's adjusted p-values, which control the false discovery rate.

    Args:
        pvalues: one or more p-values in any shape (a heatmap's cells), from 0 to 1; independent, or positively
            dependent as neighbouring cells of a sweep usually are.

    Returns:
        The adjusted p-values in the shape and order given; reject where one is at most the false discovery rate.

    Raises:
        ValueError: no p-values, or one that is not finite or outside [0, 1].

    Source:
        Benjamini and Hochberg (1995), J. R. Stat. Soc. B 57, 289-300; computed by SciPy.

    Example:
        >>> benjamini_hochberg([0.01, 0.04, 0.03]).round(3).tolist()
        [0.03, 0.04, 0.04]
    """
    numbers = probabilities(pvalues, "pvalues")
    adjusted = np.asarray(false_discovery_control(numbers.ravel(), method="bh"), dtype=np.float64)
    return adjusted.reshape(numbers.shape)


Statistic = Literal["studentized", "mean"]


@dataclass(frozen=True, eq=False)
class MaxStatisticTest(
    Result,
    title="Max-statistic test",
    shown="n_cells best change interval statistic kind pvalue smallest_p alternative n_problems n_moved null exact",
):
    """A max-statistic test: the best of many cells, and every cell, adjusted for the number of cells.

    Attributes:
        frame: one line a cell, labelled like the columns of after: change (mean of after - before, in its units; a
            proportion for outcomes), statistic, pvalue (adjusted, in (0, 1]).
        best: label of the cell with the most extreme statistic, the first of those that tie.
        statistic: of the best cell, signed like its change.
        pvalue: of the best cell, adjusted.
        n_cells: how many cells were tried.
        n_problems: how many problems there were.
        n_moved: how many of them, or of their groups, differ from before in some cell; only these can be flipped.
        null: the most extreme statistic of each flip, the null draws; absolute values if two-sided, and the opposite
            of the statistic if "less".
        exact: whether null holds every possible flip rather than random ones.
        kind: "studentized" or "mean".
        alternative: "greater" asks whether after is larger than before in some cell.
        before, after: the inputs, as numbers.
        binary: whether they are outcomes, right or wrong.
        groups: each problem's group as a number from 0; None where every problem is its own.
    """

    frame: pd.DataFrame
    best: Hashable
    statistic: float
    pvalue: float
    n_cells: int
    n_problems: int
    n_moved: int
    null: NDArray[np.float64]
    exact: bool
    kind: Statistic
    alternative: Alternative
    before: NDArray[np.float64]
    after: NDArray[np.float64]
    binary: bool
    groups: NDArray[np.intp] | None = None

    @property
    def smallest_p(self) -> float:
        """The least p that so many flips can give."""
        if not self.exact:
            return 1 / (self.null.size + 1)
        return min((2 if self.alternative == "two-sided" else 1) / self.null.size, 1.0)

    @property
    def change(self) -> float:
        """Mean change in the best cell. It was chosen for being large, so it is too large on average."""
        return float(self.frame["change"].iloc[self._position])

    def survivors(self, level: float = LEVEL) -> pd.DataFrame:
        """The lines of frame with pvalue <= level, best first.

        The chance that they hold even one cell without an effect is at most level.

        Raises:
            ValueError: a level outside (0, 1).
        """
        kept = self.frame[significant(self.frame["pvalue"], open_share(level, "level"))]
        return kept.sort_values("pvalue", kind="stable")

    def interval(self, confidence: float = 0.95) -> Interval:
        """Interval of the change in the best cell that allows for its having been chosen.

        `paired_interval` for outcomes, or by group, and a t interval for real values, each with its error divided by the
        number of cells (Bonferroni): so all cells' intervals hold at once, the chosen one's among them.

        Raises:
            ValueError: a confidence outside (0, 1).
        """
        each = 1 - (1 - open_share(confidence, "confidence")) / self.n_cells
        before, after = self.before, self.after[:, self._position]
        if self.binary:
            found = paired_interval(before == 1, after == 1, groups=self.groups, confidence=each)
        else:
            found = mean_interval(after - before, self.groups, RELATIVE_NOISE * common_scale(before, after), each)
        return Interval(found.low, found.high, float(confidence), f"{found.method}, Bonferroni over {self.n_cells} cells", found.few)

    @property
    def _position(self) -> int:
        return self.frame.index.tolist().index(self.best)

    def __str__(self) -> str:
        flips = f"{self.null.size} flips" if not self.exact else f"all {self.null.size} flips"
        return (
            f"best of {self.n_cells} cells: {self.best}, change {self.change:+.4g}, statistic {self.statistic:.3f}, "
            f"{format_p(self.pvalue)} ({self.alternative} max-statistic test, {flips} of {self.n_problems} problems)"
        )

    def _facts(self) -> dict[str, Any]:
        return super()._facts() | {"survivors": len(self.survivors())}


def max_statistic_test(
    before: ArrayLike,
    after: ArrayLike | pd.DataFrame,
    *,
    rng: np.random.Generator,
    groups: ArrayLike | None = None,
    statistic: Statistic = "studentized",
    alternative: Alternative = "two-sided",
    n_resamples: int = 9999,
) -> MaxStatisticTest:
    """Sign-flip permutation test of the best cell, and of every cell, of a grid over the same problems.

    Under the null a problem's whole row of differences after - before is as likely as its opposite. Flipping rows
    keeps the dependence between cells, which neighbouring alphas and layers have plenty of, so the price of many
    cells is not more than it must be. Each cell's p-value is the share of flips whose most extreme cell is at least
    as extreme as it (single-step max-T); it bounds the chance of one or more false rejections among all cells,
    whichever of them have an effect.

    What it assumes: independent problems (or groups), and that symmetry. For one cell of right and wrong outcomes the symmetry is
    the null of the sign test, conditional on the problems that changed. For several cells that share one baseline it
    says more than "no cell changes the accuracy": a pattern of losses over the cells must be as likely as the same
    pattern of gains, which need not hold where the baseline is far from half right. Then the flips are a multiplier
    bootstrap: they have the right covariance, and the level holds for many problems, not to the letter for few. In
    simulations of 20 to 100 independent cells it held while at least a handful of problems were right, and a handful
    wrong, at the start. With 98% of 100 problems right and 50 cells, one-sided tests at 0.05 rejected 10% ("less") and
    1% ("greater") of true nulls, and two-sided ones 7%: what skewness adds on one side it takes from the other. So test
    two-sided close to the floor and the ceiling.

    Args:
        before: one value per problem without the intervention: outcomes or real numbers.
        after: [problem, cell], the same problems in the same order; a frame keeps the labels of its columns, which
            may be a MultiIndex such as (layer, alpha).
        rng: draws the flips.
        groups: one label a problem, where problems of one group are not independent: the rows of a group are summed and flip together.
            None: each problem is its own.
        statistic: "studentized" is the sum of the differences over the root of the sum of their squares, McNemar's z
            for outcomes, and gives the p-values of the t statistic, of which it is an increasing function; it treats
            noisy and quiet cells alike. "mean" is the mean difference, which favours noisy cells. Either is 0 in a
            cell where nothing changed, such as alpha = 0.
        alternative: "greater" means that after is larger in some cell.
        n_resamples: number of random flips; where all flips of the problems that moved are no more than this, all are
            used and the p-values are exact.

    Returns:
        The test; p is 1 when nothing changed anywhere. Ties count against us.

    Raises:
        ValueError: other than one row of after per value of before, fewer than 2 problems, NaN or infinite values,
            labels that repeat or are in different orders, groups as in `sign_flip_test`, or an unknown option.
        TypeError: rng is not a generator.

    Source:
        Westfall and Young (1993), Resampling-Based Multiple Testing, single-step maxT; Nichols and Holmes (2002),
        Human Brain Mapping 15; for the asymptotics Chernozhukov, Chetverikov and Kato (2013), Annals of Statistics 41.

    Example:
        >>> before = [0, 0, 0, 0, 0, 0, 1, 1]
        >>> after = pd.DataFrame({-1.0: [0, 0, 0, 1, 0, 0, 0, 1], 0.0: before, 1.0: [1, 1, 1, 1, 1, 1, 1, 1]})
        >>> print(max_statistic_test(before, after, rng=np.random.default_rng(0)))
        best of 3 cells: 1.0, change +0.75, statistic 2.449, p = 0.0312 (two-sided max-statistic test, all 128 flips of 8 problems)
    """
    check_alternative(alternative)
    check_rng(rng)
    if statistic not in get_args(Statistic):
        raise InputError(f"statistic={statistic!r}: use 'studentized' or 'mean'")
    n_resamples = count(n_resamples, "n_resamples", at_least=1)
    was = reals(before, "before", at_least=2)
    now, labels = problem_table(after, "after", columns="cell", at_least=2)
    check_pairs(before, after.iloc[:, 0] if isinstance(after, pd.DataFrame) else now[:, 0])

    n, scale = was.size, common_scale(was, now)
    differences = now - was[:, None]
    differences[np.abs(differences) <= RELATIVE_NOISE * scale] = 0.0
    units, numbers = differences, None
    if groups is not None:
        numbers = group_numbers(groups, n)
        units = np.stack([np.bincount(numbers, weights=cell) for cell in differences.T], axis=1)
        units[np.abs(units) <= RELATIVE_NOISE * scale] = 0.0
    moved = units.any(axis=1)
    divisor, noise = _divisors(units, n, statistic, scale)
    statistics = differences.sum(axis=0) / divisor
    null = np.concatenate([_extreme(sums / divisor, alternative) for sums in flipped_sums(units[moved], n_resamples, rng)])
    exact = enumerable(int(moved.sum()), n_resamples)
    scores = _oriented(statistics, alternative)
    pvalues = exceedance(null, scores, noise, exact=exact)
    best = int(scores.argmax())
    return MaxStatisticTest(
        frame=pd.DataFrame({"change": differences.mean(axis=0), "statistic": statistics, "pvalue": pvalues}, index=labels),
        best=labels.tolist()[best],
        statistic=float(statistics[best]),
        pvalue=float(pvalues[best]),
        n_cells=labels.size,
        n_problems=n,
        n_moved=int(moved.sum()),
        null=null,
        exact=exact,
        kind=statistic,
        alternative=alternative,
        before=was,
        after=now,
        binary=are_outcomes(before, after),
        groups=numbers,
    )


def _divisors(differences: NDArray[np.float64], n: int, statistic: Statistic, scale: float) -> tuple[NDArray[np.float64], float]:
    """What the sums of n problems' differences are divided by, cell by cell, and how large a rounding error of the result may be."""
    if statistic == "mean":
        return np.full(differences.shape[1], float(n)), RELATIVE_NOISE * scale
    # The sum of squares does not change when signs are flipped, so one division serves the data and all flips.
    roots = np.sqrt((differences**2).sum(axis=0))
    return np.where(roots > 0, roots, 1.0), RELATIVE_NOISE * math.sqrt(n)


def _oriented(statistics: NDArray[np.float64], alternative: Alternative) -> NDArray[np.float64]:
    """Larger means more extreme."""
    return {"two-sided": np.abs, "greater": np.positive, "less": np.negative}[alternative](statistics)


def _extreme(statistics: NDArray[np.float64], alternative: Alternative) -> NDArray[np.float64]:
    return np.asarray(_oriented(statistics, alternative).max(axis=1), dtype=np.float64)


def rank_tests(observed: ArrayLike, controls: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """P-values of several effects among their controls: two-sided rank tests, uncorrected and corrected for all of them.

    The second p-values are those of a max-statistic test: each effect and its controls are centred on their median and divided by their
    spread, and an effect counts as unusual as the share of draws whose *largest* standardised size reaches its own. They can fall to
    1 / (K + 1) however many effects there are; Holm's correction of rank p-values cannot go below that times their number.

    Args:
        observed: one number an effect.
        controls: ``[effect, K]``: column k is one draw of the null, for all effects together, so that effects may depend on each other.

    Returns:
        p-values of `rank_test`, and those corrected for the number of effects.

    Raises:
        ValueError: no effects, other numbers of rows than effects, no draws, or values that are not finite numbers.

    Source:
        Westfall and Young (1993), Resampling-Based Multiple Testing (single-step maxT); Phipson and Smyth (2010) for the + 1.

    Example:
        >>> p, corrected = rank_tests([9.0, 0.1], [[1.0, -1.0, 0.5, -0.5], [0.2, 0.0, 0.3, -0.2]])
        >>> p.tolist(), corrected.tolist()
        ([0.2, 1.0], [0.2, 1.0])
    """
    effects, draws = reals(observed, "observed", at_least=1), vectors(controls, "controls", at_least=1)
    if len(draws) != effects.size:
        raise InputError(f"{effects.size} effects and controls of shape {list(draws.shape)}; give one row of draws an effect")
    p = np.array([rank_test(one, row).pvalue for one, row in zip(effects, draws, strict=True)])
    both = np.column_stack([effects, draws])
    centred = both - np.median(both, axis=1, keepdims=True)
    spread = centred.std(axis=1, keepdims=True)
    size = np.abs(centred) / np.where(spread > 0, spread, 1.0)
    largest = size[:, 1:].max(axis=0)
    reached = (largest[None] >= size[:, :1] - RELATIVE_NOISE).sum(axis=1)
    return p, np.maximum(p, (1 + reached) / (draws.shape[1] + 1))
