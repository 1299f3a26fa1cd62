"""Ways to run less than the whole model, each compared once per model with the model's own forward pass.

A short cut that disagrees is switched off: `read_out`, `run_from` and `mlp_only_at` then go the long way, and rows are run whole. A
model whose residual stream cannot be read and written at its hook points is refused. Blocks are counted as in
`steerlab.models.passes`.
"""

import contextlib
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from steerlab._checks import InputError
from steerlab.models.backends import Model
from steerlab.models.kv_cache import CacheView, KeyValueCache
from steerlab.models.memory import is_out_of_memory
from steerlab.models.model import (
    CHECKED,
    HookFn,
    backend_of,
    context_length,
    d_model,
    device_of,
    hook_name,
    hooks,
    is_hooked,
    n_layers,
    points_inside,
    processing_of,
)
from steerlab.models.passes import Stop, call, entering, forward, run_to
from steerlab.models.threads import suitable_threads

__all__ = ["ShortCuts", "mlp_only_at", "next_logits", "read_out", "run_from", "runs_whole", "short_cuts"]

PROBE = (13, 8, 5)  # tokens of the rows that are compared, where the context has room for them
MOST_BLOCKS = 4  # entries that are tried, spread over the model, beside the first two and the last
ALLOWED = {torch.float32: 1e-4, torch.float64: 1e-4}  # difference of logits, as a share of the largest; other dtypes: 0.05
SMALLEST = 0.05  # logits of untrained models are small, and so are the differences of what is wrong in them
SAID = {
    "read_out": "logits of single positions",
    "narrow": "the last MLP at single positions",
    "resume": "running on from a block",
    "pieces": "kept keys and values",
    "aligned": "rows of several lengths that are generated from together",
    "padded": "rows of several lengths in one batch",
    "resid_mid": "steering between attention and MLP",
}
Off = Mapping[str, str]  # what does not agree, and how
Trial = Callable[[Off], Iterator[tuple[Tensor, Tensor]]]
FAULTS = (
    RuntimeError,
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    NotImplementedError,
)  # how models say that they cannot do a thing


@dataclass(frozen=True)
class ShortCuts:
    """Which short cuts give a model's own results.

    Attributes:
        off: the others, with how they differ. Their names: read_out (logits of single positions, by the final norm and the unembedding),
            narrow (the last MLP at the positions that are read), resume (running on from a block), pieces (keys and values of what
            stands before), aligned (rows that end together going on from these), padded (rows of several lengths in one
            batch), and resid_mid, which is no short cut but a site.
    """

    off: Mapping[str, str] = field(default_factory=dict)

    @property
    def read_out(self) -> bool:
        """Whether the final norm and the unembedding, applied to single positions, give the model's logits."""
        return "read_out" not in self.off

    @property
    def narrow(self) -> bool:
        """Whether the last MLP may run at the positions that are read, and nowhere else."""
        return "narrow" not in self.off

    @property
    def resume(self) -> bool:
        """Whether blocks may be skipped when their output is known."""
        return "resume" not in self.off

    @property
    def pieces(self) -> bool:
        """Whether a prompt may be run in pieces, with keys and values kept in between."""
        return "pieces" not in self.off

    @property
    def aligned(self) -> bool:
        """Whether rows of several lengths may be generated from together, aligned at their ends."""
        return "aligned" not in self.off

    @property
    def padded(self) -> bool:
        """Whether rows of several lengths may stand in one batch, padded on the right."""
        return "padded" not in self.off


def short_cuts(model: Model) -> ShortCuts:
    """Which short cuts give the model's own results: found out at the first call, kept with the model.

    Raises:
        InputError: a model whose residual stream cannot be read and written, or whose logits cannot be had at all.

    Warns:
        UserWarning: once for a model, where a short cut is switched off.
    """
    backend_of(model)  # a clear error for anything that is no model
    key = (processing_of(model), n_layers(model))
    known = getattr(model, CHECKED, None)
    if known is None or known[0] != key:
        with _as_published(model), suitable_threads(model), torch.no_grad():
            known = (key, ShortCuts(_differing(model)))
        object.__setattr__(model, CHECKED, known)
        slower = {name: reason for name, reason in known[1].off.items() if name != "resid_mid"}
        if slower:
            said = "; ".join(f"{SAID[name]} ({reason})" for name, reason in slower.items())
            warnings.warn(
                f"{_called(model)} is run without some short cuts, because they do not give its own results: {said}. Work takes longer and is right",
                UserWarning,
                stacklevel=2,
            )
    found: ShortCuts = known[1]
    return found


