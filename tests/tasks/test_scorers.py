"""Scorers: what is read, how it is judged, and that batching changes nothing."""

import pandas as pd
import pytest
import torch

import steerlab as sl
from steerlab.activations.positions import TokenPositions
from steerlab.models.batches import Answer
from steerlab.models.model import context_length, d_model, hook_name, hooks
from steerlab.models.passes import forward
from steerlab.tasks.loaders import load_task
from steerlab.tasks.numbers import extract_number
from steerlab.tasks.problems import Problem
from steerlab.tasks.scorers import SCORERS, Outcome, Scorer, numeric, scorer_for, text

SETTINGS = [
    ("choice", "choice"),
    ("continuation", "endings"),
    ("continuation_norm", "endings"),
    ("minimal_pair", "endings"),
    ("numeric", "numeric"),
    ("text", "numeric"),
]
ENDINGS = (" Tom buys 4.", " Ann loses 12 books. How many pens now?")


@pytest.fixture(scope="module")
def toy(toy_model, backend):
    return toy_model(backend)


def problems(form: str, n: int = 8) -> list[Problem]:
    """Problems of many lengths."""
    if form == "endings":
        return [Problem(p.id, p.prompt, i % 2, ENDINGS) for i, p in enumerate(problems("choice", n))]
    return load_task("arithmetic", n_train=n, n_validation=0, n_test=0, form=form).train


@pytest.mark.parametrize(("scorer", "form"), SETTINGS)
def test_a_batch_gives_what_single_problems_give(toy, scorer, form):
    asked = problems(form)
    together = sl.evaluate(toy, asked, scorer=scorer).frame
    alone = pd.concat([sl.evaluate(toy, [problem], scorer=scorer).frame for problem in asked], ignore_index=True)
    assert len({len(problem.prompt.split()) for problem in asked}) > 2
    pd.testing.assert_frame_equal(together, alone, check_exact=False, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("scorer", "form"), SETTINGS)
def test_the_size_of_a_batch_and_the_order_of_problems_change_nothing(toy, scorer, form):
    asked = problems(form)
    frame = sl.evaluate(toy, asked, scorer=scorer).frame
    other = sl.evaluate(toy, asked[::-1], scorer=scorer, max_tokens=150).frame[::-1].reset_index(drop=True)
    pd.testing.assert_frame_equal(frame, other, check_exact=False, rtol=0, atol=1e-4)


def test_choice_reads_the_logits_behind_the_prompt(toy):
    problem = problems("choice", 1)[0]
    tokens = toy.to_tokens(problem.prompt)
    with torch.no_grad():
        logits = toy(tokens)[0, -1]
    scores = [float(logits[toy.to_tokens(letter, prepend_bos=False)[0, -1]]) for letter in problem.choices]
    outcome = sl.evaluate(toy, [problem]).frame.iloc[0]
    assert outcome["prediction"] == problem.choices[scores.index(max(scores))].strip()
    rest = max(score for i, score in enumerate(scores) if i != problem.target_index)
    assert outcome["margin"] == pytest.approx(scores[problem.target_index] - rest, abs=1e-4)
    assert outcome["nll"] == pytest.approx(-float(torch.tensor(scores).log_softmax(0)[problem.target_index]), abs=1e-4)


def judged(scorer: str, problem: Problem, *answers: Answer) -> Outcome:
    return SCORERS[scorer].judge(None, problem, answers)


def test_a_tie_for_first_place_counts_as_wrong_and_predicts_nothing():
    problem = Problem("p", "x", 0, (" A", " B", " C"))
    outcome = judged("choice", problem, Answer(((2.0, 2.0, 1.0),)))
    assert (outcome.prediction, outcome.correct, outcome.margin) == ("", False, 0.0)
    assert judged("choice", problem, Answer(((2.0, 1.0, 1.0),))).correct
    assert judged("choice", problem, Answer(((0.0, 1.0, 1.0),))).prediction == ""


def test_two_equal_continuations_tie():
    problem = Problem("p", "x", 1, (" a b", " c"))
    outcome = judged("minimal_pair", problem, Answer(((-1.0,), (-2.0,))), Answer(((-3.0,),)))
    assert (outcome.prediction, outcome.correct, outcome.margin, outcome.nll) == ("", False, 0.0, 3.0)


