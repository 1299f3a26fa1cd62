"""Selection-matched controls: a control is a whole pipeline, which chooses its own cell on validation as the direction did, and is tested there.

A direction that got the best of many cells is better than random directions at that one cell by the choice alone. A control that
had the same choice is not: under its null the direction's pipeline is one more draw.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple, Unpack

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from steerlab._checks import InputError, check_rng, count, one_of, only, takes_options
from steerlab._html import Plotted
from steerlab._progress import job, progress_bar
from steerlab.directions.direction import Direction, site_of
from steerlab.directions.random import Pipelines, random_pipelines
from steerlab.models.backends import Model
from steerlab.models.forecasts import forecast
from steerlab.statistics._format import format_p
from steerlab.statistics.controls import as_extreme
from steerlab.statistics.multiplicity import LEVEL
from steerlab.statistics.sequential import SequentialTest, sequential_test, studentised
from steerlab.steering.cells import InterventionRun, run_interventions
from steerlab.steering.options import CellOptions, Scoring
from steerlab.steering.variants import Intervention, Placed
from steerlab.steering.work import rows_of, steered
from steerlab.sweeps.candidates import Candidates, Cell, Goal, Rule
from steerlab.sweeps.sweep import inert
from steerlab.tasks.evaluation import Evaluation
from steerlab.tasks.groups import groups_of
from steerlab.tasks.problems import Problem, as_problems, in_both

MEASURES = {"accuracy": "correct", "margin": "margin", "nll": "nll"}  # and their columns among the outcomes
FEWEST = 19  # controls by which something is called unusual
TOGETHER = 20  # pipelines that are run at once; between such portions it is seen whether to go on
SIDES = {"raise": "greater", "lower": "less"}  # the alternative of each goal, named before the test


@dataclass(frozen=True)
class Choice:
    """How a pipeline chooses among its candidates on validation.

    All candidates are compared on the first `screen` problems, the best `keep` for each goal on the first `problems`; the best of a goal's
    is chosen: by the mean of the measure, then the mean margin, then the smaller alpha, then the lower layer.

    Attributes:
        measure: "accuracy", "margin" or "nll"; the goals are to raise and to lower it, whichever is the better.
        screen, problems: how many; None compares all candidates on all problems at once.
        keep: candidates for each goal that are compared further.

    Raises:
        ValueError: another measure, or counts below 1.

    Example:
        >>> Choice().stages(300), Choice(screen=None).stages(300), Choice().runs(300, cells=12, goals=2)
        ([50, 150], [150], 1000)
    """

    measure: str = "accuracy"
    screen: int | None = 50
    problems: int | None = 150
    keep: int = 2

    def __post_init__(self) -> None:
        one_of(self.measure, "measure", MEASURES)
        for name in ("screen", "problems", "keep"):
            if getattr(self, name) is not None:
                count(getattr(self, name), name, at_least=1)

    @property
    def column(self) -> str:
        """The column of the outcomes that is compared."""
        return MEASURES[self.measure]

    def stages(self, n: int) -> list[int]:
        """How many of n problems have been seen after each stage."""
        most = n if self.problems is None else min(self.problems, n)
        return [most] if self.screen is None or self.screen >= most else [self.screen, most]

    def runs(self, n: int, cells: int, goals: int) -> int:
        """Runs that one pipeline takes on n problems, at most."""
        first, *rest = self.stages(n)
        return first * cells + sum((most - first) * min(cells, goals * self.keep) for most in rest)


class _Pipeline(NamedTuple):
    """A pipeline, ready to run."""

    name: str
    directions: Mapping[int, Direction]
    candidates: Candidates

    @property
    def cells(self) -> tuple[Cell, ...]:
        """All candidates, each once."""
        return tuple(dict.fromkeys(cell for cells in self.candidates.values() for cell in cells))

    @property
    def chooses(self) -> bool:
        """Whether there is anything to choose on validation."""
        return any(len(cells) > 1 for cells in self.candidates.values())


@dataclass(frozen=True, eq=False)
class PipelineControl(Plotted, figure="null_distribution"):
    """A direction's pipeline among control pipelines, each at the cells that it chose for itself.

    Attributes:
        frame: one line a pipeline and goal: pipeline, is_control, goal, layer, alpha, validation (change of the measure where it was chosen),
            change (on test), z (the same, studentised by group), changed (share of answers that are other than unsteered).
        outcomes: the direction's at its chosen cells on test: goal, problem_id, prediction, correct, margin, nll.
        baseline: the unsteered evaluation on test.
        groups: the group of each test problem.
        kind: what the control pipelines are.
        rule: how candidates were named, in words.
        choice: how each pipeline chose among them.
        planned, stop_after: of the sequential test.
        checks: did the direction's interventions act.
    """

    frame: pd.DataFrame
    outcomes: pd.DataFrame
    baseline: Evaluation
    groups: tuple[str, ...]
    kind: str
    rule: str
    choice: Choice
    planned: int
    stop_after: int | None
    checks: pd.DataFrame

    @property
    def goals(self) -> tuple[Goal, ...]:
        """What cells were chosen for."""
        return tuple(dict.fromkeys(self.frame["goal"]))

    @property
    def n(self) -> int:
        """How many control pipelines were run, for the goal that took most."""
        return int(self.frame[self.frame["is_control"].astype(bool)].groupby("goal").size().max())

    def cell(self, goal: Goal) -> Cell:
        """What the direction's pipeline chose."""
        line = self._direction(goal)
        return Cell(int(line["layer"]), float(line["alpha"]))

    def _direction(self, goal: Goal) -> pd.Series:
        one_of(goal, "goal", self.goals)
        return self.frame[(self.frame["goal"] == goal) & ~self.frame["is_control"].astype(bool)].iloc[0]

    def _controls(self, goal: Goal) -> pd.DataFrame:
        one_of(goal, "goal", self.goals)
        return self.frame[(self.frame["goal"] == goal) & self.frame["is_control"].astype(bool)]

    def test(self, goal: Goal = "raise") -> SequentialTest:
        """Is the direction's pipeline better at the goal than control pipelines? One-sided, by studentised changes."""
        draws = self._controls(goal)["z"].to_numpy(float)
        alternative: Any = SIDES[goal]
        return sequential_test(
            float(self._direction(goal)["z"]), draws, planned=self.planned, stop_after=self.stop_after, alternative=alternative
        )

    def paired(self, goal: Goal = "raise") -> tuple[pd.Series, pd.Series]:
        """The measure of each test problem without steering, and at the direction's chosen cell."""
        one_of(goal, "goal", self.goals)
        column = self.choice.column
        mine = self.outcomes[self.outcomes["goal"] == goal].set_index("problem_id")[column]
        before = self.baseline.frame.set_index("problem_id")[column]
        return before, mine.loc[before.index]

    def changed_too_often(self, goal: Goal = "raise") -> bool:
        """Whether the direction changes an unusual share of answers; see `unusual_rank`."""
        return unusual_rank(float(self._direction(goal)["changed"]), self._controls(goal)["changed"]) is not None

    def unusual(self) -> list[str]:
        """Sentences on goals for which answers change unusually often, or seldom."""
        said = []
        for goal in self.goals:
            mine, theirs = float(self._direction(goal)["changed"]), self._controls(goal)["changed"]
            p = unusual_rank(mine, theirs)
            if p is not None:
                said.append(
                    f"At the cell chosen to {goal} the direction changes {100 * mine:.1f}% of answers, unlike {len(theirs)} {self.kind} "
                    f"({100 * float(theirs.median()):.1f}% in the median; two-sided rank test, {format_p(p, digits=2)}, uncorrected): how many answers change "
                    "differs, whatever the net change."
                )
        return said

    def warnings(self) -> list[str]:
        """What a reader must know: interventions that did nothing, and answers that change unusually often."""
        return inert(self.checks) + self.unusual()

    def summary(self) -> pd.DataFrame:
        """One line a goal: goal, layer, alpha, change, z, controls (drawn), exceeds, pvalue."""
        lines = []
        for goal in self.goals:
            test, line = self.test(goal), self._direction(goal)
            lines.append(
                {name: line[name] for name in ("goal", "layer", "alpha", "change", "z")}
                | {"controls": test.n_controls, "exceeds": test.exceeds, "pvalue": test.pvalue}
            )
        return pd.DataFrame(lines)

    def __repr__(self) -> str:
        tests = ", ".join(
            f"{goal}: layer {self.cell(goal).layer}, alpha {self.cell(goal).alpha:g}, p={self.test(goal).pvalue:.3g} (uncorrected)"
            for goal in self.goals
        )
        return f"PipelineControl({self.n} {self.kind}; {tests})"


