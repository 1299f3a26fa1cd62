"""What a comparison of methods says: a table of methods, a table of pairs, and sentences that follow from both."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property
from html import escape
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from steerlab import method_words
from steerlab._checks import InputError
from steerlab.directions.direction import Direction
from steerlab.method_words import LEVEL
from steerlab.statistics.against_controls import rank_test
from steerlab.statistics.corrections import holm
from steerlab.statistics.paired import sign_test
from steerlab.tasks.evaluation import Evaluation


@dataclass(frozen=True, eq=False)
class MethodComparison:
    """Methods on one test split.

    Attributes:
        baseline: the unsteered evaluation of the test problems.
        chosen: one line a matching and method: the look that was chosen on validation.
        outcomes: one line a matching, method and test problem: prediction, correct, margin, nll.
        controls: one line a matching, method and random control: norm, kl, reached, accuracy and mean margin on test.
        doses: one line a matching, method and level, at the chosen layer and sign, on test: alpha, norm, kl, reached, accuracy, chosen.
        looks: every look on validation.
        vectors: what was added for each matching and method, as directions at alpha = 1.
        notes: for each method, where its vectors come from.
        missing: methods that were left out, with the reason.
        settings: sizes, levels and options.
    """

    baseline: Evaluation
    chosen: pd.DataFrame
    outcomes: pd.DataFrame
    controls: pd.DataFrame
    doses: pd.DataFrame
    looks: pd.DataFrame
    vectors: Mapping[str, Direction]
    notes: Mapping[str, str]
    missing: Mapping[str, str]
    settings: Mapping[str, Any]

    @property
    def frame(self) -> pd.DataFrame:
        """One line a method and matching; the unsteered model first, then what is not matched.

        Columns: matching ("norm", "kl", "own" or "none"); method; layers; alpha, on the vector as it was found; norm of all that is added; kl
        (nats a token); looks on validation and the change of accuracy there; n, accuracy, change from the baseline on test with low and high
        (95%, paired), became_right and became_wrong; p of the sign test and p_holm over all lines; controls, their mean change, p_controls of
        the rank test (p_margin: of the mean margin) and p_controls_holm over the methods of the matching.
        """
        return self._frame.copy()

    @cached_property
    def _frame(self) -> pd.DataFrame:
        lines = [self._line(row) for row in self.chosen.to_dict("records")]
        first = {"matching": "none", "method": "baseline", "alpha": 0.0, "norm": 0.0, "kl": 0.0, "looks": 0, "validation_change": 0.0}
        first |= {"n": self.baseline.n, "accuracy": self.baseline.accuracy, "change": 0.0, "controls": 0}
        table = pd.DataFrame([first, *sorted(lines, key=lambda line: line["matching"] != "none")], columns=COLUMNS)
        known = table["p"].notna()
        table.loc[known, "p_holm"] = holm(table.loc[known, "p"].to_numpy(float)) if known.any() else np.nan
        for _, part in table[table["p_controls"].notna()].groupby("matching"):
            table.loc[part.index, "p_controls_holm"] = holm(part["p_controls"].to_numpy(float))
        return table

    def _line(self, row: dict[Hashable, Any]) -> dict[str, Any]:
        mine = self._correct(row["matching"], row["method"])
        before = self.baseline.frame
        test = sign_test(before["correct"].to_numpy(bool), mine)
        interval = test.interval()
        line = {str(key): value for key, value in row.items() if key in COLUMNS} | {
            "n": test.n,
            "accuracy": float(mine.mean()),
            "change": test.change,
            "low": interval.low,
            "high": interval.high,
            "became_right": test.became_right,
            "became_wrong": test.became_wrong,
            "p": test.p_value,
            "controls": 0,
        }
        if row["matching"] == "none":
            return line
        controls = self.controls[(self.controls["matching"] == row["matching"]) & (self.controls["method"] == row["method"])]
        effects = controls["accuracy"].to_numpy(float) - self.baseline.accuracy
        line |= {"controls": len(controls), "controls_change": float(effects.mean())}
        line["p_controls"] = rank_test(test.change, effects).p_value
        margins, margin = controls["margin"].to_numpy(float), float(self._outcomes(row["matching"], row["method"])["margin"].mean())
        if np.isfinite([*margins, margin]).all():
            line["p_margin"] = rank_test(margin, margins).p_value
        return line

    def _outcomes(self, matching: str, method: str) -> pd.DataFrame:
        rows = self.outcomes[(self.outcomes["matching"] == matching) & (self.outcomes["method"] == method)]
        return rows.set_index("problem_id").loc[self.baseline.frame["problem_id"]]

    def _correct(self, matching: str, method: str) -> np.ndarray:
        found: np.ndarray = self._outcomes(matching, method)["correct"].to_numpy(bool)
        return found

    @property
    def pairs(self) -> pd.DataFrame:
        """Which differences are real: one line a matching and pair of methods, on the same test problems.

        Columns: matching, method, other, difference (accuracy of method minus that of other), low and high (95%, paired), only_method and
        only_other (problems that only one of them answers rightly), p of the sign test, and p_holm over all lines.
        """
        return self._pairs.copy()

    @cached_property
    def _pairs(self) -> pd.DataFrame:
        lines = []
        for matching in [m for m in dict.fromkeys(self.chosen.get("matching", [])) if m != "none"]:
            names = [(row["matching"], row["method"]) for row in self.chosen.to_dict("records") if row["matching"] in (matching, "none")]
            for one, other in combinations(names, 2):
                test = sign_test(self._correct(*other), self._correct(*one))
                interval = test.interval()
                lines.append(
                    (
                        matching,
                        one[1],
                        other[1],
                        test.change,
                        interval.low,
                        interval.high,
                        test.became_right,
                        test.became_wrong,
                        test.p_value,
                    )
                )
        columns = ["matching", "method", "other", "difference", "low", "high", "only_method", "only_other", "p"]
        table = pd.DataFrame(lines, columns=columns)
        return table.assign(p_holm=holm(table["p"].to_numpy(float)) if lines else np.array([]))

    def effects(self) -> pd.DataFrame:
        """What `steerlab.plots.forest` draws: name, change, low, high, n, p."""
        table = self._frame[self._frame["method"] != "baseline"]
        names = [m if k == "none" else f"{m}, {k}" for k, m in zip(table["matching"], table["method"], strict=True)]
        return table.assign(name=names)[["name", "change", "low", "high", "n", "p"]].reset_index(drop=True)

    def against_kl(self) -> tuple[str, pd.DataFrame, pd.DataFrame]:
        """A matching, and what `steerlab.plots.effect_against_kl` draws of it: doses and controls with their change of accuracy.

        Raises:
            ValueError: nothing was steered.
        """
        if self.doses.empty:
            raise InputError("no method added a vector; there is nothing to draw")
        matching = "kl" if "kl" in set(self.doses["matching"]) else str(self.doses["matching"].iloc[0])
        parts = (one[one["matching"] == matching] for one in (self.doses, self.controls))
        doses, controls = (part.assign(change=part["accuracy"] - self.baseline.accuracy) for part in parts)
        return matching, doses, controls

    def summary(self) -> str:
        """What was found, in a paragraph."""
        return method_words.summary(self)

    def method(self) -> list[str]:
        """How the numbers came about, in paragraphs."""
        return method_words.method(self)

    def warnings(self) -> list[str]:
        """What a reader must know."""
        return method_words.cautions(self)

    def __repr__(self) -> str:
        steered = self._frame[self._frame["controls"] > 0]
        return (
            f"MethodComparison({steered['method'].nunique()} methods, {len(self._frame) - 1} lines, {self.baseline.n} test problems, "
            f"{int((self._pairs['p_holm'] < LEVEL).sum())} of {len(self._pairs)} differences hold)"
        )

    def _repr_html_(self) -> str:
        return f"<p>{escape(repr(self))}</p>" + self._frame.to_html(index=False, float_format="{:.4g}".format, escape=True)


COLUMNS = [
    "matching",
    "method",
    "layers",
    "alpha",
    "norm",
    "kl",
    "looks",
    "validation_change",
    "n",
    "accuracy",
    "change",
    "low",
    "high",
    "became_right",
    "became_wrong",
    "p",
    "p_holm",
    "controls",
    "controls_change",
    "p_controls",
    "p_controls_holm",
    "p_margin",
]
