"""A steering vector found without gradients: CMA-ES in a random subspace, for models that can only be run forward.

The search has few dimensions because the covariance that CMA-ES learns grows with the square of their number; a whole population
runs in one batched pass. (Hansen 2016, "The CMA evolution strategy: a tutorial"; Li et al. 2018, "Measuring the intrinsic dimension
of objective landscapes".)
"""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Unpack

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from steerlab._checks import InputError, check_rng, count, is_number, one_of, only, takes_options
from steerlab._progress import job, progress_bar
from steerlab.activations.cache import cache_activations
from steerlab.activations.positions import Positions, TokenPositions
from steerlab.directions.direction import Direction
from steerlab.models.backends import Model
from steerlab.models.forecasts import forecast
from steerlab.models.memory import Limits, PassOptions
from steerlab.models.model import Site, d_model, describe, hook_name
from steerlab.steering.cells import run_interventions
from steerlab.steering.variants import Intervention, Placed
from steerlab.steering.work import rows_of, steered
from steerlab.tasks.evaluation import check_ids
from steerlab.tasks.problems import Problem, as_problems, in_both
from steerlab.tasks.scorers import Scorer

FIRST_STEP = 0.25  # size of the first vectors, as a share of the norm allowed, or of the stream's
SCALED_ON = 64  # problems that tell the stream's norm


@dataclass(frozen=True, eq=False, repr=False)
class EvolvedVector(Direction, title="Evolved vector"):
    """A direction found by evolutionary search, with the history of the search.

    Attributes:
        history: one line a generation: generation, best and mean (objective over the population, smaller is better), norm (of the
            best), step (CMA-ES's step size), best_so_far, validation (objective of the generation's best; NaN without validation)
            and evaluations (problems run so far, steered).
    """

    history: pd.DataFrame = field(default_factory=pd.DataFrame)

    def __reduce__(self) -> tuple[Any, ...]:
        cls, values = EvolvedVector, super().__reduce__()[1]
        return cls, (*values, self.history)

    @property
    def frame(self) -> pd.DataFrame:
        """The history: one line a generation."""
        return self.history


@job("problems", "generations", "population")
@takes_options
def evolve_vector(
    model: Model,
    problems: Sequence[Problem],
    *,
    layer: int,
    rng: np.random.Generator,
    dimensions: int = 16,
    generations: int = 20,
    population: int | None = None,
    norm: float | None = None,
    objective: str = "nll",
    validation: Sequence[Problem] | None = None,
    site: str = "resid_post",
    positions: Positions = "all",
    scorer: str | Scorer | None = None,
    name: str = "evolved vector",
    **options: Unpack[PassOptions],
) -> EvolvedVector:
    """The vector that makes the model answer best when it is added at a layer, by evolutionary search; forward passes only.

    Args:
        model: a TransformerLens model.
        problems: what to search on; train problems.
        layer, site: where the vector acts.
        rng: draws the subspace and everything that CMA-ES draws.
        dimensions: of the random subspace, from 2 to the width of the stream.
        generations: at most so many; CMA-ES stops early where nothing moves.
        population: vectors in a generation; default CMA-ES's own, ``4 + floor(3 log(dimensions))``.
        norm: no vector is longer; longer ones are shortened to it. None for no limit.
        objective: "nll" (mean negative log-probability of the answer), "margin" (its mean, negated) or "accuracy" (negated; equals are
            told apart by the nll).
        validation: other problems on which the best of each generation is scored; the best there is returned. Without, it is the best
            on `problems`, whose objective is then too good to be reported.
        positions: where it acts: "all", "last", "prompt", "generated", or indices.
        scorer: as in `steerlab.sweep`.
        name: for tables and figures.

    Returns:
        The vector, with its history; ``method`` says how it was chosen and why the search ended.

    Raises:
        ValueError: bad input, found before the first run, or an objective that is not finite for a whole generation.

    Example:
        >>> import steerlab as sl
        >>> task = sl.load_task("arithmetic", n_train=8, n_validation=0, n_test=0)
        >>> model, rng = sl.load_model("tiny-arithmetic"), np.random.default_rng(0)
        >>> found = evolve_vector(model, task.train, layer=3, rng=rng, dimensions=4, generations=2, norm=2.0)
        >>> len(found.history), found.norm <= 2.0001
        (2, True)
    """
    _check(model, problems, validation, layer, site, rng, objective, norm)
    dimensions = count(dimensions, "dimensions", at_least=2)
    if dimensions > d_model(model):
        raise InputError(f"dimensions={dimensions}: this model's residual stream has {d_model(model)}; use 2 to {d_model(model)}")
    generations = count(generations, "generations", at_least=1)
    if population is not None:
        population = count(population, "population", at_least=4)
    limit = math.inf if norm is None else float(norm)
    basis = _orthonormal(rng, dimensions, d_model(model))
    size = limit if norm is not None else cache_activations(model, problems[:SCALED_ON], layers=[layer], site=site).norms()[layer]
    about = describe(model)

    def direction(vector: Float[np.ndarray, " d_model"], called: str) -> Direction:
        return Direction(torch.from_numpy(vector), layer, site, "all", called, {}, about)

    def score(vectors: Sequence[np.ndarray], asked: Sequence[Problem]) -> list[float]:
        cells = [
            Intervention((Placed(direction(vector, f"candidate-{k:03d}"), Site(layer, site)),), 1.0) for k, vector in enumerate(vectors)
        ]
        done = run_interventions(model, asked, cells, operator="add", positions=positions, scorer=scorer, **only(options, Limits))
        return [OBJECTIVES[objective](frame) for frame in done.frames]

    search = _search(dimensions, FIRST_STEP * size / math.sqrt(dimensions), population, rng)
    if options["progress"]:
        how: dict[str, Any] = {"scorer": scorer, **only(options, Limits), "layers": [layer], "site": site, "positions": positions}
        asked, judging = rows_of(model, problems, scorer), 0 if validation is None else rows_of(model, validation, scorer)
        made_of = [steered(model, problems, generations * (1 + search.popsize) * asked, together=search.popsize, **how)]
        made_of += [steered(model, validation, 2 * generations * judging, together=1, **how)] if validation is not None else []
        forecast(model, made_of, show=True, extra=f" in {generations} generations, at most")
    lines: list[dict[str, float]] = []
    best_so_far, chosen_score, chosen, chosen_at, evaluations = math.inf, math.inf, None, 0, 0
    for generation in progress_bar(range(generations), desc="evolve", unit="generation", show=options["progress"]):
        points = search.ask()
        vectors = [_within(point @ basis, limit) for point in points]
        scores = score(vectors, problems)
        evaluations += len(vectors) * len(problems)
        finite = [value for value in scores if math.isfinite(value)]
        if not finite:
            raise InputError(
                f"generation {generation}: the {objective} of all {len(scores)} vectors is not finite; the vectors are too long for this model's dtype. Set norm="
            )
        search.tell(points, [value if math.isfinite(value) else max(finite) + 1 for value in scores])
        best = int(np.nanargmin([value if math.isfinite(value) else np.nan for value in scores]))
        best_so_far = min(best_so_far, scores[best])
        judged = scores[best] if validation is None else score([vectors[best]], validation)[0]
        if judged < chosen_score:
            chosen_score, chosen, chosen_at = judged, vectors[best], generation
        lines.append(
            {
                "generation": generation,
                "best": scores[best],
                "mean": float(np.mean(finite)),
                "norm": float(np.linalg.norm(vectors[best])),
                "step": float(search.sigma),
                "best_so_far": best_so_far,
                "validation": math.nan if validation is None else judged,
                "evaluations": evaluations,
            }
        )
        ended = search.stop()
        if ended:
            break
    if chosen is None:
        raise InputError(f"the {objective} on validation was never finite; set norm= to keep the vectors shorter")
    method = {
        "estimator": "cma-es",
        "objective": objective,
        "dimensions": dimensions,
        "population": int(search.popsize),
        "generations": len(lines),
        "chosen_generation": chosen_at,
        "chosen_on": "train" if validation is None else "validation",
        "norm_limit": norm,
        "acted_on": TokenPositions.of(positions).describe(),
        "ended": ", ".join(sorted(ended)) if ended else "all generations were run",
        "n_problems": len(problems),
    }
    return EvolvedVector(torch.from_numpy(chosen), layer, site, "all", name, method, about, pd.DataFrame(lines))


