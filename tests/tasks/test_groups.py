"""Groups of problems that are not independent: what they are, and that splits keep them whole."""

import pickle

import pytest

from steerlab.reports import runs
from steerlab.tasks.groups import groups_of
from steerlab.tasks.problems import Problem, Task


def of_groups(groups, prefix="p"):
    """A problem for each name of a group; None stands alone."""
    return [Problem(f"{prefix}{i}", f"{prefix}{i} =", i % 2, (" A", " B"), group=group) for i, group in enumerate(groups)]


def test_a_problem_without_a_group_is_one_of_its_own():
    problems = of_groups(["cats", None, "cats", None])
    assert groups_of(problems) == ("cats", "problem p1", "cats", "problem p3")


def test_a_group_outlives_a_pickle_a_task_and_its_frame():
    problems = of_groups(["cats", None])
    assert pickle.loads(pickle.dumps(problems)) == problems  # noqa: S301
    task = Task("two", problems[:1], problems[1:], [], "choice")
    assert [p.group for p in (*task.train, *task.validation)] == ["cats", None]
    assert list(task.frame["group"].fillna("")) == ["cats", ""]


@pytest.mark.parametrize(("group", "said"), [(3, "is an int; give text"), ("", "give a name, or None"), ("\ud800", "surrogate")])
def test_a_group_is_text_or_nothing(group, said):
    with pytest.raises(ValueError, match=said):
        Problem("p", "1 =", 1, group=group)


def test_groups_come_back_from_a_run_folder(tmp_path):
    problems = of_groups(["cats", None])
    runs.write_table(tmp_path, "problems", runs.problems_frame({"train": problems, "test": of_groups(["cats"], "t")}))
    found = runs._problems(tmp_path, "choice")
    assert [[p.group for p in found[split]] for split in ("train", "validation", "test")] == [["cats", None], [], ["cats"]]
    assert "group" not in runs.problems_frame({"train": of_groups([None])})
