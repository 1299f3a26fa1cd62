"""The verdict on one experiment, or on several side by side, in sentences and tables, corrected for the number of tests."""

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from steerlab._checks import Alternative, InputError, one_of
from steerlab._html import Result
from steerlab.controls.control import ControlResult
from steerlab.reports.secondary import KINDS, Questions
from steerlab.reports.warnings import cautions
from steerlab.statistics._format import format_p
from steerlab.statistics.groups import DesignEffect, design_effect
from steerlab.statistics.intervals import Interval, paired_interval
from steerlab.statistics.multiplicity import LEVEL, holm
from steerlab.statistics.paired import SignFlipTest, sign_flip_test
from steerlab.statistics.power import detectable_change
from steerlab.statistics.sequential import SequentialTest
from steerlab.statistics.templates import TemplateEffects, template_effects
from steerlab.statistics.verdicts import NOT_SPECIFIC, SPECIFIC, VERDICTS, Verdict, verdict
from steerlab.studies.protocol import Experiment, stream
from steerlab.sweeps.candidates import Cell, Goal
from steerlab.tasks.crossing import templates_of

P_COLUMNS = [
    "p (uncorrected)", "p (Holm)", "p (Holm over all runs)", "p (rank, uncorrected)", "p (t-test, uncorrected)", "p (sign test, uncorrected)",
]  # fmt: skip
SIDES: Mapping[Goal, Alternative] = {"raise": "greater", "lower": "less"}


def percent(share: float) -> str:
    """A share of 0 to 1, in percent."""
    return f"{100 * share:.1f}%"


def points(share: float) -> str:
    """A change of a share, in points."""
    return f"{100 * share:+.1f} points"


@dataclass(frozen=True, eq=False)
class Finding(Result):
    """What the protocol found for one goal, at the cell that the direction's pipeline chose for it.

    Attributes:
        goal: raise or lower.
        cell: layer and alpha.
        dose: length of the added vector over the median activation's there; NaN where that says nothing.
        measure: what was chosen by and is tested.
        effect: the one-sided sign-flip test of the change from the baseline, by group.
        interval: of that change.
        against: the rank test against each kind of control pipelines.
        verdict: what these tests say together.
        how: how the cell came to be: chosen on validation, or fixed beforehand.
        missed: the smallest change that the effect test would have detected with 80% power; None where nothing changed, or where problems are too
            few for any.
        groups: what groups of problems cost; None where each problem stands alone.
    """

    goal: Goal
    cell: Cell
    dose: float
    measure: str
    effect: SignFlipTest
    interval: Interval
    against: Mapping[str, SequentialTest]
    verdict: Verdict
    how: str
    missed: float | None
    groups: DesignEffect | None

    @property
    def change(self) -> float:
        """Mean change of the measure from the baseline."""
        return self.effect.statistic

    @property
    def frame(self) -> pd.DataFrame:
        """One line a test: goal, layer, alpha, dose, test, n (problems, or pipelines drawn), at least as good, p (uncorrected), p (Holm), significant."""
        tests = self.verdict.frame
        counts = [(self.effect.n, None), *((one.n_controls, one.exceeds) for one in self.against.values())]
        columns: dict[str, Any] = {
            "goal": self.goal,
            "layer": self.cell.layer,
            "alpha": self.cell.alpha,
            "dose": self.dose,
            "test": tests["test"],
        }
        columns |= {"n": [n for n, _ in counts], "at least as good": pd.array([k for _, k in counts], dtype="Int64")}
        return pd.DataFrame(
            columns | {"p (uncorrected)": tests["p_uncorrected"], "p (Holm)": tests["p_holm"], "significant": tests["significant"]}
        )

    def shown(self, change: float, *, sign: bool = True) -> str:
        """A change of the measure in its unit."""
        return f"{round(_scale(self.measure) * change, 6):{'+' if sign else ''}.{_digits(self.measure)}f}{_unit(self.measure)}"

    @property
    def relative(self) -> str:
        """The relative dose in words, where there is one."""
        return "" if math.isnan(self.dose) else f"relative dose {self.dose:.2g}; "

    @property
    def size(self) -> str:
        """What was done and how large its effect is, in a sentence."""
        few = f"; approximate: only {self.interval.few}" if self.interval.few else ""
        low, high = (f"{_scale(self.measure) * limit:+.{_digits(self.measure)}f}" for limit in (self.interval.low, self.interval.high))
        problems = f"{self.effect.n} test problems{'' if self.groups is None else f' in {self.groups.n_groups} groups'}"
        return (
            f"Steering at layer {self.cell.layer}, alpha {self.cell.alpha:+g} ({self.relative}{self.how}) changed {self.measure} by "
            f"{self.shown(self.change)} [{low}, {high}{few}] on {problems}: {self._p('effect')}."
        )

    @property
    def compared(self) -> str:
        """What it was compared with, in a sentence for each kind of controls."""
        said = []
        for kind, test in self.against.items():
            early = f" (of {test.planned} planned; {test.exceeds} were at least as good)" if test.n_controls < test.planned else ""
            said.append(f"Against {test.n_controls} {kind}{early}: {self._p(kind)}.")
        return f"{' '.join(said)} Corrected for {1 + len(self.against)} tests (Holm)."

    @property
    def could_miss(self) -> str:
        """What could have been missed, in a sentence."""
        if self.missed is None and any(self.effect.differences):
            return "These problems are too few to find an effect of any size with 80% power."
        if self.missed is None:
            return "No answer changed, so that this says nothing of small effects."
        return f"An effect of {self.shown(self.missed, sign=False)} or more would have been found with 80% power."

    def _p(self, test: str) -> str:
        table = self.verdict.frame
        return format_p(float(table.loc[table["test"] == test, "p_holm"].iloc[0]), digits=2)

    def __str__(self) -> str:
        """The answer: the verdict, what was done and its size, what it was compared with, and without an effect what could have been missed."""
        lines = [f"To {self.goal} {self.measure}: {self.verdict.text}", self.size, self.compared]
        return "\n".join(lines if self.verdict.text in (SPECIFIC, NOT_SPECIFIC) else [*lines, self.could_miss])


