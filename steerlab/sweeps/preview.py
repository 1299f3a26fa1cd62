"""First-order effects of directions on the margin, at every layer, from one forward and one backward pass.

Where steering is small, the margin moves by alpha times its gradient along the direction (as in attribution patching). It suggests
where to measure; compare it with a measured sweep.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Unpack

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor

from steerlab._checks import InputError, takes_options
from steerlab._html import OneLine, Plotted
from steerlab._progress import job, progress_bar
from steerlab.activations.positions import Positions
from steerlab.directions.direction import Direction, Directions, as_directions, check_directions, site_of
from steerlab.models.backends import Model
from steerlab.models.batches import Answer, Batch, TokenRow
from steerlab.models.memory import pass_tokens
from steerlab.models.model import HookFn, device_of, frozen, hook_name, hooks, n_layers
from steerlab.models.passes import entering
from steerlab.models.reading import Reader
from steerlab.models.shortcuts import short_cuts
from steerlab.models.threads import on_suitable_threads
from steerlab.steering import ALPHAS
from steerlab.steering.interventions import Patch, check_alpha, patch
from steerlab.steering.operators import Operator, check_operator, operator_named
from steerlab.steering.options import ScoreOptions
from steerlab.steering.variants import Placed, check_names
from steerlab.sweeps.sweep import KEYS, SweepResult, settings_of
from steerlab.tasks.evaluation import check_ids
from steerlab.tasks.problems import Problem
from steerlab.tasks.scorers import Scorer, scorer_for

STEP = 1e-4  # of the numbers read, in the central difference that tells how the margin hangs on each of them


@dataclass(frozen=True)
class Correlation(OneLine, shown="pearson spearman n"):
    """How well predicted and measured changes of the mean margin go together, over `n` cells with alpha other than 0.

    Attributes:
        pearson, spearman: correlation coefficients; NaN where either side does not vary.
        n: cells.
    """

    pearson: float
    spearman: float
    n: int

    def __str__(self) -> str:
        return f"predicted and measured changes of the mean margin correlate at {self.pearson:.2f} over {self.n} cells (rank: {self.spearman:.2f})"


@dataclass(frozen=True, eq=False)
class Preview(Plotted, by="margin_change", figure="preview_heatmap"):
    """First-order predictions of a sweep's effects.

    Attributes:
        slopes: one line a layer, direction and problem: change of the problem's margin for each unit of alpha.
        alphas: coefficients.
        sweep: a measured sweep to compare with, if one was given.
    """

    slopes: pd.DataFrame
    alphas: tuple[float, ...]
    sweep: SweepResult | None = None

    @property
    def frame(self) -> pd.DataFrame:
        """One line a layer, direction and alpha: the predicted change of the mean margin, margin_change."""
        mean = self.slopes.groupby(["layer", "direction"], sort=True)["slope"].mean().reset_index()
        table = mean.merge(pd.DataFrame({"alpha": self.alphas}), how="cross")
        table["margin_change"] = table.pop("slope") * table["alpha"]
        return table[[*KEYS, "margin_change"]]

    @property
    def correlation(self) -> Correlation | None:
        """Agreement with the measured sweep, cell by cell; None without one."""
        if self.sweep is None:
            return None
        both = self.frame.merge(self.sweep.accuracy(), on=KEYS, suffixes=("_predicted", "_measured"))
        both = both[both["alpha"] != 0]
        predicted, measured = both["margin_change_predicted"].to_numpy(), both["margin_change_measured"].to_numpy()
        if len(both) < 2 or np.ptp(predicted) == 0 or np.ptp(measured) == 0:
            return Correlation(np.nan, np.nan, len(both))
        return Correlation(float(stats.pearsonr(predicted, measured)[0]), float(stats.spearmanr(predicted, measured)[0]), len(both))

    def __repr__(self) -> str:
        layers, n = self.slopes["layer"].nunique(), self.slopes["problem_id"].nunique()
        found = self.correlation
        agrees = "" if found is None else f", r={found.pearson:.2f} with {found.n} measured cells"
        return f"Preview({layers} layers x {len(self.alphas)} alphas, {n} problems{agrees})"


@job("problems")
@takes_options
@on_suitable_threads
def preview(
    model: Model,
    problems: Sequence[Problem],
    directions: Directions,
    *,
    alphas: float | Sequence[float] = ALPHAS,
    site: str | None = None,
    sweep: SweepResult | None = None,
    **options: Unpack[ScoreOptions],
) -> Preview:
    """First-order effects of directions at every layer and alpha, from one forward and one backward pass.

    Args:
        problems: what to ask. Of generated answers the margin is the log-odds of the target, as in a sweep.
        directions: one, which is tried at every layer; or a list or ``{layer: direction}``, each at its own.
        alphas: one or several coefficients.
        operator: "add", "ablate", "rotate", or a function of (resid, vector, alpha) that does nothing at alpha = 0.
        site: act there instead of where the directions were measured.
        sweep: a measured sweep of the same problems, to compare with.

    Raises:
        ValueError: bad input, an operator that acts at alpha = 0, or a sweep of something else.

    Example:
        >>> import steerlab as sl, torch
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic")
        >>> direction = sl.Direction(torch.ones(model.cfg.d_model), layer=3)
        >>> pv = sl.preview(model, task.validation[:20], direction, alphas=[-1, 1])
        >>> pv
        Preview(6 layers x 2 alphas, 20 problems)
        >>> changes = pv.frame.pivot(index="layer", columns="alpha", values="margin_change")
        >>> bool((changes[1.0] == -changes[-1.0]).all())  # first order: what alpha gives, -alpha takes
        True
    """
    operator, positions = options["operator"], options["positions"]
    check_operator(model, operator)
    act = operator_named(operator)
    coefficients = tuple(check_alpha(alpha) for alpha in ([alphas] if isinstance(alphas, int | float) else alphas))
    places = _places(model, directions, site)
    chosen = scorer_for(problems, options["scorer"])
    check_ids(problems)
    check_directions(model, [one.direction for one in places])
    for one in places:
        hook_name(model, *one.at)
    if sweep is not None:
        _check_sweep(sweep, problems, places, operator, positions)
    rows = [[row for row in chosen.rows(model, problem) if not row.new_tokens] for problem in problems]
    shortest = min(row.prompt_length for mine in rows for row in mine)
    for one in places:
        patch(one.direction, [1.0], operator=act, positions=positions, prompt_lengths=[shortest], length=shortest)
    room = max(1, pass_tokens(model, options["max_tokens"], options["memory"]) // 2)  # what the backward pass needs is kept
    slopes = np.empty((len(places), len(problems)))
    with progress_bar(total=len(problems), desc="preview", unit="problem", show=options["progress"]) as bar:
        for some in _together(rows, room):
            batch = Batch(tuple(range(len(some))), tuple(row for i in some for row in rows[i]), device=device_of(model))
            owner = [k for k, i in enumerate(some) for _ in rows[i]]
            slopes[:, some] = _slopes(model, [problems[i] for i in some], batch, owner, places, chosen, act, positions)
            bar.update(len(some))
    lines = [(one.at.layer, one.direction.name, problem.id) for one in places for problem in problems]
    table = pd.DataFrame(lines, columns=["layer", "direction", "problem_id"]).assign(slope=slopes.ravel())
    return Preview(table, coefficients, sweep)


def _places(model: Model, directions: Directions, site: str | None) -> list[Placed]:
    if isinstance(directions, Direction):
        return [Placed(directions, site_of(directions, layer, site)) for layer in range(n_layers(model))]
    places = [Placed(d, site_of(d, at, site)) for d, at in as_directions(directions, needs="a preview needs at least one")]
    check_names([(one.at.layer, one.direction.name) for one in places])
    return places


def _check_sweep(
    sweep: SweepResult, problems: Sequence[Problem], places: Sequence[Placed], operator: str | Operator, positions: Positions
) -> None:
    """Raises ValueError where a sweep measured something else than is predicted."""
    if [problem.id for problem in sweep.baseline.problems] != [problem.id for problem in problems]:
        raise InputError(f"sweep: it measured {sweep.baseline.n} other problems than the {len(problems)} given; give both the same list")
    for key, value in settings_of(operator, positions, places).items():
        if sweep.settings.get(key) != value:
            raise InputError(f"sweep: its {key} is {sweep.settings.get(key)!r}, and the preview's is {value!r}; use the same")
    predicted = {(one.at.layer, one.direction.name) for one in places}
    if predicted.isdisjoint(set(zip(sweep.frame["layer"], sweep.frame["direction"], strict=True))):
        raise InputError(f"sweep: it has none of the previewed layers and directions, such as {next(iter(predicted))}")


def _together(rows: Sequence[Sequence[TokenRow]], room: int) -> list[list[int]]:
    """Problems of about one length in batches, all rows of a problem in the same one."""
    longest = [max(len(row.tokens) for row in mine) for mine in rows]
    found: list[list[int]] = []
    size = 0
    for i in sorted(range(len(rows)), key=lambda i: (longest[i], i)):
        if not found or (size + len(rows[i])) * longest[i] > room:
            found.append([])
            size = 0
        found[-1].append(i)
        size += len(rows[i])
    return found


def _slopes(
    model: Model,
    problems: Sequence[Problem],
    batch: Batch,
    owner: Sequence[int],
    places: Sequence[Placed],
    scorer: Scorer,
    operator: Operator,
    positions: Positions,
) -> np.ndarray:
    """Derivative of each problem's margin by alpha, at alpha = 0: ``[place problem]``."""
    parts = _parts(model, batch)
    streams, numbers, reader = _forward(model, batch, parts, {hook_name(model, *one.at): one for one in places})
    weights = _margin_weights(model, problems, scorer, batch, owner, reader.answers(numbers.detach().double().cpu().numpy()))
    every = [stream for mine in streams for stream in mine.values()]
    gradients = iter(torch.autograd.grad((numbers * torch.tensor(weights).to(numbers)).sum(), every, allow_unused=True))
    slopes = np.zeros((len(places), len(problems)))
    for part, mine in zip(parts, streams, strict=True):
        by_point: dict[str, Tensor | None] = {point: next(gradients) for point in mine}
        lengths = [batch.rows[i].prompt_length for i in part]
        for p, one in enumerate(places):
            point = hook_name(model, *one.at)
            gradient = by_point[point]
            if gradient is None:  # nothing that is read depends on it
                continue
            rows: dict[str, Any] = {"prompt_lengths": lengths, "length": gradient.shape[1], "device": batch.device}
            resolved = patch(one.direction, [1.0], operator=operator, positions=positions, **rows)
            along = (gradient * _by_alpha(resolved, mine[point].detach())).sum(-1)
            if resolved.mask is not None:
                along = along * resolved.mask
            np.add.at(slopes[p], [owner[i] for i in part], along.double().sum(1).cpu().numpy())
    return slopes


