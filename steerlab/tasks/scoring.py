"""From problems to rows, from rows to batches, from residual streams to answers, from answers to a frame.

`evaluate` and `sweep` differ only in how a batch's final residual stream comes about; everything else is here.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor

from steerlab.keyvalues import KeyValueCache
from steerlab.models import Model, device_of, read_out
from steerlab.tasks.problem import Problem
from steerlab.tasks.scorers import Answer, Read, Row, Scorer

MAX_TOKENS = 8192  # rows times positions of one forward pass
PADDING = 1.125  # rows share a batch while the longest is at most this much longer than the shortest
READ_VALUES = 1 << 24  # logits computed at a time


@dataclass(frozen=True)
class Batch:
    """Rows of about one length, padded on the right (a causal model never sees the padding).

    Attributes:
        index: place of each row in the plan.
        rows: the rows.
        tokens: their tokens.
    """

    index: tuple[int, ...]
    rows: tuple[Row, ...]
    tokens: Int[Tensor, "batch pos"]


@dataclass(frozen=True)
class Plan:
    """What has to be run for a list of problems: every different row once.

    Attributes:
        problems: the problems.
        scorer: their scorer.
        rows: the different rows, with all that is read from each.
        places: for each problem and each of its rows, the row's place in `rows` and which of its reads are meant.
    """

    problems: tuple[Problem, ...]
    scorer: Scorer
    rows: tuple[Row, ...]
    places: tuple[tuple[tuple[int, slice], ...], ...]

    def batches(self, model: Model, *, generated: bool, max_tokens: int = MAX_TOKENS) -> Iterator[Batch]:
        """The rows that generate, or (False) the others, in batches; see `row_batches`."""
        yield from row_batches(model, self.rows, generated=generated, max_tokens=max_tokens)

    def judge(self, model: Model, answers: Sequence[Answer]) -> pd.DataFrame:
        """Outcomes, one line a problem: problem_id, prediction, correct, margin, nll."""
        lines = []
        for problem, places in zip(self.problems, self.places, strict=True):
            mine = [Answer(answers[i].reads[which], answers[i].generated) for i, which in places]
            outcome = self.scorer.judge(model, problem, mine)
            lines.append((problem.id, outcome.prediction, outcome.correct, outcome.margin, outcome.nll))
        return pd.DataFrame(lines, columns=["problem_id", "prediction", "correct", "margin", "nll"])


def row_batches(model: Model, rows: Sequence[Row], *, generated: bool = False, max_tokens: int = MAX_TOKENS) -> Iterator[Batch]:
    """Group rows by length; rows that generate share one length exactly, so that none is padded.

    Args:
        model: tells the device.
        rows: what has to run.
        generated: the rows that generate, or (False) the others.
        max_tokens: rows times positions of one batch; at least one row goes into each.
    """
    mine = [i for i, row in enumerate(rows) if bool(row.new_tokens) == generated]
    chosen = sorted(mine, key=lambda i: (len(rows[i].tokens), i))
    slack = 1.0 if generated else PADDING
    start = 0
    while start < len(chosen):
        shortest = len(rows[chosen[start]].tokens)
        stop = start + 1
        while stop < len(chosen):
            longest = len(rows[chosen[stop]].tokens)
            if longest > slack * shortest or (stop - start + 1) * longest > max_tokens:
                break
            stop += 1
        yield _batch(rows, chosen[start:stop], device_of(model))
        start = stop


def _batch(rows: Sequence[Row], index: Sequence[int], device: torch.device) -> Batch:
    picked = tuple(rows[i] for i in index)
    tokens = torch.zeros(len(picked), max(len(row.tokens) for row in picked), dtype=torch.long)
    for i, row in enumerate(picked):
        tokens[i, : len(row.tokens)] = torch.tensor(row.tokens)
    return Batch(tuple(index), picked, tokens.to(device))


def check_ids(problems: Sequence[Problem]) -> None:
    """Make sure that results can be joined on the problems' ids.

    Raises:
        ValueError: repeated ids.
    """
    ids = [problem.id for problem in problems]
    if len(set(ids)) < len(ids):
        repeated = next(i for i in ids if ids.count(i) > 1)
        raise ValueError(f"problem id {repeated!r} appears {ids.count(repeated)} times; ids must be unique")


def plan(model: Model, problems: Sequence[Problem], scorer: Scorer) -> Plan:
    """List the different rows of the problems.

    Raises:
        ValueError: no problems, repeated ids, or a problem that the scorer or the model cannot take.
    """
    if not problems:
        raise ValueError("no problems given; an empty split cannot be scored")
    check_ids(problems)
    merged: dict[tuple[tuple[int, ...], int, int], list[Read]] = {}
    keys = list[tuple[tuple[int, ...], int, int]]()
    places = []
    for problem in problems:
        mine = []
        for row in scorer.rows(model, problem):
            key = (row.tokens, row.prompt_length, row.new_tokens)
            if key not in merged:
                merged[key] = []
                keys.append(key)
            reads = merged[key]
            mine.append((key, slice(len(reads), len(reads) + len(row.reads))))
            reads.extend(row.reads)
        places.append(mine)
    order = {key: i for i, key in enumerate(keys)}
    rows = tuple(Row(key[0], key[1], tuple(merged[key]), key[2]) for key in keys)
    return Plan(tuple(problems), scorer, rows, tuple(tuple((order[k], s) for k, s in mine) for mine in places))


class Reader:
    """Reads what a batch's rows ask for from the residual stream that leaves the last block; nothing else is unembedded."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self._rows = rows
        self._kinds: list[tuple[bool, Tensor, Tensor, Tensor, Tensor, Tensor]] = []
        found = [(i, read) for i, row in enumerate(rows) for read in row.reads]
        sizes = [len(read.tokens) for _, read in found]
        self.size = sum(sizes)
        self.first = min((read.position for _, read in found), default=0)
        starts = np.concatenate([[0], np.cumsum(sizes)])
        for log_prob in (False, True):
            mine = [(i, read, int(start)) for (i, read), start in zip(found, starts, strict=False) if read.log_prob == log_prob]
            if not mine:
                continue
            line = [k for k, (_, read, _) in enumerate(mine) for _ in read.tokens]
            tokens = [token for _, read, _ in mine for token in read.tokens]
            columns = sorted(set(tokens))
            column = tokens if log_prob else [columns.index(token) for token in tokens]
            place = [start + t for _, read, start in mine for t in range(len(read.tokens))]
            where = ([i for i, _, _ in mine], [read.position for _, read, _ in mine], line, column, place)
            rows_at, positions, lines, cols, places = (torch.tensor(x) for x in where)
            self._kinds.append((log_prob, rows_at, positions, lines, torch.stack([cols, places]), torch.tensor(columns)))

    @torch.no_grad()
    def values(
        self, model: Model, final: Float[Tensor, "batch pos d_model"], copies: int = 1, start: int = 0
    ) -> Float[np.ndarray, "copy read"]:
        """The numbers read, for one or several copies of the batch stacked over each other.

        Args:
            model: the model.
            final: the residual stream that leaves the last block.
            copies: how often the batch is stacked.
            start: position of the first column of `final`.
        """
        stacked = final.unflatten(0, (copies, len(self._rows)))
        out = np.empty((copies, self.size))
        for log_prob, rows_at, positions, lines, (columns, places), vocabulary in self._kinds:
            resid = stacked[:, rows_at, positions - start]
            step = max(1, READ_VALUES // ((model.cfg.d_vocab if log_prob else len(vocabulary)) * resid.shape[1]))
            for done in range(0, copies, step):
                part = resid[done : done + step]
                logits = read_out(model, part.flatten(0, 1), None if log_prob else vocabulary.to(final.device)).float()
                if log_prob:
                    logits = logits - logits.logsumexp(-1, keepdim=True)
                picked = logits.unflatten(0, part.shape[:2])[:, lines, columns]
                out[done : done + step, places.numpy()] = picked.cpu().numpy()
        return out

    def answers(self, values: Float[np.ndarray, " read"]) -> list[Answer]:
        """The numbers of one copy, sorted into rows and reads."""
        flat, at, answers = values.tolist(), 0, []
        for row in self._rows:
            reads = []
            for read in row.reads:
                reads.append(tuple(flat[at : at + len(read.tokens)]))
                at += len(read.tokens)
            answers.append(Answer(tuple(reads)))
        return answers


@torch.no_grad()
def generate(
    model: Model,
    tokens: Int[Tensor, "batch pos"],
    new_tokens: int,
    before_step: Callable[[int], None] = lambda start: None,
    past: KeyValueCache | None = None,
) -> list[Answer]:
    """Continue rows of one length greedily with cached keys and values, each until its end token.

    Args:
        model: the model.
        tokens: prompts of one length, or what of them is not in `past`; at least one token.
        new_tokens: at most so many are generated.
        before_step: called with the position of the first token that is fed next.
        past: keys and values of what stands before `tokens`; they are added to.
    """
    end = model.tokenizer.eos_token_id
    cache = past or KeyValueCache(model, len(tokens))
    step, made, running = tokens, [], torch.ones(len(tokens), dtype=torch.bool, device=tokens.device)
    for _ in range(new_tokens):
        before_step(cache.length)
        chosen = cache.next_logits(step).argmax(-1)
        made.append(chosen)
        if end is not None:
            running &= chosen != end
        if not bool(running.any()):
            break
        step = chosen[:, None]
    lines = torch.stack(made, 1).tolist()
    return [Answer(generated=tuple(line[: line.index(end)] if end in line else line)) for line in lines]
