"""Random-direction controls: would any direction of the same size have done it?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
import torch

from steerlab.activations import Positions
from steerlab.cells import Cell, Place, run_cells
from steerlab.directions import Direction, place, random_directions
from steerlab.interventions import Operator, check_alpha
from steerlab.models import Model
from steerlab.precision import Precision
from steerlab.statistics import Alternative, RankTest, SignTest, TTest, cohens_d, one_sample_t_test, rank_test, sign_test
from steerlab.sweeps import inert
from steerlab.tasks import Evaluation, Problem, Scorer

MEASURES = {"accuracy": "change", "margin": "margin_change"}


@dataclass(frozen=True, eq=False)
class ControlResult:
    """A direction and its controls at one alpha, on the same problems.

    Attributes:
        frame: one line a direction and problem: direction, is_control, problem_id, prediction, correct, margin, nll.
        baseline: the unsteered evaluation.
        direction: the direction under test.
        alpha: the coefficient.
        layer, site: where it acted.
        n: number of controls.
        family: how controls were drawn.
        checks: did the interventions act.
        precision: how a lower precision compares with the model's own, where one was asked for.
    """

    frame: pd.DataFrame
    baseline: Evaluation
    direction: Direction
    alpha: float
    layer: int
    site: str
    n: int
    family: str
    checks: pd.DataFrame
    precision: Precision | None = None

    def changes(self) -> pd.DataFrame:
        """One line a direction: direction, is_control, accuracy, change (of accuracy), margin_change (mean)."""
        return self._changes.copy()

    @cached_property
    def _changes(self) -> pd.DataFrame:
        grouped = self.frame.groupby(["direction", "is_control"], sort=False)
        table = grouped.agg(accuracy=("correct", "mean"), margin=("margin", "mean")).reset_index()
        table["change"] = table["accuracy"] - self.baseline.accuracy
        table["margin_change"] = table.pop("margin") - float(self.baseline.frame["margin"].mean())
        return table

    def effect(self, measure: str = "accuracy") -> tuple[float, np.ndarray]:
        """The direction's effect and its controls' effects.

        Args:
            measure: "accuracy" (change in the share of right answers) or "margin" (change in the mean margin).

        Raises:
            ValueError: an unknown measure.
        """
        if measure not in MEASURES:
            raise ValueError(f"measure={measure!r}; use one of {', '.join(MEASURES)}")
        column = self._changes[MEASURES[measure]]
        controls = self._changes["is_control"].astype(bool)
        return float(column[~controls].iloc[0]), column[controls].to_numpy(float)

    def rank_test(self, *, measure: str = "accuracy", alternative: Alternative = "two-sided") -> RankTest:
        """Is the direction's effect extreme among its controls? The unit is the direction; ties count against it."""
        return rank_test(*self.effect(measure), alternative=alternative)

    def t_test(self, *, measure: str = "accuracy", alternative: Alternative = "two-sided") -> TTest:
        """The sources' test: are the controls' effects, on average, other than the direction's?

        It treats the direction's effect as known without error and asks about the controls' mean, not about one
        direction among many; it is reported beside the rank test, not instead of it.
        """
        observed, controls = self.effect(measure)
        return one_sample_t_test(controls, observed, alternative=alternative)

    def cohens_d(self, *, measure: str = "accuracy") -> float:
        """The direction's effect in standard deviations of its controls' effects, from their mean."""
        return cohens_d(*self.effect(measure))

    def sign_test(self, *, alternative: Alternative = "two-sided") -> SignTest:
        """Did the direction itself move answers? Exact sign test on the problems that changed sides."""
        mine = self.frame[~self.frame["is_control"]].set_index("problem_id")["correct"]
        before = self.baseline.frame.set_index("problem_id")["correct"]
        return sign_test(before.to_numpy(bool), mine.loc[before.index].to_numpy(bool), alternative=alternative)

    def warnings(self) -> list[str]:
        """What a reader must know about interventions that did nothing."""
        return inert(self.checks) + ([str(self.precision)] if self.precision else [])

    def __repr__(self) -> str:
        test = self.rank_test()
        return f"ControlResult({self.direction.name!r}, layer={self.layer}, alpha={self.alpha}, controls={self.n}, change={test.observed:+.3f}, p={test.p_value:.3g})"

    def _repr_html_(self) -> str:
        return f"<p>{self.direction.name} at layer {self.layer}, alpha {self.alpha}</p>" + self.rank_test()._repr_html_()


def random_control(
    model: Model,
    problems: Sequence[Problem],
    direction: Direction,
    *,
    alpha: float,
    n: int = 99,
    rng: np.random.Generator,
    draw: Callable[..., list[Direction]] = random_directions,
    positions: Positions = "all",
    operator: str | Operator = "add",
    layer: int | None = None,
    site: str | None = None,
    scorer: str | Scorer | None = None,
    max_tokens: int | None = None,
    memory: str | int | None = None,
    precision: str | torch.dtype | None = None,
    progress: bool = False,
) -> ControlResult:
    """Steer with a direction and with n controls, at one alpha, on the same problems.

    Args:
        model: a TransformerLens model.
        problems: what to ask.
        direction: the direction under test.
        alpha: the coefficient, the same for all.
        n: number of controls; the smallest p-value is 1 / (n + 1).
        rng: draws the controls.
        draw: a function ``(direction, n, rng=rng)`` that gives controls; default norm-matched isotropic ones.
        positions, operator, layer, site, scorer, max_tokens, memory, precision, progress: as in `steerlab.sweep`.

    Raises:
        ValueError: bad input (n below 1, alpha 0 or not finite, …), found before the first run.
    """
    alpha = check_alpha(alpha)
    if alpha == 0:
        raise ValueError("alpha=0 is the baseline; a control needs a coefficient other than 0")
    controls = draw(direction, n, rng=rng)
    if not controls or len({control.name for control in controls}) < len(controls):
        raise ValueError(
            f"draw gave {len(controls)} controls, {len({c.name for c in controls})} of them with a name of their own; give each its own"
        )
    at = place(direction, layer, site)
    cells = [Cell((Place(one, *at),), alpha) for one in [direction, *controls]]
    done = run_cells(
        model,
        problems,
        cells,
        operator=operator,
        positions=positions,
        scorer=scorer,
        max_tokens=max_tokens,
        memory=memory,
        precision=precision,
        progress=progress,
        label="control",
    )
    parts = [frame.assign(direction=cell.name, is_control=k > 0) for k, (cell, frame) in enumerate(zip(cells, done.frames, strict=True))]
    columns = ["direction", "is_control", "problem_id", "prediction", "correct", "margin", "nll"]
    frame = pd.concat(parts, ignore_index=True)[columns]
    family = str(controls[0].method.get("estimator", getattr(draw, "__name__", "custom")))
    return ControlResult(frame, done.baseline, direction, alpha, *at, len(controls), family, done.checks, done.precision)
