"""Random-direction controls: would any direction of the same size have done it?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import pandas as pd
import torch

from steerlab._checks import InputError
from steerlab._progress import job
from steerlab.activations.cache import Positions
from steerlab.directions.direction import Direction, check_type, moved, place
from steerlab.directions.random import random_directions
from steerlab.models.backends import Model
from steerlab.models.model import Precision
from steerlab.statistics.outcomes import ControlTests
from steerlab.steering.cells import run_cells
from steerlab.steering.interventions import check_alpha
from steerlab.steering.operators import Operator
from steerlab.steering.variants import Cell, Place
from steerlab.sweeps.sweep import inert
from steerlab.tasks.evaluation import Evaluation
from steerlab.tasks.problems import Problem
from steerlab.tasks.scorers import Scorer


@dataclass(frozen=True, eq=False)
class ControlResult(ControlTests):
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
        controls: the control directions, where they are at hand (a run folder does not keep them).
    """

    baseline: Evaluation
    direction: Direction
    alpha: float
    layer: int
    site: str
    n: int
    family: str
    checks: pd.DataFrame
    precision: Precision | None = None
    controls: tuple[Direction, ...] = ()

    def unsteered(self) -> pd.DataFrame:
        """The outcomes without steering, one line a problem."""
        return self.baseline.frame

    def warnings(self) -> list[str]:
        """What a reader must know about interventions that did nothing, and directions of another model."""
        return inert(self.checks) + moved([self.direction]) + ([str(self.precision)] if self.precision else [])

    def __repr__(self) -> str:
        test = self.rank_test()
        return f"ControlResult({self.direction.name!r}, layer={self.layer}, alpha={self.alpha}, controls={self.n}, change={test.observed:+.3f}, p={test.p_value:.3g})"

    def _repr_html_(self) -> str:
        return f"<p>{escape(self.direction.name)} at layer {self.layer}, alpha {self.alpha}</p>" + self.rank_test()._repr_html_()


@job("problems", "n")
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
        draw: a function ``(direction, n, rng=rng)`` that gives controls; default norm-matched isotropic ones. Others are
            in `steerlab.directions.random`.
        positions, operator, layer, site, scorer, max_tokens, memory, precision, progress: as in `steerlab.sweep`.

    Raises:
        ValueError: bad input (n below 1, alpha 0 or not finite, …), found before the first run.

    Example:
        >>> import numpy as np, steerlab as sl, torch
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic")
        >>> direction = sl.Direction(torch.ones(model.cfg.d_model), layer=3)
        >>> ctl = sl.random_control(model, task.test[:20], direction, alpha=-1, n=9, rng=np.random.default_rng(0))
        >>> test = ctl.rank_test()
        >>> test.n_controls, test.smallest_p, test.p_value == test.rank / 10
        (9, 0.1, True)
    """
    check_type(direction, "direction")
    alpha = check_alpha(alpha)
    if alpha == 0:
        raise InputError("alpha=0 is the baseline; a control needs a coefficient other than 0")
    controls = draw(direction, n, rng=rng)
    if not controls or len({control.name for control in controls}) < len(controls):
        raise InputError(
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
    return ControlResult(frame, done.baseline, direction, alpha, *at, len(controls), family, done.checks, done.precision, tuple(controls))