def _scale(measure: str) -> float:
    return 100.0 if measure == "accuracy" else 1.0


def _digits(measure: str) -> int:
    return 1 if measure == "accuracy" else 3


def _unit(measure: str) -> str:
    return " points" if measure == "accuracy" else ""


@dataclass(frozen=True, eq=False)
class Significance(Result):
    """The evidence of one experiment in tests and sentences.

    Attributes:
        experiment: what was measured.

    Example:
        >>> import steerlab as sl
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic", limit=16)
        >>> found = sl.Significance(sl.run_experiment(model, task, seed=0, layers=[3], alphas=[-2, 0, 2], n_controls=4))
        >>> found.tests["test"].tolist()[:3]
        ['effect', 'random pipelines', 'shuffled-label pipelines']
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
    def findings(self) -> tuple[Finding, ...]:
        """What was found for each goal."""
        return tuple(self._finding(goal) for goal in self.experiment.goals)

    def finding(self, goal: Goal = "raise") -> Finding:
        """What was found for a goal."""
        one_of(goal, "goal", self.experiment.goals)
        return next(one for one in self.findings if one.goal == goal)

    def _finding(self, goal: Goal) -> Finding:
        e, first = self.experiment, self.experiment.pipelines[0]
        before, after = first.paired(goal)
        groups = first.groups if len(set(first.groups)) < len(first.groups) else None
        rng = stream(int(e.settings["seed"]), "questions", 3 + e.goals.index(goal))
        effect = sign_flip_test(before, after, rng=rng, groups=groups, alternative=SIDES[goal])
        interval = paired_interval(before, after, groups=groups) if before.dtype == bool or groups is not None else effect.interval()
        against = {one.kind: one.test(goal) for one in e.pipelines}
        cell = e.cell(goal)
        return Finding(
            goal, cell, e.dose(cell), e.measure, effect, interval, against,
            verdict(effect.pvalue, {kind: test.pvalue for kind, test in against.items()}),
            "fixed beforehand" if e.settings["choose"] == "preset" else "chosen on validation",
            detectable_change(before, after, groups=groups, level=LEVEL / (1 + len(against))),
            None if groups is None else design_effect(before, after, groups),
        )  # fmt: skip

    def templates(self, goal: Goal = "raise") -> TemplateEffects | None:
        """The effect by prompt template and over templates; None where problems were asked in one way."""
        e, first = self.experiment, self.experiment.pipelines[0]
        templates = templates_of(e.test.baseline.problems)
        if templates is None:
            return None
        rng = stream(int(e.settings["seed"]), "questions", 5 + e.goals.index(goal))
        return template_effects(*first.paired(goal), templates=templates, groups=first.groups, rng=rng)

    @cached_property
    def tests(self) -> pd.DataFrame:
        """One line a goal and test, corrected (Holm) over the tests of its goal; see `Finding.frame`."""
        return pd.concat([one.frame for one in self.findings], ignore_index=True)

    @cached_property
    def same_cell(self) -> pd.DataFrame:
        """One line a chosen cell, kind of directions that acted there and measure: rank test, t-test and Cohen's d, as the literature has them.

        These directions had no choice of a cell, so that the direction is favoured: no conclusion rests on them, and nothing is corrected.
        """
        lines = []
        for control in [*self.experiment.controls, *self.experiment.families]:
            sign = control.sign_test()
            for measure in ("accuracy", "margin"):
                rank = control.rank_test(measure=measure)
                spread = bool(control.effect(measure)[1].std() > 0) and control.n > 1
                lines.append(
                    {
                        "controls": KINDS.get(control.family, "random directions"),
                        "layer": control.layer,
                        "alpha": control.alpha,
                        "measure": measure,
                        "effect": rank.observed,
                        "controls mean": float(control.effect(measure)[1].mean()),
                        "controls as extreme": rank.exceeds,
                        "n": control.n,
                        "p (rank, uncorrected)": rank.pvalue,
                        "p (t-test, uncorrected)": control.t_test(measure=measure).pvalue if spread else None,
                        "Cohen's d": control.cohens_d(measure=measure) if spread else None,
                        "p (sign test, uncorrected)": sign.pvalue if measure == "accuracy" else None,
                    }
                )
        return pd.DataFrame(lines)

    def question(self) -> str:
        """The question in words."""
        e = self.experiment
        return (
            f"Does steering along the difference between right and wrong problems of {e.task} (mean difference) change {e.measure}, and more than steering "
            "along directions that mean nothing but had the same choice of layer and alpha?"
        )

    def place(self, control: ControlResult) -> str:
        """Where a control stands, and why there."""
        goals = [goal for goal in self.experiment.goals if self.experiment.cell(goal) == (control.layer, control.alpha)]
        return f"at layer {control.layer}, alpha {control.alpha:+g} (chosen to {' and to '.join(goals)} {self.experiment.measure})"

    def answer(self) -> str:
        """The answer: for each goal the verdict, size, comparisons and what could have been missed, in lines."""
        return "\n\n".join(map(str, self.findings))

    def warnings(self) -> list[str]:
        """What a reader must know before believing the result, by the rules of `steerlab.reports.warnings`."""
        return cautions(self.experiment, dose=self.questions.dose, chosen_p=self.questions.chosen_p)

    def __str__(self) -> str:
        """What the terminal shows."""
        e = self.experiment
        base = e.test.baseline
        interval = base.interval()
        lines = [
            *self.answer().split("\n"),
            "",
            f"baseline    {percent(base.accuracy)} of {base.n} test problems (95% interval {percent(interval.low)} to {percent(interval.high)})",
            f"direction   from {e.direction.method.get('n_correct')} right and {e.direction.method.get('n_correct')} wrong train problems; "
            f"norm {e.direction.norm:.3g} at layer {e.layer}",
            str(self.questions),
        ]
        moved = e.test.transitions().set_index(["layer", "alpha"])
        for layer, cells in e.test.accuracy().sort_values("alpha").groupby("layer"):
            lines += ["", f"layer {layer}, test         accuracy   change   became right / wrong"]
            rows: list[dict[Hashable, Any]] = cells.to_dict("records")
            for row in rows:
                right, wrong = moved.loc[(row["layer"], row["alpha"]), ["became_right", "became_wrong"]]
                bar = "█" * round(24 * row["accuracy"])
                lines.append(
                    f"  alpha {row['alpha']:+5.1f}            {percent(row['accuracy']):>6}   {round(100 * row['change'], 6):+6.1f}   {right:>4} / {wrong:<4} {bar}"
                )
        lines.append("")
        for control in [*e.controls, *e.families]:
            rank, kind = control.rank_test(), KINDS.get(control.family, "random directions")
            lines.append(
                f"layer {control.layer}, alpha {control.alpha:+g}, the same cell: {round(100 * rank.observed, 6):+.1f} points, {control.n} {kind} "
                f"{100 * control.effect()[1].mean():+.1f} on average"
            )
        lines += [
            f"side effects at layer {c.layer}, alpha {c.alpha:+g}, on {e.settings['texts']}: {self.questions.beside(c)}" for c in e.controls
        ]
        return "\n".join([*lines, "", *(f"warning: {w}" for w in self.warnings())]).rstrip()


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
        return f"Comparison({', '.join(map(repr, self.runs))}; {len(self.tests)} tests)"

    @property
    def frame(self) -> pd.DataFrame:
        """The tests of all runs: one line each."""
        return self.tests

    @cached_property
    def tests(self) -> pd.DataFrame:
        """Every run's tests, with Holm's correction over all lines of all runs."""
        table = pd.concat([one.tests.assign(run=name) for name, one in self.runs.items()], ignore_index=True)
        table.insert(0, "run", table.pop("run"))
        place = list(table.columns).index("p (Holm)") + 1
        table.insert(place, "p (Holm over all runs)", holm(table["p (uncorrected)"].to_numpy(float)))
        return table

    @cached_property
    def effects(self) -> pd.DataFrame:
        """One line a run and goal: name, task, goal, layer, alpha, dose, baseline, change with low and high (95%), n, verdict (of that run), verdict over all runs."""
        return pd.DataFrame(
            [
                {
                    "name": name,
                    "task": one.experiment.task,
                    "goal": found.goal,
                    "layer": found.cell.layer,
                    "alpha": found.cell.alpha,
                    "dose": found.dose,
                    "baseline": one.experiment.test.baseline.accuracy,
                    "change": found.change,
                    "low": found.interval.low,
                    "high": found.interval.high,
                    "n": found.effect.n,
                    "verdict": found.verdict.text,
                    "verdict over all runs": self._over_all(name, found.goal),
                }
                for name, one in self.runs.items()
                for found in one.findings
            ]
        )

    def _over_all(self, name: str, goal: Goal) -> str:
        """The verdict by p-values that are corrected for the tests of all runs."""
        mine = self.tests[(self.tests["run"] == name) & (self.tests["goal"] == goal)]
        effect, *controls = (mine["p (Holm over all runs)"] <= LEVEL).tolist()
        return VERDICTS[effect, all(controls)]

    def question(self) -> str:
        """The question in words."""
        tasks = list(dict.fromkeys(one.experiment.task for one in self.runs.values()))
        return f"In which of {len(self.runs)} experiments ({', '.join(tasks)}) does the direction have an effect of its own, after correction for all of them?"

    def answer(self) -> str:
        """How many effects are specific after the correction over all runs, and each run's numbers."""
        effects = self.effects
        specific = effects[effects["verdict over all runs"] == SPECIFIC]["name"].nunique()
        lines = [
            f"A specific effect in {specific} of {len(self.runs)} experiments, after Holm's correction for all {len(self.tests)} tests."
        ]
        for name, one in self.runs.items():
            lines += [
                f"{name}, to {found.goal} {found.measure}: {self._over_all(name, found.goal)}. {found.size}" for found in one.findings
            ]
        return "\n".join(lines)

    def warnings(self) -> list[str]:
        """What a reader must know: each run's own warnings, and what the comparison cannot say."""
        said = [f"{name}: {warning}" for name, one in self.runs.items() for warning in one.warnings()]
        least = min(control.planned for one in self.runs.values() for control in one.experiment.pipelines)
        ranks = sum(len(found.against) for one in self.runs.values() for found in one.findings)
        if ranks / (least + 1) > LEVEL:
            said.append(
                f"With {least} pipelines of a kind and {ranks} tests against them over all runs a corrected p-value may not fall below "
                f"{ranks / (least + 1):.2g}; use at least {round(ranks / LEVEL) - 1} in each run."
            )
        said.append("Whether one run's effect is larger than another's was not tested; overlapping or disjoint intervals do not decide it.")
        return said