def test_normalisation_divides_by_the_bytes_of_the_choice():
    """Oracle: by hand; -6 over 3 bytes beats -5 over 2, and é is two bytes."""
    problem = Problem("p", "x", 0, (" ab", " é"))
    answers = Answer(((-6.0,),)), Answer(((-9.0,),))
    assert judged("continuation_norm", problem, *answers).margin == pytest.approx(-2.0 + 3.0)
    assert judged("continuation_norm", problem, *answers).nll == 6.0


@pytest.mark.parametrize(
    ("said", "number"),
    [
        ("so it is 12", 12),
        ("12 and then 7.", 7),
        ("7 #### 12 then 99", 12),
        ("####", None),
        ("3 #### none", None),
        ("$1,234.50 in all", 1234.5),
        ("it costs 5, truly", 5),
        ("minus -3", -3),
        ("#### -1,000", -1000),
        (".5", 0.5),
        ("+8", 8),
        ("none at all", None),
        ("", None),
    ],
)
def test_the_number_after_the_hashes_answers_or_else_the_last_one(said, number):
    assert extract_number(said) == number


def test_a_number_is_right_whatever_its_writing(toy):
    words = toy.tokenizer
    generated = tuple(words("12 now 7", add_special_tokens=False)["input_ids"])
    for target, correct in ((7, True), ("7", True), (7.0, True), (12, False)):
        outcome = SCORERS["numeric"].judge(toy, Problem("p", "x", target), [Answer(generated=generated), Answer(((-1.0,),))])
        assert (outcome.prediction, outcome.correct, outcome.nll) == ("7", correct, 1.0)


# Generation, steered and not


def shown_as_ids(new_tokens: int) -> Scorer:
    """The text scorer, but its prediction is the generated token ids."""

    def judge(model, problem, answers):
        return Outcome(" ".join(map(str, answers[0].generated)), True, 0.0, 0.0)

    return Scorer("ids", text(new_tokens).rows, judge, generates=True)


def greedy(model, problem: Problem, new_tokens: int, direction: sl.Direction, alpha: float, positions) -> str:
    """Token ids of a greedy loop that runs the whole text for every token, alone, with a hook."""
    tokens = model.to_tokens(problem.prompt)
    end = tokens.shape[1]

    def add(resid):
        mask = TokenPositions.of(positions).mask([end], resid.shape[1])
        return resid + alpha * direction.vector * (1 if mask is None else mask[0, :, None])

    for _ in range(new_tokens):
        with torch.no_grad(), hooks(model, [(hook_name(model, direction.layer), add)]):
            chosen = forward(model, tokens)[:, -1].argmax(-1)
        if chosen.item() == model.tokenizer.eos_token_id:
            break
        tokens = torch.cat([tokens, chosen[:, None]], 1)
    return " ".join(map(str, tokens[0, end:].tolist()))


@pytest.mark.parametrize("positions", ["all", "last", "prompt", "generated", -2])
def test_steered_generation_is_the_plain_greedy_loop_token_for_token(toy, positions):
    """Oracle: a loop without a cache and without a batch."""
    vector = torch.randn(d_model(toy), generator=torch.Generator().manual_seed(5))
    direction = sl.Direction(2 * vector / vector.norm() * d_model(toy) ** 0.5, 1)
    asked = problems("numeric", 6)
    alphas = [-1.0, 0.0, 0.5, 2.0]
    result = sl.sweep(toy, asked, direction, alphas=alphas, positions=positions, scorer=shown_as_ids(5))
    for alpha in alphas:
        made = result.frame.loc[result.frame["alpha"] == alpha, "prediction"].tolist()
        assert made == [greedy(toy, problem, 5, direction, alpha, positions) for problem in asked]
    changed = result.frame["prediction"].to_numpy().reshape(len(alphas), -1)
    assert (changed[3] != changed[1]).any()


def test_generation_ends_at_the_end_token(toy):
    asked = problems("numeric", 1)
    made = sl.evaluate(toy, asked, scorer=shown_as_ids(8)).frame["prediction"][0].split()
    end = toy.tokenizer.eos_token
    try:
        toy.tokenizer.eos_token = toy.tokenizer.convert_ids_to_tokens(int(made[-1]))
        cut = sl.evaluate(toy, asked, scorer=shown_as_ids(8)).frame["prediction"][0].split()
    finally:
        toy.tokenizer.eos_token = end
    assert cut == made[: made.index(made[-1])]


