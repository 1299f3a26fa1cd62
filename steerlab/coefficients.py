"""How much of a direction: a grid of coefficients after the layer is chosen, chosen on validation, tested once."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import pandas as pd
import torch

from steerlab._checks import InputError
from steerlab._progress import job
from steerlab.activations.cache import Positions
from steerlab.directions.direction import Direction, check_type, place
from steerlab.models.backends import Model
from steerlab.models.forecasts import forecast
from steerlab.statistics.intervals import Interval, paired_interval
from steerlab.statistics.paired import SignTest, sign_test
from steerlab.steering.operators import Operator
from steerlab.steering.work import rows_of, steered
from steerlab.sweeps import SweepResult, sweep
from steerlab.tasks.problems import Problem, as_problems, in_both
from steerlab.tasks.scorers import Scorer

COEFFICIENTS: tuple[float, ...] = (0.3, 0.5, 0.7, 1.0, 1.3, 1.5, 2.0)


@dataclass(frozen=True, eq=False)
class CoefficientGrid:
    """A coefficient, chosen and tested.

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

    def _repr_html_(self) -> str:
        return f"<p>{escape(repr(self))}</p>" + self.frame.to_html(index=False, float_format="{:.3f}".format, escape=True)


@job("validation", "test", "coefficients")
def coefficient_grid(
    model: Model,
    validation: Sequence[Problem],
    test: Sequence[Problem],
    direction: Direction,
    *,
    coefficients: Sequence[float] = COEFFICIENTS,
    positions: Positions = "all",
    operator: str | Operator = "add",
    layer: int | None = None,
    site: str | None = None,
    scorer: str | Scorer | None = None,
    max_tokens: int | None = None,
    memory: str | int | None = None,
    precision: str | torch.dtype | None = None,
    progress: bool = False,
) -> CoefficientGrid:
    """Choose a direction's coefficient on validation problems, and score the choice on test problems, once.

    Args:
        model: a TransformerLens model.
        validation: what to choose on. Should the layer have been chosen on them as well, that choice had a part in it.
        test: what to report; none of the validation problems.
        direction: at the layer chosen before.
        coefficients: candidates; default the sources'. 0 is no candidate.
        positions, operator, layer, site, scorer, max_tokens, memory, precision, progress: as in `steerlab.sweep`.

    Raises:
        ValueError: splits that share a problem, no coefficients, 0 among them, or what `steerlab.sweep` refuses.

    Example:
        >>> import steerlab as sl
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic")
        >>> direction = sl.Direction(torch.ones(128), layer=2)
        >>> grid = coefficient_grid(model, task.validation[:20], task.test[:20], direction, coefficients=[0.5, 1.0])
        >>> grid.coefficient in (0.5, 1.0), grid.test.frame["alpha"].unique().tolist() == [grid.coefficient]
        (True, True)
    """
    as_problems(validation, "validation")
    as_problems(test, "test")
    check_type(direction, "direction")
    both = in_both(validation, test)
    if both:
        raise InputError(
            f"{len(both)} problems stand in validation and in test, {both[0].id!r} for one; a coefficient that is chosen on them must not be tested on them"
        )
    if not validation or not test:
        raise InputError(f"{len(validation)} validation and {len(test)} test problems; give some of both")
    if 0 in list(coefficients):
        raise InputError("coefficients hold 0, which is the baseline and is always run; leave it out")
    if progress:
        limits: dict[str, Any] = {"scorer": scorer, "max_tokens": max_tokens, "memory": memory}
        where, at = place(direction, layer, site)
        how: dict[str, Any] = {"layers": [where], "site": at, "operator": operator, "positions": positions, **limits}
        n = len(list(coefficients))
        made_of = [
            steered(model, validation, (1 + n) * rows_of(model, validation, scorer), together=n, **how),
            steered(model, test, 2 * rows_of(model, test, scorer), together=1, **how),
        ]
        forecast(model, made_of, show=True)
    options: dict[str, Any] = {"positions": positions, "operator": operator, "layer": layer, "site": site, "scorer": scorer}
    options |= {"max_tokens": max_tokens, "memory": memory, "precision": precision, "progress": progress}
    tried = sweep(model, validation, direction, alphas=list(coefficients), **options)
    chosen = float(tried.best()["alpha"])
    return CoefficientGrid(tried, sweep(model, test, direction, alphas=[chosen], **options), chosen)
