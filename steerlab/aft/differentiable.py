"""Run rows on from kept residual streams, with gradients: the part of a training that every epoch repeats.

Steering block l changes nothing before it, so the stream that enters the first steered block is found once. Rows of candidates that
act at different blocks share one pass, which grows from block to block.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Unpack

import torch
from jaxtyping import Float
from torch import Tensor

from steerlab.activations.positions import Positions, TokenPositions
from steerlab.aft.learnables import Learnable, Parameters
from steerlab.models.backends import Model
from steerlab.models.batches import Batch, Read, TokenRow, batches_for, least, smaller
from steerlab.models.memory import Limits, emptied, parse_memory, pass_tokens, shrinking, too_large
from steerlab.models.model import Site, d_model, device_of
from steerlab.models.passes import entering
from steerlab.steering.interventions import Patch
from steerlab.steering.operators import Operator
from steerlab.steering.wavefront import Act, acting, run_wave

KEPT = 2 * 10**9  # bytes of streams that are kept where no budget is given; on a GPU, half of what is free
Pair = tuple[int, int]  # a candidate and a row


class Resumed:
    """Rows that several candidates run on from where each of them first acts.

    Args:
        model: the model; hooks that are on it act, and rows are then run unpadded.
        rows: what is run.
        paths: for each candidate, its places.
        learnable: what acts there.
        operator, positions: how, and at which positions.
        limits: as elsewhere. Streams are kept as far as half of the memory goes, and found anew beyond that.
        gradients: a backward pass will follow, so that passes are half as large.
    """

    def __init__(
        self,
        model: Model,
        rows: Sequence[TokenRow],
        paths: Sequence[Sequence[Site]],
        learnable: Learnable,
        *,
        operator: Operator,
        positions: Positions,
        gradients: bool = True,
        **limits: Unpack[Limits],
    ) -> None:
        self.model, self.rows, self.paths = model, tuple(rows), [tuple(path) for path in paths]
        self._learnable, self._operator, self._positions = learnable, operator, positions
        self._entry = [min(site.resumes_at for site in path) for path in self.paths]
        whole = pass_tokens(model, **limits)
        self._room = max(1, whole // 2) if gradients else whole
        lengths = torch.tensor([len(row.tokens) for row in self.rows])
        self._starts = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        blocks = sorted(set(self._entry))
        self._streams = self._kept(blocks, whole) if self._fits(len(blocks), limits.get("memory")) else {}

    def _fits(self, blocks: int, memory: str | int | None) -> bool:
        size = int(self._starts[-1]) * d_model(self.model) * next(iter(self.model.parameters())).element_size() * blocks
        if memory is not None:
            return size <= parse_memory(memory) // 2
        device = device_of(self.model)
        return size <= (torch.cuda.mem_get_info(device)[0] // 2 if device.type == "cuda" else KEPT)

    @torch.no_grad()
    def _kept(self, blocks: Sequence[int], room: int) -> dict[int, Float[Tensor, "position d_model"]]:
        """The streams that enter blocks, all rows' positions behind each other."""
        like = next(iter(self.model.parameters()))
        kept = {block: like.new_empty(int(self._starts[-1]), d_model(self.model)) for block in blocks}

        def run(batch: Batch, room: int) -> dict[int, Tensor]:
            return entering(self.model, batch.tokens, blocks)

        batches = batches_for(self.model, self.rows, room=room)
        for batch, found in shrinking(batches, room, run, partial(smaller, self.rows), least):
            for block, streams in found.items():
                for i, stream, row in zip(batch.index, streams, batch.rows, strict=True):
                    start = int(self._starts[i])
                    kept[block][start : start + len(row.tokens)] = stream[: len(row.tokens)]
        return kept

    def shrink(self) -> None:
        """After memory ran out: passes of half the size from now on and, where they hold a single row already, no kept streams.

        Raises:
            MemoryError: neither is possible.
        """
        shortest = min(len(row.tokens) for row in self.rows)
        if self._room <= shortest and not self._streams:
            raise too_large(shortest)
        if self._room <= shortest:
            self._streams = {}
        self._room = max(shortest, self._room // 2)
        emptied()

    def _stream(self, block: int, which: Sequence[int], batch: Batch) -> Float[Tensor, "row pos d_model"]:
        """The stream that enters a block for some rows; what stands on their padding does not matter."""
        if block in self._streams:
            starts, stops = self._starts[list(which)], self._starts[[i + 1 for i in which]]
            index = torch.minimum(starts[:, None] + torch.arange(batch.width), stops[:, None] - 1)
            return self._streams[block][index.to(batch.device)]
        with torch.no_grad():
            tokens = Batch((), tuple(self.rows[i] for i in which), device=batch.device).tokens
            stream = entering(self.model, tokens, [block])[block]
            return torch.nn.functional.pad(stream, (0, 0, 0, batch.width - stream.shape[1]))

    def run(
        self, pairs: Sequence[Pair], parameters: Mapping[int, Parameters]
    ) -> Iterator[tuple[list[int], Batch, Float[Tensor, "row read d_model"]]]:
        """Run rows under candidates, in passes; what several passes leave is given back together as far as the room goes, to be read at once.

        Args:
            pairs: candidate and row.
            parameters: of each candidate among them.

        Yields:
            Places of some of the pairs; their rows as a batch of nothing but the positions that are read; what leaves the last block there.
        """
        rows = [self.rows[i] for _, i in pairs]
        device = device_of(self.model)
        parts = batches_for(self.model, rows, room=self._room)
        together: list[tuple[list[int], Tensor]] = []
        size = 0
        for part in parts:
            if together and size + part.size > self._room:
                yield self._condensed(rows, together)
                together, size = [], 0
            which = sorted(part.index, key=lambda j: (self._entry[pairs[j][0]], j))
            batch = Batch(tuple(which), tuple(rows[j] for j in which), device=device)
            together.append((which, _read_only(batch, self._pass([pairs[j] for j in which], batch, parameters))))
            size += part.size
        if together:
            yield self._condensed(rows, together)

    def _condensed(self, rows: Sequence[TokenRow], parts: Sequence[tuple[list[int], Tensor]]) -> tuple[list[int], Batch, Tensor]:
        which = [j for mine, _ in parts for j in mine]
        condensed = []
        for j in which:
            place = {position: k for k, position in enumerate(_positions(rows[j]))}
            reads = tuple(Read(place[read.position], read.tokens, read.log_prob) for read in rows[j].reads)
            condensed.append(TokenRow((0,) * len(place), len(place), reads))
        width = max(final.shape[1] for _, final in parts)
        finals = [torch.nn.functional.pad(final, (0, 0, 0, width - final.shape[1])) for _, final in parts]
        return which, Batch(tuple(which), tuple(condensed), device=finals[0].device), torch.cat(finals)

    def _pass(self, pairs: Sequence[Pair], batch: Batch, parameters: Mapping[int, Parameters]) -> Tensor:
        what = _Acting(self._learnable, self._operator, self._positions, pairs, batch, parameters)
        return run_wave(
            self.model,
            batch.tokens,
            [self._entry[c] for c, _ in pairs],
            lambda block, rows: self._stream(block, [pairs[r][1] for r in rows], batch),
            [Act(at, enters, rows, what(k, rows)) for at, enters, k, rows in acting([self.paths[c] for c, _ in pairs])],
            lambda rows: _reads(batch, rows),
        )


class _Acting:
    """What candidates do to the rows of a pass."""

    def __init__(
        self,
        learnable: Learnable,
        operator: Operator,
        positions: Positions,
        pairs: Sequence[Pair],
        batch: Batch,
        parameters: Mapping[int, Parameters],
    ) -> None:
        owners = sorted({c for c, _ in pairs})
        self._learnable, self._operator, self._device = learnable, operator, batch.device
        self._owner = torch.tensor([owners.index(c) for c, _ in pairs], device=batch.device)
        self._parameters = {name: torch.stack([parameters[c][name] for c in owners]) for name in parameters[owners[0]]}
        lengths = [row.prompt_length for row in batch.rows]
        self._prompt = torch.arange(batch.width, device=batch.device) < torch.tensor(lengths, device=batch.device)[:, None]
        mask = TokenPositions.of(positions).mask(lengths, batch.width)
        self._mask = None if mask is None else mask.to(batch.device)

    def __call__(self, place: int, rows: Sequence[int]) -> Callable[[Tensor], Tensor]:
        """What acts on some rows at one of their candidates' places."""
        index = torch.tensor(rows, device=self._device)

        def act(resid: Tensor) -> Tensor:
            owner = self._owner[index]
            # With one candidate a view does, and the gradient is a plain sum.
            mine = {n: p.expand(len(rows), *p.shape[1:]) if len(p) == 1 else p[owner] for n, p in self._parameters.items()}
            vectors = self._learnable.vectors(mine, place, resid, self._prompt[index])
            mask = None if self._mask is None else self._mask[index]
            return Patch(
                self._operator, vectors, torch.ones(1, 1, 1, device=resid.device), mask, everywhere=True if mask is None else None
            )(resid)

        return act


def _positions(row: TokenRow) -> list[int]:
    """The different positions that are read."""
    return sorted({read.position for read in row.reads})


def _reads(batch: Batch, n: int) -> tuple[Tensor, Tensor]:
    """Rows and columns that are read in the first n rows; later ones only enter behind the last block."""
    places = [(r, position) for r, row in enumerate(batch.rows[:n]) for position in _positions(row)]
    rows, columns = zip(*places, strict=True)
    return torch.tensor(rows, device=batch.device), torch.tensor(columns, device=batch.device)


def _read_only(batch: Batch, final: Float[Tensor, "row pos d_model"]) -> Float[Tensor, "row read d_model"]:
    """The positions that are read, those of shorter lists padded with their last."""
    wanted = [_positions(row) for row in batch.rows]
    most = max(map(len, wanted))
    columns = torch.tensor([mine + mine[-1:] * (most - len(mine)) for mine in wanted], device=final.device)
    return final[torch.arange(len(wanted), device=final.device)[:, None], columns]
