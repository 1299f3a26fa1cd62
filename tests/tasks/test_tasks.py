"""Loading tasks: what a row becomes, how splits come about, and what bad input is told."""

import copy
import csv
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from steerlab.tasks.loaders import load_task
from steerlab.tasks.numbers import parse_number
from steerlab.tasks.problems import Problem, Task, in_both, shuffled_targets
from steerlab.tasks.sources import shown
from steerlab.tasks.templates import common_prefix, wikihow_clean

SHARED = Path(__file__).resolve().parents[3] / "shared" / "datasets"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason="the folder ../shared/datasets is not here")
SPLITS = ("train", "validation", "test")


def write_jsonl(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def hellaswag_rows(n: int, start: int = 0) -> list[dict]:
    return [
        {"ind": i, "ctx": f"Context {i}.", "endings": [f"{w} {i}." for w in "wxyz"], "label": str(i % 4)} for i in range(start, start + n)
    ]


def sums(n: int, start: int = 0) -> list[dict]:
    return [{"prompt": f"{i} + 1 =", "target": i + 1} for i in range(start, start + n)]


def everything(task: Task) -> list[Problem]:
    return [problem for split in SPLITS for problem in getattr(task, split)]


def only(tmp_path: Path, name: str, row: dict, **options) -> Problem:
    """The problem that one row becomes."""
    task = load_task(name, path=write_jsonl(tmp_path / "one.jsonl", [row]), shares=(1, 0, 0), **options)
    return task.train[0]


# What a row becomes


def test_hellaswag_asks_for_a_letter_exactly_as_the_sources_do(tmp_path):
    row = {
        "ind": 7,
        "ctx": "A man sits.",
        "endings": ["He stands.", "He flies.", "He sings.", "He naps."],
        "label": "2",
    }
    problem = only(tmp_path, "hellaswag", row)
    assert problem.prompt == (
        "Complete the sentence:\nA man sits.\n\nA. He stands.\nB. He flies.\nC. He sings.\nD. He naps.\n\nThe best answer is:"
    )
    assert problem.choices == (" A", " B", " C", " D")
    assert problem.target_index == 2
    assert problem.id == "hellaswag-7"


def test_hellaswag_as_continuation_scores_the_cleaned_endings(tmp_path):
    row = {"ctx": "[header] How to knit [title] Buy wool.", "endings": ["[step] Go.", "b", "c", "d"], "label": 1}
    problem = only(tmp_path, "hellaswag", row, form="continuation")
    assert problem.prompt == " How to knit. Buy wool."
    assert problem.choices == ("  Go.", " b", " c", " d")


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("[header] How to sell [title] Sign up. [step] Read.", " How to sell. Sign up. Read."),
        ("  plain text ", "plain text"),
        ("[title] First [substeps] then", " First then"),
    ],
)
def test_the_wikihow_clean_up_agrees_with_lm_evaluation_harness(raw, clean):
    """Oracle: lm-evaluation-harness' rules (strip; " [title]" to ". "; drop [..]; "  " to " "), by hand."""
    assert wikihow_clean(raw) == clean


def test_each_form_names_its_scorer(tmp_path):
    path = write_jsonl(tmp_path / "h.jsonl", hellaswag_rows(10))
    assert load_task("hellaswag", path=path).scorer == "choice"
    assert load_task("hellaswag", path=path, form="continuation").scorer == "continuation_norm"


@pytest.mark.parametrize("labels", [["A", "B", "C"], ["1", "2", "3"], ["1", "2", "3", "4", "5"]])
def test_arc_letters_its_options_however_the_source_numbers_them(tmp_path, labels):
    texts = [f"option {label}" for label in labels]
    row = {"id": "q", "question": "Why?", "choices": {"text": texts, "label": labels}, "answerKey": labels[1]}
    problem = only(tmp_path, "arc_challenge", row)
    lines = "\n".join(f"{letter}. {text}" for letter, text in zip("ABCDE", texts, strict=False))
    assert problem.prompt == f"Question: Why?\n{lines}\nAnswer:"
    assert problem.choices == tuple(f" {letter}" for letter in "ABCDE"[: len(labels)])
    assert problem.target_index == 1
    spoken = only(tmp_path, "arc_challenge", row, form="continuation")
    assert spoken.prompt == "Question: Why?\nAnswer:"
    assert spoken.choices[spoken.target_index] == f" {texts[1]}"


@pytest.mark.parametrize(
    ("labels", "key", "right"),
    [
        (["B", "A", "C"], "A", 1),
        (["C", "A", "B"], "B", 2),
        (["4", "1", "3", "2"], "1", 1),
        (["4", "1", "3", "2"], 1, 1),
        (["D", "C", "B", "A"], "D", 0),
        (["1", "2", "3", "4"], "1", 0),
    ],
)
def test_the_right_option_of_arc_is_the_one_with_the_label_wherever_it_stands(tmp_path, labels, key, right):
    """Oracle: by hand, the option beside the label; options keep the order of the source."""
    row = {"id": "q", "question": "Why?", "choices": {"text": [f"option {x}" for x in labels], "label": labels}, "answerKey": key}
    lettered = only(tmp_path, "arc_challenge", row)
    assert lettered.target_index == right
    assert f"{'ABCD'[right]}. option {key}\n" in lettered.prompt + "\n"
    spoken = only(tmp_path, "arc_challenge", row, form="continuation")
    assert spoken.choices == tuple(f" option {x}" for x in labels)
    assert spoken.choices[spoken.target_index] == f" option {key}"


