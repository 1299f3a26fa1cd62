"""Run many steered variants of one batch, each from its first steered block and position on.

Steering block l changes nothing before it, and steering position p nothing before that. The unsteered run of a batch
gives every variant the residual stream that enters its first block, and the keys and values of the positions before its
first one. Variants that resume at different blocks share one pass: at block l the pass holds all that were steered
before it, so it grows from block to block like a wavefront.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from steerlab.activations.positions import Positions
from steerlab.models.backends import Model
from steerlab.models.batches import Batch
from steerlab.models.kv_cache import KeyValueCache
from steerlab.models.memory import keys_width, widest
from steerlab.models.model import HookFn, hook_name, hooks, n_layers
from steerlab.models.reading import Reader, Reads, Run
from steerlab.models.shortcuts import mlp_only_at, run_from
from steerlab.steering.interventions import Patch, patch
from steerlab.steering.operators import Operator
from steerlab.steering.variants import Intervention, Placed, Segment


@dataclass
class InterventionLog:
    """What an intervention did: how often it acted, and the largest changes of the stream (relative to its norm) and of a number read."""

    calls: int = 0
    resid_change: float = 0.0
    score_change: float = 0.0


@dataclass(frozen=True)
class SteeredPass:
    """How variants of a batch are run.

    Attributes:
        model: the model.
        operator: how vector and stream combine.
        positions: where directions of one vector act.
    """

    model: Model
    operator: Operator
    positions: Positions

    def cost(self, pieces: Sequence[Segment]) -> float:
        """What one cell takes, in positions: those that are run, and a part for each whose keys and values are looked up."""
        looked_up = 0.25 * 2 * keys_width(self.model) / widest(self.model)  # copied, not computed
        return sum(piece.size + len(piece.rows) * piece.begin * looked_up for piece in pieces)

    def run(
        self,
        cells: Sequence[Intervention],
        batch: Batch,
        pieces: Sequence[Segment],
        base: Run,
        reader: Reader,
        seen: Sequence[InterventionLog],
    ) -> np.ndarray:
        """The numbers of the batch under each cell, ``[cell number]``; what is not steered is the unsteered run's.

        Args:
            cells: sorted by the block that they resume at.
            batch, base, reader: the batch, its unsteered run, its reader.
            pieces: one of its shares.
            seen: for each cell, what it did; added to.
        """
        values = np.tile(base.values, (len(cells), 1))
        for reads, final in self._wave(cells, batch, pieces, base, reader, seen):
            for which, places, numbers in reads.numbers(self.model, final, len(cells)):
                values[which, places] = numbers.cpu().numpy()
        return values

    def fill(
        self,
        cells: Sequence[Intervention],
        batch: Batch,
        pieces: Sequence[Segment],
        base: Run,
        reader: Reader,
        seen: Sequence[InterventionLog],
    ) -> list[tuple[KeyValueCache, range, int]]:
        """Keys and values of a share of a batch under each cell: caches, the blocks that they hold, and for how many of the cells.

        Rows stand cell by cell. What a cache does not hold is as it was in the unsteered run. Arguments are those of `run`.
        """
        kept: list[tuple[KeyValueCache, range, int]] = []
        for _ in self._wave(cells, batch, pieces, base, reader, seen, kept):
            pass
        return kept

    def _wave(
        self,
        cells: Sequence[Intervention],
        batch: Batch,
        pieces: Sequence[Segment],
        base: Run,
        reader: Reader,
        seen: Sequence[InterventionLog],
        kept: list[tuple[KeyValueCache, range, int]] | None = None,
    ) -> Iterator[tuple[Reads, Tensor]]:
        """Run the pieces; give for each what is read there, and what leaves the last block."""
        last = n_layers(self.model)
        blocks = sorted({cell.resumes_at for cell in cells})
        stretches = list(zip(blocks, [*blocks[1:], last], strict=True))
        active = [sum(cell.resumes_at <= block for cell in cells) for block in blocks]
        pasts: list[KeyValueCache | None] = [None] * len(stretches)
        for j, piece in enumerate(pieces):
            more, final = j + 1 < len(pieces) or kept is not None, torch.empty(0)
            tokens = batch.tokens[[group[0] for group in piece.rows], piece.begin : piece.stop]
            reads = reader.reads(piece.rows, piece.begin, piece.stop)
            real = _real([len(batch.rows[group[0]].tokens) for group in piece.rows], piece.stop, batch.device)[:, piece.begin :]
            for s, (block, until) in enumerate(stretches):
                new = range(active[s - 1] if s else 0, active[s])
                entry = _stream(base, batch, piece, block).repeat(len(new), 1, 1)
                for stacked in self._patches(cells, new, piece, batch, entry=block):
                    entry = _watched(stacked, new, seen, real)(entry)
                final = torch.cat([final, entry]) if s else entry
                if until == block:
                    continue
                pasts[s] = self._past(base, batch, pieces, j, pasts[s], active[s], range(block, until), more)
                with ExitStack() as stack:
                    stack.enter_context(hooks(self.model, self._inside(cells[: active[s]], block, until, piece, batch, seen, real)))
                    if until == last:
                        copies = torch.arange(active[s], device=batch.device).repeat_interleave(len(reads.rows)) * len(piece.rows)
                        at = (reads.rows.repeat(active[s]) + copies, reads.columns.repeat(active[s]))
                        stack.enter_context(mlp_only_at(self.model, *at, (final.shape[0], final.shape[1])))
                    final = run_from(self.model, final, block, tokens=tokens.repeat(active[s], 1), past=pasts[s], until=until)
                if not more:
                    pasts[s] = None
            yield reads, final
        if kept is not None:
            kept += [(past, range(*blocks), n) for past, blocks, n in zip(pasts, stretches, active, strict=True) if past is not None]

    def _past(
        self,
        base: Run,
        batch: Batch,
        pieces: Sequence[Segment],
        j: int,
        before: KeyValueCache | None,
        cells: int,
        blocks: range,
        more: bool,
    ) -> KeyValueCache | None:
        """Keys and values of what stands before a piece, in the blocks of a stretch, for the cells that are in it."""
        piece = pieces[j]
        if j:
            parents = torch.tensor(piece.parent, device=batch.device)
            offsets = torch.arange(cells, device=batch.device)[:, None] * len(pieces[j - 1].rows)
            return before.take((offsets + parents).flatten(), blocks=blocks, grows=more) if before is not None else None
        if piece.begin == 0:
            return KeyValueCache(self.model, cells * len(piece.rows)) if more else None
        k = next(k for k, level in enumerate(batch.levels) if piece.begin <= level.stop)
        rows = torch.tensor([batch.levels[k].of[group[0]] for group in piece.rows], device=batch.device)
        kept = base.pasts[k]
        return kept.take(rows.repeat(cells), stop=piece.begin, blocks=blocks, grows=more) if kept is not None else None

    def _patches(
        self,
        cells: Sequence[Intervention],
        which: range,
        piece: Segment,
        batch: Batch,
        *,
        entry: int | None = None,
        point: str | None = None,
    ) -> list[Patch]:
        """What cells do at one point, stacked cell by cell; several where a cell acts there more than once.

        The point is a hook point inside blocks that run, or the entry of the first block that runs.
        """

        def here(place: Placed) -> bool:
            if entry is not None:
                return place.at.enters and place.at.resumes_at == entry
            return hook_name(self.model, *place.at) == point

        # Entering a block, what acts behind the block before comes first, in whatever order a cell names its places.
        acting = [sorted((place for place in cells[c].places if here(place)), key=lambda place: place.at.layer) for c in which]
        found = []
        for rank in range(max(map(len, acting), default=0)):
            parts = [(mine[rank], cells[c].alpha) if rank < len(mine) else None for c, mine in zip(which, acting, strict=True)]
            found.append(self._stacked(parts, piece, batch))
        return found

    def _stacked(self, parts: Sequence[tuple[Placed, float] | None], piece: Segment, batch: Batch) -> Patch:
        """One patch for several cells stacked over each other; None is a cell that does nothing."""
        rows = [batch.rows[group[0]] for group in piece.rows]
        lengths = [row.prompt_length for row in rows]
        stop = max(piece.stop, *lengths)  # a piece may end inside the prompts, whose positions are counted from their ends
        prompts = [row.prompt for row in rows]
        how = partial(patch, operator=self.operator, positions=self.positions, prompts=prompts)
        resolve = partial(how, prompt_lengths=lengths, length=stop, device=batch.device)
        some = next(part[0].direction for part in parts if part is not None)
        made = [resolve(some, [0.0]) if part is None else resolve(part[0].direction, [part[1]]) for part in parts]
        width = max(p.vectors.shape[1] for p in made)
        vectors = torch.cat([p.vectors.expand(len(rows), width, -1) for p in made])
        alphas = torch.cat([p.alphas.expand(len(rows), -1, -1) for p in made])
        if all(p.mask is None for p in made):
            return Patch(self.operator, vectors, alphas, start=piece.begin)
        ends = [len(row.tokens) + row.new_tokens for row in rows]
        real = _real(ends, stop, batch.device)  # padding is neither prompt nor generated
        mask = torch.cat([real if p.mask is None else real & p.mask for p in made])
        return Patch(self.operator, vectors, alphas, mask, start=piece.begin)

    def _inside(
        self,
        cells: Sequence[Intervention],
        block: int,
        until: int,
        piece: Segment,
        batch: Batch,
        seen: Sequence[InterventionLog],
        real: Tensor,
    ) -> list[tuple[str, HookFn]]:
        """Hooks for what acts inside the blocks of a stretch: resid_mid of its first block, and second places of cells."""
        points: dict[str, list[int]] = {}
        for c, cell in enumerate(cells):
            for place in cell.places:
                entered = place.at.enters and place.at.resumes_at == cell.resumes_at
                if not entered and block <= place.at.layer < until:
                    points.setdefault(hook_name(self.model, *place.at), []).append(c)
        found: list[tuple[str, HookFn]] = []
        for point, acting in points.items():
            which, n = range(min(acting), max(acting) + 1), len(piece.rows)
            rows = slice(which.start * n, which.stop * n)
            patches = self._patches(cells, which, piece, batch, point=point)
            found += [(point, _on_rows(rows, _watched(stacked, which, seen, real))) for stacked in patches]
        return found

    def everywhere(self, cells: Sequence[Intervention], batch: Batch, stop: int) -> list[tuple[str, Patch]]:
        """What cells, stacked over each other, do to a whole batch up to some column: hook points and patches."""
        piece = Segment(0, stop, tuple((i,) for i in range(len(batch.rows))), ())
        points = dict.fromkeys(hook_name(self.model, *p.at) for cell in cells for p in cell.places)
        return [(point, p) for point in points for p in self._patches(cells, range(len(cells)), piece, batch, point=point)]


def _stream(base: Run, batch: Batch, piece: Segment, block: int) -> Tensor:
    """The unsteered stream that enters a block, at a piece's columns: ``[beginning pos d_model]``."""
    parts = []
    for level, streams in zip(batch.levels, base.streams, strict=True):
        begin, stop = max(piece.begin, level.start), min(piece.stop, level.stop)
        if begin < stop:
            rows = torch.tensor([level.of[group[0]] for group in piece.rows], device=batch.device)
            parts.append(streams[block][rows, begin - level.start : stop - level.start])
    return torch.cat(parts, 1) if len(parts) > 1 else parts[0]


