"""Random-direction controls: would any direction of the same norm, or of the same KL on neutral text, have the same effect?

Two directions of one norm may change next-token distributions by very different amounts; `match_kl` scales controls until they
change neutral text as much as the direction does.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Unpack

import numpy as np
import pandas as pd

from steerlab._checks import InputError, only, takes_options
from steerlab._html import Result
from steerlab._progress import job
from steerlab.controls.texts import NEUTRAL_TEXTS
from steerlab.directions.direction import Direction, as_directions, check_type, moved, site_of
from steerlab.directions.random import given_controls, random_directions
from steerlab.models.backends import Model
from steerlab.models.model import Precision
from steerlab.statistics.controls import ControlTests
from steerlab.steering.cells import run_interventions
from steerlab.steering.distributions import mean_kl, text_rows
from steerlab.steering.interventions import check_alpha
from steerlab.steering.options import CellOptions, RunOptions, SteerOptions, TextOptions
from steerlab.steering.variants import Intervention, Placed
from steerlab.sweeps.sweep import SCALED, inert
from steerlab.tasks.evaluation import Evaluation
from steerlab.tasks.problems import Problem


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
        return f"ControlResult({self.direction.name!r}, layer={self.layer}, alpha={self.alpha}, controls={self.n}, change={test.observed:+.3f}, p={test.pvalue:.3g})"


@job("problems", "n")
@takes_options
def random_control(
    model: Model,
    problems: Sequence[Problem],
    direction: Direction,
    *,
    alpha: float,
    n: int = 99,
    rng: np.random.Generator,
    draw: Callable[..., list[Direction]] = random_directions,
    **options: Unpack[RunOptions],
) -> ControlResult:
    """Outcomes of a direction and of n controls at one alpha, on the same problems.

    Args:
        problems: what to ask.
        direction: the direction under test.
        alpha: the coefficient, the same for all.
        n: number of controls; the smallest p-value is 1 / (n + 1).
        rng: draws the controls.
        draw: a function ``(direction, n, rng=rng)`` that gives controls; default norm-matched isotropic ones. Others are
            in `steerlab.directions.random`.

    Raises:
        ValueError: bad input (n below 1, alpha 0 or not finite, …), found before the first run.

    Example:
        >>> import numpy as np, steerlab as sl, torch
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic")
        >>> direction = sl.Direction(torch.ones(model.cfg.d_model), layer=3)
        >>> ctl = sl.random_control(model, task.test[:20], direction, alpha=-1, n=9, rng=np.random.default_rng(0))
        >>> test = ctl.rank_test()
        >>> test.n_controls, test.smallest_p, test.pvalue == test.rank / 10
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
    at = site_of(direction, options["layer"], options["site"])
    cells = [Intervention((Placed(one, at),), alpha) for one in [direction, *controls]]
    done = run_interventions(model, problems, cells, label="control", **only(options, CellOptions))
    parts = [frame.assign(direction=cell.name, is_control=k > 0) for k, (cell, frame) in enumerate(zip(cells, done.frames, strict=True))]
    columns = ["direction", "is_control", "problem_id", "prediction", "correct", "margin", "nll"]
    frame = pd.concat(parts, ignore_index=True)[columns]
    family = str(controls[0].method.get("estimator", getattr(draw, "__name__", "custom")))
    return ControlResult(frame, done.baseline, direction, alpha, *at, len(controls), family, done.checks, done.precision, tuple(controls))


MOST_RUNS = 40  # passes over the texts; a few are enough where KL grows smoothly


