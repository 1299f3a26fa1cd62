"""The worlds in which whole pipelines are calibrated, by hand; and that what the protocol got wrong fails there, and what it does now holds."""

import numpy as np
import pytest

from steerlab.statistics.verdicts import VERDICTS
from steerlab.validation.calibration import calibrate
from steerlab.validation.scenarios import pipelines
from steerlab.validation.scenarios.families import DIMENSIONS, reader
from steerlab.validation.scenarios.pipelines import JUDGED, NEW, OLD, SCENARIOS, World, answers, mean_changes, right, run


def rates(*wanted, simulations=300):
    """Rates at 0.05 of scenarios, by what they are called; all of them take the same number of simulations."""
    chosen = [one for one in SCENARIOS if any(part in f"{one.procedure} | {one.setting}" for part in wanted)]
    found = calibrate(chosen, simulations=round(simulations / min(one.share for one in chosen)), seed=5).frame
    return found[found["level"] == 0.05].set_index(["procedure", "setting"])


def test_answers_flip_as_often_and_change_as_much_as_the_world_says():
    rng, groups = np.random.default_rng(0), np.arange(200_000)
    before, after = answers(rng, groups, np.array([0.0, 0.04, -0.04]), np.array([0.1, 0.1, 0.3]))
    assert before.mean() == pytest.approx(0.5, abs=0.005)
    assert (after != before).mean(1) == pytest.approx([0.1, 0.1, 0.3], abs=0.005)
    assert after.mean(1) - before.mean() == pytest.approx([0, 0.04, -0.04], abs=0.005)
    assert mean_changes(rng, 10**6, np.array([0.04]), np.array([0.1])) == pytest.approx([0.04], abs=0.003)


def test_changes_on_validation_vary_as_those_of_answers_one_by_one_do():
    rng = np.random.default_rng(1)
    counted = [mean_changes(rng, 50, np.array([0.1]), np.array([0.2]))[0] for _ in range(4000)]
    before, after = answers(rng, np.arange(50 * 4000), np.array([0.1]), np.array([0.2]))
    one_by_one = (after[0].astype(float) - before).reshape(4000, 50).mean(1)
    assert np.mean(counted) == pytest.approx(np.mean(one_by_one), abs=0.005)
    assert np.std(counted) == pytest.approx(np.std(one_by_one), rel=0.05)
    assert np.std(counted) == pytest.approx(((0.2 - 0.1**2) / 50) ** 0.5, rel=0.05)  # of one change: E[c^2] - E[c]^2


def test_problems_of_a_group_share_their_fate():
    before, (after,) = answers(np.random.default_rng(2), np.arange(400) // 4, np.zeros(1), np.array([0.3]))
    changes = (after.astype(int) - before).reshape(100, 4)
    assert (changes == changes[:, :1]).all()
    assert changes.any()


def test_an_effect_takes_at_least_as_many_flips_as_itself():
    true, flips = World(flips=0.1, shared=0.2, own=0.3, places=1, cells=2).effects(np.random.default_rng(0), 1)
    assert true == pytest.approx(np.array([[0.2, 0.5], [0.2, 0.2]]))
    assert flips == pytest.approx(np.array([[0.2, 0.5], [0.2, 0.2]]))


@pytest.mark.parametrize(("side", "sign"), [("greater", 1), ("less", -1)])
def test_a_pipeline_finds_the_cell_with_the_effect(side, sign):
    found = run(np.random.default_rng(3), World(own=sign * 0.4, places=1), 5, side=side)
    direction, controls = found.net()
    assert direction == pytest.approx(sign * 0.4, abs=0.1)
    assert np.abs(controls).max() < 0.1


def test_only_matched_controls_gain_by_their_choice():
    worlds = [(np.random.default_rng(k), World(sd=0.05)) for k in range(20)]
    assert np.mean([run(rng, world, 20).net()[1] for rng, world in worlds]) > 0.06  # the best of 72
    assert abs(np.mean([run(rng, world, 20, matched=False).net()[1] for rng, world in worlds])) < 0.02


def test_the_reader_is_the_sum_written_out():
    rng = np.random.default_rng(4)
    values, moves = rng.normal(size=(5, DIMENSIONS)).astype(np.float32), rng.normal(size=(3, DIMENSIONS)).astype(np.float32)
    linear, into, out = reader("varied")

    def read(x):
        return sum(x[i] * linear[i] for i in range(DIMENSIONS)) + sum(np.tanh(x @ into[:, u]) * out[u] for u in range(len(out)))

    still = read(np.ones(DIMENSIONS))
    assert right(values, moves).tolist() == [[bool(read(x + move) > still) for x in values] for move in moves]


def test_a_direction_that_had_a_choice_is_called_special_too_often_unless_its_controls_choose():
    found = rates("a random direction, 72 cells")
    assert (found.loc[OLD, "low"] > 0.05).all()
    assert (found.loc[OLD, "rate"] > 0.15).all()
    assert (found.loc[NEW, "verdict"] == "holds").all()


def test_problems_in_groups_are_no_independent_ones():
    found = rates("300 problems in 77 groups", simulations=600)
    null = found[found["null"]]["verdict"].droplevel("setting")
    assert null["as before: sign test"] == null["as before: sign flips of problems"] == "exceeds"
    assert null["sign flips of groups"] == "holds"


def test_churn_is_no_effect_once_studentised():
    found = rates("one cell, flips 6.8%", simulations=600)
    assert (found.loc[OLD, "verdict"] == "exceeds").all()
    assert (found.loc[NEW, "verdict"] == "holds").all()


def test_one_harmful_control_vetoes_an_improvement_only_in_the_two_sided_test():
    found = rates("does great harm")["rate"]
    few = "19 controls, one of which does great harm, 3 sd away"
    assert found["as before: two-sided rank test", few] == 0
    assert found["one-sided sequential test", few] > 0.7


def test_random_controls_are_no_match_for_an_estimated_direction_and_the_verdict_holds():
    found = rates("chance labels, reader where activations vary", simulations=30)
    rate = found["rate"].droplevel("setting")
    assert rate["as before: 99 isotropic directions at the most negative alpha"] > 0.08
    assert rate[f"{JUDGED}: beats random ones alone"] > 0.15
    assert found["verdict"].droplevel("setting")[f'{JUDGED}: "specific effect"'] == "holds"


def test_there_is_one_verdict_and_each_is_the_usual_one_where_it_is_right():
    usual = {
        "specific effect": World(cells=12, places=2, own=0.08),
        "effect that is not specific to this direction": World(cells=12, shared=0.06),
        "unusual, but no net effect": World(cells=12, shared=-0.06, own=0.06, places=12),
        "no effect detected": World(cells=12),
    }
    assert set(usual) == set(VERDICTS.values())
    for text, world in usual.items():
        rng = np.random.default_rng(6)
        said = np.array([pipelines._verdict(world, rng)[:4, 0] for _ in range(30)])
        assert (said.sum(1) == 1).all()
        assert list(VERDICTS.values())[int(said.mean(0).argmax())] == text
        assert said.mean(0).max() > 0.7


def test_every_scenario_of_pipelines_is_deterministic_given_its_stream():
    for one in SCENARIOS:
        assert np.array_equal(*(one.draw(np.random.default_rng(7)) for _ in range(2)))
