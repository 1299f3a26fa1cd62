"""Keys and values of what was already run, so that what follows attends to it without running it again."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from steerlab.models import Model, backend_of, device_of, n_layers
from steerlab.passes import read_out, run_to


class _Frozen(DynamicLayer):
    """A layer that lends its keys and values, and keeps no new ones."""

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        return torch.cat([self.keys, key_states], dim=-2), torch.cat([self.values, value_states], dim=-2)


class KeyValueCache:
    """Keys and values of every block, for a batch whose rows have the same length.

    It is filled by the functions of `steerlab.passes`, and rows of it can be taken for variants of what follows.

    Attributes:
        length: positions that are stored.
    """

    def __init__(self, model: Model, batch: int) -> None:
        self._model = model
        self.length = 0
        if backend_of(model) == "hooked":
            from transformer_lens import TransformerLensKeyValueCache

            self._cache: Any = TransformerLensKeyValueCache.init_cache(model.cfg, device_of(model), batch)
        else:
            self._cache = DynamicCache()

    def options(self, fed: Tensor) -> dict[str, Any]:
        """The arguments of a forward pass that attends to what is stored, and stores what is `fed` (tokens or a stream)."""
        if backend_of(self._model) == "bridge":
            return {"use_cache": True, "past_key_values": self._cache}
        if fed.is_floating_point():
            return {"past_kv_cache": self._cache}
        # No padding: without a mask of our own, pad tokens would be looked for.
        return {"past_kv_cache": self._cache, "attention_mask": torch.ones_like(fed)}

    def advance(self, n: int, first: int, until: int) -> None:
        """Blocks `first` to `until` (not included) stored n positions; the others count them, because positions are told by any block's length."""
        self.length += n
        if backend_of(self._model) == "bridge":
            for block in [*range(first), *range(until, n_layers(self._model))]:
                self._set(block, *self._nothing())

    def next_logits(self, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch d_vocab"]:
        """Feed tokens after what was fed before; return the logits at the last position."""
        final = run_to(self._model, tokens, n_layers(self._model), self)
        return read_out(self._model, final[:, -1])

    def take(
        self, rows: Int[Tensor, " row"], stop: int | None = None, blocks: range | None = None, *, grows: bool = True
    ) -> "KeyValueCache":
        """Some of the rows, any of them several times, up to a position; this cache stays as it is.

        Args:
            rows: places of the rows.
            stop: positions to keep; default all.
            blocks: blocks that are going to run; others are not copied. Default all.
            grows: store what is fed to the new cache; without it, what is fed attends and is forgotten.
        """
        taken = KeyValueCache(self._model, len(rows))
        taken.length = self.length if stop is None else stop
        blocks = range(n_layers(self._model)) if blocks is None else blocks
        for block in range(n_layers(self._model)):
            if block in blocks:
                taken._set(block, *(_rows(tensor, rows, self._axis, taken.length) for tensor in self._get(block)))
            elif backend_of(self._model) == "bridge":
                taken._set(block, *taken._nothing())
        if backend_of(self._model) == "hooked":
            taken._cache.previous_attention_mask = self._cache.previous_attention_mask[rows, : taken.length]
            for block in blocks if not grows else ():
                taken._cache.entries[block].frozen = True
        elif not grows:
            for block in blocks:
                keys, values = taken._get(block)
                taken._cache.layers[block] = _Frozen()
                taken._set(block, keys, values)
        return taken

    @property
    def _axis(self) -> int:
        return 2 if backend_of(self._model) == "bridge" else 1

    def _nothing(self) -> tuple[Tensor, Tensor]:
        """A stand-in that has the length and no content."""
        empty = torch.zeros(1, 1, self.length, 1, device=device_of(self._model))
        return empty, empty

    def _get(self, block: int) -> tuple[Tensor, Tensor]:
        if backend_of(self._model) == "bridge":
            layer = self._cache.layers[block]
            return layer.keys, layer.values
        entry = self._cache.entries[block]
        return entry.past_keys, entry.past_values

    def _set(self, block: int, keys: Tensor, values: Tensor) -> None:
        if backend_of(self._model) == "bridge":
            while len(self._cache.layers) <= block:
                self._cache.layers.append(DynamicLayer())
            layer = self._cache.layers[block]
            layer.lazy_initialization(keys, values)
            layer.keys, layer.values = keys, values
        else:
            self._cache.entries[block].past_keys, self._cache.entries[block].past_values = keys, values


def _rows(tensor: Tensor, rows: Tensor, axis: int, stop: int) -> Tensor:
    kept = tensor.narrow(axis, 0, stop)
    if len(rows) and bool((rows == rows[0]).all()):
        return kept[int(rows[0]) : int(rows[0]) + 1].expand(len(rows), *kept.shape[1:])  # the model's own concatenation makes the copies
    return kept.index_select(0, rows)
