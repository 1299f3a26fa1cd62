"""Tests of one effect against the effects of control directions; the unit is the direction."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from steerlab._checks import (
    RELATIVE_NOISE,
    Alternative,
    InputError,
    InputTypeError,
    check_alternative,
    common_scale,
    finite,
    one_of,
    open_share,
    outcomes,
    reals,
)
from steerlab._html import OneLine, Plotted
from steerlab.statistics._format import format_p
from steerlab.statistics.intervals import Interval, t_interval
from steerlab.statistics.paired import SignTest, sign_test
from steerlab.statistics.t_tests import TTest, positive_p, student_t, t_tail


@dataclass(frozen=True)
class RankTest(
    OneLine, title="Rank test against controls", shown="observed n_controls exceeds rank pvalue smallest_p effect interval alternative"
):
    """A rank test of an observed effect among the effects of controls.

    Attributes:
        observed: the effect of the direction under test.
        controls: the effects of the control directions, the null draws, in the order given.
        n_controls: K, how many there are.
        exceeds: how many controls are at least as extreme as the observed effect; ties are among them.
        rank: 1 + exceeds; rank 1 of K + 1 is the most extreme.
        pvalue: rank / (K + 1).
        smallest_p: the least p that K controls can give: 1 / (K + 1), or 1 for a two-sided test against one control.
        alternative: "greater" asks whether the observed effect lies above the controls.
    """

    observed: float
    controls: tuple[float, ...]
    n_controls: int
    exceeds: int
    rank: int
    pvalue: float
    smallest_p: float
    alternative: Alternative

    @property
    def statistic(self) -> float:
        """What is ranked: the observed effect."""
        return self.observed

    @property
    def effect(self) -> float:
        """Observed effect minus the median of the controls, in their units."""
        return self.observed - float(np.median(self.controls))

    def interval(self, confidence: float = 0.95) -> Interval:
        """Where one more control would fall, whatever their distribution: between two of the controls.

        Without limits where the controls are too few: K of them hold one more with a chance of (K - 1) / (K + 1) at most.

        Raises:
            ValueError: a confidence outside (0, 1).
        """
        left_out = math.floor((1 - open_share(confidence, "confidence")) / 2 * (self.n_controls + 1) * (1 + RELATIVE_NOISE))
        ordered = sorted(self.controls)
        low, high = (ordered[left_out - 1], ordered[-left_out]) if left_out else (-math.inf, math.inf)
        return Interval(low, high, float(confidence), "order statistics of the controls" if left_out else "too few controls")

    @property
    def centre(self) -> float:
        """The median of all K + 1 effects, from which a two-sided test measures."""
        return float(np.median([*self.controls, self.observed]))

    @property
    def as_extreme(self) -> np.ndarray:
        """Which controls are at least as extreme as the observed effect, in their order."""
        return as_extreme(self.observed, np.array(self.controls), self.alternative)

    def __str__(self) -> str:
        return (
            f"observed {self.observed:.4g} ranks {self.rank} of {self.n_controls + 1}, {format_p(self.pvalue)} "
            f"({self.alternative} rank test, {self.n_controls} controls, smallest possible p {self.smallest_p:.4g})"
        )


def rank_test(observed: float, controls: ArrayLike, *, alternative: Alternative = "two-sided") -> RankTest:
    """Monte Carlo test: p = (1 + number of controls at least as extreme) / (K + 1).

    If the direction were one more draw from the controls, p would be at most t in at most a share t of experiments,
    whatever the distribution. That needs controls that are exchangeable with it under the null.

    Two-sided, extreme means far from the median of all K + 1 values, the observed one among them. The median of the
    controls alone would not do: it sits closer to the controls that made it than to the observed value, and the test
    would reject a true null too often (with 2 controls, p = 1/3 in two of three experiments).

    Args:
        observed: the effect of the direction under test.
        controls: effects of K >= 1 control directions, in the same units.
        alternative: "greater" asks whether observed lies above the controls, "less" below.

    Returns:
        The test. Ties count against us, and values within a relative 1e-12 are ties.

    Raises:
        ValueError: no controls, NaN or infinite values, or an unknown alternative.

    Source:
        Barnard (1963), J. R. Stat. Soc. B 25, 294; Phipson and Smyth (2010), Stat. Appl. Genet. Mol. Biol. 9, art. 39.

    Example:
        >>> print(rank_test(-11, [-1, -2, -5, -10, -11], alternative="less"))
        observed -11 ranks 2 of 6, p = 0.3333 (less rank test, 5 controls, smallest possible p 0.1667)
    """
    check_alternative(alternative)
    observed = finite(observed, "observed")
    draws = reals(controls, "controls", at_least=1)
    exceeds, k = int(as_extreme(observed, draws, alternative).sum()), draws.size
    return RankTest(
        observed=observed,
        controls=tuple(draws.tolist()),
        n_controls=k,
        exceeds=exceeds,
        rank=1 + exceeds,
        pvalue=(1 + exceeds) / (k + 1),
        smallest_p=1.0 if k == 1 and alternative == "two-sided" else 1 / (k + 1),
        alternative=alternative,
    )


def as_extreme(observed: float, draws: np.ndarray, alternative: Alternative) -> np.ndarray:
    """Which draws are at least as extreme as the observed value; values within a relative 1e-12 are ties."""
    noise = RELATIVE_NOISE * common_scale(np.append(draws, observed))
    if alternative == "greater":
        return np.asarray(draws >= observed - noise)
    if alternative == "less":
        return np.asarray(draws <= observed + noise)
    centre = np.median(np.append(draws, observed))
    return np.asarray(np.abs(draws - centre) >= abs(observed - centre) - noise)


@dataclass(frozen=True)
class PredictionTest(
    OneLine, title="Prediction test against controls", shown="observed controls mean sd statistic df pvalue interval cohens_d alternative"
):
    """A t-test of one observed effect as one more draw from the controls' normal distribution.

    Attributes:
        observed: the effect of the direction under test.
        controls: the effects of the control directions.
        statistic: t, signed like observed - mean.
        df: K - 1.
        pvalue: in (0, 1].
        mean, sd: of the controls, with K - 1 in the sd.
        alternative: "greater" asks whether the observed effect lies above the controls.
    """

    observed: float
    controls: tuple[float, ...]
    statistic: float
    df: int
    pvalue: float
    mean: float
    sd: float
    alternative: Alternative

    def interval(self, confidence: float = 0.95) -> Interval:
        """Where one more control would fall: the prediction interval.

        Raises:
            ValueError: a confidence outside (0, 1).
        """
        return t_interval(self.mean, self.sd * math.sqrt(1 + 1 / len(self.controls)), self.df, confidence, "prediction")

    @property
    def cohens_d(self) -> float:
        """(observed - mean) / sd of the controls; 0 if everything is equal."""
        return (self.observed - self.mean) / self.sd if self.sd else 0.0

    def __str__(self) -> str:
        return (
            f"t({self.df}) = {self.statistic:.3f}, {format_p(self.pvalue)} ({self.alternative} prediction test), "
            f"observed {self.observed:.4g} against {self.mean:.4g} (sd {self.sd:.4g}, {len(self.controls)} controls)"
        )


def prediction_test(observed: float, controls: ArrayLike, *, alternative: Alternative = "two-sided") -> PredictionTest:
    """t-test of one new observation against K controls: t = (observed - mean) / (sd * sqrt(1 + 1/K)) with K - 1 degrees of freedom.

    The parametric sibling of `rank_test`. It asks about one direction among many, as that does, and can give small p-values
    with few controls; it pays with the assumption that the controls' effects are normal.

    Args:
        observed: the effect of the direction under test.
        controls: effects of at least 2 control directions, in the same units.
        alternative: "greater" asks whether observed lies above the controls, "less" below.

    Returns:
        The test; p is 1 when observed and all controls are equal.

    Raises:
        ValueError: fewer than 2 controls, NaN or infinite values, an unknown alternative, or controls that are all equal
            and differ from observed.

    Source:
        Crawford and Howell (1998), The Clinical Neuropsychologist 12, 482-486; the t distribution is SciPy's.

    Example:
        >>> print(prediction_test(-11, [-1, -2, -5, -10, -11]))
        t(4) = -1.043, p = 0.3557 (two-sided prediction test), observed -11 against -5.8 (sd 4.55, 5 controls)
    """
    check_alternative(alternative)
    observed = finite(observed, "observed")
    draws = reals(controls, "controls", at_least=2)
    noise = RELATIVE_NOISE * common_scale(observed, draws)
    given, k, mean = tuple(draws.tolist()), draws.size, float(draws.mean())
    if np.ptp(draws) <= noise:
        if abs(observed - mean) <= noise:
            return PredictionTest(observed, given, 0.0, k - 1, 1.0, mean, 0.0, alternative)
        raise InputError(f"all {k} controls equal {draws[0]:.6g}: t needs controls that vary; use rank_test")
    sd = float(draws.std(ddof=1))
    t = (observed - mean) / (sd * math.sqrt(1 + 1 / k))
    return PredictionTest(observed, given, t, k - 1, positive_p(t_tail(t, k - 1, alternative)), mean, sd, alternative)


def one_sample_t_test(values: ArrayLike, popmean: float, *, alternative: Alternative = "two-sided") -> TTest:
    """One-sample t-test: does the mean of the control values differ from the observed one?

    Reported next to `rank_test`, not instead of it. It takes the observed value as known without error and asks about
    the mean of the controls, not about their spread, so with enough controls any direction that is not exactly
    average passes. It also assumes control values that are roughly normal, or many.

    Args:
        values: one value per control direction.
        popmean: the observed value, in the same units.
        alternative: "greater" asks whether the controls' mean lies above popmean, "less" below.

    Returns:
        The test; p is 1 when every value equals popmean. `interval` is that of the mean of the values.

    Raises:
        ValueError: fewer than 2 values, NaN or infinite values, an unknown alternative, or values that are all equal
            and differ from popmean.

    Source:
        Student (1908), Biometrika 6; computed by SciPy.

    Example:
        >>> print(one_sample_t_test([-1, -2, -5, -10, -11], -11))
        t(4) = 2.556, p = 0.0629 (two-sided), mean -5.8 against -11, d = 1.143, n = 5
    """
    check_alternative(alternative)
    popmean = finite(popmean, "popmean")
    draws = reals(values, "values", at_least=2)
    scale = common_scale(popmean, draws)
    return student_t(draws, popmean, alternative=alternative, scale=scale, what="values")


def cohens_d(observed: float, controls: ArrayLike) -> float:
    """Distance of the observed effect from the mean of the controls, in standard deviations of the controls.

    Args:
        observed: the effect of the direction under test.
        controls: effects of at least 2 control directions, in the same units.

    Returns:
        (observed - mean) / sd with n - 1 in the sd; negative when observed lies below the controls.

    Raises:
        ValueError: fewer than 2 controls, NaN or infinite values, or controls that do not vary.

    Source:
        Cohen (1988), Statistical Power Analysis for the Behavioral Sciences, with the controls' own sd (Glass's delta).

    Example:
        >>> round(cohens_d(-11, [-1, -2, -5, -10, -11]), 3)
        -1.143
    """
    observed = finite(observed, "observed")
    draws = reals(controls, "controls", at_least=2)
    if np.ptp(draws) <= RELATIVE_NOISE * common_scale(observed, draws):
        raise InputError(f"all {draws.size} controls equal {draws[0]:.6g}: their sd is 0, so Cohen's d is undefined")
    return float((observed - draws.mean()) / draws.std(ddof=1))


MEASURES: Mapping[str, str] = {"accuracy": "change", "margin": "margin_change"}


@runtime_checkable
class Framed(Protocol):
    """A result around a frame, such as a steerlab Evaluation."""

    @property
    def frame(self) -> pd.DataFrame:
        """One line a problem."""


@dataclass(frozen=True, eq=False)
class ControlTests(Plotted, ABC, figure="null_distribution"):
    """The tests of a direction against its controls, from known outcomes.

    Attributes:
        frame: one line a direction and problem, with direction, is_control, problem_id, correct and perhaps margin.
    """

    frame: pd.DataFrame

    @abstractmethod
    def unsteered(self) -> pd.DataFrame:
        """The outcomes without steering, one line a problem."""

    def changes(self) -> pd.DataFrame:
        """One line a direction: direction, is_control, accuracy, correct, n, change (of accuracy), margin_change (mean, where margins are known)."""
        return self._changes.copy()

    @cached_property
    def _changes(self) -> pd.DataFrame:
        before, grouped = self.unsteered(), self.frame.groupby(["direction", "is_control"], sort=False)
        table = grouped.agg(accuracy=("correct", "mean"), correct=("correct", "sum"), n=("correct", "size")).reset_index()
        table["change"] = table["accuracy"] - float(before["correct"].mean())
        if "margin" in self.frame:
            table["margin_change"] = grouped["margin"].mean().to_numpy() - float(before["margin"].mean())
        return table

    def effect(self, measure: str = "accuracy") -> tuple[float, np.ndarray]:
        """The direction's effect and its controls' effects.

        Args:
            measure: "accuracy" (change in the share of right answers) or "margin" (change in the mean margin).

        Raises:
            ValueError: an unknown measure, or margins that are not known.
        """
        one_of(measure, "measure", MEASURES)
        if MEASURES[measure] not in self._changes:
            raise InputError(f"measure={measure!r}: the frames have no column {measure}; add it to both, or use accuracy")
        column = self._changes[MEASURES[measure]]
        controls = self._changes["is_control"].astype(bool)
        return float(column[~controls].iloc[0]), column[controls].to_numpy(float)

    def rank_test(self, *, measure: str = "accuracy", alternative: Alternative = "two-sided") -> RankTest:
        """Is the direction's effect extreme among its controls? The unit is the direction; ties count against it."""
        return rank_test(*self.effect(measure), alternative=alternative)

    def t_test(self, *, measure: str = "accuracy", alternative: Alternative = "two-sided") -> TTest:
        """The sources' test: are the controls' effects, on average, other than the direction's?

        It treats the direction's effect as known without error and asks about the controls' mean, not about one
        direction among many; it is reported beside the rank test, not instead of it.
        """
        observed, controls = self.effect(measure)
        return one_sample_t_test(controls, observed, alternative=alternative)

    def cohens_d(self, *, measure: str = "accuracy") -> float:
        """Distance of the direction's effect from the controls' mean, in the controls' standard deviations."""
        return cohens_d(*self.effect(measure))

    def prediction_test(self, *, measure: str = "accuracy", alternative: Alternative = "two-sided") -> PredictionTest:
        """Would one more control go as far, if their effects are normal?"""
        return prediction_test(*self.effect(measure), alternative=alternative)

    def paired(self, measure: str = "accuracy") -> tuple[np.ndarray, np.ndarray]:
        """Each problem without and with the direction, in one order: right or wrong, or margins.

        Args:
            measure: "accuracy" or "margin".

        Raises:
            ValueError: an unknown measure, or margins that are not known.
        """
        self.effect(measure)
        column, kind = ("correct", bool) if measure == "accuracy" else ("margin", float)
        mine = self.frame[~self.frame["is_control"].astype(bool)].set_index("problem_id")[column]
        before = self.unsteered().set_index("problem_id")[column]
        return before.to_numpy(kind), mine.loc[before.index].to_numpy(kind)

    def sign_test(self, *, alternative: Alternative = "two-sided") -> SignTest:
        """Did the direction itself move answers? Exact sign test on the problems that became right or wrong."""
        return sign_test(*self.paired(), alternative=alternative)

    def summary(self) -> pd.DataFrame:
        """The rank test of each measure that is known, a line each: measure, and what `RankTest` sums up."""
        known = [measure for measure, column in MEASURES.items() if column in self._changes]
        tables = [self.rank_test(measure=measure).summary() for measure in known]
        return pd.concat(tables, ignore_index=True).pipe(lambda table: table.assign(measure=known)[["measure", *table.columns]])