def unusual_rank(mine: float, theirs: ArrayLike) -> float | None:
    """The two-sided rank p-value of a value among at least 19 others, if it is at most 0.05 or the value lies beyond all of them; else None."""
    others = np.asarray(theirs, float)
    tail = min(int(as_extreme(mine, others, "greater").sum()), int(as_extreme(mine, others, "less").sum()))
    p = 2 * (1 + tail) / (len(others) + 1)
    return min(p, 1.0) if len(others) >= FEWEST and (p <= LEVEL or tail == 0) else None


@job("validation", "test", "n")
@takes_options
def pipeline_control(
    model: Model,
    validation: Sequence[Problem],
    test: Sequence[Problem],
    directions: Mapping[int, Direction],
    *,
    rule: Rule,
    rng: np.random.Generator,
    draw: Pipelines = random_pipelines,
    kind: str = "random pipelines",
    choice: Choice = Choice(),
    n: int = 99,
    stop_after: int | None = 10,
    **options: Unpack[CellOptions],
) -> PipelineControl:
    """The direction's pipeline and n control pipelines: each chooses its own cells on validation, by the same rule, and is scored there on test.

    Args:
        validation: what cells are chosen on.
        test: what the chosen cells are scored on; none of the validation problems.
        directions: the directions under test, by the layer at which they act.
        rule: names the candidates, without a steered outcome.
        rng: draws the control pipelines.
        draw: their kind: `random_pipelines`, or what `shuffled_pipelines` gives.
        kind: the kind in words.
        choice: how a pipeline chooses among its candidates.
        n: how many are drawn at most; the smallest p-value is 1 / (n + 1).
        stop_after: for each goal, so many controls at least as good end it (Besag and Clifford); None draws all.

    Raises:
        ValueError: bad input, splits that share a problem among it.

    Source:
        Besag and Clifford (1991), Biometrika 78, 301-304, for stopping; Barnard (1963), J. R. Stat. Soc. B 25, 294, for the test.

    Example:
        >>> import steerlab as sl, torch
        >>> from steerlab.sweeps.candidates import Grid
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic")
        >>> directions = {3: sl.Direction(torch.ones(128), layer=3), 4: sl.Direction(torch.ones(128), layer=4)}
        >>> splits = task.validation[:20], task.test[:20]
        >>> found = pipeline_control(model, *splits, directions, rule=Grid((-1, 1)), n=4, rng=np.random.default_rng(0))
        >>> found.test("raise").smallest_p
        0.2
    """
    check_rng(rng)
    as_problems(validation, "validation")
    as_problems(test, "test")
    n = count(n, "n", at_least=1)
    if stop_after is not None:
        stop_after = count(stop_after, "stop_after", at_least=1)
    if not validation or not test:
        raise InputError(f"{len(validation)} validation and {len(test)} test problems; give some of both")
    if both := in_both(validation, test):
        raise InputError(
            f"{len(both)} problems stand in validation and in test, {both[0].id!r} for one; what is chosen on them must not be tested on them"
        )
    groups = groups_of(test)
    mine = _Pipeline("direction", directions, rule.candidates(directions))
    goals = len(mine.candidates)
    chosen, scored = choice.runs(len(validation), len(mine.cells), goals) * mine.chooses, goals * len(test)
    how, one = only(options, Scoring), chosen + scored
    runner, drawn = (
        _Runner(model, validation, test, choice, groups, only(options, CellOptions) | {"progress": False}),
        iter(draw(directions, rng)),
    )
    if options["progress"]:
        layers, scorer = sorted(directions), options["scorer"]
        runs = (n + 1) * (chosen * rows_of(model, validation, scorer) // len(validation) + goals * rows_of(model, test, scorer))
        work = steered(model, validation, runs, layers=layers, site=directions[layers[0]].site, together=TOGETHER, **how)
        forecast(model, [work], show=True, extra=f" of {n + 1} pipelines, at most")
    with progress_bar(total=(n + 1) * one, desc=kind, unit="run", show=options["progress"], foretold=True) as bar:
        direction = runner.run([mine])[0]
        if any(math.isnan(line["z"]) for line in direction.lines):
            raise InputError(f"measure={choice.measure!r}: this scorer gives none for some test problems; use accuracy")
        bar.update(one)
        controls: list[dict[str, Any]] = []
        done, left = 0, _open(direction.lines, controls, stop_after)
        while done < n and left:
            some = list(islice(drawn, min(TOGETHER, n - done)))
            if not some:
                raise InputError(f"draw gave {done} pipelines, n={n} at most are needed; let it draw without end")
            ready = [
                _Pipeline(f"{k:03d}", one.directions, {goal: rule.candidates(one.directions, one.separability)[goal] for goal in left})
                for k, one in enumerate(some, done)
            ]
            controls += [line for found in runner.run(ready) for line in found.lines]
            done += len(some)
            bar.update(len(some) * one)
            left = _open(direction.lines, controls, stop_after)
    frame = pd.DataFrame([line | {"is_control": k >= goals} for k, line in enumerate([*direction.lines, *controls])])
    columns = ["pipeline", "is_control", "goal", "layer", "alpha", "validation", "change", "z", "changed"]
    return PipelineControl(
        frame[columns], direction.outcomes, direction.baseline, groups, kind, str(rule), choice, n, stop_after, direction.checks
    )


def _open(direction: Sequence[Mapping[str, Any]], controls: Sequence[Mapping[str, Any]], stop_after: int | None) -> list[Goal]:
    """The goals for which not enough controls are at least as good yet; for the others no more are run."""
    left = []
    for mine in direction:
        sign = 1 if mine["goal"] == "raise" else -1
        theirs = sign * np.array([line["z"] for line in controls if line["goal"] == mine["goal"]])
        if stop_after is None or as_extreme(sign * mine["z"], theirs, "greater").sum() < stop_after:
            left.append(mine["goal"])
    return left


class _Found(NamedTuple):
    """What one pipeline came to: a line a goal, outcomes of its chosen cells, the unsteered ones, and whether its interventions acted."""

    lines: list[dict[str, Any]]
    outcomes: pd.DataFrame
    baseline: Evaluation
    checks: pd.DataFrame


@dataclass(frozen=True)
class _Runner:
    """Runs pipelines side by side, so that they share each batch."""

    model: Model
    validation: Sequence[Problem]
    test: Sequence[Problem]
    choice: Choice
    groups: tuple[str, ...]
    options: CellOptions

    def run(self, pipelines: Sequence[_Pipeline]) -> list[_Found]:
        """Choose on validation, then score on test."""
        chosen = self._chosen(pipelines)
        wanted = [list(dict.fromkeys(cells.values())) for cells, _ in chosen]
        done = self._scored(self.test, [(one, cell) for one, cells in zip(pipelines, wanted, strict=True) for cell in cells])
        before = done.baseline.frame
        found, first = [], 0
        for one, cells, (at, where) in zip(pipelines, wanted, chosen, strict=True):
            frames = dict(zip(cells, done.frames[first : first + len(cells)], strict=True))
            lines = []
            for goal, cell in at.items():
                change = frames[cell][self.choice.column].to_numpy(float) - before[self.choice.column].to_numpy(float)
                lines.append(
                    {
                        "pipeline": one.name,
                        "goal": goal,
                        "layer": cell.layer,
                        "alpha": cell.alpha,
                        "validation": where[goal],
                        "change": float(change.mean()),
                        "z": float(studentised(change, self.groups)),
                        "changed": float((frames[cell]["prediction"].to_numpy() != before["prediction"].to_numpy()).mean()),
                    }
                )
            outcomes = pd.concat([frames[cell].assign(goal=goal) for goal, cell in at.items()], ignore_index=True)
            found.append(_Found(lines, outcomes, done.baseline, done.checks.iloc[first : first + len(cells)]))
            first += len(cells)
        return found

    def _chosen(self, pipelines: Sequence[_Pipeline]) -> list[tuple[dict[Goal, Cell], dict[Goal, float]]]:
        """For each pipeline the cell of each goal, and the change of the measure on validation there."""
        if not any(one.chooses for one in pipelines):
            return [
                ({goal: cells[0] for goal, cells in one.candidates.items()}, dict.fromkeys(one.candidates, math.nan)) for one in pipelines
            ]
        # What is left is so for one goal: a cell kept for the other is not chosen, whether or not the other goal is still of interest.
        seen, left, tables = 0, list(pipelines), [_Comparison() for _ in pipelines]
        for most in self.choice.stages(len(self.validation)):
            done = self._scored(self.validation[seen:most], [(one, cell) for one in left for cell in one.cells])
            frames = iter(done.frames)
            for one, table in zip(left, tables, strict=True):
                for cell in one.cells:
                    table.add(cell, next(frames), done.baseline.frame, self.choice.column)
            kept = self.choice.keep
            left = [
                one._replace(candidates={goal: tuple(table.ranked(cells, goal)[:kept]) for goal, cells in one.candidates.items()})
                for one, table in zip(left, tables, strict=True)
            ]
            seen = most
        chosen = [{goal: cells[0] for goal, cells in one.candidates.items()} for one in left]
        return [(at, {goal: table.mean(cell) for goal, cell in at.items()}) for at, table in zip(chosen, tables, strict=True)]

    def _scored(self, problems: Sequence[Problem], wanted: Sequence[tuple[_Pipeline, Cell]]) -> InterventionRun:
        cells = [
            Intervention((Placed(one.directions[cell.layer], site_of(one.directions[cell.layer], cell.layer, None)),), cell.alpha)
            for one, cell in wanted
        ]
        return run_interventions(self.model, problems, cells, **self.options)


@dataclass
class _Comparison:
    """The candidates of one pipeline on the validation problems seen so far."""

    _changes: dict[Cell, list[float]] = field(default_factory=dict)
    _margins: dict[Cell, list[float]] = field(default_factory=dict)

    def add(self, cell: Cell, after: pd.DataFrame, before: pd.DataFrame, column: str) -> None:
        """More problems under a cell."""
        for kept, name in ((self._changes, column), (self._margins, "margin")):
            kept.setdefault(cell, []).extend((after[name].to_numpy(float) - before[name].to_numpy(float)).tolist())

    def mean(self, cell: Cell) -> float:
        """Mean change of the measure."""
        return float(np.mean(self._changes[cell]))

    def ranked(self, cells: Sequence[Cell], goal: Goal) -> list[Cell]:
        """Cells, the one to choose first: by the mean, then the mean margin where there is one, then the smaller alpha, then the lower layer."""
        sign = -1 if goal == "raise" else 1
        margins = {cell: float(np.nan_to_num(np.mean(self._margins[cell]))) for cell in cells}
        return sorted(cells, key=lambda cell: (sign * self.mean(cell), sign * margins[cell], abs(cell.alpha), cell.layer))