def _nll(frame: pd.DataFrame) -> float:
    return float(frame["nll"].mean(skipna=False))


def _accuracy(frame: pd.DataFrame) -> float:
    """Shares of wrong answers first; less than one answer of difference is left to the nll."""
    nll = _nll(frame)
    return nll if not math.isfinite(nll) else -float(frame["correct"].mean()) + nll / (1 + nll) / (len(frame) + 1)


OBJECTIVES: dict[str, Callable[[pd.DataFrame], float]] = {
    "nll": _nll,
    "margin": lambda frame: -float(frame["margin"].mean(skipna=False)),
    "accuracy": _accuracy,
}


def _check(
    model: Model,
    problems: Sequence[Problem],
    validation: Sequence[Problem] | None,
    layer: int,
    site: str,
    rng: np.random.Generator,
    objective: str,
    norm: float | None,
) -> None:
    hook_name(model, layer, site)
    check_rng(rng)
    for what, given in (("problems", problems), ("validation", validation)):
        if given is not None or what == "problems":
            as_problems(given, what)
        if given is not None and not given:
            raise InputError(f"{what}: none given; the search needs at least one")
        if given is not None:
            check_ids(given)
    both = in_both(validation or (), problems)
    if both:
        raise InputError(f"validation shares {len(both)} problems with the train problems, {both[0].id!r} first; give others")
    one_of(objective, "objective", OBJECTIVES)
    if norm is not None and not is_number(norm, 0):
        raise InputError(f"norm={norm!r}; use a number above 0, or None for no limit")


def _orthonormal(rng: np.random.Generator, dimensions: int, width: int) -> Float[np.ndarray, "direction d_model"]:
    """Random orthonormal directions, evenly distributed."""
    q, r = np.linalg.qr(rng.standard_normal((width, dimensions)))
    return np.asarray((q * np.sign(np.diag(r))).T)  # the signs make it even


def _within(vector: Float[np.ndarray, " d_model"], limit: float) -> Float[np.ndarray, " d_model"]:
    length = float(np.linalg.norm(vector))
    return vector if length <= limit else vector * (limit / length)


def _search(dimensions: int, step: float, population: int | None, rng: np.random.Generator) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that it could not draw, where Matplotlib is not installed
        import cma

    options: dict[str, Any] = {
        "randn": lambda *shape: rng.standard_normal(shape),
        "seed": math.nan,  # leave NumPy's global state alone
        "verbose": -9,
        "verb_log": 0,
    }
    if population is not None:
        options["popsize"] = population
    return cma.CMAEvolutionStrategy(np.zeros(dimensions), step, options)