@dataclass(frozen=True, eq=False)
class ControlOutcomes(ControlTests):
    """A direction and its controls, from given outcomes of problems.

    Attributes:
        frame: one line a direction and problem: direction, is_control, problem_id, correct, perhaps margin, and whatever came along.
        baseline: the unsteered outcomes, one line a problem.
        layer, alpha: where the direction acted and how much of it, if that was said.
        family: how controls were drawn, if that was said.
    """

    baseline: pd.DataFrame
    layer: int | None = None
    alpha: float | None = None
    family: str = "given"

    def unsteered(self) -> pd.DataFrame:
        """The outcomes without steering, one line a problem."""
        return self.baseline

    @property
    def n(self) -> int:
        """Number of controls."""
        return int(self._changes["is_control"].sum())

    @property
    def name(self) -> str:
        """The direction under test."""
        return str(self.frame.loc[~self.frame["is_control"], "direction"].iloc[0])

    def __str__(self) -> str:
        return f"{self.name} among {self.n} controls ({self.family}), {len(self.baseline)} problems: {self.rank_test()}"


def controls_from_frame(
    baseline: pd.DataFrame | Framed,
    frame: pd.DataFrame,
    *,
    layer: int | None = None,
    alpha: float | None = None,
    family: str = "given",
) -> ControlOutcomes:
    """The tests of a direction against controls, from outcomes that are known already; no model is needed.

    Args:
        baseline: unsteered outcomes: problem_id, correct and perhaps margin; a frame, or a result that has one.
        frame: steered outcomes, one line a direction and problem: direction, is_control, problem_id, correct, and
            margin if the baseline has it. One direction is under test, all others are controls.
        layer, alpha, family: where the directions acted, how much of them, and how controls were drawn; for figures.

    Raises:
        TypeError: something that is no frame.
        ValueError: missing columns, values that are no outcomes, a problem that is missing, unknown or there twice, no
            controls, or not exactly one direction under test.

    Example:
        >>> baseline = pd.DataFrame({"problem_id": ["a", "b", "c"], "correct": [True, True, False]})
        >>> outcomes = {"mine": [False, False, False], "one": [True, True, False], "two": [True, False, False]}
        >>> lines = [(name, name != "mine", *line) for name, right in outcomes.items() for line in zip("abc", right)]
        >>> frame = pd.DataFrame(lines, columns=["direction", "is_control", "problem_id", "correct"])
        >>> print(controls_from_frame(baseline, frame).rank_test(alternative="less"))
        observed -0.6667 ranks 1 of 3, p = 0.3333 (less rank test, 2 controls, smallest possible p 0.3333)
    """
    before = _outcomes(baseline if isinstance(baseline, pd.DataFrame) else getattr(baseline, "frame", baseline), "baseline", ["problem_id"])
    after = _outcomes(frame, "frame", ["direction", "problem_id"], "is_control")
    if ("margin" in before) != ("margin" in after):
        one, other = ("baseline", "frame") if "margin" in before else ("frame", "baseline")
        raise InputError(f"{one} has a column margin and {other} has none; give it in both, or drop it")
    labels = after[["direction", "is_control"]].drop_duplicates()
    both = labels.loc[labels["direction"].duplicated(), "direction"]
    if len(both):
        raise InputError(f"frame: direction {both.iloc[0]!r} is both under test and a control; give each line of it one is_control")
    tested = labels.loc[~labels["is_control"], "direction"].tolist()
    if len(tested) != 1:
        raise InputError(f"frame: {len(tested)} directions under test (is_control False); give exactly one, and test several one by one")
    if len(labels) < 2:
        raise InputError("frame: no controls (is_control True); without any there is nothing to compare with")
    wanted = pd.Index(before["problem_id"])
    for name, ids in after.groupby("direction", sort=False)["problem_id"]:
        for found, said in ((wanted.difference(ids), "lacks"), (pd.Index(ids).difference(wanted), "has, and the baseline lacks,")):
            if len(found):
                raise InputError(
                    f"frame: direction {name!r} {said} problem {_plain(found[0])!r}; every direction needs the baseline's problems"
                )
    return ControlOutcomes(after, before, layer, alpha, family)


