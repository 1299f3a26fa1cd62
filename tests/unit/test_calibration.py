"""The simulation that the tests are trusted by."""

import re
from pathlib import Path

import numpy as np
import pytest

from steerlab.calibration import calibrate
from steerlab.scenarios import LEVELS, SCENARIOS, Scenario

KEPT = Path(__file__).parents[2] / "data" / "calibration.md"


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


def test_every_scenario_runs():
    found = calibrate(simulations=10).frame
    assert found["rate"].between(0, 1).all()
    assert len(found) == len(LEVELS) * len(SCENARIOS)


def test_the_kept_table_is_of_these_scenarios_and_has_no_unexplained_rate():
    text = KEPT.read_text()
    rows = re.findall(r"^\| ([^|]+) \| ([^|]+) \| [\d,]+ \|", text, re.MULTILINE)
    assert sorted(rows) == sorted((s.procedure, s.setting) for s in SCENARIOS)
    assert "no reason known" not in text
