"""The kinds of runs that jobs are made of, each with a small batch to time it on before the job starts."""

from collections.abc import Sequence
from typing import Unpack

import numpy as np
import torch

from steerlab.directions.direction import Direction
from steerlab.directions.random import random_directions
from steerlab.models.backends import Model
from steerlab.models.batches import TokenRow
from steerlab.models.forecasts import TIMED, Work
from steerlab.models.model import Site, d_model
from steerlab.steering.cells import run_interventions
from steerlab.steering.distributions import compare_distributions, positions_on_text, text_rows
from steerlab.steering.options import Acting, Scoring
from steerlab.steering.variants import Intervention, Placed
from steerlab.tasks.evaluation import evaluate, plan
from steerlab.tasks.problems import Problem
from steerlab.tasks.scorers import Scorer, scorer_for


def unsteered(model: Model, problems: Sequence[Problem], runs: int, *, again: int = 0, scorer: str | Scorer | None = None) -> Work:
    """So many rows that are evaluated as they are; `again` more that are run for something else, such as their activations, are not counted."""

    def run(some: Sequence[Problem]) -> int:
        evaluate(model, some, scorer=scorer)
        return rows_of(model, some, scorer)

    return Work("unsteered", runs, problems, run, again)


def steered(
    model: Model,
    problems: Sequence[Problem],
    runs: int,
    *,
    layers: Sequence[int],
    site: str = "resid_post",
    together: int = TIMED,
    **how: Unpack[Scoring],
) -> Work:
    """Rows that are scored under many interventions.

    Args:
        runs: how many: of each row one under each intervention, and one without.
        layers, site: where interventions act.
        together: how many interventions a row runs under at once; a timed batch has no more than that.
    """

    def run(some: Sequence[Problem]) -> int:
        cells = _cells(model, layers, site, min(together, TIMED))
        run_interventions(model, some, cells, **how)
        return rows_of(model, some, how.get("scorer")) * (1 + len(cells))

    return Work("steered", runs, problems, run)


def on_texts(
    model: Model, texts: Sequence[str | Sequence[int]], runs: int, *, layers: Sequence[int], search: int = 0, **acting: Unpack[Acting]
) -> Work:
    """Texts whose next-token distributions are compared in so many runs under interventions at layers; `search` more, about, are not counted."""

    def run(some: Sequence[TokenRow]) -> int:
        cells = _cells(model, layers, "resid_post", TIMED)
        compare_distributions(model, some, cells, **acting | Acting(positions=positions_on_text(acting["positions"])))
        return len(some) * (1 + len(cells))

    return Work("texts", runs, text_rows(model, texts), run, search)


def rows_of(model: Model, problems: Sequence[Problem], scorer: str | Scorer | None = None) -> int:
    """How many rows problems are scored by."""
    return len(plan(model, problems, scorer_for(problems, scorer)).rows)


def _cells(model: Model, layers: Sequence[int], site: str, n: int) -> list[Intervention]:
    """Interventions with random directions, spread over layers."""
    at = [layers[k] for k in np.linspace(0, len(layers) - 1, n).round().astype(int)]
    like = Direction(torch.ones(d_model(model)) / d_model(model) ** 0.5, layers[0], site)
    drawn = random_directions(like, len(at), rng=np.random.default_rng(0))
    return [Intervention((Placed(one, Site(layer, site)),), 1.0) for one, layer in zip(drawn, at, strict=True)]