@dataclass(frozen=True, eq=False)
class MatchedControls(Result, by="kl"):
    """Controls rescaled to the KL of a direction.

    Attributes:
        directions: the rescaled controls, in the order given, those that could not be matched included.
        frame: one line a control: direction, scale (times its length as given), norm, kl (nats a token), reached.
        direction: the direction that they are matched to.
        target: its KL on the same texts at the same alpha, in nats a token.
        alpha: the coefficient.
        tolerance: relative difference of a KL from the target that counts as reached.
    """

    directions: tuple[Direction, ...]
    frame: pd.DataFrame
    direction: Direction
    target: float
    alpha: float
    tolerance: float

    def draw(self, direction: Direction, n: int, *, rng: np.random.Generator) -> list[Direction]:
        """The first n matched controls: what `steerlab.random_control` takes as ``draw``.

        Raises:
            ValueError: n above the number of controls, or another direction than the one that they are matched to.
        """
        if direction.vector.shape != self.direction.vector.shape or not bool((direction.vector == self.direction.vector).all()):
            raise InputError(f"these controls are matched to {self.direction.name!r}, not to {direction.name!r}; match them again")
        return given_controls(self.directions)(direction, n, rng=rng)

    def warnings(self) -> list[str]:
        """Which controls could not be matched, and how near they come."""
        missed = self.frame[~self.frame["reached"]]
        if missed.empty:
            return []
        first = missed.iloc[0]
        return [
            f"{len(missed)} of {len(self.frame)} controls do not reach a KL of {self.target:.3g} nats within {self.tolerance:.0%} at any length tried; "
            f"{first['direction']} comes nearest with {first['kl']:.3g} at {first['scale']:.3g} times its length. They are kept at that length."
        ]

    def __repr__(self) -> str:
        return (
            f"MatchedControls({int(self.frame['reached'].sum())} of {len(self.frame)} controls at KL {self.target:.3g} of {self.direction.name!r}, "
            f"alpha={self.alpha}, scales {self.frame['scale'].min():.3g} to {self.frame['scale'].max():.3g})"
        )


@takes_options
def match_kl(
    model: Model,
    direction: Direction,
    controls: Sequence[Direction],
    texts: Sequence[str | Sequence[int]] = NEUTRAL_TEXTS,
    *,
    alpha: float,
    tolerance: float = 0.01,
    max_scale: float = 64.0,
    **options: Unpack[SteerOptions],
) -> MatchedControls:
    """Controls rescaled so that each changes neutral text as much as the direction does, at the same alpha.

    The mean of KL(unsteered || steered) over all positions is 0 for a vector of length 0 and grows from there. Between two
    lengths of which one does too little and one too much, the length is found by the regula falsi (Illinois) on the root of
    the KL, which grows about linearly; all controls are tried in one pass. Where KL is not monotonic, this is one of several
    lengths that match. The operator is "add" or "rotate", or a function that does nothing for a vector of length 0.

    Args:
        direction: the direction under test.
        controls: any controls, such as ``steerlab.random_directions(direction, 99, rng=rng)``.
        texts: texts that have nothing to do with the task, or lists of token ids.
        alpha: the coefficient, the same for all.
        tolerance: allowed relative difference of a control's KL from the direction's.
        max_scale: the most that a control's length may be multiplied by.

    Raises:
        ValueError: no controls, alpha 0, a tolerance outside (0, 1), a max_scale below 1, an operator for which length means
            nothing, a direction that changes no distribution, or what `steerlab.side_effects` refuses.

    Example:
        >>> import numpy as np, steerlab as sl, torch
        >>> model = sl.load_model("tiny-arithmetic")
        >>> prompts = [problem.prompt for problem in sl.load_task("arithmetic").test[:3]]
        >>> direction = sl.Direction(torch.ones(model.cfg.d_model), layer=1)
        >>> drawn = sl.random_directions(direction, 3, rng=np.random.default_rng(0))
        >>> matched = sl.match_kl(model, direction, drawn, prompts, alpha=1.0)
        >>> bool((abs(matched.frame["kl"] / matched.target - 1) <= 0.01).all())
        True
    """
    check_type(direction, "direction")
    alpha = check_alpha(alpha)
    if alpha == 0:
        raise InputError("alpha=0 changes nothing; use the coefficient that the controls are going to act with")
    empty = isinstance(controls, list | tuple) and not controls
    controls = [] if empty else [one for one, _ in as_directions(controls, "controls")]
    if not controls:
        raise InputError("no controls given; draw some, e.g. with random_directions")
    if not 0 < tolerance < 1:
        raise InputError(f"tolerance={tolerance}: use a share between 0 and 1, e.g. 0.01")
    if not 1 <= max_scale < np.inf:
        raise InputError(f"max_scale={max_scale}: use a number of at least 1")
    operator = options["operator"]
    if not callable(operator) and operator not in SCALED:
        raise InputError(f"operator={operator!r}: a vector's length does not tell how much it does; use {' or '.join(SCALED)}")
    at, rows = site_of(direction, options["layer"], options["site"]), text_rows(model, texts)

    def kl_of(vectors: Sequence[Direction]) -> np.ndarray:
        cells = [Intervention((Placed(one, at),), alpha) for one in vectors]
        return mean_kl(model, rows, cells, **only(options, TextOptions))

    target = float(kl_of([direction])[0])
    if target == 0:
        raise InputError(
            f"direction {direction.name!r} changes no distribution on these texts at alpha {alpha:g}; there is nothing to match"
        )

    def scaled(which: Sequence[int], scales: Sequence[float]) -> np.ndarray:
        return kl_of([controls[k].with_vector(controls[k].vector * scale) for k, scale in zip(which, scales, strict=True)])

    found = scales_for(scaled, [target] * len(controls), tolerance=tolerance, max_scale=max_scale)
    lines, matched = [], []
    for control, (scale, kl, reached) in zip(controls, found, strict=True):
        about = {**control.method, "matched": "output KL", "kl": kl, "target_kl": target, "alpha": alpha, "scale": scale}
        matched.append(control.with_vector(control.vector * scale, method=about))
        lines.append((control.name, scale, matched[-1].norm, kl, reached))
    frame = pd.DataFrame(lines, columns=["direction", "scale", "norm", "kl", "reached"])
    return MatchedControls(tuple(matched), frame, direction, target, alpha, tolerance)


