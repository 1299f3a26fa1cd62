"""Would other problems have given the same direction? Halves against halves, and each problem against the others.

Rows are problems. Nothing here knows where the vectors come from: activations of a layer, embeddings, any features.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from steerlab._checks import RELATIVE_NOISE, InputError, check_rng, common_scale, count, two_groups, vectors
from steerlab._html import html_table


@dataclass(frozen=True)
class SplitHalf:
    """Would other problems have given the same direction? Cosines between directions from two random halves.

    Attributes:
        cosines: one for each random split.
        n_positive, n_negative: rows of each group; a half has half of them.
    """

    cosines: tuple[float, ...]
    n_positive: int
    n_negative: int

    @property
    def median(self) -> float:
        """The median cosine."""
        return float(np.median(self.cosines))

    @property
    def reliability(self) -> float:
        """The cosine to expect between this direction and that of as many other problems: 2 m / (1 + m) of the median m.

        Where halves do not agree on average (a median of 0 or below) it is 0.

        Source:
            Spearman (1910) and Brown (1910), Br. J. Psychol. 3.
        """
        return 2 * self.median / (1 + self.median) if self.median > 0 else 0.0

    def quantiles(self, low: float = 0.05, high: float = 0.95) -> tuple[float, float]:
        """Between which cosines most splits lie. Splits share problems, so this is no confidence interval.

        Raises:
            ValueError: shares that do not lie from 0 to 1, or in this order.
        """
        if not 0 <= low < high <= 1:
            raise InputError(f"low={low}, high={high}: use shares from 0 to 1, the lower first")
        first, last = np.quantile(self.cosines, [low, high]).tolist()
        return first, last

    def __str__(self) -> str:
        low, high = self.quantiles()
        return (
            f"cosine between halves {self.median:.3g} ({low:.3g} to {high:.3g} in 90% of {len(self.cosines)} splits), "
            f"expected between sets of this size {self.reliability:.3g}"
        )

    def _repr_html_(self) -> str:
        low, high = self.quantiles()
        rows = {
            "median cosine between halves": f"{self.median:.3g}",
            "90% of splits": f"{low:.3g} to {high:.3g}",
            "expected between sets of this size": f"{self.reliability:.3g}",
            "rows": f"{self.n_positive} against {self.n_negative}",
        }
        return html_table("Stability of the mean difference", rows)


def split_half_cosines(
    positive: ArrayLike, negative: ArrayLike, *, rng: np.random.Generator, splits: int = 200, paired: bool = False
) -> SplitHalf:
    """Cosines between the mean differences of two random halves of the problems.

    Args:
        positive: ``[problem, dimension]``, at least 2 rows.
        negative: likewise; as many dimensions.
        rng: draws the halves. Of an odd number of rows one, another each time, is in neither.
        splits: how many.
        paired: row i of both is one problem, which goes to one half as a whole.

    Raises:
        ValueError: fewer than 2 rows, no splits, unequal dimensions, NaN or infinite values, pairs that are none, or
            groups that do not differ in any half.
        TypeError: rng is no generator.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> noise = rng.standard_normal((80, 50))
        >>> found = split_half_cosines(noise[:40] + 1, noise[40:], rng=rng)
        >>> round(found.median, 1), round(found.reliability, 1)
        (0.9, 1.0)
    """
    rng, splits = check_rng(rng), count(splits, "splits", at_least=1)
    groups = two_groups(positive, negative, paired=paired, at_least=2)
    noise = RELATIVE_NOISE * common_scale(*groups)
    halves = [_halves(len(group), splits, rng) for group in groups]
    if paired:
        halves[1] = halves[0]
    first, second = (
        (halves[0] == half) / (len(groups[0]) // 2) @ groups[0] - (halves[1] == half) / (len(groups[1]) // 2) @ groups[1] for half in (1, 2)
    )
    if max(np.abs(first).max(), np.abs(second).max()) <= noise:
        raise InputError("positive and negative do not differ in any half, so there is no direction; check that they are two groups")
    return SplitHalf(tuple(_cosines(first, second, noise).tolist()), len(groups[0]), len(groups[1]))


@dataclass(frozen=True)
class DirectionalAgreement:
    """Do problems differ in one direction? The cosine of each difference with the mean of all others.

    Attributes:
        cosines: one a problem, in the order given; 0 where a difference, or the mean of the others, is zero.
    """

    cosines: tuple[float, ...]

    @property
    def mean(self) -> float:
        """The mean cosine: 1 where all differences are parallel, about 0 where each has a direction of its own."""
        return float(np.mean(self.cosines))

    @property
    def share_against(self) -> float:
        """Share of problems whose difference points away from the others' mean."""
        return float(np.mean(np.asarray(self.cosines) < 0))

    def __str__(self) -> str:
        return f"mean cosine of {len(self.cosines)} differences with the others' mean {self.mean:.3g}; {self.share_against:.1%} point away from it"

    def _repr_html_(self) -> str:
        rows = {"mean cosine": f"{self.mean:.3g}", "pointing away": f"{self.share_against:.1%}", "n": len(self.cosines)}
        return html_table("Directional agreement", rows)


def directional_agreement(differences: ArrayLike) -> DirectionalAgreement:
    """Cosine of each problem's difference with the mean difference of all other problems.

    Leaving the problem out matters: in many dimensions any vector has a large cosine with a mean that it is part of.

    Args:
        differences: ``[problem, dimension]``, at least 2 rows: positive minus negative of one problem each.

    Raises:
        ValueError: fewer than 2 rows, NaN or infinite values, or differences that are all zero.

    Source:
        Tan et al. (2024), Analyzing the generalization and reliability of steering vectors, whose cosines with the mean
        are here left-one-out.

    Example:
        >>> directional_agreement([[1, 0], [1, 0], [0, 1]]).cosines
        (0.7071067811865475, 0.7071067811865475, 0.0)
    """
    rows = vectors(differences, "differences", at_least=2)
    noise = RELATIVE_NOISE * common_scale(rows)
    if np.abs(rows).max() <= noise:
        raise InputError("all differences are zero, so they have no direction; check that the two sets of prompts differ")
    return DirectionalAgreement(tuple(_cosines(rows, (rows.sum(0) - rows) / (len(rows) - 1), noise).tolist()))


def _halves(n: int, splits: int, rng: np.random.Generator) -> NDArray[np.int_]:
    """For each split, which half each row is in: 1, 2, or 0 for the odd one out."""
    labels = np.repeat([1, 2, 0], [n // 2, n // 2, n % 2])
    return rng.permuted(np.tile(labels, (splits, 1)), axis=1)


def _cosines(one: NDArray[np.float64], other: NDArray[np.float64], noise: float) -> NDArray[np.float64]:
    """Row by row; 0 where a row is zero."""
    lengths = [np.linalg.norm(rows, axis=1) for rows in (one, other)]
    real = (lengths[0] > noise) & (lengths[1] > noise)
    product = np.where(real, lengths[0] * lengths[1], 1.0)
    return np.asarray(np.clip(np.where(real, (one * other).sum(1) / product, 0.0), -1.0, 1.0))
