"""Does a vector found on one task work on another? Every vector on every task's test problems, against two kinds of null.

Layer and coefficient are chosen on validation problems of the vector's own task; no other task has a part in it. The nulls are
random directions of the same norm at the same place, and vectors from shuffled labels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from steerlab._checks import InputError
from steerlab._html import Plotted
from steerlab._progress import Stages, job
from steerlab.aft.aft import learn_vectors, vectors_work
from steerlab.directions import ESTIMATORS
from steerlab.directions.contrasts import balanced_activations
from steerlab.directions.direction import Direction
from steerlab.directions.random import random_directions, shuffled_labels
from steerlab.models.backends import Model
from steerlab.models.forecasts import Work, forecast
from steerlab.models.model import d_model, n_layers
from steerlab.statistics._format import format_p
from steerlab.statistics.controls import rank_test
from steerlab.statistics.multiplicity import holm, rank_tests, significant
from steerlab.steering.operators import Operator
from steerlab.steering.work import rows_of, steered, unsteered
from steerlab.studies import TRANSFER_ALPHAS
from steerlab.sweeps.effects import cosine_band, effect, points, score_vectors
from steerlab.sweeps.sweep import inert, sweep
from steerlab.tasks.evaluation import evaluate
from steerlab.tasks.problems import Problem, Task, check_tasks, drawn, shuffled_targets

Item = TypeVar("Item")
LEARNED = "learned"
SPLITS = 20  # halves of the problems, for an estimator's reliability


@dataclass(frozen=True)
class Learning:
    """How vectors are trained."""

    epochs: int
    lr: float
    operator: str | Operator
    n_shuffled: int
    progress: bool


@dataclass(frozen=True, eq=False)
class Found:
    """One task's vector by one method.

    Attributes:
        vector: alpha times what was found, so that it acts at 1.
        candidates: how many were compared for it.
        validation_change: of accuracy, of the chosen one.
        shuffled: vectors of the same making and length from labels that mean nothing.
        by_layer: the vector at each candidate layer, at alpha 1.
        reliability: at each candidate layer, the cosine to expect with the vector of as many other problems.
        shuffled_by_layer: at each candidate layer, where they are cheap.
    """

    vector: Direction
    layer: int
    alpha: float
    candidates: int
    validation_change: float
    shuffled: tuple[Direction, ...]
    by_layer: Mapping[int, Direction]
    reliability: Mapping[int, float]
    shuffled_by_layer: Mapping[int, Sequence[Direction]]


def chosen_depths(model: Model, layers: Sequence[int] | None) -> list[int]:
    """Layers as given, or at a quarter, a half and three quarters of the depth."""
    n = n_layers(model)
    where = sorted({int(n * share) for share in (0.25, 0.5, 0.75)}) if layers is None else list(layers)
    if not where or len(set(where)) < len(where):
        raise InputError(f"layers={where}; give at least one, each once")
    return where


def full_reliability(halves: float) -> float:
    """The cosine to expect between estimates of all problems, from that between estimates of halves (Spearman and Brown); 0 where halves disagree."""
    return 2 * halves / (1 + halves) if halves > 0 else 0.0


def cosine(a: Direction, b: Direction) -> float:
    """Of two vectors of one shape."""
    first, second = a.vector.double().flatten(), b.vector.double().flatten()
    return float(first @ second / (first.norm() * second.norm()))


def learned_source(
    model: Model,
    name: str,
    train: Sequence[Problem],
    validation: Sequence[Problem],
    layers: Sequence[int] | None,
    learning: Learning,
    *,
    rng: np.random.Generator,
) -> Found:
    """A learned vector: layer and epoch chosen on validation, alpha 1.

    Its nulls are trained on permuted targets at the same layer, for as many epochs as the vector's best one, and brought to its length.
    """
    where = chosen_depths(model, layers)
    seed = int(rng.integers(2**31))
    shared: dict[str, Any] = {"lrs": learning.lr, "operator": learning.operator, "progress": learning.progress, "seeds": [seed]}
    found = learn_vectors(model, train, layers=where, validation=validation, epochs=learning.epochs, **shared)
    best = found.best()
    by_layer = {one.layer: one for one in found}
    halves = [learn_vectors(model, half, layers=where, epochs=learning.epochs, **shared) for half in _halves(train, rng)]
    one, other = ({vector.layer: vector for vector in half} for half in halves)
    both = set(one) & set(other)
    reliability = {at: full_reliability(cosine(one[at], other[at])) if at in both else float("nan") for at in by_layer}
    shuffled = []
    for k in range(learning.n_shuffled):
        permuted = shuffled_targets(train, rng=rng)
        (null,) = learn_vectors(model, permuted, layers=[best.layer], epochs=int(best.method["epoch"]), **shared)
        about = {"estimator": "learned from permuted targets", "norm_before": null.norm}
        shuffled.append(best.with_vector(null.vector * (best.norm / null.norm), f"shuffled-{k:03d} {LEARNED} {name}", about))
    change = float(best.method["validation_accuracy"] - best.method["unsteered_validation_accuracy"])
    vector = best.with_vector(best.vector, f"{LEARNED} {name}", dict(best.method))
    return Found(vector, best.layer, 1.0, len(found.frame), change, tuple(shuffled), by_layer, reliability, {})


def contrast_source(
    model: Model,
    name: str,
    method: str,
    train: Sequence[Problem],
    validation: Sequence[Problem],
    layers: Sequence[int] | None,
    alphas: Sequence[float],
    n_shuffled: int,
    *,
    operator: str | Operator,
    rng: np.random.Generator,
    progress: bool,
) -> Found:
    """An estimate from right against wrong train problems: layer and alpha chosen on validation; nulls with shuffled labels."""
    where = chosen_depths(model, layers)
    acts, right, wrong = balanced_activations(model, evaluate(model, train, progress=progress), rng=rng, layers=where)
    ids = [right.problem_ids, wrong.problem_ids]
    estimator = ESTIMATORS[method]
    by_layer = {layer: estimator(right, wrong, layer=layer) for layer in where}
    swept = sweep(model, validation, by_layer, alphas=list(alphas), operator=operator, progress=progress)
    best = swept.best()
    layer, alpha = int(best["layer"]), float(best["alpha"])
    vector = by_layer[layer].with_vector(alpha * by_layer[layer].vector, f"{method} {name}")
    agreement: dict[int, list[float]] = {at: [] for at in where}
    for _ in range(SPLITS if min(map(len, ids)) >= 4 else 0):
        parts = [_halves(group, rng) for group in ids]
        for at in where:
            one, other = (estimator(acts.select(parts[0][k]), acts.select(parts[1][k]), layer=at) for k in (0, 1))
            agreement[at].append(cosine(one, other))
    reliability = {at: full_reliability(float(np.median(seen))) if seen else float("nan") for at, seen in agreement.items()}
    draw = shuffled_labels(right, wrong, estimator=estimator, name=f"shuffled {method} {name}")
    by_draw = {at: draw(by_layer[at], n_shuffled, rng=rng) for at in where}
    shuffled = tuple(one.with_vector(alpha * one.vector, one.name) for one in by_draw[layer])
    return Found(vector, layer, alpha, len(where) * len(list(alphas)), float(best["change"]), shuffled, by_layer, reliability, by_draw)


def _work(
    model: Model,
    method: str,
    train: Sequence[Problem],
    validation: Sequence[Problem],
    where: list[int],
    alphas: Sequence[float],
    learning: Learning,
) -> list[Work]:
    """What one task's vector is made of; activations, at most one more run of the train problems, are not counted, and nulls train for all epochs."""
    if method == LEARNED:
        how: dict[str, Any] = {"epochs": learning.epochs, "operator": learning.operator}
        learned = vectors_work(model, train, validation=validation, layers=where, **how)
        halves = vectors_work(model, train[: len(train) // 2], layers=where, times=2, **how)
        return [*learned, *halves, *vectors_work(model, train, layers=where[len(where) // 2 :][:1], times=learning.n_shuffled, **how)]
    rows, cells = rows_of(model, train), len(where) * sum(alpha != 0 for alpha in alphas)
    runs = (1 + cells) * rows_of(model, validation)
    swept = steered(model, validation, runs, layers=where, operator=learning.operator, together=cells)
    return [unsteered(model, train, rows, again=rows), swept]


def _halves(items: Sequence[Item], rng: np.random.Generator) -> tuple[list[Item], list[Item]]:
    order = rng.permutation(len(items))
    half = len(items) // 2
    return [items[i] for i in order[:half]], [items[i] for i in order[half : 2 * half]]


def cosines(found: Mapping[tuple[str, str], Found], band: float) -> pd.DataFrame:
    """Cosines between tasks' vectors of one method at each layer that both have, with what to compare them with."""
    lines = []
    for method in dict.fromkeys(method for method, _ in found):
        mine = {name: one for (m, name), one in found.items() if m == method}
        for (first, a), (second, b) in combinations(mine.items(), 2):
            for layer in sorted(set(a.by_layer) & set(b.by_layer)):
                ceiling = float(np.sqrt(a.reliability[layer] * b.reliability[layer]))
                null = [cosine(x, y) for x in a.shuffled_by_layer.get(layer, ()) for y in b.shuffled_by_layer.get(layer, ())]
                wide = float(np.quantile(np.abs(null), 0.95)) if null else float("nan")
                lines.append((method, layer, first, second, cosine(a.by_layer[layer], b.by_layer[layer]), ceiling, band, wide))
    return pd.DataFrame(lines, columns=["method", "layer", "first", "second", "cosine", "ceiling", "random", "shuffled"])


TRANSFER_KEYS = ["method", "source", "target"]
MOVED = (("change", "correct"), ("margin_change", "margin"))


@dataclass(frozen=True, eq=False)
class TransferResult(Plotted, by="change", figure="transfer_matrix"):
    """Effects of each task's vectors on the test problems of each task.

    Attributes:
        frame: one line a method, source and target: method, source, target, layer, alpha, n, baseline, accuracy, change, low, high (95%,
            Newcombe's paired interval), p (exact sign test: did accuracy change at all?), margin_change; p_holm (over all cells with source
            and target apart); random (median change of random directions), p_random and p_random_all (against random directions, alone and
            paid for all those cells by a max-statistic); shuffled (median) and p_shuffled.
        nulls: one line a method, source, target and draw: family ("random", "shuffled"), draw, change, margin_change.
        cosines: one line a method, layer and pair of tasks: first, second, cosine, ceiling (the cosine to expect between two estimates of one
            direction this noisy), random (95% of isotropic directions lie within ± this), shuffled (the same of shuffled-label vectors, where they are cheap).
        choices: one line a method and source: layer, alpha, norm, candidates, validation_change (the best of so many, so biased upwards).
        vectors: the vectors, by (method, source), with alpha 1.
        checks: did the interventions act.
    """

    frame: pd.DataFrame
    nulls: pd.DataFrame
    cosines: pd.DataFrame
    choices: pd.DataFrame
    vectors: Mapping[tuple[str, str], Direction]
    checks: pd.DataFrame

    def matrix(self, method: str, value: str = "change") -> pd.DataFrame:
        """One column of the frame as sources by targets."""
        part = self.frame[self.frame["method"] == method]
        if part.empty:
            raise InputError(f"method={method!r}; use one of {', '.join(self.frame['method'].unique())}")
        names = list(part["source"].unique())
        return part.pivot_table(index="source", columns="target", values=value).loc[names, names]

    @cached_property
    def apart(self) -> pd.DataFrame:
        """The lines whose source and target are different tasks."""
        return self.frame[self.frame["source"] != self.frame["target"]]

    def __str__(self) -> str:
        """What transfers, and what would have done as well, in a few sentences for each method."""
        said = []
        for method, part in self.frame.groupby("method", sort=False):
            own, other = part[part["source"] == part["target"]], part[part["source"] != part["target"]]
            up, down = (significant(other["p_holm"]) & (other["change"] * sign > 0) for sign in (1, -1))
            best: Mapping[Any, Any] = other.iloc[int(other["change"].abs().argmax())].to_dict()
            own_up, own_down = ((own["low"] > 0).sum(), (own["high"] < 0).sum())
            chance = int(significant(other["p_random_all"]).sum())
            said.append(
                f"{method}: on their own task {own_up} of {len(own)} vectors raise accuracy and {own_down} lower it (95% paired intervals without 0; mean "
                f"{points(own['change'].mean())} points). Of {len(other)} transfers {int(up.sum())} raise and {int(down.sum())} lower accuracy after Holm's "
                f"correction over all {len(self.apart)} (mean {points(other['change'].mean())} points); {chance} differ from random directions of the same norm "
                f"after correction for all. The largest is {best['source']} to {best['target']}: {points(best['change'])} points (95% interval "
                f"{points(best['low'], best['high'])}, {format_p(best['p_holm'], digits=2)} corrected), random directions {points(best['random'])}, shuffled "
                f"labels {points(best['shuffled'])} in the median."
            )
        pairs = self.cosines.merge(self.choices.rename(columns={"source": "first"})[["method", "first", "layer"]])
        if len(pairs):
            beyond = int((pairs["cosine"].abs() > pairs["random"]).sum())
            said.append(
                f"{beyond} of {len(pairs)} pairs of vectors (at the layer chosen for one of them) have a cosine beyond ±{pairs['random'].iloc[0]:.2f}, where 95% of "
                f"random directions lie; the median is {pairs['cosine'].median():+.2f}, and {pairs['ceiling'].median():.2f} could be expected of two estimates of "
                "one and the same direction."
            )
        smallest = 1 / (1 + self.nulls[self.nulls["family"] == "random"].groupby(TRANSFER_KEYS).size().min())
        said.append(
            f"No p-value against random directions can fall below {smallest:.3g}. These are statements about these tasks and this model."
        )
        return " ".join(said)

    def warnings(self) -> list[str]:
        """What a reader must know: vectors that never acted, and how they were chosen."""
        most = int(self.choices["candidates"].max())
        chosen = f"Layers and coefficients are the best of up to {most} on the source's validation problems, so validation_change is biased upwards."
        return [*inert(self.checks), chosen]

    def report_parts(self) -> dict[str, Any]:
        """What `steerlab.write_report` shows of it: question, answer, figures and tables in words."""
        question = "Does a vector that is found on one task change accuracy on another, more than random and shuffled-label vectors do?"
        tables = {
            "transfer": ("Every vector on every task.", self.frame),
            "cosines": ("Cosines between tasks' vectors, with ceiling and nulls.", self.cosines),
            "choices": ("What was chosen on the source's validation problems.", self.choices),
            "nulls": ("", self.nulls),
        }
        title, caption = f"Transfer between {self.frame['target'].nunique()} tasks", "Change of accuracy: rows found on, columns tested on."
        return self._page(title, question, caption, tables, directions=list(self.vectors.values()))

    def __repr__(self) -> str:
        return f"TransferResult({self.frame['source'].nunique()} tasks, methods {', '.join(self.frame['method'].unique())}, {self.frame['n'].iloc[0]:.0f} test problems each)"


@job("tasks", "methods", "layers", "n_train", "n_validation", "n_test", "n_random", "n_shuffled", "n_shuffled_learned", "epochs")
def transfer(
    model: Model,
    tasks: Mapping[str, Task],
    *,
    rng: np.random.Generator,
    methods: Sequence[str] = (LEARNED, "mean_difference"),
    layers: Sequence[int] | None = None,
    alphas: Sequence[float] = TRANSFER_ALPHAS,
    n_train: int = 150,
    n_validation: int = 100,
    n_test: int | None = None,
    n_random: int = 39,
    n_shuffled: int = 39,
    n_shuffled_learned: int = 5,
    epochs: int = 3,
    lr: float = 1e-2,
    operator: str | Operator = "add",
    progress: bool = False,
) -> TransferResult:
    """Effects on every task's test problems of a vector found on each task by each method.

    Args:
        tasks: names and tasks, at least two.
        rng: the only source of chance: draws of problems, seeds of training, nulls.
        methods: "learned" (activation fine-tuning, which acts at alpha 1) and names of `steerlab.ESTIMATORS` (right against wrong train problems).
        layers: candidates; default a quarter, a half and three quarters of the depth.
        alphas: candidates of the estimators.
        n_train, n_validation, n_test: problems of each task (the most that estimators use: they balance right and wrong); all test problems
            by default.
        n_random: random directions for each vector.
        n_shuffled, n_shuffled_learned: shuffled-label vectors for each estimate, and for each learned vector (each costs a training).
        epochs, lr: of the training.
        operator: how vectors act.

    Raises:
        ValueError: an unknown method, fewer than two tasks, too few problems, or a task that the model gets all right or all wrong.

    Example:
        >>> import numpy as np, steerlab as sl
        >>> model = sl.load_model("tiny-arithmetic")
        >>> tasks = {name: sl.load_task("arithmetic", variant=name, limit=24) for name in ("story", "largest")}
        >>> found = sl.transfer(model, tasks, rng=np.random.default_rng(0), methods=["mean_difference"], layers=[3], alphas=[-1.0, 1.0],
        ...     n_train=24, n_validation=12, n_random=4, n_shuffled=4)
        >>> found.matrix("mean_difference").shape
        (2, 2)
    """
    check_tasks(tasks)
    unknown = [m for m in methods if m != LEARNED and m not in ESTIMATORS]
    if unknown or not methods or len(set(methods)) < len(methods):
        raise InputError(f"methods={list(methods)}; give each once, of {LEARNED}, {', '.join(ESTIMATORS)}")
    if n_random < 1 or n_shuffled < 1 or n_shuffled_learned < 1:
        raise InputError(
            f"n_random={n_random}, n_shuffled={n_shuffled}, n_shuffled_learned={n_shuffled_learned}; each null needs at least one draw"
        )
    learning = Learning(epochs, lr, operator, n_shuffled_learned, progress)
    found: dict[tuple[str, str], Found] = {}
    stages = Stages(len(tasks) * (len(methods) + 1), show=progress)
    if progress:
        made_of = list[Work]()
        tested = len(tasks) * sum(1 + n_random + (n_shuffled_learned if method == LEARNED else n_shuffled) for method in methods)
        where = chosen_depths(model, layers)
        for task in tasks.values():
            for method in methods:
                made_of += _work(model, method, task.train[:n_train], task.validation[:n_validation], where, alphas, learning)
            runs = (1 + tested) * rows_of(model, task.test[:n_test])
            made_of.append(steered(model, task.test[:n_test], runs, layers=where, operator=operator, together=tested))
        forecast(model, made_of, show=True, extra=f" in {stages.total} stages, at most")
    for name, task in tasks.items():
        train = drawn(task.train, n_train, rng=rng, what=f"train problems of {name!r}")
        validation = drawn(task.validation, n_validation, rng=rng, what=f"validation problems of {name!r}")
        for method in methods:
            stages.next(f"{method} on {name}")
            if method == LEARNED:
                found[method, name] = learned_source(model, name, train, validation, layers, learning, rng=rng)
                continue
            how: dict[str, Any] = {"operator": operator, "rng": rng, "progress": progress}
            found[method, name] = contrast_source(model, name, method, train, validation, layers, alphas, n_shuffled, **how)
    tests = {name: task.test if n_test is None else drawn(task.test, n_test, rng=rng, what="test problems") for name, task in tasks.items()}
    frame, nulls, checks = _test(model, tests, found, n_random, operator=operator, rng=rng, progress=progress, stages=stages)
    band = cosine_band(d_model(model))
    lines = [(m, n, f.layer, f.alpha, f.vector.norm, f.candidates, f.validation_change) for (m, n), f in found.items()]
    choices = pd.DataFrame(lines, columns=["method", "source", "layer", "alpha", "norm", "candidates", "validation_change"])
    return TransferResult(frame, nulls, cosines(found, band), choices, {key: one.vector for key, one in found.items()}, checks)


def _test(
    model: Model,
    tests: Mapping[str, Sequence[Problem]],
    found: Mapping[tuple[str, str], Found],
    n_random: int,
    *,
    operator: str | Operator,
    rng: np.random.Generator,
    progress: bool,
    stages: Stages,
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """All vectors and all nulls on each task's test problems; the same draws on every task."""
    plan: list[tuple[tuple[str, str], str, int, Direction]] = []
    for key, one in found.items():
        random = random_directions(one.vector, n_random, rng=rng, name=f"random {' '.join(key)}")
        for family, drawn_like in (("vector", [one.vector]), ("random", random), ("shuffled", one.shuffled)):
            plan += [(key, family, k, direction) for k, direction in enumerate(drawn_like)]
    lines, draws, checks = list[dict[str, Any]](), [], []
    for target, problems in tests.items():
        stages.next(f"test on {target}")
        done = score_vectors(model, problems, [(d, 1.0) for *_, d in plan], operator=operator, progress=progress, label=f"test on {target}")
        checks.append(done.checks.assign(target=target))
        for ((method, source), family, k, _), after in zip(plan, done.frames, strict=True):
            place: dict[str, Any] = {"method": method, "source": source, "target": target}
            if family == "vector":
                about = found[method, source]
                lines.append({**place, "layer": about.layer, "alpha": about.alpha, **effect(done.baseline.frame, after)})
            else:
                moved = {name: float(after[of].mean() - done.baseline.frame[of].mean()) for name, of in MOVED}
                draws.append({**place, "family": family, "draw": k, **moved})
    methods = list(dict.fromkeys(method for method, _ in found))
    order = {key: (methods.index(key[0]), k) for k, key in enumerate(found)}
    lines.sort(key=lambda line: order[line["method"], line["source"]])
    frame, nulls = pd.DataFrame(lines), pd.DataFrame(draws)
    return _judged(frame, nulls), nulls, pd.concat(checks, ignore_index=True)


def _judged(frame: pd.DataFrame, nulls: pd.DataFrame) -> pd.DataFrame:
    """The frame with its corrected p-values and those against the nulls."""
    apart = (frame["source"] != frame["target"]).to_numpy()
    frame["p_holm"] = np.nan
    frame.loc[apart, "p_holm"] = holm(frame.loc[apart, "p"].to_numpy(float))
    grouped = {key: part["change"].to_numpy(float) for key, part in nulls.groupby([*TRANSFER_KEYS, "family"])}
    keys = [tuple(row) for row in frame[TRANSFER_KEYS].to_numpy()]
    observed = frame["change"].to_numpy(float)
    random = np.array([grouped[(*key, "random")] for key in keys])
    frame["random"] = np.median(random, axis=1)
    frame["p_random"], frame["p_random_all"] = rank_tests(observed, random)[0], np.nan
    frame.loc[apart, "p_random_all"] = rank_tests(observed[apart], random[apart])[1]
    shuffled = [grouped[(*key, "shuffled")] for key in keys]
    frame["shuffled"] = [float(np.median(one)) for one in shuffled]
    frame["p_shuffled"] = [rank_test(o, one).pvalue for o, one in zip(observed, shuffled, strict=True)]
    return frame
