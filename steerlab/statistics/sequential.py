"""One effect against whole pipelines, drawn one after the other until the answer is clear; the unit is the pipeline."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from steerlab._checks import InputError, are_outcomes, check_pairs, count, finite, one_of, outcomes, reals
from steerlab._html import OneLine
from steerlab.statistics._format import format_p
from steerlab.statistics.controls import as_extreme

OneSided = Literal["greater", "less"]


def studentised_change(before: ArrayLike, after: ArrayLike, *, groups: ArrayLike | None = None) -> float:
    """Net change over the root of the sum of squared changes of the groups: net / sqrt(discordant) for answers, each its own group.

    A direction that changes many answers, up and down alike, has a large spread of net changes by chance alone; divided by the
    root of what changed, its spread is 1 like that of a direction that changes few.

    Args:
        before, after: the same problems, in the same order: right or wrong, or real values.
        groups: a label a problem; problems of one label change together. Default each its own.

    Returns:
        The studentised change; 0 where nothing changed.

    Raises:
        ValueError: unequal lengths, no pairs, NaN or infinite values, or labels that are not one a pair.

    Source:
        The square root of McNemar's (1947) statistic, with its sign; by groups as in Donner and Klar (2000), Design and Analysis of
        Cluster Randomization Trials.

    Example:
        >>> studentised_change([0, 0, 0, 0, 1, 1], [1, 1, 1, 1, 1, 1])
        2.0
        >>> round(studentised_change([0, 0, 0, 0, 1, 1], [1, 1, 1, 1, 1, 1], groups=[0, 0, 1, 1, 2, 2]), 3)
        1.414
    """
    check_pairs(before, after)
    if are_outcomes(before, after):
        change = outcomes(after, "after").astype(float) - outcomes(before, "before").astype(float)
    else:
        change = reals(after, "after", at_least=1) - reals(before, "before", at_least=1)
    return float(studentised(change, groups))


def studentised(changes: NDArray[np.float64], groups: ArrayLike | None = None) -> NDArray[np.float64]:
    """Studentised sums of changes along the last axis, that of the problems; 0 where nothing changed."""
    if groups is not None:
        labels = np.asarray(groups).ravel()
        if labels.size != changes.shape[-1]:
            raise InputError(f"groups: {labels.size} labels for {changes.shape[-1]} problems; give one a problem")
        _, of = np.unique(labels, return_inverse=True)
        order = np.argsort(of.ravel(), kind="stable")
        starts = np.flatnonzero(np.diff(of.ravel()[order], prepend=-1))
        changes = np.add.reduceat(changes[..., order], starts, axis=-1)
    size = np.sqrt(np.square(changes).sum(-1))
    return np.asarray(changes.sum(-1) / np.where(size > 0, size, 1.0))


@dataclass(frozen=True)
class SequentialTest(
    OneLine, title="Rank test against pipelines", shown="observed n_controls planned exceeds pvalue smallest_p stopped alternative"
):
    """A rank test whose controls were drawn one after the other, until enough of them were at least as extreme.

    Attributes:
        observed: the effect under test.
        controls: the effects of the controls that count, in the order drawn.
        planned: how many would have been drawn at most.
        stop_after: so many controls at least as extreme end it.
        exceeds: how many controls are at least as extreme; ties are among them.
        pvalue: exceeds / drawn if it was stopped, else (1 + exceeds) / (planned + 1).
        alternative: "greater" or "less".
    """

    observed: float
    controls: tuple[float, ...]
    planned: int
    stop_after: int | None
    exceeds: int
    pvalue: float
    alternative: OneSided

    @property
    def as_extreme(self) -> NDArray[np.bool_]:
        """Which controls are at least as extreme, in their order."""
        return as_extreme(self.observed, np.array(self.controls), self.alternative)

    @property
    def n_controls(self) -> int:
        """How many were drawn."""
        return len(self.controls)

    @property
    def stopped(self) -> bool:
        """Whether it ended because enough controls were at least as extreme."""
        return self.stop_after is not None and self.exceeds >= self.stop_after

    @property
    def smallest_p(self) -> float:
        """The least p that it could have given."""
        return 1 / (self.planned + 1)

    @property
    def needed(self) -> float:
        """The effect that would have been beyond all controls that were drawn."""
        return max(self.controls) if self.alternative == "greater" else min(self.controls)

    def __str__(self) -> str:
        early = f", stopped after {self.n_controls} of {self.planned}" if self.stopped and self.n_controls < self.planned else ""
        return (
            f"{self.exceeds} of {self.n_controls} controls are at least as extreme as {self.observed:.4g}, {format_p(self.pvalue)} "
            f"({self.alternative} rank test{early})"
        )


def sequential_test(
    observed: float, controls: ArrayLike, *, planned: int, stop_after: int | None = 10, alternative: OneSided = "greater"
) -> SequentialTest:
    """Monte Carlo test with early stopping: is the observed effect extreme among controls that are drawn until the answer is clear?

    Under the null that it is one more draw of the controls, p is at most t in at most a share t of experiments, whether drawing was
    stopped or not. Controls beyond the stop are left out, so that drawing them in portions changes nothing.

    Args:
        observed: the effect under test.
        controls: effects of controls in the order drawn: `planned` of them, or enough for a stop.
        planned: how many are drawn at most; the smallest p-value is 1 / (planned + 1).
        stop_after: stop as soon as so many controls are at least as extreme; None never stops.
        alternative: "greater" asks whether observed lies above the controls, "less" below.

    Raises:
        ValueError: too few controls, NaN or infinite values, or an unknown alternative.

    Source:
        Besag and Clifford (1991), Sequential Monte Carlo p-values, Biometrika 78, 301-304.

    Example:
        >>> print(sequential_test(1.5, [2, 0, 3, 1, 2, 9], planned=99, stop_after=3))
        3 of 5 controls are at least as extreme as 1.5, p = 0.6000 (greater rank test, stopped after 5 of 99)
    """
    one_of(alternative, "alternative", ("greater", "less"))
    observed, draws = finite(observed, "observed"), reals(controls, "controls", at_least=1)[: count(planned, "planned", at_least=1)]
    if stop_after is not None:
        stop_after = count(stop_after, "stop_after", at_least=1)
    found = np.flatnonzero(as_extreme(observed, draws, alternative))
    stopped = stop_after is not None and len(found) >= stop_after
    if stopped and stop_after is not None:
        draws = draws[: found[stop_after - 1] + 1]
    elif len(draws) < planned:
        raise InputError(
            f"controls: {len(draws)} of {planned} planned, {len(found)} of them at least as extreme; draw on, up to {planned}"
            f"{'' if stop_after is None else f' or until {stop_after} are'}"
        )
    exceeds = int(stop_after or 0) if stopped else len(found)
    p = exceeds / len(draws) if stopped else (1 + exceeds) / (planned + 1)
    return SequentialTest(observed, tuple(draws.tolist()), planned, stop_after, exceeds, p, alternative)
