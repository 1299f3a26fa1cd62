"""Keep the keys and values of what was already run, so that later tokens attend to it without running it again."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from steerlab.models.backends import Model
from steerlab.models.model import backend_of, device_of, n_layers


class _Store:
    """Keys and values of one block: ``[batch head pos d_head]``, an order in which attention takes them without copying.

    Args:
        keys, values: what is stored.
        length: positions of them that hold something; what is new is written behind, where `torch.cat` would copy all. Default all.
        frozen: what is new attends, and is forgotten.
    """

    def __init__(self, keys: Tensor, values: Tensor, *, length: int | None = None, frozen: bool = False) -> None:
        self._full = None if length is None else (keys, values)
        self.keys, self.values = keys[:, :, :length], values[:, :, :length]
        self._frozen = frozen

    def add(self, *new: Tensor) -> tuple[Tensor, Tensor]:
        """What is stored and what is new."""
        if self._full is None:
            keys, values = (torch.cat(pair, dim=2) for pair in zip((self.keys, self.values), new, strict=True))
        else:
            begin, stop = self.keys.shape[2], self.keys.shape[2] + new[0].shape[2]
            for full, fed in zip(self._full, new, strict=True):
                full[:, :, begin:stop] = fed
            keys, values = (full[:, :, :stop] for full in self._full)
        if not self._frozen:
            self.keys, self.values = keys, values
        return keys, values

    def some(self, rows: Tensor) -> "_Store":
        """The same for some of the rows."""
        if self._full is None:
            return _Store(self.keys[rows], self.values[rows], frozen=self._frozen)
        keys, values = (full.index_select(0, rows) for full in self._full)
        return _Store(keys, values, length=self.keys.shape[2])


class _Stores:
    """What is stored of each block. The models' own cache classes look in here, and nothing here looks back: a ring would be freed late."""

    def __init__(self, blocks: int) -> None:
        self.length = 0
        self.of: list[_Store | None] = [None] * blocks

    def add(self, block: int, *new: Tensor) -> tuple[Tensor, Tensor]:
        store = self.of[block]
        if store is None:
            store = self.of[block] = _Store(*(fed.contiguous() for fed in new))  # not a view of queries, keys and values together
            return store.keys, store.values
        return store.add(*new)


class _Layer(DynamicLayer):
    """A block's store, as a bridge wants it."""

    def __init__(self, stores: _Stores, block: int) -> None:
        super().__init__()
        self._stores, self._block = stores, block

    def get_seq_length(self) -> int:
        return self._stores.length

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        return self._stores.add(self._block, key_states, value_states)


class _Entry:
    """A block's store, as HookedTransformer wants it: ``[batch pos head d_head]``."""

    frozen = False

    def __init__(self, stores: _Stores, block: int, empty: Tensor) -> None:
        self._stores, self._block, self._empty = stores, block, empty

    @property
    def past_keys(self) -> Tensor:
        store = self._stores.of[self._block]
        return self._empty if store is None else store.keys.transpose(1, 2)

    def append(self, new_keys: Tensor, new_values: Tensor) -> tuple[Tensor, Tensor]:
        keys, values = self._stores.add(self._block, new_keys.transpose(1, 2), new_values.transpose(1, 2))
        return keys.transpose(1, 2), values.transpose(1, 2)


@dataclass(frozen=True)
class CacheView:
    """Rows of a cache, some of its blocks, and where they go in another; see `KeyValueCache.aligned`.

    Attributes:
        cache: whose.
        blocks: these blocks' keys and values.
        rows, to: places of the rows here and there.
        lengths: positions of each row that are real; what is behind them is left out.
    """

    cache: "KeyValueCache"
    blocks: range
    rows: Sequence[int]
    to: Sequence[int]
    lengths: Sequence[int]


