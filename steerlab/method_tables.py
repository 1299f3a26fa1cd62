"""What a comparison of methods says: a table of methods, a table of pairs, and sentences that follow from both."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property
from html import escape
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from steerlab.directions import Direction
from steerlab.statistics import format_p, holm, rank_test, sign_test, smallest_detectable_change
from steerlab.tasks import Evaluation

LEVEL = 0.05
MOST_SHOWN = 5  # differences that the summary names
SAID = {"norm": "at equal norm", "kl": "at equal KL", "own": "each at its own norm", "none": "without steering"}


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
            raise ValueError("no method added a vector; there is nothing to draw")
        matching = "kl" if "kl" in set(self.doses["matching"]) else str(self.doses["matching"].iloc[0])
        parts = (one[one["matching"] == matching] for one in (self.doses, self.controls))
        doses, controls = (part.assign(change=part["accuracy"] - self.baseline.accuracy) for part in parts)
        return matching, doses, controls

    def summary(self) -> str:
        """What was found, in a paragraph."""
        base, table = self.baseline, self._frame[self._frame["method"] != "baseline"]
        interval = base.interval()
        said = [
            f"Unsteered, {100 * base.accuracy:.1f}% of {base.n} test problems are answered rightly (95% interval {100 * interval.low:.1f}% to "
            f"{100 * interval.high:.1f}%)."
        ]
        changed = table[table["p_holm"] < LEVEL]
        said.append(
            f"{len(changed)} of {len(table)} lines of the table differ from that after Holm's correction over all of them"
            + (f": {'; '.join(_shown(row) for row in changed.to_dict('records'))}." if len(changed) else ".")
        )
        steered = table[table["controls"] > 0]
        for matching, part in steered.groupby("matching", sort=False):
            special = part[part["p_controls_holm"] < LEVEL]
            names = ", ".join(f"{row['method']} ({format_p(row['p_controls_holm'], digits=2)})" for row in special.to_dict("records"))
            at = f"norm {part['norm'].iloc[0]:.3g}" if matching == "norm" else f"KL {part['kl'].median():.3g} nats a token"
            where = SAID[str(matching)] + ("" if matching == "own" else f" ({at})")
            said.append(
                f"{_begun(where)}, {len(special)} of {len(part)} methods do to accuracy what random vectors at the same place and level do not, "
                f"after Holm's correction over these methods{f': {names}' if names else ''}."
            )
        real = self._pairs[self._pairs["p_holm"] < LEVEL]
        shown = "; ".join(
            f"{row['method']} over {row['other']} {SAID[row['matching']]} by {100 * row['difference']:+.1f} points "
            f"({100 * row['low']:+.1f} to {100 * row['high']:+.1f})"
            for row in real.sort_values("p", kind="stable").head(MOST_SHOWN).to_dict("records")
        )
        more = f"; and {len(real) - MOST_SHOWN} more" if len(real) > MOST_SHOWN else ""
        said.append(
            f"Of {len(self._pairs)} differences between two methods, {len(real)} hold after Holm's correction over all of them{f': {shown}{more}' if shown else ''}."
        )
        if len(prompted := real[(real[["method", "other"]] == "prompt").any(axis=1)]):
            said.append(
                f"{len(prompted)} of those are between steering and asking otherwise, {len(real) - len(prompted)} between two ways to steer."
            )
        return " ".join([*said, *self._null()])

    def _null(self) -> list[str]:
        """What differences this many problems could not have shown."""
        quiet = self._pairs[self._pairs["p_holm"] >= LEVEL]
        if quiet.empty:
            return []
        share = float(((quiet["only_method"] + quiet["only_other"]) / self.baseline.n).median())
        smallest = smallest_detectable_change(self.baseline.n, discordant=share) if share > 0 else None
        if smallest is None:
            return [
                f"The other pairs disagree on {100 * share:.1f}% of {self.baseline.n} problems (the median of them): too few for a difference of any size to be "
                "found with 80% power."
            ]
        return [
            f"For the others nothing is shown either way: a pair that disagrees on {100 * share:.0f}% of {self.baseline.n} problems (the median of them) must differ by "
            f"{100 * smallest:.1f} points to be found with 80% power, uncorrected."
        ]

    def method(self) -> list[str]:
        """How the numbers came about, in paragraphs."""
        looked = self._frame[self._frame["controls"] > 0]
        sizes = self.settings
        return [
            f"Every method found its vectors on the same {sizes['n_train']} train problems: "
            + "; ".join(f"{name}: {about}" for name, about in self.notes.items())
            + ".",
            f"On {sizes['n_validation']} validation problems each method that adds a vector was looked at {_counts(looked)} times: every candidate layer, "
            "every level, both signs. Learned vectors trained for a fixed number of epochs and did not look there in training. The level is common to all "
            "methods of a matching: the one with the highest mean of the methods' best accuracies. The prompt had as many looks as it has wordings.",
            f"On {sizes['n_test']} test problems the chosen looks were scored once. The other levels were scored there, too, for the figure; nothing was "
            "chosen by them. Norm is that of all that is added, over all layers where it acts. KL is that of next-token distributions, unsteered against "
            f"steered, on {sizes['texts']}. Controls are random vectors at the same layers (and in the same proportions), of the same norm or KL; methods "
            "that chose the same place share them, so their p-values hang together, which Holm's correction allows.",
        ]

    def warnings(self) -> list[str]:
        """What a reader must know."""
        said = [f"{name} was left out: {why}." for name, why in self.missing.items()]
        said += [f"{name}: {about}." for name, about in self.notes.items() if "cannot read" in about]
        steered = self._frame[self._frame["controls"] > 0]
        for matching, part in steered.groupby("matching", sort=False):
            least = len(part) / (int(part["controls"].min()) + 1)
            if least >= LEVEL:
                said.append(
                    f"With {part['controls'].min()} controls and {len(part)} methods {SAID[str(matching)]} the corrected p of a rank test cannot fall below "
                    f"{least:.2g}; use at least {int(len(part) / LEVEL)} controls."
                )
        for name, table in (("looks on validation", self.looks), ("test cells", self.doses), ("controls", self.controls)):
            if "reached" in table and len(missed := table[table["reached"].eq(other=False)]):
                said.append(
                    f"{len(missed)} of {len(table)} {name} do not reach the KL of their level within 1% at any length tried and act at the nearest "
                    "found."
                )
        levels = self.settings.get("levels", {})
        for matching in steered.loc[steered["matching"] != "own", "matching"].unique():
            level = self.chosen.loc[self.chosen["matching"] == matching, "level"].iloc[0]
            if len(levels[matching]) > 1 and level in (min(levels[matching]), max(levels[matching])):
                end = "lowest" if level == min(levels[matching]) else "highest"
                said.append(
                    f"{_begun(SAID[str(matching)])}, validation chose the {end} of the levels tried, {level:g}; a better one may lie beyond."
                )
        return said

    def __repr__(self) -> str:
        steered = self._frame[self._frame["controls"] > 0]
        return (
            f"MethodComparison({steered['method'].nunique()} methods, {len(self._frame) - 1} lines, {self.baseline.n} test problems, "
            f"{int((self._pairs['p_holm'] < LEVEL).sum())} of {len(self._pairs)} differences hold)"
        )

    def _repr_html_(self) -> str:
        return f"<p>{escape(repr(self))}</p>" + self._frame.to_html(index=False, float_format="{:.4g}".format, escape=True)


def _counts(lines: pd.DataFrame) -> str:
    """Numbers of looks by matching, in words."""
    parts = [
        f"{'/'.join(str(int(n)) for n in sorted(part['looks'].unique()))} ({SAID[str(matching)]})"
        for matching, part in lines.groupby("matching", sort=False)
    ]
    return " and ".join(parts) or "0"


def _begun(text: str) -> str:
    """A sentence's beginning; the rest keeps its capitals."""
    return text[:1].upper() + text[1:]


def _shown(row: dict[Hashable, Any]) -> str:
    return (
        f"{row['method']} {SAID[row['matching']]} {100 * row['change']:+.1f} points ({100 * row['low']:+.1f} to {100 * row['high']:+.1f})"
    )


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
