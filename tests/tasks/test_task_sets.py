"""Several tasks side by side, and effects of vectors: draws, mixtures, permuted targets, corrected p-values."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

import steerlab as sl
from steerlab.sweeps.effects import cosine_band, effect, mean_interval
from steerlab.tasks.problems import check_tasks, drawn, mixture, shuffled_targets


def problems(name, n, *, target=None, choices=(" A", " B", " C")):
    return [sl.Problem(f"{name}{k}", f"{name} {k}?", k % len(choices) if target is None else target, choices) for k in range(n)]


def task(name, **splits):
    given = {split: problems(f"{name}-{split}-", 4) for split in ("train", "validation", "test")} | splits
    return sl.Task(name, **given, scorer="choice")


def test_tasks_that_test_what_another_trains_on_are_refused():
    a = task("a")
    b = task("b", test=[replace(a.train[2], id="elsewhere")])
    with pytest.raises(ValueError, match="1 test problems of 'b' stand in train or validation of 'a'"):
        check_tasks({"a": a, "b": b})
    check_tasks({"a": a, "c": task("c")})


def test_too_few_tasks_and_empty_splits_are_refused():
    with pytest.raises(ValueError, match="at least 2"):
        check_tasks({"a": task("a")})
    with pytest.raises(ValueError, match="'b' has no validation"):
        check_tasks({"a": task("a"), "b": task("b", validation=[])})
    with pytest.raises(TypeError, match="give a dict"):
        check_tasks([task("a"), task("b")])


def test_more_problems_than_there_are_cannot_be_drawn():
    with pytest.raises(ValueError, match="5 train problems asked for, 4 there"):
        drawn(problems("a", 4), 5, rng=np.random.default_rng(0), what="train problems")


def test_a_mixture_has_equal_shares_and_ids_of_its_own():
    mixed = mixture({"a": problems("p", 9), "b": problems("p", 9)}, 7, rng=np.random.default_rng(0))
    assert len({p.id for p in mixed}) == 7
    assert sorted(p.id.split("/")[0] for p in mixed) == ["a"] * 4 + ["b"] * 3


def test_a_mixture_of_tasks_with_other_scorers_is_refused():
    other = [replace(p, scorer="continuation") for p in problems("b", 4)]
    with pytest.raises(ValueError, match="different scorers"):
        mixture({"a": problems("a", 4), "b": other}, 4, rng=np.random.default_rng(0))


def test_permuted_targets_keep_how_often_each_place_is_right():
    given = problems("a", 30)
    shuffled = shuffled_targets(given, rng=np.random.default_rng(0))
    assert [p.id for p in shuffled] == [p.id for p in given]
    assert sorted(p.target_index for p in shuffled) == sorted(p.target_index for p in given)
    assert [p.target_index for p in shuffled] != [p.target_index for p in given]


def test_targets_that_are_always_the_first_are_drawn_evenly():
    shuffled = shuffled_targets(problems("a", 400, target=0, choices=("good", "bad")), rng=np.random.default_rng(0))
    assert 150 < sum(p.target_index for p in shuffled) < 250


def test_permuted_targets_without_choices_are_permuted_answers():
    given = [sl.Problem(str(k), f"{k} + 1 =", k + 1) for k in range(20)]
    shuffled = shuffled_targets(given, rng=np.random.default_rng(0))
    assert sorted(p.target for p in shuffled) == list(range(1, 21))
    assert [p.target for p in shuffled] != [p.target for p in given]


def test_corrected_p_values_are_those_of_the_largest_standardised_draw():
    rng = np.random.default_rng(0)
    observed, nulls = np.array([2.5, 0.1]), rng.normal(size=(2, 19)) * [[1.0], [5.0]]
    p, corrected = sl.statistics.rank_tests(observed, nulls)
    sizes = []
    for effects in range(2):
        both = np.append(observed[effects], nulls[effects])
        centred = np.abs(both - np.median(both))
        sizes.append(centred / np.std(both - np.median(both)))
    sizes = np.array(sizes)
    by_hand = [(1 + (sizes[:, 1:].max(0) >= sizes[k, 0]).sum()) / 20 for k in range(2)]
    assert corrected == pytest.approx(np.maximum(by_hand, p))
    assert p[0] == sl.statistics.rank_test(2.5, nulls[0]).pvalue


def test_under_the_null_the_corrected_p_values_reject_no_more_often_than_they_say():
    rng = np.random.default_rng(1)
    draws = rng.normal(size=(400, 6, 20))
    alarms = [(sl.statistics.rank_tests(d[:, 0], d[:, 1:])[1] <= 0.1).any() for d in draws]
    assert stats.binomtest(int(np.sum(alarms)), 400, 0.1, alternative="greater").pvalue > 0.001


def test_the_cosine_band_holds_its_share_of_random_directions():
    rng = np.random.default_rng(2)
    cosines = rng.normal(size=(20_000, 24))
    cosines = cosines[:, 0] / np.linalg.norm(cosines, axis=1)
    assert np.mean(np.abs(cosines) > cosine_band(24)) == pytest.approx(0.05, abs=0.006)


def test_the_interval_of_a_mean_is_students():
    values = [0.1, 0.4, 0.2, 0.3]
    low, high = mean_interval(values)
    expected = stats.ttest_1samp(values, 0).confidence_interval()
    assert (low, high) == pytest.approx((expected.low, expected.high))
    assert np.isnan(list(mean_interval([0.1]))).all()
    assert np.isnan(list(mean_interval([0.1, 0.1]))).all()


def test_an_effect_is_the_sign_tests_and_its_interval():
    import pandas as pd

    before = pd.DataFrame({"correct": [True, False, False, True, False], "margin": [1.0, -1.0, -2.0, 1.0, -1.0]})
    after = pd.DataFrame({"correct": [True, True, True, False, False], "margin": [1.0, 1.0, 1.0, -1.0, -1.0]})
    found, test = effect(before, after), sl.statistics.sign_test(before["correct"], after["correct"])
    assert (found["change"], found["p"], found["n"]) == (test.change, test.pvalue, 5)
    assert (found["low"], found["high"]) == tuple(test.interval())
    assert found["margin_change"] == pytest.approx(0.6)
