"""Score a model on problems (`evaluate`), and balance those that it got right and wrong (`balance`)."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Unpack

import numpy as np
import pandas as pd
import torch

from steerlab._checks import InputError, InputTypeError, check_rng, takes_options
from steerlab._html import Result
from steerlab._progress import job, progress_bar
from steerlab.models.backends import Model
from steerlab.models.batches import Answer, Batch, Read, TokenRow, batches_for, least, smaller
from steerlab.models.generation import generate_batch
from steerlab.models.memory import PassOptions, logit_values, pass_tokens, shrinking
from steerlab.models.model import backend_of
from steerlab.models.reading import Headers, Reader, run_batch
from steerlab.models.threads import on_suitable_threads
from steerlab.statistics.intervals import Interval, wilson_interval
from steerlab.tasks.groups import groups_of
from steerlab.tasks.problems import Problem, as_problems
from steerlab.tasks.scorers import Scorer, scorer_for


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
    rows: tuple[TokenRow, ...]
    places: tuple[tuple[tuple[int, slice], ...], ...]

    def batches(self, model: Model, room: int) -> list[Batch]:
        """All rows in batches of at most `room` positions, those that generate last; see `batches_for`."""
        return [batch for generated in (False, True) for batch in batches_for(model, self.rows, generated=generated, room=room, share=True)]

    def judge(self, model: Model, answers: Sequence[Answer]) -> pd.DataFrame:
        """Outcomes, one line a problem: problem_id, prediction, correct, margin, nll."""
        lines = []
        for problem, places in zip(self.problems, self.places, strict=True):
            mine = [Answer(answers[i].reads[which], answers[i].generated) for i, which in places]
            outcome = self.scorer.judge(model, problem, mine)
            lines.append((problem.id, outcome.prediction, outcome.correct, outcome.margin, outcome.nll))
        return pd.DataFrame(lines, columns=["problem_id", "prediction", "correct", "margin", "nll"])


def check_ids(problems: Sequence[Problem]) -> None:
    """Make sure that results can be joined on the problems' ids.

    Raises:
        TypeError: something else than problems.
        ValueError: repeated ids.
    """
    as_problems(problems)
    ids = [problem.id for problem in problems]
    if len(set(ids)) < len(ids):
        repeated = next(i for i in ids if ids.count(i) > 1)
        raise InputError(f"problem id {repeated!r} appears {ids.count(repeated)} times; ids must be unique")


def plan(model: Model, problems: Sequence[Problem], scorer: Scorer) -> Plan:
    """List the different rows of the problems.

    Raises:
        ValueError: no problems, repeated ids, or a problem that the scorer or the model cannot take.
    """
    backend_of(model)  # a clear error for anything that is no model
    check_ids(problems)
    if not problems:
        raise InputError("no problems given; an empty split cannot be scored")
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
    rows = tuple(TokenRow(key[0], key[1], tuple(merged[key]), key[2]) for key in keys)
    return Plan(tuple(problems), scorer, rows, tuple(tuple((order[k], s) for k, s in mine) for mine in places))


@dataclass(frozen=True, eq=False)
class Evaluation(Result, title="Evaluation", shown="n accuracy interval scorer"):
    """Predictions and outcomes of a model, one line a problem.

    Attributes:
        problems: the problems, in the order of the frame.
        frame: one line a problem: problem_id, prediction, correct, margin, nll.
        scorer: name of the scorer.
    """

    problems: tuple[Problem, ...]
    frame: pd.DataFrame
    scorer: str

    @property
    def n(self) -> int:
        """Number of problems."""
        return len(self.problems)

    @cached_property
    def accuracy(self) -> float:
        """Share of problems answered rightly."""
        return float(self.frame["correct"].mean())

    def interval(self, *, confidence: float = 0.95) -> Interval:
        """Wilson interval of the accuracy."""
        return wilson_interval(int(self.frame["correct"].sum()), self.n, confidence=confidence)

    def correct(self) -> list[Problem]:
        """The problems answered rightly."""
        return [p for p, ok in zip(self.problems, self.frame["correct"], strict=True) if ok]

    def incorrect(self) -> list[Problem]:
        """The problems answered wrongly."""
        return [p for p, ok in zip(self.problems, self.frame["correct"], strict=True) if not ok]

    def __repr__(self) -> str:
        interval = self.interval()
        return f"Evaluation(accuracy={self.accuracy:.3f} [{interval.low:.3f}, {interval.high:.3f}], n={self.n}, scorer={self.scorer!r})"


@job("problems")
@takes_options
@on_suitable_threads
@torch.no_grad()
def evaluate(
    model: Model, problems: Sequence[Problem], *, scorer: str | Scorer | None = None, **options: Unpack[PassOptions]
) -> Evaluation:
    """Predictions, outcomes and margins of a model on problems.

    Args:
        model: a TransformerLens model; hooks that are on it act.
        problems: what to ask.
        scorer: default the task's own; see `steerlab.tasks.scorers.scorer_for`.

    Raises:
        ValueError: no problems, or problems that the scorer or model cannot take.

    Example:
        >>> import steerlab as sl
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic")
        >>> sl.evaluate(model, task.train[:40])
        Evaluation(accuracy=0.750 [0.598, 0.858], n=40, scorer='choice')
    """
    backend_of(model)  # a clear error for anything that is no model
    chosen = scorer_for(problems, scorer)
    work = plan(model, problems, chosen)
    answers: list[Answer] = [Answer()] * len(work.rows)
    memory = options["memory"]
    room = pass_tokens(model, options["max_tokens"], memory)
    headers: Headers = {}

    def run(batch: Batch, room: int) -> list[Answer]:
        if batch.rows[0].new_tokens:
            return generate_batch(model, batch, room, memory, headers)
        reader = Reader(batch, logit_values(memory))
        return reader.answers(run_batch(model, batch, reader, headers=headers).values)

    with progress_bar(total=len(work.rows), desc="evaluate", unit="row", show=options["progress"]) as bar:
        for batch, found in shrinking(work.batches(model, room), room, run, partial(smaller, work.rows), least):
            for i, answer in zip(batch.index, found, strict=True):
                answers[i] = answer
            bar.update(len(batch.index))
    frame = work.judge(model, answers)
    broken = frame.loc[frame["margin"].isna(), "problem_id"]
    if len(broken):
        raise InputError(
            f"the model gives NaN for {len(broken)} of {len(frame)} problems, {broken.iloc[0]!r} first; its weights are damaged or its dtype overflows"
        )
    return Evaluation(tuple(problems), frame, chosen.name)


@dataclass(frozen=True)
class Balanced(Result):
    """Equally many problems that a model got right and wrong, split into train and test."""

    train_correct: list[Problem]
    train_incorrect: list[Problem]
    test_correct: list[Problem]
    test_incorrect: list[Problem]

    def __repr__(self) -> str:
        groups = ("train_correct", "train_incorrect", "test_correct", "test_incorrect")
        return f"Balanced({', '.join(f'{group}={len(getattr(self, group))}' for group in groups)})"

    @property
    def frame(self) -> pd.DataFrame:
        """One line a problem: problem_id, split ("train" or "test"), correct."""
        groups = [("train", True, self.train_correct), ("train", False, self.train_incorrect), ("test", True, self.test_correct)]
        lines = [(p.id, split, ok) for split, ok, group in [*groups, ("test", False, self.test_incorrect)] for p in group]
        return pd.DataFrame(lines, columns=["problem_id", "split", "correct"])

    def summary(self) -> pd.DataFrame:
        """One line a split and side: split, correct, n."""
        return self.frame.groupby(["split", "correct"], sort=False).size().rename("n").reset_index()

    @property
    def train(self) -> list[Problem]:
        """Right ones, then wrong ones."""
        return self.train_correct + self.train_incorrect

    @property
    def test(self) -> list[Problem]:
        """Right ones, then wrong ones."""
        return self.test_correct + self.test_incorrect


def balance(evaluation: Evaluation, *, rng: np.random.Generator, train: float = 0.8) -> Balanced:
    """Equally many right and wrong problems, drawn at random and split alike.

    No group (`Problem.group`) stands on both sides: where several problems have one, whole groups in random order go to train, as many as bring its
    share of the balanced problems nearest to `train`.

    Args:
        evaluation: what the model got right and wrong.
        rng: draws the problems that are kept and the split.
        train: share that goes to train; the rest is test.

    Raises:
        ValueError: nothing right or nothing wrong, or a share outside (0, 1].

    Example:
        >>> import numpy as np, steerlab as sl
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic")
        >>> evaluation = sl.evaluate(model, task.train[:40])
        >>> sl.balance(evaluation, rng=np.random.default_rng(0))
        Balanced(train_correct=8, train_incorrect=8, test_correct=2, test_incorrect=2)
    """
    check_rng(rng)
    if not isinstance(evaluation, Evaluation):
        raise InputTypeError(f"evaluation is a {type(evaluation).__name__}; give what steerlab.evaluate(model, problems) returned")
    if not 0 < train <= 1:
        raise InputError(f"train={train}; use a share above 0 and at most 1")
    right, wrong = evaluation.correct(), evaluation.incorrect()
    for name, found in (("right", right), ("wrong", wrong)):
        if not found:
            raise InputError(
                f"none of the {evaluation.n} problems was answered {name}; a contrast needs both. "
                "Use more problems, an easier or harder task, or another model"
            )
    groups = groups_of([*right, *wrong])
    names = list(dict.fromkeys(groups))
    if train < 1 and len(names) < len(groups):
        return _balanced_by_group(right, wrong, [names[i] for i in rng.permutation(len(names))], rng, train)
    n = min(len(right), len(wrong))
    n_train = round(train * n)
    if n_train == 0:
        raise InputError(f"train={train} of {n} balanced pairs leaves none to train on; use a larger share or more problems")
    kept = [[group[i] for i in rng.permutation(len(group))[:n]] for group in (right, wrong)]
    return Balanced(kept[0][:n_train], kept[1][:n_train], kept[0][n_train:], kept[1][n_train:])


def _balanced_by_group(right: list[Problem], wrong: list[Problem], order: list[str], rng: np.random.Generator, train: float) -> Balanced:
    """The first groups of an order to train, the others to test; each side balanced by a draw from the larger class."""
    place = {group: i for i, group in enumerate(order)}
    sides = [np.array([place[group] for group in groups_of(found)]) for found in (right, wrong)]
    firsts = np.array([np.cumsum(np.bincount(at, minlength=len(order))) for at in sides])  # of right, of wrong in the first 1, 2, … groups
    n_train, n_test = firsts.min(axis=0), (firsts[:, -1:] - firsts).min(axis=0)
    n, usable = n_train + n_test, np.flatnonzero(n_train * n_test)
    if not usable.size:
        raise InputError(
            f"{len(order)} group(s) leave train or test without a right or a wrong problem where each group is on one side; use more problems, or train=1"
        )
    k = min(usable, key=lambda k: (abs(n_train[k] / n[k] - train), -n[k]))
    parts = []
    for first, n in ((True, n_train[k]), (False, n_test[k])):
        for found, at in zip((right, wrong), sides, strict=True):
            members = np.flatnonzero((at <= k) == first)
            parts.append([found[i] for i in rng.permutation(members)[:n]])
    return Balanced(*parts)
