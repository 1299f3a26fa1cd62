"""Turn an experiment into words, tables and figures: what was found, and how sure we may be."""

from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from steerlab import plots
from steerlab.controls import ControlResult
from steerlab.experiments import Experiment
from steerlab.questions import Questions
from steerlab.statistics import format_p, holm, smallest_detectable_change

LEVEL = 0.05


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def _points(share: float) -> str:
    return f"{100 * share:+.1f} points"


@dataclass(frozen=True, eq=False)
class Significance:
    """The evidence of one experiment, corrected for how often we looked.

    Attributes:
        experiment: what was measured.

    Example:
        >>> import steerlab as sl
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic", limit=16)
        >>> found = sl.Significance(sl.run_experiment(model, task, seed=0, layers=[3], alphas=[-2, 0, 2], n_controls=4))
        >>> found.tests["measure"].tolist()
        ['accuracy', 'margin']
    """

    experiment: Experiment

    def __repr__(self) -> str:
        return f"Significance of {self.experiment!r}"

    def _repr_html_(self) -> str:
        return f"<p>{escape(self.answer())}</p>" + self.tests.to_html(index=False, float_format="{:.4g}".format, escape=True)

    @cached_property
    def questions(self) -> Questions:
        """What else a reader asks."""
        return Questions(self.experiment)

    @cached_property
    def tests(self) -> pd.DataFrame:
        """One line a control and measure: the rank test against random directions, Holm-adjusted over all lines, and the
        sources' t-test and Cohen's d beside it."""
        lines = []
        for control in self.experiment.controls:
            sign = control.sign_test()
            for measure in ("accuracy", "margin"):
                rank = control.rank_test(measure=measure)
                spread = bool(control.effect(measure)[1].std() > 0) and control.n > 1
                lines.append(
                    {
                        "alpha": control.alpha,
                        "measure": measure,
                        "effect": rank.observed,
                        "controls mean": float(control.effect(measure)[1].mean()),
                        "controls as extreme": rank.exceeds,
                        "controls": control.n,
                        "p (rank)": rank.p_value,
                        "p (t-test)": control.t_test(measure=measure).p_value if spread else None,
                        "Cohen's d": control.cohens_d(measure=measure) if spread else None,
                        "p (sign test)": sign.p_value if measure == "accuracy" else None,
                    }
                )
        table = pd.DataFrame(lines)
        table.insert(7, "p (rank, Holm)", holm(table["p (rank)"].to_numpy(float)))
        return table

    def adjusted(self, control: ControlResult, measure: str = "accuracy") -> float:
        """The Holm-adjusted rank p-value of one control and measure."""
        table = self.tests
        return float(table.loc[(table["alpha"] == control.alpha) & (table["measure"] == measure), "p (rank, Holm)"].iloc[0])

    def question(self) -> str:
        """The question in words."""
        e = self.experiment
        return (
            f"Does the direction that separates right from wrong answers on {e.task} (mean difference, layer {e.layer}) cause right "
            "answers, or would any direction of the same size have done it?"
        )

    def place(self, control: ControlResult) -> str:
        """Where a control stands, and why there."""
        why = "chosen on validation" if control.alpha == self.experiment.alpha else "the strongest suppression"
        return f"at alpha = {control.alpha:+g} ({why})"

    def finding(self, control: ControlResult) -> str:
        """The numbers of one control, in two sentences."""
        sign, rank = control.sign_test(), control.rank_test()
        after = control.baseline.accuracy + sign.change
        interval = sign.interval()
        low, middle, high = (100 * float(q) for q in np.quantile(control.effect()[1], [0.025, 0.5, 0.975]))
        return (
            f"Test accuracy goes from {_percent(control.baseline.accuracy)} to {_percent(after)} ({_points(sign.change)}, 95% interval "
            f"{100 * interval.low:+.1f} to {100 * interval.high:+.1f}): {sign.became_right} became right, {sign.became_wrong} became wrong of {sign.n} "
            f"(sign test {format_p(sign.p_value)}). {control.n} random directions of the same norm change it by {middle:+.1f} points in the median, "
            f"95% of them by {low:+.1f} to {high:+.1f}; {rank.exceeds} lie at least as far from the median of all {control.n + 1} as the direction does "
            f"({format_p(rank.p_value)}; {format_p(self.adjusted(control))} after Holm's correction for {len(self.tests)} rank tests)."
        )

    def verdict(self, control: ControlResult) -> str:
        """One sentence that follows from one control and from nothing else."""
        rank, at = control.rank_test(), self.place(control).capitalize()
        if self.adjusted(control) < LEVEL:
            above = rank.observed > float(np.median(rank.controls))
            if rank.observed == 0:
                kind = f"leaves accuracy as it is, where random directions of its size {'lower' if above else 'raise'} it"
            else:
                verb, more = ("raises", above) if rank.observed > 0 else ("lowers", not above)
                kind = f"{verb} accuracy {'more' if more else 'less'} than random directions of its size do"
            return f"{at} the direction {kind}."
        margin = self.adjusted(control, "margin")
        beside = (
            f" Its effect on the margin, though, is outside what they do ({format_p(margin)} after correction)." if margin < LEVEL else ""
        )
        return f"{at} there is no evidence that this direction moves accuracy other than random directions of its size do.{beside}"

    def detectable(self, control: ControlResult) -> str:
        """What a null result at one alpha could have missed, as a change from the baseline."""
        sign = control.sign_test()
        share = (sign.became_right + sign.became_wrong) / sign.n
        if share == 0:
            return f"No answer changed among {sign.n} problems, so nothing can be said about small effects."
        smallest = smallest_detectable_change(sign.n, discordant=share)
        if smallest is None:
            return f"With {sign.n} problems, of which {_percent(share)} changed sides, no change from the baseline could be detected with 80% power."
        return (
            f"With {sign.n} problems, of which {_percent(share)} changed sides, a change from the baseline of {100 * smallest:.1f} points or more "
            "would be detected by the sign test with 80% power."
        )

    def conclusion(self, control: ControlResult) -> str:
        """The verdict on one control, and for a null result what could have been missed."""
        null = self.adjusted(control) >= LEVEL
        return f"{self.verdict(control)} {self.detectable(control)}" if null else self.verdict(control)

    def answer(self) -> str:
        """The answer: a line for each control, and for a null result what could have been seen."""
        return "\n".join(
            f"{self.verdict(c)} {self.finding(c)}{' ' + self.detectable(c) if self.adjusted(c) >= LEVEL else ''}"
            for c in self.experiment.controls
        )

    def warnings(self) -> list[str]:
        """What a reader must know before believing anything."""
        e = self.experiment
        said = [f"Validation: {w}" for w in e.validation.warnings()] + [f"Test: {w}" for w in e.test.warnings()]
        for control in e.controls:
            said += [f"Control at alpha = {control.alpha:+g}: {w}" for w in control.warnings()]
            if 1 / (control.n + 1) * len(self.tests) > LEVEL:
                said.append(
                    f"With {control.n} controls and {len(self.tests)} tests the corrected p-value cannot fall below {len(self.tests) / (control.n + 1):.2g}; "
                    f"use at least {round(len(self.tests) / LEVEL)} controls to be able to reach {LEVEL}."
                )
                break
        n = e.directions[e.layer].method.get("n_correct", 0)
        if n < 30:
            said.append(f"The direction rests on {n} right and {n} wrong problems; directions from so few are noisy.")
        return said

    def summary(self) -> str:
        """What the terminal shows."""
        e = self.experiment
        base = e.test.baseline
        interval = base.interval()
        dose = e.test.accuracy().sort_values("alpha")
        moved = e.test.transitions().set_index("alpha")
        lines = [
            f"baseline    {_percent(base.accuracy)} of {base.n} test problems (95% interval {_percent(interval.low)} to {_percent(interval.high)})",
            f"direction   layer {e.layer}, norm {e.direction.norm:.3g}, from {e.direction.method.get('n_correct')} right and as many wrong train problems",
            f"chosen      layer {e.layer}, alpha {e.alpha:+g}, on {e.validation.baseline.n} validation problems",
            self.questions.summary(),
            "",
            "dose-response (test)   accuracy   change   became right / wrong",
        ]
        rows: list[dict[Hashable, Any]] = dose.to_dict("records")
        for row in rows:
            right, wrong = moved.loc[row["alpha"], ["became_right", "became_wrong"]]
            bar = "█" * round(24 * row["accuracy"])
            lines.append(
                f"  alpha {row['alpha']:+5.1f}            {_percent(row['accuracy']):>6}   {100 * row['change']:+6.1f}   {right:>4} / {wrong:<4} {bar}"
            )
        lines.append("")
        for control in e.controls:
            rank, margin = control.rank_test(), control.rank_test(measure="margin")
            d = self.tests.query("alpha == @control.alpha and measure == 'accuracy'")["Cohen's d"].iloc[0]
            lines.append(
                f"control at alpha {control.alpha:+g}: direction {100 * rank.observed:+.1f} points, {control.n} random ones "
                f"{100 * control.effect()[1].mean():+.1f} on average; {format_p(rank.p_value)} (accuracy), {format_p(margin.p_value)} (margin), "
                f"Cohen's d {'undefined' if pd.isna(d) else f'{d:+.2f}'}"
            )
        lines += ["", *(self.conclusion(c) for c in e.controls)]
        return "\n".join(lines + [f"warning: {w}" for w in self.warnings()])

    def figures(self) -> list[tuple[str, Any, str]]:
        """Caption, figure and text alternative of each picture of the report."""
        e = self.experiment
        best = e.validation.best()
        figures: list[tuple[str, Any, str]] = [
            (
                "Test split: dose-response of the chosen layer, with 95% Wilson intervals and the random directions.",
                plots.alpha_progression(e.test, control=e.controls[0]),
                f"Accuracy against alpha at layer {e.layer}, from {_percent(e.test.accuracy()['accuracy'].min())} to "
                f"{_percent(e.test.accuracy()['accuracy'].max())}.",
            )
        ]
        for control in e.controls:
            rank = control.rank_test()
            figures.append(
                (
                    f"Test split: change of accuracy under {control.n} random directions at alpha = {control.alpha:+g}, and under the direction.",
                    plots.null_distribution(control),
                    f"Histogram of {control.n} control effects; the direction's is {_points(rank.observed)}; {rank.exceeds} controls lie at least as far from the median.",
                )
            )
        figures += [
            (
                "Test split: problems that became right and that became wrong, against alpha.",
                plots.transition_matrix(e.test),
                "Counts of problems that changed sides at each alpha.",
            ),
            (
                "Validation split: change of accuracy by layer and alpha; the choice was made here.",
                plots.layer_alpha_heatmap(e.validation, tested=self.questions.best_cell),
                f"The best cell is layer {int(best['layer'])}, alpha {best['alpha']:+g}, with {_points(best['change'])}.",
            ),
            (
                "The directions of all layers, by dimension.",
                plots.direction_heatmap(list(e.directions.values())),
                "Heatmap of the mean differences, layers by dimensions.",
            ),
        ]
        return figures

    def tables(self) -> list[tuple[str, pd.DataFrame]]:
        """Caption and table."""
        e = self.experiment
        n = self.tests["alpha"].size
        shown = self.tests.copy()
        for column in ("p (rank)", "p (rank, Holm)", "p (t-test)", "p (sign test)"):
            shown[column] = [None if pd.isna(p) else format_p(p).removeprefix("p = ").removeprefix("p ") for p in shown[column]]
        dose = e.test.accuracy().merge(e.test.transitions(), on=["layer", "direction", "alpha"])
        return [
            (f"Test split: the direction against its controls; Holm's correction is over these {n} tests.", shown),
            ("What else a reader asks; intervals are of 95%, and these p-values are not corrected for each other.", self.questions.frame),
            ("Test split: dose-response, with 95% Wilson intervals and transitions.", dose),
            ("Validation split: every cell that was looked at.", e.validation.accuracy()),
        ]

    def method(self) -> list[str]:
        """How the numbers came about, split by split."""
        e = self.experiment
        d, n = e.direction, e.settings["n_controls"]
        cells = len(e.validation.accuracy().query("alpha != 0"))
        return [
            f"Train ({e.train.n} problems, accuracy {_percent(e.train.accuracy)}): {d.method.get('n_correct')} problems answered rightly and as many "
            f"answered wrongly were drawn; the direction is the difference of their mean activations at {d.site}, position {e.settings['cache_positions']}.",
            f"Validation ({e.validation.baseline.n} problems, accuracy {_percent(e.validation.baseline.accuracy)}): {cells} cells of layer and alpha were "
            f"tried; layer {e.layer} and alpha {e.alpha:+g} had the highest accuracy (equals: the larger mean margin). The max-statistic test pays for "
            "all of them: it flips the sign of each problem's whole row of changes, which keeps the dependence between cells.",
            f"Test ({e.test.baseline.n} problems) was scored once, at the chosen layer. Operator {e.settings['operator']}, positions "
            f"{e.settings['positions']}; scorer {e.test.baseline.scorer}.",
            f"Controls: {n} isotropic Gaussian directions with the direction's norm, at the same place and alpha. An effect is as extreme as it is "
            f"far from the median of all {n + 1} effects, on either side. The p-value is (1 + the number of controls at least as extreme) / ({n} + 1), ties counted "
            f"against the direction; it cannot be below {1 / (n + 1):.2g}. "
            "The t-test and Cohen's d compare the controls with the direction's effect as if that were known without error; they are shown because "
            "the field reports them, and no conclusion rests on them.",
            "Paired comparisons use the exact sign test on problems that changed sides; their interval is Newcombe's method 10. Intervals of single "
            "proportions are Wilson's.",
        ]