def _parts(model: Model, batch: Batch) -> list[list[int]]:
    """Rows that are run together: all of them, or those of one length where a model does not give the same results beside longer rows."""
    if short_cuts(model).padded:
        return [list(range(len(batch.rows)))]
    lengths = [len(row.tokens) for row in batch.rows]
    return [[i for i, length in enumerate(lengths) if length == wanted] for wanted in sorted(set(lengths))]


def _forward(
    model: Model, batch: Batch, parts: Sequence[Sequence[int]], points: Mapping[str, Placed]
) -> tuple[list[dict[str, Tensor]], Tensor, Reader]:
    """The streams at hook points in each part of a batch, the numbers read, with the graph between them, and their reader."""
    reader = Reader(batch)
    numbers = torch.zeros(reader.size, device=batch.device)
    every: list[dict[str, Tensor]] = []

    def keep(point: str, streams: dict[str, Tensor]) -> HookFn:
        def fn(resid: Tensor) -> Tensor | None:
            first = not streams
            streams[point] = resid.detach().requires_grad_() if first else resid
            return streams[point] if first else None

        return fn

    for part in parts:
        streams: dict[str, Tensor] = {}
        width = max(len(batch.rows[i].tokens) for i in part)
        reads = reader.reads(tuple((i,) for i in part), 0, width)
        with ExitStack() as stack:
            stack.enter_context(frozen(model))
            stack.enter_context(hooks(model, [(point, keep(point, streams)) for point in points]))
            final = entering(model, batch.tokens[list(part), :width], [n_layers(model)])[n_layers(model)]
        with frozen(model):
            for _, places, found in reads.numbers(model, final):
                numbers = numbers.index_put((torch.tensor(places, device=batch.device),), found[0])
        every.append(streams)
    return every, numbers, reader


