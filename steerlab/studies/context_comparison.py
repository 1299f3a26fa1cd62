"""Static against prompt-dependent vectors, of growing numbers of parameters, at one training budget and over several seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Unpack

import numpy as np
import pandas as pd

from steerlab._checks import InputError, build, check_rng, is_whole, only, takes_options
from steerlab._html import Plotted
from steerlab._progress import job, progress_bar
from steerlab.aft.aft import ObjectiveOptions, check_problems, fit, training_work
from steerlab.aft.context import ContextVector
from steerlab.aft.learnables import LEARNABLES, ContextLearnable, StaticVector, learnable_named
from steerlab.aft.training import Schedule, Trained, TrainingRun
from steerlab.directions.direction import Direction
from steerlab.models.backends import Model
from steerlab.models.forecasts import Work, forecast
from steerlab.models.memory import Limits, PassOptions
from steerlab.models.model import Site, d_model, describe
from steerlab.statistics.intervals import paired_interval
from steerlab.statistics.multiplicity import holm, significant
from steerlab.statistics.paired import sign_flip_test
from steerlab.steering.cells import run_interventions
from steerlab.steering.variants import Intervention, Placed
from steerlab.steering.work import rows_of, steered
from steerlab.sweeps.effects import points
from steerlab.tasks.evaluation import Evaluation
from steerlab.tasks.problems import Problem, as_problems
from steerlab.tasks.scorers import Scorer

STATIC = "static"


@dataclass(frozen=True, eq=False)
class ContextComparison(Plotted, figure="context_kinds"):
    """Learned vectors of several kinds and seeds, their test effects, and whether fewer parameters win.

    Attributes:
        runs: one line a kind and seed: kind, n_parameters, seed, lr and epoch (chosen on validation), norm, train_before, train_accuracy,
            validation_before, validation_accuracy (chosen on it, so optimistic), test_accuracy, change (on test), low, high (95%, paired).
        outcomes: one line a kind, seed and test problem: kind, seed, problem_id, correct, margin.
        kinds: one line a kind, over seeds: kind, n_parameters, train_accuracy, validation_accuracy, test_accuracy, gap (gain on train minus gain
            on test), change (on test) with low and high, worst and best (seed), p, p_holm.
        contrasts: one line a kind with more parameters than the smallest: smallest, kind, difference (test accuracy of the smallest minus its
            own) with low and high, p, p_holm.
        baseline: the unsteered evaluation of the test problems.
        settings: the budget.

    Intervals are bootstrapped over problems and seeds (percentile, 95%); with few seeds that of seeds is too small. p-values are of sign flips of
    problems' means over the seeds at hand; Holm's correction is over all lines of `kinds` and `contrasts` together.
    """

    runs: pd.DataFrame
    outcomes: pd.DataFrame
    kinds: pd.DataFrame
    contrasts: pd.DataFrame
    baseline: Evaluation
    settings: Mapping[str, Any]

    @cached_property
    def verdict(self) -> str:
        """Whether fewer parameters win: "supported", "partly supported", "contradicted" or "no evidence"."""
        sure = significant(self.contrasts["p_holm"])
        better, worse = sure & (self.contrasts["difference"] > 0), sure & (self.contrasts["difference"] < 0)
        if worse.any():
            return "contradicted"
        return "supported" if better.all() else "partly supported" if better.any() else "no evidence"

    def __str__(self) -> str:
        """What was found, in a paragraph."""
        s = self.settings
        lines = [
            f"{line['kind']} ({line['n_parameters']:,} parameters) {points(line['change'])} points on test (95% interval "
            f"{points(line['low'], line['high'])}; p = {line['p_holm']:.4f} after Holm), train {100 * line['train_accuracy']:.1f}%"
            for line in self.kinds.to_dict("records")
        ]
        against = [
            f"{line['smallest']} minus {line['kind']} {points(line['difference'])} ({points(line['low'], line['high'])}, p = {line['p_holm']:.4f})"
            for line in self.contrasts.to_dict("records")
        ]
        says = {
            "supported": "Fewer parameters won: the smallest was better than every larger one.",
            "partly supported": "The smallest was better than some larger ones; there is no evidence for the others.",
            "contradicted": "The claim is contradicted: a kind with more parameters was better than the smallest.",
            "no evidence": "No evidence that fewer parameters win: no difference from the smallest has a corrected p of at most 0.05.",
        }
        return (
            f"{says[self.verdict]} {s['n_train']} training problems, {s['epochs']} epochs, {len(s['seeds'])} seeds, layer {s['layer']}; unsteered "
            f"{100 * self.baseline.accuracy:.1f}% of {self.baseline.n} test problems. " + "; ".join(lines) + ". " + "; ".join(against) + "."
        )

    def warnings(self) -> list[str]:
        """What a reader must know of how little was repeated, and of trainings that broke off."""
        said = list(self.settings["broken"])
        if len(self.settings["seeds"]) < 5:
            said.append(
                f"{len(self.settings['seeds'])} seeds show little of how much seeds differ; intervals are too short on that account."
            )
        return said

    def report_parts(self) -> dict[str, Any]:
        """What `steerlab.write_report` shows of it: question, answer, figures and tables in words."""
        tables = {
            "kinds": ("Each kind, over seeds.", self.kinds),
            "contrasts": ("The smallest kind minus each larger one, on test.", self.contrasts),
            "runs": ("Each kind and seed; intervals are paired, over problems.", self.runs),
            "outcomes": ("", self.outcomes),
        }
        figures = [("Change of test accuracy by kind and seed.", self.plot(), str(self))]
        question = "With few problems to learn from, do vectors with fewer parameters win?"
        return self._page("Static and context-dependent vectors", question, "", tables, figures=figures)

    def __repr__(self) -> str:
        changes = ", ".join(f"{line['kind']} {line['change']:+.3f}" for line in self.kinds.to_dict("records"))
        return f"ContextComparison({self.verdict}; {changes}; baseline {self.baseline.accuracy:.3f}, {len(self.settings['seeds'])} seeds)"

    @property
    def frame(self) -> pd.DataFrame:
        """The runs: one line a kind and seed."""
        return self.runs

    def summary(self) -> pd.DataFrame:
        """The kinds: one line each."""
        return self.kinds


@job("test", "kinds", "n_train", "seeds", "lrs", "epochs")
@takes_options
def compare_context_vectors(
    model: Model,
    train: Sequence[Problem],
    validation: Sequence[Problem],
    test: Sequence[Problem],
    *,
    layer: int,
    rng: np.random.Generator,
    kinds: Sequence[str | ContextLearnable] = (STATIC, *LEARNABLES),
    n_train: int = 100,
    seeds: Sequence[int] = (0, 1, 2),
    lrs: Sequence[float] = (1e-2, 1e-3),
    epochs: int = 5,
    batch_size: int = 4,
    l2: float = 0.0,
    pooling: str = "mean",
    scorer: str | Scorer | None = None,
    **options: Unpack[PassOptions],
) -> ContextComparison:
    """Static and prompt-dependent vectors trained at one budget and compared on test problems that took no part in any choice.

    A seed draws its own `n_train` of the training problems, the same for all kinds, and decides order and starts. Every kind has the same epochs,
    steps and learning rates; rate and epoch are chosen on validation.

    Args:
        train, validation, test: problems; no overlap.
        layer: where the vectors act (added to every position).
        rng: for intervals and tests.
        kinds: "static", "modulated", "dictionary", "mlp", or learnables of `steerlab.aft.learnables`.
        n_train: training problems of each seed.
        seeds: at least two.
        lrs: learning rates to choose from.
        epochs, batch_size, l2, pooling: as in `learn_context_vector`.
        scorer: default the task's own.

    Raises:
        ValueError: fewer training problems than `n_train`, fewer than two kinds or seeds, kinds of one name, splits that share a problem.

    Example:
        >>> import steerlab as sl
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic", n_train=24, n_validation=12, n_test=12)
        >>> found = sl.compare_context_vectors(
        ...     model, task.train, task.validation, task.test, layer=3, rng=np.random.default_rng(0), kinds=("static", "modulated"), n_train=16, epochs=1
        ... )
        >>> found.kinds["n_parameters"].tolist(), len(found.runs)
        ([128, 257], 6)
    """
    check_rng(rng)
    for what, given in (("train", train), ("validation", validation), ("test", test)):
        as_problems(given, what)
    made = _made(kinds, d_model(model), pooling)
    _check(model, train, validation, test, made, n_train, seeds, lrs)
    how, schedule = build(ObjectiveOptions, options, scorer=scorer), Schedule(epochs, batch_size, early_stopping=None)
    progress: bool = options["progress"]
    limits: dict[str, Any] = {"scorer": scorer, **only(options, Limits)}
    cells: list[Intervention] = []
    lines: list[dict[str, Any]] = []
    broken: list[str] = []
    if progress:
        like, tried = train[:n_train], [TrainingRun((Site(layer),), 0, l2, lr) for lr in lrs]
        made_of = list[Work]()
        for learnable in made.values():
            made_of += training_work(model, like, tried, learnable, schedule, how, validation=validation, times=len(seeds))
        at: dict[str, Any] = {"layers": [layer], **limits}
        made_of.append(steered(model, like, len(seeds) * (1 + len(made)) * rows_of(model, like, scorer), together=len(made), **at))
        n = len(seeds) * len(made)
        made_of.append(steered(model, test, (1 + n) * rows_of(model, test, scorer), together=n, **at))
        forecast(model, made_of, show=True, extra=f" for {n} vectors")
    with progress_bar(total=len(seeds) * len(made), desc="kinds x seeds", unit="training", show=progress) as bar:
        for seed in seeds:
            some = [train[i] for i in sorted(np.random.default_rng([int(seed), 2]).choice(len(train), n_train, replace=False))]
            on_train: list[Intervention] = []
            for name, learnable in made.items():
                candidates = [TrainingRun((Site(layer),), int(seed), l2, lr) for lr in lrs]
                found = fit(model, some, candidates, learnable, schedule, how, validation=validation)
                broken += [f"{name}, seed {seed}, lr {t.candidate.lr:g}: {t.stopped}." for t in found.trained if t.broke is not None]
                best = min(found.trained, key=_rank)
                line: dict[str, Any] = {"kind": name, "n_parameters": _size(learnable), "seed": int(seed)}
                line |= {"lr": best.candidate.lr, "epoch": best.epoch}
                line |= {"norm": learnable.norm(best.parameters), "train_before": np.nan, "train_accuracy": np.nan}
                lines.append(line | {"validation_before": found.unsteered, "validation_accuracy": -_rank(best)[0]})
                for given, into in ((some, on_train), (test, cells)):
                    into.append(_cell(model, given, learnable, best, layer, f"{name}, seed {seed}", limits))
                bar.update()
            done = run_interventions(model, some, on_train, **limits)
            for line, frame in zip(lines[-len(made) :], done.frames, strict=True):
                line |= {"train_before": done.baseline.accuracy, "train_accuracy": float(frame["correct"].mean())}
    tested = run_interventions(model, test, cells, **limits)
    before = tested.baseline.frame["correct"].to_numpy(bool)
    outcomes = []
    for line, frame in zip(lines, tested.frames, strict=True):
        after = frame["correct"].to_numpy(bool)
        low, high = paired_interval(before, after)
        line |= {"test_accuracy": after.mean(), "change": after.mean() - before.mean(), "low": low, "high": high}
        outcomes.append(frame.assign(kind=line["kind"], seed=line["seed"])[["kind", "seed", "problem_id", "correct", "margin"]])
    settings = {
        "layer": int(layer), "n_train": int(n_train), "seeds": [int(seed) for seed in seeds], "lrs": list(lrs), "epochs": epochs,
        "batch_size": batch_size, "l2": l2, "pooling": pooling, "broken": broken,
    }  # fmt: skip
    learned, frame = pd.DataFrame(lines), pd.concat(outcomes, ignore_index=True)
    return ContextComparison(learned, frame, *_tables(learned, frame, before, rng), tested.baseline, settings)


def _made(kinds: Sequence[str | ContextLearnable], width: int, pooling: str) -> dict[str, StaticVector | ContextLearnable]:
    made: dict[str, StaticVector | ContextLearnable] = {}
    for kind in kinds:
        if kind == STATIC:
            one: StaticVector | ContextLearnable = StaticVector(width)
        else:
            one = learnable_named(kind, width, **({"pooling": pooling} if isinstance(kind, str) else {}))
        name = kind if isinstance(kind, str) else f"{type(kind).__name__} ({_size(one)} parameters)"
        if name in made:
            raise InputError(f"kind {name!r} is given twice; give each once")
        made[name] = one
    if len(made) < 2:
        raise InputError(f"kinds={list(made)}; a comparison needs at least two")
    return dict(sorted(made.items(), key=lambda item: _size(item[1])))


def _size(learnable: StaticVector | ContextLearnable) -> int:
    return learnable.d_model if isinstance(learnable, StaticVector) else learnable.n_parameters


def _check(
    model: Model, train: Sequence[Problem], validation: Sequence[Problem], test: Sequence[Problem], made: Mapping[str, Any], n_train: int,
    seeds: Sequence[int], lrs: Sequence[float],
) -> None:  # fmt: skip
    check_problems(model, train, validation)
    check_problems(model, [*train, *validation], test)
    if not is_whole(n_train, 1, len(train)):
        raise InputError(f"n_train={n_train}: there are {len(train)} training problems; use 1 to {len(train)}")
    if len(set(seeds)) < 2 or len(set(seeds)) < len(seeds):
        raise InputError(f"seeds={list(seeds)}; give at least two, each once: one says nothing of how much seeds differ")
    if not lrs:
        raise InputError("lrs=[]; give at least one learning rate, e.g. (1e-2,)")


def _rank(trained: Trained) -> tuple[float, float]:
    """Minus the accuracy, and the nll, on validation, of the epoch that was kept."""
    line = trained.history[trained.history["epoch"] == trained.epoch]
    return (1.0, np.inf) if line.empty else (-float(line["validation_accuracy"].iloc[0]), float(line["validation_nll"].iloc[0]))


def _cell(
    model: Model, problems: Sequence[Problem], learnable: StaticVector | ContextLearnable, trained: Trained, layer: int, name: str,
    limits: Mapping[str, Any],
) -> Intervention:  # fmt: skip
    """A trained vector as it acts on problems."""
    parameters = {key: value.cpu() for key, value in trained.parameters.items()}
    if isinstance(learnable, StaticVector):
        direction = Direction(parameters["vector"], layer, name=name, model=describe(model))
    else:
        direction = ContextVector(learnable, parameters, layer, name=name, model=describe(model)).on(model, problems, **limits)
    return Intervention((Placed(direction, Site(layer)),), 1.0)


def _tables(runs: pd.DataFrame, outcomes: pd.DataFrame, before: np.ndarray, rng: np.random.Generator) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Kinds against the unsteered model and against the smallest kind, corrected together."""
    names = list(dict.fromkeys(runs.sort_values("n_parameters", kind="stable")["kind"]))
    wide = outcomes.pivot_table(index=["kind", "seed"], columns="problem_id", values="correct", sort=False)
    right = {name: wide.loc[name].to_numpy(float) for name in names}
    kinds, contrasts = [], []
    for name in names:
        mine = runs[runs["kind"] == name]
        means = mine[["train_accuracy", "validation_accuracy", "test_accuracy"]].mean().to_dict()
        on_train, on_test = (mine["train_accuracy"] - mine["train_before"]).mean(), mine["change"].mean()
        line = {"kind": name, "n_parameters": int(mine["n_parameters"].iloc[0]), **means}
        line |= {"gap": round(on_train - on_test, 12), "change": round(on_test, 12)}
        line |= _judged(right[name], np.broadcast_to(before.astype(float), right[name].shape), rng)
        kinds.append(line | {"worst": mine["change"].min(), "best": mine["change"].max()})
    for name in names[1:]:
        difference = float((right[names[0]] - right[name]).mean())
        contrasts.append({"smallest": names[0], "kind": name, "difference": difference} | _judged(right[names[0]], right[name], rng))
    corrected = holm([line["p"] for line in kinds + contrasts])
    first, second = pd.DataFrame(kinds), pd.DataFrame(contrasts)
    return first.assign(p_holm=corrected[: len(first)]), second.assign(p_holm=corrected[len(first) :])


def _judged(one: np.ndarray, other: np.ndarray, rng: np.random.Generator, n: int = 2000) -> dict[str, float]:
    """Interval and p-value of a mean difference ``[seed problem]``."""
    low, high = crossed_interval(one - other, rng=rng, n_resamples=n)
    return {"low": low, "high": high, "p": float(sign_flip_test(other.mean(0), one.mean(0), rng=rng).pvalue)}


def crossed_interval(values: np.ndarray, *, rng: np.random.Generator, n_resamples: int = 2000) -> tuple[float, float]:
    """95% percentile interval of the mean of ``[seed problem]``, both drawn with replacement and independently of each other.

    Source:
        Owen (2007), The pigeonhole bootstrap, Annals of Applied Statistics 1, 386-411.
    """
    seeds, problems = values.shape
    times = rng.multinomial(seeds, np.full(seeds, 1 / seeds), n_resamples)
    others = rng.multinomial(problems, np.full(problems, 1 / problems), n_resamples)
    means = np.einsum("rs,sp,rp->r", times, values, others, optimize=True) / (seeds * problems)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