def runs_whole(model: Model) -> bool:
    """Whether rows have to be run from their first token: hooks of somebody else may count positions, or keys and values cannot be kept."""
    return is_hooked(model) or not short_cuts(model).pieces


# --- the short cuts --------------------------------------------------------------------------------------------------


def run_from(
    model: Model,
    resid: Float[Tensor, "batch pos d_model"],
    layer: int,
    tokens: Int[Tensor, "batch pos"],
    past: KeyValueCache | None = None,
    until: int | None = None,
) -> Float[Tensor, "batch pos d_model"]:
    """Run the blocks from `layer` on a given residual stream; return what leaves the last of them.

    Blocks before `layer` are not called, where the model allows it, nor are `until` and later ones. ``layer == until`` returns `resid` as it is.

    Args:
        model: the model.
        resid: the residual stream that enters block `layer`.
        layer: the first block to run.
        tokens: the tokens behind `resid`. A bridge derives positions from their shape, and some models look at them again in later blocks.
        past: keys and values of the positions before `resid`, which is then attended to and not run.
        until: the first block that is not run; default ``n_layers``, which runs all.
    """
    until = n_layers(model) if until is None else until
    if layer == until:
        return resid
    return _run_from(model, resid, layer, tokens, past, until, skip=short_cuts(model).resume)


def read_out(
    model: Model, resid: Float[Tensor, "row d_model"], columns: Int[Tensor, " column"] | None = None
) -> Float[Tensor, "row column"]:
    """Logits of chosen rows of the final residual stream; all tokens, or only the given vocabulary columns."""
    known = short_cuts(model)
    return _read_out(model, resid, columns) if known.read_out else _own_read_out(model, resid, columns, skip=known.resume)