@pytest.mark.parametrize(("final", "number"), [("18", 18), ("2,125", 2125), ("-10", -10), ("0.5", 0.5), ("7.0", 7)])
def test_the_gsm8k_target_is_the_number_after_the_marks(tmp_path, final, number):
    row = {"question": "How many?", "answer": f"3 * 6 = <<3*6=18>>18 and <<1+1=2>>2\n#### {final}"}
    problem = only(tmp_path, "gsm8k", row)
    assert problem.target == number
    assert type(problem.target) is type(number)
    assert problem.prompt == "Question: How many?\nAnswer:"
    assert problem.meta["steps"] == 2


def test_svamp_joins_body_and_question_and_keeps_the_type(tmp_path):
    row = {"ID": "chal-1", "Body": "Ann has 3.", "Question": "How many?", "Answer": 3.0, "Type": "Addition"}
    problem = only(tmp_path, "svamp", row)
    assert (problem.id, problem.prompt, problem.target) == (
        "svamp-chal-1",
        "Question: Ann has 3. How many?\nAnswer:",
        3,
    )
    assert problem.meta["Type"] == "Addition"


@pytest.mark.parametrize(
    ("good", "bad", "prefix"),
    [
        ("Ann can help herself.", "Ann can help himself.", "Ann can help"),
        ("He saw this sketch.", "He saw this sketches.", "He saw this"),
        ("Ann left", "Ann left early", "Ann"),
        ("Who left?", "What left?", ""),
    ],
)
def test_a_minimal_pair_begins_with_what_both_sentences_share(tmp_path, good, bad, prefix):
    assert common_prefix(good, bad) == prefix
    problem = only(tmp_path, "blimp", {"sentence_good": good, "sentence_bad": bad, "pairID": "0"})
    assert problem.prompt + problem.choices[problem.target_index] == good
    assert problem.prompt + problem.choices[1 - problem.target_index] == bad
    assert all(choice.startswith(" ") == bool(prefix) for choice in problem.choices)


def test_the_acceptable_sentence_comes_first_about_half_the_time(tmp_path):
    rows = [{"sentence_good": f"Ann {i} goes{i}", "sentence_bad": f"Ann {i} go{i}", "UID": "u", "pairID": i} for i in range(400)]
    task = load_task("blimp", path=write_jsonl(tmp_path / "b.jsonl", rows))
    assert 150 < sum(problem.target for problem in everything(task)) < 250
    assert {p.id: p.target for p in everything(task)} == {
        p.id: p.target for p in everything(load_task("blimp", path=tmp_path / "b.jsonl", seed=5))
    }


def test_rows_of_your_own_keep_their_other_columns(tmp_path):
    row = {"id": "mine", "prompt": "2 + 2 =", "target": 4, "level": "easy"}
    problem = only(tmp_path, "jsonl", row)
    assert (problem.id, problem.target, dict(problem.meta)) == ("mine", 4, {"level": "easy"})


@pytest.mark.parametrize(
    ("given", "kept"), [("q-17", "q-17"), (17, "17"), ("jsonl-3", "jsonl-3"), (" a b ", " a b "), ("", "jsonl-0"), (None, "jsonl-0")]
)
def test_ids_of_your_own_are_kept_as_they_are(tmp_path, given, kept):
    assert only(tmp_path, "jsonl", {"id": given, "prompt": "2 + 2 =", "target": 4}).id == kept


@pytest.mark.parametrize("given", [True, [1], 1.5])
def test_an_id_is_text_or_a_whole_number(tmp_path, given):
    with pytest.raises(ValueError, match=r"one.jsonl, line 1: column 'id' holds .*an id must be text or a whole number"):
        only(tmp_path, "jsonl", {"id": given, "prompt": "2 + 2 =", "target": 4})


def test_one_id_in_two_files_is_refused_with_both_places(tmp_path):
    for split in SPLITS:
        write_jsonl(tmp_path / f"{split}.jsonl", [{"id": i, "prompt": f"{split} {i}", "target": i} for i in range(3)])
    with pytest.raises(ValueError, match=r"validation.jsonl, line 1: the id '0' is that of test.jsonl, line 1 too; give each row its own"):
        load_task("jsonl", path=tmp_path)


