"""Keys and values of what was already run, so that what follows attends to it without running it again."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
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


class _Room:
    """Keys and values with room behind them: what is new is written there, where `torch.cat` would copy all that was there before."""

    def __init__(self, keys: Tensor, values: Tensor, axis: int, length: int) -> None:
        self._both, self._axis, self._length = (keys, values), axis, length

    @property
    def stored(self) -> tuple[Tensor, Tensor]:
        keys, values = self._both
        return keys.narrow(self._axis, 0, self._length), values.narrow(self._axis, 0, self._length)

    def add(self, *new: Tensor) -> tuple[Tensor, Tensor]:
        n = new[0].shape[self._axis]
        for full, fed in zip(self._both, new, strict=True):
            full.narrow(self._axis, self._length, n).copy_(fed)
        self._length += n
        return self.stored

    def keep(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        keys, values = self._both
        self._both = keys.index_select(0, rows), values.index_select(0, rows)
        return self.stored


class _RoomyLayer(DynamicLayer):
    """A layer of a bridge's cache that writes into room kept for it."""

    def __init__(self, room: _Room) -> None:
        super().__init__()
        self.room = room
        self.lazy_initialization(*room.stored)
        self.keys, self.values = room.stored

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        self.keys, self.values = self.room.add(key_states, value_states)
        return self.keys, self.values


class _RoomyEntry:
    """The same for HookedTransformer."""

    def __init__(self, room: _Room) -> None:
        self.room, self.frozen = room, False
        self.past_keys, self.past_values = room.stored

    def append(self, new_keys: Tensor, new_values: Tensor) -> tuple[Tensor, Tensor]:
        self.past_keys, self.past_values = self.room.add(new_keys, new_values)
        return self.past_keys, self.past_values


@dataclass(frozen=True)
class Lent:
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

    It is filled by the functions of `steerlab.passes`, and rows of it can be taken for variants of what follows.

    Attributes:
        length: positions that are stored, padding included.
    """

    def __init__(self, model: Model, batch: int) -> None:
        self._model = model
        self.length = 0
        self._padding: Tensor | None = None  # [batch]: columns on the left that hold nothing
        if backend_of(model) == "hooked":
            from transformer_lens import TransformerLensKeyValueCache

            self._cache: Any = TransformerLensKeyValueCache.init_cache(model.cfg, device_of(model), batch)
        else:
            self._cache = DynamicCache()

    @classmethod
    def aligned(cls, model: Model, batch: int, parts: Sequence[Lent], room: int) -> "KeyValueCache":
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
        made.length = int(lengths.max()) if parts else 0
        if not made.length:
            return made
        bridge = backend_of(model) == "bridge"
        for block in range(n_layers(model)):
            lenders = [part for part in parts if block in part.blocks]
            shape = list(lenders[0].cache._get(block)[0].shape)
            shape[0], shape[made._axis] = batch, made.length + room
            both = (stored := lenders[0].cache._get(block)[0]).new_zeros(shape), stored.new_zeros(shape)
            for part in lenders:
                for full, stored in zip(both, part.cache._get(block), strict=True):
                    _place(full, stored, part, made._axis, made.length)
            kept = _Room(*both, made._axis, made.length)
            if bridge:
                made._cache.layers.append(_RoomyLayer(kept))
            else:
                made._cache.entries[block] = _RoomyEntry(kept)
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

    def keep(self, rows: Int[Tensor, " row"]) -> None:
        """Go on with some of the rows; the others are forgotten."""
        for block in range(n_layers(self._model)):
            layer = self._layer(block)
            kept = layer.room.keep(rows) if hasattr(layer, "room") else tuple(tensor[rows] for tensor in self._get(block))
            self._set(block, *kept)
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

    def _layer(self, block: int) -> Any:
        return self._cache.layers[block] if backend_of(self._model) == "bridge" else self._cache.entries[block]

    def _get(self, block: int) -> tuple[Tensor, Tensor]:
        layer = self._layer(block)
        return (layer.keys, layer.values) if backend_of(self._model) == "bridge" else (layer.past_keys, layer.past_values)

    def _set(self, block: int, keys: Tensor, values: Tensor) -> None:
        if backend_of(self._model) == "bridge":
            while len(self._cache.layers) <= block:
                self._cache.layers.append(DynamicLayer())
            layer = self._layer(block)
            layer.lazy_initialization(keys, values)
            layer.keys, layer.values = keys, values
        else:
            layer = self._layer(block)
            layer.past_keys, layer.past_values = keys, values


def _rows(tensor: Tensor, rows: Tensor, axis: int, stop: int) -> Tensor:
    kept = tensor.narrow(axis, 0, stop)
    if len(rows) and bool((rows == rows[0]).all()):
        return kept[int(rows[0]) : int(rows[0]) + 1].expand(len(rows), *kept.shape[1:])  # the model's own concatenation makes the copies
    return kept.index_select(0, rows)


def _place(full: Tensor, stored: Tensor, part: Lent, axis: int, end: int) -> None:
    """Write the rows of a part so that they end at one column."""
    lines = sorted(zip(part.lengths, part.rows, part.to, strict=True))
    for length, group in groupby(lines, key=lambda line: line[0]):
        rows, to = (torch.tensor(places, device=full.device) for places in list(zip(*group, strict=True))[1:])
        window = full.narrow(axis, end - length, length)
        window[to] = stored.narrow(axis, 0, length)[rows]
