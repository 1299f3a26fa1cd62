"""No test fails because the machine is busy."""

import ast
import time
from pathlib import Path

import hypothesis
from hypothesis import given
from hypothesis import strategies as hs

TESTS = Path(__file__).resolve().parents[1]
CLOCKS = {"time", "perf_counter", "monotonic", "process_time"}  # of the module time


def test_property_tests_have_no_deadline():
    assert hypothesis.settings.default.deadline is None
    assert hypothesis.settings(max_examples=3).deadline is None
    assert hypothesis.HealthCheck.too_slow in hypothesis.settings.default.suppress_health_check


@hypothesis.settings(max_examples=1, database=None)
@given(hs.integers())
def test_an_example_may_take_longer_than_hypothesis_allows_by_itself(number):
    """200 ms of computing; nothing waits."""
    start = time.process_time()
    while time.process_time() - start < 0.25:
        number += 1


def test_no_test_sets_a_deadline_or_reads_a_clock_to_judge_by():
    found = []
    for path in sorted(TESTS.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                names = [keyword.arg for keyword in node.keywords]
                function = node.func
                clock = isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) and function.value.id == "time"
                if ("deadline" in names and path.name != "conftest.py") or (clock and function.attr in CLOCKS and path != Path(__file__)):
                    found.append(f"{path.name}:{node.lineno}")
    assert found == []
