"""Problems that are too long for a model: named, left out, or cut; never more than is needed, and never unsaid."""

import json
from dataclasses import replace

import pytest
import torch
from configurations import STORIES
from transformers import AutoModelForCausalLM, AutoTokenizer

import steerlab as sl
from steerlab.cli.options import Setup
from steerlab.models.batches import TokenRow
from steerlab.models.encoding import token_ids
from steerlab.models.model import context_length
from steerlab.tasks.problems import Problem, Task
from steerlab.tasks.scorers import SCORERS, Scorer, _fits, numeric

LETTERS = (" A", " B")


@pytest.fixture(scope="module")
def toy(toy_model, backend):
    return toy_model(backend)


def long(toy, more: int, name: str = "long") -> Problem:
    """A problem whose prompt has so many tokens more than the context holds, no two words in a row alike."""
    words = [("Tom", "Ann", "Ben", "Eva", "Sam")[i % 5] for i in range(context_length(toy) - 1 + more)]
    return Problem(name, " ".join(words), " A", LETTERS)


def test_what_does_not_fit_is_an_error_that_says_how_many_and_what_to_do(toy):
    problems = [Problem("short", "Tom has", " A", LETTERS), long(toy, 1, "first"), long(toy, 9, "second")]
    size = context_length(toy)
    message = rf"2 of 3 problems do not fit into this model's context of {size} tokens, 'first' first \({size + 1} tokens with its answer\).*too_long='drop'.*--too-long"
    with pytest.raises(ValueError, match=message):
        sl.fit_to_context(toy, problems)
    with pytest.raises(ValueError, match=r"'first': .*fit_to_context\(..., too_long='drop' or 'truncate'\) \(in scripts: --too-long\)"):
        sl.evaluate(toy, problems)
    with pytest.raises(ValueError, match="too_long='cut'; use one of error, drop, truncate"):
        sl.fit_to_context(toy, problems, too_long="cut")


def test_what_fits_is_left_as_it_is(toy):
    problems = [Problem("short", "Tom has", " A", LETTERS), long(toy, 0)]
    for rule in ("error", "drop", "truncate"):
        found = sl.fit_to_context(toy, problems, too_long=rule)
        assert list(found) == problems
        assert found.about == {}
    task = Task("t", problems[:1], [], problems[1:], "choice")
    assert sl.fit_to_context(toy, task, too_long="drop") is task


def test_dropped_problems_are_counted_in_the_task(toy):
    short = [Problem(f"s{i}", f"Tom has {i}", " A", LETTERS) for i in range(4)]
    task = Task("t", [*short[:2], long(toy, 1, "l0")], short[2:3], [long(toy, 5, "l1"), long(toy, 2, "l2"), short[3]], "choice")
    found = sl.fit_to_context(toy, task, too_long="drop")
    assert [p.id for p in found.train + found.validation + found.test] == ["s0", "s1", "s2", "s3"]
    assert found.about["too_long"] == {
        "rule": "drop",
        "context": context_length(toy),
        "splits": {
            "train": {"n": 3, "dropped": 1, "cut": 0},
            "validation": {"n": 1, "dropped": 0, "cut": 0},
            "test": {"n": 3, "dropped": 2, "cut": 0},
        },
    }
    assert repr(found).endswith("too long for a context of 128 tokens: 1 of 3 train left out, 2 of 3 test left out)")
    assert sl.evaluate(toy, found.test).n == 1
    json.dumps(dict(found.about))


@pytest.mark.parametrize("more", [1, 2, 50])
def test_a_prompt_is_cut_from_the_left_by_as_many_tokens_as_are_too_many(toy, more):
    problem = long(toy, more)
    (cut,) = sl.fit_to_context(toy, [problem], too_long="truncate")
    assert cut.meta["truncated"]["tokens_cut"] == more
    assert cut.meta["truncated"]["tokens"] == len(problem.prompt.split())
    assert problem.prompt.endswith(cut.prompt)
    assert cut.prompt.split() == problem.prompt.split()[more:]
    before, after = token_ids(toy, problem.prompt), token_ids(toy, cut.prompt)
    assert after == [before[0], *before[1 + more :]]  # the beginning-of-sequence token stays
    assert len(after) == context_length(toy)
    assert (cut.id, cut.target, cut.choices) == (problem.id, problem.target, problem.choices)


@pytest.mark.parametrize(
    ("scorer", "answer", "room"),
    [
        ("continuation", {"target": 0, "choices": (" A", " Tom has 3 pens")}, 3),  # the last token of a choice is read, not fed
        ("minimal_pair", {"target": 0, "choices": (" A B C", " A B")}, 2),
        (numeric(32), {"target": 7, "choices": None}, 32),
        (numeric(5), {"target": 7, "choices": None}, 5),
    ],
)
def test_the_longest_answer_and_what_is_generated_have_room(toy, scorer, answer, room):
    """Oracle: by hand."""
    problem = replace(long(toy, 4), **answer)
    (cut,) = sl.fit_to_context(toy, [problem], too_long="truncate", scorer=scorer)
    assert cut.meta["truncated"]["tokens_cut"] == 4 + room
    assert sl.evaluate(toy, [cut], scorer=scorer).n == 1
    assert not sl.fit_to_context(toy, [problem, replace(problem, id="short", prompt="Tom")], too_long="drop", scorer=scorer)[1:]


