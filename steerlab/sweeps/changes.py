"""Which problems became right or wrong under steering, what was answered, and why; from a sweep's outcomes, no model is run.

`failure_analysis` asks whether they differ from the others in margin, length or difficulty, and whether their number says anything
about knowledge or follows from how near to 0 margins were and how much they moved.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from steerlab._checks import InputError, InputTypeError
from steerlab._html import Plotted
from steerlab.statistics._format import format_p
from steerlab.statistics.multiplicity import holm, significant
from steerlab.sweeps.effects import points
from steerlab.sweeps.sweep import KEYS, SweepResult
from steerlab.tasks.problems import Problem, written

CHANGE_COLUMNS = ["layer", "alpha", "direction", "problem_id", "prompt", "target", "before", "after", "became", "margin_change"]


def changed_problems(
    sw: SweepResult, *, layer: int | None = None, alpha: float | None = None, direction: str | None = None, became: str | None = None
) -> pd.DataFrame:
    """The problems that became right or wrong, one line a cell and problem.

    Cells come in order of layer, direction and alpha; in a cell first what became right, then what became wrong, each in
    the order of the data, so that the first few are no selection.

    Args:
        sw: a sweep's result.
        layer, alpha, direction: only these cells; all by default.
        became: "right" or "wrong" for those alone.

    Returns:
        A frame with layer, alpha, direction, problem_id, prompt (the choices, where the prompt is empty), target, before
        and after (the unsteered and the steered prediction; empty where two answers tied), became ("right" or "wrong")
        and margin_change. It has no rows where nothing changed.

    Raises:
        ValueError: the sweep has no such layer, alpha or direction, or `became` is another word.

    Example:
        >>> import pandas as pd
        >>> import steerlab as sl
        >>> base = pd.DataFrame({"problem_id": ["a", "b"], "prediction": ["A", "A"], "correct": [True, False], "margin": [1.0, -1.0], "nll": 0.5})
        >>> problems = tuple(sl.Problem(i, f"Question {i}", target, (" A", " B")) for i, target in (("a", " A"), ("b", " B")))
        >>> cells = base.assign(layer=3, alpha=2.0, direction="d", prediction="B", correct=[False, True], margin=[-0.5, 2.0])
        >>> checks = pd.DataFrame(columns=["layer", "direction", "alpha", "calls", "resid_change", "score_change"])
        >>> found = changed_problems(sl.SweepResult(cells, sl.Evaluation(problems, base, "choice"), (), checks, {}))
        >>> found[["problem_id", "before", "after", "became", "margin_change"]].values.tolist()
        [['b', 'A', 'B', 'right', 3.0], ['a', 'A', 'B', 'wrong', -1.5]]
    """
    if became not in (None, "right", "wrong"):
        raise InputError(f"became={became!r}; use 'right', 'wrong', or leave it out for both")
    cells = sw.frame
    for column, wanted in (("layer", layer), ("alpha", alpha), ("direction", direction)):
        if wanted is None:
            continue
        if not (cells[column] == wanted).any():
            there = ", ".join(map(str, sorted(sw.frame[column].unique())[:12]))
            raise InputError(f"{column}={wanted!r}: this sweep has {column} {there}")
        cells = cells[cells[column] == wanted]
    before = sw.baseline.frame.set_index("problem_id")
    problems = {problem.id: problem for problem in sw.baseline.problems}
    was, now = cells["problem_id"].map(before["correct"]).astype(bool), cells["correct"].astype(bool)
    moved = cells.assign(margin_change=cells["margin"] - cells["problem_id"].map(before["margin"]))[was != now]
    ids = moved["problem_id"]
    table = moved[[*KEYS, "problem_id", "margin_change"]].assign(
        prompt=[question(problems[i]) for i in ids],
        target=[written(problems[i].answer).strip() for i in ids],  # as predictions are written
        before=ids.map(before["prediction"]),
        after=moved["prediction"],
        became=now[was != now].map({True: "right", False: "wrong"}),
        place=ids.map({i: k for k, i in enumerate(problems)}),
    )
    table = table if became is None else table[table["became"] == became]
    return table.sort_values([*KEYS, "became", "place"], kind="stable")[CHANGE_COLUMNS].reset_index(drop=True)


def question(problem: Problem) -> str:
    """What a reader needs to see of a problem: its prompt, or its choices where there is none."""
    prompt = written(problem.prompt)
    return prompt if prompt.strip() or problem.choices is None else "\n".join(map(written, problem.choices))


GROUPS = ("fixed", "broken", "stayed right", "stayed wrong")


@dataclass(frozen=True, eq=False)
class FailureAnalysis(Plotted, figure="headroom"):
    """Problems of one layer and direction of a sweep, with what became of each at each alpha.

    Attributes:
        frame: one line an alpha other than 0 and problem: alpha, problem_id, group ("fixed": wrong and became right;
            "broken": right and became wrong; "stayed right", "stayed wrong"), margin (unsteered), margin_change, and the
            covariates: length (characters of prompt and choices) and every number that stands in all problems' meta.
        layer, direction: of the line.
        covariates: names of the covariates, margin first.
    """

    frame: pd.DataFrame
    layer: int
    direction: str
    covariates: tuple[str, ...]

    def groups(self) -> pd.DataFrame:
        """One line an alpha and group: alpha, group, n, and each covariate's median."""
        grouped = self.frame.groupby(["alpha", "group"], sort=True)
        table = grouped.agg(n=("problem_id", "size"), **{name: (name, "median") for name in self.covariates}).reset_index()
        order = {name: k for k, name in enumerate(GROUPS)}
        return table.sort_values(["alpha", "group"], key=lambda c: c.map(order) if c.name == "group" else c, ignore_index=True)

    @cached_property
    def tests(self) -> pd.DataFrame:
        """Do problems that became right or wrong differ from the others?

        One line an alpha, side and covariate: alpha, compared (fixed among the wrong ones, broken among the right ones), covariate,
        n_moved, n_stayed, auc (the chance that a moved problem has the larger value; 0.5 is no difference), p (Mann-Whitney,
        two-sided) and p_holm (over all lines). Sides with fewer than 2 problems in a group, or covariates that do not vary, are left out.
        """
        lines = []
        for alpha, part in self.frame.groupby("alpha", sort=True):
            for moved, stayed in (("fixed", "stayed wrong"), ("broken", "stayed right")):
                for name in self.covariates:
                    ours, theirs = (part.loc[part["group"] == group, name] for group in (moved, stayed))
                    if name == "margin":  # distance from 0, on either side
                        ours, theirs = ours.abs(), theirs.abs()
                    if min(len(ours), len(theirs)) < 2 or pd.concat([ours, theirs]).nunique() < 2:
                        continue
                    found = stats.mannwhitneyu(ours, theirs, alternative="two-sided")
                    area = float(found.statistic) / (len(ours) * len(theirs))
                    lines.append((alpha, f"{moved} against {stayed}", name, len(ours), len(theirs), area, float(found.pvalue)))
        table = pd.DataFrame(lines, columns=["alpha", "compared", "covariate", "n_moved", "n_stayed", "auc", "p"])
        return table.assign(p_holm=holm(table["p"].to_numpy(float)) if len(table) else table["p"])

    @cached_property
    def headroom(self) -> pd.DataFrame:
        """Do the counts follow from margins alone?

        If the change of margin were independent of the problem, the probability that problem i becomes right or wrong would be the
        share of all other problems' changes that would carry its margin across zero.

        Returns:
            One line an alpha: alpha, wrong and right (problems unsteered: the headroom upwards and downwards), mean_shift and
            spread (mean and standard deviation of the change of margin), fixed and broken (observed), fixed_expected and
            broken_expected (as above), and change and change_expected (of accuracy).
        """
        lines = []
        for alpha, part in self.frame.groupby("alpha", sort=True):
            before, moved, n = part["margin"].to_numpy(float), part["margin_change"].to_numpy(float), len(part)
            right = before > 0
            after = before[:, None] + moved[None, :]
            lands = ((after > 0) & ~np.eye(n, dtype=bool)).sum(1) / max(1, n - 1)
            fixed, broken = (int((part["group"] == group).sum()) for group in ("fixed", "broken"))
            up, down = float(lands[~right].sum()), float((1 - lands[right]).sum())
            line = {"alpha": alpha, "wrong": int((~right).sum()), "right": int(right.sum())}
            line |= {"mean_shift": moved.mean(), "spread": moved.std(ddof=1) if n > 1 else np.nan}
            line |= {"fixed": fixed, "fixed_expected": up, "broken": broken, "broken_expected": down}
            lines.append(line | {"change": (fixed - broken) / n, "change_expected": (up - down) / n})
        return pd.DataFrame(lines)

    def __str__(self) -> str:
        """Why amplification fails, or suppression works, in a few sentences that follow from the tables."""
        table = self.headroom.set_index("alpha")
        parts = []
        for alpha in sorted({float(table.index.min()), float(table.index.max())}):
            row: Mapping[Any, Any] = table.loc[alpha].to_dict()
            parts.append(
                f"At alpha = {alpha:+g}, {row['fixed']:.0f} of {row['wrong']:.0f} wrong answers became right and {row['broken']:.0f} of {row['right']:.0f} "
                f"right ones wrong; margins changed by {row['mean_shift']:+.3g} in the mean (standard deviation {row['spread']:.3g}). If these changes had been assigned to "
                f"problems at random, {row['fixed_expected']:.1f} would have become right and {row['broken_expected']:.1f} wrong "
                f"({points(row['change'])} points observed, {points(row['change_expected'])} expected)."
            )
        found = self.tests
        clear = found[significant(found["p_holm"])]
        if len(clear):
            first: Mapping[Any, Any] = clear.sort_values("p", kind="stable").iloc[0].to_dict()
            more, size = "larger" if first["auc"] > 0.5 else "smaller", " in absolute value" if first["covariate"] == "margin" else ""
            parts.append(
                f"Of {len(found)} comparisons {len(clear)} are significant after Holm's correction; clearest: at alpha = {first['alpha']:+g}, {first['compared']}, the "
                f"{first['covariate']} is {more}{size} (AUC {first['auc']:.2f}, n = {first['n_moved']} and {first['n_stayed']}, {format_p(first['p_holm'], digits=2)})."
            )
        else:
            parts.append(
                f"None of {len(found)} comparisons of problems that became right or wrong with the others is significant after Holm's correction."
            )
        return " ".join(parts)

    def report_parts(self) -> dict[str, Any]:
        """What `steerlab.write_report` shows of it: question, answer, figures and tables in words."""
        tables = {
            "headroom": ("Headroom, changes of the margin, and counts observed and expected.", self.headroom),
            "groups": ("Medians of each group; margins without steering.", self.groups()),
            "tests": (
                "Problems that became right or wrong against the others (Mann-Whitney), with Holm's correction over all lines.",
                self.tests,
            ),
            "problems": ("", self.frame),
        }
        figures = [("Answers that became right and wrong, observed and expected from margins alone.", self.plot(), str(self))]
        question = (
            "Which problems became right and which wrong under steering, and do the counts say more than how near to 0 their margins were?"
        )
        return self._page("Failure analysis", question, "", tables, figures=figures)

    def __repr__(self) -> str:
        return f"FailureAnalysis({self.frame['problem_id'].nunique()} problems, {self.frame['alpha'].nunique()} alphas, layer {self.layer}, {self.direction!r})"

    def summary(self) -> pd.DataFrame:
        """The headroom: one line an alpha."""
        return self.headroom


