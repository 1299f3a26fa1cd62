"""The engine of sweeps and controls: many steered cells of work over one batch, from the steered block on.

Steering block l changes nothing before it, and steering position p nothing before that. Each batch is run once; every cell resumes from the residual stream that
enters the block behind its site, and cells of one block run together as one larger batch. What alpha = 0 gives is the
baseline itself, not a second run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from steerlab.activations import Positions
from steerlab.directions import Direction, check_direction
from steerlab.interventions import Operator, Patch, check_alpha, operator_named, patch
from steerlab.keyvalues import KeyValueCache
from steerlab.models import Model, entering, forward, hook_name, hooks, n_layers, run_from
from steerlab.tasks import Evaluation, Problem, Scorer
from steerlab.tasks.scorers import Answer, scorer_for
from steerlab.tasks.scoring import MAX_TOKENS, Batch, Reader, generate, plan

TOLERANCE = 1e-3  # logits may differ by this much from the plain hooked run before we refuse to go on


@dataclass(frozen=True)
class Cell:
    """One intervention: a small, picklable description of work.

    Attributes:
        direction: what is added.
        alpha: how much of it.
        layer, site: where it acts.
    """

    direction: Direction
    alpha: float
    layer: int
    site: str

    @property
    def resumes_at(self) -> int:
        """The first block that has to run again."""
        return self.layer + 1 if self.site == "resid_post" else self.layer


@dataclass(frozen=True)
class CellRun:
    """What came out of a list of cells.

    Attributes:
        baseline: the unsteered evaluation.
        frames: outcomes of each cell, one line a problem.
        checks: one line a cell: layer, direction, alpha, calls (times that the intervention acted), resid_change
            (largest change of the stream, relative to its norm) and score_change (largest change of a number read).
    """

    baseline: Evaluation
    frames: list[pd.DataFrame]
    checks: pd.DataFrame


@dataclass
class _Seen:
    calls: int = 0
    resid_change: float = 0.0
    score_change: float = 0.0


@torch.no_grad()
def run_cells(
    model: Model,
    problems: Sequence[Problem],
    cells: Sequence[Cell],
    *,
    operator: str | Operator = "add",
    positions: Positions = "all",
    scorer: str | Scorer | None = None,
    max_tokens: int = MAX_TOKENS,
    progress: bool = False,
    label: str = "sweep",
) -> CellRun:
    """Score problems under every cell.

    Raises:
        ValueError: anything wrong with problems, directions, alphas, layers, sites, positions or the operator; found
            before the first run.
        RuntimeError: the resumed run disagrees with the plain hooked run on a sample.
    """
    act = operator_named(operator)
    for cell in cells:
        check_direction(model, cell.direction)
        check_alpha(cell.alpha)
        hook_name(model, cell.layer, cell.site)
    work = plan(model, problems, scorer_for(problems, scorer))
    shortest = min(row.prompt_length for row in work.rows)  # positions that it has, every prompt has
    for cell in cells:
        patch(cell.direction, [cell.alpha], positions=positions, prompt_lengths=[shortest], length=shortest)
    base: list[Answer] = [Answer()] * len(work.rows)
    answers = {k: list(base) for k, cell in enumerate(cells) if cell.alpha != 0}
    seen = {k: _Seen() for k in answers}
    order = sorted(answers, key=lambda k: (cells[k].resumes_at, cells[k].site, cells[k].layer, k))
    settings = _Settings(model, cells, act, positions)
    checked = False
    with tqdm(total=len(work.rows) * (1 + len(order)), desc=label, unit="run", disable=None if progress else True) as bar:
        for generated in (False, True):
            for batch in work.batches(model, generated=generated, max_tokens=max_tokens):
                streams: dict[int, Tensor] = {}
                pasts: dict[int, KeyValueCache] = {}
                reader = Reader(batch.rows)
                before = np.empty(0)
                if generated:
                    found = generate(model, batch.tokens, batch.rows[0].new_tokens)
                else:
                    streams = entering(model, batch.tokens, sorted({cells[k].resumes_at for k in order} | {n_layers(model)}))
                    before = reader.values(model, streams[n_layers(model)])[0]
                    found = reader.answers(before)
                _keep(base, batch, found)
                bar.update(len(batch.index))
                for _, group in groupby(order, key=lambda k: (cells[k].resumes_at, cells[k].site, cells[k].layer)):
                    for chunk in _chunks(list(group), batch, max_tokens):
                        if generated:
                            parts = settings.generate(chunk, batch, pasts, seen)
                            changes = [float(part != found) for part in parts]
                        else:
                            values = settings.run(chunk, batch, streams, pasts, reader, seen)
                            changes = np.abs(values - before).max(axis=1, initial=0).tolist()
                            parts = [reader.answers(line) for line in values]
                            if not checked:
                                settings.compare_with_plain_run(chunk[-1], batch, parts[-1][0])
                                checked = True
                        for k, part, change in zip(chunk, parts, changes, strict=True):
                            _keep(answers[k], batch, part)
                            seen[k].score_change = float(np.maximum(seen[k].score_change, change))  # NaN stays
                        bar.update(len(batch.index) * len(chunk))
    baseline = Evaluation(tuple(problems), work.judge(model, base), work.scorer.name)
    frames = [work.judge(model, answers[k]) if k in answers else baseline.frame for k in range(len(cells))]
    return CellRun(baseline, frames, _checks(cells, seen))


def _keep(into: list[Answer], batch: Batch, found: Sequence[Answer]) -> None:
    for i, answer in zip(batch.index, found, strict=True):
        into[i] = answer


def _chunks(group: list[int], batch: Batch, max_tokens: int) -> list[list[int]]:
    size = max(1, max_tokens // batch.tokens.numel())
    return [group[i : i + size] for i in range(0, len(group), size)]


def _real(batch: Batch, length: int) -> Tensor:
    """Where the rows of a batch hold, or will hold, tokens rather than padding: ``[batch pos]``."""
    ends = torch.tensor([len(row.tokens) + row.new_tokens for row in batch.rows], device=batch.tokens.device)
    return torch.arange(length, device=batch.tokens.device) < ends[:, None]


def _checks(cells: Sequence[Cell], seen: dict[int, _Seen]) -> pd.DataFrame:
    lines = []
    for k, cell in enumerate(cells):
        s = seen.get(k, _Seen())
        lines.append((cell.layer, cell.direction.name, cell.alpha, s.calls, s.resid_change, s.score_change))
    return pd.DataFrame(lines, columns=["layer", "direction", "alpha", "calls", "resid_change", "score_change"])


@dataclass(frozen=True)
class _Settings:
    model: Model
    cells: Sequence[Cell]
    operator: Operator
    positions: Positions

    def patch_for(self, chunk: Sequence[int], batch: Batch, length: int) -> Patch:
        """One patch for several cells stacked over one batch, cell by cell."""
        lengths = [row.prompt_length for row in batch.rows]
        parts = [
            patch(
                self.cells[k].direction,
                [self.cells[k].alpha],
                operator=self.operator,
                positions=self.positions,
                prompt_lengths=lengths,
                length=length,
                device=batch.tokens.device,
            )
            for k in chunk
        ]
        rows, width = len(batch.rows), max(p.vectors.shape[1] for p in parts)
        vectors = torch.cat([p.vectors.expand(rows, width, -1) for p in parts])
        alphas = torch.cat([p.alphas.expand(rows, -1, -1) for p in parts])
        if all(p.mask is None for p in parts):
            return Patch(self.operator, vectors, alphas)
        real = _real(batch, length)  # padding is neither prompt nor generated
        return Patch(self.operator, vectors, alphas, torch.cat([real if p.mask is None else real & p.mask for p in parts]))

    def past(self, batch: Batch, start: int, pasts: dict[int, KeyValueCache], copies: int, block: int) -> KeyValueCache | None:
        """Keys and values of the columns before `start`, which no cell changes, for several copies of the batch."""
        if start <= 0:
            return None
        if start not in pasts:
            pasts[start] = KeyValueCache(self.model, len(batch.rows))
            pasts[start].fill(batch.tokens[:, :start])
        return pasts[start].copies(copies, block)

    def generate(self, chunk: list[int], batch: Batch, pasts: dict[int, KeyValueCache], seen: dict[int, _Seen]) -> list[list[Answer]]:
        """Generated answers of each cell of the chunk."""
        rows, new_tokens = len(batch.rows), batch.rows[0].new_tokens
        tokens = batch.tokens.repeat(len(chunk), 1)
        patched = self.patch_for(chunk, batch, tokens.shape[1] + new_tokens)
        first = min(patched.first(), tokens.shape[1] - 1)  # the last prompt token is always fed: its logits give the first new one
        past = self.past(batch, first, pasts, len(chunk), 0)

        def at(start: int) -> None:
            patched.start = start

        with hooks(self.model, [(self.point(chunk), patched)]):
            flat = generate(self.model, tokens[:, max(first, 0) :], new_tokens, at, past)
        for k in chunk:
            seen[k].calls += patched.calls
        return [flat[i * rows : (i + 1) * rows] for i in range(len(chunk))]

    def run(
        self,
        chunk: list[int],
        batch: Batch,
        streams: dict[int, Tensor],
        pasts: dict[int, KeyValueCache],
        reader: Reader,
        seen: dict[int, _Seen],
    ) -> np.ndarray:
        """Numbers read under each cell of the chunk, ``[cell read]``, resumed at the steered block and the first steered position."""
        block = self.cells[chunk[0]].resumes_at
        patched = self.patch_for(chunk, batch, batch.tokens.shape[1])
        start = min(patched.first(), reader.first)
        patched.start = start
        past = self.past(batch, start, pasts, len(chunk), block)
        tokens = batch.tokens[:, start:].repeat(len(chunk), 1)
        stream, real = streams[block][:, start:].repeat(len(chunk), 1, 1), _real(batch, batch.tokens.shape[1])[:, start:]

        def act(resid: Tensor) -> Tensor:
            steered = patched(resid)
            moved = (steered - resid).norm(dim=-1) / resid.norm(dim=-1).clamp_min(1e-30)
            for k, change in zip(chunk, moved.unflatten(0, (len(chunk), -1))[:, real].amax(-1).tolist(), strict=True):
                seen[k].resid_change = float(np.maximum(seen[k].resid_change, change))
            return steered

        if self.cells[chunk[0]].site == "resid_mid":  # inside the block
            with hooks(self.model, [(self.point(chunk), act)]):
                final = run_from(self.model, stream, block, tokens, past)
        else:
            final = run_from(self.model, act(stream), block, tokens, past)
        for k in chunk:
            seen[k].calls += patched.calls
        return reader.values(self.model, final, len(chunk), start)

    def point(self, chunk: list[int]) -> str:
        """The hook point at which a chunk acts."""
        return hook_name(self.model, self.cells[chunk[0]].layer, self.cells[chunk[0]].site)

    def compare_with_plain_run(self, k: int, batch: Batch, steered: Answer) -> None:
        """Run one row of one cell the plain way, alone and unpadded, with a hook and the whole model."""
        cell, row = self.cells[k], batch.rows[0]
        alone = Batch((0,), (row,), batch.tokens[:1, : len(row.tokens)])
        patched = self.patch_for([k], alone, len(row.tokens))
        with hooks(self.model, [(hook_name(self.model, cell.layer, cell.site), patched)]):
            logits = forward(self.model, alone.tokens)[0].float()
        for wanted, got in zip(row.reads, steered.reads, strict=True):
            line = logits[wanted.position].log_softmax(-1) if wanted.log_prob else logits[wanted.position]
            gap = float((line[list(wanted.tokens)] - torch.tensor(got, device=line.device)).abs().max())
            scale = max(1.0, float(line[list(wanted.tokens)].abs().max()))
            limit = TOLERANCE * scale if next(iter(self.model.parameters())).dtype == torch.float32 else 0.05 * scale
            if not gap <= limit:
                raise RuntimeError(
                    f"layer {cell.layer}, alpha {cell.alpha}: the resumed, batched run gives other scores than the plain hooked run "
                    f"(largest difference {gap:.2g}, allowed {limit:.2g}); results would be wrong. Please report the model's architecture"
                )