def write_rows(path: Path, rows: list[dict]) -> Path:
    """The same rows as JSON lines, CSV or Parquet."""
    if path.suffix == ".jsonl":
        return write_jsonl(path, rows)
    if path.suffix == ".csv":
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows({key: json.dumps(value) if isinstance(value, list) else value for key, value in row.items()} for row in rows)
        return path
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    import pyarrow

    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize(
    ("columns", "choices", "right"),
    [
        ({"target": 1}, ["A", "B", "C"], "B"),
        ({"target": 1.0}, ["A", "B", "C"], "B"),
        ({"target": "B"}, ["A", "B", "C"], "B"),
        ({"target": " B "}, ["A", "B", "C"], "B"),
        ({"target": 7}, ["5", "7", "9"], "7"),
        ({"target": 1}, ["0", "1", "2"], "1"),
        ({"target": "seven"}, ["1", "seven", "2"], "seven"),
        ({"target_index": 2}, ["1", "2", "3"], "3"),
        ({"target_index": "2"}, ["1", "2", "3"], "3"),
        ({"target_text": "2"}, ["1", "2", "3"], "2"),
        ({"target_text": 2}, ["1", "2", "3"], "2"),
        ({"target": 2, "target_index": 2}, ["1", "2", "3"], "3"),
        ({"target": 2, "target_index": 1}, ["1", "2", "3"], "2"),
        ({"target": 2, "target_text": "2"}, ["1", "2", "3"], "2"),
    ],
)
def test_a_target_names_the_same_choice_in_every_kind_of_file(tmp_path, kind, columns, choices, right):
    """Oracle: by hand."""
    path = write_rows(tmp_path / f"own.{kind}", [{"prompt": "p", "choices": choices, **columns}])
    problem = load_task("jsonl", path=path, shares=(1, 0, 0)).train[0]
    assert problem.choices[problem.target_index] == right


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize(
    ("columns", "choices", "message"),
    [
        ({"target": 2}, ["1", "2", "3"], "one choice by its text and another by its index, counted from 0 .'2' and '3'.; call the column target_text or target_index"),
        ({"target": 2.0}, ["1", "2", "3"], "one choice by its text and another by its index"),
        ({"target": 3}, ["A", "B", "C"], "column 'target' holds '?3'?; use an index from 0 to 2, or the text of a choice"),
        ({"target_index": 3}, ["1", "2", "3"], "column 'target_index' holds 3|'3'; use an index from 0 to 2"),
        ({"target_text": "4"}, ["1", "2", "3"], "column 'target_text' holds '4', which is not one of the choices"),
        ({"target": "1", "target_index": 2}, ["1", "2", "3"], "are not the same one of the choices"),
        ({"target": "$2"}, ["$1", "$3", "$4"], "is not one of the choices"),
        ({"target_index": 1}, None, "but there are no choices; use the column target"),
    ],
)  # fmt: skip
def test_a_target_that_could_be_two_choices_or_none_is_refused_in_every_kind_of_file(tmp_path, kind, columns, choices, message):
    path = write_rows(tmp_path / f"own.{kind}", [{"prompt": "p", **({} if choices is None else {"choices": choices}), **columns}])
    with pytest.raises(ValueError, match=rf"own.{kind}, (line|row) \d: .*{message}"):
        load_task("jsonl", path=path, shares=(1, 0, 0))


def test_a_text_in_a_file_that_has_texts_is_the_text_of_a_choice(tmp_path):
    """In CSV, where every cell is text, the same cell could be an index."""
    row = {"prompt": "p", "target": "2", "choices": ["1", "2", "3"]}
    assert only(tmp_path, "jsonl", row).target_index == 1
    with pytest.raises(ValueError, match="call the column target_text or target_index"):
        load_task("jsonl", path=write_rows(tmp_path / "own.csv", [row]), shares=(1, 0, 0))


@pytest.mark.parametrize(
    ("target", "choices", "index"),
    [
        ("2", ("1", "2", "3"), 1),
        (2, (" A", " B", " C"), 2),
        (np.int64(2), (" A", " B", " C"), 2),
        (2.0, (" A", " B", " C"), 2),
        (np.float32(2), (" A", " B", " C"), 2),
        (1, ("0", "1", "2"), 1),
        (7, (" 5", " 7"), 1),
        (2.5, ("1.5", "2.5"), 1),
        (np.float32(0.1), ("0.1", "0.2"), 0),
        (" a", ("a", " a"), 1),
    ],
)
def test_a_number_is_an_index_and_a_text_is_a_text(target, choices, index):
    problem = Problem("p", "x", target, choices)
    assert problem.target_index == index
    assert type(problem.target) in (str, int, float)
    assert copy.deepcopy(problem) == problem


@pytest.mark.parametrize("target", [2, 2.0, np.int64(2), np.float32(2)])
def test_a_number_that_is_two_choices_is_refused_with_both_ways_to_write_it(target):
    with pytest.raises(
        ValueError,
        match=r"'2' by its text and the choice '3' by its index; give the right one's text, target='2' or target='3' .*target_index",
    ):
        Problem("p", "x", target, ("1", "2", "3"))


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        (True, TypeError, "target=True is a bool; give text or a number"),
        (np.True_, TypeError, "is a bool; give text or a number"),
        (None, TypeError, "target=None is a NoneType; give text or a number"),
        ([1], ValueError, "target=\\(1,\\) beside the prompt 'x'; give text or a number"),
        (float("nan"), ValueError, "target=nan; give text or a finite number"),
        (5, ValueError, "target=5; use an index from 0 to 1"),
        ("C", ValueError, "target='C' is not one of the choices"),
    ],
)
def test_what_no_target_can_be_is_named(target, error, message):
    problem = object.__new__(Problem)  # without the checks of types that tests add
    for name, value in (("id", "p"), ("prompt", "x"), ("target", target), ("choices", (" A", " B")), ("meta", {}), ("scorer", None)):
        object.__setattr__(problem, name, value)
    with pytest.raises(error, match=message):
        problem.__post_init__()


def test_index_and_text_of_one_choice_make_one_problem():
    by_index, by_text = Problem("a", "x", 1, (" A", " B")), Problem("b", "x", "B", (" A", " B"))
    assert in_both([by_index], [by_text]) == [by_index]
    assert in_both([Problem("a", "x", 3)], [Problem("b", "x", 3.0), Problem("c", "x", "3")])


def test_numbers_as_choices_are_right_where_a_loader_or_a_shuffle_says(tmp_path):
    """Oracle: the sums in the prompts; a choice such as " 2" at place 0 beside another at place 2 was an index or a text before, by luck."""
    task = load_task("arithmetic", form="continuation", n_train=200, n_validation=0, n_test=0)
    assert all(int(p.choices[p.target_index]) == p.meta["answer"] for p in task.train)
    assert any(isinstance(p.target, str) for p in task.train)
    shuffled = shuffled_targets(task.train, rng=np.random.default_rng(0))
    assert Counter(p.target_index for p in shuffled) == Counter(p.target_index for p in task.train)
    row = {"id": "q", "question": "Why?", "choices": {"text": ["2", "7", "0"], "label": ["1", "2", "3"]}, "answerKey": "3"}
    spoken = only(tmp_path, "arc_challenge", row, form="continuation")
    assert spoken.choices[spoken.target_index] == " 0"


