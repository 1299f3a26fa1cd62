"""What a TransformerLens model is: its shape, hook points, tokens and dtype.

Only the room `steerlab.models` knows whether a model is a `HookedTransformer` or a `TransformerBridge`; all else takes the plain
model object. Sites follow TransformerLens: ``resid_pre``, ``resid_mid``, ``resid_post`` of 0-based block l. ``resid_post`` of block
l is the output of block l, the same tensor as ``resid_pre`` of block l + 1.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformer_lens.hook_points import HookPoint

from steerlab._checks import InputError, InputTypeError, is_whole, one_of
from steerlab._html import OneLine
from steerlab.models import weights
from steerlab.models.backends import HookedTransformer, Model, TransformerBridge
from steerlab.models.encoding import prepends_bos, said, token_ids

HookFn = Callable[[Tensor], Tensor | None]
SITES = ("resid_pre", "resid_mid", "resid_post")
CHECKED = "steerlab_short_cuts"  # where a model carries what `steerlab.models.shortcuts` found out about it


class Site(NamedTuple):
    """A place in the residual stream: a 0-based block, and which of its hook points.

    Attributes:
        layer: the block.
        site: "resid_pre", "resid_mid" or "resid_post".
    """

    layer: int
    site: str = "resid_post"

    @property
    def resumes_at(self) -> int:
        """The first block that has to run again where the stream is changed here."""
        return self.layer + 1 if self.site == "resid_post" else self.layer

    @property
    def enters(self) -> bool:
        """Whether it is the stream that enters block `resumes_at`, not one inside it."""
        return self.site != "resid_mid"


def backend_of(model: Model) -> str:
    """ "hooked" for a HookedTransformer, "bridge" for a TransformerBridge.

    Raises:
        TypeError: anything else.
    """
    if isinstance(model, TransformerBridge):
        return "bridge"
    if HookedTransformer is not None and isinstance(model, HookedTransformer):
        return "hooked"
    raise InputTypeError(
        f"model is a {type(model).__name__}; expected a TransformerLens HookedTransformer or TransformerBridge, "
        "as steerlab.load_model returns"
    )


def n_layers(model: Model) -> int:
    """Number of blocks."""
    return int(model.cfg.n_layers)


def d_model(model: Model) -> int:
    """Width of the residual stream."""
    return int(model.cfg.d_model)


def n_outputs(model: Model) -> int:
    """How many tokens the model can predict: its output vocabulary, which may be smaller than that of its input."""
    found = int(getattr(model.cfg, "d_vocab_out", None) or -1)
    return found if found > 0 else int(model.cfg.d_vocab)


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
    one_of(site, "site", SITES)
    if not is_whole(layer):
        raise InputError(f"layer={layer!r} is a {type(layer).__name__}; use a whole number from 0 to {n_layers(model) - 1}")
    if not 0 <= layer < n_layers(model):
        raise InputError(f"layer={layer!r}: this model has {n_layers(model)} layers; use 0 to {n_layers(model) - 1}")
    name = f"blocks.{layer}.hook_{site}"
    if _point(model, name) is None:
        raise InputError(f"site={site!r}: block {layer} has no {name} ({_why_no_mid(model, layer)}); use resid_pre or resid_post")
    _, known = getattr(model, CHECKED, (None, None))
    if site == "resid_mid" and known is not None and site in known.off:
        raise InputError(
            f"site={site!r}: {name} is not the stream between attention and MLP here ({known.off[site]}); use resid_pre or resid_post"
        )
    return name


def _why_no_mid(model: Model, layer: int) -> str:
    if getattr(model.cfg, "parallel_attn_mlp", False):
        return "attention and MLP run side by side"
    if getattr(model.cfg, "attn_only", False) or not hasattr(model.blocks[layer], "mlp"):
        return "there is no MLP behind its attention"
    return "TransformerLens has no such point in this architecture"


def _point(model: Model, name: str) -> HookPoint | None:
    """The hook point of a name, if there is one; looked for where it is, because a bridge makes its `hook_dict` anew at every look."""
    found: Any = model
    try:
        for part in name.split("."):
            found = found[int(part)] if part.isdigit() else getattr(found, part)
    except (AttributeError, IndexError):
        found = None
    return found if isinstance(found, HookPoint) else model.hook_dict.get(name)


def points_inside(module: Model | torch.nn.Module) -> Iterator[tuple[str, HookPoint]]:
    """The hook points in a module, by their names there."""
    return ((name, point) for name, point in module.named_modules() if isinstance(point, HookPoint))


def describe(model: Model, *, anew: bool = False) -> dict[str, Any]:
    """What provenance records of a model: name, source, weights, backend, shape, dtype, weight processing and the rule for special tokens.

    Args:
        model: the model.
        anew: look at every weight in memory again; see `steerlab.models.weights.fingerprint`.
    """
    cfg = model.cfg
    origin = getattr(model, "steerlab_origin", {})
    _, known = getattr(model, CHECKED, (None, None))
    slower = {"short_cuts_off": sorted(known.off)} if known is not None and known.off else {}
    return slower | {
        "name": origin.get("name", getattr(cfg, "model_name", "unknown")),
        "revision": origin.get("revision"),
        **weights.record(model, origin, anew=anew),
        "backend": backend_of(model),
        "processing": processing_of(model),
        "prepend_bos": prepends_bos(model),
        "special_tokens": said(model),
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


def is_hooked(model: Model) -> bool:
    """Whether functions hang on any hook point; they may count positions, so that rows have to be run whole."""
    return any(point.fwd_hooks for _, point in points_inside(model))


def _in_place(fn: HookFn) -> HookFn:
    """A hook that writes its result into the activation, which the skip connection holds, too."""

    def act(activation: Tensor) -> Tensor:
        new = fn(activation)
        return activation if new is None or new is activation else activation.copy_(new)

    return act


@contextlib.contextmanager
def hooks(model: Model, fns: Sequence[tuple[str, HookFn]]) -> Iterator[None]:
    """Attach functions to hook points for a while, then leave the model as it was, also after an error.

    Args:
        model: the model.
        fns: pairs of hook point name and function of the activation; a returned tensor replaces it. Several on
            one point run in the order given. Hooks that were there before stay.

    On a bridge ``hook_resid_mid`` is the input of the second norm, and what its hooks return would reach the MLP alone;
    here it replaces the stream itself, as in a HookedTransformer.
    """
    attached = []
    bridged = backend_of(model) == "bridge"
    try:
        for name, fn in fns:
            point = _point(model, name)
            if point is None:
                raise KeyError(f"{name}: this model has no such hook point")
            before = list(point.fwd_hooks)
            act = _in_place(fn) if bridged and name.endswith("hook_resid_mid") else fn
            point.add_hook(lambda activation, hook, act=act: act(activation))
            attached += [(point, handle) for handle in point.fwd_hooks if all(handle is not old for old in before)]
        yield
    finally:
        for point, handle in reversed(attached):
            handle.hook.remove()
            point.fwd_hooks[:] = [kept for kept in point.fwd_hooks if kept is not handle]


@contextlib.contextmanager
def frozen(model: Model) -> Iterator[None]:
    """Gradients flow through the model and none into it: no parameter gets one; afterwards each asks for gradients as it did."""
    asking = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        for parameter in asking:
            parameter.requires_grad_(False)
        with torch.inference_mode(mode=False), torch.enable_grad():
            yield
    finally:
        for parameter in asking:
            parameter.requires_grad_(True)


def readable(model: Model, texts: Sequence[str]) -> bool:
    """Whether texts fit into the model's context, and most of their tokens are known to its tokenizer. A model without one reads no text."""
    if model.tokenizer is None:
        return False
    found = [token_ids(model, text) for text in texts]
    unknown, total = unknown_tokens(model, found)
    return 2 * unknown <= total and all(1 <= len(tokens) <= context_length(model) for tokens in found)


