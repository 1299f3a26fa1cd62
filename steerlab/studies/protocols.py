"""The selection bias of protocols: the gain that each reports against the gain of its vector on fresh problems.

Every repetition draws its own problems and runs all protocols (rapid, adaptive, retrying) on them. Each reports the gain on the
problems that chose the vector, or that ended the retrying; the vector is then scored on test problems that had no part in anything,
and the difference is the bias.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from steerlab._checks import InputError
from steerlab._html import Plotted
from steerlab._progress import Stages, job
from steerlab.aft.aft import learn_vectors, vectors_work
from steerlab.aft.selection import chosen_layers
from steerlab.directions.direction import Direction
from steerlab.models.backends import Model
from steerlab.models.forecasts import forecast
from steerlab.models.model import n_layers
from steerlab.steering.operators import Operator
from steerlab.steering.work import rows_of, steered
from steerlab.sweeps.effects import effect, mean_interval, points, score_vectors
from steerlab.sweeps.sweep import inert
from steerlab.tasks.problems import Task, check_task, check_tasks, drawn

RULES = {
    "rapid, chosen on outcome": ("rapid", "outcome", "first"),
    "rapid, chosen on validation": ("rapid", "validation", "first"),
    "rapid, retried on outcome": ("rapid", "outcome", "retry"),
    "adaptive, chosen on validation": ("adaptive", "validation", "all"),
    "adaptive, retried on outcome": ("adaptive", "outcome", "retry"),
}
"""Name: grid; which gain is reported; which seeds are compared (the first, all at once, or one after the other until the outcome is not negative)."""


@dataclass(frozen=True, eq=False)
class ProtocolComparison(Plotted, figure="reported_against_fresh"):
    """Reported and fresh gains of several protocols, repetition by repetition.

    Attributes:
        frame: one line a repetition and protocol: repetition, protocol, layer, seed, norm, candidates (compared for it), attempts, reported_on ("validation" or
            "outcome"), reported (the gain in accuracy that the protocol would report), first_attempt (what it would have reported without retrying), n, baseline, accuracy, change, low, high, p, margin_change
            (on fresh test problems; 95% paired interval, exact sign test), bias (reported - change).
        candidates: one line a repetition, grid and candidate: repetition, grid, name, layer, seed, epochs, epoch, norm, validation, outcome (gains; those of adaptive
            candidates on validation chose their epoch, too).
        moves: one line a protocol and fresh problem: protocol, problem_id, move (mean over repetitions of 1 where it became right, -1 where it became wrong).
        settings: sizes and options.
        checks: did the interventions act on the test problems.
    """

    frame: pd.DataFrame
    candidates: pd.DataFrame
    moves: pd.DataFrame
    settings: Mapping[str, Any]
    checks: pd.DataFrame

    def summary(self) -> pd.DataFrame:
        """One line a protocol: repetitions, candidates, attempts (means), reported, change and bias (means over repetitions), the latter two with 95% intervals,
        and the shares of repetitions whose gain is above 0 as reported and on fresh problems.

        Half an interval's width is the root of two squares: Student's over repetitions, and what follows from the fresh problems being a sample, the same for all."""
        lines = []
        for name, part in self.frame.groupby("protocol", sort=False):
            moved = self.moves.loc[self.moves["protocol"] == name, "move"]
            error = 1.96 * float(moved.std(ddof=1)) / len(moved) ** 0.5
            line: dict[str, Any] = {"protocol": name, "reported_on": part["reported_on"].iloc[0], "repetitions": len(part)}
            line |= {column: float(part[column].mean()) for column in ("candidates", "attempts", "reported")}
            for column in ("change", "bias"):
                low, high = _wider(part[column].to_numpy(float), error)
                line |= {column: float(part[column].mean()), f"{column}_low": low, f"{column}_high": high}
            lines.append(line | {"reported_positive": float((part["reported"] > 0).mean()), "positive": float((part["change"] > 0).mean())})
        return pd.DataFrame(lines)

    def __str__(self) -> str:
        """The selection bias of each protocol, in a sentence each."""
        said = []
        for row in self.summary().to_dict("records"):
            several = row["repetitions"] > 1
            over = f" (95% interval {points(row['bias_low'], row['bias_high'])})" if several else ""
            spread = f" ({points(row['change_low'], row['change_high'])})" if several else ""
            tries = f", {row['attempts']:.1f} attempts" if "retried" in row["protocol"] else ""
            if tries:
                part = self.frame[self.frame["protocol"] == row["protocol"]]
                raised = (part["reported"] - part["first_attempt"]).to_numpy(float)
                low, high = mean_interval(raised)
                tries += f", retrying raised the report by {100 * raised.mean():.1f} points"
                tries += f" ({points(low, high)})" if np.isfinite(low) else ""
            said.append(
                f"{row['protocol'].capitalize()} ({row['candidates']:.0f} candidates{tries}): reports {points(row['reported'])} points on {row['reported_on']} problems; "
                f"on fresh problems {points(row['change'])}{spread}; bias {points(row['bias'])}{over}. Above 0 in {100 * row['reported_positive']:.0f}% of "
                f"repetitions as reported, in {100 * row['positive']:.0f}% on fresh problems."
            )
        by = self.frame.pivot(index="repetition", columns="protocol", values="change")
        ours, theirs = "adaptive, chosen on validation", "rapid, chosen on outcome"
        gap = (by[ours] - by[theirs]).to_numpy(float)
        low, high = mean_interval(gap)
        over = f" (95% interval {points(low, high)})" if np.isfinite(low) else ""
        said.append(
            f"On fresh problems the adaptive protocol stands {points(gap.mean())} points to the rapid one as the sources ran it{over}."
        )
        return " ".join(said)

    def warnings(self) -> list[str]:
        """What a reader must know about the intervals."""
        return [
            *inert(self.checks),
            "Intervals of gains and biases are over repetitions (other train, validation and outcome problems, other seeds) and over fresh problems, which all repetitions "
            "share; they speak of this model and task.",
        ]

    def report_parts(self) -> dict[str, Any]:
        """What `steerlab.write_report` shows of it: question, answer, figures and tables in words."""
        question = "How much larger is the gain that a protocol reports than the gain of its vector on fresh problems?"
        caption = "Reported gain against gain on fresh problems, a mark a repetition."
        means = (
            "Means over repetitions, with 95% intervals; those of fresh problems and of the bias include the error of these problems, too."
        )
        tables = {
            "protocols": (means, self.summary()),
            "repetitions": ("Every repetition.", self.frame),
            "candidates": ("", self.candidates),
        }
        return self._page("Rapid and adaptive protocols", question, caption, tables)

    def __repr__(self) -> str:
        return f"ProtocolComparison({self.frame['repetition'].nunique()} repetitions of {self.frame['protocol'].nunique()} protocols, {self.frame['n'].iloc[0]:.0f} fresh problems)"


@job("repetitions", "n_train", "n_validation", "n_outcome", "n_fresh", "attempts", "rapid_epochs", "epochs")
def compare_protocols(
    model: Model,
    task: Task,
    *,
    rng: np.random.Generator,
    repetitions: int = 6,
    n_train: int = 50,
    n_validation: int = 50,
    n_outcome: int = 50,
    n_fresh: int | None = None,
    attempts: int = 3,
    rapid_epochs: int = 3,
    epochs: int = 5,
    extend: int = 3,
    early_stopping: float | None = 0.02,
    lr: float = 1e-2,
    batch_size: int = 4,
    operator: str | Operator = "add",
    progress: bool = False,
) -> ProtocolComparison:
    """The rapid, adaptive and retrying protocols, run several times, with what each reports and what fresh problems show.

    "Rapid": layers from 25% to 75% of the depth, every second one, a fixed number of epochs, one seed; the layer is chosen on the outcome problems (as
    the sources did), or on validation. "Adaptive": all layers, several seeds, early stopping on validation; chosen on validation. "Retried": each seed is an
    attempt, its best layer on validation is taken, and the first attempt with a gain of at least 0 on the outcome problems is reported (the last one, if none has).

    Args:
        task: train problems are drawn from its train split, validation and outcome problems from its validation split; its test split is fresh.
        rng: the only source of chance.
        repetitions: how often everything is drawn and run again.
        n_train, n_validation, n_outcome, n_fresh: problems; the sources' are 50, and n_fresh is all of the test split by default.
        attempts: the most seeds.
        rapid_epochs: of the rapid protocol.
        epochs, extend, early_stopping, lr, batch_size, operator: see `steerlab.aft.aft.learn_vector`.

    Raises:
        ValueError: too few problems, or fewer than one repetition or attempt.

    Source:
        The research programme on activation fine-tuning, sections 4.1 (rapid) and 7 (adaptive).

    Example:
        >>> import numpy as np, steerlab as sl
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic", n_train=8, n_validation=16, n_test=12)
        >>> found = sl.compare_protocols(model, task, rng=np.random.default_rng(0), repetitions=1, n_train=6, n_validation=8, n_outcome=8,
        ...     attempts=1, rapid_epochs=1, epochs=1, extend=0)
        >>> found.frame["protocol"].nunique()
        5
    """
    check_task(task)
    check_tasks({task.name: task}, least=1)
    if repetitions < 1 or attempts < 1:
        raise InputError(f"repetitions={repetitions}, attempts={attempts}; use at least 1 of each")
    shared: dict[str, Any] = {"lrs": lr, "batch_size": batch_size, "operator": operator, "progress": progress}
    depth = n_layers(model)
    fresh = task.test if n_fresh is None else drawn(task.test, n_fresh, rng=rng, what="fresh test problems")
    picked: list[tuple[dict[str, Any], Direction]] = []
    tables = []
    stages = Stages(repetitions + 1, show=progress)
    middle = chosen_layers(depth, "middle", 2)
    if progress:
        how: dict[str, Any] = {"seeds": attempts, "lrs": lr, "batch_size": batch_size, "operator": operator, "times": repetitions}
        train, both = task.train[:n_train], task.validation[: n_validation + n_outcome]  # which are drawn is chance; these are like them
        made_of = vectors_work(model, train, layers=middle, epochs=rapid_epochs, **how)
        made_of += vectors_work(model, train, layers=range(depth), validation=both[:n_validation], epochs=epochs, **how)
        found_of = attempts * (len(middle) + depth)
        runs = [repetitions * (2 + found_of) * rows_of(model, both), (1 + len(RULES) * repetitions) * rows_of(model, fresh)]
        for some, n in zip((both, fresh), runs, strict=True):
            made_of.append(steered(model, some, n, layers=range(depth), operator=operator))
        more = f", and up to {extend} epochs more of each adaptive vector while the loss falls" if extend else ""
        forecast(model, made_of, show=True, extra=f" in {stages.total} stages{more}")
    for repetition in range(repetitions):
        stages.next(f"learn and choose, repetition {repetition + 1}")
        train = drawn(task.train, n_train, rng=rng, what="train problems")
        both = drawn(task.validation, n_validation + n_outcome, rng=rng, what="validation and outcome problems")
        validation = both[:n_validation]
        seeds = rng.choice(2**31, attempts, replace=False).tolist()
        how = {"validation": validation, "epochs": epochs, "extend": extend, "early_stopping": early_stopping}
        grids = {
            "rapid": learn_vectors(model, train, layers=middle, seeds=seeds, epochs=rapid_epochs, **shared),
            "adaptive": learn_vectors(model, train, seeds=seeds, **how, **shared),
        }
        for grid, found in grids.items():
            vectors = list(found)
            done = score_vectors(model, both, [(v, 1.0) for v in vectors], operator=operator, progress=progress, label=f"choose ({grid})")
            about = found.frame.set_index("name").loc[[v.name for v in vectors], ["layer", "seed", "epochs", "epoch", "norm"]].reset_index()
            gains = _gains(done.baseline.frame, done.frames, n_validation)
            table = pd.concat([about.assign(repetition=repetition, grid=grid), gains], axis=1)
            tables.append(table)
            for protocol, (which, reported_on, rule) in RULES.items():
                if which == grid:
                    by = "outcome" if (rule, reported_on) == ("first", "outcome") else "validation"
                    place, candidates, tries = choose(table, seeds, rule, by)
                    first = float(table["outcome"].iloc[choose(table, seeds, "first", "validation")[0]]) if rule == "retry" else np.nan
                    row = table.iloc[place]
                    line = {"repetition": repetition, "protocol": protocol, "layer": int(row["layer"]), "seed": int(row["seed"])}
                    line |= {"norm": float(row["norm"]), "candidates": candidates, "attempts": tries, "reported_on": reported_on}
                    picked.append((line | {"reported": float(row[reported_on]), "first_attempt": first}, vectors[place]))
    stages.next(f"test on {len(fresh)} fresh problems")
    done = score_vectors(model, fresh, [(v, 1.0) for _, v in picked], operator=operator, progress=progress, label="fresh problems")
    lines = [about | effect(done.baseline.frame, after) for (about, _), after in zip(picked, done.frames, strict=True)]
    was = done.baseline.frame["correct"].to_numpy(float)
    moves = [
        {"protocol": about["protocol"], "problem_id": problem, "move": move}
        for (about, _), after in zip(picked, done.frames, strict=True)
        for problem, move in zip(after["problem_id"], after["correct"].to_numpy(float) - was, strict=True)
    ]
    moved = pd.DataFrame(moves).groupby(["protocol", "problem_id"], sort=False)["move"].mean().reset_index()
    frame = pd.DataFrame(lines)
    frame["bias"] = frame["reported"] - frame["change"]
    order = {name: k for k, name in enumerate(RULES)}
    frame = frame.sort_values(["repetition", "protocol"], key=lambda c: c.map(order) if c.name == "protocol" else c, ignore_index=True)
    columns = ["repetition", "grid", "name", "layer", "seed", "epochs", "epoch", "norm", "validation", "outcome"]
    settings = {"n_train": n_train, "n_validation": n_validation, "n_outcome": n_outcome, "n_fresh": len(fresh), "attempts": attempts}
    return ProtocolComparison(frame, pd.concat(tables, ignore_index=True)[columns], moved, settings, done.checks)


def _wider(values: np.ndarray, error: float) -> tuple[float, float]:
    """The mean's interval over repetitions, with an error that they share."""
    low, high = mean_interval(values)
    own = 0.0 if np.isnan(low) and len(values) > 1 else (high - low) / 2  # repetitions that are all equal add nothing
    half = float(np.hypot(own, error))
    return float(values.mean()) - half, float(values.mean()) + half


