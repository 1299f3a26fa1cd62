"""Next-token distributions of texts under many interventions, compared with the unsteered ones a few positions at a time."""

from collections.abc import Sequence
from functools import partial
from typing import Unpack

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from steerlab._checks import InputError, is_whole, only, takes_options
from steerlab._progress import progress_bar
from steerlab.activations.positions import Positions
from steerlab.models.backends import Model
from steerlab.models.batches import Batch, TokenRow, batches_for, least, smaller
from steerlab.models.encoding import token_ids
from steerlab.models.forecasts import TIMED, Work, forecast
from steerlab.models.memory import parse_memory, pass_tokens, shrinking
from steerlab.models.model import context_length, device_of, n_layers, n_outputs, unknown_tokens
from steerlab.models.passes import entering, forward
from steerlab.models.shortcuts import read_out
from steerlab.models.threads import on_suitable_threads
from steerlab.steering.operators import check_operator, operator_named
from steerlab.steering.options import Acting, TextOptions
from steerlab.steering.variants import Intervention, check_interventions
from steerlab.steering.wavefront import InterventionLog, SteeredPass
from steerlab.tasks.problems import as_texts

NUMBERS = ("kl", "entropy", "nll", "changed")
LOGITS = 1 << 22  # numbers of full-vocabulary logits held at a time
COPIES = 64  # bytes that one of them takes, with the float64 copies made of it
TOGETHER = 32  # cells that one pass holds, if texts are as short as a batch can be cut


def text_rows(model: Model, texts: Sequence[str | Sequence[int]]) -> tuple[TokenRow, ...]:
    """Texts, or lists of token ids, as rows that are prompts from end to end.

    Raises:
        TypeError: a single text.
        ValueError: texts that the model cannot take, that are mostly unknown to its tokenizer, or in which there is nothing to predict.
    """
    found = []
    for i, text in enumerate(as_texts(texts)):
        if not isinstance(text, str) and not all(map(is_whole, text)):
            raise InputError(f"texts[{i}] is {text!r}; give text, or token ids, which are whole numbers")
        tokens = token_ids(model, text) if isinstance(text, str) else [int(token) for token in text]
        strange = [token for token in tokens if not 0 <= token < model.cfg.d_vocab]
        if strange:
            raise InputError(f"texts[{i}]: token {strange[0]}; this model has tokens 0 to {model.cfg.d_vocab - 1}")
        if not 1 <= len(tokens) <= context_length(model):
            raise InputError(f"texts[{i}]: {len(tokens)} tokens; use 1 to {context_length(model)}, which is this model's context")
        found.append(tuple(tokens))
    if not any(len(tokens) > 1 for tokens in found):
        raise InputError(f"{len(found)} texts given, none of them with a second token; there is nothing to predict")
    unknown, total = unknown_tokens(model, found)
    if isinstance(texts[0], str) and 2 * unknown > total:
        raise InputError(f"{unknown} of the texts' {total} tokens are unknown to this model's tokenizer; give texts in words that it has")
    return tuple(TokenRow(tokens, len(tokens)) for tokens in found)


def compare_distributions(
    model: Model, rows: Sequence[TokenRow], cells: Sequence[Intervention], **options: Unpack[TextOptions]
) -> tuple[Float[np.ndarray, "text number"], Float[np.ndarray, "cell text number"]]:
    """Sums of `compare_positions` over each text's positions: without steering, and under each cell."""
    found = compare_positions(model, rows, cells, **options)
    return np.stack([base.sum(0) for base, _ in found]), np.stack([steered.sum(1) for _, steered in found], axis=1)


def mean_kl(
    model: Model, rows: Sequence[TokenRow], cells: Sequence[Intervention], **how: Unpack[TextOptions]
) -> Float[np.ndarray, " cell"]:
    """Mean KL(unsteered || steered) under each cell, in nats a token; `how` is what `compare_distributions` takes."""
    _, sums = compare_distributions(model, rows, cells, **how)
    found: np.ndarray = sums[:, :, NUMBERS.index("kl")].sum(1) / sum(len(row.tokens) for row in rows)
    return found


def positions_on_text(positions: Positions) -> Positions:
    """Where steering of problems acts on a text, which is one long prompt: what acts on all of a prompt, or of an answer, acts on all of it."""
    return "all" if positions in ("prompt", "generated") else positions


