"""The main protocol: from a model and a task to the evidence on whether a direction causes a behaviour.

Evaluate train, balance right and wrong, cache, take the mean difference at each layer; choose on validation one cell of layer and alpha
that raises the measure and one that lowers it; score them on test. The controls are whole pipelines that chose for themselves. Beside it:
every alpha at the chosen layers, other directions at the chosen cells, diagnostics of the contrast, and side effects.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import pandas as pd

from steerlab._checks import InputError, count, only, takes_options
from steerlab._html import Plotted, Result, figure
from steerlab._progress import Stages, job
from steerlab.activations.positions import Positions
from steerlab.controls import DEFAULT_PIPELINES, FAMILIES, PIPELINES
from steerlab.controls.control import ControlResult, match_kl, random_control
from steerlab.controls.pipelines import Choice, PipelineControl, pipeline_control
from steerlab.controls.side_effects import SideEffects, joined, side_effects, side_texts
from steerlab.directions.contrasts import balanced_activations
from steerlab.directions.diagnostics import ContrastDiagnostics, contrast_diagnostics
from steerlab.directions.direction import Direction
from steerlab.directions.estimators import mean_difference
from steerlab.directions.random import random_directions, separability
from steerlab.models.backends import Model
from steerlab.models.forecasts import Work, forecast
from steerlab.models.memory import PassOptions
from steerlab.models.model import n_layers
from steerlab.models.threads import on_suitable_threads
from steerlab.steering import ALPHAS
from steerlab.steering.distributions import positions_on_text
from steerlab.steering.operators import Operator
from steerlab.steering.options import Acting, JobOptions, TextOptions
from steerlab.steering.work import on_texts, rows_of, steered, unsteered
from steerlab.studies.plans import ExperimentPlan, check_choices, choice_of, load_plan, protocol_of
from steerlab.sweeps.candidates import Cell, Goal, Grid, Rule, Shortlist, relative_dose
from steerlab.sweeps.sweep import SCALED, SweepResult, sweep
from steerlab.tasks.evaluation import Evaluation, evaluate
from steerlab.tasks.groups import groups_of
from steerlab.tasks.lengths import fit_to_context
from steerlab.tasks.problems import Task, as_texts, check_task

FOLDS = 5  # of the diagnostics, where there are problems enough
SEARCH = 6  # passes over the texts that a search for controls of equal KL takes, about
# Of the seed.
STREAMS = {"balance": 0, "raise": 1, "lower": 2, "questions": 3, "diagnostics": 4, "families": 5, "separability": 6, "pipelines": 7}


@dataclass(frozen=True, eq=False)
class Experiment(Plotted, figure="alpha_progression"):
    """All results of the main protocol.

    Attributes:
        task: name of the task.
        train: unsteered evaluation of the train split.
        directions: the mean difference at each layer.
        validation: the sweep of every layer and alpha on the validation split.
        pipelines: the direction's pipeline among control pipelines of each kind: what was chosen, and how it did on test.
        test: the sweep of every alpha at the chosen layers, on the test split.
        controls: random directions at each chosen cell, on the test split; they had no choice, and no conclusion rests on them.
        families: controls of other kinds at the cell chosen first, likewise.
        diagnostics: what the contrast of train problems is worth at each layer; None with fewer than 2 problems a group.
        side_effects: of the direction at every alpha, and of the random directions at theirs.
        settings: the choices that are not in the results: measure, positions, operator, seed, what the task says of its data.
    """

    task: str
    train: Evaluation
    directions: dict[int, Direction]
    validation: SweepResult
    pipelines: tuple[PipelineControl, ...]
    test: SweepResult
    controls: tuple[ControlResult, ...]
    families: tuple[ControlResult, ...]
    diagnostics: ContrastDiagnostics | None
    side_effects: SideEffects
    settings: dict[str, Any]

    @property
    def measure(self) -> str:
        """What was chosen by and is tested: accuracy, margin or nll."""
        return str(self.settings["measure"])

    @property
    def goals(self) -> tuple[Goal, ...]:
        """What cells were chosen for: to raise the measure, and to lower it."""
        return self.pipelines[0].goals

    def cell(self, goal: Goal = "raise") -> Cell:
        """The layer and alpha that the direction's pipeline chose for a goal."""
        return self.pipelines[0].cell(goal)

    @property
    def layer(self) -> int:
        """The layer of the cell chosen first, to raise the measure."""
        return self.cell(self.goals[0]).layer

    @property
    def alpha(self) -> float:
        """The alpha of the cell chosen first, to raise the measure."""
        return self.cell(self.goals[0]).alpha

    @property
    def direction(self) -> Direction:
        """The direction of the layer chosen first."""
        return self.directions[self.layer]

    def dose(self, cell: Cell) -> float:
        """How long the added vector is, as a share of the median activation at its layer; NaN where that says nothing of what it does."""
        norm = self.validation.resid_norms.get(cell.layer)
        return math.nan if norm is None else relative_dose(self.directions[cell.layer], cell.alpha, norm)

    def __repr__(self) -> str:
        chosen = ", ".join(
            f"to {goal} {self.measure} layer {cell.layer}, alpha {cell.alpha:g}" for goal in self.goals for cell in [self.cell(goal)]
        )
        against = " and ".join(f"{one.n} {one.kind}" for one in self.pipelines)
        return f"Experiment({self.task!r}, {chosen}; {self.test.baseline.n} test problems, against {against})"

    @property
    def frame(self) -> pd.DataFrame:
        """Every alpha on the test split: one line a layer, alpha and problem, as `SweepResult.frame`."""
        return self.test.frame

    def summary(self) -> pd.DataFrame:
        """One line a layer and alpha, on the test split."""
        return self.test.summary()

    def warnings(self) -> list[str]:
        """What a reader must know of the interventions; `steerlab.Significance` has more to say."""
        parts: list[Result | None] = [self.validation, self.test, *self.pipelines, *self.controls, *self.families]
        parts += [self.side_effects, self.diagnostics]
        return list(dict.fromkeys(said for part in parts if part is not None for said in part.warnings()))

    def plot(self, **options: Any) -> Any:
        """Accuracy over alpha on the test split, beside the controls at the layer chosen first; options are those of `steerlab.plots.alpha_progression`."""
        return figure(
            "alpha_progression",
            self.test,
            **{"layer": self.layer, "control": [one for one in self.controls if one.layer == self.layer], **options},
        )


