"""Four other ways to do the same work: each runs one steered cell over all problems and gives back what it read.

(a) the sources' way: a Hugging Face model, a forward hook on the block, one problem at a time, full logits;
(b) the same in padded batches; (c) the same batches through `steering-vectors`; (d) plain `run_with_hooks`.

None is handicapped: evaluation mode, no gradients, transformers' default attention, problems sorted by length, padding on the right.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor

import steerlab as sl
from benchmarks.shapes import Shape
from steerlab.models.model import backend_of


@dataclass(frozen=True, eq=False)
class Cell:
    """One intervention, the same for every side.

    Attributes:
        layer: the block whose output is steered.
        alpha: the coefficient.
        direction: the vector.
    """

    layer: int
    alpha: float
    direction: sl.Direction

    @property
    def key(self) -> tuple[int, float, str]:
        """What results are compared under."""
        return self.layer, self.alpha, self.direction.name

    def step(self, shape: Shape) -> Tensor:
        """What is added to the stream."""
        return self.alpha * self.direction.vector.to(shape.device, shape.hf.dtype)


@dataclass(frozen=True)
class Rival:
    """Another way to do the work.

    Attributes:
        key: "a" to "d", or a word.
        label: for the table.
        run: does one cell with a given batch size.
        batched: whether the batch size matters; then the fastest of several is taken.
        backend: where it is to be compared with ours on that backend only.
        missing: why it cannot run here; empty where it can.
        warm_up: whether to run a cell before anything is timed.
    """

    key: str
    label: str
    run: Callable[[Cell, int], Any]
    batched: bool = True
    backend: str | None = None
    missing: str = ""
    warm_up: bool = True


@cache
def batches(shape: Shape, size: int) -> list[tuple[list[int], Tensor, Tensor, Tensor]]:
    """Problems sorted by length: their places, tokens padded on the right, attention mask, and last positions."""
    order = sorted(range(len(shape.rows)), key=lambda i: len(shape.rows[i].tokens))
    made = []
    for start in range(0, len(order), size):
        index = order[start : start + size]
        rows = [torch.tensor(shape.rows[i].tokens) for i in index]
        tokens = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True).to(shape.device)
        ends = torch.tensor([len(row) for row in rows], device=shape.device)
        mask = (torch.arange(tokens.shape[1], device=shape.device) < ends[:, None]).long()
        made.append((index, tokens, mask, ends - 1))
    return made


def _columns(shape: Shape) -> Tensor:
    return torch.tensor([row.reads[0].tokens for row in shape.rows], device=shape.device)


def block(hf: Any, layer: int) -> torch.nn.Module:
    """The block of a Hugging Face model, found as the sources find it."""
    return (hf.transformer.h if hf.config.model_type == "gpt2" else hf.model.layers)[layer]


def _moved(hidden: Tensor, step: Tensor, last: Tensor | None) -> Tensor:
    if last is None:
        return hidden + step
    hidden = hidden.clone()
    hidden[torch.arange(len(hidden), device=hidden.device), last] += step
    return hidden


@contextlib.contextmanager
def _hooked(shape: Shape, layer: int, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    def hook(module: torch.nn.Module, args: Any, output: Any) -> Any:
        return (change(output[0]), *output[1:]) if isinstance(output, tuple) else change(output)

    handle = block(shape.hf, layer).register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def one_at_a_time(shape: Shape, positions: str) -> Rival:
    """(a) The sources' way."""

    @torch.no_grad()
    def run(cell: Cell, size: int) -> np.ndarray:
        step = cell.step(shape)

        def change(hidden: Tensor) -> Tensor:
            if positions == "all":
                return hidden + step
            hidden = hidden.clone()
            hidden[:, -1] += step
            return hidden

        read = []
        with _hooked(shape, cell.layer, change):
            for row in shape.rows:
                tokens = torch.tensor([row.tokens], device=shape.device)
                logits = shape.hf(input_ids=tokens, use_cache=False).logits[0, -1]
                read.append(logits[list(row.reads[0].tokens)].float().cpu().numpy())
        return np.stack(read)

    return Rival("a", "(a) Hugging Face hook, one problem at a time", run, batched=False)


def _in_batches(shape: Shape, size: int, logits_of: Callable[[Tensor, Tensor, Tensor], Tensor]) -> np.ndarray:
    """Full logits of every batch, of which the answers' columns at the last positions are kept."""
    columns = _columns(shape)
    read = np.empty(tuple(columns.shape), np.float32)
    for index, tokens, mask, last in batches(shape, size):
        logits = logits_of(tokens, mask, last)
        here = logits[torch.arange(len(index), device=shape.device), last]
        read[index] = here.gather(1, columns[index]).float().cpu().numpy()
    return read


