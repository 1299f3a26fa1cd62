"""Choose layer and alpha with less than the full grid's work (successive halving), or a coefficient after the layer is chosen.

All cells are tried on a few problems, the better ones on more, and so on; those left at the end are measured on all. (Jamieson and
Talwalkar 2016, "Non-stochastic best arm identification and hyperparameter optimization".) In each round half of the problems have
the smallest margins, and half are random. It gives a choice, not a heatmap.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Unpack

import numpy as np
import pandas as pd

from steerlab._checks import InputError, check_rng, only, takes_options
from steerlab._html import LONG, Result
from steerlab._progress import job
from steerlab.directions.direction import Direction, Directions, check_type, site_of
from steerlab.models.backends import Model
from steerlab.models.forecasts import forecast
from steerlab.models.memory import Limits
from steerlab.statistics.intervals import Interval, paired_interval
from steerlab.statistics.paired import SignTest, sign_test
from steerlab.steering import ALPHAS
from steerlab.steering.cells import run_interventions
from steerlab.steering.options import ActedAt, GridOptions, RunOptions, Scoring
from steerlab.steering.work import rows_of, steered, unsteered
from steerlab.sweeps.sweep import KEYS, SweepResult, cells_of, ranked, sweep
from steerlab.tasks.evaluation import evaluate
from steerlab.tasks.problems import Problem, as_problems, in_both

ROUNDS = 4
KEEP = 0.45  # of the cells goes on after each round


@dataclass(frozen=True, eq=False)
class HalvingResult(Result):
    """The cells of a successive halving, round by round, and the best of them.

    Attributes:
        frame: one line a round and cell: round, layer, direction, alpha, n (problems it was measured on so far), accuracy,
            change (against the baseline on the same problems), margin_change and kept.
        evaluations: problems run: each problem counts once under each cell, and once unsteered at each time that it was run so.
        full_evaluations: what the full grid would have run.
    """

    frame: pd.DataFrame
    evaluations: int
    full_evaluations: int

    @property
    def best(self) -> pd.Series:
        """The best cell of the last round, by accuracy, then the mean margin, as `SweepResult.best` has it."""
        return self.summary().iloc[0]

    def __repr__(self) -> str:
        best = self.best
        return (
            f"HalvingResult(layer={best['layer']}, alpha={best['alpha']}, accuracy={best['accuracy']:.3f}, "
            f"{self.evaluations} of {self.full_evaluations} evaluations)"
        )

    def summary(self) -> pd.DataFrame:
        """The cells of the last round, best first, at most 30: lines of `frame`."""
        return ranked(self.frame[self.frame["round"] == self.frame["round"].max()]).head(LONG)


@job("problems", "directions", "alphas")
@takes_options
def successive_halving(
    model: Model,
    problems: Sequence[Problem],
    directions: Directions,
    *,
    rng: np.random.Generator,
    alphas: float | Sequence[float] = ALPHAS,
    rounds: int = ROUNDS,
    **options: Unpack[GridOptions],
) -> HalvingResult:
    """The best cell of a grid, found with a part of its runs (with 4 rounds less than a third; of a dozen cells, two fifths).

    In round r of R, cells are compared on a share of ``2 ** (r - R)`` of the problems, and 45% of them go on.
    Problems that a cell has seen are not run again under it.

    Args:
        problems: what to choose on; a validation split.
        directions, alphas: the grid, as in `steerlab.sweep`. Alpha = 0 is no candidate.
        rng: draws half of the order in which problems are used.
        rounds: after all but the last, cells are dropped.

    Raises:
        ValueError: bad input, or too few problems for so many rounds.

    Example:
        >>> import numpy as np, steerlab as sl, torch
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic")
        >>> direction = sl.Direction(torch.ones(model.cfg.d_model), layer=3)
        >>> found = sl.successive_halving(
        ...     model, task.validation[:16], direction, alphas=[-2, -1, 1, 2], rounds=2, rng=np.random.default_rng(0)
        ... )
        >>> found.frame.groupby("round")["n"].agg(["size", "first"]).values.tolist()  # cells, and problems that each has seen
        [[4, 8], [1, 16]]
    """
    check_rng(rng)
    as_problems(problems)
    cells = [cell for cell in cells_of(directions, alphas, **only(options, ActedAt)) if cell.acts]
    if not cells:
        raise InputError(f"alphas={alphas}: 0 is the baseline; give at least one other coefficient")
    if rounds < 1 or len(problems) < 2 ** (rounds - 1):
        raise InputError(f"rounds={rounds}: {len(problems)} problems allow 1 to {max(1, len(problems).bit_length())} rounds")
    plan = _plan(len(problems), len(cells), rounds)
    how, scorer, progress = only(options, Scoring), options["scorer"], options["progress"]
    if progress:
        each = rows_of(model, problems, scorer) / len(problems)
        layers = sorted({cell.layer for cell in cells})
        runs = sum(new * (1 + left) for new, left in plan)
        made_of = [
            unsteered(model, problems, round(each * len(problems)), scorer=scorer),
            steered(model, problems, round(each * runs), layers=layers, site=cells[0].places[0].at.site, together=len(cells), **how),
        ]
        forecast(model, made_of, show=True, extra=f" in {rounds} rounds")
    plain = evaluate(model, problems, scorer=scorer, progress=progress, **only(options, Limits))
    order = [problems[i] for i in _order(plain.frame["margin"].abs().to_numpy(), rng)]
    measured = [pd.DataFrame() for _ in cells]
    baseline = pd.DataFrame()
    left, lines, evaluations, seen = list(range(len(cells))), list[pd.DataFrame](), len(problems), 0
    for r, (more, _) in enumerate(plan):
        new = order[seen : seen + more]
        done = run_interventions(model, new, [cells[k] for k in left], progress=progress, label=f"round {r + 1} of {rounds}", **how)
        evaluations += len(new) * (1 + len(left))
        seen += more
        baseline = pd.concat([baseline, done.baseline.frame])
        for k, frame in zip(left, done.frames, strict=True):
            measured[k] = pd.concat([measured[k], frame])
        found = ((k, cells[k], measured[k][["correct", "margin"]].mean()) for k in left)
        rows = [(k, r + 1, cell.layer, cell.name, cell.alpha, seen, *means) for k, cell, means in found]
        table = pd.DataFrame(rows, columns=["cell", "round", *KEYS, "n", "accuracy", "margin_change"])
        table["change"] = table["accuracy"] - baseline["correct"].mean()
        table["margin_change"] -= baseline["margin"].mean()
        keep = ranked(table)["cell"].tolist()[: len(left) if r == rounds - 1 else _kept(len(left))]
        table["kept"] = table["cell"].isin(keep)
        lines.append(table.drop(columns="cell"))
        left = [k for k in left if k in set(keep)]
    frame = pd.concat(lines, ignore_index=True)[["round", *KEYS, "n", "accuracy", "change", "margin_change", "kept"]]
    return HalvingResult(frame, evaluations, len(problems) * (1 + len(cells)))


def _plan(n_problems: int, n_cells: int, rounds: int) -> list[tuple[int, int]]:
    """Of each round, how many problems are new, and how many cells see them."""
    found, seen = [], 0
    for r in range(rounds):
        upto = -(-n_problems // 2 ** (rounds - 1 - r))
        found.append((upto - seen, n_cells))
        seen, n_cells = upto, _kept(n_cells)
    return found


def _kept(cells: int) -> int:
    return max(1, int(KEEP * cells))


def _order(distance: np.ndarray, rng: np.random.Generator) -> list[int]:
    """Places by turns: the one nearest to the boundary, then one at random."""
    by_turns = zip(np.argsort(distance, kind="stable").tolist(), rng.permutation(len(distance)).tolist(), strict=True)
    return list(dict.fromkeys(place for pair in by_turns for place in pair))


COEFFICIENTS: tuple[float, ...] = (0.3, 0.5, 0.7, 1.0, 1.3, 1.5, 2.0)


@dataclass(frozen=True, eq=False)
class CoefficientGrid(Result):
    """A coefficient chosen on validation problems, and its effect on test problems.

    Attributes:
        validation: every coefficient on the problems that it was chosen on.
        test: the chosen coefficient alone, on other problems.
        coefficient: the choice: highest accuracy on validation, then the larger mean margin, then the smaller coefficient.
    """

    validation: SweepResult
    test: SweepResult
    coefficient: float

    @property
    def frame(self) -> pd.DataFrame:
        """One line a split and coefficient: split, chosen, and the columns of `SweepResult.accuracy`."""
        parts = [one.accuracy().assign(split=split) for split, one in (("validation", self.validation), ("test", self.test))]
        table = pd.concat(parts, ignore_index=True)
        table.insert(0, "chosen", table["alpha"] == self.coefficient)
        table.insert(0, "split", table.pop("split"))
        return table

    @property
    def bias(self) -> float:
        """Change of accuracy on validation minus that on test: what the choice made of chance, on average over repetitions."""
        chosen = self.frame[self.frame["chosen"]].set_index("split")["change"]
        return float(chosen["validation"] - chosen["test"])

    def sign_test(self) -> SignTest:
        """Did the chosen coefficient change answers on test, problem by problem?"""
        before, after = self.test.paired()
        return sign_test(before, after.iloc[:, 0])

    def paired_interval(self) -> Interval:
        """The change of accuracy on test, with its interval."""
        before, after = self.test.paired()
        return paired_interval(before, after.iloc[:, 0])

    def warnings(self) -> list[str]:
        """What a reader must know of interventions that did nothing."""
        return self.validation.warnings() + self.test.warnings()

    def __repr__(self) -> str:
        change = self.frame[self.frame["chosen"]].set_index("split")["change"]
        return (
            f"CoefficientGrid(coefficient={self.coefficient}, validation {change['validation']:+.3f} on {self.validation.baseline.n} problems, "
            f"test {change['test']:+.3f} on {self.test.baseline.n})"
        )


@job("validation", "test", "coefficients")
@takes_options
def coefficient_grid(
    model: Model,
    validation: Sequence[Problem],
    test: Sequence[Problem],
    direction: Direction,
    *,
    coefficients: Sequence[float] = COEFFICIENTS,
    **options: Unpack[RunOptions],
) -> CoefficientGrid:
    """A direction's coefficient chosen on validation problems, and its effect on test problems, scored once.

    Args:
        validation: what to choose on. Should the layer have been chosen on them as well, that choice had a part in it.
        test: what to report; none of the validation problems.
        direction: at the layer chosen before.
        coefficients: candidates; default the sources'. 0 is no candidate.

    Raises:
        ValueError: splits that share a problem, no coefficients, 0 among them, or what `steerlab.sweep` refuses.

    Example:
        >>> import steerlab as sl, torch
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic")
        >>> direction = sl.Direction(torch.ones(128), layer=2)
        >>> grid = coefficient_grid(model, task.validation[:20], task.test[:20], direction, coefficients=[0.5, 1.0])
        >>> grid.coefficient in (0.5, 1.0), grid.test.frame["alpha"].unique().tolist() == [grid.coefficient]
        (True, True)
    """
    as_problems(validation, "validation")
    as_problems(test, "test")
    check_type(direction, "direction")
    if both := in_both(validation, test):
        raise InputError(
            f"{len(both)} problems stand in validation and in test, {both[0].id!r} for one; a coefficient that is chosen on them must not be tested on them"
        )
    if not validation or not test:
        raise InputError(f"{len(validation)} validation and {len(test)} test problems; give some of both")
    if 0 in list(coefficients):
        raise InputError("coefficients include 0, which is the baseline and is always run; leave it out")
    if options["progress"]:
        scorer, (where, at) = options["scorer"], site_of(direction, options["layer"], options["site"])
        how: dict[str, Any] = {"layers": [where], "site": at, **only(options, Scoring)}
        n = len(list(coefficients))
        made_of = [
            steered(model, validation, (1 + n) * rows_of(model, validation, scorer), together=n, **how),
            steered(model, test, 2 * rows_of(model, test, scorer), together=1, **how),
        ]
        forecast(model, made_of, show=True)
    tried = sweep(model, validation, direction, alphas=list(coefficients), **options)
    chosen = float(tried.best()["alpha"])
    return CoefficientGrid(tried, sweep(model, test, direction, alphas=[chosen], **options), chosen)