def test_a_problem_whose_answers_alone_do_not_fit_is_left_out(toy):
    problem = replace(long(toy, 1), target=0, choices=(" A", " B" * context_length(toy)))
    found = sl.fit_to_context(toy, [problem, Problem("s", "Tom", " A", LETTERS)], too_long="truncate", scorer="continuation")
    assert [p.id for p in found] == ["s"]
    assert found.about["too_long"]["splits"] == {"problems": {"n": 2, "dropped": 1, "cut": 0}}
    with pytest.raises(ValueError, match="none of 1 problems fits into this model's context of 128 tokens"):
        sl.fit_to_context(toy, [problem], too_long="drop", scorer="continuation")


def test_prompts_of_token_ids_are_cut_like_texts(toy):
    def rows(model, problem):
        return [TokenRow(tuple(_fits(model, problem, list(problem.prompt))), len(problem.prompt))]

    raw = Scorer("ids", rows, SCORERS["choice"].judge)
    prompt = (toy.tokenizer.bos_token_id, *(5 + i % 7 for i in range(context_length(toy) + 9)))
    problem = object.__new__(Problem)
    for name, value in (("id", "p"), ("prompt", prompt), ("target", 0), ("choices", LETTERS), ("meta", {}), ("scorer", None)):
        object.__setattr__(problem, name, value)
    assert isinstance(problem, Problem)
    from steerlab.tasks.lengths import _cuts

    ids, kept = _cuts(toy, problem)
    assert kept(10) == (10, prompt[1:11], (prompt[0], *prompt[11:]))
    assert len(ids) == len(prompt) - 1
    assert raw.rows(toy, replace_prompt(problem, kept(10)[2]))[0].prompt_length == context_length(toy)


def replace_prompt(problem: Problem, prompt: tuple[int, ...]) -> Problem:
    object.__setattr__(problem, "prompt", prompt)
    return problem


def test_a_cut_prompt_is_scored_as_transformers_scores_its_last_tokens(stories, backend):
    """Oracle: transformers, on the beginning-of-sequence token and the last tokens of the prompt's own tokenisation."""
    model = stories(backend)
    tokenizer = AutoTokenizer.from_pretrained(STORIES, local_files_only=True)
    plain = AutoModelForCausalLM.from_pretrained(STORIES, dtype=torch.float32, local_files_only=True).eval()
    size = context_length(model)
    prompt = "Once upon a time, there was a little girl named Lily. She liked to play outside in the park! " * (size // 20)
    prompt += "One day, Tom saw a big"
    ids = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    assert len(ids) > size
    problem = Problem("p", prompt, 0, (" dog", " cat"))
    (cut,) = sl.fit_to_context(model, [problem], too_long="truncate", scorer="continuation")
    gone = cut.meta["truncated"]["tokens_cut"]
    kept = [1, *ids[gone:]]
    assert prompt.endswith(cut.prompt)
    assert token_ids(model, cut.prompt) == kept
    assert size - 4 <= len(kept) <= size
    scores = []
    with torch.no_grad():
        for choice in problem.choices:
            whole = [1, *tokenizer(prompt + choice, add_special_tokens=False)["input_ids"][gone:]]
            log_p = plain(torch.tensor([whole])).logits[0].double().log_softmax(-1)
            scores.append(sum(float(log_p[i - 1, whole[i]]) for i in range(len(kept), len(whole))))
    row = sl.evaluate(model, [cut], scorer="continuation").frame.iloc[0]
    assert row["nll"] == pytest.approx(-scores[0], abs=1e-3)
    assert row["margin"] == pytest.approx(scores[0] - scores[1], abs=1e-3)


def test_scripts_leave_out_or_cut_what_is_too_long_and_say_so(tmp_path, capsys):
    rows = [{"prompt": f"Tom has {i} apples.", "target": " A", "choices": [" A", " B"]} for i in range(11)]
    rows.append({"prompt": "Tom has 3 apples. " * 40, "target": " A", "choices": [" A", " B"]})
    path = tmp_path / "own.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    for rule, n in (("drop", 11), ("truncate", 12), ("error", 12)):
        _, task = Setup(task="jsonl", task_path=str(path), too_long=rule, device="cpu").load()
        assert len(task.train) + len(task.validation) + len(task.test) == n
        said = capsys.readouterr().out
        word = {"drop": "1 of ", "truncate": "cut from the left", "error": ""}[rule]
        assert word in said
        assert bool(said) == (rule != "error")


def test_an_experiment_says_what_was_left_out_in_report_and_terminal(tmp_path):
    model, task = sl.load_model("tiny-arithmetic", device="cpu"), sl.load_task("arithmetic", limit=16)
    lengthy = replace(task.test[0], id="lengthy", prompt=" ".join([task.test[0].prompt] * 9))
    longer = replace(task, test=[*task.test, lengthy])
    asked = {"seed": 0, "layers": [3], "alphas": [-2, 0, 2], "n_controls": 4, "families": ()}
    with pytest.raises(ValueError, match=r"1 of 49 problems do not fit .* 'lengthy' first .*too_long='drop'"):
        sl.run_experiment(model, longer, **asked)
    found = sl.run_experiment(model, longer, too_long="drop", **asked)
    assert found.test.baseline.n == 16
    assert found.test.accuracy().equals(sl.run_experiment(model, task, **asked).test.accuracy())
    words = "too long for a context of 128 tokens: 1 of 17 test left out"
    assert f"warning: Problems were {words}" in str(sl.Significance(found))
    from steerlab.reports.runs import provenance

    folder = sl.save_experiment(tmp_path / "run", found, provenance(model, {"seed": 0}, found.settings["task"]))
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert f"Data: {words}" in page
    again, _ = sl.load_experiment(folder)
    assert again.settings["task"]["too_long"]["splits"]["test"] == {"n": 17, "dropped": 1, "cut": 0}
