"""Score every problem under its own direction and alpha."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Unpack

import numpy as np
import pandas as pd

from steerlab._checks import InputError, one_of, only, takes_options
from steerlab._html import Result
from steerlab._progress import job
from steerlab.directions.direction import Direction, check_alike, check_type, site_of
from steerlab.models.backends import Model
from steerlab.models.forecasts import forecast
from steerlab.models.memory import PassOptions
from steerlab.statistics.intervals import wilson_interval
from steerlab.steering.cells import CHECK_COLUMNS, run_interventions
from steerlab.steering.interventions import check_alpha
from steerlab.steering.options import GridOptions, Scoring
from steerlab.steering.routers import AlphaRule, Router
from steerlab.steering.variants import Intervention, Placed
from steerlab.steering.work import rows_of, steered, unsteered
from steerlab.sweeps.sweep import inert
from steerlab.tasks.evaluation import Evaluation, check_ids, evaluate
from steerlab.tasks.problems import Problem
from steerlab.tasks.scorers import scorer_for


@dataclass(frozen=True, eq=False)
class RoutedResult(Result):
    """Outcomes of each problem under its own direction and alpha.

    Attributes:
        frame: one line a problem, in their order: problem_id, route, direction ("none" where it was left unsteered), alpha, prediction,
            correct, margin, nll.
        baseline: the unsteered evaluation.
        evaluation: the steered one.
        checks: one line a group that was steered alike: did the intervention act.
    """

    frame: pd.DataFrame
    baseline: Evaluation
    evaluation: Evaluation
    checks: pd.DataFrame

    @property
    def accuracy(self) -> float:
        """Share of problems answered rightly under their own direction."""
        return self.evaluation.accuracy

    def summary(self) -> pd.DataFrame:
        """One line a route: n, correct, accuracy, low, high (95% Wilson), change, became_right and became_wrong."""
        table = self.frame.assign(before=self.baseline.frame["correct"].to_numpy(bool), after=self.frame["correct"].astype(bool))
        lines = []
        for route, group in table.groupby("route", sort=True):
            before, after = group["before"], group["after"]
            low, high = wilson_interval(int(after.sum()), len(group))
            line = {"route": route, "n": len(group), "correct": int(after.sum()), "accuracy": after.mean(), "low": low, "high": high}
            line |= {"change": after.mean() - before.mean()}
            lines.append(line | {"became_right": int((~before & after).sum()), "became_wrong": int((before & ~after).sum())})
        return pd.DataFrame(lines)

    def paired(self, measure: str = "correct") -> tuple[pd.Series, pd.Series]:
        """Each problem unsteered and steered, for the paired tests of `steerlab.statistics`."""
        one_of(measure, "measure", ("correct", "margin", "nll"))
        return self.baseline.frame.set_index("problem_id")[measure], self.frame.set_index("problem_id")[measure]

    def warnings(self) -> list[str]:
        """What a reader must know of interventions that did nothing."""
        return inert(self.checks)

    def __repr__(self) -> str:
        routes = ", ".join(f"{route}: {n}" for route, n in self.frame["route"].value_counts(sort=False).items())
        return f"RoutedResult({len(self.frame)} problems ({routes}), baseline {self.baseline.accuracy:.3f}, routed {self.accuracy:.3f})"


@job("problems")
@takes_options
def evaluate_routed(
    model: Model,
    problems: Sequence[Problem],
    directions: Direction | Mapping[str, Direction | None],
    *,
    routes: Router | Sequence[str] | None = None,
    alpha: float | Sequence[float] | AlphaRule = 1.0,
    **options: Unpack[GridOptions],
) -> RoutedResult:
    """Outcomes of each problem under its own direction and alpha.

    Problems that share both are run together, on the fast path.

    Args:
        problems: what to ask.
        directions: of each route; None leaves its problems unsteered. A single direction needs no routes.
        routes: a router such as `KeywordRouter` or `nearest_mean`, or the route of each problem.
        alpha: one for all, one for each problem, or a rule such as `ReachProjection`.

    Raises:
        ValueError: a route that has no direction, other numbers of routes or alphas than problems, directions of different models, or what
            `steerlab.sweep` refuses.

    Example:
        >>> import steerlab as sl, torch
        >>> model, problems = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic").test[:6]
        >>> routes = ["up", "up", "none", "down", "down", "none"]
        >>> up = sl.Direction(torch.ones(128), layer=2, name="up")
        >>> done = evaluate_routed(model, problems, {"up": up, "down": -up, "none": None}, routes=routes)
        >>> done.frame["route"].tolist() == routes, done.frame["direction"].tolist()[:4]
        (True, ['up', 'up', 'none', '-up'])
    """
    check_ids(problems)
    if not problems:
        raise InputError("no problems given; there is nothing to route")
    if not isinstance(directions, Mapping):
        check_type(directions, "directions")
    if isinstance(directions, Direction) != (routes is None):
        raise InputError(
            "one direction needs no routes, and several need them: give {route: direction} and routes, or a single direction alone"
        )
    known: Mapping[str, Direction | None] = {directions.name: directions} if isinstance(directions, Direction) else directions
    given = [one for one in known.values() if one is not None]
    if given:
        check_alike(given, layers=False)
    named = [next(iter(known))] * len(problems) if routes is None else list(routes(model, problems) if callable(routes) else routes)
    if isinstance(alpha, int | float | np.number):
        strengths = [check_alpha(alpha)] * len(problems)
    else:
        strengths = [check_alpha(one) for one in (alpha(model, problems) if callable(alpha) else alpha)]
    for what, found in (("routes", named), ("alphas", strengths)):
        if len(found) != len(problems):
            raise InputError(f"{len(found)} {what} for {len(problems)} problems; give one for each")
    lost = [(problem.id, route) for problem, route in zip(problems, named, strict=True) if route not in known]
    if lost:
        raise InputError(
            f"problem {lost[0][0]!r} is routed to {lost[0][1]!r}, which has no direction (routes are {', '.join(map(repr, known))}); give it one, or None"
        )
    groups: dict[tuple[str, float], list[int]] = {}
    for i, key in enumerate(zip(named, strengths, strict=True)):
        groups.setdefault(key, []).append(i)
    judge = scorer_for(problems, options["scorer"])  # of all problems, not of each group
    layer, site = options["layer"], options["site"]
    how = only(options, Scoring) | Scoring(scorer=judge)
    if options["progress"]:
        runs = {key: rows_of(model, [problems[i] for i in places], judge) for key, places in groups.items()}
        acting = [one for route, one in known.items() if one is not None and any(key[0] == route for key in runs)]
        plainly = sum(n for (route, _), n in runs.items() if known[route] is None)
        made_of = [unsteered(model, problems, plainly, scorer=judge)]
        if acting:
            at = [site_of(one, layer, site) for one in acting]
            layers = [where for where, _ in at]
            made_of.append(steered(model, problems, 2 * (sum(runs.values()) - plainly), layers=layers, site=at[0][1], together=1, **how))
        forecast(model, made_of, show=True)
    plain, moved, checks = [], [], []
    for (route, strength), places in groups.items():
        some, one = [problems[i] for i in places], known[route]
        if one is None:
            before = after = evaluate(model, some, scorer=judge, **only(options, PassOptions)).frame
        else:
            cell = Intervention((Placed(one, site_of(one, layer, site)),), strength)
            done = run_interventions(model, some, [cell], label=route, progress=options["progress"], **how)
            before, after = done.baseline.frame, done.frames[0]
            checks.append(done.checks)
        plain.append(before.assign(place=places))
        name, alpha_of = ("none", 0.0) if one is None else (one.name, strength)
        moved.append(after.assign(route=route, direction=name, alpha=alpha_of, place=places))
    before, after = (pd.concat(parts).sort_values("place").drop(columns="place").reset_index(drop=True) for parts in (plain, moved))
    outcome = list(before.columns)
    columns = ["problem_id", "route", "direction", "alpha", *(column for column in outcome if column != "problem_id")]
    every = pd.concat(checks, ignore_index=True) if checks else pd.DataFrame(columns=CHECK_COLUMNS)
    before_all, after_all = (Evaluation(tuple(problems), frame, judge.name) for frame in (before, after[outcome]))
    return RoutedResult(after[columns], before_all, after_all, every)
