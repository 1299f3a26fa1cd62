"""Run a batch level by level, and read from it what its rows ask for; nothing else is unembedded."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from steerlab._checks import InputError
from steerlab.models.backends import Model
from steerlab.models.batches import Answer, Batch
from steerlab.models.kv_cache import KeyValueCache
from steerlab.models.memory import READ_VALUES
from steerlab.models.model import n_layers, n_outputs
from steerlab.models.passes import entering
from steerlab.models.shortcuts import mlp_only_at, read_out


@dataclass(frozen=True)
class Reads:
    """What is read from some beginnings in one level, from some column on.

    Attributes:
        rows, columns: the different positions that are read.
        kinds: plain logits, then log-probabilities: for each number, which position, which column of the logits and
            its place among the batch's numbers; and the vocabulary columns that have to be computed.
        most: logits computed at a time.
        largest: the largest token that is read.
    """

    rows: Int[Tensor, " position"]
    columns: Int[Tensor, " position"]
    kinds: tuple[tuple[bool, Tensor, Tensor, np.ndarray, Tensor], ...]
    most: int = READ_VALUES
    largest: int = -1

    def numbers(
        self, model: Model, final: Float[Tensor, "batch pos d_model"], copies: int = 1
    ) -> Iterator[tuple[slice, np.ndarray, Tensor]]:
        """The numbers, as tensors ``[copies number]``: which copies, their places, the values.

        Args:
            model: the model.
            final: the residual stream that leaves the last block, for one or several copies stacked over each other.
            copies: how many.

        Raises:
            ValueError: a token is read that the model takes and never gives.
        """
        if not len(self.rows):
            return
        if self.largest >= n_outputs(model):
            raise InputError(
                f"token {self.largest} is part of an answer, and this model predicts tokens 0 to {n_outputs(model) - 1} only (its output vocabulary is "
                "smaller than that of its input); give answers in tokens that it predicts"
            )
        resid = final.unflatten(0, (copies, -1))[:, self.rows, self.columns]
        for log_prob, line, column, places, vocabulary in self.kinds:
            used, at = torch.unique(line, return_inverse=True)
            wide = max(1, self.most // (n_outputs(model) if log_prob else len(vocabulary)))  # positions at a time
            for begin in range(0, len(used), wide):
                mine = ((at >= begin) & (at < begin + wide)).nonzero()[:, 0]
                here, step = used[begin : begin + wide], max(1, wide // len(used))
                for done in range(0, copies, step):
                    part = resid[done : done + step, here]
                    chosen = (None if log_prob else vocabulary, at[mine] - begin, column[mine])
                    if part.requires_grad and (wide < len(used) or step < copies):  # the backward pass makes a part's logits anew
                        values = checkpoint(_read, model, part, *chosen, use_reentrant=False)
                    else:
                        values = _read(model, part, *chosen)
                    yield slice(done, done + step), places[mine.cpu().numpy()], values


def _read(model: Model, part: Tensor, vocabulary: Tensor | None, line: Tensor, column: Tensor) -> Tensor:
    """Logits of a vocabulary, or without one log-probabilities, at some lines and columns."""
    logits = read_out(model, part.flatten(0, 1), vocabulary).float()
    if vocabulary is None:
        logits = logits - logits.logsumexp(-1, keepdim=True)
    return logits.unflatten(0, part.shape[:2])[:, line, column]


class Reader:
    """Where the numbers of a batch are read, in the order of its rows and their reads."""

    def __init__(self, batch: Batch, most: int = READ_VALUES) -> None:
        self._batch, self._most = batch, most
        self._made: dict[tuple[tuple[tuple[int, ...], ...], int, int], Reads] = {}
        found = [(i, read) for i, row in enumerate(batch.rows) for read in row.reads]
        starts = np.concatenate([[0], np.cumsum([len(read.tokens) for _, read in found])]).astype(int)
        self.size = int(starts[-1])
        self._found = [(i, read, int(start)) for (i, read), start in zip(found, starts, strict=False)]

    def reads(self, rows: tuple[tuple[int, ...], ...], begin: int, stop: int) -> Reads:
        """What is read in columns `begin` to `stop` of some rows.

        Args:
            rows: for each row of the stream that will be read from, the rows of the batch that it stands for.
            begin, stop: the columns that the stream will hold.
        """
        key = (rows, begin, stop)
        if key not in self._made:
            self._made[key] = self._make(*key)
        return self._made[key]

    def _make(self, rows: tuple[tuple[int, ...], ...], begin: int, stop: int) -> Reads:
        device = self._batch.device
        place_of = {i: place for place, group in enumerate(rows) for i in group}
        mine = [
            ((place_of[i], read.position - begin), read, start)
            for i, read, start in self._found
            if begin <= read.position < stop and i in place_of
        ]
        lines = {position: k for k, position in enumerate(dict.fromkeys(position for position, _, _ in mine))}
        kinds = []
        for log_prob in (False, True):
            numbers = [
                (lines[position], token, start + t)
                for position, read, start in mine
                if read.log_prob == log_prob
                for t, token in enumerate(read.tokens)
            ]
            if not numbers:
                continue
            vocabulary = sorted({token for _, token, _ in numbers})
            column_of = {token: column for column, token in enumerate(vocabulary)}
            line, column, places = zip(*((k, t if log_prob else column_of[t], p) for k, t, p in numbers), strict=True)
            kinds.append((log_prob, _index(line, device), _index(column, device), np.array(places), _index(vocabulary, device)))
        largest = max((token for _, read, _ in mine for token in read.tokens), default=-1)
        return Reads(_index([r for r, _ in lines], device), _index([c for _, c in lines], device), tuple(kinds), self._most, largest)

    def answers(self, values: Float[np.ndarray, " number"]) -> list[Answer]:
        """The numbers, sorted into rows and reads."""
        flat, at, answers = values.tolist(), 0, []
        for row in self._batch.rows:
            reads = []
            for read in row.reads:
                reads.append(tuple(flat[at : at + len(read.tokens)]))
                at += len(read.tokens)
            answers.append(Answer(tuple(reads)))
        return answers


def _index(values: Sequence[int], device: torch.device | str) -> Tensor:
    return torch.tensor(values, dtype=torch.long, device=device)


@dataclass(frozen=True)
class Run:
    """An unsteered run of a batch.

    Attributes:
        values: the numbers that the batch's rows ask for.
        streams: level by level, the residual stream that enters the blocks asked for. What leaves the last block
            (``n_layers``) is right where it is read, and perhaps only there.
        pasts: level by level, keys and values up to the level's end, where they were kept.
    """

    values: Float[np.ndarray, " number"]
    streams: tuple[dict[int, Tensor], ...]  # [beginning pos d_model], each level with its own
    pasts: tuple[KeyValueCache | None, ...]


Headers = dict[tuple[tuple[int, ...], tuple[int, ...]], tuple[dict[int, Tensor], KeyValueCache]]


@torch.no_grad()
def run_batch(
    model: Model, batch: Batch, reader: Reader, blocks: Sequence[int] = (), *, keep: bool = False, headers: Headers | None = None
) -> Run:
    """Run a batch once, each different beginning once, and read it.

    Args:
        model: the model; hooks that are on it act.
        batch: the rows.
        reader: of this batch.
        blocks: blocks whose entering streams are returned.
        keep: keep keys and values.
        headers: what the batches before found of a header that all their rows share; this one's is added. It holds for as long
            as the model stays the same.
    """
    last = n_layers(model)
    values = np.empty(reader.size)
    streams: list[dict[int, Tensor]] = []
    pasts: list[KeyValueCache | None] = []
    for k, level in enumerate(batch.levels):
        reads = reader.reads(level.rows, level.start, level.stop)
        past: KeyValueCache | None = None
        if k:
            before = pasts[k - 1]
            past = before.take(level.parent) if before is not None else None
        elif keep or len(batch.levels) > 1:
            past = KeyValueCache(model, len(level.tokens))
        size = (level.tokens.shape[0], level.tokens.shape[1])
        shared = len(level.tokens) == 1 and len(batch.levels) > 1 and not k and headers is not None and not len(reads.rows)
        key = (tuple(level.tokens[0].tolist()), tuple(blocks)) if shared else ((), ())
        if headers is not None and key in headers:
            found, past = headers[key]
        else:
            with mlp_only_at(model, reads.rows, reads.columns, size):
                found = entering(model, level.tokens, sorted({*blocks, last}), past)
            if headers is not None and past is not None and shared:
                headers[key] = found, past
        for _, places, numbers in reads.numbers(model, found[last]):
            values[places] = numbers[0].cpu().numpy()
        streams.append({block: found[block] for block in blocks})
        pasts.append(past)
    return Run(values, tuple(streams), tuple(pasts))