@pytest.mark.parametrize(
    ("extra", "scorer"),
    [
        ({"choices": [" A", " B"], "target": " B"}, "choice"),
        ({"choices": [" yes", " no"], "target": "no"}, "continuation"),
        ({"choices": ["A", "B"], "target": 1}, "continuation"),
        ({"target": 4}, "numeric"),
        ({"target": "4"}, "numeric"),
    ],
)
def test_the_scorer_of_your_own_rows_follows_from_their_answers(tmp_path, extra, scorer):
    path = write_jsonl(tmp_path / "own.jsonl", [{"prompt": f"{i}?", **extra} for i in range(10)])
    assert load_task("jsonl", path=path).scorer == scorer


def test_text_to_generate_needs_the_text_scorer_by_name(tmp_path):
    path = write_jsonl(tmp_path / "own.jsonl", [{"prompt": f"{i}?", "target": "007"} for i in range(10)])
    task = load_task("jsonl", path=path, scorer="text")
    assert task.scorer == "text"
    assert task.test[0].target == "007"
    path = write_jsonl(tmp_path / "own.jsonl", [{"prompt": f"{i}?", "target": "Paris"} for i in range(10)])
    with pytest.raises(ValueError, match=r"has the text 'Paris' as target and no choices; .*scorer=\"text\""):
        load_task("jsonl", path=path)


@pytest.mark.parametrize(
    ("rows", "scorer", "message"),
    [
        ([{"target": 1}], "choice", "it scores choices, but the problems have none"),
        ([{"target": 0, "choices": [" A", " B"]}], "numeric", "but the problems have choices"),
        ([{"target": 1}], "magic", "use one of choice, continuation"),
        ([{"target": 1}, {"target": 0, "choices": [" A", " B"]}], None, "give all of them choices, or none"),
    ],
)
def test_a_scorer_that_does_not_fit_is_refused(tmp_path, rows, scorer, message):
    path = write_jsonl(tmp_path / "own.jsonl", [{"prompt": f"{i}?", **row} for i, row in enumerate(rows * 5)])
    with pytest.raises(ValueError, match=message):
        load_task("jsonl", path=path, scorer=scorer)


# Kinds of file