def unknown_tokens(model: Model, rows: Sequence[Sequence[int]]) -> tuple[int, int]:
    """How many tokens are the tokenizer's unknown one, of how many."""
    unknown = getattr(model.tokenizer, "unk_token_id", None)
    every = [token for tokens in rows for token in tokens]
    return (0 if unknown is None else every.count(unknown)), len(every)


@dataclass(frozen=True)
class Precision(OneLine, shown="dtype compared different"):
    """How predictions in a lower precision compare with the model's own on a sample of problems and cells.

    Attributes:
        dtype: the precision that was used, e.g. "bfloat16".
        compared: predictions compared, unsteered ones included.
        different: how many of them differ.
    """

    dtype: str
    compared: int
    different: int

    def __str__(self) -> str:
        return f"{self.dtype}: {self.different} of {self.compared} predictions in a sample differ from those in the model's own precision"


def dtype_named(precision: str | torch.dtype) -> torch.dtype:
    """A floating-point type by its name.

    Raises:
        ValueError: anything else.
    """
    found = getattr(torch, precision, None) if isinstance(precision, str) else precision
    if not isinstance(found, torch.dtype) or not found.is_floating_point:
        raise InputError(f"precision={precision!r}; use float32, bfloat16, float16 or float64")
    return found


@contextlib.contextmanager
def in_precision(model: Model, precision: str | torch.dtype) -> Iterator[None]:
    """Convert a model's parameters; give back the very tensors that were there, also after an error.

    Both copies are held meanwhile. What a HookedTransformer keeps as buffers in its own dtype (rotary angles) is converted too; a
    Hugging Face model computes these in float32 whatever its dtype, and only biases that became buffers are converted.
    """
    dtype = dtype_named(precision)
    tensors: list[Tensor] = list(model.parameters())
    hooked = backend_of(model) == "hooked"
    tensors += [buffer for name, buffer in model.named_buffers() if hooked or name.rsplit(".", 1)[-1] in ("weight", "bias")]
    before, named = [tensor.data for tensor in tensors], getattr(model.cfg, "dtype", None)
    try:
        for tensor in tensors:
            if tensor.is_floating_point():
                tensor.data = tensor.data.to(dtype)
        if named is not None:
            model.cfg.dtype = dtype
        yield
    finally:
        for tensor, data in zip(tensors, before, strict=True):
            tensor.data = data
        if named is not None:
            model.cfg.dtype = named
