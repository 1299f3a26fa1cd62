"""Does the direction between two groups of vectors separate them on held-out problems, and is it stable?

Rows are problems; the vectors may be activations, embeddings or any features. Also: in how many dimensions they vary, and how many
rows are copies.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.spatial import KDTree
from scipy.stats import norm, rankdata

from steerlab._checks import RELATIVE_NOISE, InputError, check_rng, common_scale, count, open_share, reals, two_groups, vectors
from steerlab._html import OneLine
from steerlab.statistics.intervals import Interval, few_of


@dataclass(frozen=True)
class AUC(OneLine, title="Separability", shown="value interval positive negative by_fold"):
    """Area under the ROC curve: the probability that a positive scores above a negative, ties counted half.

    Attributes:
        value: 0 to 1; 0.5 is no separation.
        positive, negative: the scores; of a cross-validated AUC, each problem's when it was held out, which compare
            within a fold only.
        by_fold: the AUC within each fold; empty if nothing was held out.
    """

    value: float
    positive: tuple[float, ...]
    negative: tuple[float, ...]
    by_fold: tuple[float, ...] = ()

    def interval(self, confidence: float = 0.95) -> Interval:
        """Score interval with a width even where the groups do not overlap; it takes the problems as independent.

        For a cross-validated AUC of k folds, the standard error is sqrt(1 + k / (k - 1)) times as large, because folds share
        most of what their directions were fitted on; without that, an interval of 95% would hold the truth in four of five
        sets only.

        Raises:
            ValueError: a confidence outside (0, 1).

        Source:
            Newcombe (2006), Statistics in Medicine 25, 559-573, method 5; Nadeau and Bengio (2003), Machine Learning 52,
            239-281, for the correction.
        """
        z = float(norm.isf((1 - open_share(confidence, "confidence")) / 2))
        folds = len(self.by_fold)
        if folds:
            z *= float(np.sqrt(1 + folds / (folds - 1)))
        sizes = len(self.positive), len(self.negative)
        low, high = _lower_limit(self.value, *sizes, z), 1 - _lower_limit(1 - self.value, *sizes, z)
        few = few_of(
            min(sizes), "problems in the smaller group", 10
        )  # at 3 against 3 without a difference it misses 11%, at 10 against 10 5%
        return Interval(low, high, float(confidence), "Newcombe 5, widened for shared folds" if folds else "Newcombe 5", few)

    def __str__(self) -> str:
        held_out = f", {len(self.by_fold)} folds" if self.by_fold else ""
        return f"AUC {self.value:.4g}, {len(self.positive)} against {len(self.negative)}{held_out}; {self.interval()}"


def auc(positive: ArrayLike, negative: ArrayLike) -> AUC:
    """Area under the ROC curve: how often a positive score is above a negative one, ties counted half.

    Args:
        positive: scores of one group, at least one.
        negative: scores of the other.

    Raises:
        ValueError: an empty group, or NaN or infinite scores.

    Source:
        Bamber (1975), J. Math. Psychol. 12: it is Mann and Whitney's U over the number of pairs; ranks by SciPy.

    Example:
        >>> print(auc([3, 4, 5, 2], [1, 2, 3]))
        AUC 0.8333, 4 against 3; 95% interval 0.3853 to 0.9728 (Newcombe 5; approximate: only 3 problems in the smaller group)
    """
    ours, theirs = reals(positive, "positive", at_least=1), reals(negative, "negative", at_least=1)
    return AUC(_area(ours, theirs), tuple(ours.tolist()), tuple(theirs.tolist()))


def cross_validated_auc(positive: ArrayLike, negative: ArrayLike, *, rng: np.random.Generator, folds: int = 5, paired: bool = False) -> AUC:
    """AUC of the projection on the mean difference, with the direction fitted on other folds.

    In many dimensions the mean difference separates the very rows that it was computed from, whatever they are; held-out
    rows do not flatter it. Scores are compared within a fold only, because each fold has a direction of its own.

    Args:
        positive: ``[problem, dimension]``, at least `folds` rows.
        negative: likewise; as many dimensions.
        rng: draws the folds.
        folds: how many, at least 2.
        paired: row i of both is one problem, so that it must not be fitted on and tested at once.

    Returns:
        The folds' AUCs, weighted by the pairs that they compare; 0.5 on average where the groups do not differ.

    Raises:
        ValueError: fewer rows than folds, fewer than 2 folds, unequal dimensions, NaN or infinite values, or pairs that
            are none.
        TypeError: rng is no generator.

    Source:
        LeDell, Petersen and van der Laan (2015), Electron. J. Stat. 9, 1583-1607, for the average over folds.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> noise = rng.standard_normal((40, 100))
        >>> found = cross_validated_auc(noise[:20] + 0.3, noise[20:], rng=rng)
        >>> found.value > 0.9, len(found.by_fold)
        (True, 5)
    """
    rng, folds = check_rng(rng), count(folds, "folds", at_least=2)
    groups = two_groups(positive, negative, paired=paired, at_least=1)
    least = min(map(len, groups))
    if least < folds:
        raise InputError(f"folds={folds}: the smaller group has {least} rows; use 2 to {least} folds, or more problems")
    labels = [rng.permutation(np.arange(len(group)) % folds) for group in groups]
    if paired:
        labels[1] = labels[0]
    noise = RELATIVE_NOISE * max(float(np.linalg.norm(group, axis=1).max()) for group in groups)
    scores = [np.zeros(len(group)) for group in groups]
    areas, weights = [], []
    for fold in range(folds):
        held = [label == fold for label in labels]
        direction = groups[0][~held[0]].mean(0) - groups[1][~held[1]].mean(0)
        length = float(np.linalg.norm(direction)) or 1.0  # a zero direction scores all alike, which is an AUC of 0.5
        for score, group, out in zip(scores, groups, held, strict=True):
            score[out] = group[out] @ direction / length
        ours, theirs = _with_ties([score[out] for score, out in zip(scores, held, strict=True)], noise)
        areas.append(_area(ours, theirs))
        weights.append(len(ours) * len(theirs))
    return AUC(float(np.average(areas, weights=weights)), tuple(scores[0].tolist()), tuple(scores[1].tolist()), tuple(areas))


def _area(positive: NDArray[np.float64], negative: NDArray[np.float64]) -> float:
    ranks = rankdata(np.concatenate([positive, negative]))[: len(positive)]
    return float((ranks.sum() - len(positive) * (len(positive) + 1) / 2) / (len(positive) * len(negative)))


def _with_ties(scores: list[NDArray[np.float64]], noise: float) -> list[NDArray[np.float64]]:
    """The scores' ranks, equal where scores differ by no more than rounding."""
    together = np.concatenate(scores)
    order = np.argsort(together, kind="stable")
    steps = np.concatenate([[0], np.cumsum(np.diff(together[order]) > noise)])
    ranks = np.empty(len(together))
    ranks[order] = steps
    return np.split(ranks, [len(scores[0])])