class KeyValueCache:
    """Keys and values of every block, for a batch whose rows have the same length, or end together (see `aligned`).

    It is filled by the functions of `steerlab.models.passes`, and rows of it can be taken for variants of what follows.

    Attributes:
        length: positions that are stored, padding included.
    """

    def __init__(self, model: Model, batch: int) -> None:
        self._model = model
        self._stores = _Stores(n_layers(model))
        self._padding: Tensor | None = None  # [batch]: columns on the left that hold nothing
        if backend_of(model) == "hooked":
            from transformer_lens import TransformerLensKeyValueCache

            self._cache: Any = TransformerLensKeyValueCache.init_cache(model.cfg, device_of(model), batch)
            self._cache.entries = [_Entry(self._stores, block, entry.past_keys) for block, entry in enumerate(self._cache.entries)]
        else:
            self._cache = DynamicCache()
            self._cache.layers = [_Layer(self._stores, block) for block in range(n_layers(model))]

    @property
    def length(self) -> int:
        return self._stores.length

    @classmethod
    def aligned(cls, model: Model, batch: int, parts: Sequence[CacheView], room: int) -> "KeyValueCache":
        """One cache of rows of different lengths, which all end at its last column and go on from there.

        Keys that were computed at their right positions stay right; only what is fed next has to know how many columns
        hold nothing. Tokens have to be fed, not streams.

        Args:
            model: the model.
            batch: rows.
            parts: what the rows hold; a row without any is empty.
            room: positions that are going to be fed.
        """
        made = cls(model, batch)
        lengths = torch.zeros(batch, dtype=torch.long)
        for part in parts:
            lengths[list(part.to)] = torch.tensor(list(part.lengths))
        made._stores.length = int(lengths.max()) if parts else 0
        if not made.length:
            return made
        for block in range(n_layers(model)):
            lenders = [(part, store) for part in parts if block in part.blocks and (store := part.cache._stores.of[block]) is not None]
            like = lenders[0][1].keys
            shape = (batch, like.shape[1], made.length + room)
            keys, values = like.new_zeros(*shape, like.shape[3]), like.new_zeros(*shape, lenders[0][1].values.shape[3])
            for part, store in lenders:
                _place(keys[:, :, : made.length], store.keys, part)
                _place(values[:, :, : made.length], store.values, part)
            made._stores.of[block] = _Store(keys, values, length=made.length)
        made._pad((made.length - lengths).to(device_of(model)))
        return made

    def _pad(self, columns: Tensor) -> None:
        self._padding = columns if bool(columns.any()) else None
        if backend_of(self._model) == "hooked":
            self._cache.previous_attention_mask = self._real(self.length, columns)

    def _real(self, length: int, padding: Tensor) -> Tensor:
        return (torch.arange(length, device=padding.device) >= padding[:, None]).int()

    def options(self, fed: Tensor) -> dict[str, Any]:
        """The arguments of a forward pass that attends to what is stored, and stores what is `fed` (tokens or a stream)."""
        if backend_of(self._model) == "bridge":
            masked = {} if self._padding is None else {"attention_mask": self._real(self.length + fed.shape[1], self._padding)}
            return {"use_cache": True, "past_key_values": self._cache, **masked}
        if fed.is_floating_point():
            return {"past_kv_cache": self._cache}
        # No padding: without a mask of our own, pad tokens would be looked for.
        return {"past_kv_cache": self._cache, "attention_mask": torch.ones_like(fed)}

    def advance(self, n: int) -> None:
        """Note that n positions were fed."""
        self._stores.length += n

    def keep(self, rows: Int[Tensor, " row"]) -> None:
        """Go on with some of the rows; the others are forgotten."""
        self._stores.of[:] = [None if store is None else store.some(rows) for store in self._stores.of]
        if self._padding is not None:
            self._padding = self._padding[rows]
        if backend_of(self._model) == "hooked":
            self._cache.previous_attention_mask = self._cache.previous_attention_mask[rows]

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
        taken._stores.length = self.length if stop is None else stop
        for block in range(n_layers(self._model)) if blocks is None else blocks:
            store = self._stores.of[block]
            if store is not None:
                keys, values = (_rows(tensor[:, :, : taken.length], rows) for tensor in (store.keys, store.values))
                taken._stores.of[block] = _Store(keys, values, frozen=not grows)
        if self._padding is not None:
            taken._padding = self._padding[rows]
        if backend_of(self._model) == "hooked":
            taken._cache.previous_attention_mask = self._cache.previous_attention_mask[rows, : taken.length]
        return taken


def _rows(kept: Tensor, rows: Tensor) -> Tensor:
    if len(rows) and bool((rows == rows[0]).all()):
        return kept[int(rows[0]) : int(rows[0]) + 1].expand(len(rows), *kept.shape[1:])  # the model's own concatenation makes the copies
    return kept.index_select(0, rows)


def _place(full: Tensor, stored: Tensor, part: CacheView) -> None:
    """Write the rows of a part so that they end at the last column."""
    lines = sorted(zip(part.lengths, part.rows, part.to, strict=True))
    for length, group in groupby(lines, key=lambda line: line[0]):
        rows, to = (torch.tensor(places, device=full.device) for places in list(zip(*group, strict=True))[1:])
        full[:, :, full.shape[2] - length :][to] = stored[:, :, :length][rows]
