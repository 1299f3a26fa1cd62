"""A plan is fixed before anything is scored, and a run says whether it followed it."""

import json
from dataclasses import replace

import pytest

import steerlab as sl
from steerlab.cli import main as command
from steerlab.reports import sections
from steerlab.reports.runs import provenance
from steerlab.reports.scored import note_scoring
from steerlab.studies.plans import problems_digest

SMALL = {"seed": 0, "layers": [0, 1], "alphas": (-2.0, 0.0, 1.0), "n_controls": 2}
MORE = {"n_same_cell": 2, "families": ()}


@pytest.fixture(scope="module")
def task():
    return sl.load_task("arithmetic", n_train=60, n_validation=20, n_test=20)


@pytest.fixture(scope="module")
def plan(toy_model, task):
    return sl.plan_experiment(toy_model("bridge"), task, **SMALL)


def test_a_plan_scores_nothing(toy_model, task, monkeypatch):
    monkeypatch.setattr("steerlab.tasks.evaluation.plan", lambda *_, **__: pytest.fail("something was scored"))
    assert sl.plan_experiment(toy_model("bridge"), task, **SMALL).protocol["n"] == {"train": 60, "validation": 20, "test": 20}


def test_a_run_that_follows_its_plan_says_so_and_one_that_does_not_says_what_it_did(toy_model, task, plan, tmp_path):
    file = sl.save_plan(tmp_path / "plan.json", plan)
    kept = sl.run_experiment(toy_model("bridge"), task, **SMALL, **MORE, plan=file)
    assert kept.settings["plan"] == {"sha256": plan.sha256, "deviations": []}
    assert f"Plan {plan.sha256[:12]} was given to the run. It was followed." in sections.planned(kept)[0]
    other = sl.run_experiment(toy_model("bridge"), replace(task, test=task.test[:10]), **(SMALL | {"n_controls": 3}), **MORE, plan=plan)
    said = sections.planned(other)[0]
    assert "n_controls is 3; planned was 2" in said
    assert "n is train 60, validation 20, test 10; planned was train 60, validation 20, test 20" in said
    assert len(other.settings["plan"]["deviations"]) == 4  # the others are the hash of the test problems and their groups
    none = sl.run_experiment(toy_model("bridge"), task, **SMALL, **MORE)
    assert sections.planned(none)[0].startswith("There was no written plan.")


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"seed": 1}, "seed"),
        ({"measure": "margin"}, "measure"),
        ({"choose": "grid"}, "choose"),
        ({"alphas": (-1.0, 0.0)}, "alphas"),
        ({"operator": "rotate"}, "operator"),
        ({"positions": "last"}, "positions"),
        ({"pipelines": ("random",)}, "pipelines"),
        ({"stop_after": None}, "stop_after"),
    ],
)
def test_each_choice_is_part_of_the_plan(toy_model, task, plan, change, name):
    other = sl.plan_experiment(toy_model("bridge"), task, **(SMALL | change))
    assert other.sha256 != plan.sha256
    assert name in [said.split(" is ")[0] for said in plan.deviations(other.protocol)]


def test_the_data_are_known_by_what_they_ask_and_not_by_their_names(task):
    problems = task.test[:3]
    digest = problems_digest(problems)
    assert problems_digest([replace(problem, id=f"other-{k}") for k, problem in enumerate(problems)]) == digest
    assert problems_digest(problems[::-1]) != digest
    assert problems_digest(problems[::-1], ordered=False) == problems_digest(problems, ordered=False)
    assert problems_digest([replace(problems[0], prompt=f"{problems[0].prompt} "), *problems[1:]]) != digest


def test_a_plan_is_neither_replaced_nor_read_when_it_was_changed(plan, tmp_path):
    file = sl.save_plan(tmp_path / "plan.json", plan)
    with pytest.raises(FileExistsError, match="a plan is not replaced"):
        sl.save_plan(file, plan)
    record = json.loads(file.read_text())
    record["protocol"]["n_controls"] = 9
    file.write_text(json.dumps(record))
    with pytest.raises(ValueError, match="does not match its own sha256"):
        sl.load_plan(file)
    with pytest.raises(FileNotFoundError):
        sl.load_plan(tmp_path / "none.json")


def test_the_command_writes_a_plan_that_the_library_reads(tmp_path, capsys):
    out = tmp_path / "plan.json"
    words = ["plan", "--limit", "16", "--layers", "3", "--out", str(out), "--measure", "margin"]
    command.main(words)
    said = capsys.readouterr().out
    found = sl.load_plan(out)
    assert f"plan {found.sha256}" in said
    assert found.protocol["measure"] == "margin"
    with pytest.raises(SystemExit) as ended:
        command.main(words)
    assert ended.value.code == 2
    assert "a plan is not replaced" in capsys.readouterr().err


@pytest.mark.parametrize(("words", "code"), [([], 2), (["odd"], 2), (["--help"], 0)])
def test_the_command_says_what_it_knows(words, code, capsys):
    with pytest.raises(SystemExit) as ended:
        command.main(words)
    assert ended.value.code == code
    assert "plan      Write the plan of a main job" in capsys.readouterr().err


# How often a test set was scored.


def test_analyses_of_one_test_set_are_counted_once_each(tmp_path):
    assert note_scoring(tmp_path / "one", "abc", {"seed": 0}) == []
    assert note_scoring(tmp_path / "one", "abc", {"seed": 0}) == []  # again the same
    (said,) = note_scoring(tmp_path / "two", "abc", {"seed": 1})
    assert said.startswith("These test problems were scored by 1 other analysis beside this one before (one):")
    (said,) = note_scoring(tmp_path / "one", "abc", {"seed": 2})
    assert "by 2 other analyses beside this one before (one, two)" in said
    assert note_scoring(tmp_path / "three", "other", {"seed": 0}) == []


def test_a_count_that_cannot_be_read_loses_no_run(tmp_path):
    (tmp_path / "test-sets.json").write_text("{")
    (said,) = note_scoring(tmp_path / "one", "abc", {})
    assert said.startswith("How often these test problems were scored before is not known: ")
    assert (tmp_path / "test-sets.json").read_text() == "{"


def test_the_report_of_a_second_analysis_names_the_first(toy_model, task, tmp_path):
    pages = []
    for name, n in (("one", 2), ("two", 3), ("two", 3)):
        found = sl.run_experiment(toy_model("bridge"), task, **(SMALL | {"n_controls": n}), **MORE)
        about = provenance(toy_model("bridge"), {"controls": n}, task)
        folder = sl.save_experiment(tmp_path / name, found, about, overwrite=True)
        pages.append((folder / "report.html").read_text())
    assert "were scored by" not in pages[0]
    assert "were scored by 1 other analysis beside this one before (one)" in pages[1]
    assert pages[1] == pages[2]
