"""Groups of problems that are not independent: what they are, and that splits keep them whole."""

import json
import pickle
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from steerlab.reports import runs
from steerlab.tasks.arithmetic import GAINS, LOSSES, NAMES, THINGS
from steerlab.tasks.evaluation import Evaluation, balance
from steerlab.tasks.groups import groups_of, shared_groups, whole_parts
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


# Splits keep groups whole


def own(tmp_path, groups, name="own.jsonl", start=0):
    rows = [{"prompt": f"{i} + 1 =", "target": i + 1, **({} if g is None else {"group": g})} for i, g in enumerate(groups, start)]
    path = tmp_path / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def sides(*splits):
    """Oracle: the splits in which each group stands, problem by problem."""
    found = {}
    for k, split in enumerate(splits):
        for p in split:
            if p.group is not None:
                found.setdefault(p.group, set()).add(k)
    return found


def sizes_of(task):
    return [len(getattr(task, split)) for split in SPLITS]


@pytest.mark.parametrize("seed", range(5))
def test_a_pool_is_split_into_whole_groups_of_nearly_the_shares(tmp_path, seed):
    path = own(tmp_path, [f"g{i % 40}" if i < 160 else None for i in range(200)])
    task = load_task("jsonl", path=path, seed=seed)
    assert all(len(where) == 1 for where in sides(*(getattr(task, s) for s in SPLITS)).values())
    assert sum(sizes_of(task)) == 200
    assert np.abs(np.array(sizes_of(task)) - (100, 40, 60)).max() <= 4  # two cuts, each within half a group of 4
    assert task.about["splits"].endswith(
        f"{len(task.train)} train, {len(task.validation)} validation, {len(task.test)} test, groups kept whole"
    )
    assert sizes_of(load_task("jsonl", path=path, seed=seed)) == sizes_of(task)
    again = load_task("jsonl", path=path, seed=seed)
    assert [again.train, again.validation, again.test] == [task.train, task.validation, task.test]
    assert load_task("jsonl", path=path, seed=seed + 1).test != task.test


def test_a_split_without_groups_stays_what_it_was(tmp_path):
    """Oracle: NumPy's permutation of the rows, cut at the shares, as every split was made before there were groups."""
    order = np.random.default_rng([3, 0]).permutation(101)
    groups = [[None] * 101, [f"g{i}" for i in range(101)]]
    for k, of in enumerate(groups):
        task = load_task("jsonl", path=own(tmp_path, of, f"{k}.jsonl"), seed=3)
        assert [p.prompt for s in SPLITS for p in getattr(task, s)] == [f"{i} + 1 =" for i in order]
        assert sizes_of(task) == [51, 20, 30]
        assert task.about["splits"] == "one pool of 101 problems, split by a permutation with seed 3: 51 train, 20 validation, 30 test"


def test_a_carved_split_takes_whole_groups_and_given_splits_stay(tmp_path):
    own(tmp_path, [f"g{i % 30}" for i in range(90)], "train.jsonl")
    own(tmp_path, [f"t{i}" for i in range(20)], "test.jsonl", start=90)
    task = load_task("jsonl", path=tmp_path)
    assert all(len(where) == 1 for where in sides(task.train, task.validation, task.test).values())
    assert len(task.test) == 20
    assert abs(len(task.validation) - 90 * 2 / 7) <= 1.5
    assert task.about["splits"].endswith(f"validation ({len(task.validation)} problems) carved from the 90 of train, groups kept whole")


@pytest.mark.parametrize(("groups", "shares", "sizes"), [("a" * 90 + "bc", (0.5, 0.2, 0.3), {1, 90}), ("aaab", (0.9, 0, 0.1), {1, 3})])
def test_no_split_is_empty_where_there_are_groups_enough(tmp_path, groups, shares, sizes):
    for seed in range(6):
        found = sizes_of(load_task("jsonl", path=own(tmp_path, groups), seed=seed, shares=shares))
        assert {n for n, share in zip(found, shares, strict=True) if share} == sizes
        assert sum(found) == len(groups)


def test_fewer_groups_than_splits_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"9 problems in 2 group\(s\) are too few for 3 splits that keep groups whole"):
        load_task("jsonl", path=own(tmp_path, "aaaaabbbb"))


def test_large_groups_go_to_each_split_as_often_as_small_ones():
    """Oracle: a group's share of being in the first half is one half, whatever its size (binomial bounds at 400 draws)."""
    problems = of_groups(["big"] * 10 + [f"s{i}" for i in range(30)])
    first = 0
    for seed in range(400):
        order = np.random.default_rng(seed).permutation(40)
        halves = whole_parts([problems[i] for i in order], (20, 20))
        first += any(p.group == "big" for p in halves[0])
        assert abs(len(halves[0]) - 20) <= 5
    assert abs(first - 200) < 4 * 10


