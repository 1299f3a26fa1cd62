"""Plain runs of a TransformerLens model, whole or up to a block: the reference for every short cut (`steerlab.models.shortcuts`).

Blocks are 0-based. "Entering block l" is the residual stream before it; ``l == n_layers`` means what leaves the last block.
"""

import contextlib
from collections.abc import Sequence

from jaxtyping import Float, Int
from torch import Tensor

from steerlab.models.backends import Model
from steerlab.models.kv_cache import KeyValueCache
from steerlab.models.model import HookFn, backend_of, hook_name, hooks

__all__ = ["Stop", "call", "entering", "forward", "residuals", "run_to"]


class Stop(Exception):
    """Leaves a forward pass once the wanted activation is in hand."""


def forward(model: Model, tokens: Int[Tensor, "batch pos"], past: KeyValueCache | None = None) -> Float[Tensor, "batch pos d_vocab"]:
    """Logits at every position: the plain run that every shortcut here must agree with.

    Padding, if any, stands on the right, where a causal model needs no mask.
    """
    logits = call(model, tokens, past)
    if past is not None:
        past.advance(tokens.shape[1])
    return logits


def call(model: Model, tokens: Tensor, past: KeyValueCache | None = None) -> Tensor:
    """The model's own forward pass on tokens, without a search for padding; `past` is attended to and added to."""
    if backend_of(model) == "bridge":
        return model(tokens, **(past.options(tokens) if past else {"use_cache": False}))
    return model(tokens, padding_side="right", **(past.options(tokens) if past else {}))


def residuals(
    model: Model, tokens: Int[Tensor, "batch pos"], layers: Sequence[int], site: str = "resid_post", past: KeyValueCache | None = None
) -> dict[int, Float[Tensor, "batch pos d_model"]]:
    """The residual stream at a site of several blocks, in one pass that stops after the last of them."""
    found: dict[int, Tensor] = {}
    last = max(layers)

    def keep(layer: int) -> HookFn:
        def fn(activation: Tensor) -> None:
            found[layer] = activation
            if layer == last:
                raise Stop

        return fn

    with hooks(model, [(hook_name(model, layer, site), keep(layer)) for layer in layers]), contextlib.suppress(Stop):
        call(model, tokens, past)
    if past is not None:
        past.advance(tokens.shape[1])
    return found


def entering(
    model: Model, tokens: Int[Tensor, "batch pos"], blocks: Sequence[int], past: KeyValueCache | None = None
) -> dict[int, Float[Tensor, "batch pos d_model"]]:
    """The residual stream that enters each of several blocks, in one pass; ``n_layers`` means what leaves the last block."""
    outputs = sorted(block - 1 for block in blocks if block > 0)
    found: dict[int, Tensor] = {}
    if 0 in blocks:
        if not outputs:
            return {0: residuals(model, tokens, [0], "resid_pre", past)[0]}
        with hooks(model, [(hook_name(model, 0, "resid_pre"), lambda resid: found.update({0: resid}))]):
            after = residuals(model, tokens, outputs, past=past)
    else:
        after = residuals(model, tokens, outputs, past=past)
    return found | {layer + 1: resid for layer, resid in after.items()}


def run_to(
    model: Model, tokens: Int[Tensor, "batch pos"], layer: int, past: KeyValueCache | None = None
) -> Float[Tensor, "batch pos d_model"]:
    """The residual stream that enters block `layer`; ``layer == n_layers`` gives what leaves the last block."""
    return entering(model, tokens, [layer], past)[layer]
