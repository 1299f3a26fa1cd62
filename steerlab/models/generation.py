"""Continue prompts greedily: prompts of all lengths in one batch, their keys and values aligned at their ends.

Each step reads all weights, whatever the number of rows, so rows are worth putting together, padded or not.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, takewhile

import torch
from jaxtyping import Float, Int
from torch import Tensor

from steerlab.models.backends import Model
from steerlab.models.batches import Answer, Batch, batches_of
from steerlab.models.encoding import end_tokens
from steerlab.models.kv_cache import CacheView, KeyValueCache
from steerlab.models.memory import generated_rows
from steerlab.models.model import device_of, is_hooked, n_layers
from steerlab.models.passes import run_to
from steerlab.models.reading import Headers, Reader, Run, run_batch
from steerlab.models.shortcuts import next_logits, read_out, short_cuts

OnStep = Callable[[int, Int[Tensor, " row"]], None]  # of the step that comes next, and the rows that still go on


@dataclass(frozen=True)
class Prefix:
    """Prompts without their last tokens, and their unsteered run. The last token is the first that is fed when generation begins.

    Attributes:
        batch: its index tells the places of the prompts in the batch that is generated from.
        run: with keys and values.
    """

    batch: Batch
    run: Run

    def lent(self, rows: Sequence[int], to: Sequence[int], blocks: range) -> list[CacheView]:
        """The unsteered keys and values of some of the rows."""
        past = self.run.pasts[-1]
        return [CacheView(past, blocks, rows, to, [len(self.batch.rows[i].tokens) for i in rows])] if past is not None and rows else []


@torch.no_grad()
def heads(model: Model, batch: Batch, room: int, blocks: Sequence[int] = (), headers: Headers | None = None) -> list[Prefix]:
    """Run prompts up to their last tokens; prompts of one token have nothing to run and stand in none.

    Args:
        model: the model.
        batch: prompts to generate from.
        room: positions that one pass runs, at most.
        blocks: blocks whose entering streams are kept.
        headers: see `steerlab.models.reading.run_batch`.
    """
    rows = [replace(row, tokens=row.tokens[:-1], reads=(), new_tokens=0, whole_prompt=row.prompt) for row in batch.rows]
    chosen = [i for i, row in enumerate(rows) if row.tokens]
    parts = batches_of(rows, chosen, room, batch.device, header=sum(batch.cuts))
    return [Prefix(part, run_batch(model, part, Reader(part), blocks, keep=True, headers=headers)) for part in parts]


class WholeRows:
    """Rows of one length that are run from their first token at each step, for models whose keys and values cannot be kept.

    Args:
        model: the model.
        batch: rows; nothing was fed yet.
    """

    def __init__(self, model: Model, batch: int) -> None:
        self._model = model
        self._tokens = torch.zeros(batch, 0, dtype=torch.long, device=device_of(model))

    def next_logits(self, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch d_vocab"]:
        """Add tokens to what was fed before, and run all of it; return the logits at the last position."""
        self._tokens = torch.cat([self._tokens, tokens], dim=1)
        return read_out(self._model, run_to(self._model, self._tokens, n_layers(self._model))[:, -1])

    def keep(self, rows: Int[Tensor, " row"]) -> None:
        """Go on with some of the rows."""
        self._tokens = self._tokens[rows]


@torch.no_grad()
def generate(
    model: Model,
    cache: KeyValueCache | WholeRows,
    fed: Int[Tensor, "batch pos"],
    new_tokens: int,
    on_step: OnStep = lambda step, rows: None,
) -> list[Answer]:
    """Continue rows greedily with cached keys and values, each until the first of the model's end tokens (`steerlab.models.encoding.end_tokens`).

    Args:
        model: the model.
        cache: keys and values of what stands before `fed`, or its tokens; they are added to.
        fed: the rows' last tokens, at least one.
        new_tokens: at most so many are generated.
        on_step: called before each step.
    """
    ends = end_tokens(model)
    stops = torch.tensor([-1, *ends], device=fed.device)  # -1 stands where nothing was generated
    made = torch.full((len(fed), new_tokens), -1, dtype=torch.long, device=fed.device)
    rows = torch.arange(len(fed), device=fed.device)
    for step in range(new_tokens):
        on_step(step, rows)
        logits = cache.next_logits(fed) if isinstance(cache, WholeRows) else next_logits(model, cache, fed)
        chosen = logits.argmax(-1)
        made[rows, step] = chosen
        fed = chosen[:, None]
        running = ~torch.isin(made[rows, : step + 1], stops).any(1)
        left = int(running.sum())
        if left == 0:
            break
        if 2 * left <= len(rows):  # the other rows would only be carried along
            cache.keep(running.nonzero()[:, 0])
            rows, fed = rows[running], fed[running]
    return [Answer(generated=tuple(takewhile(lambda token: token >= 0 and token not in ends, line))) for line in made.tolist()]


@torch.no_grad()
def generate_batch(model: Model, batch: Batch, room: int, memory: str | int | None = None, headers: Headers | None = None) -> list[Answer]:
    """Generated answers of a batch; hooks that are on the model act.

    Args:
        model: the model.
        batch: prompts to generate from.
        room: positions that one pass runs, at most.
        memory: see `steerlab.models.memory.generated_rows`.
        headers: see `steerlab.models.reading.run_batch`.
    """
    if is_hooked(model) or not short_cuts(model).aligned:  # whoever hooks a model counts on whole prompts, without padding
        return _by_length(model, batch, room)
    new_tokens, answers = batch.rows[0].new_tokens, []
    size = generated_rows(model, batch.width + new_tokens, room, memory)
    for first in range(0, len(batch.rows), size):
        some = batch.part(range(first, min(first + size, len(batch.rows))))
        whole = range(n_layers(model))
        lent = [
            part
            for head in heads(model, some, room, headers=headers)
            for part in head.lent(range(len(head.batch.rows)), head.batch.index, whole)
        ]
        cache = KeyValueCache.aligned(model, len(some.rows), lent, new_tokens)
        answers += generate(model, cache, last_tokens(some), new_tokens)
    return answers


def last_tokens(batch: Batch) -> Int[Tensor, "batch 1"]:
    """The last token of each row."""
    return torch.tensor([[row.tokens[-1]] for row in batch.rows], device=batch.device)


def _by_length(model: Model, batch: Batch, room: int) -> list[Answer]:
    answers = [Answer()] * len(batch.rows)
    pieces = short_cuts(model).pieces
    for part in of_one_length(batch, len(batch.rows) if pieces else room // (batch.width + batch.rows[0].new_tokens)):
        cache = KeyValueCache(model, len(part.rows)) if pieces else WholeRows(model, len(part.rows))
        made = generate(model, cache, part.tokens, part.rows[0].new_tokens)
        for i, answer in zip(part.index, made, strict=True):
            answers[i] = answer
    return answers


def of_one_length(batch: Batch, most: int) -> list[Batch]:
    """The rows of a batch in batches of one length and at most so many rows (at least one); their index tells the places in the batch."""
    places = sorted(range(len(batch.rows)), key=lambda i: len(batch.rows[i].tokens))
    found = []
    for _, group in groupby(places, key=lambda i: len(batch.rows[i].tokens)):
        which = list(group)
        for first in range(0, len(which), max(1, most)):
            some = which[first : first + max(1, most)]
            found.append(Batch(tuple(some), tuple(batch.rows[i] for i in some), device=batch.device))
    return found