@takes_options
def contrast_directions(
    model: Model,
    evaluation: Evaluation,
    *,
    rng: np.random.Generator,
    layers: Sequence[int] | None = None,
    site: str = "resid_post",
    positions: Positions = "last",
    **options: Unpack[PassOptions],
) -> dict[int, Direction]:
    """Mean difference of balanced right and wrong problems, at each layer.

    Args:
        model: the model that was evaluated.
        evaluation: what it got right and wrong.
        rng: balances.
        layers: default all.
        site, positions: as in `steerlab.cache_activations`.

    Raises:
        ValueError: nothing right or nothing wrong, or activations that do not differ at a layer.

    Example:
        >>> import numpy as np, steerlab as sl
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic")
        >>> evaluation = sl.evaluate(model, task.train[:40])
        >>> sl.contrast_directions(model, evaluation, rng=np.random.default_rng(0), layers=[3])
        {3: Direction('mean difference', layer=3, site='resid_post', shape=[128], norm=7.68)}
    """
    _, right, wrong = balanced_activations(model, evaluation, rng=rng, layers=layers, site=site, positions=positions, **options)
    return {layer: mean_difference(right, wrong, layer=layer) for layer in right.layers}


@job("task", "layers", "alphas", "measure", "choose", "n_controls", "n_same_cell", "families")
@takes_options
@on_suitable_threads
def run_experiment(
    model: Model,
    task: Task,
    *,
    seed: int,
    layers: Sequence[int] | None = None,
    alphas: Sequence[float] = ALPHAS,
    measure: str = "accuracy",
    choose: str = "shortlist",
    n_controls: int = 99,
    stop_after: int | None = 10,
    pipelines: Sequence[str] = DEFAULT_PIPELINES,
    n_same_cell: int = 20,
    families: Sequence[str] | None = None,
    texts: Sequence[str | Sequence[int]] | None = None,
    cache_positions: Positions = "last",
    too_long: str = "error",
    plan: ExperimentPlan | str | Path | None = None,
    **options: Unpack[JobOptions],
) -> Experiment:
    """The main protocol on one model and task: choice on validation; effect, and whether it is this direction's, on test.

    Args:
        task: with train, validation and test problems.
        seed: balancing and controls draw from streams of their own that it determines.
        layers: candidates; default all.
        alphas: candidates and dose-response; 0 and at least one negative value belong in it.
        measure: what is chosen by and tested: "accuracy", "margin" or "nll". A cell is chosen that raises it, and one that lowers it.
        choose: the candidates, named without a steered outcome: "shortlist" (2 layers of the best held-out separability, 6 alphas up to a
            relative dose of 1, compared on 50 and the best on 150 validation problems), "grid" (every layer and alpha, on all of them), or
            "preset" (one cell for each goal, with nothing to choose).
        n_controls: control pipelines of each kind; the smallest p-value is 1 / (n_controls + 1).
        stop_after: when for each goal so many pipelines of a kind are at least as good, no more of them are drawn; None draws all.
        pipelines: kinds of control pipelines: names in `steerlab.controls.PIPELINES`.
        n_same_cell: random directions at each chosen cell, and of each further family; no conclusion rests on them.
        families: further controls at the cell chosen first: names in `steerlab.controls.FAMILIES`. Default equal_kl where the operator has
            vectors whose length means something.
        texts: texts to measure side effects on; default everyday sentences or, for a model that cannot read them, prompts of
            the validation split.
        cache_positions: where the direction is measured.
        too_long: what to do with problems that do not fit into the model's context: "error", "drop" or "truncate"; see `steerlab.fit_to_context`.
        plan: what `steerlab.plan_experiment` gave, or the file it was saved to: the report says whether it was followed, and lists deviations.
        progress: show progress bars, the number of each stage, and what a job of more than a minute is made of.

    Example:
        >>> import steerlab as sl
        >>> model = sl.load_model("tiny-arithmetic")
        >>> task = sl.load_task("arithmetic", limit=16)
        >>> sl.run_experiment(model, task, seed=0, layers=[3], alphas=[-2, 0, 2], n_controls=4).pipelines[0].n
        4
    """
    check_task(task)
    texts = None if texts is None else as_texts(texts)
    if n_controls < 1:
        raise InputError(f"n_controls={n_controls}; use at least 1 (99 give p-values down to 0.01)")
    n_same_cell = count(n_same_cell, "n_same_cell", at_least=1)
    if 0 not in alphas or min(alphas) >= 0 or len(set(alphas)) < 3:
        raise InputError(
            f"alphas={list(alphas)}; they must include 0 (the baseline), a negative value (to move away from right answers) and at least one more"
        )
    check_choices(measure, choose, pipelines)
    plan = load_plan(plan) if isinstance(plan, str | Path) else plan
    _check_splits(task, "the", f"split of task {task.name!r} is empty; the protocol needs all three")
    task = fit_to_context(model, task, too_long=too_long)
    _check_splits(task, "no", f"problem of task {task.name!r} fits into this model's context; use too_long='truncate', or shorter ones")
    operator, positions, passes = options["operator"], options["positions"], only(options, PassOptions)
    families = _families(families, operator)
    choice = choice_of(measure, choose)
    protocol = protocol_of(
        model, task, seed=seed, layers=layers, alphas=alphas, measure=measure, choose=choose, choice=choice, n_controls=n_controls,
        stop_after=stop_after, pipelines=pipelines, cache_positions=cache_positions, positions=positions, operator=operator,
    )  # fmt: skip
    texts, about = side_texts(model, task.validation) if texts is None else (list(texts), f"{len(texts)} given texts")
    stages = Stages(0, show=False)
    if options["progress"]:
        where = list(range(n_layers(model))) if layers is None else list(layers)
        work = workload(
            model, task, texts, layers=len(where), alphas=alphas, n_controls=n_controls, n_same_cell=n_same_cell, families=families,
            pipelines=pipelines, choose=choose, choice=choice,
        )  # fmt: skip
        if where:  # without any, the job says what is wrong
            more = ", beside a search for controls of equal KL" if work.search else ""
            made_of = _parts(model, task, texts, work, layers=where, **only(options, Acting))
            forecast(model, made_of, show=True, extra=f" in {work.stages} stages{more}, at most: hopeless cases end early")
        stages = Stages(work.stages, show=True)
    stages.next(f"evaluate {len(task.train)} train problems")
    train = evaluate(model, task.train, **passes)
    stages.next("activations of right and wrong problems, and what their contrast is worth")
    acts, right, wrong = balanced_activations(model, train, rng=stream(seed, "balance"), layers=layers, positions=cache_positions, **passes)
    directions = {layer: mean_difference(right, wrong, layer=layer) for layer in right.layers}
    worth = separability(right, wrong, directions, rng=stream(seed, "separability"))
    diagnostics, rows = None, len(right.problem_ids)
    if rows > 1:
        diagnostics = contrast_diagnostics(right, wrong, rng=stream(seed, "diagnostics"), folds=min(FOLDS, rows))
    stages.next(f"sweep of {len(directions)} layers on validation")
    validation = sweep(model, task.validation, directions, alphas=alphas, **options)
    norms = validation.resid_norms or None
    rule: Rule = (
        Grid(tuple(alphas))
        if choose == "grid"
        else Shortlist(tuple(alphas), worth, norms, preset=choose == "preset", raises=-1 if measure == "nll" else 1)
    )
    groups = dict(zip((p.id for p in task.train), groups_of(task.train), strict=True))
    compared: list[PipelineControl] = []
    for k, kind in enumerate(pipelines):
        stages.next(f"at most {n_controls} {PIPELINES[kind].words}")
        compared.append(
            pipeline_control(
                model, task.validation, task.test, directions, rule=rule, rng=stream(seed, "pipelines", k),
                draw=PIPELINES[kind].draw(right, wrong, groups), kind=PIPELINES[kind].words, choice=choice, n=n_controls, stop_after=stop_after,
                **options,
            )
        )  # fmt: skip
    goals = {goal: compared[0].cell(goal) for goal in compared[0].goals}
    cells = {cell: goal for goal, cell in reversed(goals.items())}  # a cell that was chosen for both goals stands once
    first = goals[compared[0].goals[0]]
    at = {layer: directions[layer] for layer in sorted({cell.layer for cell in cells})}
    stages.next(f"sweep of layer {' and '.join(map(str, at))} on test")
    test = sweep(model, task.test, at, alphas=alphas, **options)
    if norms is not None:  # doses everywhere relative to the same
        test = replace(test, settings={**test.settings, "resid_norms": [[layer, norms[layer]] for layer in at]})
    controls: tuple[ControlResult, ...] = ()
    for cell in dict.fromkeys(goals.values()):
        stages.next(f"random directions at layer {cell.layer}, alpha {cell.alpha:g}")
        rng = stream(seed, cells[cell])
        controls += (random_control(model, task.test, directions[cell.layer], alpha=cell.alpha, n=n_same_cell, rng=rng, **options),)
    if len(controls) < len(goals):
        stages.next("random directions at the cell to lower: those at the cell to raise")
    stages.next(f"side effects on {about}")
    beside = TextOptions(**passes, operator=operator, positions=positions_on_text(positions))
    effects = joined(
        [side_effects(model, direction, texts, alphas=alphas, **beside) for direction in at.values()]
        + [side_effects(model, c.controls, texts, alphas=[c.alpha], **beside) for c in controls]
    )
    others, remarks = [], {}
    for k, family in enumerate(families):
        stages.next(f"controls of the family {family}")
        rng, direction = stream(seed, "families", k), directions[first.layer]
        drawn = FAMILIES[family].draw
        if drawn is not None:
            draw = drawn(acts, right, wrong)
        else:
            if effects.kl(direction, first.alpha) == 0:
                remarks[family] = "not run, because the direction changes no distribution on the texts: there is nothing to match"
                continue
            plain = random_directions(direction, n_same_cell, rng=rng, name="equal-kl")
            matched = match_kl(model, direction, plain, texts, alpha=first.alpha, **only(beside, Acting))
            draw, missed = matched.draw, " ".join(matched.warnings())
            remarks |= {family: missed} if missed else {}
        control = random_control(model, task.test, direction, alpha=first.alpha, n=n_same_cell, rng=rng, draw=draw, **options)
        others.append(replace(control, family=family))
    settings = {
        "seed": seed, "measure": measure, "choose": choose, "cache_positions": cache_positions, "positions": positions, "operator": operator,
        **({} if options["precision"] is None else {"precision": str(options["precision"])}),
        "n_controls": n_controls, "n_same_cell": n_same_cell, "stop_after": stop_after, "texts": about, "families": remarks, "task": dict(task.about),
        "test_problems": protocol["test problems"],
        **({} if plan is None else {"plan": {"sha256": plan.sha256, "deviations": plan.deviations(protocol)}}),
    }  # fmt: skip
    return Experiment(
        task.name,
        train,
        directions,
        validation,
        tuple(compared),
        test,
        controls,
        tuple(others),
        diagnostics,
        effects,
        settings,
    )


