"""Protocols and their selection bias: the rules against `adaptive_aft`, and the tables against their lines."""

import numpy as np
import pandas as pd
import pytest
from results import speaks

import steerlab as sl
from steerlab.studies.protocols import RULES, choose

OPTIONS = {
    "repetitions": 2,
    "n_train": 8,
    "n_validation": 8,
    "n_outcome": 8,
    "attempts": 2,
    "rapid_epochs": 1,
    "epochs": 2,
    "extend": 0,
    "lr": 0.1,
}


@pytest.fixture(scope="module")
def model(toy_model, backends):
    return toy_model(backends[0])


@pytest.fixture(scope="module")
def task():
    return sl.load_task("arithmetic", n_train=24, n_validation=20, n_test=24)


@pytest.fixture(scope="module")
def found(model, task):
    return sl.compare_protocols(model, task, rng=np.random.default_rng(0), **OPTIONS)


def test_each_repetition_has_every_protocol_and_its_bias(found):
    assert found.frame.groupby("repetition")["protocol"].apply(list).tolist() == [list(RULES)] * 2
    np.testing.assert_allclose(found.frame["bias"], found.frame["reported"] - found.frame["change"])
    assert (found.frame["n"] == 24).all()


def test_what_is_reported_is_the_gain_of_the_chosen_candidate(found):
    merged = found.frame.assign(grid=[RULES[p][0] for p in found.frame["protocol"]]).merge(
        found.candidates, on=["repetition", "grid", "layer", "seed"], suffixes=("", "_of")
    )
    assert len(merged) == len(found.frame)
    for row in merged.to_dict("records"):
        assert row["reported"] == row[row["reported_on"]]
    best = found.candidates.query("grid == 'adaptive'").groupby("repetition")["validation"].max()
    assert merged.query("protocol == 'adaptive, chosen on validation'")["reported"].tolist() == best.tolist()


def test_a_retried_protocol_never_reports_less_than_its_first_attempt_did_when_that_was_negative(found):
    tried = found.frame[found.frame["protocol"].str.contains("retried")]
    assert tried["first_attempt"].notna().all()
    assert (tried["attempts"].between(1, 2)).all()
    assert (tried.loc[tried["attempts"] == 1, "reported"] == tried.loc[tried["attempts"] == 1, "first_attempt"]).all()
    assert (tried.loc[tried["attempts"] > 1, "first_attempt"] < 0).all()


@pytest.mark.parametrize("rule", ["validation", "retry"])
def test_the_rules_choose_what_the_adaptive_protocol_chooses(model, task, rule):
    shared = {"seeds": [5, 6, 7], "epochs": 2, "extend": 0, "lrs": 0.1, "validation": task.validation[:10]}
    outcome = {"select": "retry", "outcome": task.validation[10:]} if rule == "retry" else {}
    expected = sl.adaptive_aft(model, task.train[:8], **shared, **outcome)
    candidates = sl.learn_vectors(model, task.train[:8], early_stopping=0.02, **shared)
    after = sl.sweep(model, task.validation[10:], list(candidates), alphas=1.0).accuracy().set_index("direction")["change"]
    table = candidates.frame.rename(columns={"validation_accuracy": "validation", "validation_nll": "nll"})
    table["outcome"] = [after[name] for name in table["name"]]
    place, _, attempts = choose(table, shared["seeds"], "all" if rule == "validation" else "retry", "validation")
    assert (table["name"][place], attempts) == (expected.vector.name, expected.n_attempts)


def test_an_interval_over_repetitions_is_widened_by_the_fresh_problems_that_they_share(found):
    row = found.summary().set_index("protocol").loc["adaptive, chosen on validation"]
    part = found.frame[found.frame["protocol"] == "adaptive, chosen on validation"]
    moves = found.moves.loc[found.moves["protocol"] == "adaptive, chosen on validation", "move"]
    assert moves.mean() == pytest.approx(part["change"].mean())
    student = 12.7062 * part["bias"].std(ddof=1) / np.sqrt(2)
    half = np.hypot(student, 1.96 * moves.std(ddof=1) / np.sqrt(24))
    assert row["bias_high"] - row["bias"] == pytest.approx(half, rel=1e-4)


def test_a_comparison_says_itself_in_words_and_as_a_figure(found):
    said = str(found)
    for name in RULES:
        assert name.capitalize() in said
    assert "retrying raised the report" in said
    assert len(sl.plots.reported_against_fresh(found).data) == 1 + len(RULES)
    speaks(found)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_comparison(model, task, found):
    again = sl.compare_protocols(model, task, rng=np.random.default_rng(0), **OPTIONS)
    pd.testing.assert_frame_equal(again.frame, found.frame)


@pytest.mark.parametrize(
    ("options", "said"), [({"repetitions": 0}, "repetitions=0"), ({"n_outcome": 50}, "58 validation and outcome problems")]
)
def test_bad_input_is_named(model, task, options, said):
    with pytest.raises(ValueError, match=said):
        sl.compare_protocols(model, task, rng=np.random.default_rng(0), **(OPTIONS | options))
