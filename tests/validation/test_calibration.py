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
from steerlab.validation import scenarios
from steerlab.validation.calibration import calibrate
from steerlab.validation.scenarios import NOT_SIMULATED, SCENARIOS
from steerlab.validation.scenarios._common import LEVELS, Scenario

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
    for draws in every[0].values():
        assert all(draw.shape == (len(LEVELS),) for draw in draws)
        assert all(0 <= draw[1] <= draw[0] <= 1 for draw in draws)


def test_every_procedure_is_simulated_or_has_a_reason_not_to_be(every):
    public, (_, called, ran) = procedures(), every
    # Checking of shapes puts one and the same wrapper around many functions, so of those only what is inside tells.
    simulated = {name for name, one in public.items() if inspect.unwrap(one).__code__ in (ran if hasattr(one, "__wrapped__") else called)}
    assert sorted(set(public) - simulated) == sorted(NOT_SIMULATED)


def test_the_kept_table_is_of_these_scenarios_and_has_no_unexplained_rate():
    text = KEPT.read_text()
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| [\d,]+ \|", text, re.MULTILINE)
    assert sorted(rows) == sorted((s.procedure, s.setting) for s in SCENARIOS)
    assert "no reason known" not in text
    assert all(f"| `{name}` | {reason} |" in text for name, reason in NOT_SIMULATED.items())
