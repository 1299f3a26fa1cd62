"""Rows of tokens in batches, in which a common beginning stands once.

A batch is cut into levels of columns: a header that all rows share (few-shot examples), the prompts that several rows share (a
question with several endings), and the rows' own rest. Each level holds each different beginning once.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from jaxtyping import Int
from torch import Tensor

from steerlab.models.backends import Model
from steerlab.models.memory import ROW_POSITIONS
from steerlab.models.model import device_of, is_hooked
from steerlab.models.shortcuts import runs_whole, short_cuts


@dataclass(frozen=True)
class Read:
    """What to read behind one position of a row.

    Attributes:
        position: the position whose next-token distribution is read.
        tokens: vocabulary columns.
        log_prob: log-probabilities over the whole vocabulary, or (False) plain logits of those columns only.
    """

    position: int
    tokens: tuple[int, ...]
    log_prob: bool


@dataclass(frozen=True)
class TokenRow:
    """One sequence to run: its tokens, how many of them are the prompt, what to read, how many tokens to generate.

    Where it is the beginning of another one, `whole_prompt` is the prompt of that.
    """

    tokens: tuple[int, ...]
    prompt_length: int
    reads: tuple[Read, ...] = ()
    new_tokens: int = 0
    whole_prompt: tuple[int, ...] = ()

    @property
    def prompt(self) -> tuple[int, ...]:
        """The tokens of the prompt."""
        return self.whole_prompt or self.tokens[: self.prompt_length]


@dataclass(frozen=True)
class Answer:
    """What came back from a row: one tuple of numbers for each read, and the generated token ids."""

    reads: tuple[tuple[float, ...], ...] = ()
    generated: tuple[int, ...] = ()


PADDING = 1.0625  # positions that are run, at most, for each one that is needed
OVERHEAD = 64  # positions that could be run in the time that a further batch costs before its first one
SMALL, SMALL_PADDING = 256, 1.5  # a batch of fewer positions costs the reading of all weights, padded or not
WORTH = 8  # beginnings are shared where that saves more than one position in so many


@dataclass(frozen=True)
class Level:
    """Columns `start` to `stop` of a batch, each different beginning once.

    Attributes:
        start, stop: columns.
        tokens: ``[beginning pos]``, padded on the right in the last level only.
        parent: for each beginning, its place in the level before.
        of: for each row of the batch, the place of its beginning.
    """

    start: int
    stop: int
    tokens: Int[Tensor, "beginning pos"]
    parent: Int[Tensor, " beginning"]
    of: tuple[int, ...]

    @cached_property
    def rows(self) -> tuple[tuple[int, ...], ...]:
        """For each beginning, the rows of the batch that begin so."""
        groups: list[list[int]] = [[] for _ in range(len(self.tokens))]
        for i, place in enumerate(self.of):
            groups[place].append(i)
        return tuple(map(tuple, groups))


@dataclass(frozen=True)
class Batch:
    """Rows of about one length, padded on the right (a causal model never sees the padding).

    Attributes:
        index: place of each row in the plan.
        rows: the rows.
        cuts: columns at which one level ends and the next begins.
        device: where the tokens are.
    """

    index: tuple[int, ...]
    rows: tuple[TokenRow, ...]
    cuts: tuple[int, ...] = ()
    device: torch.device | str = "cpu"

    @property
    def width(self) -> int:
        """Columns of the longest row."""
        return max(len(row.tokens) for row in self.rows)

    @cached_property
    def tokens(self) -> Int[Tensor, "batch pos"]:
        """All rows, padded on the right."""
        tokens = torch.zeros(len(self.rows), self.width, dtype=torch.long)
        for i, row in enumerate(self.rows):
            tokens[i, : len(row.tokens)] = torch.tensor(row.tokens)
        return tokens.to(self.device)

    @cached_property
    def levels(self) -> tuple[Level, ...]:
        """The columns, level by level."""
        found: list[Level] = []
        edges = (0, *self.cuts, self.width)
        before = (0,) * len(self.rows)
        for start, stop in pairwise(edges):
            last = stop == self.width
            places: dict[object, int] = {}
            first: list[int] = []
            of = []
            for i, row in enumerate(self.rows):
                key = i if last else row.tokens[:stop]
                if key not in places:
                    places[key] = len(first)
                    first.append(i)
                of.append(places[key])
            parent = torch.tensor([before[i] for i in first], device=self.device)
            found.append(Level(start, stop, self.tokens[first, start:stop], parent, tuple(of)))
            before = tuple(of)
        return tuple(found)

    def part(self, which: range) -> "Batch":
        """Some of the rows, cut alike."""
        return Batch(self.index[which.start : which.stop], self.rows[which.start : which.stop], self.cuts, self.device)

    @property
    def size(self) -> int:
        """Positions that a pass over the batch runs."""
        return sum(level.tokens.numel() for level in self.levels)


def batches_for(model: Model, rows: Sequence[TokenRow], *, room: int, generated: bool = False, share: bool = False) -> list[Batch]:
    """Group rows by length, and find what they share, as far as the model gives the same results together as alone.

    Args:
        model: the model; see `steerlab.models.shortcuts`. Hooks on it may count positions, so that rows are then whole and unpadded.
        rows: what has to run.
        room: positions that a pass over one batch runs, at most; at least one row goes into each.
        generated: the rows that generate (of which lengths are mixed, see `steerlab.models.generation`), or (False) the others.
        share: cut batches into levels where rows begin alike.
    """
    chosen = [i for i, row in enumerate(rows) if bool(row.new_tokens) == generated]
    pad = short_cuts(model).padded and not is_hooked(model)
    return batches_of(rows, chosen, room, device_of(model), share=share and not runs_whole(model), pad=pad)


def batches_of(
    rows: Sequence[TokenRow],
    chosen: Sequence[int],
    room: int,
    device: torch.device | str = "cpu",
    *,
    share: bool = True,
    pad: bool = True,
    header: int | None = None,
) -> list[Batch]:
    """The batches of some of the rows, all of which generate or none; see `batches_for`.

    Args:
        rows, room, share: as there.
        chosen: places of the rows.
        device: where the tokens go.
        pad: put rows of about one length together; without it, of one length.
        header: columns that all of them are known to share, with rows that are not among them too; default what they share.
    """
    if not chosen:
        return []
    if rows[chosen[0]].new_tokens:
        return _to_generate(rows, chosen, room, device, share=share)
    if header is None:
        header = _header(rows, chosen) if share else 0
    found: list[Batch] = []
    together = _groups(rows, chosen, header, room) if share else {0: [[i] for i in chosen]}
    for prompt, groups in sorted(together.items()):
        cuts = tuple(cut for cut in (header, prompt) if cut)
        filled = _filled(rows, groups, header, prompt, room, pad=pad)
        found += [Batch(tuple(index), tuple(rows[i] for i in index), cuts, device) for index in filled]
    return found


def _to_generate(rows: Sequence[TokenRow], chosen: Sequence[int], room: int, device: torch.device | str, *, share: bool) -> list[Batch]:
    """Rows of about one length, and as many tokens to generate; the cut is the header that all of them share."""
    size = max(1, room // ROW_POSITIONS)
    shortest = min(len(rows[i].tokens) for i in chosen)
    header = min(_header(rows, chosen), shortest - 2) if share else 0  # before their last tokens, one more is left
    found = []
    for new_tokens in sorted({rows[i].new_tokens for i in chosen}):
        mine = sorted((i for i in chosen if rows[i].new_tokens == new_tokens), key=lambda i: (len(rows[i].tokens), i))
        for first in range(0, len(mine), size):
            part = mine[first : first + size]
            found.append(Batch(tuple(part), tuple(rows[i] for i in part), (header,) if header > 0 else (), device))
    return found


def least(batch: Batch) -> int:
    """The smallest room that the rows of a batch can be run in, or generated from, one at a time."""
    return ROW_POSITIONS if batch.rows[0].new_tokens else batch.width


def smaller(rows: Sequence[TokenRow], batch: Batch, room: int) -> list[Batch]:
    """The rows of a batch again, in batches of at most `room` positions."""
    if batch.rows[0].new_tokens:
        size = max(1, room // ROW_POSITIONS)
        return [batch.part(range(first, min(first + size, len(batch.rows)))) for first in range(0, len(batch.rows), size)]
    padded = len({len(row.tokens) for row in batch.rows}) > 1
    return batches_of(rows, batch.index, room, batch.device, share=bool(batch.cuts), pad=padded)


def _header(rows: Sequence[TokenRow], chosen: Sequence[int]) -> int:
    """Columns that all rows share, if that is worth a level of its own; the last token of a row is never among them."""
    if len(chosen) < 2:
        return 0
    tokens = [rows[i].tokens for i in chosen]
    first, last = min(tokens), max(tokens)  # what these two share, all that sort between them share
    shared = next((k for k, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
    shared = min(shared, min(map(len, tokens)) - 1)
    total = sum(len(rows[i].tokens) for i in chosen)
    return shared if WORTH * shared * (len(chosen) - 1) > total else 0


def _groups(rows: Sequence[TokenRow], chosen: Sequence[int], header: int, room: int) -> dict[int, list[list[int]]]:
    """Rows that share a prompt, by the length of that prompt (0 for rows that share none)."""
    prompts: dict[tuple[int, ...], list[int]] = {}
    for i in chosen:
        row = rows[i]
        if header < row.prompt_length < len(row.tokens):
            prompts.setdefault(row.tokens[: row.prompt_length], []).append(i)

    def fits(prompt: tuple[int, ...], group: list[int]) -> bool:
        return len(prompt) + len(group) * (max(len(rows[i].tokens) for i in group) - len(prompt)) <= room

    shared = {prompt: group for prompt, group in prompts.items() if len(group) > 1 and fits(prompt, group)}
    saved = sum((len(prompt) - header) * (len(group) - 1) for prompt, group in shared.items())
    if WORTH * saved <= sum(len(rows[i].tokens) - header for i in chosen):
        shared = {}
    groups: dict[int, list[list[int]]] = {}
    for prompt, group in shared.items():
        groups.setdefault(len(prompt), []).append(group)
    alone = sorted(set(chosen) - {i for group in shared.values() for i in group})
    if alone:
        groups[0] = [[i] for i in alone]
    return groups


def _filled(rows: Sequence[TokenRow], groups: list[list[int]], header: int, prompt: int, room: int, *, pad: bool) -> Iterator[list[int]]:
    """Whole groups together, as many as room and padding allow."""
    own = max(header, prompt)  # where the rows' own columns begin
    batch: list[int] = []
    beginnings = needed = 0
    for group in sorted(groups, key=lambda group: (max(len(rows[i].tokens) for i in group), group)):
        lengths = [len(rows[i].tokens) - own for i in group]
        more = own - header  # columns of the prompt that the group shares
        size = header + beginnings + more + (len(batch) + len(group)) * max(lengths)  # groups come by their longest row
        so_far = header + beginnings + needed
        wanted = so_far + more + sum(lengths)
        allowed = max((SMALL_PADDING if so_far < SMALL else PADDING) * wanted, wanted + OVERHEAD) if pad else wanted
        if batch and (size > room or size > allowed):
            yield batch
            batch, beginnings, needed = [], 0, 0
        batch = batch + group
        beginnings, needed = beginnings + more, needed + sum(lengths)
    yield batch