def _lower_limit(value: float, n_positive: int, n_negative: int, z: float) -> float:
    """Where the value is z standard errors above the limit, the standard error being that at the limit."""
    half = (n_positive + n_negative) / 2 - 1

    def distance(theta: float) -> float:
        inflation = 1 + half * ((1 - theta) / (2 - theta) + theta / (1 + theta))
        return value - theta - z * float(np.sqrt(theta * (1 - theta) * inflation / (n_positive * n_negative)))

    # At 1 itself the standard error is 0, a root that says nothing.
    return float(brentq(distance, 0.0, min(value, 1 - 1e-12), xtol=1e-12)) if value > 0 else 0.0


@dataclass(frozen=True)
class SplitHalf(OneLine, title="Stability of the mean difference", shown="median reliability cosines n_positive n_negative"):
    """Cosines between directions from two random halves of the problems.

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

    def _facts(self) -> dict[str, Any]:
        low, high = self.quantiles()
        return super()._facts() | {"low": low, "high": high}


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
class DirectionalAgreement(OneLine, title="Directional agreement", shown="mean share_against cosines"):
    """The cosine of each problem's difference with the mean of all others.

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


FLAT = 16  # dimensions below which neighbours are found by a tree
ROWS = 512  # compared with all others at a time
SAME = 1e-3  # two rows are copies if their distance is below this share of the rows' root mean square distance from the mean


def effective_dimension(values: ArrayLike) -> float:
    """Participation ratio of the covariance S: trace(S)² / trace(S²), the number of dimensions that share the variance.

    Args:
        values: ``[problem, dimension]``, at least 2 rows.

    Returns:
        1 where all rows lie on a line, d where all d dimensions vary alike; never more than rows - 1, so with few rows
        it says how many dimensions were seen, not how many there are.

    Raises:
        ValueError: fewer than 2 rows, NaN or infinite values, or rows that do not vary.

    Source:
        Bretherton et al. (1999), J. Climate 12, 1990-2009 (effective number of degrees of freedom).

    Example:
        >>> effective_dimension([[1, 0], [-1, 0], [0, 1], [0, -1]])
        2.0
    """
    centred, square = _centred(vectors(values, "values", at_least=2))
    if square == 0:
        raise InputError(f"values: all {len(centred)} rows are equal, so they vary in no dimension")
    if centred.shape[1] < len(centred):
        return float(square**2 / np.square(centred.T @ centred).sum())
    return float(square**2 / sum(float(np.square(products).sum()) for _, products in _products(centred)))


def effective_size(values: ArrayLike) -> float:
    """The effective number of different rows: n² / sum of the squared numbers of copies.

    Repeated prompts, and templates that differ where the model does not look, add rows but no information.

    Args:
        values: ``[problem, dimension]``, at least 1 row. Rows count as copies when their distance is below 0.001 of the
            rows' root mean square distance from their mean.

    Returns:
        n where all rows differ, k where there are k different rows, each as often.

    Raises:
        ValueError: no rows, or NaN or infinite values.

    Source:
        Kish (1965), Survey Sampling: the effective size of a sample with unequal weights, here the numbers of copies.

    Example:
        >>> effective_size([[0, 1], [0, 1], [2, 3], [2, 3]]), effective_size([[0, 1], [4, 1], [2, 3]])
        (2.0, 3.0)
    """
    centred, square = _centred(vectors(values, "values", at_least=1))
    n = len(centred)
    if square == 0:
        return 1.0
    near = SAME**2 * square / n
    if centred.shape[1] < FLAT:
        tree = KDTree(centred)
        return float(n**2 / tree.count_neighbors(tree, math.sqrt(near)))
    lengths = np.square(centred).sum(1)
    copies = 0
    for rows, products in _products(centred):
        copies += int((lengths[rows, None] + lengths - 2 * products <= near).sum())
    return n**2 / copies


def _centred(rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Rows minus their mean, and the sum of their squares; zero where they differ by no more than rounding."""
    noise = RELATIVE_NOISE * common_scale(rows)
    centred = rows - rows.mean(0)
    return centred, float(np.square(centred).sum()) if np.abs(centred).max() > noise else 0.0


def _products(centred: NDArray[np.float64]) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Inner products of some rows with all rows, a few rows at a time."""
    for first in range(0, len(centred), ROWS):
        rows = slice(first, first + ROWS)
        yield rows, centred[rows] @ centred.T
