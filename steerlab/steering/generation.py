"""Steered generation: every prompt under every intervention, in one batch.

Prompts run once, unsteered. What is steered of them runs again for each intervention, from its block and column on
(`steerlab.steering.wavefront`); then all continue together, token by token (`steerlab.models.generation`).
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from steerlab.models.batches import Answer, Batch
from steerlab.models.generation import Prefix, WholeRows, generate, heads, last_tokens, of_one_length
from steerlab.models.kv_cache import CacheView, KeyValueCache
from steerlab.models.model import hooks, n_layers
from steerlab.models.reading import Headers, Reader
from steerlab.models.shortcuts import short_cuts
from steerlab.steering.interventions import Patch
from steerlab.steering.variants import Intervention, segments
from steerlab.steering.wavefront import InterventionLog, SteeredPass, relative_change


@torch.no_grad()
def generate_interventions(
    front: SteeredPass,
    cells: Sequence[Intervention],
    batch: Batch,
    room: int,
    most: int,
    seen: Sequence[InterventionLog],
    headers: Headers | None = None,
) -> list[list[Answer]]:
    """Generated answers of each cell, for each row of the batch. A cell with alpha = 0 is the unsteered run.

    Args:
        cells: sorted by the block that they resume at, after those with alpha = 0.
        batch: the prompts.
        room: positions that one pass runs, at most.
        most: rows that are generated from at a time, at most.
        seen: for each cell, what it did; added to.
        headers: see `steerlab.models.reading.run_batch`.
    """
    if not short_cuts(front.model).aligned:
        return _generate_whole(front, cells, batch, room, seen)
    blocks = sorted({cell.resumes_at for cell in cells})
    found = [[Answer()] * len(batch.rows) for _ in cells]
    for rows in _even(len(batch.rows), max(1, most // len(cells))):
        some = batch.part(rows)
        ran = heads(front.model, some, room, blocks, headers)
        for which in _even(len(cells), max(1, most // len(rows))):
            chosen = slice(which.start, which.stop)
            answers = _generate(front, cells[chosen], some, ran, room, seen[chosen])
            for c, mine in zip(which, answers, strict=True):
                found[c][rows.start : rows.stop] = mine
    return found


def _even(n: int, most: int) -> Iterator[range]:
    """Ranges of about one size, and at most so many."""
    parts = -(-n // most)
    edges = [n * k // parts for k in range(parts + 1)]
    yield from (range(begin, stop) for begin, stop in pairwise(edges))


def _generate(
    front: SteeredPass, cells: Sequence[Intervention], batch: Batch, ran: Sequence[Prefix], room: int, seen: Sequence[InterventionLog]
) -> list[list[Answer]]:
    n, new_tokens = len(batch.rows), batch.rows[0].new_tokens
    lent = [part for head in ran for part in _lent(front, cells, head, n, room, seen)]
    cache = KeyValueCache.aligned(front.model, len(cells) * n, lent, new_tokens)
    del lent
    starts = torch.tensor([len(row.tokens) - 1 for row in batch.rows] * len(cells), device=batch.device)
    acting = [(point, patch.windows(starts, new_tokens)) for point, patch in front.everywhere(cells, batch, batch.width + new_tokens)]
    flat = _steered(front, cache, last_tokens(batch).repeat(len(cells), 1), new_tokens, acting, n, seen)
    return [flat[c * n : (c + 1) * n] for c in range(len(cells))]


def _steered(
    front: SteeredPass,
    cache: KeyValueCache | WholeRows,
    tokens: Tensor,
    new_tokens: int,
    acting: Sequence[tuple[str, Patch]],
    n: int,
    seen: Sequence[InterventionLog],
) -> list[Answer]:
    """What is generated under patches, in n rows a cell."""
    steps = [_Steps(patch, n, seen, whole=isinstance(cache, WholeRows)) for _, patch in acting]

    def on_step(step: int, rows: Tensor) -> None:
        for one in steps:
            one.next(step, rows)

    with hooks(front.model, [(point, one) for (point, _), one in zip(acting, steps, strict=True)]):
        flat = generate(front.model, cache, tokens, new_tokens, on_step)
    for one in steps:
        one.tell()
    return flat


def _generate_whole(
    front: SteeredPass, cells: Sequence[Intervention], batch: Batch, room: int, seen: Sequence[InterventionLog]
) -> list[list[Answer]]:
    """The same for a model that cannot go on from what it ran before: whole rows at each step, in batches of one length."""
    new_tokens = batch.rows[0].new_tokens
    found = [[Answer()] * len(batch.rows) for _ in cells]
    for part in of_one_length(batch, room // (batch.width + new_tokens)):
        n, length = len(part.rows), part.width + new_tokens
        for which in _even(len(cells), max(1, room // (n * length))):
            chosen = slice(which.start, which.stop)
            acting, rows = front.everywhere(cells[chosen], part, length), WholeRows(front.model, len(which) * n)
            flat = _steered(front, rows, part.tokens.repeat(len(which), 1), new_tokens, acting, n, seen[chosen])
            for k, c in enumerate(which):
                for place, i in enumerate(part.index):
                    found[c][i] = flat[k * n + place]
    return found


def _lent(
    front: SteeredPass, cells: Sequence[Intervention], head: Prefix, n: int, room: int, seen: Sequence[InterventionLog]
) -> Iterator[CacheView]:
    """Keys and values of some prompts under each cell; row r of cell c goes to place ``c * n + r``."""
    batch, last, reader = head.batch, n_layers(front.model), Reader(head.batch)
    unsteered = {c: set(range(len(batch.rows))) for c in range(len(cells))}
    first = next((c for c, cell in enumerate(cells) if cell.alpha), len(cells))
    for pieces in segments(batch, cells[first:], front.positions) if cells[first:] else ():
        mine = [group[0] for group in pieces[-1].rows]
        for part in _even(len(cells) - first, max(1, int(room // front.cost(pieces)))):
            which = range(first + part.start, first + part.stop)
            some = slice(which.start, which.stop)
            for cache, blocks, active in front.fill(cells[some], pieces, batch, head.run, reader, seen[some]):
                places = [c * n + batch.index[i] for c in which[:active] for i in mine]
                lengths = [len(batch.rows[i].tokens) for i in mine] * active
                yield CacheView(cache, blocks, range(len(places)), places, lengths)
        for c in range(first, len(cells)):
            unsteered[c] -= set(mine)
            yield from head.lent(mine, [c * n + batch.index[i] for i in mine], range(min(cells[c].resumes_at, last)))
    for c, rows in unsteered.items():
        yield from head.lent(sorted(rows), [c * n + batch.index[i] for i in sorted(rows)], range(last))


class _Steps:
    """A patch on what is generated, one column a step or (`whole`) all columns up to it, that notes what it did to each cell."""

    def __init__(self, patch: Patch, rows: int, seen: Sequence[InterventionLog], *, whole: bool = False) -> None:
        self._whole_rows = whole
        self._whole, self._now, self._rows, self._seen = patch, patch, rows, seen
        n = len(seen) * rows
        self._at = torch.arange(n, device=patch.alphas.device)
        self._calls, self._change = torch.zeros(2, n, device=patch.alphas.device)

    def next(self, step: int, rows: Tensor) -> None:
        if len(rows) < len(self._at):
            self._at, self._now = rows, self._whole.of(rows)
        self._now.start = 0 if self._whole_rows else step

    def __call__(self, resid: Tensor) -> Tensor:
        steered = self._now(resid)
        change = relative_change(resid, steered).amax(-1).float()
        self._change[self._at] = torch.maximum(self._change[self._at], change)
        self._calls[self._at] += change > 0
        return steered

    def tell(self) -> None:
        calls, changes = (noted.unflatten(0, (-1, self._rows)).amax(1).tolist() for noted in (self._calls, self._change))
        for one, n, change in zip(self._seen, calls, changes, strict=True):
            one.add(int(n), change)