@takes_options
@on_suitable_threads
@torch.no_grad()
def compare_positions(
    model: Model, rows: Sequence[TokenRow], cells: Sequence[Intervention], **options: Unpack[TextOptions]
) -> list[tuple[Float[np.ndarray, "pos number"], Float[np.ndarray, "cell pos number"]]]:
    """Next-token distributions position by position, without steering and under each cell; see `NUMBERS`.

    kl is KL(unsteered || steered), entropy that of the steered distribution, nll that of the text's own next token (0 behind
    its last one, unless a row reads a token there, which is then the next; 0 also where the next token is none that the model predicts), and
    changed whether the likeliest token is another one. Cells with alpha = 0 are the unsteered run itself.

    Returns:
        For each text, its numbers without steering and under each cell.

    Raises:
        ValueError: bad input, found before the first run, or logits that become NaN.
        RuntimeError: the resumed run disagrees with a plain hooked run on the shortest text.
    """
    operator, positions, memory, progress = options["operator"], options["positions"], options["memory"], options["progress"]
    check_operator(model, operator, (place.direction for cell in cells for place in cell.places))
    front = SteeredPass(model, operator_named(operator), positions)
    if positions == "generated":
        raise InputError("positions='generated': nothing is generated behind a text; use all, last or the indices of tokens")
    check_interventions(model, cells, positions, min(len(row.tokens) for row in rows))
    room = pass_tokens(model, options["max_tokens"], memory)
    limit = LOGITS if memory is None else min(LOGITS, max(1, parse_memory(memory) // COPIES))
    acting = sorted((k for k, cell in enumerate(cells) if cell.acts), key=lambda k: (cells[k].resumes_at, k))
    found: list[tuple[np.ndarray, np.ndarray]] = [(np.empty(0), np.empty(0))] * len(rows)
    small = max(room // min(TOGETHER, len(acting) + 1), 1)  # short batches, so that many cells share the unsteered logits
    batches = batches_for(model, rows, room=small)

    def run(batch: Batch, room: int) -> tuple[np.ndarray, np.ndarray]:
        return _run(front, batch, [cells[k] for k in acting], room, limit)

    total = len(rows) * (1 + len(acting))
    if progress:
        few = [cells[acting[k]] for k in np.linspace(0, len(acting) - 1, min(TIMED, len(acting))).round().astype(int)]

        def timed(some: Sequence[TokenRow]) -> int:
            compare_positions(model, some, few, **only(options, Acting))
            return len(some) * (1 + len(few))

        forecast(model, [Work("texts", total, rows, timed)], show=True)
    with progress_bar(total=total, desc="side effects", unit="run", show=progress, foretold=True) as bar:
        for batch, (plain, moved) in shrinking(batches, room, run, partial(smaller, rows), least):
            ends = np.cumsum([len(row.tokens) for row in batch.rows])[:-1]
            for i, base, theirs in zip(batch.index, np.split(plain, ends), np.split(moved, ends, axis=1), strict=True):
                steered = np.repeat(base[None], len(cells), axis=0)
                steered[acting] = theirs
                found[i] = base, steered
            bar.update(len(batch.index) * (1 + len(acting)))
    bad = [k for k in range(len(cells)) if any(np.isnan(steered[k]).any() for _, steered in found)]
    if any(np.isnan(base).any() for base, _ in found):
        raise InputError("the model gives NaN for these texts without steering; its weights are damaged or its dtype overflows")
    if bad:
        cell = cells[bad[0]]
        raise InputError(f"{cell.name} at layer {cell.layer}, alpha {cell.alpha:g}: the logits become NaN; use a smaller alpha")
    if acting:
        shortest = min(range(len(rows)), key=lambda i: (len(rows[i].tokens), i))
        for k in {acting[0], acting[-1]}:
            _compare(front, cells[k], rows[shortest], found[shortest][1][k].sum(0))
    return found


def _run(front: SteeredPass, batch: Batch, cells: Sequence[Intervention], room: int, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of a batch's positions, row after row, ``[position number]``, and under each cell; cells come by the block that they resume at."""
    model, last = front.model, n_layers(front.model)
    streams = entering(model, batch.tokens, sorted({last, *(cell.resumes_at for cell in cells)}))
    final, plain = streams[last], _numbers(model, batch, streams[last], streams[last][None], limit)[0]
    plain[:, [NUMBERS.index("kl"), NUMBERS.index("changed")]] = 0.0  # a run compared with itself, whatever rounding says
    found = np.empty((len(cells), *plain.shape))
    size = max(1, room // batch.tokens.numel())
    for first in range(0, len(cells), size):
        some = cells[first : first + size]
        seen = [InterventionLog() for _ in some]
        steered = front.whole(some, batch, streams, seen).unflatten(0, (len(some), -1))
        for k, (one, numbers) in enumerate(zip(seen, _numbers(model, batch, final, steered, limit), strict=True), first):
            found[k] = numbers if one.resid_change else plain  # a stream that did not move gives the unsteered run, whatever rounding says
    return plain, found


def _numbers(
    model: Model, batch: Batch, base: Float[Tensor, "row pos d_model"], steered: Float[Tensor, "cell row pos d_model"], limit: int
) -> Float[np.ndarray, "cell position number"]:
    """The numbers of all positions, row after row, from what leaves the last block; at most about `limit` logits are held at a time."""
    lengths = [len(row.tokens) for row in batch.rows]
    at = [(i, column) for i, length in enumerate(lengths) for column in range(length)]
    rows, columns = (torch.tensor(part, device=base.device) for part in zip(*at, strict=True))
    next_tokens, has_next = _next_tokens(batch)
    width = n_outputs(model)
    following, predicted = next_tokens[rows, columns], has_next[rows, columns] & (next_tokens[rows, columns] < width)
    numbers = torch.empty(len(steered), len(at), len(NUMBERS), dtype=torch.float64, device=base.device)
    positions = max(1, limit // (width * (len(steered) + 1)))
    cells = max(1, limit // (width * positions) - 1)
    for start in range(0, len(at), positions):
        here = slice(start, start + positions)
        row, column = rows[here], columns[here]
        before = read_out(model, base[row, column]).double().log_softmax(-1)
        for first in range(0, len(steered), cells):
            which = slice(first, first + cells)
            part = steered[which, row, column]
            after = read_out(model, part.flatten(0, 1)).double().log_softmax(-1).unflatten(0, part.shape[:2])
            numbers[which, here] = _compared(before, after, following[here], predicted[here])
    return numbers.cpu().numpy()


def _next_tokens(batch: Batch) -> tuple[Int[Tensor, "row pos"], Bool[Tensor, "row pos"]]:
    """The token behind each position, and whether there is one: behind a row's last token the one that the row reads there, which was not run."""
    following = torch.nn.functional.pad(batch.tokens[:, 1:], (0, 1))
    lengths = torch.tensor([len(row.tokens) for row in batch.rows], device=batch.device)[:, None]
    known = torch.arange(batch.width, device=batch.device) + 1 < lengths
    for i, row in enumerate(batch.rows):
        for read in row.reads:
            following[i, read.position], known[i, read.position] = read.tokens[0], True
    return following, known


def _compared(
    before: Float[Tensor, "position d_vocab"],
    after: Float[Tensor, "cell position d_vocab"],
    following: Int[Tensor, " position"],
    predicted: Tensor,
) -> Float[Tensor, "cell position number"]:
    """The numbers of each position, from log-probabilities."""
    p = before.exp()
    gaps = torch.where(p > 0, p * (before - after), 0.0)  # a token of probability 0 costs nothing
    nll = -after[:, torch.arange(len(following), device=after.device), torch.where(predicted, following, 0)]
    kl = gaps.sum(-1).clamp_min(0.0)  # it is never negative, but for rounding
    changed = (before.argmax(-1) != after.argmax(-1)).double()
    return torch.stack([kl, torch.special.entr(after.exp()).sum(-1), torch.where(predicted, nll, 0.0), changed], dim=-1)


def _compare(front: SteeredPass, cell: Intervention, row: TokenRow, found: np.ndarray) -> None:
    """Compare one text under one cell with a plain run; an argmax may tip on a tie, so that counts are not compared."""
    model, alone = front.model, Batch((0,), (row,), device=device_of(front.model))
    before, after = forward(model, alone.tokens)[0].double().log_softmax(-1), front.plainly(cell, row).double().log_softmax(-1)
    following, predicted = (part[0] for part in _next_tokens(alone))
    wanted = _compared(before, after[None], following, predicted & (following < n_outputs(model)))[0].sum(0).cpu().numpy()
    size = float(after[after.isfinite()].abs().max())
    compared = [k for k, name in enumerate(NUMBERS) if name != "changed"]
    front.check_gaps(cell, [(abs(found[k] - wanted[k]) / len(row.tokens), size) for k in compared])