def _check_splits(task: Task, before: str, after: str) -> None:
    for split in ("train", "validation", "test"):
        if not getattr(task, split):
            raise InputError(f"{before} {split} {after}")


@dataclass(frozen=True)
class Workload:
    """Runs of the stages of the main job, at most: `controls` are those at one of two cells, `search` is not counted."""

    train: int
    validation: int
    pipelines: dict[str, int]
    test: int
    controls: int
    effects: int
    families: dict[str, int]
    search: int

    @property
    def stages(self) -> int:
        """How many: evaluation, activations, two sweeps, pipelines, controls at two cells, side effects, and the families."""
        return 7 + len(self.pipelines) + len(self.families)

    @property
    def scored(self) -> int:
        """Runs whose answers are judged."""
        return self.validation + self.test + 2 * self.controls + sum(self.families.values()) + sum(self.pipelines.values())

    @property
    def runs(self) -> int:
        """All that is counted."""
        return self.train + self.scored + self.effects


def workload(
    model: Model,
    task: Task,
    texts: Sequence[str | Sequence[int]],
    *,
    layers: int,
    alphas: Sequence[float],
    n_controls: int,
    n_same_cell: int,
    families: Sequence[str],
    pipelines: Sequence[str],
    choose: str,
    choice: Choice,
) -> Workload:
    """The runs of the main job at so many layers, counted before it starts: an upper bound, for stopping and layers chosen alike take fewer."""
    train, validation, test = (rows_of(model, problems) for problems in (task.train, task.validation, task.test))
    acting, goals = sum(alpha != 0 for alpha in alphas), 2
    control = test * (2 + n_same_cell)  # the baseline, the direction, and its controls
    effects = len(texts) * (goals * (1 + acting) + 2 * (1 + n_same_cell))  # each layer has a baseline of its own
    search = len(texts) * (1 + n_same_cell) * SEARCH if "equal_kl" in families else 0
    cells = {"shortlist": min(layers, Shortlist.n_layers) * min(acting, Shortlist.n_alphas), "grid": layers * acting, "preset": 0}[choose]
    one = round(choice.runs(len(task.validation), cells, goals) * validation / len(task.validation)) + goals * test
    each = one * (1 + n_controls)
    return Workload(
        train,
        validation * (1 + layers * acting),
        dict.fromkeys(pipelines, each),
        test * (1 + goals * acting),
        control,
        effects,
        dict.fromkeys(families, control),
        search,
    )


