"""Groups of problems that are not independent: what they are, and that splits keep them whole."""

import json
import pickle
import re
from collections import Counter
from pathlib import Path

import pytest

from steerlab.reports import runs
from steerlab.tasks.arithmetic import GAINS, LOSSES, NAMES, THINGS
from steerlab.tasks.groups import groups_of
from steerlab.tasks.loaders import load_task
from steerlab.tasks.problems import Problem, Task
from steerlab.tasks.templates import lexical_pair

BLIMP = Path(__file__).resolve().parents[3] / "shared" / "datasets" / "blimp"
needs_shared = pytest.mark.skipif(not BLIMP.is_dir(), reason="../shared/datasets is not there")
SPLITS = ("train", "validation", "test")


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


# Where loaders find groups


def everything(task):
    return [problem for split in SPLITS for problem in getattr(task, split)]


@pytest.mark.parametrize(
    ("good", "bad", "pair"),
    [
        ("Raymond is selling this sketch.", "Raymond is selling this sketches.", "sketch/sketches"),
        ("These sketches sell.", "These sketch sell.", "sketch/sketches"),
        ("The mushroom went bad.", "The mushroom gone bad.", "gone/went"),
        ("Who might Bob see before leaving?", "Who might Bob see leaving before?", "before leaving/leaving before"),
        ("There was a cat.", "There was each cat.", None),
        ("Ann helps herself.", "Ann helps itself.", None),
        ("Bob only sees Ann.", "Bob sees Ann.", None),
    ],
)
def test_a_lexical_pair_is_what_differs_but_function_words(good, bad, pair):
    assert lexical_pair(good, bad) == lexical_pair(bad, good) == pair


@needs_shared
def test_the_nouns_of_blimp_are_those_that_the_data_set_names():
    path = BLIMP / "determiner_noun_agreement_1.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    named = Counter(frozenset(row[f"one_prefix_word_{side}"].split()[-1] for side in ("good", "bad")) for row in rows)
    found = Counter(frozenset(group.split("/")) for group in groups_of(everything(load_task("blimp", path=path))))
    assert found == named


@pytest.mark.parametrize("variant", ["story", "additions", "subtractions"])
def test_stories_of_one_group_differ_in_their_numbers_alone(variant):
    task = load_task("arithmetic", variant=variant, n_train=300, n_validation=30, n_test=100, steps=(1, 2))
    told = {p.id: re.findall("|".join((*NAMES, *THINGS, *GAINS, *LOSSES)), p.prompt.split("\n")[0]) for p in everything(task)}
    assert len(set(map(tuple, told.values()))) == len(set(groups_of(everything(task)))) < 430
    by_group = {}
    for p in everything(task):
        assert by_group.setdefault(p.group, told[p.id]) == told[p.id]


def test_sums_in_signs_stand_alone():
    assert {p.group for variant in ("bare", "equation", "largest") for p in load_task("arithmetic", variant=variant, limit=9).test} == {
        None
    }


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet"])
def test_a_file_of_ones_own_names_groups_in_a_column(tmp_path, suffix):
    pd = pytest.importorskip("pandas")
    rows = pd.DataFrame({"prompt": list("abc"), "target": [1, 2, 3], "group": [7, None, 7], "note": list("xyz")})
    path = tmp_path / f"own.{suffix}"
    {"jsonl": lambda: rows.to_json(path, orient="records", lines=True), "csv": lambda: rows.to_csv(path, index=False),
     "parquet": lambda: rows.to_parquet(path)}[suffix]()  # fmt: skip
    task = load_task("jsonl", path=path, shares=(1, 0, 0))
    groups = {p.prompt: p.group for p in task.train}
    assert groups["a"] == groups["c"] != groups["b"] is None
    assert groups["a"] == ("7.0" if suffix == "csv" else "7")
    assert all(set(p.meta) == {"note"} for p in task.train)


@pytest.mark.parametrize("group", [[1], 0.5, True])
def test_a_group_that_is_no_name_is_refused_with_its_line(tmp_path, group):
    path = tmp_path / "own.jsonl"
    path.write_text(json.dumps({"prompt": "a", "target": 1, "group": group}))
    with pytest.raises(ValueError, match=r"own.jsonl, line 1: column 'group' holds .*; a group must be text or a whole number"):
        load_task("jsonl", path=path, shares=(1, 0, 0))
