"""What can be named stands in one registry; documentation, help texts and errors say what it holds."""

import re
from pathlib import Path

import pytest

import steerlab as sl
from steerlab.controls import FAMILIES
from steerlab.studies import KNOWN_METHODS, METHODS

ROOT = Path(__file__).resolve().parents[2]
REGISTRIES = {"operators": sl.OPERATORS, "estimators": sl.ESTIMATORS, "tasks": sl.TASKS}


@pytest.mark.parametrize("registry", REGISTRIES.values(), ids=REGISTRIES)
def test_each_entry_is_there_and_is_described_in_one_line(registry):
    assert len(registry) == len(dict(registry)) > 0
    for name, about in registry.about.items():
        assert registry[name] is not None
        assert re.fullmatch(r"\S.{10,120}", about), name
        assert f"\n{name} " in f"\n{registry!r}"


def test_every_operator_and_every_estimator_is_one_and_says_what_it_does():
    for name in [*sl.OPERATORS, *sl.ESTIMATORS]:
        found = sl.OPERATORS[name] if name in sl.OPERATORS else sl.ESTIMATORS[name]
        assert callable(found)
        assert found.__doc__


def test_a_name_that_is_none_is_no_entry():
    assert "odd" not in sl.OPERATORS
    with pytest.raises(KeyError):
        sl.OPERATORS["odd"]


def test_the_table_of_tasks_in_the_readme_is_the_registry():
    lines = (ROOT / "README.md").read_text().splitlines()
    start = lines.index("| task | problems |") + 2
    assert lines[start : start + len(sl.TASKS) + 1] == [*(f"| `{name}` | {about} |" for name, about in sl.TASKS.about.items()), ""]


def test_methods_of_the_comparison_are_the_estimators_and_a_few_more():
    assert set(sl.ESTIMATORS) | set(METHODS) <= set(KNOWN_METHODS)


def test_each_family_of_controls_says_what_it_is_and_which_doubt_it_answers():
    for name, family in FAMILIES.items():
        assert family.words, name
        assert family.doubt, name
    assert len({family.words for family in FAMILIES.values()}) == len(FAMILIES)
