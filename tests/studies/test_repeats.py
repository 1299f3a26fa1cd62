"""The main protocol over split seeds: each seed is a plain run, and effects are pooled with the errors of their intervals."""

import numpy as np
import pytest
from results import speaks
from scipy.stats import norm
from statsmodels.stats.meta_analysis import combine_effects

import steerlab as sl

SMALL = {"layers": [1], "alphas": [-2, 0, 2], "n_controls": 3, "n_same_cell": 1}


def task_of_seed(seed: int) -> sl.Task:
    """Splits of one pool of 60 test problems, of which each seed has 40."""
    pool = sl.load_task("arithmetic", n_train=60, n_validation=20, n_test=60)
    which = np.random.default_rng(seed).permutation(60)[:40]
    return sl.Task(pool.name, pool.train, pool.validation, [pool.test[i] for i in which], pool.scorer)


@pytest.fixture(scope="module")
def model(toy_model, backends):
    return toy_model(backends[0])


@pytest.fixture(scope="module")
def found(model):
    return sl.repeat_experiment(model, task_of_seed, seeds=[1, 2, 5], **SMALL)


def test_a_seed_is_a_plain_run_of_the_main_protocol_with_its_own_verdict(model, found):
    experiment = sl.run_experiment(model, task_of_seed(2), seed=2, **SMALL)
    said = sl.Significance(experiment)
    for goal in ("raise", "lower"):
        (row,) = found.frame.query(f"seed == 2 and goal == {goal!r}").to_dict("records")
        finding = said.finding(goal)
        assert (row["layer"], row["alpha"], row["n"]) == (*experiment.cell(goal), 40)
        before, after = experiment.pipelines[0].paired(goal)
        assert row["change"] == pytest.approx(after.mean() - before.mean())
        assert [row["low"], row["high"]] == pytest.approx(list(finding.interval))
        assert (row["p_effect"], row["verdict"]) == (pytest.approx(finding.effect.pvalue), finding.verdict.text)
        assert row["p_controls"] == pytest.approx(max(test.pvalue for test in finding.against.values()))


def test_seeds_are_pooled_as_statsmodels_does(found):
    rows = found.frame[found.frame["goal"] == "raise"]
    errors = (rows["high"] - rows["low"]) / 2 / norm.isf(0.025)
    want = combine_effects(rows["change"].to_numpy(), errors.to_numpy() ** 2, method_re="iterated")
    assert found.pooled("raise").mean == pytest.approx(want.mean_effect_re, rel=1e-4, abs=1e-9)
    assert found.summary()["seeds"].tolist() == [3, 3]


def test_shared_test_problems_are_said(found):
    tests = [{p.id for p in task_of_seed(seed).test} for seed in (1, 2, 5)]
    share = np.mean([len(tests[a] & tests[b]) / 40 for a, b in ((0, 1), (0, 2), (1, 2))])
    assert found.overlap == pytest.approx(share)
    assert f"{100 * share:.0f}% of a seed's test problems stand in another seed's test" in found.warnings()[0]
    speaks(found)


def test_one_seed_is_no_repetition(model):
    for seeds in ([1], [1, 1]):
        with pytest.raises(sl.InputError, match="at least two, each once"):
            sl.repeat_experiment(model, task_of_seed, seeds=seeds)
