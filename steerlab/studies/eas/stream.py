"""Run problems one at a time: up to a layer, decide there what to add, and run on under several variants in one batch.

What is added may depend on the stream at that layer, so nothing can be planned ahead; the prompt still runs to it only once. In
Emergent Activation Snapping a Watcher decides and learns from each answer. (The method is Phase 0 of the sources' research
programme, where it failed.)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any, Unpack

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from steerlab._checks import InputError, check_rng, only, takes_options
from steerlab._html import Result
from steerlab._progress import job, progress_bar
from steerlab.directions.direction import Direction
from steerlab.models.backends import Model
from steerlab.models.batches import Answer, Batch
from steerlab.models.kv_cache import KeyValueCache
from steerlab.models.memory import Limits, PassOptions, generated_rows, logit_values, pass_tokens
from steerlab.models.model import Site, backend_of, d_model, hook_name, is_hooked
from steerlab.models.passes import entering
from steerlab.models.reading import Reader, Run
from steerlab.models.threads import on_suitable_threads
from steerlab.statistics.intervals import wilson_interval
from steerlab.steering import OPERATORS
from steerlab.steering.generation import generate_interventions
from steerlab.steering.variants import Intervention, Placed
from steerlab.steering.wavefront import InterventionLog, SteeredPass
from steerlab.studies.eas.watcher import Glance, Watcher, Watching, random_attractors, variant_named
from steerlab.tasks.evaluation import Plan, check_ids, plan
from steerlab.tasks.problems import Problem, as_problems
from steerlab.tasks.scorers import Outcome, Scorer, scorer_for

Nudge = Float[np.ndarray, " d_model"] | None  # what is added at every position; None adds nothing


class OnlineRunner:
    """Runs a problem up to the output of a layer, and on from there under several nudges."""

    def __init__(self, model: Model, layer: int, **limits: Unpack[Limits]) -> None:
        self._model, self._layer, self._memory = model, int(layer), limits.get("memory")
        self._front = SteeredPass(model, OPERATORS["add"], "all")
        self._room = pass_tokens(model, **limits)
        self._idle = torch.ones(d_model(model))
        self._read: list[tuple[Batch, Reader, Run]] = []
        self._compared = False

    def look(self, work: Plan) -> Float[np.ndarray, " d_model"]:
        """Run the rows of a problem up to the watched layer; return the mean of the stream over the prompt."""
        batches = work.batches(self._model, self._room)
        reading = [batch for batch in batches if not batch.rows[0].new_tokens]
        self._read = [self._to_layer(batch) for batch in reading]
        batch, _, run = self._read[0] if reading else self._to_layer(batches[0])
        parts = [streams[self._layer + 1][level.of[0]] for level, streams in zip(batch.levels, run.streams, strict=True)]
        prompt: Tensor = torch.cat(parts)[: batch.rows[0].prompt_length]
        return prompt.double().mean(0).cpu().numpy()

    def _to_layer(self, batch: Batch) -> tuple[Batch, Reader, Run]:
        reader = Reader(batch, logit_values(self._memory))
        streams: list[dict[int, Tensor]] = []
        past: KeyValueCache | None = None
        for level in batch.levels:
            if len(batch.levels) > 1:
                past = KeyValueCache(self._model, len(level.tokens)) if past is None else past.take(level.parent)
            streams.append(entering(self._model, level.tokens, [self._layer + 1], past))
        return batch, reader, Run(np.zeros(reader.size), tuple(streams), (None,) * len(streams))

    def answer(self, work: Plan, nudges: Sequence[Nudge]) -> tuple[list[Outcome], list[float]]:
        """Outcomes under each nudge of the problem last looked at, and how far each moved the stream, relative to its norm."""
        cells = [self._cell(nudge) for nudge in nudges]
        seen = [InterventionLog() for _ in cells]
        answers = [[Answer()] * len(work.rows) for _ in cells]
        for batch, reader, run in self._read:
            for mine, line in zip(answers, self._front.run(cells, batch, run, reader, self._room, seen), strict=True):
                for i, answer in zip(batch.index, reader.answers(line), strict=True):
                    mine[i] = answer
        for batch in work.batches(self._model, self._room):
            if batch.rows[0].new_tokens:
                self._generate(batch, cells, seen, answers)
        nudged = next((c for c, cell in enumerate(cells) if cell.alpha), None)
        if not self._compared and nudged is not None:
            self._compared = True
            self._front.check_answer(cells[nudged], work.rows[0], answers[nudged][0])
        return [self._judge(work, mine) for mine in answers], [one.resid_change for one in seen]

    def _generate(self, batch: Batch, cells: Sequence[Intervention], seen: Sequence[InterventionLog], answers: list[list[Answer]]) -> None:
        order = sorted(range(len(cells)), key=lambda c: cells[c].alpha)  # those that do nothing come first
        most = generated_rows(self._model, batch.width + batch.rows[0].new_tokens, self._room, self._memory)
        found = generate_interventions(self._front, [cells[c] for c in order], batch, self._room, most, [seen[c] for c in order])
        for c, mine in zip(order, found, strict=True):
            for i, answer in zip(batch.index, mine, strict=True):
                answers[c][i] = answer

    def _cell(self, nudge: Nudge) -> Intervention:
        vector = self._idle if nudge is None else torch.from_numpy(nudge)
        return Intervention((Placed(Direction(vector, self._layer, name="nudge"), Site(self._layer)),), float(nudge is not None))

    def _judge(self, work: Plan, answers: Sequence[Answer]) -> Outcome:
        mine = [Answer(answers[i].reads[which], answers[i].generated) for i, which in work.places[0]]
        return work.scorer.judge(self._model, work.problems[0], mine)


STREAM_COLUMNS = [
    "step", "problem_id", "prediction", "correct", "margin", "nll", "attractor", "similarity", "strength", "nudge", "moved", "clamped",
    "aligned", "entropy", "wins", "updates",
]  # fmt: skip


@dataclass(frozen=True, eq=False)
class EASResult(Result):
    """Outcomes of a stream of problems under one Watcher.

    Attributes:
        frame: one line a problem, in the order of the stream: step, problem_id, prediction, correct, margin, nll; attractor (the nearest
            one, -1 for none), similarity (cosine with it), strength, nudge (norm of what was added), moved (the same relative to the
            stream, at the position where that is largest), clamped (share of coordinates held back), aligned (cosine of the nudge with
            the attractor), entropy (bits of the attractors' use so far); wins and updates before the problem was answered.
        watcher: its settings; None for no Watcher.
        variant: which of `steerlab.studies.eas.watcher.VARIANTS` that is.
        layer: the watched layer; its output is watched and nudged (resid_post).
        before, after: the attractors at the start and at the end, ``[attractor d_model]``.
        seconds: wall time of each problem, which is no part of the frame because it differs from run to run.
        scorer: name of the scorer.
    """

    frame: pd.DataFrame
    watcher: Watcher | None
    variant: str
    layer: int
    before: Float[np.ndarray, "attractor d_model"]
    after: Float[np.ndarray, "attractor d_model"]
    seconds: Float[np.ndarray, " problem"]
    scorer: str

    @property
    def n(self) -> int:
        """Number of problems."""
        return len(self.frame)

    @property
    def accuracy(self) -> float:
        """Share of problems answered rightly."""
        return float(self.frame["correct"].mean())

    def summary(self) -> pd.DataFrame:
        """What was logged, in one line: n, accuracy with its Wilson interval, updates, entropy, nudges and the median latency."""
        low, high = wilson_interval(int(self.frame["correct"].sum()), self.n)
        acted = self.frame[self.frame["nudge"] > 0]
        wins = int((self.frame["correct"].astype(bool) & (self.frame["attractor"] >= 0)).sum())  # what was not looked at moves nothing
        line = {"variant": self.variant, "n": self.n, "accuracy": self.accuracy, "low": low, "high": high}
        line |= {"updates": 0 if self.watcher is None or not self.watcher.updates else wins // self.watcher.every}
        line |= {"entropy": float(self.frame["entropy"].iloc[-1]), "nudged": len(acted) / self.n}
        line |= {"moved": float(acted["moved"].median()) if len(acted) else 0.0, "seconds": float(np.median(self.seconds))}
        return pd.DataFrame([line])

    def __repr__(self) -> str:
        low, high = wilson_interval(int(self.frame["correct"].sum()), self.n)
        return f"EASResult({self.variant!r}, layer={self.layer}, accuracy={self.accuracy:.3f} [{low:.3f}, {high:.3f}], n={self.n})"


@job("problems")
@takes_options
def run_eas(
    model: Model,
    problems: Sequence[Problem],
    *,
    layer: int,
    rng: np.random.Generator,
    watcher: Watcher | None = None,
    variant: str = "watcher",
    scorer: str | Scorer | None = None,
    **options: Unpack[PassOptions],
) -> EASResult:
    """Outcomes of a stream of problems, one at a time, while a Watcher nudges the model and learns from right answers.

    Args:
        problems: the stream, in this order.
        layer: the watched block; its output is watched and nudged, at every position, generated ones included.
        rng: draws the attractors.
        watcher: its settings; default ``Watcher()``, the sources'.
        variant: "watcher", or a baseline: "no_watcher", "no_updates" (the random control), "fixed_strength", "no_clamp", "literal" (what
            the sources' code adds), "matched" (attractors at the norm of what is drawn to them).
        scorer: default the task's own.

    Raises:
        ValueError: bad input, found before the first run.
        RuntimeError: the resumed run disagrees with a plain hooked run.

    Example:
        >>> import steerlab as sl
        >>> stream = sl.load_task("arithmetic", n_train=12, n_validation=0, n_test=0).train
        >>> found = run_eas(sl.load_model("tiny-arithmetic"), stream, layer=3, rng=np.random.default_rng(0))
        >>> found.n, int(found.frame["attractor"].iloc[0])
        (12, -1)
    """
    check_stream(model, problems, layer, rng)
    settings = variant_named(watcher or Watcher(), variant)
    start = random_attractors((watcher or Watcher()).attractors, d_model(model), rng=rng)
    state = None if settings is None else Watching(settings, start)
    frames, seconds = stream(model, problems, [state], layer=layer, scorer=scorer, **options)
    after = start if state is None else state.attractors
    return EASResult(frames[0], settings, variant, int(layer), start, after, seconds, scorer_for(problems, scorer).name)


def check_stream(model: Model, problems: Sequence[Problem], layer: int, rng: np.random.Generator) -> None:
    """Find what is wrong with a stream before anything runs."""
    backend_of(model)
    check_rng(rng)
    as_problems(problems)
    hook_name(model, layer)
    if not problems:
        raise InputError("no problems given; a stream needs at least one")
    check_ids(problems)


@takes_options
@on_suitable_threads
@torch.no_grad()
def stream(
    model: Model,
    problems: Sequence[Problem],
    states: Sequence[Watching | None],
    *,
    layer: int,
    scorer: str | Scorer | None = None,
    **options: Unpack[PassOptions],
) -> tuple[list[pd.DataFrame], Float[np.ndarray, " problem"]]:
    """Answer a stream of problems under several Watchers side by side, each with a memory of its own; None is no Watcher.

    Returns:
        A frame for each Watcher (see `EASResult`), and the seconds of each problem under all of them together.
    """
    chosen = scorer_for(problems, scorer)
    plan(model, problems, chosen)  # what a scorer or the model cannot take is said before the first run
    if chosen.generates and is_hooked(model):
        raise InputError(
            "the model has hooks on it, which generated answers would meet at other positions; leave the block that put them there"
        )
    engine = OnlineRunner(model, layer, **only(options, Limits))
    wins = [0] * len(states)
    lines: list[list[tuple[Any, ...]]] = [[] for _ in states]
    seconds = np.zeros(len(problems))
    for step, problem in enumerate(progress_bar(problems, desc="stream", unit="problem", show=options["progress"])):
        begun = perf_counter()
        work = plan(model, [problem], chosen)
        vector = engine.look(work)
        glances = [None if state is None else state.see(vector) for state in states]
        outcomes, moved = engine.answer(work, [None if glance is None else glance.added for glance in glances])
        for r, (state, glance, outcome) in enumerate(zip(states, glances, outcomes, strict=True)):
            updates = 0 if state is None else state.updates
            said = (outcome.prediction, outcome.correct, outcome.margin, outcome.nll)
            lines[r].append((step, problem.id, *said, *_seen(glance, moved[r]), wins[r], updates))
            wins[r] += outcome.correct
            if state is not None:
                state.learn(correct=outcome.correct)
        seconds[step] = perf_counter() - begun
    return [pd.DataFrame(mine, columns=STREAM_COLUMNS) for mine in lines], seconds


def _seen(glance: Glance | None, moved: float) -> tuple[int | float, ...]:
    """What a frame says of a glance: from the nearest attractor to the entropy."""
    if glance is None:
        return -1, np.nan, 0.0, 0.0, moved, 0.0, np.nan, 0.0
    nudge = 0.0 if glance.added is None else float(np.linalg.norm(glance.added))
    return glance.attractor, glance.similarity, glance.strength, nudge, moved, glance.clamped, glance.aligned, glance.entropy
