"""Kinds of vectors side by side: tables that follow from the outcomes, verdicts that follow from the tables."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from results import speaks

import steerlab as sl
from steerlab.aft.learnables import MLPVector
from steerlab.studies.context_comparison import crossed_interval

TASK = sl.load_task("arithmetic", n_train=24, n_validation=8, n_test=12)
SPLITS = (TASK.train, TASK.validation, TASK.test)
OPTIONS = {"layer": 1, "n_train": 8, "seeds": (0, 1), "lrs": (0.1, 0.01), "epochs": 2}


def compare(model, **options):
    return sl.compare_context_vectors(model, *SPLITS, rng=np.random.default_rng(0), **(OPTIONS | options))


@pytest.fixture(scope="module")
def found(toy_model, backends):
    return compare(toy_model(backends[0]), kinds=("mlp", "static", "modulated"))


def test_the_tables_follow_from_the_outcomes(found):
    assert found.kinds["kind"].tolist() == ["static", "modulated", "mlp"]  # by parameters
    assert found.kinds["n_parameters"].tolist() == [32, 65, 2 * 32 * 128 + 128 + 32]
    means = found.outcomes.groupby("kind")["correct"].mean()
    for line in found.kinds.to_dict("records"):
        assert line["test_accuracy"] == pytest.approx(means[line["kind"]])
        assert line["change"] == pytest.approx(means[line["kind"]] - found.baseline.accuracy)
        assert line["low"] <= line["change"] <= line["high"]
    for line in found.contrasts.to_dict("records"):
        assert line["difference"] == pytest.approx(means["static"] - means[line["kind"]])
    p = pd.concat([found.kinds, found.contrasts])
    assert p["p_holm"].tolist() == pytest.approx(sl.statistics.holm(p["p"]).tolist())


def test_a_run_is_what_learning_alone_gives_with_the_chosen_rate(found, toy_model, backends):
    model = toy_model(backends[0])
    line = found.runs.query("kind == 'mlp' and seed == 1").iloc[0]
    some = np.sort(np.random.default_rng([1, 2]).choice(len(TASK.train), 8, replace=False))
    best = max(
        (
            sl.learn_context_vector(
                model,
                [TASK.train[i] for i in some],
                layer=1,
                kind="mlp",
                validation=TASK.validation,
                epochs=2,
                lr=lr,
                seed=1,
                early_stopping=None,
            )
            for lr in (0.1, 0.01)
        ),
        key=lambda one: (one.method["validation_accuracy"], -one.history.set_index("epoch")["validation_nll"][one.method["epoch"]]),
    )
    assert (line["lr"], line["epoch"]) == (best.method["lr"], best.method["epoch"])
    assert line["validation_accuracy"] == best.method["validation_accuracy"]
    assert line["test_accuracy"] == best.evaluate(model, TASK.test).accuracy


@pytest.mark.slow
def test_the_same_call_gives_the_same_tables(found, toy_model, backends):
    again = compare(toy_model(backends[0]), kinds=("static", "modulated", "mlp"))
    for name in ("runs", "outcomes", "kinds", "contrasts"):
        pd.testing.assert_frame_equal(getattr(again, name), getattr(found, name), check_exact=True)


@pytest.mark.parametrize(
    ("differences", "p", "verdict", "says"),
    [
        ((0.2, 0.3), (0.01, 0.02), "supported", "Fewer parameters won"),
        ((0.2, 0.3), (0.01, 0.2), "partly supported", "better than some"),
        ((0.2, -0.3), (0.01, 0.02), "contradicted", "more parameters was better"),
        ((0.2, -0.3), (0.2, 0.2), "no evidence", "No evidence that fewer parameters win"),
    ],
)
def test_the_verdict_follows_from_the_corrected_contrasts(found, differences, p, verdict, says):
    told = replace(found, contrasts=found.contrasts.assign(difference=differences, p_holm=p))
    assert told.verdict == verdict
    assert says in str(told)
    assert verdict in repr(told)
    assert sl.plots.context_kinds(told).layout.title.text
    speaks(told)


def test_few_seeds_are_a_warning(found):
    assert any("2 seeds show little" in said for said in found.warnings())


# Oracle: the variance of a mean of independent seeds' and problems' effects, in large samples.
def test_the_interval_is_as_wide_as_seeds_and_problems_together_make_it():
    rng = np.random.default_rng(0)
    values = 0.3 * rng.standard_normal(60)[:, None] + 0.5 * rng.standard_normal(80)[None]
    low, high = crossed_interval(values, rng=rng, n_resamples=4000)
    width = 2 * 1.96 * np.sqrt(values.mean(1).var() / 60 + values.mean(0).var() / 80)
    assert high - low == pytest.approx(width, rel=0.06)
    assert low < values.mean() < high
    assert crossed_interval(np.full((3, 5), 0.25), rng=rng) == pytest.approx((0.25, 0.25))


def test_bad_input_is_refused_with_the_fix(toy_model, backends):
    model = toy_model(backends[0])
    for options, message in (
        ({"n_train": 25}, "use 1 to 24"),
        ({"seeds": (1,)}, "at least two"),
        ({"seeds": (1, 1)}, "each once"),
        ({"kinds": ("static",)}, "at least two"),
        ({"kinds": ("static", "static")}, "given twice"),
        ({"kinds": ("static", "rnn")}, "use one of modulated"),
        ({"kinds": ("static", MLPVector(8))}, "residual stream has 32"),
        ({"lrs": ()}, "at least one learning rate"),
    ):
        with pytest.raises(ValueError, match=message):
            compare(model, **options)
    with pytest.raises(ValueError, match="training problems, too"):
        sl.compare_context_vectors(model, TASK.train, TASK.validation, TASK.validation, rng=np.random.default_rng(0), **OPTIONS)