@needs_shared
def test_no_noun_pair_of_blimp_stands_in_two_splits():
    task = load_task("blimp", path=BLIMP / "determiner_noun_agreement_1.jsonl")
    assert all(len(where) == 1 for where in sides(task.train, task.validation, task.test).values())
    assert np.abs(np.array(sizes_of(task)) - (500, 200, 300)).max() < 30
    assert shared_groups(task.train, task.validation, task.test) == {}
    assert task.warnings() == []


# Groups in more than one split


def test_shared_groups_are_counted_problem_by_problem():
    rng = np.random.default_rng(0)
    splits = [of_groups([None if g == 0 else f"g{g}" for g in rng.integers(12, size=n)], prefix=f"s{n}-") for n in (9, 5, 7)]
    where = {group: found for group, found in sides(*splits).items() if len(found) > 1}
    assert shared_groups(*splits) == {g: tuple(sum(p.group == g for p in split) for split in splits) for g in sorted(where)}
    assert shared_groups() == shared_groups(splits[0]) == shared_groups(of_groups([None]), of_groups([None])) == {}


def test_given_splits_that_share_groups_give_a_warning_with_counts(tmp_path):
    own(tmp_path, "aabbcd", "train.jsonl")
    own(tmp_path, "aeb", "test.jsonl", start=6)
    own(tmp_path, "f", "validation.jsonl", start=9)
    said = r"2 of 6 groups in more than one split (4 of 6 train and 2 of 3 test problems): related problems are on both sides"
    with pytest.warns(UserWarning, match=re.escape(said)) as record:
        task = load_task("jsonl", path=tmp_path)
    assert len(record) == 1
    assert task.warnings() == [said]


def test_a_task_made_by_hand_tells_of_its_shared_groups():
    train, validation, test = of_groups("aab", "r"), of_groups("cc", "v"), of_groups("acd", "e")
    said = "2 of 4 groups in more than one split (2 of 3 train, 2 of 2 validation and 2 of 3 test problems): related problems are on both sides"
    assert Task("own", train, validation, test, "number").warnings() == [said]
    assert Task("own", train, [], of_groups("d", "e"), "number").warnings() == []


# Balanced problems


def answered(groups, correct):
    problems = tuple(of_groups(groups))
    return Evaluation(problems, pd.DataFrame({"problem_id": [p.id for p in problems], "correct": correct}), "choice")


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("train", [0.5, 0.8])
def test_balanced_problems_keep_groups_on_one_side(seed, train):
    rng = np.random.default_rng(seed)
    groups = [f"g{g}" if g < 60 else None for g in rng.integers(80, size=400)]
    evaluation = answered(groups, rng.random(400) < 0.3)
    split = balance(evaluation, rng=np.random.default_rng(seed), train=train)
    assert all(len(where) == 1 for where in sides(split.train, split.test).values())
    sizes = [len(part) for part in (split.train_correct, split.train_incorrect, split.test_correct, split.test_incorrect)]
    assert sizes[0] == sizes[1]
    assert sizes[2] == sizes[3]
    assert abs(len(split.train) / (len(split.train) + len(split.test)) - train) < 0.03
    assert len(split.train_correct) + len(split.test_correct) == evaluation.frame["correct"].sum()  # wrong ones abound on each side
    assert split.frame.equals(balance(evaluation, rng=np.random.default_rng(seed), train=train).frame)
    right = set(evaluation.frame.loc[evaluation.frame["correct"], "problem_id"])
    assert {p.id for p in split.train_correct + split.test_correct} <= right
    assert not {p.id for p in split.train_incorrect + split.test_incorrect} & right


def test_balance_without_groups_stays_what_it_was():
    """Oracle: NumPy's permutations of right and wrong ones, as they were drawn before there were groups."""
    correct = [True] * 12 + [False] * 8
    rng = np.random.default_rng(5)
    right, wrong = rng.permutation(12)[:8], 12 + rng.permutation(8)[:8]
    for groups in ([None] * 20, [f"g{i}" for i in range(20)]):
        split = balance(answered(groups, correct), rng=np.random.default_rng(5), train=0.75)
        assert [p.id for p in split.train] == [f"p{i}" for i in (*right[:6], *wrong[:6])]
        assert [p.id for p in split.test] == [f"p{i}" for i in (*right[6:], *wrong[6:])]


def test_two_groups_go_to_a_side_each_and_one_group_cannot():
    correct = [True, False] * 4
    split = balance(answered("aaaabbbb", correct), rng=np.random.default_rng(0))
    assert len(split.train_correct) == len(split.test_incorrect) == 2
    with pytest.raises(ValueError, match=r"1 group\(s\) leave train or test without a right or a wrong problem .* or train=1"):
        balance(answered("aaaaaaaa", correct), rng=np.random.default_rng(0))
    assert len(balance(answered("aaaaaaaa", correct), rng=np.random.default_rng(0), train=1).train) == 8
