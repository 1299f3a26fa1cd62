"""Every result speaks one language, `frame`, `summary`, `warnings`, `plot`, and shows itself in notebooks: well-formed, short, outside text as text."""

import dataclasses
import inspect
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from results import shown, speaks

import steerlab as sl
from steerlab._html import Plotted, Result
from steerlab.models.model import Precision
from steerlab.statistics.dose_response import Reversal
from steerlab.sweeps.choosing import HalvingResult
from steerlab.sweeps.preview import Correlation

EVIL = '</p><script>window.pwned = 1</script>"\' onclick="pwned=1" x=\'&quot; y=1 >'
# Not results: parts that a report is given, routers, settings, and the base that results of controls share.
INPUTS = {
    "Choice",
    "Grid",
    "Shortlist",
    "Drawing",
    "Report",
    "Examples",
    "Table",
    "ControlTests",
    "KeywordRouter",
    "NearestMean",
    "ReachProjection",
    "GridJob",
    "Specification",
    "Watcher",
}
SOURCES = Path(sl.__file__).parent


TAGS = {"p", "pre", "table", "caption", "thead", "tbody", "tr", "th", "td"}
ATTRIBUTES = {("border", "1"), ("class", "dataframe"), ("style", "text-align: right;")}
WITH_TEXT = ("problem", "task", "evaluation", "direction", "sweep", "control", "halving", "max statistic", "precision", "outcomes")


def public() -> list[type]:
    found = {getattr(space, name) for space in (sl, sl.statistics) for name in space.__all__ if inspect.isclass(getattr(space, name))}
    return sorted((one for one in found if dataclasses.is_dataclass(one) and one.__name__ not in INPUTS), key=lambda one: one.__name__)


@pytest.mark.parametrize("kind", [*public(), Precision, Correlation, Reversal], ids=lambda kind: kind.__name__)
def test_every_public_result_is_frozen_and_shows_itself(kind: type):
    assert kind.__dataclass_params__.frozen
    assert callable(getattr(kind, "_repr_html_", None))
    assert kind.__repr__ is not object.__repr__
    if kind is not sl.Problem:  # what is asked, and no result
        assert issubclass(kind, Result)
        assert isinstance(getattr(kind, "frame", None), property) or "frame" in {one.name for one in dataclasses.fields(kind)}
    if issubclass(kind, Plotted):
        assert kind._figure in sl.plots.__all__


def test_there_are_results_to_look_at():
    assert len(public()) > 30


STATISTICS = sl.statistics
RNG = np.random.default_rng(5)
BEFORE, AFTER = RNG.random(12) < 0.5, RNG.random(12) < 0.7
X, Y = RNG.normal(size=12), RNG.normal(size=12)
DOSES = STATISTICS.dose_response([-1, 0, 1, 2], RNG.normal(size=(9, 4)), rng=RNG, n_resamples=50)
NUMBERS = {
    "sign": STATISTICS.sign_test(BEFORE, AFTER),
    "wilcoxon": STATISTICS.wilcoxon_test(X, Y),
    "flips": STATISTICS.sign_flip_test(X, Y, rng=RNG),
    "t": STATISTICS.paired_t_test(X, Y),
    "welch": STATISTICS.welch_t_test(X, Y),
    "rank": STATISTICS.rank_test(2.0, X),
    "prediction": STATISTICS.prediction_test(2.0, X),
    "effect size": STATISTICS.effect_size(X),
    "odds": STATISTICS.discordant_odds_ratio(BEFORE, AFTER),
    "wrong way": STATISTICS.anti_steerable_share(X, Y),
    "equivalence": STATISTICS.equivalence_test(BEFORE, AFTER, margin=0.2),
    "interval": STATISTICS.wilson_interval(3, 9),
    "bootstrap": STATISTICS.bootstrap(X, rng=RNG, n_resamples=99),
    "plan": STATISTICS.plan(change=-0.1, discordant=0.2),
    "auc": STATISTICS.auc(X, Y),
    "halves": STATISTICS.split_half_cosines(RNG.normal(size=(9, 5)), RNG.normal(size=(8, 5)), rng=RNG),
    "agreement": STATISTICS.directional_agreement(RNG.normal(size=(9, 5))),
    "doses": DOSES,
    "doses of means": STATISTICS.dose_response([-1, 0, 1], [0.2, 0.5, 0.4], rng=RNG),
    "trend": DOSES.trend,
    "line": DOSES.linear,
    "curve": DOSES.isotonic,
    "rho": DOSES.spearman,
    "asymmetry": DOSES.asymmetry,
}