def _margin_weights(
    model: Model, problems: Sequence[Problem], scorer: Scorer, batch: Batch, owner: Sequence[int], answers: Sequence[Answer]
) -> list[float]:
    """Derivative of each problem's margin by each number read, in the order of the batch's rows and reads."""
    weights: list[float] = []
    for k, problem in enumerate(problems):
        mine = [answer for answer, who in zip(answers, owner, strict=True) if who == k]
        whole = iter(mine)
        every = [Answer() if row.new_tokens else next(whole) for row in scorer.rows(model, problem)]
        for a, answer in enumerate(every):
            for r, read in enumerate(answer.reads):
                for t, value in enumerate(read):
                    margins = []
                    for moved in (value + STEP, value - STEP):
                        reads = (*answer.reads[:r], (*read[:t], moved, *read[t + 1 :]), *answer.reads[r + 1 :])
                        margins.append(scorer.judge(model, problem, [*every[:a], replace(answer, reads=reads), *every[a + 1 :]]).margin)
                    weights.append((margins[0] - margins[1]) / (2 * STEP))
    return weights


def _by_alpha(resolved: Patch, resid: Tensor) -> Tensor:
    """The derivative of the steered stream by alpha, at alpha = 0."""
    vectors = resolved.vectors.to(resid)
    zero = torch.zeros(1, 1, 1, device=resid.device, dtype=resid.dtype)
    with torch.no_grad():
        if not torch.allclose(resolved.operator(resid, vectors, zero), resid, atol=1e-5, rtol=1e-4):
            raise InputError("this operator acts at alpha = 0 (as clamp does), so its effect has no first order; use add, ablate or rotate")
    derivative: Tensor
    _, derivative = torch.autograd.functional.jvp(lambda alpha: resolved.operator(resid, vectors, alpha), zero, torch.ones_like(zero))
    return derivative
