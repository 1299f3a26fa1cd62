"""The engine of sweeps and controls: many interventions on a list of problems, each compared with a plain hooked run on a sample.

Each batch is run once, and every intervention resumes from it (`steerlab.steering.wavefront`). The result at alpha = 0 is the
baseline itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Unpack

import numpy as np
import pandas as pd
import torch

from steerlab._checks import InputError, only, takes_options
from steerlab._progress import progress_bar
from steerlab.models.backends import Model
from steerlab.models.batches import Answer, Batch, least, smaller
from steerlab.models.forecasts import TIMED, Work, forecast
from steerlab.models.generation import generate_batch
from steerlab.models.memory import generated_rows, logit_values, pass_tokens, shrinking
from steerlab.models.model import Precision, backend_of, dtype_named, in_precision, is_hooked
from steerlab.models.reading import Headers, Reader, run_batch
from steerlab.models.threads import on_suitable_threads
from steerlab.steering.generation import generate_interventions
from steerlab.steering.operators import check_operator, operator_named
from steerlab.steering.options import CellOptions, Scoring
from steerlab.steering.variants import Intervention, check_interventions
from steerlab.steering.wavefront import InterventionLog, SteeredPass
from steerlab.tasks.evaluation import Evaluation, plan
from steerlab.tasks.problems import Problem, as_problems
from steerlab.tasks.scorers import scorer_for

CHECK_COLUMNS = ["layer", "direction", "alpha", "calls", "resid_change", "score_change"]
SAMPLE = 16  # problems, and cells, that a lower precision is compared on
ROUNDING = {torch.float32: 8}  # differently shaped batches may give logits that differ by so many units in the last place of the largest


@dataclass(frozen=True)
class InterventionRun:
    """What came out of a list of cells.

    Attributes:
        baseline: the unsteered evaluation.
        frames: outcomes of each cell, one line a problem.
        checks: one line a cell: layer, direction, alpha, calls (times that the intervention acted), resid_change
            (largest change of the stream, relative to its norm) and score_change (largest change of a number read; 0 where rounding explains it).
        precision: how a lower precision compares with the model's own, where one was asked for.
    """

    baseline: Evaluation
    frames: list[pd.DataFrame]
    checks: pd.DataFrame
    precision: Precision | None = None


@takes_options
@on_suitable_threads
def run_interventions(
    model: Model, problems: Sequence[Problem], cells: Sequence[Intervention], *, label: str = "sweep", **options: Unpack[CellOptions]
) -> InterventionRun:
    """Score problems under every cell; in a precision other than the model's own, compare a sample with the latter.

    Raises:
        ValueError: anything wrong with problems, directions, alphas, layers, sites, positions or the operator; found
            before the first run.
        MemoryError: not even one row of one cell fits into memory.
        RuntimeError: the resumed run disagrees with the plain hooked run on a sample.
    """
    as_problems(problems)
    how, precision, progress = only(options, Scoring), options["precision"], options["progress"]
    backend_of(model)  # a clear error for anything that is no model
    own = next(iter(model.parameters())).dtype
    if precision is None or dtype_named(precision) == own:
        return _run_interventions(model, problems, cells, **how, progress=progress, label=label)
    some = [cells[k] for k in _spread(len(cells), SAMPLE)]
    which = list(_spread(len(problems), SAMPLE))
    # First, so that bad input is found before the model is converted.
    expected = _run_interventions(model, [problems[i] for i in which], some, **how)
    with in_precision(model, precision):
        done = _run_interventions(model, problems, cells, **how, progress=progress, label=label)
    pairs = [(expected.baseline.frame, done.baseline.frame)]
    pairs += [(frame, done.frames[k]) for k, frame in zip(_spread(len(cells), SAMPLE), expected.frames, strict=True)]
    different = sum(int((a["prediction"].to_numpy() != b["prediction"].to_numpy()[which]).sum()) for a, b in pairs)
    name = str(dtype_named(precision)).removeprefix("torch.")
    return replace(done, precision=Precision(name, len(pairs) * len(which), different))


def _spread(n: int, most: int) -> range | list[int]:
    """At most so many of n places, spread evenly."""
    return range(n) if n <= most else np.linspace(0, n - 1, most).round().astype(int).tolist()


def _run_interventions(
    model: Model,
    problems: Sequence[Problem],
    cells: Sequence[Intervention],
    *,
    progress: bool = False,
    label: str = "",
    **how: Unpack[Scoring],
) -> InterventionRun:
    operator, positions, memory = how["operator"], how["positions"], how["memory"]
    check_operator(model, operator, (place.direction for cell in cells for place in cell.places))
    front = SteeredPass(model, operator_named(operator), positions)
    work = plan(model, problems, scorer_for(problems, how["scorer"]))
    check_interventions(model, cells, positions, min(row.prompt_length for row in work.rows))
    if is_hooked(model) and any(row.new_tokens for row in work.rows):
        raise InputError(
            "the model has hooks on it, and answers that are generated in parts would meet them at other positions; "
            "leave the block that put them there, or add their direction to the sweep with together=True"
        )
    room = pass_tokens(model, how["max_tokens"], memory)
    order = sorted((k for k, cell in enumerate(cells) if cell.acts), key=lambda k: (cells[k].resumes_at, cells[k].layer, k))
    engine = _Engine(front, [cells[k] for k in order], memory)
    base = [Answer()] * len(work.rows)
    answers = {k: list(base) for k in order}
    total = len(work.rows) * (1 + len(order))
    if progress:
        few = [cells[order[k]] for k in _spread(len(order), TIMED)]

        def timed(some: Sequence[Problem]) -> int:
            _run_interventions(model, some, few, **how)
            return len(plan(model, some, work.scorer).rows) * (1 + len(few))

        forecast(model, [Work("steered", total, problems, timed)], show=True)
    with progress_bar(total=total, desc=label, unit="run", show=progress, foretold=True) as bar:
        for batch, (plain, steered) in shrinking(work.batches(model, room), room, engine.run, partial(smaller, work.rows), least):
            for place, i in enumerate(batch.index):
                base[i] = plain[place]
                for k, found in zip(order, steered, strict=True):
                    answers[k][i] = found[place]
            bar.update(len(batch.index) * (1 + len(order)))
    baseline = Evaluation(tuple(problems), work.judge(model, base), work.scorer.name)
    frames = [work.judge(model, answers[k]) if k in answers else baseline.frame for k in range(len(cells))]
    return InterventionRun(baseline, frames, _checks(cells, dict(zip(order, engine.seen, strict=True))))


def _checks(cells: Sequence[Intervention], seen: dict[int, InterventionLog]) -> pd.DataFrame:
    logs = [seen.get(k, InterventionLog()) for k in range(len(cells))]
    lines = [(c.layer, c.name, c.alpha, s.calls, s.resid_change, s.score_change) for c, s in zip(cells, logs, strict=True)]
    return pd.DataFrame(lines, columns=CHECK_COLUMNS)


class _Engine:
    """Runs cells, sorted by the block that they resume at, on one batch after the other."""

    def __init__(self, front: SteeredPass, cells: list[Intervention], memory: str | int | None) -> None:
        self._front, self._cells, self._memory = front, cells, memory
        self._compared: set[bool] = set()
        self._headers: Headers = {}
        self.seen = [InterventionLog() for _ in cells]

    @torch.no_grad()
    def run(self, batch: Batch, room: int) -> tuple[list[Answer], list[list[Answer]]]:
        """The batch's answers, unsteered and under each cell."""
        plain, steered = self._generated(batch, room) if batch.rows[0].new_tokens else self._read(batch, room)
        self._compare(batch, steered)
        return plain, steered

    def _generated(self, batch: Batch, room: int) -> tuple[list[Answer], list[list[Answer]]]:
        if not self._cells:
            return generate_batch(self._front.model, batch, room, self._memory, self._headers), []
        # The unsteered answers come from the same pass, as one more cell: a step costs the reading of all weights, whatever the number of rows.
        cells, seen = [Intervention(self._cells[0].places, 0.0), *self._cells], [InterventionLog(), *self.seen]
        longest = batch.width + batch.rows[0].new_tokens
        most = generated_rows(self._front.model, longest, room, self._memory)
        plain, *steered = generate_interventions(self._front, cells, batch, room, most, seen, self._headers)
        for one, theirs in zip(self.seen, steered, strict=True):
            one.score_change = max(one.score_change, float(theirs != plain))
        return plain, steered

    def _read(self, batch: Batch, room: int) -> tuple[list[Answer], list[list[Answer]]]:
        front, cells, reader = self._front, self._cells, Reader(batch, logit_values(self._memory))
        blocks, keep = sorted({cell.resumes_at for cell in cells}), any(share[0].begin > 0 for share in front.shares(cells, batch))
        base = run_batch(front.model, batch, reader, blocks, keep=keep, headers=self._headers)
        values = front.run(cells, batch, base, reader, room, self.seen)
        changes = np.abs(values - base.values).max(axis=1, initial=0)
        dtype = next(iter(front.model.parameters())).dtype
        rounding = ROUNDING.get(dtype, 2) * torch.finfo(dtype).eps * np.abs(base.values).max(initial=1)
        changes[changes <= rounding] = 0
        for one, change in zip(self.seen, changes.tolist(), strict=True):
            one.score_change = float(np.maximum(one.score_change, change))  # NaN stays
        return reader.answers(base.values), [reader.answers(line) for line in values]

    def _compare(self, batch: Batch, steered: Sequence[Sequence[Answer]]) -> None:
        """Compare the first (and shortest) row under two cells with plain runs, once for what is read and once for what is generated."""
        kind = bool(batch.rows[0].new_tokens)
        if self._cells and kind not in self._compared:
            for k in {0, len(self._cells) - 1}:
                self._front.check_answer(self._cells[k], batch.rows[0], steered[k][0])
            self._compared.add(kind)
