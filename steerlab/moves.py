"""The problems behind a sweep's counts: which became right or wrong where, and what was answered."""

import hashlib

import pandas as pd

from steerlab._checks import InputError
from steerlab.sweeps import SweepResult
from steerlab.tasks.problems import Problem, written

KEYS = ["layer", "direction", "alpha"]
COLUMNS = ["layer", "alpha", "direction", "problem_id", "prompt", "target", "before", "after", "became", "margin_change"]


def changes(
    sw: SweepResult, *, layer: int | None = None, alpha: float | None = None, direction: str | None = None, became: str | None = None
) -> pd.DataFrame:
    """The problems that changed sides, one line a cell and problem: what is clicked on in a report, and its examples.

    Cells come in order of layer, direction and alpha; in a cell first what became right, then what became wrong, each in
    the order of the data, so that the first few are no selection.

    Args:
        sw: a sweep's result.
        layer, alpha, direction: only these cells; all by default.
        became: "right" or "wrong" for those alone.

    Returns:
        A frame with layer, alpha, direction, problem_id, prompt (the choices, where the prompt is empty), target, before
        and after (the unsteered and the steered prediction; empty where two answers tied), became ("right" or "wrong")
        and margin_change. It has no rows where nothing changed.

    Raises:
        ValueError: the sweep has no such layer, alpha or direction, or `became` is another word.

    Example:
        >>> import pandas as pd
        >>> import steerlab as sl
        >>> base = pd.DataFrame({"problem_id": ["a", "b"], "prediction": ["A", "A"], "correct": [True, False], "margin": [1.0, -1.0], "nll": 0.5})
        >>> problems = tuple(sl.Problem(i, f"Question {i}", target, (" A", " B")) for i, target in (("a", " A"), ("b", " B")))
        >>> cells = base.assign(layer=3, alpha=2.0, direction="d", prediction="B", correct=[False, True], margin=[-0.5, 2.0])
        >>> checks = pd.DataFrame(columns=["layer", "direction", "alpha", "calls", "resid_change", "score_change"])
        >>> found = changes(sl.SweepResult(cells, sl.Evaluation(problems, base, "choice"), (), checks, {}))
        >>> found[["problem_id", "before", "after", "became", "margin_change"]].values.tolist()
        [['b', 'A', 'B', 'right', 3.0], ['a', 'A', 'B', 'wrong', -1.5]]
    """
    if became not in (None, "right", "wrong"):
        raise InputError(f"became={became!r}; use 'right', 'wrong', or leave it out for both")
    cells = sw.frame
    for column, wanted in (("layer", layer), ("alpha", alpha), ("direction", direction)):
        if wanted is None:
            continue
        if not (cells[column] == wanted).any():
            there = ", ".join(map(str, sorted(sw.frame[column].unique())[:12]))
            raise InputError(f"{column}={wanted!r}: this sweep has {column} {there}")
        cells = cells[cells[column] == wanted]
    before = sw.baseline.frame.set_index("problem_id")
    problems = {problem.id: problem for problem in sw.baseline.problems}
    was = cells["problem_id"].map(before["correct"]).astype(bool)
    now = cells["correct"].astype(bool)
    moved = cells.assign(margin_change=cells["margin"] - cells["problem_id"].map(before["margin"]))[was != now]
    ids = moved["problem_id"]
    table = moved[KEYS].assign(
        problem_id=ids,
        prompt=[question(problems[i]) for i in ids],
        target=[wanted_answer(problems[i]) for i in ids],
        before=ids.map(before["prediction"]),
        after=moved["prediction"],
        became=now[was != now].map({True: "right", False: "wrong"}),
        margin_change=moved["margin_change"],
    )
    if became is not None:
        table = table[table["became"] == became]
    place = {problem.id: k for k, problem in enumerate(sw.baseline.problems)}
    order = [*KEYS, "became", "place"]
    return table.assign(place=table["problem_id"].map(place)).sort_values(order, kind="stable")[COLUMNS].reset_index(drop=True)


def question(problem: Problem) -> str:
    """What a reader needs to see of a problem: its prompt, or its choices where there is none."""
    prompt = written(problem.prompt)
    return prompt if prompt.strip() or problem.choices is None else "\n".join(map(written, problem.choices))


def wanted_answer(problem: Problem) -> str:
    """The right answer as text, as predictions are written."""
    return written(problem.answer).strip()


def cell_key(layer: object, alpha: float, direction: object) -> str:
    """The name by which a point of a figure finds the problems behind it; of the direction's own name it holds a digest only."""
    digest = hashlib.sha256(str(direction).encode("utf-8", "surrogatepass")).hexdigest()
    return f"{layer}|{float(alpha):g}|{digest[:12]}"
