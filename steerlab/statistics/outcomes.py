"""A direction among its controls, from outcomes alone: a frame of right and wrong answers, from any model or file."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import Protocol, runtime_checkable

import numpy as np
import pandas as pd

from steerlab._checks import Alternative, InputError, InputTypeError, outcomes, reals
from steerlab.statistics._student import TTest
from steerlab.statistics.against_controls import PredictionTest, RankTest, cohens_d, one_sample_t_test, prediction_test, rank_test
from steerlab.statistics.paired import SignTest, sign_test

MEASURES: Mapping[str, str] = {"accuracy": "change", "margin": "margin_change"}


@runtime_checkable
class Framed(Protocol):
    """A result around a frame, such as a steerlab Evaluation."""

    @property
    def frame(self) -> pd.DataFrame:
        """One line a problem."""


@dataclass(frozen=True, eq=False)
class ControlTests(ABC):
    """What can be asked of a direction and its controls once outcomes are known.

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
        if measure not in MEASURES:
            raise InputError(f"measure={measure!r}; use one of {', '.join(MEASURES)}")
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
        """Did the direction itself move answers? Exact sign test on the problems that changed sides."""
        return sign_test(*self.paired(), alternative=alternative)


@dataclass(frozen=True, eq=False)
class ControlOutcomes(ControlTests):
    """A direction and its controls, from given outcomes.

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

    def _repr_html_(self) -> str:
        return (
            f"<p>{escape(self.name)}, {self.n} controls ({escape(self.family)}), {len(self.baseline)} problems</p>"
            + self.rank_test()._repr_html_()
        )


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