def failure_analysis(sw: SweepResult, *, layer: int | None = None, direction: str | None = None) -> FailureAnalysis:
    """A sweep's problems, sorted by what became of them under steering.

    Args:
        sw: a sweep's result; margins must be positive exactly for right answers, as those of scorers with choices are.
        layer, direction: which line of the grid, where there are several.

    Raises:
        ValueError: several lines and none chosen, no such line, no alpha but 0, or margins that do not tell right from wrong.

    Example:
        >>> import steerlab as sl, torch
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic")
        >>> sw = sl.sweep(model, task.test[:40], sl.Direction(torch.ones(model.cfg.d_model), layer=1), alphas=[-1, 0, 1])
        >>> found = sl.failure_analysis(sw)
        >>> found.headroom[["wrong", "right"]].sum(axis=1).tolist()
        [40, 40]
    """
    if not isinstance(sw, SweepResult):
        raise InputTypeError(f"sw is a {type(sw).__name__}; give what steerlab.sweep(model, problems, direction) returned")
    at, name = sw.line(layer, direction)
    before = sw.baseline.frame.set_index("problem_id")
    if not ((before["margin"] > 0) == before["correct"].astype(bool)).all():
        raise InputError("margins do not tell right from wrong here (answers are generated); use a task with choices")
    rows = sw.frame[(sw.frame["layer"] == at) & (sw.frame["direction"] == name) & (sw.frame["alpha"] != 0)]
    if rows.empty:
        raise InputError("the sweep has no alpha but 0; there is nothing to compare")
    was, now = rows["problem_id"].map(before["correct"]).astype(bool), rows["correct"].astype(bool)
    extra, group = _covariates(sw), np.select([~was & now, was & ~now, was & now], GROUPS[:3], GROUPS[3])
    margin = rows["problem_id"].map(before["margin"])
    frame = rows[["alpha", "problem_id"]].assign(group=group, margin=margin, margin_change=rows["margin"] - margin)
    frame = frame.merge(extra, left_on="problem_id", right_index=True, how="left", sort=False)
    return FailureAnalysis(frame.reset_index(drop=True), at, name, ("margin", *extra.columns))


def _covariates(sw: SweepResult) -> pd.DataFrame:
    """Length, and every number that all problems' meta hold."""
    problems = sw.baseline.problems
    table: dict[str, list[float]] = {"length": [float(len(p.prompt) + sum(map(len, p.choices or ()))) for p in problems]}
    shared = set.intersection(*(set(p.meta) for p in problems))
    for key in sorted(shared - {"margin", "length"}):
        values = [p.meta[key] for p in problems]
        if all(isinstance(v, int | float) and not isinstance(v, bool) for v in values) and len(set(values)) > 1:
            table[str(key)] = [float(v) for v in values]
    return pd.DataFrame(table, index=[p.id for p in problems])