def in_batches(shape: Shape, positions: str) -> Rival:
    """(b) The same hook, on padded batches with an attention mask."""

    @torch.no_grad()
    def run(cell: Cell, size: int) -> np.ndarray:
        step = cell.step(shape)

        def logits(tokens: Tensor, mask: Tensor, last: Tensor) -> Tensor:
            where = None if positions == "all" else last
            with _hooked(shape, cell.layer, lambda hidden: _moved(hidden, step, where)):
                return shape.hf(input_ids=tokens, attention_mask=mask, use_cache=False).logits

        return _in_batches(shape, size, logits)

    return Rival("b", "(b) Hugging Face hook, padded batches", run)


def steering_vectors_package(shape: Shape, positions: str) -> Rival:
    """(c) The `steering-vectors` package, on the same batches as (b)."""
    missing = [name for name in ("steering_vectors", "sklearn") if find_spec(name) is None]

    @torch.no_grad()
    def run(cell: Cell, size: int) -> np.ndarray:
        from steering_vectors import SteeringVector  # here, because it is optional

        vector = SteeringVector(layer_activations={cell.layer: cell.direction.vector.to(shape.device, shape.hf.dtype)})

        def logits(tokens: Tensor, mask: Tensor, last: Tensor) -> Tensor:
            chosen = None
            if positions == "last":
                chosen = (torch.arange(tokens.shape[1], device=shape.device) == last[:, None]).to(shape.hf.dtype)
            with vector.apply(shape.hf, multiplier=cell.alpha, min_token_index=None, token_indices=chosen):
                return shape.hf(input_ids=tokens, attention_mask=mask, use_cache=False).logits

        return _in_batches(shape, size, logits)

    why = f"not installed: {', '.join(missing)}" if missing else ""
    return Rival("c", "(c) steering-vectors, padded batches", run, missing=why)


def transformer_lens_hooks(shape: Shape, positions: str) -> Rival:
    """(d) `run_with_hooks` on the HookedTransformer where there is one, else on the bridge."""
    model = shape.ours.get("hooked") or shape.ours["bridge"]
    options = {} if backend_of(model) == "hooked" else {"use_cache": False}

    @torch.no_grad()
    def run(cell: Cell, size: int) -> np.ndarray:
        step = cell.step(shape)

        def logits(tokens: Tensor, mask: Tensor, last: Tensor) -> Tensor:
            where = None if positions == "all" else last
            hook = (f"blocks.{cell.layer}.hook_resid_post", lambda resid, hook: _moved(resid, step, where))
            return model.run_with_hooks(tokens, fwd_hooks=[hook], return_type="logits", **options)

        return _in_batches(shape, size, logits)

    return Rival("d", f"(d) run_with_hooks ({backend_of(model)}), padded batches", run)


def generating_one_at_a_time(shape: Shape, new_tokens: int) -> Rival:
    """(a) for generation: greedy `generate` with its own keys and values; the hook acts on the prompt's last position only."""

    @torch.no_grad()
    def run(cell: Cell, size: int) -> list[tuple[int, ...]]:
        step, made = cell.step(shape), []

        def change(hidden: Tensor) -> Tensor:
            if hidden.shape[1] == 1:  # a generated token; no prompt here is that short
                return hidden
            hidden = hidden.clone()
            hidden[:, -1] += step
            return hidden

        with _hooked(shape, cell.layer, change):
            for row in shape.rows:
                tokens = torch.tensor([row.tokens], device=shape.device)
                out = shape.hf.generate(
                    tokens,
                    attention_mask=torch.ones_like(tokens),
                    do_sample=False,
                    max_new_tokens=new_tokens,
                    use_cache=True,
                    pad_token_id=shape.hf.config.vocab_size - 1,
                )
                made.append(tuple(out[0, len(row.tokens) :].tolist()))
        return made

    return Rival("a", "(a) Hugging Face generate with a hook, one problem at a time", run, batched=False)


def caching_everything(shape: Shape, backend: str, layers: list[int]) -> Rival:
    """`run_with_cache` of everything in padded batches, of which the last positions of all layers are kept."""
    model = shape.ours[backend]
    options = {} if backend == "hooked" else {"use_cache": False}

    @torch.no_grad()
    def run(cell: Cell, size: int) -> np.ndarray:
        kept = np.empty((len(shape.rows), len(layers), shape.hf.config.hidden_size), np.float32)
        for index, tokens, _, last in batches(shape, size):
            _, cached = model.run_with_cache(tokens, **options)
            for k, layer in enumerate(layers):
                resid = cached[f"blocks.{layer}.hook_resid_post"]
                kept[index, k] = resid[torch.arange(len(index), device=shape.device), last].float().cpu().numpy()
        return kept

    return Rival(f"run_with_cache-{backend}", f"run_with_cache ({backend}), padded batches", run, backend=backend)
