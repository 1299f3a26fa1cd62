"""Keys and values of what was already run, so that what follows attends to it without running it again."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import DynamicCache

from steerlab.models import Model, backend_of, device_of, forward, n_layers, run_to


class KeyValueCache:
    """Keys and values of every block, for a batch whose rows have the same length.

    It is fed with tokens, by `fill` or `next_logits`, and can be copied for many variants of what follows.
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

    def fill(self, tokens: Int[Tensor, "batch pos"]) -> None:
        """Feed tokens after what was fed before, and read nothing out."""
        run_to(self._model, tokens, n_layers(self._model), past=self)
        self.length += tokens.shape[1]

    def next_logits(self, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch d_vocab"]:
        """Feed tokens after what was fed before; return the logits at the last position."""
        logits = forward(self._model, tokens, self)
        self.length += tokens.shape[1]
        return logits[:, -1]

    def copies(self, n: int, first_block: int = 0) -> "KeyValueCache":
        """The same keys and values for n copies of the batch, stacked over each other; this cache stays as it is.

        Args:
            n: how many.
            first_block: blocks before it are not going to run, and are not copied.
        """
        copy = KeyValueCache.__new__(KeyValueCache)
        copy._model, copy.length = self._model, self.length
        if backend_of(self._model) == "bridge":
            copy._cache = DynamicCache()
            for block, layer in enumerate(self._cache.layers):
                times = n if block >= first_block else 1  # the first block's length tells the positions, so it has to be there
                copy._cache.update(layer.keys.repeat(times, 1, 1, 1), layer.values.repeat(times, 1, 1, 1), block)
            return copy
        from transformer_lens import TransformerLensKeyValueCache, TransformerLensKeyValueCacheEntry

        entries = []
        for block, entry in enumerate(self._cache.entries):
            times = n if block >= first_block else 1
            entries.append(
                TransformerLensKeyValueCacheEntry(entry.past_keys.repeat(times, 1, 1, 1), entry.past_values.repeat(times, 1, 1, 1))
            )
        mask = self._cache.previous_attention_mask.repeat(n, 1)
        copy._cache = TransformerLensKeyValueCache(entries=entries, previous_attention_mask=mask)
        return copy
