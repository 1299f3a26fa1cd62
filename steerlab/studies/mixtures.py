"""One vector from a mixture of tasks: does it help those tasks, and a task that was left out?

For each task a mixture of all others is learned from, with as many problems as each single task's vector has. Layer and epoch are
chosen on validation problems of the mixture, so the task that was left out has no part in any choice.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from steerlab._checks import InputError
from steerlab._html import Plotted
from steerlab._progress import Stages, job
from steerlab.aft.aft import LearnedVector, learn_vectors, vectors_work
from steerlab.directions.random import random_directions
from steerlab.models.backends import Model
from steerlab.models.forecasts import forecast
from steerlab.statistics._format import format_p
from steerlab.statistics.multiplicity import holm, rank_tests, significant
from steerlab.steering.operators import Operator
from steerlab.steering.work import rows_of, steered
from steerlab.studies.transfer import chosen_depths
from steerlab.sweeps.effects import effect, points, score_vectors
from steerlab.sweeps.sweep import inert
from steerlab.tasks.problems import Task, check_tasks, drawn, mixture

ALL = "mixture of all"
GROUPS = {
    "mixtures, in distribution": ("mixture", "in"), "mixtures, task left out": ("mixture", "out"), ALL: ("all", "in"),
    "single tasks, own task": ("single", "in"), "single tasks, other tasks": ("single", "out"),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class UniversalBooster(Plotted, figure="forest", drawn="effects"):
    """Effects of mixture vectors and single-task vectors on every task's test problems.

    Attributes:
        frame: one line a vector and task: vector ("mixture of all", "mixture without X", "X alone"), kind ("all", "mixture", "single"), task,
            trained ("in": problems of this task were trained on; "out"), layer, n, baseline, accuracy, change, low, high (95%, Newcombe's
            paired interval), p (exact sign test), margin_change; for mixtures also p_holm (over all mixtures and tasks), random (median change
            of random directions of the same norm), p_random and p_random_all (alone, and paid for all mixtures and tasks).
        means: one line a group: group, cells, tasks, change, low, high: mean change over tasks, each counted once, with a 95% interval over
            test problems. It speaks of these tasks, not of tasks in general.
        rivals: one line a comparison on one task's test problems: task, first, second, n, difference (of accuracy), low, high, p (exact sign
            test), p_holm: the mixture without the task against the vector of the task alone, and against each other task's.
        choices: one line a vector: vector, kind, layer, epoch, norm, problems, candidates, validation_change (the best of so many, so biased upwards).
        vectors: the vectors, by name.
        checks: did the interventions act.
    """

    frame: pd.DataFrame
    means: pd.DataFrame
    rivals: pd.DataFrame
    choices: pd.DataFrame
    vectors: Mapping[str, LearnedVector]
    checks: pd.DataFrame

    def effects(self) -> pd.DataFrame:
        """Lines for `steerlab.plots.effects`: the groups' means, then every mixture on every task."""
        means = self.means.rename(columns={"group": "name"})[["name", "change", "low", "high"]]
        part = self.frame[self.frame["kind"] != "single"]
        names = [f"{v} on {t} ({where})" for v, t, where in zip(part["vector"], part["task"], part["trained"], strict=True)]
        return pd.concat([means, part.assign(name=names)[["name", "change", "low", "high", "n", "p"]]], ignore_index=True)

    def __str__(self) -> str:
        """Whether one vector boosts all tasks, in a few sentences."""
        said = []
        for row in self.means.to_dict("records"):
            verdict = "rises" if row["low"] > 0 else "falls" if row["high"] < 0 else "does not measurably change"
            said.append(
                f"{row['group'][0].upper()}{row['group'][1:]}: accuracy {verdict}, {points(row['change'])} points on average over {row['tasks']} tasks (95% interval "
                f"{points(row['low'], row['high'])})."
            )
        mixed = self.frame[self.frame["kind"] != "single"]
        for where, words in (("in", "in distribution"), ("out", "on the left-out task")):
            part = mixed[mixed["trained"] == where]
            up, down = (int((significant(part["p_holm"]) & (part["change"] * sign > 0)).sum()) for sign in (1, -1))
            beyond = int(significant(part["p_random_all"]).sum())
            said.append(
                f"Of {len(part)} pairs of a mixture and a task {words}, {up} raise and {down} lower accuracy after Holm's correction over all {len(mixed)}; {beyond} lie "
                "beyond random directions of their norm."
            )
        own = self.rivals[self.rivals["second"] == self.rivals["task"] + " alone"]
        worse, better = (int((significant(own["p_holm"]) & (own["difference"] * sign > 0)).sum()) for sign in (-1, 1))
        first: Mapping[Any, Any] = own.iloc[int(own["difference"].abs().argmax())].to_dict()
        said.append(
            f"Against the vector of the task itself, the mixture without it is worse on {worse} and better on {better} of {len(own)} tasks after correction; the largest "
            f"difference is {points(first['difference'])} points on {first['task']} (95% interval {points(first['low'], first['high'])}, "
            f"{format_p(first['p_holm'], digits=2)} corrected). No evidence of a difference is not evidence of equality."
        )
        return " ".join(said)

    def warnings(self) -> list[str]:
        """What a reader must know: vectors that never acted, training that broke off, and how they were chosen."""
        broken = [line for vector in self.vectors.values() for line in vector.warnings()]
        most = int(self.choices["candidates"].max())
        return [
            *inert(self.checks),
            *broken,
            f"Layers are the best of {most} on validation problems of the training tasks; validation_change is biased upwards.",
        ]

    def report_parts(self) -> dict[str, Any]:
        """What `steerlab.write_report` shows of it: question, answer, figures and tables in words."""
        question = "Does one vector from a mixture of tasks raise accuracy on these tasks, and on one that was left out?"
        tables = {
            "booster": ("Every vector on every task.", self.frame),
            "means": ("Means over tasks, with 95% intervals over test problems.", self.means),
            "rivals": ("Mixtures without a task against single tasks' vectors, on that task.", self.rivals),
            "choices": ("What was chosen on validation problems of the training tasks.", self.choices),
        }
        title, caption = (
            f"One vector for {self.frame['task'].nunique()} tasks",
            "Change of accuracy, in and out of distribution, with 95% intervals.",
        )
        return self._page(title, question, caption, tables, directions=list(self.vectors.values()))

    def __repr__(self) -> str:
        return f"UniversalBooster({self.frame['task'].nunique()} tasks, {len(self.vectors)} vectors, {self.frame['n'].iloc[0]:.0f} test problems a task)"

    def summary(self) -> pd.DataFrame:
        """The means: one line a group."""
        return self.means


