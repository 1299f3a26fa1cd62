"""The simulation that the tests are trusted by."""

import cProfile
import inspect
import re
from pathlib import Path

import numpy as np
import pytest

import steerlab as sl
from steerlab import statistics as st
from steerlab.directions import random
from steerlab.statistics.verdicts import SPECIFIC
from steerlab.validation import scenarios
from steerlab.validation.calibration import calibrate
from steerlab.validation.scenarios import NOT_SIMULATED, SCENARIOS
from steerlab.validation.scenarios._common import LEVELS, Outcome, Scenario

KEPT = Path(__file__).parents[2] / "data" / "calibration.md"
FAMILIES = ("covariance_matched", "given_controls", "orthogonal_directions", "other_task", "shuffled_labels")


def uniform(power: float):
    return lambda rng: np.array([rng.random() ** power <= level for level in LEVELS], float)


def test_a_test_that_rejects_too_often_is_named():
    found = calibrate([Scenario("honest", "uniform p", uniform(1)), Scenario("eager", "p squared", uniform(2))], simulations=2000)
    verdicts = found.frame.set_index(["procedure", "level"])["verdict"]
    assert verdicts["honest", 0.05] == verdicts["honest", 0.01] == "holds"
    assert verdicts["eager", 0.05] == verdicts["eager", 0.01] == "exceeds"
    assert set(found.exceeding()["procedure"]) == {"eager"}
    assert "**exceeds**: no reason known" in found.to_markdown()


def test_a_stated_reason_excuses_and_power_is_no_false_alarm():
    scenarios = [Scenario("eager", "p squared", uniform(2), why="known"), Scenario("strong", "an effect", uniform(9), null=False)]
    found = calibrate(scenarios, simulations=500)
    assert found.exceeding().empty
    assert "**exceeds**: known" in found.to_markdown()
    assert found.frame.loc[found.frame["procedure"] == "strong", "verdict"].eq("").all()


def test_each_scenario_has_a_stream_of_its_own():
    one, two = Scenario("a", "x", uniform(1)), Scenario("b", "x", uniform(1))
    alone = calibrate([two], simulations=200, seed=3).frame["rate"].tolist()
    assert calibrate([one, two], simulations=200, seed=3).frame["rate"].tolist()[2:] == alone


def test_a_simulation_that_tells_several_things_has_a_line_for_each():
    told = (Outcome("false", True, "known"), Outcome("right", False))
    one = Scenario("both", "x", lambda rng: np.array([[1.0, 0.0], [0.0, 1.0]]), outcomes=told)
    found = calibrate([one], simulations=10).frame
    assert found[["procedure", "null", "level", "rate", "verdict", "why"]].values.tolist() == [
        ["both: false", True, 0.05, 1.0, "exceeds", "known"],
        ["both: false", True, 0.01, 0.0, "holds", "known"],
        ["both: right", False, 0.05, 0.0, "", ""],
        ["both: right", False, 0.01, 1.0, "", ""],
    ]


def test_too_few_simulations_are_refused():
    with pytest.raises(ValueError, match="simulations=3; use at least 10"):
        calibrate([], simulations=3)


def procedures():
    """Public functions, and methods that give intervals or say what survives, by name."""
    found = {name: getattr(st, name) for name in st.__all__ if inspect.isfunction(getattr(st, name))}
    for name, kind in inspect.getmembers(st, inspect.isclass):
        methods = {f"{name}.{method}": vars(kind)[method] for method in vars(kind) if "interval" in method or method == "survivors"}
        found |= {method: function for method, function in methods.items() if inspect.isfunction(function)}
    families = {name: getattr(random, name) for name in FAMILIES}
    found |= {name: family for name, family in families.items() if inspect.isfunction(family)}
    return found | {name: getattr(sl, name) for name in ("random_directions", "match_kl", "changed_predictions")}


@pytest.fixture(scope="module")
def every():
    """What each scenario drew, twice; the code that scenarios called; and all code that ran."""
    rng = np.random.default_rng(0)
    with cProfile.Profile() as profile:
        drawn = {(one.procedure, one.setting): [one.draw(rng), one.draw(rng)] for one in SCENARIOS}
    folder = str(Path(scenarios.__file__).parent)
    entries = profile.getstats()
    ours = [entry for entry in entries if getattr(entry.code, "co_filename", "").startswith(folder)]
    return drawn, {call.code for entry in ours for call in entry.calls or ()}, {entry.code for entry in entries}


def test_every_scenario_gives_a_share_for_each_level(every):
    assert len(every[0]) == len(SCENARIOS)
    for one in SCENARIOS:
        draws = np.array(every[0][one.procedure, one.setting]).reshape(2, -1, len(LEVELS))
        assert draws.shape[1] == len(one.lines)
        assert ((draws >= 0) & (draws <= 1)).all()
        nested = [k for k, line in enumerate(one.lines) if not line.name.endswith('"') or SPECIFIC in line.name]
        assert (draws[:, nested, 1] <= draws[:, nested, 0]).all()  # what is said at 0.01 is said at 0.05, but for weaker verdicts


def test_every_procedure_is_simulated_or_has_a_reason_not_to_be(every):
    public, (_, called, ran) = procedures(), every
    # Checking of shapes puts one and the same wrapper around many functions, so of those only what is inside tells.
    simulated = {name for name, one in public.items() if inspect.unwrap(one).__code__ in (ran if hasattr(one, "__wrapped__") else called)}
    assert sorted(set(public) - simulated) == sorted(NOT_SIMULATED)


def test_the_kept_table_is_of_these_scenarios_and_has_no_unexplained_rate():
    text = KEPT.read_text()
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| [\d,]+ \|", text, re.MULTILINE)
    assert sorted(rows) == sorted((line.name, s.setting) for s in SCENARIOS for line in s.lines)
    assert "no reason known" not in text
    assert all(f"| `{name}` | {reason} |" in text for name, reason in NOT_SIMULATED.items())