def scales_for(
    kl_of: Callable[[list[int], list[float]], np.ndarray], targets: Sequence[float], *, tolerance: float = 0.01, max_scale: float = 64.0
) -> list[tuple[float, float, bool]]:
    """How long each of several interventions must be for a wanted KL; all are searched side by side.

    `kl_of` gives the KLs of some of them, by number, each at a scale times its length; what comes back is for each the best scale that was
    tried, its KL, and whether that is near enough.

    Example:
        >>> ((scale, kl, reached),) = scales_for(lambda which, scales: 3.0 * np.square(scales), [12.0])
        >>> round(scale, 2), reached
        (2.0, True)
    """
    searches = [_Search(target, tolerance, max_scale) for target in targets]
    for _ in range(MOST_RUNS):
        open_ = [k for k, search in enumerate(searches) if not search.done]
        if not open_:
            break
        for k, kl in zip(open_, kl_of(open_, [searches[k].scale for k in open_]).tolist(), strict=True):
            searches[k].see(kl)
    return [(*search.best, search.reached) for search in searches]


class _Search:
    """The length at which one control has the wanted KL; `scale` is what to try next, `see` takes what it gave."""

    def __init__(self, target: float, tolerance: float, most: float) -> None:
        self._target, self._tolerance, self._most = target, tolerance, most
        self._low, self._high = (0.0, -np.sqrt(target)), (np.inf, np.inf)  # scale, and root of the KL there minus that wanted
        self._side = 0
        self.scale, self.best, self.done = 1.0, (1.0, np.inf), False

    @property
    def reached(self) -> bool:
        """Whether the best scale is near enough."""
        return bool(abs(self.best[1] - self._target) <= self._tolerance * self._target)

    def see(self, kl: float) -> None:
        """The KL at `scale`."""
        if abs(kl - self._target) < abs(self.best[1] - self._target):
            self.best = (self.scale, kl)
        gap = float(np.sqrt(kl) - np.sqrt(self._target))
        if gap < 0:
            self._low = (self.scale, gap)
            if self._side < 0:  # twice on one side: the other end counts half (Illinois)
                self._high = (self._high[0], self._high[1] / 2)
            self._side = -1
        else:
            self._high = (self.scale, gap)
            if self._side > 0:
                self._low = (self._low[0], self._low[1] / 2)
            self._side = 1
        self.done = self.reached or (self.scale >= self._most and gap < 0)
        self.scale = self._next(kl)

    def _next(self, kl: float) -> float:
        (low, below), (high, above) = self._low, self._high
        if np.isfinite(high):  # without `above`, it was too much by more than floating point holds
            return low + (high - low) * -below / (above - below) if np.isfinite(above) else (low + high) / 2
        # Nothing was too much yet: as if the root of the KL grew linearly, a little further, at most fourfold.
        return min(self._most, self.scale * min(4.0, max(1.25, 1.1 * float(np.sqrt(self._target / kl)) if kl > 0 else 4.0)))