def next_logits(model: Model, cache: KeyValueCache, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch d_vocab"]:
    """Feed tokens after what was fed to a cache before; return the logits at the last position."""
    final = run_to(model, tokens, n_layers(model), cache)
    return read_out(model, final[:, -1])


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
    if (
        mlp is None
        or watched
        or getattr(model.cfg, "num_experts", None)
        or 2 * len(rows) > size[0] * size[1]
        or not short_cuts(model).narrow
    ):
        yield False
        return
    with _narrowed(mlp, rows, columns, size):
        yield True


# --- how they are done -----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _narrowed(mlp: torch.nn.Module, rows: Tensor, columns: Tensor, size: tuple[int, int]) -> Iterator[None]:
    def narrow(module: torch.nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (args[0][rows, columns][None], *args[1:])

    def widen(module: torch.nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        full = output.new_zeros(*size, output.shape[-1])
        full[rows, columns] = output[0]
        return full

    handles = [mlp.register_forward_pre_hook(narrow), mlp.register_forward_hook(widen)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def _entering_at(model: Model, layer: int, resid: Tensor) -> Iterator[None]:
    """Let the blocks of a bridge before `layer` do nothing, and give `resid` to block `layer`, whatever comes to it.

    The blocks stay in their places, because some models choose the mask or the rotary angles by a block's place.
    """

    def skip(*args: Any, **kwargs: Any) -> Tensor:
        # Some models take a block's output as a tensor, others its first item; nobody reads this one, and it serves both.
        return resid[None]

    def enter(block: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return ((resid, *args[1:]), kwargs) if args else (args, kwargs | {"hidden_states": resid})

    skipped = list(model.blocks)[:layer]
    handle = model.blocks[layer].register_forward_pre_hook(enter, with_kwargs=True)
    try:
        for block in skipped:
            block.__dict__["forward"] = skip  # a method of the instance, which stands before that of its class
        yield
    finally:
        handle.remove()
        for block in skipped:
            block.__dict__.pop("forward", None)


def _run_from(
    model: Model, resid: Tensor, layer: int, tokens: Tensor, past: KeyValueCache | None, until: int, *, skip: bool
) -> Float[Tensor, "batch pos d_model"]:
    """See `run_from`; without `skip` all blocks run, and the stream is replaced where it enters block `layer`."""
    found: list[Tensor] = []

    def keep(activation: Tensor) -> None:
        found.append(activation)
        raise Stop

    final = (hook_name(model, until - 1, "resid_post"), keep)
    if not skip:
        with hooks(model, [(hook_name(model, layer, "resid_pre"), lambda _: resid), final]), contextlib.suppress(Stop):
            call(model, tokens, past)
    elif backend_of(model) == "hooked":
        with hooks(model, [final]), contextlib.suppress(Stop):
            model(resid, start_at_layer=layer, padding_side="right", **(past.options(resid) if past else {}))
    else:
        with hooks(model, [final]), _entering_at(model, layer, resid), contextlib.suppress(Stop):
            call(model, tokens, past)
    if past is not None:
        past.advance(resid.shape[1])
    return found[0]


def _read_out(model: Model, resid: Tensor, columns: Tensor | None = None) -> Float[Tensor, "row column"]:
    """The final norm and the unembedding, of chosen columns alone."""
    normed = model.ln_final(resid[:, None, :])[:, 0] if model.cfg.normalization_type is not None else resid
    weights, bias = model.W_U, model.b_U  # HookedTransformer's own unembedding copies all its weights at each call
    logits = normed @ weights + bias if columns is None else normed @ weights[:, columns] + bias[columns]
    cap = getattr(model.cfg, "output_logits_soft_cap", None)  # both classes apply it behind the unembedding
    return cap * torch.tanh(logits / cap) if cap is not None and cap > 0 else logits


def _own_read_out(model: Model, resid: Tensor, columns: Tensor | None = None, *, skip: bool) -> Float[Tensor, "row column"]:
    """What the model itself makes of the stream that leaves its last block, whatever it does to it: each row as a sequence of one token."""
    last = n_layers(model) - 1
    stream, tokens = resid[:, None], torch.zeros(len(resid), 1, dtype=torch.long, device=resid.device)
    with contextlib.ExitStack() as stack:
        stack.enter_context(hooks(model, [(hook_name(model, last, "resid_post"), lambda _: stream)]))
        if skip and backend_of(model) == "bridge":
            stack.enter_context(_entering_at(model, last, stream))
        logits = call(model, tokens)[:, 0]
    return logits if columns is None else logits[:, columns]


# --- whether they give the model's own results -------------------------------------------------------------------------


@contextlib.contextmanager
def _as_published(model: Model) -> Iterator[None]:
    """The model without anybody's hooks and in evaluation mode for a while."""
    points = [point for _, point in points_inside(model)]
    kept = [(point, point.fwd_hooks, point._forward_hooks, point._forward_pre_hooks) for point in points]
    training = [module for module in model.modules() if module.training]
    try:
        for point in points:
            point.fwd_hooks, point._forward_hooks, point._forward_pre_hooks = [], OrderedDict(), OrderedDict()
        for module in training:
            module.training = False
        yield
    finally:
        for point, listed, forwards, befores in kept:
            point.fwd_hooks, point._forward_hooks, point._forward_pre_hooks = listed, forwards, befores
        for module in training:
            module.training = True


def _called(model: Model) -> str:
    return str(getattr(model, "steerlab_origin", {}).get("name", getattr(model.cfg, "model_name", "this model")))


def _differing(model: Model) -> dict[str, str]:
    """The short cuts that give something else than the model's own forward pass, with how they differ."""
    try:
        probes = _Probes(model)
        _check_stream(model, probes)
    except FAULTS as error:
        if isinstance(error, InputError) or is_out_of_memory(error):
            raise
        raise InputError(
            f"{_called(model)} cannot be run at all: {type(error).__name__}: {_first_line(error)}; use another model"
        ) from error
    off: dict[str, str] = {}
    trials: list[tuple[str, Trial, tuple[str, ...]]] = [
        ("resid_mid", probes.mid, ()),
        ("padded", probes.padded, ()),
        ("resume", probes.resumed, ()),
        ("read_out", probes.read, ()),
        ("narrow", probes.narrowed, ()),
        ("pieces", probes.in_pieces, ("resume",)),
        ("aligned", probes.aligned, ("pieces", "padded")),
    ]
    for name, trial, needs in trials:
        missing = next((need for need in needs if need in off), None)
        reason = f"needs {SAID[missing]}" if missing is not None else _difference(model, trial(off))
        if reason is not None:
            off[name] = reason
    if "read_out" in off:
        reason = _difference(model, probes.own_read(off))
        if reason is not None:
            raise InputError(f"{_called(model)}: its logits cannot be had from its residual stream ({reason}); use another model")
    return off


def _difference(model: Model, pairs: Iterable[tuple[Tensor, Tensor]]) -> str | None:
    """How the pairs (found, wanted) of a trial differ; None where they agree."""
    allowed = ALLOWED.get(next(iter(model.parameters())).dtype, 0.05)
    try:
        for found, wanted in pairs:
            if found.shape != wanted.shape:
                return f"shape {tuple(found.shape)} instead of {tuple(wanted.shape)}"
            gap = float((found.float() - wanted.float()).abs().max())
            if not gap <= allowed * max(SMALLEST, float(wanted.float().abs().max())):
                return f"logits differ by {gap:.2g}"
    except FAULTS as error:
        if is_out_of_memory(error):
            raise
        return f"{type(error).__name__}: {_first_line(error)}"
    return None


def _first_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 120 else text[:120] + " …"


def _check_stream(model: Model, probes: "_Probes") -> None:
    """Make sure that each block's input and output can be read and written at its hook points.

    Raises:
        InputError: a hook point that does not fire once a pass, holds something else than the stream, or does not act when written to.
    """
    seen: dict[str, list[tuple[int, ...]]] = {}
    points = [hook_name(model, layer, site) for layer in range(n_layers(model)) for site in ("resid_pre", "resid_post")]

    def look(point: str) -> HookFn:
        return lambda activation: seen.setdefault(point, []).append(tuple(activation.shape))

    with hooks(model, [(point, look(point)) for point in points]):
        forward(model, probes.tokens)
    expected = (*probes.tokens.shape, d_model(model))
    for point in points:
        shapes = seen.get(point, [])
        if shapes != [expected]:
            what = "never fires" if not shapes else f"fires {len(shapes)} times" if len(shapes) > 1 else f"has shape {list(shapes[0])}"
            raise InputError(
                f"{_called(model)} cannot be steered: {point} {what}, where the residual stream {list(expected)} should pass once; use another model"
            )
    for layer in sorted({n_layers(model) // 2, n_layers(model) - 1}):
        written = probes.written(layer, "resid_post")
        same = _difference(model, [(written, probes.plain[0])]) is None
        beyond = probes.written(layer + 1, "resid_pre") if layer + 1 < n_layers(model) else written
        apart = _difference(model, [(beyond, written)])
        if same or apart is not None:
            point = hook_name(model, layer, "resid_post")
            what = "changes no logit" if same else f"acts otherwise than in block {layer + 1}'s resid_pre ({apart})"
            raise InputError(f"{_called(model)} cannot be steered: a vector added at {point} {what}; use another model")


class _Probes:
    """Rows of tokens, what the model itself makes of each of them alone, and what the short cuts make of them.

    Each trial yields pairs of what a short cut gives and what the model itself gives. Its argument is what is known to be off.
    """

    def __init__(self, model: Model) -> None:
        self._model, self._last = model, n_layers(model)
        room, device, vocabulary = context_length(model), device_of(model), int(model.cfg.d_vocab)
        lengths = list(dict.fromkeys(max(1, min(length, room)) for length in (*_lengths_that_count(model), *PROBE)))
        draw = torch.Generator().manual_seed(0)
        self.rows = [torch.randint(0, vocabulary, (1, length), generator=draw).to(device) for length in lengths]
        self.plain = [forward(model, row) for row in self.rows]
        self.tokens = self.rows[0]
        for row, logits in zip(self.rows, self.plain, strict=True):
            if not bool(logits.isfinite().all()):
                raise InputError(
                    f"{_called(model)}: its logits on {row.shape[1]} tokens are not finite; its weights are damaged or need a wider dtype"
                )

    def _blocks(self) -> list[int]:
        """Entries that are tried: the first ones, the last one, and some between."""
        n = self._last
        return sorted({0, 1, n - 1, *torch.linspace(0, n - 1, min(n, MOST_BLOCKS)).long().tolist()} & set(range(n)))

    def _vector(self, like: Tensor) -> Tensor:
        """Something to add that is about as long as the stream."""
        draw = torch.randn(like.shape[-1], generator=torch.Generator().manual_seed(1)).to(like)
        return draw / draw.norm() * like.norm(dim=-1).mean()

    def _logits(self, final: Tensor, off: Off) -> Tensor:
        """Logits of what leaves the last block, by the model's own hand."""
        return _own_read_out(self._model, final.flatten(0, 1), skip="resume" not in off).view(*final.shape[:2], -1)

    def _has_mid(self, block: int, off: Off) -> bool:
        return "resid_mid" not in off and getattr(self._model.blocks[block], "hook_resid_mid", None) is not None

    def written(self, layer: int, site: str) -> Tensor:
        """The model's logits with a vector added at a site."""
        with hooks(self._model, [(hook_name(self._model, layer, site), lambda resid: resid + self._vector(resid))]):
            return forward(self._model, self.tokens)

    def mid(self, off: Off) -> Iterator[tuple[Tensor, Tensor]]:
        """What stands between attention and MLP decides alone what leaves the block, whatever entered it."""
        layer = self._last // 2
        mid, post = f"blocks.{layer}.hook_resid_mid", hook_name(self._model, layer, "resid_post")
        if not self._has_mid(layer, off):
            return
        plain, moved = dict[str, Tensor](), dict[str, Tensor]()

        def keep(kept: dict[str, Tensor], point: str) -> HookFn:
            return lambda resid: kept.update({point: resid.clone()})

        with hooks(self._model, [(point, keep(plain, point)) for point in (mid, post)]):
            forward(self._model, self.tokens)
        before = (hook_name(self._model, layer, "resid_pre"), lambda resid: resid + self._vector(resid))
        with hooks(self._model, [before, (mid, lambda _: plain[mid]), (post, keep(moved, post))]):
            forward(self._model, self.tokens)
        if plain[mid].shape != plain[post].shape:
            raise ValueError(f"shape {list(plain[mid].shape)} instead of {list(plain[post].shape)}")
        yield moved[post], plain[post]

    def padded(self, off: Off) -> Iterator[tuple[Tensor, Tensor]]:
        width = max(row.shape[1] for row in self.rows)
        together = torch.cat([torch.nn.functional.pad(row, (0, width - row.shape[1])) for row in self.rows])
        for found, wanted in zip(forward(self._model, together), self.plain, strict=True):
            yield found[: wanted.shape[1]], wanted[0]

    def resumed(self, off: Off) -> Iterator[tuple[Tensor, Tensor]]:
        tokens = torch.cat([self.tokens, self.tokens.flip(1)])
        blocks = self._blocks()
        streams = entering(self._model, tokens, [*blocks, self._last])
        wanted = forward(self._model, tokens)
        for block in blocks:
            final = _run_from(self._model, streams[block], block, tokens, None, self._last, skip=True)
            yield self._logits(final, off), wanted
        for block in blocks[1:2]:  # what acts inside a block that is resumed at, and further on
            for site in ("resid_mid", "resid_post"):
                if site == "resid_mid" and not self._has_mid(block, off):
                    continue
                with hooks(self._model, [(f"blocks.{block}.hook_{site}", lambda resid: resid + self._vector(resid))]):
                    steered = forward(self._model, tokens)
                    final = _run_from(self._model, streams[block], block, tokens, None, self._last, skip=True)
                yield self._logits(final, off), steered

    def _final(self) -> Tensor:
        return run_to(self._model, self.tokens, self._last)

    def read(self, off: Off) -> Iterator[tuple[Tensor, Tensor]]:
        columns = torch.arange(0, self.plain[0].shape[-1], 3, device=self.tokens.device)
        final = self._final()[0]
        yield _read_out(self._model, final), self.plain[0][0]
        yield _read_out(self._model, final, columns), self.plain[0][0][:, columns]

    def own_read(self, off: Off) -> Iterator[tuple[Tensor, Tensor]]:
        yield _own_read_out(self._model, self._final()[0], skip="resume" not in off), self.plain[0][0]

    def narrowed(self, off: Off) -> Iterator[tuple[Tensor, Tensor]]:
        mlp, width = getattr(self._model.blocks[self._last - 1], "mlp", None), self.tokens.shape[1]
        if mlp is None:
            return
        columns = torch.tensor(sorted({0, width // 2, width - 1}), device=self.tokens.device)
        with _narrowed(mlp, torch.zeros_like(columns), columns, (1, width)):
            final = self._final()[:, columns]
        yield self._logits(final, off)[0], self.plain[0][0][columns]

    def in_pieces(self, off: Off) -> Iterator[tuple[Tensor, Tensor]]:
        tokens = torch.cat([self.tokens, self.tokens.flip(1)])
        width = tokens.shape[1]
        cut, block = max(1, width // 2), self._last // 2
        if width < 2:
            return
        wanted, device = forward(self._model, tokens), tokens.device
        streams = entering(self._model, tokens, [block])[block]
        cache = KeyValueCache(self._model, len(tokens))
        first = run_to(self._model, tokens[:, :cut], self._last, cache)
        yield self._logits(first, off), wanted[:, :cut]
        rows = torch.tensor([0, 1, 0], device=device)
        yield self._logits(run_to(self._model, tokens[rows, cut:], self._last, cache.take(rows)), off), wanted[rows, cut:]
        begin = max(1, cut - 1)
        taken = cache.take(rows[1:], stop=begin, blocks=range(block, self._last), grows=False)
        resumed = _run_from(self._model, streams[rows[1:], begin:], block, tokens[rows[1:], begin:], taken, self._last, skip=True)
        yield self._logits(resumed, off), wanted[rows[1:], begin:]
        for column in range(cut, min(cut + 2, width)):
            step = run_to(self._model, tokens[:, column : column + 1], self._last, cache)
            yield self._logits(step, off)[:, 0], wanted[:, column]

    def aligned(self, off: Off) -> Iterator[tuple[Tensor, Tensor]]:
        rows = [row for row in self.rows if row.shape[1] > 2]
        if not rows:
            return
        parts = []
        for place, row in enumerate(rows):
            cache = KeyValueCache(self._model, 1)
            run_to(self._model, row[:, :-2], self._last, cache)
            parts.append(CacheView(cache, range(self._last), [0], [place], [row.shape[1] - 2]))
        together = KeyValueCache.aligned(self._model, len(rows), parts, 2)
        wanted = [logits for row, logits in zip(self.rows, self.plain, strict=True) if row.shape[1] > 2]
        for step in (-2, -1):
            fed = torch.cat([row[:, step:][:, :1] for row in rows])
            final = run_to(self._model, fed, self._last, together)
            yield self._logits(final, off)[:, 0], torch.cat([logits[:, step] for logits in wanted])


def _lengths_that_count(model: Model) -> tuple[int, ...]:
    """A length beyond which a model turns its positions otherwise (scaled rotary embeddings), which short rows would not show."""
    config = getattr(getattr(model, "original_model", None), "config", None)
    rope = getattr(config, "rope_parameters", None) or {}
    kinds: Sequence[Any] = [rope, *rope.values()] if isinstance(rope, Mapping) else []
    for kind in kinds:
        if isinstance(kind, Mapping) and kind.get("rope_type") in ("longrope", "dynamic"):
            short = kind.get("original_max_position_embeddings") or getattr(config, "original_max_position_embeddings", None)
            if short:
                return (int(short) + 2,)
    return ()