@job("tasks", "layers", "left_out", "n_train", "n_validation", "n_test", "n_random", "epochs")
def universal_booster(
    model: Model,
    tasks: Mapping[str, Task],
    *,
    rng: np.random.Generator,
    layers: Sequence[int] | None = None,
    left_out: Sequence[str] | None = None,
    n_train: int = 150,
    n_validation: int = 90,
    n_test: int | None = None,
    n_random: int = 39,
    epochs: int = 3,
    lr: float = 1e-2,
    operator: str | Operator = "add",
    progress: bool = False,
) -> UniversalBooster:
    """Effects of mixture vectors on the tasks of the mixture and on a task that was left out.

    Args:
        tasks: names and tasks, at least three, judged by one scorer.
        rng: the only source of chance: problems, seeds, random directions.
        layers: candidates; default a quarter, a half and three quarters of the depth.
        left_out: which tasks are left out, one at a time; default each.
        n_train, n_validation, n_test: problems of every vector (a mixture has no more than a single task), and test problems of each task
            (default all).
        n_random: random directions for each mixture, of its norm and at its layer.
        epochs, lr, operator: see `steerlab.aft.aft.learn_vector`.

    Raises:
        ValueError: fewer than three tasks, an unknown one left out, too few problems, or tasks of different scorers.

    Example:
        >>> import numpy as np, steerlab as sl
        >>> model = sl.load_model("tiny-arithmetic")
        >>> tasks = {name: sl.load_task("arithmetic", variant=name, limit=12) for name in ("story", "equation", "largest")}
        >>> found = sl.universal_booster(model, tasks, rng=np.random.default_rng(0), layers=[4], left_out=["largest"],
        ...     n_train=8, n_validation=6, n_random=3, epochs=1)
        >>> sorted(found.vectors)
        ['equation alone', 'largest alone', 'mixture of all', 'mixture without largest', 'story alone']
    """
    check_tasks(tasks, least=3)
    out = list(tasks) if left_out is None else list(left_out)
    if not out or not set(out) <= set(tasks) or len(set(out)) < len(out):
        raise InputError(f"left_out={out}; give each once, of {', '.join(tasks)}")
    if n_random < 1:
        raise InputError(f"n_random={n_random}; use at least 1 random direction (39 give p-values down to 0.025)")
    parts = {ALL: ("all", tuple(tasks))}
    parts |= {f"mixture without {name}": ("mixture", tuple(n for n in tasks if n != name)) for name in out}
    parts |= {f"{name} alone": ("single", (name,)) for name in tasks}
    where = chosen_depths(model, layers)
    vectors: dict[str, LearnedVector] = {}
    lines = []
    stages = Stages(len(parts) + len(tasks), show=progress)
    if progress:
        ahead = deepcopy(rng)  # the problems that the first mixture will draw; the run's own generator stays where it is
        some = {
            split: mixture({name: getattr(task, split) for name, task in tasks.items()}, n, rng=ahead)
            for split, n in (("train", n_train), ("validation", n_validation))
        }
        how: dict[str, Any] = {"layers": where, "operator": operator}
        made_of = vectors_work(model, some["train"], validation=some["validation"], epochs=epochs, times=len(parts), **how)
        n = len(parts) + n_random * sum(kind != "single" for kind, _ in parts.values())
        for given in tasks.values():
            like = given.test[:n_test]
            made_of.append(steered(model, like, (1 + n) * rows_of(model, like), together=n, **how))
        forecast(model, made_of, show=True, extra=f" in {stages.total} stages")
    for name, (kind, members) in parts.items():
        stages.next(f"learn: {name}")
        train = mixture({n: tasks[n].train for n in members}, n_train, rng=rng)
        validation = mixture({n: tasks[n].validation for n in members}, n_validation, rng=rng)
        seed = int(rng.integers(2**31))
        found = learn_vectors(
            model, train, layers=where, seeds=[seed], lrs=lr, epochs=epochs, validation=validation, operator=operator, progress=progress
        )
        best = found.best()
        vectors[name] = replace(best, name=name)
        gain = float(best.method["validation_accuracy"] - best.method["unsteered_validation_accuracy"])
        lines.append((name, kind, best.layer, best.method["epoch"], best.norm, len(train), len(where), gain))
    columns = ["vector", "kind", "layer", "epoch", "norm", "problems", "candidates", "validation_change"]
    choices = pd.DataFrame(lines, columns=columns)
    tests = {name: task.test if n_test is None else drawn(task.test, n_test, rng=rng, what="test problems") for name, task in tasks.items()}
    mixed = [name for name, (kind, _) in parts.items() if kind != "single"]
    controls = {name: random_directions(vectors[name], n_random, rng=rng, name=f"random like {name}") for name in mixed}
    flat = [*vectors.values(), *(d for name in mixed for d in controls[name])]
    rows, random, rivals, checks, moved = [], [], [], [], {}
    for task, problems in tests.items():
        stages.next(f"test on {task}")
        done = score_vectors(model, problems, [(d, 1.0) for d in flat], operator=operator, progress=progress, label=f"test on {task}")
        checks.append(done.checks)
        after = dict(zip(vectors, done.frames, strict=False))
        base = float(done.baseline.frame["correct"].mean())
        drawn_changes = np.array([frame["correct"].mean() - base for frame in done.frames[len(vectors) :]]).reshape(len(mixed), n_random)
        random.append(drawn_changes)
        for name, frame in after.items():
            kind, members = parts[name]
            about: dict[str, Any] = {"vector": name, "kind": kind, "task": task, "trained": "in" if task in members else "out"}
            about["layer"] = vectors[name].layer
            rows.append(about | effect(done.baseline.frame, frame))
            moved[name, task] = frame["correct"].to_numpy(float) - done.baseline.frame["correct"].to_numpy(float)
        if task in out:
            one = f"mixture without {task}"
            for other in (n for n in parts if parts[n][0] == "single"):
                against = effect(after[other], after[one])
                kept = {key: against[key] for key in ("n", "low", "high", "p")}
                rivals.append({"task": task, "first": one, "second": other, "difference": against["change"], **kept})
    frame = _judged(pd.DataFrame(rows), mixed, np.stack(random, axis=1))
    table = pd.DataFrame(rivals)
    table["p_holm"] = holm(table["p"].to_numpy(float))
    cells = {group: frame[(frame["kind"] == kind) & (frame["trained"] == trained)] for group, (kind, trained) in GROUPS.items()}
    means = pd.DataFrame([_mean(group, some, moved) for group, some in cells.items()])
    return UniversalBooster(frame, means, table, choices, vectors, pd.concat(checks, ignore_index=True))