def test_every_kind_of_file_gives_the_same_problems(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    import pyarrow

    rows = hellaswag_rows(12)
    write_jsonl(tmp_path / "h.jsonl", rows)
    (tmp_path / "h.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "h.parquet")
    with (tmp_path / "h.csv").open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows({**row, "endings": json.dumps(row["endings"])} for row in rows)
    tasks = [load_task("hellaswag", path=tmp_path / f"h.{kind}") for kind in ("jsonl", "json", "parquet", "csv")]
    assert all(everything(task) == everything(tasks[0]) for task in tasks)


def test_a_number_in_csv_is_a_number_and_a_huge_cell_is_read(tmp_path):
    path = tmp_path / "own.csv"
    path.write_text("prompt,target\n" + "".join(f"{'x' * 200_000}{i},{i}\n" for i in range(10)), encoding="utf-8")
    limit = csv.field_size_limit()
    task = load_task("jsonl", path=path)
    assert sorted(p.target for p in everything(task)) == list(range(10))
    assert csv.field_size_limit() == limit


def test_a_line_separator_inside_a_string_does_not_end_the_line(tmp_path):
    path = tmp_path / "own.jsonl"
    path.write_text("".join(f'{{"prompt": "a\u2028{i}", "target": {i}}}\r\n' for i in range(6)), encoding="utf-8")
    assert len(everything(load_task("jsonl", path=path))) == 6


# Splits


def test_one_file_is_one_pool_split_by_shares(tmp_path):
    task = load_task("jsonl", path=write_jsonl(tmp_path / "own.jsonl", sums(100)))
    assert [len(getattr(task, split)) for split in SPLITS] == [50, 20, 30]
    other = load_task("jsonl", path=tmp_path / "own.jsonl", shares=(0.8, 0.1, 0.1))
    assert [len(getattr(other, split)) for split in SPLITS] == [80, 10, 10]
    assert task.about["splits"].startswith("one pool of 100 problems")


def test_three_rows_are_enough_for_three_splits(tmp_path):
    task = load_task("jsonl", path=write_jsonl(tmp_path / "own.jsonl", sums(3)))
    assert [len(getattr(task, split)) for split in SPLITS] == [1, 1, 1]


def test_the_seed_decides_the_split_and_nothing_else_does(tmp_path):
    path = write_jsonl(tmp_path / "own.jsonl", sums(60))
    assert load_task("jsonl", path=path, seed=1) == load_task("jsonl", path=path, seed=1)
    assert load_task("jsonl", path=path, seed=1).test != load_task("jsonl", path=path, seed=2).test
    ids = {p.id for p in everything(load_task("jsonl", path=path, seed=1))}
    assert ids == {p.id for p in everything(load_task("jsonl", path=path, seed=2))}


def test_a_limit_keeps_the_first_problems_of_each_split(tmp_path):
    path = write_jsonl(tmp_path / "own.jsonl", sums(60))
    full, cut = load_task("jsonl", path=path), load_task("jsonl", path=path, limit=5)
    assert all(getattr(cut, split) == getattr(full, split)[:5] for split in SPLITS)


def test_official_splits_are_kept_and_the_missing_one_is_carved_from_the_largest(tmp_path):
    write_jsonl(tmp_path / "train-00000-of-00002.jsonl", hellaswag_rows(60))
    write_jsonl(tmp_path / "train-00001-of-00002.jsonl", hellaswag_rows(20, start=60))
    write_jsonl(tmp_path / "validation.jsonl", hellaswag_rows(30, start=200))
    task = load_task("hellaswag", path=tmp_path)
    assert {p.meta["ind"] for p in task.validation} == set(range(200, 230))
    assert {p.meta["ind"] for p in task.train + task.test} == set(range(80))
    assert len(task.test) == 30  # 0.3 of 0.5 + 0.3, of 80
    assert "test (30 problems) carved from the 80 of train" in task.about["splits"]


def test_three_official_splits_are_left_alone(tmp_path):
    for i, name in enumerate(("train", "dev", "test")):
        write_jsonl(tmp_path / f"{name}.jsonl", sums(4 + i, start=100 * i))
    task = load_task("jsonl", path=tmp_path)
    assert [len(getattr(task, split)) for split in SPLITS] == [4, 5, 6]


def test_a_test_split_without_labels_is_counted_and_carved_anew(tmp_path):
    write_jsonl(tmp_path / "train.jsonl", hellaswag_rows(40))
    write_jsonl(tmp_path / "validation.jsonl", hellaswag_rows(20, start=100))
    write_jsonl(tmp_path / "test.jsonl", [{**row, "label": ""} for row in hellaswag_rows(10, start=200)])
    task = load_task("hellaswag", path=tmp_path)
    assert task.about["dropped"]["no label"] == 10
    assert {p.meta["ind"] for p in task.test} < set(range(40))


def test_a_row_in_train_and_in_test_stays_in_test_alone(tmp_path):
    write_jsonl(tmp_path / "train.jsonl", sums(20))
    write_jsonl(tmp_path / "validation.jsonl", sums(5, start=50))
    write_jsonl(tmp_path / "test.jsonl", sums(5, start=18))
    task = load_task("jsonl", path=tmp_path)
    assert len(task.train) == 18
    assert len(task.test) == 5
    assert task.about["dropped"]["duplicate"] == 2
    assert not {p.prompt for p in task.train} & {p.prompt for p in task.test}


def test_the_same_pair_under_two_ids_is_a_duplicate_whichever_sentence_comes_first(tmp_path):
    rows = [{"sentence_good": "Ann goes", "sentence_bad": "Ann go", "pairID": i} for i in range(20)]
    rows += [{"sentence_good": f"Bob {i} goes{i}", "sentence_bad": f"Bob {i} go{i}", "pairID": 50 + i} for i in range(9)]
    task = load_task("blimp", path=write_jsonl(tmp_path / "b.jsonl", rows))
    assert task.about["dropped"]["duplicate"] == 19


def test_a_published_row_whose_cleaned_endings_repeat_is_left_out_and_counted(tmp_path):
    rows = [*hellaswag_rows(9), {"ind": 99, "ctx": "c", "endings": ["[step] a", " a", "b", "c"], "label": "0"}]
    task = load_task("hellaswag", path=write_jsonl(tmp_path / "h.jsonl", rows), form="continuation")
    assert task.about["dropped"] == {"duplicate": 0, "repeated choices": 1}


def test_identical_pairs_of_blimp_are_left_out_and_counted(tmp_path):
    rows = [{"sentence_good": f"Ann {i} goes{i}", "sentence_bad": f"Ann {i} go{i}", "pairID": i} for i in range(9)]
    rows += [
        {"sentence_good": "Bob goes", "sentence_bad": "Bob goes ", "pairID": 9},
        {"sentence_good": "Eva", "sentence_bad": "Eva", "pairID": 10},
    ]
    task = load_task("blimp", path=write_jsonl(tmp_path / "passive_1.jsonl", rows))
    assert task.about["dropped"] == {"duplicate": 0, "identical sentences": 2}
    assert len(everything(task)) == 9
    assert repr(task) == "Task('blimp', train=4, validation=2, test=3, scorer='minimal_pair'; left out: 2 identical sentences)"


def test_about_says_which_bytes_were_read_and_not_where_they_lay(tmp_path):
    """Oracle: hashlib over the file."""
    import hashlib

    path = write_jsonl(tmp_path / "own.jsonl", sums(10))
    about = load_task("jsonl", path=path).about
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert about["files"] == [{"name": "own.jsonl", "sha256": digest, "rows": 10}]
    assert str(tmp_path) not in json.dumps(about)


def test_a_folder_of_paradigms_is_read_by_paradigm(tmp_path):
    for uid in ("one", "two"):
        rows = [{"sentence_good": f"{uid} {i} is{i}", "sentence_bad": f"{uid} {i} are{i}", "UID": uid} for i in range(8)]
        write_jsonl(tmp_path / f"{uid}.jsonl", rows)
    task = load_task("blimp", path=tmp_path, paradigm="two")
    assert {p.meta["UID"] for p in everything(task)} == {"two"}
    with pytest.raises(ValueError, match="give the path of one file"):
        load_task("blimp", path=tmp_path, paradigm="../one")
    with pytest.raises(ValueError, match=r"the paradigms found are \['one'\]"):
        load_task("blimp", path=tmp_path / "one.jsonl", paradigm="two")


# Bad input


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"prompt": "a", "target": 1}\nnot json\n', r"own.jsonl, line 2: found 'not json'"),
        (
            '{"prompt": "a", "target": 1}\n[1, 2]\n',
            r"own.jsonl, line 2: found \[1, 2\]; each row must be a JSON object",
        ),
        ("[" * 100_000 + "\n", "line 1: found .*nested too deep"),
        ('{"prompt": "a"}\n', r"line 1: no column 'target'; the columns found are \['prompt'\]"),
        ('{"prompt": 5, "target": 1}\n', "line 1: column 'prompt' holds 5; it must be text"),
        ('{"prompt": "a", "target": NaN}\n', "line 1: column 'target' holds nan"),
        ('{"prompt": "a", "target": true}\n', "line 1: column 'target' holds True"),
        ('{"prompt": "\\ud800", "target": 1}\n', "half of a surrogate pair"),
        ('{"prompt": "a", "target": 7, "choices": [" A", " B"]}\n', "line 1: .*use an index from 0 to 1"),
        ('{"prompt": "a", "target": "C", "choices": [" A", " B"]}\n', "line 1: .*is not one of the choices"),
        ('{"prompt": "a", "target": 0, "choices": [" A"]}\n', "line 1: .*a choice needs at least 2"),
        ('{"prompt": "a", "target": 0, "choices": 3}\n', "line 1: .*must be a list of texts"),
        (
            '{"id": 1, "prompt": "a", "target": 1}\n{"id": 1, "prompt": "b", "target": 1}\n',
            "line 2: the id '1' is that of own.jsonl, line 1 too",
        ),
        ('{"prompt": "a", "target": 1}\n{"prompt": "b", "target": 1}\n', "2 different problems are too few"),
        ("", "own.jsonl: the file is empty"),
        (" \n\n", "own.jsonl: the file is empty"),
    ],
)
def test_a_bad_line_is_named_with_what_was_found(tmp_path, content, message):
    path = tmp_path / "own.jsonl"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        load_task("jsonl", path=path)


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("hellaswag", {"ctx": "c", "endings": ["a", "b"], "label": "2"}, "label '2' is out of range; .*need 0 to 1"),
        ("hellaswag", {"ctx": "c", "endings": ["a", "b"], "label": -1}, "out of range"),
        ("hellaswag", {"ctx": "c", "endings": "a", "label": 0}, "column 'endings' holds 'a'"),
        ("hellaswag", {"endings": ["a", "b"], "label": 0}, "no column 'ctx'"),
        ("hellaswag", {"ctx": "c", "endings": list("abcdefghijk"), "label": 0}, "one.jsonl, line 1: 11 options"),
        ("arc_challenge", {"question": "q", "choices": ["a"], "answerKey": "A"}, "lists 'text' and 'label'"),
        (
            "arc_challenge",
            {"question": "q", "choices": {"text": ["a", "b"], "label": ["A", "B"]}, "answerKey": "C"},
            "answerKey 'C' is out of range",
        ),
        (
            "arc_challenge",
            {"question": "q", "choices": {"text": ["a"], "label": ["A", "B"]}, "answerKey": "A"},
            "1 texts and 2 labels",
        ),
        ("gsm8k", {"question": "q", "answer": "It is 5."}, "must end in '#### '"),
        ("gsm8k", {"question": "q", "answer": "#### five"}, "' five' after '####'; it must be a number"),
        ("svamp", {"Body": "b", "Question": "q", "Answer": "x"}, "column 'Answer' holds 'x'"),
        ("svamp", {"Body": "b", "Question": "q", "Answer": 1, "ID": [1]}, "an id must be text or a whole number"),
        ("blimp", {"sentence_good": "a b", "sentence_bad": " "}, "a minimal pair needs two"),
        ("hellaswag", {"ctx": "c", "endings": ["a", "b"], "label": ""}, "none of 1 rows can be used"),
    ],
)
def test_a_bad_row_of_a_published_data_set_is_named(tmp_path, name, row, message):
    with pytest.raises(ValueError, match=message):
        only(tmp_path, name, row)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "gsm9"}, "name='gsm9': no such task; use one of arithmetic, hellaswag"),
        ({"name": "gsm8k", "form": "choice"}, "form='choice': gsm8k has the forms numeric"),
        ({"name": "gsm8k", "limit": 0}, "limit=0; use a whole number from 1 up"),
        ({"name": "gsm8k", "seed": -1}, "seed=-1; use a whole number from 0 up"),
        ({"name": "gsm8k", "paradigm": "x"}, "paradigm='x': gsm8k has no such option"),
        ({"name": "gsm8k", "shares": (0.5, 0.2, 0.2)}, "sum to 0.9; they must sum to 1"),
        ({"name": "gsm8k", "shares": (1.5, -0.5, 0)}, "use three numbers from 0 to 1"),
        ({"name": "gsm8k", "shares": (0.5, 0.5)}, "use three numbers from 0 to 1"),
        ({"name": "jsonl"}, "jsonl reads a file of yours; pass path="),
        ({"name": "blimp"}, "paradigm=None: .*pass paradigm="),
        ({"name": "arithmetic", "path": "x.jsonl"}, "arithmetic is generated"),
        ({"name": "arithmetic", "n_tests": 3}, "n_tests=3: arithmetic has no such option; use n_train"),
        ({"name": "gsm8k", "path": "x.jsonl", "revision": "main"}, "a local file has no revision"),
    ],
)
def test_a_bad_argument_is_named_with_the_fix(arguments, message):
    with pytest.raises(ValueError, match=message):
        load_task(**arguments)