def _outcomes(frame: object, name: str, keys: list[str], *more: str) -> pd.DataFrame:
    """A copy whose columns are checked, with booleans where they are meant."""
    if not isinstance(frame, pd.DataFrame):
        raise InputTypeError(f"{name}: a {type(frame).__name__}; give a pandas DataFrame with {', '.join([*keys, *more, 'correct'])}")
    missing = [column for column in [*keys, *more, "correct"] if column not in frame]
    if missing:
        raise InputError(f"{name}: no column {', '.join(missing)}; it has {', '.join(map(str, frame.columns))}")
    if frame[keys].isna().to_numpy().any():
        raise InputError(f"{name}: a line has no {' or no '.join(keys)}; drop or repair it")
    twice = frame.loc[frame.duplicated(keys), keys]
    if len(twice):
        where = ", ".join(f"{key} {_plain(value)!r}" for key, value in twice.iloc[0].items())
        raise InputError(f"{name}: {where} is there more than once; one line each is needed")
    checked = frame.reset_index(drop=True)
    flags = {column: outcomes(checked[column], f"{name}[{column!r}]") for column in [*more, "correct"]}
    numbers = {"margin": reals(checked["margin"], f"{name}['margin']", at_least=1)} if "margin" in checked else {}
    return checked.assign(**flags, **numbers)


def _plain(value: object) -> object:
    """A NumPy number as the number that it is, for messages."""
    return value.item() if isinstance(value, np.generic) else value
