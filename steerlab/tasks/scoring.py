"""From problems to the rows that have to be run, and from what was read in them to a frame of outcomes."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from steerlab._checks import InputError
from steerlab.models.backends import Model
from steerlab.models.batches import Answer, Batch, Read, Row, batches_for
from steerlab.models.model import backend_of
from steerlab.tasks.problem import Problem, as_problems
from steerlab.tasks.scorers import Scorer


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
    rows = tuple(Row(key[0], key[1], tuple(merged[key]), key[2]) for key in keys)
    return Plan(tuple(problems), scorer, rows, tuple(tuple((order[k], s) for k, s in mine) for mine in places))
