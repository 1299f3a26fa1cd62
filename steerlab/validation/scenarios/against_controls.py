"""One direction among controls, given their effects: the tests, and the published recipe."""

from functools import partial

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from steerlab import statistics as st
from steerlab._checks import Alternative
from steerlab.validation.scenarios._common import Scenario, missed, rejected

RECIPE = (
    "the sources' recipe asks whether the mean of five controls equals the direction's effect, which it takes as known; "
    "one more random direction would be called special this often"
)


def effects(rng: np.random.Generator, k: int, shift: float = 0.0, shape: str = "normal") -> tuple[float, NDArray[np.float64]]:
    """The effect of a direction, and of k controls from the same distribution, moved by `shift` standard deviations."""
    drawn = {"normal": rng.normal(size=k + 1), "skewed": rng.exponential(size=k + 1), "heavy": rng.standard_t(3, k + 1)}[shape]
    return float(drawn[0] + shift), drawn[1:]


def _rank(k: int, shift: float, shape: str, rng: np.random.Generator, *, alternative: Alternative = "two-sided") -> NDArray[np.float64]:
    return rejected(st.rank_test(*effects(rng, k, shift, shape), alternative=alternative).pvalue)


def _rank_of_answers(k: int, n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Each direction flips some answers, most of them the same fragile ones, so that many changes of accuracy tie."""
    before, fragile = rng.random(n) < 0.6, rng.random(n) < 0.2
    flipped = (rng.random((k + 1, n)) < 0.4) & fragile
    ids = [f"p{i}" for i in range(n)]
    baseline = pd.DataFrame({"problem_id": ids, "correct": before})
    frame = pd.DataFrame(
        {
            "direction": np.repeat([f"d{i}" for i in range(k + 1)], n),
            "is_control": np.repeat(np.arange(k + 1) > 0, n),
            "problem_id": ids * (k + 1),
            "correct": (before ^ flipped).ravel(),
        }
    )
    return rejected(st.controls_from_frame(baseline, frame).rank_test().pvalue)


def _prediction(k: int, shift: float, shape: str, rng: np.random.Generator) -> NDArray[np.float64]:
    return rejected(st.prediction_test(*effects(rng, k, shift, shape)).pvalue)


def _one_more(k: int, rng: np.random.Generator) -> NDArray[np.float64]:
    observed, controls = effects(rng, k)
    return missed(st.prediction_test(observed, controls).interval, float(rng.normal()))


def _one_more_by_rank(k: int, shape: str, rng: np.random.Generator) -> NDArray[np.float64]:
    drawn = effects(rng, k + 1, shape=shape)[1]
    return missed(st.rank_test(0.0, drawn[1:]).interval, float(drawn[0]))


def _recipe(k: int, shift: float, rng: np.random.Generator) -> NDArray[np.float64]:
    observed, controls = effects(rng, k, shift)
    return rejected(st.one_sample_t_test(controls, observed).pvalue)


SCENARIOS: list[Scenario] = [
    Scenario("rank test", "99 controls, normal", partial(_rank, 99, 0.0, "normal")),
    Scenario("rank test", "99 controls, skewed", partial(_rank, 99, 0.0, "skewed")),
    Scenario("rank test", "19 controls, heavy tails", partial(_rank, 19, 0.0, "heavy")),
    Scenario("rank test, one-sided", "99 controls, skewed", partial(_rank, 99, 0.0, "skewed", alternative="less")),
    Scenario("rank test", "19 controls, accuracy of 40 problems, with ties", partial(_rank_of_answers, 19, 40), share=0.1),
    Scenario("interval of the rank test, for one more control", "99 controls, skewed", partial(_one_more_by_rank, 99, "skewed")),
    Scenario("prediction t", "5 controls, normal", partial(_prediction, 5, 0.0, "normal")),
    Scenario(
        "prediction t",
        "99 controls, heavy tails",
        partial(_prediction, 99, 0.0, "heavy"),
        why="it assumes normal effects; use the rank test",
    ),
    Scenario("prediction interval misses one more control", "5 controls, normal", partial(_one_more, 5)),
    Scenario("one-sample t on controls (the sources' recipe)", "5 controls, normal", partial(_recipe, 5, 0.0), why=RECIPE),
    Scenario("one-sample t on controls (the sources' recipe)", "99 controls, normal", partial(_recipe, 99, 0.0), why=RECIPE),
    # A real effect
    Scenario("rank test", "99 controls, 3 sd away", partial(_rank, 99, 3.0, "normal"), null=False),
    Scenario("rank test", "5 controls, 3 sd away", partial(_rank, 5, 3.0, "normal"), null=False),
    Scenario("prediction t", "99 controls, 3 sd away", partial(_prediction, 99, 3.0, "normal"), null=False),
    Scenario("prediction t", "5 controls, 3 sd away", partial(_prediction, 5, 3.0, "normal"), null=False),
]
