"""The main protocol over several split seeds, its effects pooled: how much of a result is the split?

Splits of one pool overlap: seeds share problems, and the model. They are not independent repetitions of an experiment, and what is pooled is about this
pool and this model; its interval says nothing of other problems.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from steerlab._checks import InputError, one_of
from steerlab._html import Plotted
from steerlab._progress import progress_bar
from steerlab.controls.pipelines import SIDES
from steerlab.models.backends import Model
from steerlab.statistics.paired import sign_flip_test
from steerlab.statistics.pooling import PooledEffect, pooled_effect
from steerlab.statistics.verdicts import verdict
from steerlab.studies.protocol import Experiment, run_experiment, stream
from steerlab.sweeps.effects import change_interval
from steerlab.tasks.problems import Task, check_task, content


@dataclass(frozen=True, eq=False)
class Repeats(Plotted, figure="forest", drawn="effects"):
    """The main protocol with several seeds.

    Attributes:
        frame: one line a seed and goal: seed, goal, layer, alpha, n, change (on test) with low and high (95%, paired, by group), p_effect and p_controls
            (one-sided; the latter the largest over the kinds of control pipelines; both uncorrected), verdict.
        measure: what was chosen by and tested.
        overlap: share of a seed's test problems that stand in another seed's test, in the mean over pairs of seeds.
    """

    frame: pd.DataFrame
    measure: str
    overlap: float

    @property
    def goals(self) -> tuple[str, ...]:
        """What cells were chosen for."""
        return tuple(dict.fromkeys(self.frame["goal"]))

    def pooled(self, goal: str = "raise") -> PooledEffect:
        """The mean change over seeds, how much it differs between them, and each seed's drawn towards the mean; about this pool of problems.

        Raises:
            ValueError: a goal that no cell was chosen for, or a seed that changed nothing at all of a measure that is not accuracy.
        """
        one_of(goal, "goal", self.goals)
        rows = self.frame[self.frame["goal"] == goal]
        errors = (rows["high"] - rows["low"]).to_numpy(float) / 2 / norm.isf(0.025)
        return pooled_effect(rows["change"].to_numpy(float), errors, [f"seed {seed}, to {goal}" for seed in rows["seed"]])

    def summary(self) -> pd.DataFrame:
        """One line a goal: goal, seeds, mean with low and high, tau (sd between seeds), cells (how many different ones were chosen), verdict (the commonest)
        and agree (seeds with it).
        """
        lines = []
        for goal in self.goals:
            rows, found = self.frame[self.frame["goal"] == goal], self.pooled(goal)
            verdicts = rows["verdict"].value_counts()
            lines.append(
                {"goal": goal, "seeds": len(rows), "mean": found.mean, "low": found.interval.low, "high": found.interval.high, "tau": found.tau,
                 "cells": len(rows[["layer", "alpha"]].drop_duplicates()), "verdict": verdicts.index[0], "agree": int(verdicts.iloc[0])}
            )  # fmt: skip
        return pd.DataFrame(lines)

    def effects(self) -> pd.DataFrame:
        """What `steerlab.plots.forest` draws: the change of each seed, and the mean of each goal."""
        parts = []
        for goal in self.goals:
            rows, found = self.frame[self.frame["goal"] == goal], self.pooled(goal)
            names = [f"seed {seed}, to {goal}" for seed in rows["seed"]]
            parts.append(rows.assign(name=names)[["name", "change", "low", "high"]])
            parts.append(pd.DataFrame([(f"mean, to {goal}", found.mean, *found.interval)], columns=["name", "change", "low", "high"]))
        return pd.concat(parts, ignore_index=True)

    def warnings(self) -> list[str]:
        """What a reader must know: seeds are not independent."""
        return [
            f"{100 * self.overlap:.0f}% of a seed's test problems stand in another seed's test (in the mean), and all seeds share the model: intervals over "
            "seeds are about this pool of problems."
        ]

    def __str__(self) -> str:
        lines = [
            f"to {row['goal']} {self.measure}: {row['mean']:+.4g} ({row['low']:+.4g} to {row['high']:+.4g}) over {row['seeds']} seeds, sd between them "
            f"{row['tau']:.3g}, {row['cells']} different cells chosen; {row['verdict']} with {row['agree']} seeds"
            for row in self.summary().to_dict("records")
        ]
        return "; ".join(lines)

    def __repr__(self) -> str:
        return f"Repeats({self})"


def repeat_experiment(
    model: Model, task_of_seed: Callable[[int], Task], *, seeds: Sequence[int] = (0, 1, 2, 3, 4), progress: bool = False, **options: Any
) -> Repeats:
    """The main protocol for each seed, on the splits that belong to it, and its effects pooled over seeds.

    Args:
        task_of_seed: gives the task as a seed splits it, such as ``lambda seed: sl.load_task("blimp", path=FILE, seed=seed)``.
        seeds: at least two, each once.
        progress: show a progress bar.
        options: those of `steerlab.run_experiment`.

    Raises:
        ValueError: fewer than two seeds, a seed twice, or what the main protocol says.

    Source:
        Hierarchical summary as in `steerlab.statistics.pooled_effect`. Overlapping splits: Nadeau and Bengio (2003), Machine Learning 52, 239-281.

    Example:
        >>> import steerlab as sl
        >>> model = sl.load_model("tiny-arithmetic")
        >>> found = sl.repeat_experiment(model, lambda seed: sl.load_task("arithmetic", limit=16, seed=seed), seeds=[0, 1], layers=[3],
        ...     alphas=[-2, 0, 2], n_controls=2, n_same_cell=1)
        >>> found.summary()["seeds"].tolist()
        [2, 2]
    """
    if len(seeds) < 2 or len(set(seeds)) < len(seeds):
        raise InputError(f"seeds={list(seeds)}; give at least two, each once")
    lines: list[dict[str, Any]] = []
    tested: list[set[Any]] = []
    measure = ""
    for seed in progress_bar(seeds, desc="seeds", unit="seed", show=progress):
        task = task_of_seed(seed)
        check_task(task)
        experiment = run_experiment(model, task, seed=seed, **options)
        measure = experiment.measure
        tested.append({content(problem) for problem in task.test})
        lines += [_line(experiment, seed, number) for number in range(len(experiment.goals))]
    shares = [len(a & b) / min(len(a), len(b)) for a, b in combinations(tested, 2)]
    return Repeats(pd.DataFrame(lines), measure, float(np.mean(shares)))


def _line(experiment: Experiment, seed: int, number: int) -> dict[str, Any]:
    """What one seed found for one goal: the tests of the main job's report."""
    goal, first = experiment.goals[number], experiment.pipelines[0]
    before, after = first.paired(goal)
    groups = first.groups if len(set(first.groups)) < len(first.groups) else None
    rng = stream(seed, "questions", 3 + number)
    effect = sign_flip_test(before, after, rng=rng, groups=groups, alternative=SIDES[goal])  # type: ignore[arg-type]
    against = {one.kind: one.test(goal).pvalue for one in experiment.pipelines}
    low, high = change_interval(before, after, first.groups)
    cell = experiment.cell(goal)
    return {
        "seed": seed, "goal": goal, "layer": cell.layer, "alpha": cell.alpha, "n": len(before),
        "change": float(after.astype(float).mean() - before.astype(float).mean()), "low": low, "high": high, "p_effect": effect.pvalue,
        "p_controls": max(against.values()), "verdict": verdict(effect.pvalue, against).text,
    }  # fmt: skip
