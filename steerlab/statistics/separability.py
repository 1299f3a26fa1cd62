"""Does the direction between two sets of vectors tell them apart on problems that it was not fitted on?

Rows are problems. Nothing here knows where the vectors come from: activations of a layer, embeddings, any features.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.stats import norm, rankdata

from steerlab._checks import RELATIVE_NOISE, InputError, check_rng, count, open_share, reals, two_groups
from steerlab._html import html_table
from steerlab.statistics.intervals import Interval


@dataclass(frozen=True)
class AUC:
    """How well a score tells two groups apart: the chance that a positive scores above a negative, ties counted half.

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
        return Interval(low, high, float(confidence), "Newcombe 5, widened for shared folds" if folds else "Newcombe 5")

    def __str__(self) -> str:
        held_out = f", {len(self.by_fold)} folds" if self.by_fold else ""
        return f"AUC {self.value:.4g}, {len(self.positive)} against {len(self.negative)}{held_out}; {self.interval()}"

    def _repr_html_(self) -> str:
        rows: dict[str, object] = {"AUC": f"{self.value:.4g}", "interval": self.interval()}
        rows |= {"positive": len(self.positive), "negative": len(self.negative)}
        rows |= {"by fold": ", ".join(f"{value:.3g}" for value in self.by_fold)} if self.by_fold else {}
        return html_table("Separability", rows)


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
        AUC 0.8333, 4 against 3; 95% interval 0.3853 to 0.9728 (Newcombe 5)
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