def test_a_missing_path_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=re.escape("nowhere.jsonl': no such file or folder")):
        load_task("gsm8k", path=tmp_path / "nowhere.jsonl")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("a.txt", b"x", r"extension '.txt' is not one of .jsonl, .json, .parquet, .csv"),
        ("a.json", b'{"prompt": "a"}', "must be one JSON array"),
        ("a.json", b'{"a": 1}\n{"a": 2}', "one object per line is .jsonl"),
        ("a.json", b"[3]", "a.json, row 1: found 3"),
        ("a.parquet", b"not parquet", "a.parquet: not a readable Parquet file"),
        ("a.csv", b"prompt,target\n1,2,3\n", "a.csv, line 2: 3 cells; the header has 2 columns"),
        ("a.csv", b"prompt,prompt\n1,2\n", "repeat"),
        ("a.csv", b"prompt,target\n\xff,2\n", "is not UTF-8"),
        ("a.csv", b'prompt,target\n"a"b,2\n', "not readable as CSV"),
        ("a.csv", b"prompt,target\n", "the file holds no rows"),
        ("a.jsonl", b"\xff\xfe\n", "line 1: found"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_refused(tmp_path, file, content, message):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    (tmp_path / file).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_task("jsonl", path=tmp_path / file)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("a.jsonl", rb'{"prompt": "a", "target": 1}' + b"\n" + rb'{"prompt": "\ud800", "target": 1}', r"a.jsonl, line 2: column 'prompt' holds '\\ud800', with half"),
        ("a.jsonl", rb'{"prompt": "a", "target": 1, "more": [{"deep": "x\udfff"}]}', r"a.jsonl, line 1: column 'more' holds 'x\\udfff', with half"),
        ("a.jsonl", rb'{"id": "\ud800", "prompt": "a", "target": 1}', r"a.jsonl, line 1: column 'id' holds"),
        ("a.jsonl", rb'{"prompt": "a", "target": "b", "choices": ["b", "\ud800"]}', r"a.jsonl, line 1: column 'choices' holds"),
        ("a.jsonl", b'{"prompt": "a", "target": 1}\n{"prompt": "\xed\xa0\x80", "target": 1}', r"a.jsonl, line 2: found .*not UTF-8"),
        ("a.json", b'[{"prompt": "a", "target": 1},\n{"prompt": "\xed\xa0\x80", "target": 1}]', r"a.json, line 2: found .*not UTF-8"),
        ("a.json", rb'[{"prompt": "a", "target": 1}, {"prompt": "\ud800", "target": 1}]', r"a.json, row 2: column 'prompt' holds"),
        ("a.csv", b"prompt,target\na,1\n\xed\xa0\x80,2\n", r"a.csv, line 3: byte 18 of the file is not UTF-8"),
        ("a.csv", rb'prompt,target,choices' + b"\n" + rb'a,b,"[""b"", ""\ud800""]"', r"a.csv, line 2: column 'choices' holds .*half of a surrogate pair"),
    ],
)  # fmt: skip
def test_half_of_a_surrogate_pair_is_named_with_file_and_line(tmp_path, file, content, message):
    (tmp_path / file).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_task("jsonl", path=tmp_path / file)


