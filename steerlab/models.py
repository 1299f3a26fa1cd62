"""Run a TransformerLens model to a layer, run it on from a layer, read it out.

With `loading`, which builds the models, and `keyvalues`, which stores for them, this is the only module that knows whether it holds a `HookedTransformer` or a
`TransformerBridge`. Everything else takes the plain model object and the functions below.

Sites follow TransformerLens: ``resid_pre``, ``resid_mid`` and ``resid_post`` of 0-based block l. ``resid_post``
of block l is the output of block l, and the same tensor as ``resid_pre`` of block l + 1.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from typing import Any, Protocol, runtime_checkable
from unittest import mock

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from steerlab import checkpoints
from steerlab.loading import HookedTransformer, Model, TransformerBridge, load_model

__all__ = [
    "SITES",
    "HookFn",
    "Model",
    "backend_of",
    "context_length",
    "d_model",
    "describe",
    "device_of",
    "entering",
    "forward",
    "hook_name",
    "hooks",
    "load_model",
    "n_layers",
    "processing_of",
    "read_out",
    "residuals",
    "run_from",
    "run_to",
    "token_ids",
]

HookFn = Callable[[Tensor], Tensor | None]
SITES = ("resid_pre", "resid_mid", "resid_post")


class _Stop(Exception):
    """Leaves a forward pass once the wanted activation is in hand."""


def backend_of(model: Model) -> str:
    """ "hooked" for a HookedTransformer, "bridge" for a TransformerBridge.

    Raises:
        TypeError: anything else.
    """
    if isinstance(model, TransformerBridge):
        return "bridge"
    if HookedTransformer is not None and isinstance(model, HookedTransformer):
        return "hooked"
    raise TypeError(
        f"model is a {type(model).__name__}; expected a TransformerLens HookedTransformer or TransformerBridge, "
        "as steerlab.load_model returns"
    )


def n_layers(model: Model) -> int:
    """Number of blocks."""
    return int(model.cfg.n_layers)


def d_model(model: Model) -> int:
    """Width of the residual stream."""
    return int(model.cfg.d_model)


def context_length(model: Model) -> int:
    """The longest sequence, in tokens, that the model takes."""
    return int(model.cfg.n_ctx)


def device_of(model: Model) -> torch.device:
    """Where the first parameter lives; inputs are sent there."""
    return next(iter(model.parameters())).device


def hook_name(model: Model, layer: int, site: str = "resid_post") -> str:
    """The TransformerLens hook point of a site, checked against the model.

    Raises:
        ValueError: a layer that the model lacks, or a site that its blocks lack.
    """
    if site not in SITES:
        raise ValueError(f"site={site!r}; use one of {', '.join(SITES)}")
    if isinstance(layer, bool) or not isinstance(layer, int | np.integer) or not 0 <= layer < n_layers(model):
        raise ValueError(f"layer={layer!r}: this model has {n_layers(model)} layers; use 0 to {n_layers(model) - 1}")
    name = f"blocks.{layer}.hook_{site}"
    if name not in model.hook_dict:
        raise ValueError(f"site={site!r}: block {layer} has no {name} (attention and MLP run side by side); use resid_pre or resid_post")
    return name


def describe(model: Model) -> dict[str, Any]:
    """What provenance records of a model: name, source, backend, shape, dtype and weight processing."""
    cfg = model.cfg
    origin = getattr(model, "steerlab_origin", {})
    return {
        "name": origin.get("name", getattr(cfg, "model_name", "unknown")),
        "revision": origin.get("revision"),
        "weights_sha256": checkpoints.weights_sha256(origin["path"]) if "path" in origin else None,
        "backend": backend_of(model),
        "processing": processing_of(model),
        "n_layers": n_layers(model),
        "d_model": d_model(model),
        "d_vocab": int(cfg.d_vocab),
        "dtype": str(next(iter(model.parameters())).dtype).removeprefix("torch."),
        "transformer_lens": version("transformer-lens"),
    }


def processing_of(model: Model) -> str:
    """ "raw" for weights as published, "processed" where LayerNorm was folded or weights were centred.

    Folding changes the basis of the residual stream, so a direction holds only under the processing it was found in.
    TransformerLens marks folded norms by a normalisation type that ends in "Pre"; a bridge says so itself.
    """
    if backend_of(model) == "bridge":
        return "processed" if getattr(model, "compatibility_mode", False) else "raw"
    declared = getattr(model, "steerlab_origin", {}).get("processing")
    folded = str(model.cfg.normalization_type or "").endswith("Pre")
    return "processed" if folded else (declared or "raw")


@contextlib.contextmanager
def hooks(model: Model, fns: Sequence[tuple[str, HookFn]]) -> Iterator[None]:
    """Attach functions to hook points for a while, then leave the model as it was, also after an error.

    Args:
        model: the model.
        fns: pairs of hook point name and function of the activation; a returned tensor replaces it. Several on
            one point run in the order given. Hooks that were there before stay.
    """
    attached = []
    try:
        for name, fn in fns:
            point = model.hook_dict[name]
            before = list(point.fwd_hooks)
            point.add_hook(lambda activation, hook, fn=fn: fn(activation))
            attached += [(point, handle) for handle in point.fwd_hooks if all(handle is not old for old in before)]
        yield
    finally:
        for point, handle in reversed(attached):
            handle.hook.remove()
            point.fwd_hooks[:] = [kept for kept in point.fwd_hooks if kept is not handle]


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


@runtime_checkable
class Past(Protocol):
    """What went before the tokens that are run; see `steerlab.keyvalues.KeyValueCache`."""

    def options(self, fed: Tensor) -> dict[str, Any]:
        """The arguments that make a model attend to it, and store `fed` in it."""


def forward(model: Model, tokens: Int[Tensor, "batch pos"], past: Past | None = None) -> Float[Tensor, "batch pos d_vocab"]:
    """Logits at every position: the plain run that every shortcut here must agree with.

    Padding, if any, stands on the right, where a causal model needs no mask.
    """
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
        forward(model, tokens, past)
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


def run_from(
    model: Model,
    resid: Float[Tensor, "batch pos d_model"],
    layer: int,
    tokens: Int[Tensor, "batch pos"] | None = None,
    past: Past | None = None,
) -> Float[Tensor, "batch pos d_model"]:
    """Run blocks `layer` and later on a given residual stream; return what leaves the last block.

    Blocks before `layer` are not called. ``layer == n_layers`` returns `resid` as it is.

    Args:
        model: the model.
        resid: the residual stream that enters block `layer`.
        layer: the first block to run.
        tokens: the tokens behind `resid`; only their shape matters (a bridge derives positions from it).
        past: keys and values of the positions before `resid`, which is then attended to and not run.
    """
    last = n_layers(model)
    if layer == last:
        return resid
    found: list[Tensor] = []

    def keep(activation: Tensor) -> None:
        found.append(activation)
        raise _Stop

    final = (hook_name(model, last - 1, "resid_post"), keep)
    if backend_of(model) == "hooked":
        with hooks(model, [final]), contextlib.suppress(_Stop):
            model(resid, start_at_layer=layer, padding_side="right", **(past.options(resid) if past else {}))
        return found[0]
    if tokens is None:
        tokens = torch.zeros(resid.shape[:2], dtype=torch.long, device=resid.device)
    with hooks(model, [final]), _entering_at(model, layer, resid), contextlib.suppress(_Stop):
        forward(model, tokens, past)
    return found[0]


def read_out(
    model: Model, resid: Float[Tensor, "row d_model"], columns: Int[Tensor, " column"] | None = None
) -> Float[Tensor, "row column"]:
    """Logits of chosen rows of the final residual stream; all tokens, or only the given vocabulary columns."""
    normed = model.ln_final(resid[:, None, :])[:, 0] if model.cfg.normalization_type is not None else resid
    if columns is None:
        logits = model.unembed(normed[:, None, :])[:, 0]
    else:
        logits = normed @ model.W_U[:, columns] + model.b_U[columns]
    cap = getattr(model.cfg, "output_logits_soft_cap", None)  # both classes apply it behind the unembedding
    return cap * torch.tanh(logits / cap) if cap is not None and cap > 0 else logits


def token_ids(model: Model, text: str, *, prepend_bos: bool | None = None) -> list[int]:
    """Token ids of a text as TransformerLens' own `to_tokens` gives them, without truncation.

    Args:
        model: the model, whose ``cfg.default_prepend_bos`` decides about a beginning-of-sequence token.
        text: may be empty.
        prepend_bos: overrides the model's default.

    Raises:
        ValueError: a model without a tokenizer.
    """
    if model.tokenizer is None:
        raise ValueError("this model has no tokenizer; add tokenizer.json to its directory, or give tokens to the model yourself")
    bos = model.cfg.default_prepend_bos if prepend_bos is None else prepend_bos
    if text == "":
        return [int(model.tokenizer.bos_token_id)] if bos and model.tokenizer.bos_token_id is not None else []
    ids: list[int] = model.to_tokens(text, prepend_bos=bos, truncate=False, move_to_device=False)[0].tolist()
    return ids