def _parts(
    model: Model, task: Task, texts: Sequence[str | Sequence[int]], work: Workload, *, layers: Sequence[int], **acting: Unpack[Acting]
) -> list[Work]:
    """The main job's runs by kind; what is evaluated is run again for its activations, at most, which is not counted."""
    return [
        unsteered(model, task.train, work.train, again=work.train),
        steered(model, task.validation, work.scored, layers=layers, **acting),
        on_texts(model, texts, work.effects, layers=layers, search=work.search, **acting),
    ]


def stream(seed: int, use: str, *number: int) -> np.random.Generator:
    """A generator of its own for each use of chance in a run, from the run's seed."""
    return np.random.default_rng([seed, STREAMS[use], *number])


def _families(families: Sequence[str] | None, operator: str | Operator) -> tuple[str, ...]:
    """The families asked for, checked."""
    if families is None:
        return ("equal_kl",) if operator in SCALED else ()
    unknown = [family for family in families if family not in FAMILIES]
    if unknown:
        raise InputError(f"families: {unknown[0]!r}; use any of {', '.join(FAMILIES)}")
    if "equal_kl" in families and operator not in SCALED:
        raise InputError(f"families: equal_kl needs an operator under which length counts ({' or '.join(SCALED)}), not {operator!r}")
    return tuple(dict.fromkeys(families))
