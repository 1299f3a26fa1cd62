"""From prompts to their vectors: run each once, unsteered, up to where the vector will act."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from steerlab.directions.prompt_vectors import Prompt, PromptVectors
from steerlab.models.backends import Model
from steerlab.models.batches import Row, batches_for
from steerlab.models.memory import pass_tokens
from steerlab.models.model import HookFn, describe, hooks
from steerlab.models.passes import residuals
from steerlab.tasks.evaluation import plan
from steerlab.tasks.problems import Problem
from steerlab.tasks.scorers import Scorer, scorer_for

Rule = Callable[[Float[Tensor, "row pos d_model"], Bool[Tensor, "row pos"]], Tensor]  # to [row d_model] or [row pos d_model]


def prompts_of(model: Model, problems: Sequence[Problem], scorer: str | Scorer | None = None) -> list[Prompt]:
    """The different prompts, as tokens, that a scorer asks of the problems.

    Raises:
        ValueError: problems that the scorer or the model cannot take.
    """
    rows = plan(model, problems, scorer_for(problems, scorer)).rows
    return list(dict.fromkeys(row.prompt for row in rows))


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
    max_tokens: int | None = None,
    memory: str | int | None = None,
) -> PromptVectors:
    """What a rule makes of the residual stream of each prompt.

    Args:
        model: a TransformerLens model; hooks on it act.
        prompts: their tokens.
        rule: from streams ``[row pos d_model]`` and where they hold prompts ``[row pos]`` to one vector a row, or one a position.
        layer, site: where the vectors will act.
        read: layer and site that the rule looks at; default the same.
        under: hooks under which prompts are run, from their tokens and the length that they are padded to.
        name, method: of the result.
        max_tokens, memory: limits as elsewhere.
    """
    rows = [Row(tuple(prompt), len(prompt)) for prompt in prompts]
    at, where = (layer, site) if read is None else read
    table: dict[Prompt, Tensor] = {}
    for batch in batches_for(model, rows, room=pass_tokens(model, max_tokens, memory)):
        lengths = torch.tensor([row.prompt_length for row in batch.rows], device=batch.device)
        mask = torch.arange(batch.width, device=batch.device) < lengths[:, None]
        with hooks(model, [] if under is None else under([row.tokens for row in batch.rows], batch.width)):
            stream = residuals(model, batch.tokens, [at], where)[at]
        found = rule(stream, mask).float().cpu()
        for row, vectors in zip(batch.rows, found, strict=True):
            table[row.tokens] = vectors.clone() if vectors.ndim == 1 else vectors[: row.prompt_length].clone()
    ordered = {tuple(prompt): table[tuple(prompt)] for prompt in prompts}
    return PromptVectors(layer=layer, site=site, name=name, method=dict(method or {}), model=describe(model), table=ordered)