def _gains(before: pd.DataFrame, after: Sequence[pd.DataFrame], n_validation: int) -> pd.DataFrame:
    """Each candidate's gain on the validation problems, which come first, and on the outcome problems, and its validation nll."""
    was = before["correct"].to_numpy(float)
    lines = []
    for frame in after:
        moved = frame["correct"].to_numpy(float) - was
        nll = float(frame["nll"].to_numpy(float)[:n_validation].mean())
        lines.append((float(moved[:n_validation].mean()), float(moved[n_validation:].mean()), nll))
    return pd.DataFrame(lines, columns=["validation", "outcome", "nll"])


def choose(table: pd.DataFrame, seeds: Sequence[int], rule: str, by: str) -> tuple[int, int, int]:
    """Which candidate a rule takes: its place, how many were compared, and how many attempts were made.

    Args:
        table: one line a candidate: seed, validation, outcome and nll (on validation; it breaks ties).
        seeds: in the order of attempts.
        rule: "first" (the first seed's best), "all" (the best of all) or "retry" (the best on validation of one seed after the other, until the outcome is not negative).
        by: "validation" or "outcome": what the best is by.

    Example:
        >>> table = pd.DataFrame({"seed": [0, 0, 1, 1], "validation": [0.1, 0.0, 0.2, 0.0], "outcome": [-0.1, 0.3, 0.0, 0.1], "nll": 1.0})
        >>> choose(table, [0, 1], "retry", "validation"), choose(table, [0, 1], "first", "outcome")
        ((2, 4, 2), (1, 2, 1))
    """

    def best(part: pd.DataFrame) -> int:
        return int(part.sort_values([by, "nll"], ascending=[False, True], kind="stable").index[0])

    lines = table.reset_index(drop=True)
    if rule == "all":
        return best(lines), len(lines), 1
    place, seen, attempt = -1, 0, 0
    for seed in seeds:
        part = lines[lines["seed"] == seed]
        if part.empty:  # all its trainings broke off
            continue
        place, seen, attempt = best(part), seen + len(part), attempt + 1
        if rule == "first" or lines["outcome"].to_numpy(float)[place] >= 0:
            break
    return place, seen, attempt
