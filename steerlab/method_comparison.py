"""Ways to steer set against each other at equal norm and at equal KL: chosen on validation with equally many looks, tested once.

Every method finds its vectors on the same train problems. Layer, sign and level are chosen on validation, the level for all methods together, so
that on test all of them add a vector of the same norm, or change other text by the same KL. Beside them: the unsteered model, prompts that ask
otherwise, and random vectors at the same places and levels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from steerlab._checks import InputError
from steerlab._progress import Stages, job
from steerlab.activations.cache import Positions
from steerlab.contenders import METHODS, Contender, check_methods, contenders, contenders_work, label
from steerlab.controls.side_effects import side_texts
from steerlab.directions.direction import Direction
from steerlab.method_tables import MethodComparison
from steerlab.models.backends import Model
from steerlab.models.forecasts import forecast
from steerlab.models.model import n_layers
from steerlab.prompting import wordings
from steerlab.steering.work import rows_of, unsteered
from steerlab.tasks.evaluation import Evaluation, evaluate
from steerlab.tasks.problems import Problem, Task, as_texts, check_task, in_both
from steerlab.trials import MATCHINGS, Bench, Tried, choose, looks, trials_work, try_once

NORM_SHARES = (0.1, 0.3, 1.0)
KL_LEVELS = (0.003, 0.01, 0.03)
TEXTS = 12  # prompts, where a model cannot read sentences: KL is measured thousands of times
STREAMS = {"controls": 1}  # of the seed; 0 balances


@dataclass(frozen=True, eq=False)
class _Asked:
    """The prompt baseline: its looks on validation, and its outcomes on test."""

    looks: pd.DataFrame
    chosen: str
    outcomes: pd.DataFrame


@job("task", "methods", "matchings", "layers", "norms", "kls", "n_controls", "epochs")
def compare_methods(
    model: Model,
    task: Task,
    *,
    seed: int,
    methods: Sequence[str] = METHODS,
    matchings: Sequence[str] = ("norm", "kl"),
    layers: Sequence[int] | None = None,
    norms: Sequence[float] | None = None,
    kls: Sequence[float] = KL_LEVELS,
    n_controls: int = 99,
    epochs: int = 3,
    lr: float = 1e-2,
    batch_size: int = 8,
    texts: Sequence[str | Sequence[int]] | None = None,
    cache_positions: Positions = "last",
    positions: Positions = "all",
    progress: bool = False,
) -> MethodComparison:
    """Compare methods on one task.

    Args:
        model: a TransformerLens model.
        task: with train (vectors come from it), validation (choices) and test problems (claims).
        seed: of balancing, of the order of training and of the controls.
        methods: any of `steerlab.contenders.KNOWN`.
        matchings: "norm" and "kl" put all methods at one common level; "own" lets each choose among the norms.
        layers: candidates; default all.
        norms: levels of the norm of all that is added; default 0.1, 0.3 and 1 times the median norm of the mean difference over layers (where
            that is not among the methods, of the first method's vectors).
        kls: levels of the KL, in nats a token.
        n_controls: random vectors for each method and matching.
        epochs, lr, batch_size: of learned vectors.
        texts: texts to measure KL on; default everyday sentences or, for a model that cannot read them, prompts of the validation split.
        cache_positions: where estimated directions are measured.
        positions: where all of them act.
        progress: show progress bars.

    Raises:
        ValueError: bad input; see the functions called.

    Example:
        >>> import steerlab as sl
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic", limit=24)
        >>> found = sl.compare_methods(
        ...     model, task, seed=0, methods=["mean_difference", "probe"], matchings=["norm"], layers=[3, 5], norms=[4.0], n_controls=4
        ... )
        >>> found.frame[["method", "norm", "looks"]].to_numpy().tolist()
        [['baseline', 0.0, 0], ['mean difference', 4.0, 4], ['probe', 4.0, 4]]
    """
    methods = check_methods(methods)
    _check(task, matchings, [*(norms or []), *kls], n_controls)
    if texts is None:
        texts, about = side_texts(model, task.validation, n=TEXTS)
    else:
        texts = as_texts(texts)
        about = f"{len(texts)} given texts"
    learning: dict[str, Any] = {"epochs": epochs, "lr": lr, "batch_size": batch_size, "seed": seed, "positions": positions}
    stages = Stages(2 + ("prompt" in methods) + len(set(matchings)), show=progress)
    bench = Bench(model, texts, positions, progress)
    if progress:
        sizes = {"kl": len(kls), "norm": len(NORM_SHARES) if norms is None else len(norms)}
        _foretell(bench, task, methods, list(dict.fromkeys(matchings)), layers, sizes, n_controls, epochs, batch_size, stages.total)
    stages.next(f"find vectors in {len(methods)} ways")
    found, missing = contenders(
        model, task.train, methods=methods, layers=layers, cache_positions=cache_positions, progress=progress, **learning
    )
    notes = {one.name: one.about for one in found}
    stages.next("test without steering")
    baseline = evaluate(model, task.test, progress=progress)
    asked = None
    if "prompt" in methods:
        stages.next("wordings of the prompt")
        asked, said = _asked(model, task, progress)
        (missing if asked is None else notes)[label("prompt")] = said
    tried: dict[str, tuple[pd.DataFrame, pd.DataFrame, Tried]] = {}
    levels = {"kl": [float(kl) for kl in kls]}
    levels["norm"] = levels["own"] = _norms(found, norms)
    for k, matching in enumerate(dict.fromkeys(matchings)):
        stages.next(f"choose and test, matched by {matching}")
        if not found:
            continue
        seen = looks(bench, task.validation, found, levels[matching], matching)
        chosen = choose(seen, matching)
        done = try_once(
            bench, task.test, found, chosen, levels[matching], matching, n_controls=n_controls, seed=[seed, STREAMS["controls"], k]
        )
        tried[matching] = seen, chosen, done
    settings = {
        "task": task.name,
        "n_train": len(task.train),
        "n_validation": len(task.validation),
        "n_test": len(task.test),
        "levels": {matching: levels[matching] for matching in tried},
        "n_controls": n_controls,
        "texts": about,
        "cache_positions": cache_positions if isinstance(cache_positions, str) else list(np.atleast_1d(cache_positions)),
        **{key: value for key, value in learning.items() if key != "positions"},
        "positions": positions if isinstance(positions, str) else list(np.atleast_1d(positions)),
    }
    return _comparison(baseline, found, tried, asked, notes, missing, settings)


def _foretell(
    bench: Bench,
    task: Task,
    methods: Sequence[str],
    matchings: Sequence[str],
    layers: Sequence[int] | None,
    levels: Mapping[str, int],
    n_controls: int,
    epochs: int,
    batch_size: int,
    stages: int,
) -> None:
    """Where the comparison will take over a minute, say what it is made of."""
    model, where = bench.model, list(range(n_layers(bench.model))) if layers is None else list(layers)
    vectors = [method for method in methods if method != "prompt"]
    spread = "multilayer_aft" in vectors
    made_of = contenders_work(
        model, task.train, methods=vectors, layers=where, epochs=epochs, batch_size=batch_size, positions=bench.positions
    )
    test, validation = rows_of(model, task.test), rows_of(model, task.validation)
    ways = len(wordings(model, task.train, [*task.validation, *task.test])[0]) if "prompt" in methods else 0
    made_of.append(unsteered(model, task.test, test * (1 + bool(ways)) + validation * (ways + bool(ways))))
    if vectors:
        # Methods that choose one layer and level share their controls; a multi-layer vector has its own.
        alone = len(vectors) - spread
        count: dict[str, Any] = {"levels": {**levels, "own": levels["norm"]}, "contenders": len(vectors)}
        count["places"] = {"own": min(alone, len(where) * levels["norm"]) + spread} | dict.fromkeys(
            ("norm", "kl"), min(alone, len(where)) + spread
        )
        made_of += trials_work(bench, task.validation, task.test, matchings, layers=where, n_controls=n_controls, **count)
    more = ", beside a search for equal KL" if "kl" in matchings and vectors else ""
    forecast(model, made_of, show=True, extra=f" in {stages} stages, at most{more}")


def _check(task: Task, matchings: Sequence[str], levels: Sequence[float], n_controls: int) -> None:
    check_task(task)
    unknown = [matching for matching in matchings if matching not in MATCHINGS]
    if unknown or not matchings:
        raise InputError(f"matchings={list(matchings)}; use any of {', '.join(MATCHINGS)}")
    if any(not np.isfinite(level) or level <= 0 for level in levels):
        raise InputError(f"levels {list(levels)}: norms and KLs must be finite and above 0")
    if n_controls < 1:
        raise InputError(f"n_controls={n_controls}; use at least 1 (99 give p-values down to 0.01)")
    for split in ("train", "validation", "test"):
        if not getattr(task, split):
            raise InputError(f"the {split} split of task {task.name!r} is empty; the comparison needs all three")
    for split in ("train", "validation"):
        if both := in_both(task.test, getattr(task, split)):
            raise InputError(
                f"{len(both)} test problems stand in {split}, too, {both[0].id!r} first; what was found or chosen there cannot be tested on them"
            )


def _norms(found: Sequence[Contender], norms: Sequence[float] | None) -> list[float]:
    if norms is not None:
        return [float(norm) for norm in norms]
    if not found:
        return []
    reference = next((one for one in found if one.name == label("mean_difference")), found[0])
    middle = float(np.median([reference.norm(layer) for layer in reference.candidates]))
    return [float(f"{share * middle:.3g}") for share in NORM_SHARES]


def _asked(model: Model, task: Task, progress: bool) -> tuple[_Asked | None, str]:
    ways, about = wordings(model, task.train, [*task.validation, *task.test])
    if not ways:
        return None, about

    def ask(problems: Sequence[Problem], k: int) -> Evaluation:
        return evaluate(model, [ways[k].asked(problem) for problem in problems], progress=progress)

    base = evaluate(model, task.validation, progress=progress)
    seen = [ask(task.validation, k) for k in range(len(ways))]
    table = pd.DataFrame(
        {
            "method": label("prompt"),
            "wording": [way.name for way in ways],
            "accuracy": [one.accuracy for one in seen],
            "change": [one.accuracy - base.accuracy for one in seen],
            "margin": [float(one.frame["margin"].mean()) for one in seen],
        }
    )
    best = int(table.sort_values(["accuracy", "margin"], ascending=False, kind="stable").index[0])
    test = ask(task.test, best).frame.assign(method=label("prompt"))
    return _Asked(table, ways[best].name, test), f"{about}; {ways[best].name} was chosen on validation"


def _comparison(
    baseline: Evaluation,
    found: Sequence[Contender],
    tried: dict[str, tuple[pd.DataFrame, pd.DataFrame, Tried]],
    asked: _Asked | None,
    notes: dict[str, str],
    missing: dict[str, str],
    settings: dict[str, Any],
) -> MethodComparison:
    by_name = {one.name: one for one in found}
    chosen, outcomes, controls, doses, seen = [], [], [], [], []
    vectors: dict[str, Direction] = {}
    for matching, (table, picked, done) in tried.items():
        own = done.doses[done.doses["chosen"]].set_index("method")
        picks = picked.assign(
            matching=matching,
            looks=picked["method"].map(table.groupby("method").size()),
            layers=[
                "+".join(str(d.layer) for d in by_name[m].candidates[layer])
                for m, layer in zip(picked["method"], picked["layer"], strict=True)
            ],
            **{column: picked["method"].map(own[column]) for column in ("alpha", "norm", "kl", "reached")},
        )
        chosen.append(picks.rename(columns={"change": "validation_change"}))
        outcomes.append(done.outcomes.assign(matching=matching))
        controls.append(done.controls.assign(matching=matching))
        doses.append(done.doses.assign(matching=matching))
        marked = table.merge(picks[["method", "layer", "sign", "level"]].assign(chosen=True), how="left")
        seen.append(marked.assign(matching=matching, chosen=marked["chosen"].fillna(value=False).astype(bool)))
        for method, layer, alpha in zip(picks["method"], picks["layer"], picks["alpha"], strict=True):
            for direction in by_name[method].candidates[layer]:
                name = f"{matching}-{method}-layer-{direction.layer:03d}".replace(" ", "-")
                about = {**direction.method, "matching": matching, "alpha": float(alpha)}
                vectors[name] = direction.with_vector(direction.vector * alpha, method=about)
    if asked is not None:
        best = asked.looks.set_index("wording").loc[asked.chosen]
        line = {"method": label("prompt"), "matching": "none", "looks": len(asked.looks), "validation_change": best["change"]}
        chosen.append(pd.DataFrame([line]))
        outcomes.append(asked.outcomes.assign(matching="none"))
        seen.append(asked.looks.assign(matching="none", chosen=asked.looks["wording"] == asked.chosen))

    def stacked(parts: list[pd.DataFrame]) -> pd.DataFrame:
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()

    return MethodComparison(
        baseline, stacked(chosen), stacked(outcomes), stacked(controls), stacked(doses), stacked(seen), vectors, notes, missing, settings
    )
