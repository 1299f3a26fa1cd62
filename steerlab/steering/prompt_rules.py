"""Vectors computed from each prompt by a rule, nothing learned: from a second pass, or spread along the sequence.

Prompts run once, unsteered, up to where the vector will act; the results are `PromptVectors`, for `steerlab.sweep` and all else
that takes directions.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Unpack

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from steerlab._checks import InputError, is_whole, one_of, only, takes_options
from steerlab.activations.positions import Positions, TokenPositions
from steerlab.directions.direction import Direction, check_direction
from steerlab.directions.prompt_vectors import POOLS, Prompt, PromptVectors, pool
from steerlab.models.backends import Model
from steerlab.models.batches import TokenRow, batches_for
from steerlab.models.memory import Limits, pass_tokens
from steerlab.models.model import HookFn, describe, hook_name, hooks, n_layers
from steerlab.models.passes import residuals
from steerlab.steering.interventions import check_alpha, patch
from steerlab.steering.options import Scoring
from steerlab.tasks.evaluation import plan
from steerlab.tasks.problems import Problem
from steerlab.tasks.scorers import Scorer, scorer_for

Rule = Callable[[Float[Tensor, "row pos d_model"], Bool[Tensor, "row pos"]], Tensor]  # to [row d_model] or [row pos d_model]


def prompts_of(model: Model, problems: Sequence[Problem], scorer: str | Scorer | None = None) -> list[Prompt]:
    """The different prompts, as tokens, that a scorer asks of the problems."""
    return list(dict.fromkeys(row.prompt for row in plan(model, problems, scorer_for(problems, scorer)).rows))


@takes_options
@torch.no_grad()
def vectors_of(
    model: Model,
    prompts: Sequence[Prompt],
    rule: Rule,
    *,
    layer: int,
    site: str = "resid_post",
    read: tuple[int, str] | None = None,
    under: Callable[[Sequence[Prompt], int], Sequence[tuple[str, HookFn]]] | None = None,
    name: str = "vectors of prompts",
    method: Mapping[str, Any] | None = None,
    **options: Unpack[Limits],
) -> PromptVectors:
    """What a rule makes of the residual stream of each prompt.

    Args:
        rule: from streams ``[row pos d_model]`` and where they hold prompts ``[row pos]`` to one vector a row, or one a position.
        layer, site: where the vectors will act.
        read: layer and site that the rule looks at; default the same.
        under: hooks under which prompts are run, from their tokens and the length that they are padded to.
    """
    rows = [TokenRow(tuple(prompt), len(prompt)) for prompt in prompts]
    at, where = (layer, site) if read is None else read
    table: dict[Prompt, Tensor] = {}
    for batch in batches_for(model, rows, room=pass_tokens(model, **options)):
        lengths = torch.tensor([row.prompt_length for row in batch.rows], device=batch.device)
        mask = torch.arange(batch.width, device=batch.device) < lengths[:, None]
        with hooks(model, [] if under is None else under([row.tokens for row in batch.rows], batch.width)):
            stream = residuals(model, batch.tokens, [at], where)[at]
        found = rule(stream, mask).float().cpu()
        for row, vectors in zip(batch.rows, found, strict=True):
            table[row.tokens] = vectors.clone() if vectors.ndim == 1 else vectors[: row.prompt_length].clone()
    ordered = {tuple(prompt): table[tuple(prompt)] for prompt in prompts}
    return PromptVectors(layer=layer, site=site, name=name, method=dict(method or {}), model=describe(model), table=ordered)


FEEDBACKS = ("difference", "state")
TOWARDS = ("left", "right", "both")
Update = Callable[[Tensor, Tensor, Tensor], Tensor]


@takes_options
def recursive_vectors(
    model: Model,
    problems: Sequence[Problem],
    direction: Direction,
    *,
    alpha: float = 1.0,
    passes: int = 2,
    mix: float = 0.5,
    feedback: str = "difference",
    read: int | None = None,
    pooling: str = "mean",
    **options: Unpack[Scoring],
) -> PromptVectors:
    """Vectors of a recursive rule: run steered, pool the steered state, and steer the next run with the direction plus what was pooled.

    ``u_1 = v``, ``u_n = v + mix |v| unit(pooled under u_{n-1})``: what steers the last of the passes is given back.

    Args:
        model: a TransformerLens model.
        problems: all that will be run.
        direction: v, where it was measured; it acts there.
        alpha: coefficient in the passes before the last one.
        passes: how many runs of the model, the last one included.
        mix: how much of what was pooled, in norms of v.
        feedback: "difference" pools what steering did to the stream, "state" the steered stream itself.
        read: the block whose output is pooled; default the last.
        pooling: "mean" over the prompt, or its "last" position.

    Raises:
        ValueError: bad input, a direction of several positions, or a block to read that steering does not reach.

    Source:
        Two-pass application, named in the programme's list of extensions; the formula is ours.

    Example:
        >>> import steerlab as sl
        >>> model, problems = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic").test[:6]
        >>> again = recursive_vectors(model, problems, sl.Direction(torch.ones(128), layer=2))
        >>> sw = sl.sweep(model, problems, again, alphas=[0.5])
    """
    at = _checked(model, direction, n_layers(model) - 1 if read is None else read)
    strength = check_alpha(alpha)
    if not is_whole(passes, 2):
        raise InputError(f"passes={passes!r}; use a whole number from 2 up (one pass is the direction itself)")
    if not np.isfinite(mix):
        raise InputError(f"mix={mix!r}; use a finite number, e.g. 0.5")
    one_of(feedback, "feedback", FEEDBACKS)
    one_of(pooling, "pooling", POOLS)
    prompts, rule = prompts_of(model, problems, options["scorer"]), partial(pool, how=pooling, normalise=False)
    point, operator, positions = hook_name(model, direction.layer, direction.site), options["operator"], options["positions"]
    limits = only(options, Limits)

    def under(current: Direction, batch: Sequence[Prompt], length: int) -> list[tuple[str, HookFn]]:
        lengths = [len(prompt) for prompt in batch]
        acts = patch(current, [strength], operator=operator, positions=positions, prompt_lengths=lengths, length=length, prompts=batch)

        def fn(resid: Tensor) -> Tensor:
            acts.vectors, acts.alphas = acts.vectors.to(resid.device), acts.alphas.to(resid.device)
            acts.mask = None if acts.mask is None else acts.mask.to(resid.device)
            return acts(resid)

        return [(point, fn)]

    method = {
        "estimator": "recursive application", "of": direction.name, "alpha": strength, "passes": passes, "mix": float(mix),
        "feedback": feedback, "read": at[0], "pooling": pooling,
    }  # fmt: skip
    about = (direction.layer, direction.site, "mixed", f"{direction.name}, pass {passes}", method, direction.model)
    plain = vectors_of(model, prompts, rule, layer=direction.layer, read=at, **limits).table

    def again(current: Direction) -> PromptVectors:
        steered = vectors_of(model, prompts, rule, layer=direction.layer, read=at, under=partial(under, current), **limits).table
        pooled = {prompt: steered[prompt] - plain[prompt] if feedback == "difference" else steered[prompt] for prompt in prompts}
        units = {prompt: found / found.norm().clamp_min(1e-30) for prompt, found in pooled.items()}
        table = {prompt: direction.vector + mix * direction.norm * unit for prompt, unit in units.items()}
        return PromptVectors(direction.vector, *about, table)

    current = again(direction)
    for _ in range(passes - 2):
        current = again(current)
    return current


def propagated_vectors(
    model: Model,
    problems: Sequence[Problem],
    direction: Direction,
    *,
    start: Positions = "last",
    steps: int = 4,
    rate: float = 0.5,
    towards: str = "both",
    rule: str | Update = "spread",
    gate: str = "none",
    scorer: str | Scorer | None = None,
) -> PromptVectors:
    """A direction spread along the prompt: the share of each position is updated from its neighbours'.

    Args:
        model: a TransformerLens model.
        problems: all that will be run.
        direction: what spreads; it acts where it was measured.
        start: positions whose share is 1 at first ("last" of the prompt, an index or indices); the others' is 0.
        steps: updates.
        rate: from 0 to 1.
        towards: "right" (each position hears its left neighbour, as attention does), "left", or "both".
        rule: "spread": the larger of one's own share and `rate` times the largest neighbour's; "diffuse": `1 - rate` of one's own and
            `rate` of the neighbours' mean; or a function of (own, from left, from right), each ``[row pos]``.
        gate: "none", or "similarity": what a neighbour gives is multiplied with the cosine of the two positions' streams, if above 0.
        scorer: how the problems will be judged; default the task's own.

    Behind the prompt, the share of its last position goes on.

    Raises:
        ValueError: bad input, or a direction of several positions.

    Source:
        "Cellular automata propagation", named in the programme's list of extensions; the rules are ours.

    Example:
        >>> import steerlab as sl
        >>> model, problems = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic").test[:6]
        >>> spread = propagated_vectors(model, problems, sl.Direction(torch.ones(128), layer=2), steps=2)
        >>> prompt = next(iter(spread.table))
        >>> spread.table[prompt][-4:, 0]
        tensor([0.0000, 0.2500, 0.5000, 1.0000])
    """
    _checked(model, direction, direction.layer)
    if not is_whole(steps, 0):
        raise InputError(f"steps={steps!r}; use a whole number from 0 up")
    if not 0 <= rate <= 1:
        raise InputError(f"rate={rate!r}; use a number from 0 to 1")
    one_of(towards, "towards", TOWARDS)
    one_of(gate, "gate", ("none", "similarity"))
    update = _update(rule, rate, towards)

    def vectors(resid: Tensor, prompt: Tensor) -> Tensor:
        shares = _starting(start, prompt)
        near = torch.nn.functional.cosine_similarity(resid[:, 1:].float(), resid[:, :-1].float(), dim=-1).clamp_min(0)
        gates = near if gate == "similarity" else torch.ones_like(near)
        shares = propagate(shares, prompt, gates, steps, update)
        return shares[:, :, None] * direction.vector.to(shares)

    method = {
        "estimator": "propagation", "of": direction.name, "start": start if isinstance(start, str) else str(start), "steps": int(steps),
        "rate": float(rate), "towards": towards, "gate": gate, "rule": rule if isinstance(rule, str) else f"{getattr(rule, '__name__', 'custom')} (custom)",
    }  # fmt: skip
    name = f"{direction.name}, {steps} steps {towards}"
    prompts = prompts_of(model, problems, scorer)
    return vectors_of(model, prompts, vectors, layer=direction.layer, site=direction.site, name=name, method=method)


def propagate(
    shares: Float[Tensor, "row pos"], prompt: Bool[Tensor, "row pos"], gates: Float[Tensor, "row edge"], steps: int, update: Update
) -> Float[Tensor, "row pos"]:
    """Update all positions at once, several times; a neighbour outside the prompt counts as NaN, which rules leave out."""
    outside = shares.new_full((len(shares), 1), torch.nan)
    shares = torch.where(prompt, shares, torch.nan)
    for _ in range(steps):
        left = torch.cat([outside, shares[:, :-1] * gates], 1)
        right = torch.cat([shares[:, 1:] * gates, outside], 1)
        shares = torch.where(prompt, update(shares, left, right), torch.nan)
    return shares.nan_to_num(0.0)


def _update(rule: str | Update, rate: float, towards: str) -> Update:
    """A rule by name; those with a name look only at the neighbours they hear."""
    if callable(rule):
        return rule
    if rule not in ("spread", "diffuse"):
        raise InputError(f"rule={rule!r}; use spread, diffuse or a function of (own, from left, from right)")

    def update(own: Tensor, left: Tensor, right: Tensor) -> Tensor:
        heard = torch.stack([side for side, name in ((left, "right"), (right, "left")) if towards in (name, "both")])
        if rule == "spread":
            return torch.maximum(own, rate * heard.nan_to_num(0.0).amax(0))
        mean = heard.nanmean(0)
        return torch.where(mean.isnan(), own, (1 - rate) * own + rate * mean)

    return update


def _starting(start: Positions, prompt: Tensor) -> Tensor:
    mask = TokenPositions.of(start).mask(prompt.sum(1).tolist(), prompt.shape[1])
    return torch.ones(prompt.shape, device=prompt.device) if mask is None else mask.to(prompt.device).float()


def _checked(model: Model, direction: Direction, read: int) -> tuple[int, str]:
    """Where to read, if a direction can act and what it does can be seen there."""
    check_direction(model, direction)
    if direction.vector.ndim != 1 or direction.by_prompt:
        raise InputError(f"direction {direction.name!r} is another vector for each position or prompt; give a direction of one")
    hook_name(model, read, "resid_post")
    if read < direction.layer:
        raise InputError(
            f"read={read}: steering at layer {direction.layer} does not change what leaves layer {read}; read at {direction.layer} or above"
        )
    return read, "resid_post"
