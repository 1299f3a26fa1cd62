"""The verdict on one experiment, or on several side by side, in sentences and tables, corrected for the number of tests."""

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from steerlab._checks import InputError
from steerlab._html import Result
from steerlab.controls.control import ControlResult
from steerlab.reports.secondary import KINDS, Questions
from steerlab.reports.warnings import cautions
from steerlab.statistics._format import format_p
from steerlab.statistics.multiplicity import LEVEL, holm
from steerlab.statistics.power import smallest_detectable_change
from steerlab.studies.protocol import Experiment

P_COLUMNS = ["p (rank)", "p (rank, Holm)", "p (rank, Holm over all runs)", "p (t-test)", "p (sign test)", "p", "p (Holm over all runs)"]


def percent(share: float) -> str:
    """A share of 0 to 1, in percent."""
    return f"{100 * share:.1f}%"


def points(share: float) -> str:
    """A change of a share, in points."""
    return f"{100 * share:+.1f} points"


@dataclass(frozen=True, eq=False)
class Significance(Result):
    """The evidence of one experiment in tests and sentences, corrected for the number of tests.

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

    @property
    def frame(self) -> pd.DataFrame:
        """The tests: one line each."""
        return self.tests

    @cached_property
    def questions(self) -> Questions:
        """The secondary analyses of the experiment."""
        return Questions(self.experiment)

    @cached_property
    def tests(self) -> pd.DataFrame:
        """One line a control and measure: the rank test against random directions, Holm-adjusted over all lines, and the
        sources' t-test and Cohen's d for comparison."""
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
                        "p (rank)": rank.pvalue,
                        "p (t-test)": control.t_test(measure=measure).pvalue if spread else None,
                        "Cohen's d": control.cohens_d(measure=measure) if spread else None,
                        "p (sign test)": sign.pvalue if measure == "accuracy" else None,
                    }
                )
        table = pd.DataFrame(lines)
        table.insert(7, "p (rank, Holm)", holm(table["p (rank)"].to_numpy(float)))
        return table

    @property
    def others(self) -> pd.DataFrame:
        """One line a family of further controls and measure: the rank test, not corrected."""
        lines: list[dict[str, Any]] = []
        for control in self.experiment.families:
            for measure in ("accuracy", "margin"):
                rank = control.rank_test(measure=measure)
                lines.append(
                    {
                        "controls": KINDS.get(control.family, control.family),
                        "alpha": control.alpha,
                        "measure": measure,
                        "effect": rank.observed,
                        "controls mean": float(control.effect(measure)[1].mean()),
                        "controls as extreme": rank.exceeds,
                        "n": control.n,
                        "p (rank)": rank.pvalue,
                    }
                )
        return pd.DataFrame(lines)

    def adjusted(self, control: ControlResult, measure: str = "accuracy") -> float:
        """The Holm-adjusted rank p-value of one control and measure."""
        table = self.tests
        return float(table.loc[(table["alpha"] == control.alpha) & (table["measure"] == measure), "p (rank, Holm)"].iloc[0])

    def question(self) -> str:
        """The question in words."""
        e = self.experiment
        return (
            f"Does moving activations along the difference between right and wrong problems of {e.task} (mean difference, layer {e.layer}) change accuracy "
            "more than moving them along a random direction of the same norm? A positive alpha moves towards right answers, a negative one away from them."
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
            f"Test accuracy goes from {percent(control.baseline.accuracy)} to {percent(after)} ({points(sign.change)}, 95% interval "
            f"{100 * interval.low:+.1f} to {100 * interval.high:+.1f}): {sign.became_right} became right, {sign.became_wrong} became wrong of {sign.n} "
            f"(sign test {format_p(sign.pvalue, digits=2)}). {control.n} random directions of the same norm change it by {middle:+.1f} points in the median, "
            f"95% of them by {low:+.1f} to {high:+.1f}; {rank.exceeds} of {control.n} are at least as extreme "
            f"({format_p(rank.pvalue, digits=2)}; {format_p(self.adjusted(control), digits=2)} after Holm's correction for {len(self.tests)} rank tests)."
        )

    def verdict(self, control: ControlResult) -> str:
        """One sentence that follows from one control and from nothing else."""
        rank, at = control.rank_test(), self.place(control).capitalize()
        if self.adjusted(control) < LEVEL:
            above = rank.observed > float(np.median(rank.controls))
            if rank.observed == 0:
                kind = f"does not change accuracy, where random directions of the same norm {'lower' if above else 'raise'} it"
            else:
                verb, more = ("raises", above) if rank.observed > 0 else ("lowers", not above)
                kind = f"{verb} accuracy {'more' if more else 'less'} than random directions of the same norm do"
            return f"{at} the direction {kind}."
        margin = self.adjusted(control, "margin")
        more_said = (
            f" Its effect on the margin does differ from theirs ({format_p(margin, digits=2)} after correction)." if margin < LEVEL else ""
        )
        return f"{at} there is no evidence that this direction changes accuracy differently from random directions of the same norm.{more_said}"

    def detectable(self, control: ControlResult) -> str:
        """What a null result at one alpha could have missed, as a change from the baseline."""
        sign = control.sign_test()
        share = (sign.became_right + sign.became_wrong) / sign.n
        if share == 0:
            return f"No answer changed among {sign.n} problems, so small effects cannot be excluded."
        smallest = smallest_detectable_change(sign.n, discordant=share)
        if smallest is None:
            return f"With {sign.n} problems, {percent(share)} of which became right or wrong, no change from the baseline would be detected with 80% power."
        return (
            f"With {sign.n} problems, {percent(share)} of which became right or wrong, the sign test would detect a change from the baseline of {100 * smallest:.1f} "
            "points or more with 80% power."
        )

    def numbers(self, control: ControlResult) -> str:
        """The numbers behind the verdict on one control, in one sentence."""
        sign, rank = control.sign_test(), control.rank_test()
        interval = sign.interval()
        return (
            f"Accuracy on {sign.n} test problems changed by {points(sign.change)} from the baseline (95% interval {100 * interval.low:+.1f} to "
            f"{100 * interval.high:+.1f}; sign test {format_p(sign.pvalue, digits=2)}); compared with {control.n} random directions, "
            f"{format_p(rank.pvalue, digits=2)}, or {format_p(self.adjusted(control), digits=2)} after Holm's correction for {len(self.tests)} rank tests "
            f"(level {LEVEL})."
        )

    def needed(self, control: ControlResult) -> str:
        """How large an effect would have had to be to differ from these controls after the correction."""
        k = control.n
        allowed = math.ceil(LEVEL / len(self.tests) * (k + 1) * (1 - 1e-12)) - 2  # controls that may be as extreme
        if allowed < 0:
            return f"With {k} controls and {len(self.tests)} tests no effect, however large, could have had a corrected p below {LEVEL}."
        effects = control.effect()[1]
        centre = float(np.median(effects))
        distance = float(np.sort(np.abs(effects - centre))[::-1][allowed])
        return (
            f"To differ from these {k} controls after the correction, the effect would have had to be outside {100 * (centre - distance):+.1f} to "
            f"{100 * (centre + distance):+.1f} points."
        )

    def conclusion(self, control: ControlResult, *, numbers: bool = True) -> str:
        """The verdict on one control, its numbers if wanted, and for a null result what could have been missed."""
        missed = []
        if self.adjusted(control) >= LEVEL:
            missed = [self.needed(control)]
            if control.sign_test().pvalue >= LEVEL:
                missed.append(self.detectable(control))
        return " ".join([self.verdict(control), *([self.numbers(control)] * numbers), *missed])

    def headline(self) -> str:
        """The answer in one sentence."""
        special = [c for c in self.experiment.controls if self.adjusted(c) < LEVEL]
        if not special:
            tried = " or ".join(f"{c.alpha:+g}" for c in self.experiment.controls)
            return f"No evidence that this direction is special at alpha = {tried}, compared with random directions of the same norm."
        alphas = " and ".join(f"{c.alpha:+g}" for c in special)
        return f"At alpha = {alphas} this direction's effect on accuracy differs from those of random directions of the same norm."

    def answer(self) -> str:
        """The answer, in one paragraph with its uncertainty: a headline, and the conclusion at each alpha that has controls."""
        return " ".join([self.headline(), *(self.conclusion(control) for control in self.experiment.controls)])

    def warnings(self) -> list[str]:
        """What a reader must know before believing the result, by the rules of `steerlab.reports.warnings`."""
        return cautions(self.experiment, n_tests=len(self.tests), dose=self.questions.dose, chosen_p=self.questions.chosen_p)

    def __str__(self) -> str:
        """What the terminal shows."""
        e = self.experiment
        base = e.test.baseline
        interval = base.interval()
        dose = e.test.accuracy().sort_values("alpha")
        moved = e.test.transitions().set_index("alpha")
        lines = [
            f"baseline    {percent(base.accuracy)} of {base.n} test problems (95% interval {percent(interval.low)} to {percent(interval.high)})",
            f"direction   layer {e.layer}, norm {e.direction.norm:.3g}, from {e.direction.method.get('n_correct')} right and {e.direction.method.get('n_correct')} wrong train problems",
            f"chosen      layer {e.layer}, alpha {e.alpha:+g}, on {e.validation.baseline.n} validation problems",
            str(self.questions),
            "",
            "dose-response (test)   accuracy   change   became right / wrong",
        ]
        rows: list[dict[Hashable, Any]] = dose.to_dict("records")
        for row in rows:
            right, wrong = moved.loc[row["alpha"], ["became_right", "became_wrong"]]
            bar = "█" * round(24 * row["accuracy"])
            lines.append(
                f"  alpha {row['alpha']:+5.1f}            {percent(row['accuracy']):>6}   {100 * row['change']:+6.1f}   {right:>4} / {wrong:<4} {bar}"
            )
        lines.append("")
        for control in e.controls:
            rank, margin = control.rank_test(), control.rank_test(measure="margin")
            d = self.tests.query("alpha == @control.alpha and measure == 'accuracy'")["Cohen's d"].iloc[0]
            lines.append(
                f"control at alpha {control.alpha:+g}: direction {100 * rank.observed:+.1f} points, {control.n} random ones "
                f"{100 * control.effect()[1].mean():+.1f} on average; {format_p(rank.pvalue, digits=2)} (accuracy), {format_p(margin.pvalue, digits=2)} (margin), "
                f"Cohen's d {'undefined' if pd.isna(d) else f'{d:+.2f}'}"
            )
        for control in e.families:
            kind = KINDS.get(control.family, control.family)
            lines.append(
                f"other controls at alpha {control.alpha:+g}: {control.n} {kind}, {format_p(control.rank_test().pvalue, digits=2)} (accuracy)"
            )
        lines += [f"side effects at alpha {c.alpha:+g}, on {e.settings['texts']}: {self.questions.beside(c)}" for c in e.controls]
        lines += ["", *(self.conclusion(c, numbers=False) for c in e.controls)]
        return "\n".join(lines + [f"warning: {w}" for w in self.warnings()])


def evidence(experiment: Experiment) -> Significance:
    """The evidence of an experiment, computed once however often it is asked for."""
    found: Significance = vars(experiment).setdefault("_evidence", Significance(experiment))
    return found


@dataclass(frozen=True, eq=False)
class Comparison(Result):
    """What several experiments say together.

    Attributes:
        runs: the evidence of each, by name.
    """

    runs: Mapping[str, Significance]

    def __post_init__(self) -> None:
        if len(self.runs) < 2:
            raise InputError(f"runs: {len(self.runs)} given; a comparison needs at least 2")

    def __repr__(self) -> str:
        return f"Comparison({', '.join(map(repr, self.runs))}; {len(self.tests)} rank tests)"

    @property
    def frame(self) -> pd.DataFrame:
        """The tests of all runs: one line each."""
        return self.tests

    @cached_property
    def tests(self) -> pd.DataFrame:
        """Every run's rank tests, with Holm's correction over all lines of all runs."""
        table = pd.concat([one.tests.assign(run=name) for name, one in self.runs.items()], ignore_index=True)
        table.insert(0, "run", table.pop("run"))
        table.insert(
            list(table.columns).index("p (rank, Holm)") + 1, "p (rank, Holm over all runs)", holm(table["p (rank)"].to_numpy(float))
        )
        return table

    @cached_property
    def effects(self) -> pd.DataFrame:
        """One line a run, at its chosen alpha: name, task, layer, alpha, baseline, change with low and high (95%), n, controls, p."""
        lines = []
        for name, one in self.runs.items():
            e, control = one.experiment, one.experiment.controls[0]
            sign = control.sign_test()
            interval = sign.interval()
            own = self.tests[(self.tests["run"] == name) & (self.tests["alpha"] == control.alpha) & (self.tests["measure"] == "accuracy")]
            lines.append(
                {
                    "name": name,
                    "task": e.task,
                    "layer": e.layer,
                    "alpha": control.alpha,
                    "baseline": control.baseline.accuracy,
                    "change": sign.change,
                    "low": interval.low,
                    "high": interval.high,
                    "n": sign.n,
                    "controls": control.n,
                    "p": float(own["p (rank)"].iloc[0]),
                    "p (Holm over all runs)": float(own["p (rank, Holm over all runs)"].iloc[0]),
                }
            )
        return pd.DataFrame(lines)

    def question(self) -> str:
        """The question in words."""
        tasks = list(dict.fromkeys(one.experiment.task for one in self.runs.values()))
        return (
            f"In which of {len(self.runs)} experiments ({', '.join(tasks)}) does the direction's effect differ from those of random directions of the same "
            "norm, after correction for all of them?"
        )

    def answer(self) -> str:
        """How many effects are significant after the correction over all runs, and each run's numbers."""
        effects, tests = self.effects, len(self.tests)
        special = effects["p (Holm over all runs)"] < LEVEL
        lines = [
            f"In {int(special.sum())} of {len(effects)} experiments the direction's effect on accuracy at the alpha chosen on validation differs from those of random "
            f"directions after Holm's correction for all {tests} rank tests."
        ]
        rows: list[dict[Hashable, Any]] = effects.to_dict("records")
        lines += [
            f"{row['name']}: {points(row['change'])} (95% interval {100 * row['low']:+.1f} to {100 * row['high']:+.1f}; n = {row['n']}, {row['controls']} controls, "
            f"{format_p(row['p'], digits=2)}, {format_p(row['p (Holm over all runs)'], digits=2)} over all runs)."
            for row in rows
        ]
        return " ".join(lines)

    def warnings(self) -> list[str]:
        """What a reader must know: each run's own warnings, and what the comparison cannot say."""
        said = [f"{name}: {warning}" for name, one in self.runs.items() for warning in one.warnings()]
        least = min(control.n for one in self.runs.values() for control in one.experiment.controls)
        if len(self.tests) / (least + 1) >= LEVEL:
            said.append(
                f"With {least} controls and {len(self.tests)} tests over all runs the corrected p-value cannot fall below {len(self.tests) / (least + 1):.2g}; "
                f"use at least {round(len(self.tests) / LEVEL)} controls in each run."
            )
        said.append("Whether one run's effect is larger than another's was not tested; overlapping or disjoint intervals do not decide it.")
        return said