@pytest.mark.parametrize(
    ("scorer", "said", "predicted"), [("numeric", "12 Question: 5 more? 7", "12"), ("text", " blue Question: why?", "blue")]
)
def test_a_generated_answer_ends_where_the_model_begins_to_ask_the_next_question(monkeypatch, toy, scorer, said, predicted):
    """What the model generates is made up here; the text behind it is judged as it is everywhere."""
    monkeypatch.setattr(type(toy.tokenizer), "decode", lambda self, ids, **how: said)
    problem = Problem("p", problems("numeric", 1)[0].prompt, predicted)
    line = sl.evaluate(toy, [problem], scorer=scorer).frame.iloc[0]
    assert (line["prediction"], line["correct"]) == (predicted, True)


# What a scorer cannot take


def test_a_choice_of_several_tokens_is_sent_to_the_continuation_scorer(toy):
    with pytest.raises(ValueError, match=r"' Tom buys 4\.' is 4 tokens .* use scorer='continuation'"):
        sl.evaluate(toy, problems("endings", 2), scorer="choice")


def test_two_choices_that_are_one_token_cannot_be_told_apart(toy):
    with pytest.raises(ValueError, match="are the same token"):
        sl.evaluate(toy, [Problem("p", "Answer:", 0, (" zebra", " yak"))], scorer="choice")


def test_a_prompt_beyond_the_context_is_refused_before_anything_runs(toy):
    size = context_length(toy)
    for fits, words in ((True, size - 1), (False, size)):  # a beginning-of-sequence token comes in front
        problem = Problem("long", "Tom " * words, 0, (" A", " B"))
        if fits:
            assert sl.evaluate(toy, [problem]).n == 1
        else:
            with pytest.raises(ValueError, match=rf"'long': {size + 1} tokens, .* context is {size}; shorten the prompt"):
                sl.evaluate(toy, [problem])


def test_a_prompt_that_leaves_no_room_for_the_answer_is_refused(toy):
    size = context_length(toy)
    problem = Problem("long", "Tom " * (size - 5), 3)
    assert sl.evaluate(toy, [problem], scorer=numeric(4)).n == 1
    with pytest.raises(ValueError, match=f"{size - 4} tokens and 5 to generate"):
        sl.evaluate(toy, [problem], scorer=numeric(5))


def test_an_empty_split_is_refused(toy):
    for scorer in (None, "choice"):
        with pytest.raises(ValueError, match="empty split"):
            sl.evaluate(toy, [], scorer=scorer)


def test_repeated_ids_are_refused(toy):
    asked = problems("choice", 3)
    with pytest.raises(ValueError, match=r"appears 2 times; ids must be unique"):
        sl.evaluate(toy, [*asked, asked[1]])


@pytest.mark.parametrize(
    ("scorer", "problem", "message"),
    [
        ("choice", Problem("p", "x", 3), "'p' has no choices; use scorer='numeric' or 'text'"),
        ("minimal_pair", Problem("p", "Tom has", 0, (" 1", " 2", " 3")), "3 choices; a minimal pair has exactly 2"),
        ("continuation", Problem("p", "Tom has", 0, (" 1", "  ")), "the answer '  ' adds no token to the prompt"),
        ("numeric", Problem("p", "Tom has", "apples"), "target='apples' is not a number; use scorer='text'"),
        ("perplexity", Problem("p", "Tom has", 3), "scorer='perplexity'; use one of choice, continuation"),
    ],
)
def test_a_problem_that_a_scorer_cannot_take_is_named(toy, scorer, problem, message):
    with pytest.raises(ValueError, match=message):
        sl.evaluate(toy, [problem], scorer=scorer)


def test_the_form_of_the_problems_picks_the_scorer_unless_their_task_names_one():
    letters, words = Problem("p", "x", 0, (" A", " B")), Problem("p", "x", 0, (" yes", " no"))
    assert scorer_for([letters]).name == "choice"
    assert scorer_for([words]).name == "continuation"
    assert scorer_for([Problem("p", "x", 3)]).name == "numeric"
    assert scorer_for([Problem("p", "x", 0, (" A", " B"), scorer="continuation_norm")]).name == "continuation_norm"
    assert scorer_for([letters], "text").name == "text"