@pytest.mark.parametrize("name", NUMBERS)
def test_every_statistic_speaks_the_same_language(name: str):
    speaks(NUMBERS[name])
    assert not set(NUMBERS[name].summary().dtypes.astype(str)) - {"float64", "int64", "bool", "object", "str"}


def test_the_ends_of_an_interval_are_columns_and_a_count_stands_for_an_array():
    line = NUMBERS["welch"].summary().iloc[0]
    assert (line["low"], line["high"]) == tuple(NUMBERS["welch"].interval())
    assert (line["n_first"], line["pvalue"]) == (12, NUMBERS["welch"].pvalue)
    assert {"low", "high", "intercept_low", "intercept_high"} <= set(NUMBERS["line"].summary())


@pytest.fixture(scope="module")
def results(toy_model, backends) -> dict[str, object]:
    model, task = toy_model(backends[0]), sl.load_task("arithmetic", limit=60)
    evaluation = sl.evaluate(model, task.train)
    split = sl.balance(evaluation, rng=np.random.default_rng(0), train=1.0)
    acts = sl.cache_activations(model, split.train, layers=[1])
    groups = [acts.select([p.id for p in group]) for group in (split.train_correct, split.train_incorrect)]
    direction = dataclasses.replace(sl.mean_difference(*groups, layer=1), name=EVIL)
    problems = [dataclasses.replace(problem, id=f"{EVIL}{k}") for k, problem in enumerate(task.test[:6])]
    control = sl.random_control(model, problems, direction, alpha=2.0, n=3, rng=np.random.default_rng(1))
    return {
        "problem": dataclasses.replace(problems[0], prompt=EVIL + problems[0].prompt),
        "task": sl.Task(EVIL, task.train, task.validation, task.test, "choice"),
        "evaluation": sl.Evaluation(tuple(problems), sl.evaluate(model, problems).frame.assign(prediction=EVIL), EVIL),
        "split": split,
        "activations": acts,
        "direction": direction,
        "sweep": sl.sweep(model, problems, direction, alphas=[-1, 0, 1]),
        "control": control,
        "halving": HalvingResult(
            pd.DataFrame(
                {"round": [1], "layer": 1, "direction": EVIL, "alpha": 1.0, "n": 2, "accuracy": 0.5, "margin_change": 0.0, "kept": True}
            ),
            4,
            8,
        ),
        "max statistic": sl.statistics.max_statistic_test([0, 0, 1], pd.DataFrame({EVIL: [1, 1, 1]}), rng=np.random.default_rng(3)),
        "rank test": control.rank_test(),
        "sign test": control.sign_test(),
        "diagnostics": sl.contrast_diagnostics(*groups, rng=np.random.default_rng(2)),
        "magnitudes": sl.token_magnitudes(model, problems, layers=[1], direction=direction),
        "precision": Precision(EVIL, 10, 1),
        "reversal": Reversal(-1.0, 0.0, 0.1, increasing=True, pvalue=0.2, n_pairs=3),
        "correlation": Correlation(0.9, 0.8, 4),
        "outcomes": sl.controls_from_frame(
            pd.DataFrame({"problem_id": ["a", "b"], "correct": [True, False]}),
            pd.DataFrame(
                {"direction": [EVIL] * 2 + ["c"] * 2, "is_control": [False] * 2 + [True] * 2, "problem_id": ["a", "b"] * 2, "correct": True}
            ),
        ),
    }


def test_every_result_speaks_the_same_language(results: dict[str, object]):
    for name, result in results.items():
        if name != "problem":
            speaks(result)


def test_what_is_shown_is_well_formed_and_outside_text_stays_text(results: dict[str, object]):
    for name, result in results.items():
        said = shown(result)
        assert EVIL[:20] in said or repr(EVIL)[:20] in said or name not in WITH_TEXT, name


def test_only_problems_draw_themselves_and_every_other_result_is_drawn_in_one_style():
    """Read off the source, so that no second style comes back."""
    own = [path.name for path in SOURCES.rglob("*.py") if "def _repr_html_" in path.read_text(encoding="utf-8")]
    frames = [
        path.name for path in SOURCES.rglob("*.py") if ".to_html(" in path.read_text(encoding="utf-8") and path.parent.name != "reports"
    ]
    assert sorted(own) == ["_html.py", "problems.py"]
    assert frames == []


def test_a_layers_diagnostics_show_their_numbers(results: dict[str, object]):
    said = shown(results["diagnostics"].layers[0])
    assert "Contrast at layer 1" in said
    assert "stability" in said
