"""Run a TransformerLens model to a block, run it on from a block, read it out: each no further than the question needs.

Blocks are 0-based. "Entering block l" is the residual stream before it, and ``l == n_layers`` means what leaves the last block.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Protocol, runtime_checkable
from unittest import mock

import torch
from jaxtyping import Float, Int
from torch import Tensor

from steerlab.loading import TransformerBridge
from steerlab.models import HookFn, Model, backend_of, hook_name, hooks, n_layers, points_inside

__all__ = ["Past", "entering", "forward", "mlp_only_at", "read_out", "residuals", "run_from", "run_to"]


class _Stop(Exception):
    """Leaves a forward pass once the wanted activation is in hand."""


@runtime_checkable
class Past(Protocol):
    """What went before the tokens that are run; see `steerlab.keyvalues.KeyValueCache`."""

    def options(self, fed: Tensor) -> dict[str, Any]:
        """The arguments that make a model attend to it, and store `fed` in it."""

    def advance(self, n: int, first: int, until: int) -> None:
        """Blocks `first` to `until` (not included) were fed n positions."""


def forward(model: Model, tokens: Int[Tensor, "batch pos"], past: Past | None = None) -> Float[Tensor, "batch pos d_vocab"]:
    """Logits at every position: the plain run that every shortcut here must agree with.

    Padding, if any, stands on the right, where a causal model needs no mask.
    """
    logits = _call(model, tokens, past)
    if past is not None:
        past.advance(tokens.shape[1], 0, n_layers(model))
    return logits


def _call(model: Model, tokens: Tensor, past: Past | None) -> Tensor:
    if backend_of(model) == "bridge":
        return model(tokens, **(past.options(tokens) if past else {"use_cache": False}))
    return model(tokens, padding_side="right", **(past.options(tokens) if past else {}))


def residuals(
    model: Model, tokens: Int[Tensor, "batch pos"], layers: Sequence[int], site: str = "resid_post", past: Past | None = None
) -> dict[int, Float[Tensor, "batch pos d_model"]]:
    """The residual stream at a site of several blocks, in one pass that stops after the last of them."""
    found: dict[int, Tensor] = {}
    last = max(layers)

    def keep(layer: int) -> HookFn:
        def fn(activation: Tensor) -> None:
            found[layer] = activation
            if layer == last:
                raise _Stop

        return fn

    with hooks(model, [(hook_name(model, layer, site), keep(layer)) for layer in layers]), contextlib.suppress(_Stop):
        _call(model, tokens, past)
    if past is not None:
        past.advance(tokens.shape[1], 0, last + 1)
    return found


def entering(
    model: Model, tokens: Int[Tensor, "batch pos"], blocks: Sequence[int], past: Past | None = None
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


def run_to(model: Model, tokens: Int[Tensor, "batch pos"], layer: int, past: Past | None = None) -> Float[Tensor, "batch pos d_model"]:
    """The residual stream that enters block `layer`; ``layer == n_layers`` gives what leaves the last block."""
    return entering(model, tokens, [layer], past)[layer]


@contextlib.contextmanager
def _entering_at(model: TransformerBridge, layer: int, resid: Tensor) -> Iterator[None]:
    """Let the blocks before `layer` do nothing, and give `resid` to block `layer`, whatever comes to it.

    The blocks stay in their places, because some models choose the mask or the rotary angles by a block's place.
    """

    def skip(*args: Any, **kwargs: Any) -> Tensor:
        # Some models take a block's output as a tensor, others its first item; nobody reads this one, and it serves both.
        return resid[None]

    def enter(block: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return ((resid, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": resid})

    with contextlib.ExitStack() as undo:
        for block in list(model.blocks)[:layer]:
            undo.enter_context(mock.patch.dict(block.__dict__, forward=skip))
        handle = model.blocks[layer].register_forward_pre_hook(enter, with_kwargs=True)
        undo.callback(handle.remove)
        yield


def run_from(
    model: Model,
    resid: Float[Tensor, "batch pos d_model"],
    layer: int,
    tokens: Int[Tensor, "batch pos"] | None = None,
    past: Past | None = None,
    until: int | None = None,
) -> Float[Tensor, "batch pos d_model"]:
    """Run the blocks from `layer` on a given residual stream; return what leaves the last of them.

    Blocks before `layer` are not called, nor are `until` and later ones. ``layer == until`` returns `resid` as it is.

    Args:
        model: the model.
        resid: the residual stream that enters block `layer`.
        layer: the first block to run.
        tokens: the tokens behind `resid`; only their shape matters (a bridge derives positions from it).
        past: keys and values of the positions before `resid`, which is then attended to and not run.
        until: the first block that is not run; default ``n_layers``, which runs all.
    """
    until = n_layers(model) if until is None else until
    if layer == until:
        return resid
    found: list[Tensor] = []

    def keep(activation: Tensor) -> None:
        found.append(activation)
        raise _Stop

    final = (hook_name(model, until - 1, "resid_post"), keep)
    if backend_of(model) == "hooked":
        with hooks(model, [final]), contextlib.suppress(_Stop):
            model(resid, start_at_layer=layer, padding_side="right", **(past.options(resid) if past else {}))
    else:
        if tokens is None:
            tokens = torch.zeros(resid.shape[:2], dtype=torch.long, device=resid.device)
        with hooks(model, [final]), _entering_at(model, layer, resid), contextlib.suppress(_Stop):
            _call(model, tokens, past)
    if past is not None:
        past.advance(resid.shape[1], layer, until)
    return found[0]


@contextlib.contextmanager
def mlp_only_at(model: Model, rows: Int[Tensor, " read"], columns: Int[Tensor, " read"], size: tuple[int, int]) -> Iterator[bool]:
    """Let the MLP of the last block compute only the positions that are read; elsewhere it adds nothing.

    What leaves the last block is then right at these positions alone. It is left as it is where that saves less than half,
    where the MLP is not a plain function of each position, and where somebody's hook looks inside it or behind the block.

    Args:
        model: the model.
        rows, columns: the positions that are going to be read.
        size: rows and columns of the batch that is going to run.

    Yields:
        Whether the MLP is narrowed.
    """
    block = model.blocks[n_layers(model) - 1]
    mlp = getattr(block, "mlp", None)
    inside = [point for name, point in points_inside(block) if "mlp" in name or "ln2_post" in name]
    watched = any(point.fwd_hooks or point.bwd_hooks for point in [block.hook_resid_post, *inside])
    if mlp is None or watched or getattr(model.cfg, "num_experts", None) or 2 * len(rows) > size[0] * size[1]:
        yield False
        return

    def narrow(module: torch.nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (args[0][rows, columns][None], *args[1:])

    def widen(module: torch.nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        full = output.new_zeros(*size, output.shape[-1])
        full[rows, columns] = output[0]
        return full

    handles = [mlp.register_forward_pre_hook(narrow), mlp.register_forward_hook(widen)]
    try:
        yield True
    finally:
        for handle in handles:
            handle.remove()


def read_out(
    model: Model, resid: Float[Tensor, "row d_model"], columns: Int[Tensor, " column"] | None = None
) -> Float[Tensor, "row column"]:
    """Logits of chosen rows of the final residual stream; all tokens, or only the given vocabulary columns."""
    normed = model.ln_final(resid[:, None, :])[:, 0] if model.cfg.normalization_type is not None else resid
    weights, bias = model.W_U, model.b_U  # HookedTransformer's own unembedding copies all its weights at each call
    logits = normed @ weights + bias if columns is None else normed @ weights[:, columns] + bias[columns]
    cap = getattr(model.cfg, "output_logits_soft_cap", None)  # both classes apply it behind the unembedding
    return cap * torch.tanh(logits / cap) if cap is not None and cap > 0 else logits