def test_a_parquet_text_that_is_not_utf_8_is_named_with_its_row(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    import pyarrow

    prompts = pyarrow.array([b"a", b"\xed\xa0\x80"], pyarrow.binary()).view(pyarrow.string())
    parquet.write_table(pyarrow.table({"prompt": prompts, "target": [1, 2]}), tmp_path / "a.parquet")
    with pytest.raises(ValueError, match=r"a.parquet, row 2: found .*not UTF-8"):
        load_task("jsonl", path=tmp_path / "a.parquet")


@pytest.mark.parametrize(("name", "values"), [("id", {"id": "\ud800"}), ("prompt", {"prompt": "\ud800"}), ("target", {"target": "\ud800"}),
                                              ("choice", {"target": 0, "choices": ("a", "\ud800")})])  # fmt: skip
def test_a_problem_with_half_of_a_surrogate_pair_is_refused(name, values):
    with pytest.raises(ValueError, match=rf"{name} has half of a surrogate pair at character \d"):
        Problem(**{"id": "p", "prompt": "x", "target": "y", **values})


def test_two_kinds_of_file_for_one_split_are_refused(tmp_path):
    write_jsonl(tmp_path / "train.jsonl", sums(5))
    (tmp_path / "train.csv").write_text("prompt,target\na,1\n")
    with pytest.raises(ValueError, match=r"train.csv, train.jsonl would all be the train split"):
        load_task("jsonl", path=tmp_path)


def test_a_message_stays_short_however_long_the_value(tmp_path):
    with pytest.raises(ValueError, match="is not one of the choices") as caught:
        only(tmp_path, "jsonl", {"prompt": "p", "target": "t" * 100_000, "choices": ["a" * 100_000, "b"]})
    assert len(str(caught.value)) < 600
    assert len(shown(list(range(10_000)))) <= 82


@pytest.mark.parametrize(
    ("value", "number"),
    [("1e3", 1000), (" 4 ", 4), ("-.5", -0.5), ("1e999", None), ("1_0", None), ("٣", 3), (True, None), ("", None),
     ("9" * 5000, None), (float("inf"), None), ([1], None)],
)  # fmt: skip
def test_only_plain_finite_numbers_are_numbers(value, number):
    assert parse_number(value) == number


def test_a_hostile_string_takes_no_quadratic_time():
    """At a few nanoseconds a step, the square of the length would take minutes."""
    assert wikihow_clean("[" * 500_000) == "[" * 500_000
    assert wikihow_clean("[" * 500_000 + "]\n[") == "\n["
    assert parse_number("9" * 500_000 + "x") is None


# The Hub


def hub_with(monkeypatch, answer) -> list[tuple]:
    """Put `answer` in place of `datasets.load_dataset`; the list fills with what it is asked for."""
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    asked: list[tuple] = []

    def load_dataset(*args, **options):
        asked.append((*args, options))
        if isinstance(answer, Exception):
            raise answer
        return {split: datasets.Dataset.from_list(rows) for split, rows in answer.items()}

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return asked


def test_the_hub_is_asked_for_the_official_data_set(monkeypatch):
    rows = [{"question": f"{i}?", "answer": f"#### {i}"} for i in range(30)]
    asked = hub_with(monkeypatch, {"train": rows[:20], "test": rows[20:]})
    task = load_task("gsm8k", revision="abc")
    assert asked == [("openai/gsm8k", "main", {"revision": "abc"})]
    assert len(task.test) == 10
    assert task.about["source"] == "Hugging Face Hub"
    assert task.about["revision"] == "abc"
    assert len(task.about["files"][0]["rows_sha256"]) == 64


def test_a_paradigm_of_the_hub_is_one_pool_with_the_ids_of_the_file(monkeypatch, tmp_path):
    rows = [{"sentence_good": f"Ann {i} goes{i}", "sentence_bad": f"Ann {i} go{i}", "UID": "u", "pair_id": i} for i in range(10)]
    asked = hub_with(monkeypatch, {"train": rows})
    hub = load_task("blimp", paradigm="u")
    assert asked[0][:2] == ("nyu-mll/blimp", "u")
    local = load_task("blimp", path=write_jsonl(tmp_path / "u.jsonl", rows))
    assert everything(hub) == everything(local)


def test_a_hub_that_cannot_be_reached_points_to_the_path(monkeypatch, tmp_path):
    """Oracle: what `datasets` itself raises in offline mode, nothing in its place."""
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    import huggingface_hub.constants

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    with pytest.raises(OSError, match=r"Rowan/hellaswag: cannot be had from the Hugging Face Hub: .*; use path="):
        load_task("hellaswag")


def test_every_way_the_hub_fails_points_to_the_path(monkeypatch):
    datasets = pytest.importorskip("datasets", reason="datasets is not installed")
    from huggingface_hub.errors import HfHubHTTPError

    http_error = next(c for c in HfHubHTTPError.__mro__ if c.__name__ == "HTTPError")
    for error in (
        datasets.exceptions.DatasetNotFoundError("gone"),
        datasets.exceptions.DatasetGenerationError("half a file"),
        RuntimeError("Dataset scripts are no longer supported"),
        TimeoutError("slow"),
        http_error("read timed out"),
    ):
        hub_with(monkeypatch, error)
        with pytest.raises(OSError, match="use path="):
            load_task("svamp")
    hub_with(monkeypatch, ValueError("BuilderConfig 'x' not found. Available: ['y']"))
    with pytest.raises(ValueError, match=r"Available: \['y'\].*use path="):
        load_task("blimp", paradigm="x")


# Real files


@needs_shared
@pytest.mark.parametrize(
    ("name", "where", "form", "scorer"),
    [
        ("hellaswag", "hellaswag", "choice", "choice"),
        ("hellaswag", "hellaswag", "continuation", "continuation_norm"),
        ("arc_challenge", "arc_challenge", "choice", "choice"),
        ("arc_challenge", "arc_challenge", "continuation", "continuation"),
        ("gsm8k", "gsm8k", None, "numeric"),
        ("svamp", "svamp/SVAMP.json", None, "numeric"),
        ("blimp", "blimp/anaphor_gender_agreement.jsonl", None, "minimal_pair"),
        ("blimp", "blimp/determiner_noun_agreement_1.jsonl", None, "minimal_pair"),
        ("blimp", "blimp/existential_there_quantifiers_1.jsonl", None, "minimal_pair"),
        ("blimp", "blimp/irregular_past_participle_verbs.jsonl", None, "minimal_pair"),
    ],
)
def test_real_files_load_whole_and_their_splits_share_nothing(name, where, form, scorer):
    task = load_task(name, path=SHARED / where, form=form)
    assert task.scorer == scorer
    n_rows = sum(task.about["rows"].values())
    assert len(everything(task)) == n_rows - sum(task.about["dropped"].values())
    assert sum(task.about["dropped"].values()) <= 0.002 * n_rows
    assert min(len(getattr(task, split)) for split in SPLITS) >= 170  # of 1,000 or more; groups are kept whole
    contents = Counter((p.prompt, p.choices and frozenset(p.choices), p.choices and p.target_index)
                       for p in everything(task))  # fmt: skip
    assert max(contents.values()) == 1
    json.dumps(dict(task.about))


@needs_shared
def test_real_pairs_put_together_are_the_sentences_of_the_file():
    path = SHARED / "blimp" / "existential_there_quantifiers_1.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    task = load_task("blimp", path=path)
    good = {p.prompt + p.choices[p.target_index] for p in everything(task)}
    assert good == {row["sentence_good"].strip() for row in rows}


@needs_shared
def test_real_gsm8k_answers_are_whole_numbers():
    task = load_task("gsm8k", path=SHARED / "gsm8k")
    assert all(isinstance(problem.target, int) for problem in everything(task))
    assert {problem.meta["steps"] for problem in everything(task)} >= {2, 3, 4, 5}


def test_a_problem_is_in_both_lists_by_name_or_by_content():
    ours = [Problem("a", "1 + 1 =", "2"), Problem("b", "2 + 1 =", "3"), Problem("c", "3 + 1 =", "4")]
    theirs = [Problem("a", "9 + 9 =", "18"), Problem("x", "2 + 1 =", "3"), Problem("y", "3 + 1 =", "5")]
    assert [p.id for p in in_both(ours, theirs)] == ["a", "b"]
