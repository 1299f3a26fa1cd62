"""Rows run on from kept residual streams, with gradients: what training repeats epoch after epoch, and no more than that.

Steering block l changes nothing before it, so the stream that enters the first steered block is found once. Rows of
candidates that act at different blocks share one pass, which grows from block to block.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack

import torch
from jaxtyping import Float
from torch import Tensor

from steerlab.activations.positions import Positions, TokenPositions
from steerlab.aft.learnables import Learnable, Parameters
from steerlab.models.backends import Model
from steerlab.models.batches import Batch, Read, TokenRow, batches_for
from steerlab.models.memory import parse_memory, pass_tokens
from steerlab.models.model import HookFn, Site, d_model, device_of, hook_name, hooks, n_layers
from steerlab.models.passes import entering
from steerlab.models.shortcuts import mlp_only_at, run_from
from steerlab.steering.interventions import Patch
from steerlab.steering.operators import Operator

KEPT = 2 * 10**9  # bytes of streams that are kept where no budget is given; on a GPU, half of what is free
Pair = tuple[int, int]  # a candidate and a row
Act = Callable[[Tensor], Tensor]  # on a residual stream


class Resumed:
    """Rows that several candidates run on from where each of them first acts.

    Args:
        model: the model; hooks that are on it act, and rows are then run unpadded.
        rows: what is run.
        paths: for each candidate, its places.
        learnable: what acts there.
        operator, positions: how, and at which positions.
        max_tokens, memory: limits as elsewhere. Streams are kept as far as half of the memory goes, and found anew beyond that.
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
        max_tokens: int | None = None,
        memory: str | int | None = None,
        gradients: bool = True,
    ) -> None:
        self.model, self.rows, self.paths = model, tuple(rows), [tuple(path) for path in paths]
        self._learnable, self._operator, self._positions = learnable, operator, positions
        self._entry = [min(site.resumes_at for site in path) for path in self.paths]
        whole = pass_tokens(model, max_tokens, memory)
        self._room = max(1, whole // 2) if gradients else whole
        lengths = torch.tensor([len(row.tokens) for row in self.rows])
        self._starts = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)])
        blocks = sorted(set(self._entry))
        self._streams = self._kept(blocks, whole) if self._fits(len(blocks), memory) else {}

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
        for batch in batches_for(self.model, self.rows, room=room):
            for block, streams in entering(self.model, batch.tokens, blocks).items():
                for i, stream, row in zip(batch.index, streams, batch.rows, strict=True):
                    start = int(self._starts[i])
                    kept[block][start : start + len(row.tokens)] = stream[: len(row.tokens)]
        return kept

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
        acting = _Acting(self._learnable, self._operator, self._positions, pairs, batch, parameters)
        last = n_layers(self.model)
        entries = [self._entry[c] for c, _ in pairs]
        blocks = sorted(set(entries))
        sites = sorted({site for c, _ in pairs for site in self.paths[c]})
        final = torch.empty(0)
        for block, until in zip(blocks, [*blocks[1:], last], strict=True):
            new = [r for r, entry in enumerate(entries) if entry == block]
            stream = self._stream(block, [pairs[r][1] for r in new], batch)
            offset = new[0]
            for k, here in self._places(pairs, new, [site for site in sites if site.enters and site.resumes_at == block]):
                stream = _on_rows([r - offset for r in here], acting(k, here))(stream)
            final = torch.cat([final, stream]) if offset else stream
            if until == block:
                continue
            with ExitStack() as stack:
                stack.enter_context(
                    hooks(self.model, self._inside(pairs, entries, [s for s in sites if block <= s.layer < until], block, acting))
                )
                if until == last:
                    stack.enter_context(mlp_only_at(self.model, *_reads(batch, len(final)), (final.shape[0], final.shape[1])))
                final = run_from(self.model, final, block, batch.tokens[: len(final)], until=until)
        return final

    def _places(self, pairs: Sequence[Pair], rows: Sequence[int], sites: Sequence[Site]) -> Iterator[tuple[int, list[int]]]:
        """Which of their places rows have among some sites, and the rows; the lower layers first."""
        found: dict[tuple[int, int], list[int]] = {}
        for r in rows:
            for k, site in enumerate(self.paths[pairs[r][0]]):
                if site in sites:
                    found.setdefault((site.layer, k), []).append(r)
        for (_, k), mine in sorted(found.items()):
            yield k, mine

    def _inside(
        self, pairs: Sequence[Pair], entries: Sequence[int], sites: Sequence[Site], block: int, acting: "_Acting"
    ) -> list[tuple[str, HookFn]]:
        """Hooks for what acts in a stretch of blocks, beyond what entered it."""
        active = [r for r, entry in enumerate(entries) if entry <= block]
        found: list[tuple[str, HookFn]] = []
        for site in sites:
            rows = [r for r in active if not (site.enters and site.resumes_at == entries[r])]
            for k, here in self._places(pairs, rows, [site]):
                act = _on_rows(here, acting(k, here))
                # On a bridge what comes back is written into the stream itself, which the gradient may need as it was.
                found.append((hook_name(self.model, *site), act if site.enters else _on_a_copy(act)))
        return found


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

    def __call__(self, place: int, rows: Sequence[int]) -> Act:
        """What acts on some rows at one of their candidates' places."""
        index = torch.tensor(rows, device=self._device)

        def act(resid: Tensor) -> Tensor:
            owner = self._owner[index]
            # With one candidate a view does, and the gradient is a plain sum.
            mine = {n: p.expand(len(rows), *p.shape[1:]) if len(p) == 1 else p[owner] for n, p in self._parameters.items()}
            vectors = self._learnable.vectors(mine, place, resid, self._prompt[index])
            mask = None if self._mask is None else self._mask[index]
            return Patch(self._operator, vectors, torch.ones(1, 1, 1, device=resid.device), mask)(resid)

        return act


def _on_rows(rows: Sequence[int], act: Act) -> Act:
    """An intervention on some rows of a batch."""

    def on(resid: Tensor) -> Tensor:
        if len(rows) == len(resid):
            return act(resid)
        index = torch.tensor(rows, device=resid.device)
        return resid.index_copy(0, index, act(resid[index]))

    return on


def _on_a_copy(act: Act) -> Act:
    return lambda resid: act(resid.clone())


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