def _judged(frame: pd.DataFrame, mixed: Sequence[str], random: np.ndarray) -> pd.DataFrame:
    """Corrected p-values of mixtures; `random` is ``[mixture, task, draw]``."""
    tasks = list(dict.fromkeys(frame["task"]))
    lines = frame.index[frame["kind"] != "single"]
    draws = np.array([random[mixed.index(frame.at[i, "vector"]), tasks.index(frame.at[i, "task"])] for i in lines])
    alone, together = rank_tests(frame.loc[lines, "change"].to_numpy(float), draws)
    judged = {"p_holm": holm(frame.loc[lines, "p"].to_numpy(float)), "random": np.median(draws, axis=1)}
    judged |= {"p_random": alone, "p_random_all": together}
    return frame.join(pd.DataFrame(judged, index=lines))


def _mean(group: str, cells: pd.DataFrame, moved: Mapping[tuple[str, str], np.ndarray]) -> dict[str, Any]:
    """Mean change over tasks; several vectors on one task are averaged problem by problem first, because they share its problems."""
    each = [np.mean([moved[v, str(task)] for v in part["vector"]], axis=0) for task, part in cells.groupby("task", sort=False)]
    mean = float(np.mean([d.mean() for d in each]))
    error = float(np.sqrt(sum(d.var(ddof=1) / len(d) for d in each)) / len(each)) if min(map(len, each)) > 1 else float("nan")
    interval = {"low": mean - 1.96 * error, "high": mean + 1.96 * error}
    return {"group": group, "cells": len(cells), "tasks": len(each), "change": mean, **interval}
