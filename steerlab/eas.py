"""Emergent Activation Snapping: a frozen model and a Watcher that learns, while it answers, where its right answers come from.

Problems come one by one. Each prompt runs once up to the watched layer; the Watcher looks at the stream there, says what to add, and the
rest of the model runs on from there. What several Watchers would do to one problem runs on in one batch, so that baselines are cheap and
see the same stream. (The method is Phase 0 of the sources' research programme, where it failed.)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from time import perf_counter
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from steerlab._checks import InputError, check_rng
from steerlab._progress import job, progress_bar
from steerlab.models.backends import Model
from steerlab.models.model import backend_of, d_model, hook_name, is_hooked
from steerlab.models.threads import on_suitable_threads
from steerlab.nudging import Nudger
from steerlab.statistics.intervals import wilson_interval
from steerlab.tasks.evaluation import check_ids, plan
from steerlab.tasks.problems import Problem, as_problems
from steerlab.tasks.scorers import Outcome, Scorer, scorer_for
from steerlab.watchers import Glance, Watcher, Watching, random_attractors, variant_named

COLUMNS = [
    "step", "problem_id", "prediction", "correct", "margin", "nll", "attractor", "similarity", "strength", "nudge", "moved", "clamped",
    "aligned", "entropy", "wins", "updates",
]  # fmt: skip


@dataclass(frozen=True, eq=False)
class EASResult:
    """A stream of problems under one Watcher.

    Attributes:
        frame: one line a problem, in the order of the stream: step, problem_id, prediction, correct, margin, nll; attractor (the nearest
            one, -1 for none), similarity (cosine with it), strength, nudge (norm of what was added), moved (the same relative to the
            stream, at the position where that is largest), clamped (share of coordinates held back), aligned (cosine of the nudge with
            the attractor), entropy (bits of the attractors' use so far); wins and updates before the problem was answered.
        watcher: its settings; None for no Watcher.
        variant: which of `steerlab.watchers.VARIANTS` that is.
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

    def summary(self) -> pd.Series:
        """What was logged, in one line: n, accuracy with its Wilson interval, updates, entropy, nudges and the median latency."""
        low, high = _wilson(self.frame["correct"])
        acted = self.frame[self.frame["nudge"] > 0]
        wins = int(
            (self.frame["correct"].astype(bool) & (self.frame["attractor"] >= 0)).sum()
        )  # a right answer that was not looked at moves nothing
        return pd.Series(
            {
                "variant": self.variant,
                "n": self.n,
                "accuracy": self.accuracy,
                "low": low,
                "high": high,
                "updates": 0 if self.watcher is None or not self.watcher.updates else wins // self.watcher.every,
                "entropy": float(self.frame["entropy"].iloc[-1]),
                "nudged": len(acted) / self.n,
                "moved": float(acted["moved"].median()) if len(acted) else 0.0,
                "seconds": float(np.median(self.seconds)),
            }
        )

    def __repr__(self) -> str:
        low, high = _wilson(self.frame["correct"])
        return f"EASResult({self.variant!r}, layer={self.layer}, accuracy={self.accuracy:.3f} [{low:.3f}, {high:.3f}], n={self.n})"

    def _repr_html_(self) -> str:
        return f"<p>{escape(repr(self))}</p>" + self.summary().to_frame().T.to_html(index=False, float_format="{:.3f}".format, escape=True)


def _wilson(correct: "pd.Series[Any]") -> tuple[float, float]:
    interval = wilson_interval(int(correct.sum()), len(correct))
    return interval.low, interval.high


@job("problems")
def run_eas(
    model: Model,
    problems: Sequence[Problem],
    *,
    layer: int,
    rng: np.random.Generator,
    watcher: Watcher | None = None,
    variant: str = "watcher",
    scorer: str | Scorer | None = None,
    memory: str | int | None = None,
    progress: bool = False,
) -> EASResult:
    """Answer a stream of problems, one at a time, while a Watcher nudges the model and learns from what it got right.

    Args:
        model: a TransformerLens model.
        problems: the stream, in this order.
        layer: the watched block; its output is watched and nudged, at every position, generated ones included.
        rng: draws the attractors.
        watcher: its settings; default ``Watcher()``, the sources'.
        variant: "watcher", or a baseline: "no_watcher", "no_updates" (the random control), "fixed_strength", "no_clamp", "literal" (what
            the sources' code adds), "matched" (attractors at the norm of what is drawn to them).
        scorer: default the task's own.
        memory: what a forward pass may take, e.g. "2GB".
        progress: show a progress bar.

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
    frames, seconds = stream(model, problems, [state], layer=layer, scorer=scorer, memory=memory, progress=progress)
    after = start if state is None else state.attractors
    return EASResult(frames[0], settings, variant, int(layer), start, after, seconds, scorer_for(problems, scorer).name)


def check_stream(model: Model, problems: Sequence[Problem], layer: int, rng: np.random.Generator) -> None:
    """Find what is wrong with a stream before anything runs.

    Raises:
        TypeError: no model, no list of problems or no generator.
        ValueError: a layer that the model lacks, no problems, or repeated ids.
    """
    backend_of(model)
    check_rng(rng)
    as_problems(problems)
    hook_name(model, layer)
    if not problems:
        raise InputError("no problems given; a stream needs at least one")
    check_ids(problems)


@on_suitable_threads
@torch.no_grad()
def stream(
    model: Model,
    problems: Sequence[Problem],
    states: Sequence[Watching | None],
    *,
    layer: int,
    scorer: str | Scorer | None = None,
    memory: str | int | None = None,
    progress: bool = False,
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
    engine = Nudger(model, layer, memory)
    wins = [0] * len(states)
    lines: list[list[tuple[Any, ...]]] = [[] for _ in states]
    seconds = np.zeros(len(problems))
    for step, problem in enumerate(progress_bar(problems, desc="stream", unit="problem", show=progress)):
        begun = perf_counter()
        work = plan(model, [problem], chosen)
        vector = engine.look(work)
        glances = [None if state is None else state.see(vector) for state in states]
        outcomes, moved = engine.answer(work, [None if glance is None else glance.added for glance in glances])
        for r, (state, glance, outcome) in enumerate(zip(states, glances, outcomes, strict=True)):
            updates = 0 if state is None else state.updates
            lines[r].append((step, problem.id, *_told(outcome), *_seen(glance), moved[r], *_shape(glance), wins[r], updates))
            wins[r] += outcome.correct
            if state is not None:
                state.learn(correct=outcome.correct)
        seconds[step] = perf_counter() - begun
    return [pd.DataFrame(mine, columns=COLUMNS) for mine in lines], seconds


def _told(outcome: Outcome) -> tuple[str, bool, float, float]:
    return outcome.prediction, outcome.correct, outcome.margin, outcome.nll


def _seen(glance: Glance | None) -> tuple[int, float, float, float]:
    if glance is None:
        return -1, np.nan, 0.0, 0.0
    return glance.attractor, glance.similarity, glance.strength, 0.0 if glance.added is None else float(np.linalg.norm(glance.added))


def _shape(glance: Glance | None) -> tuple[float, float, float]:
    return (0.0, np.nan, 0.0) if glance is None else (glance.clamped, glance.aligned, glance.entropy)