def _real(ends: Sequence[int], length: int, device: torch.device | str) -> Tensor:
    """Where rows hold, or will hold, tokens rather than padding: ``[row pos]``."""
    return torch.arange(length, device=device) < torch.tensor(list(ends), device=device)[:, None]


def _on_rows(rows: slice, act: Callable[[Tensor], Tensor]) -> HookFn:
    """An intervention on some rows of a batch."""
    return lambda resid: torch.cat([resid[: rows.start], act(resid[rows]), resid[rows.stop :]])


def _watched(stacked: Patch, which: range, seen: Sequence[InterventionLog], real: Tensor) -> Callable[[Tensor], Tensor]:
    """A patch that notes for each of its cells that it acted, and how far it moved the stream at real positions."""

    def act(resid: Tensor) -> Tensor:
        steered = stacked(resid)
        if steered is resid:
            return resid
        moved = (steered - resid).norm(dim=-1) / resid.norm(dim=-1).clamp_min(1e-30)
        largest = moved.unflatten(0, (len(which), -1))[:, real].amax(-1).tolist() if bool(real.any()) else [0.0] * len(which)
        for c, acted, change in zip(which, stacked.acting(len(which), resid.shape[1]), largest, strict=True):
            seen[c].calls += acted
            seen[c].resid_change = float(np.maximum(seen[c].resid_change, change))  # NaN stays
        return steered

    return act
