"""Run many interventions over one batch, each from its first steered block and position on.

The unsteered run gives each the residual stream that enters its first block, and the keys and values of the positions before its
first one. Those that resume at different blocks share one pass, which grows from block to block.
Training runs its candidates through the same pass, with gradients.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from steerlab.activations.positions import Positions, TokenPositions
from steerlab.directions.direction import Direction
from steerlab.models.backends import Model
from steerlab.models.batches import Answer, Batch, TokenRow
from steerlab.models.kv_cache import KeyValueCache
from steerlab.models.memory import keys_width, widest
from steerlab.models.model import HookFn, Site, device_of, hook_name, hooks, n_layers
from steerlab.models.passes import forward
from steerlab.models.reading import Reader, Reads, Run
from steerlab.models.shortcuts import mlp_only_at, run_from, runs_whole
from steerlab.steering.interventions import Patch, known_everywhere, resolved
from steerlab.steering.operators import Operator
from steerlab.steering.variants import Intervention, Segment, segments

TOLERANCE = 1e-4  # of logits and what is made of them: so far they may be from a plain hooked run, as a share of the largest above 1


class Act(NamedTuple):
    """What acts on the residual stream of some rows of a pass at a site, where they enter the pass or in a block that runs."""

    at: Site
    enters: bool
    rows: Sequence[int]
    act: Callable[[Tensor], Tensor]


def acting(paths: Sequence[Sequence[Site]]) -> list[tuple[Site, bool, int, list[int]]]:
    """Where rows act that have a path of sites each: site, whether they enter a pass there, its place in their paths, and which rows; lower layers first."""
    found: dict[tuple[int, int, Site, bool], list[int]] = {}
    for row, path in enumerate(paths):
        first = min(at.resumes_at for at in path)
        for k, at in enumerate(path):
            found.setdefault((at.layer, k, at, at.enters and at.resumes_at == first), []).append(row)
    return [(at, enters, k, rows) for (_, k, at, enters), rows in sorted(found.items())]


def run_wave(
    model: Model,
    tokens: Tensor,
    entries: Sequence[int],
    stream: Callable[[int, range], Float[Tensor, "row pos d_model"]],
    acts: Sequence[Act],
    reads: Callable[[int], tuple[Tensor, Tensor]] | None = None,
    past: Callable[[range, int], KeyValueCache | None] = lambda blocks, rows: None,
) -> Float[Tensor, "row pos d_model"]:
    """What leaves the last block, of rows that enter at different blocks and from there on share one pass.

    Args:
        entries: the block that each row enters, in ascending order.
        stream: gives what enters a block, for a range of rows.
        acts: what acts; at one site in this order.
        reads: gives rows and columns that are going to be read, of so many first rows; default all.
        past: gives keys and values of what stands before, in a stretch of blocks, for so many first rows.
    """
    last, final = n_layers(model), torch.empty(0)
    blocks = sorted(set(entries))
    for block, until in zip(blocks, [*blocks[1:], last], strict=True):
        first, stop = bisect_left(entries, block), bisect_right(entries, block)
        entry = stream(block, range(first, stop))
        for one in acts:
            if one.enters and one.at.resumes_at == block:
                entry = _on_rows(_shifted(one.rows, first), one.act)(entry)
        final = torch.cat([final, entry]) if first else entry
        if until == block:
            continue
        inside = [(hook_name(model, *one.at), _hook(one)) for one in acts if not one.enters and block <= one.at.layer < until]
        with ExitStack() as stack:
            stack.enter_context(hooks(model, inside))
            if until == last and reads is not None:
                stack.enter_context(mlp_only_at(model, *reads(stop), (stop, final.shape[1])))
            final = run_from(model, final, block, tokens=tokens[:stop], past=past(range(block, until), stop), until=until)
    return final


def _shifted(rows: Sequence[int], by: int) -> Sequence[int]:
    return range(rows.start - by, rows.stop - by) if isinstance(rows, range) else [r - by for r in rows]


def _on_rows(rows: Sequence[int], act: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """An intervention on some rows of a batch."""

    def on(resid: Tensor) -> Tensor:
        if len(rows) == len(resid):
            return act(resid)
        if isinstance(rows, range):
            return torch.cat([resid[: rows.start], act(resid[rows.start : rows.stop]), resid[rows.stop :]])
        index = torch.tensor(rows, device=resid.device)
        return resid.index_copy(0, index, act(resid[index]))

    return on


def _hook(one: Act) -> HookFn:
    on = _on_rows(one.rows, one.act)
    # On a bridge what comes back is written into the stream itself, which a gradient may need as it was.
    return on if one.at.enters or not torch.is_grad_enabled() else lambda resid: on(resid.clone())


@dataclass
class InterventionLog:
    """What an intervention did: how often it acted, and the largest changes of the stream (relative to its norm) and of a number read."""

    calls: int = 0
    resid_change: float = 0.0
    score_change: float = 0.0

    def add(self, calls: int, resid_change: float) -> None:
        """Add what happened at one site."""
        self.calls += calls
        self.resid_change = float(np.maximum(self.resid_change, resid_change))  # NaN stays


@dataclass(frozen=True)
class SteeredPass:
    """How variants of a batch are run: in which model, how vector and stream combine, where directions of one vector act."""

    model: Model
    operator: Operator
    positions: Positions

    def cost(self, pieces: Sequence[Segment]) -> float:
        """What one cell takes, in positions: those that are run, and a part for each whose keys and values are looked up."""
        looked_up = 0.25 * 2 * keys_width(self.model) / widest(self.model)  # copied, not computed
        return sum(piece.size + len(piece.rows) * piece.begin * looked_up for piece in pieces)

    def run(
        self, cells: Sequence[Intervention], batch: Batch, base: Run, reader: Reader, room: int, seen: Sequence[InterventionLog]
    ) -> Float[np.ndarray, "cell number"]:
        """The numbers of a batch under each cell; what is not steered is the unsteered run's.

        Args:
            cells: sorted by the block that they resume at.
            batch, base, reader: the batch, its unsteered run, its reader.
            room: positions that one pass runs, at most.
            seen: for each cell, what it did; added to.
        """
        values = np.tile(base.values, (len(cells), 1))
        for pieces in self.shares(cells, batch):
            size = max(1, int(room // self.cost(pieces)))
            for first in range(0, len(cells), size):
                mine, wave = values[first : first + size], _Wave(self, cells[first : first + size], batch, pieces, base)
                for j, piece in enumerate(pieces):
                    reads = reader.reads(piece.rows, piece.begin, piece.stop)
                    for which, places, numbers in reads.numbers(self.model, wave.run(j, reads, more=j + 1 < len(pieces)), len(mine)):
                        mine[which, places] = numbers.cpu().numpy()
                wave.tell(seen[first : first + size])
        return values

    def shares(self, cells: Sequence[Intervention], batch: Batch) -> list[tuple[Segment, ...]]:
        """The steered part of a batch whose answers are read."""
        return segments(batch, cells, self.positions, whole=runs_whole(self.model)) if cells else []

    def fill(
        self,
        cells: Sequence[Intervention],
        pieces: Sequence[Segment],
        batch: Batch,
        base: Run,
        reader: Reader,
        seen: Sequence[InterventionLog],
    ) -> list[tuple[KeyValueCache, range, int]]:
        """Keys and values of a share of a batch under each cell: caches, the blocks that they hold, and for how many of the cells.

        Rows stand cell by cell. What a cache does not hold is as it was in the unsteered run. Arguments are those of `run`.
        """
        wave = _Wave(self, cells, batch, pieces, base)
        for j, piece in enumerate(pieces):
            wave.run(j, reader.reads(piece.rows, piece.begin, piece.stop), more=True)
        wave.tell(seen)
        return [(past, blocks, sum(cell.resumes_at <= blocks.start for cell in cells)) for blocks, past in wave.pasts.items()]

    def whole(
        self, cells: Sequence[Intervention], batch: Batch, streams: dict[int, Tensor], seen: Sequence[InterventionLog]
    ) -> Float[Tensor, "stacked pos d_model"]:
        """What leaves the last block at all positions of an uncut batch, cell by cell, from the unsteered `streams` that enter blocks."""
        wave = _Wave(self, cells, batch, [_everything(batch, batch.width)], Run(np.empty(0), (streams,), (None,)))
        final = wave.run(0, None, more=False)
        wave.tell(seen)
        return final

    def stacked(self, parts: Sequence[tuple[Direction, float]], piece: Segment, batch: Batch) -> tuple[Patch, list[bool]]:
        """One patch for directions with their alphas, each on all rows of a piece, stacked over each other; and which of them act in it."""
        rows = [batch.rows[group[0]] for group in piece.rows]
        lengths, n = [row.prompt_length for row in rows], len(rows)
        stop = max(piece.stop, *lengths)  # a piece may end inside the prompts, whose positions are counted from their ends
        shared, prompts = TokenPositions.of(self.positions).mask(lengths, stop), [row.prompt for row in rows]
        vectors, masks = zip(*(resolved(direction, shared, lengths, stop, prompts) for direction, _ in parts), strict=True)
        each, width = (1 if all(len(v) == 1 for v in vectors) else n), max(v.shape[1] for v in vectors)
        spread = torch.cat([v.expand(each, width, -1) for v in vectors]).to(batch.device).repeat_interleave(n // each, 0)
        numbers = torch.tensor([alpha for _, alpha in parts], dtype=torch.float32)
        acts, mask = numbers != 0, None
        if any(m is not None for m in masks):
            real = _real([len(row.tokens) + row.new_tokens for row in rows], stop)  # padding is neither prompt nor generated
            mask = torch.cat([real if m is None else real & m for m in masks])
            acts = acts & mask[:, piece.begin : piece.stop].unflatten(0, (len(parts), n)).flatten(1).any(1)
        alphas = numbers.to(batch.device).repeat_interleave(n)[:, None, None]
        known = known_everywhere(numbers, mask)
        return Patch(self.operator, spread, alphas, None if mask is None else mask.to(batch.device), piece.begin, known), acts.tolist()

    def everywhere(self, cells: Sequence[Intervention], batch: Batch, stop: int) -> list[tuple[str, Patch]]:
        """What cells, stacked over each other, do to a whole batch up to some column: hook points and patches."""
        found = []
        for k, at in sorted({(k, at) for cell in cells for k, (_, at) in enumerate(cell.places)}):
            mine = [(cell.places[k].direction, cell.alpha) if len(cell.places) > k and cell.places[k].at == at else None for cell in cells]
            idle = next(one[0] for one in mine if one is not None), 0.0  # the direction of a cell that acts there, where one does not
            parts = [idle if one is None else one for one in mine]
            found.append((hook_name(self.model, *at), self.stacked(parts, _everything(batch, stop), batch)[0]))
        return found

    def plainly(self, cell: Intervention, row: TokenRow) -> Float[Tensor, "pos d_vocab"]:
        """Logits of one row under one cell the plain way: alone and unpadded, with hooks and the whole model."""
        alone = Batch((0,), (row,), device=device_of(self.model))
        with hooks(self.model, self.everywhere([cell], alone, alone.width)):
            return forward(self.model, alone.tokens)[0].float()

    def check_answer(self, cell: Intervention, row: TokenRow, answer: Answer) -> None:
        """Compare what was read from a row, and generated behind it, with a plain run.

        One run over a prompt and what was generated behind it tells whether each token was the likeliest.

        Raises:
            RuntimeError: they differ.
        """
        logits = self.plainly(cell, replace(row, tokens=row.tokens + answer.generated))
        gaps = []
        for wanted, got in zip(row.reads, answer.reads, strict=True):
            line = logits[wanted.position].log_softmax(-1) if wanted.log_prob else logits[wanted.position]
            line = line[list(wanted.tokens)]
            gaps.append((float((line - torch.tensor(got, device=line.device)).abs().max()), float(line.abs().max())))
        for token, line in zip(answer.generated, logits[len(row.tokens) - 1 :], strict=False):
            gaps.append((float(line.max() - line[token]), float(line.abs().max())))
        self.check_gaps(cell, gaps)

    def check_gaps(self, cell: Intervention, gaps: Iterable[tuple[float, float]]) -> None:
        """Allow differences from a plain run that are rounding: `gaps`, each with the size of the logits or log-probabilities that it comes from.

        Raises:
            RuntimeError: a larger one.
        """
        for gap, size in gaps:
            limit = (TOLERANCE if next(iter(self.model.parameters())).dtype == torch.float32 else 0.05) * max(1.0, size)
            if not gap <= limit:
                raise RuntimeError(
                    f"layer {cell.layer}, alpha {cell.alpha}: the resumed, batched run gives other scores than the plain hooked run "
                    f"(largest difference {gap:.2g}, allowed {limit:.2g}); results would be wrong. Please report the model's architecture"
                )


@dataclass
class _Wave:
    """A share of a batch under some cells, piece by piece; see `SteeredPass.run`.

    Attributes:
        pasts: of stretches of blocks, keys and values of the pieces so far.
        notes: cells that acted, how often, and how far they moved the stream at most, on the model's device until it is told.
    """

    how: SteeredPass
    cells: Sequence[Intervention]
    batch: Batch
    pieces: Sequence[Segment]
    base: Run
    pasts: dict[range, KeyValueCache] = field(default_factory=dict)
    notes: list[tuple[list[int], list[bool], Tensor]] = field(default_factory=list)

    def run(self, j: int, reads: Reads | None, *, more: bool) -> Float[Tensor, "stacked pos d_model"]:
        """What leaves the last block in a piece; with `more`, keys and values are kept for what comes behind it."""
        piece, batch, n = self.pieces[j], self.batch, len(self.pieces[j].rows)

        def stream(block: int, rows: range) -> Tensor:
            return _stream(self.base, batch, piece, block).repeat(len(rows) // n, 1, 1)

        def at(rows: int) -> tuple[Tensor, Tensor]:
            assert reads is not None
            offsets = torch.arange(0, rows, n, device=batch.device).repeat_interleave(len(reads.rows))
            return reads.rows.repeat(rows // n) + offsets, reads.columns.repeat(rows // n)

        def past(blocks: range, rows: int) -> KeyValueCache | None:
            found = self._past(j, rows // n, blocks, more)
            if more and found is not None:
                self.pasts[blocks] = found
            return found

        tokens = batch.tokens[[group[0] for group in piece.rows], piece.begin : piece.stop].repeat(len(self.cells), 1)
        entries = [cell.resumes_at for cell in self.cells for _ in range(n)]
        return run_wave(self.how.model, tokens, entries, stream, self._acts(piece), at if reads is not None else None, past)

    def _past(self, j: int, cells: int, blocks: range, more: bool) -> KeyValueCache | None:
        """Keys and values of what stands before a piece, in the blocks of a stretch, for the cells that are in it."""
        piece, device = self.pieces[j], self.batch.device
        if j:
            before, parents = self.pasts.pop(blocks, None), torch.tensor(piece.parent, device=device)
            offsets = torch.arange(cells, device=device)[:, None] * len(self.pieces[j - 1].rows)
            return before.take((offsets + parents).flatten(), blocks=blocks, grows=more) if before is not None else None
        if piece.begin == 0:
            return KeyValueCache(self.how.model, cells * len(piece.rows)) if more else None
        k = next(k for k, level in enumerate(self.batch.levels) if piece.begin <= level.stop)
        rows = torch.tensor([self.batch.levels[k].of[group[0]] for group in piece.rows], device=device)
        kept = self.base.pasts[k]
        return kept.take(rows.repeat(cells), stop=piece.begin, blocks=blocks, grows=more) if kept is not None else None

    def _acts(self, piece: Segment) -> list[Act]:
        """What cells do in a piece, stacked cell by cell."""
        n, found = len(piece.rows), []
        real = _real([len(self.batch.rows[group[0]].tokens) for group in piece.rows], piece.stop)[:, piece.begin :].to(self.batch.device)
        for at, enters, k, which in acting([[at for _, at in cell.places] for cell in self.cells]):
            stacked, acts = self.how.stacked([(self.cells[c].places[k].direction, self.cells[c].alpha) for c in which], piece, self.batch)
            together = which[-1] - which[0] + 1 == len(which)
            rows = range(which[0] * n, (which[-1] + 1) * n) if together else [c * n + r for c in which for r in range(n)]
            if any(acts):
                found.append(Act(at, enters, rows, self._watched(stacked, which, acts, real)))
        return found

    def _watched(self, stacked: Patch, which: list[int], acts: list[bool], real: Tensor) -> Callable[[Tensor], Tensor]:
        """A patch that notes for each of its cells that it acted, and how far it moved the stream at real positions."""

        def act(resid: Tensor) -> Tensor:
            steered = stacked(resid)
            change = relative_change(resid, steered).unflatten(0, (len(which), -1))
            self.notes.append((which, acts, torch.where(real, change, 0.0).flatten(1).amax(1)))
            return steered

        return act

    def tell(self, seen: Sequence[InterventionLog]) -> None:
        """Add what happened to the logs of the cells."""
        largest = iter(torch.cat([change for _, _, change in self.notes]).tolist() if self.notes else [])
        for which, acts, _ in self.notes:
            for c, acted, change in zip(which, acts, largest, strict=False):
                seen[c].add(acted, change)


def relative_change(resid: Float[Tensor, "row pos d_model"], steered: Float[Tensor, "row pos d_model"]) -> Float[Tensor, "row pos"]:
    """How far the stream was moved, relative to its norm."""
    return (steered - resid).norm(dim=-1) / resid.norm(dim=-1).clamp_min(1e-30)


def _everything(batch: Batch, stop: int) -> Segment:
    return Segment(0, stop, tuple((i,) for i in range(len(batch.rows))), ())


def _stream(base: Run, batch: Batch, piece: Segment, block: int) -> Tensor:
    """The unsteered stream that enters a block, at a piece's columns: ``[beginning pos d_model]``."""
    parts = []
    for level, streams in zip(batch.levels, base.streams, strict=True):
        begin, stop = max(piece.begin, level.start), min(piece.stop, level.stop)
        if begin < stop:
            rows = torch.tensor([level.of[group[0]] for group in piece.rows], device=batch.device)
            parts.append(streams[block][rows, begin - level.start : stop - level.start])
    return torch.cat(parts, 1) if len(parts) > 1 else parts[0]


def _real(ends: Sequence[int], length: int) -> Tensor:
    """Where rows hold, or will hold, tokens rather than padding: ``[row pos]``."""
    return torch.arange(length) < torch.tensor(list(ends))[:, None]
