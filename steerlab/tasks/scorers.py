"""How an answer is read from a model and judged.

A scorer turns a problem into rows (token sequences, with the logits or log-probabilities to read from them) and the numbers read
into an outcome. It never runs the model, so steering, caching and batching are the same for all scorers.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from steerlab._checks import InputError
from steerlab.models.backends import Model
from steerlab.models.batches import Answer, Read, TokenRow
from steerlab.models.encoding import token_ids, token_names
from steerlab.models.model import context_length, n_outputs
from steerlab.tasks.numbers import decimal_text, exact_number, find_number, same_number
from steerlab.tasks.problems import Problem, Text, as_problems, written
from steerlab.tasks.templates import before_next_question


@dataclass(frozen=True)
class Outcome:
    """A judged problem; `margin` is positive when the right answer leads, `nll` is the target's negative log-probability."""

    prediction: str
    correct: bool
    margin: float
    nll: float


@dataclass(frozen=True)
class Scorer:
    """A pair of plain functions: problem -> rows, and (problem, answers) -> outcome.

    Attributes:
        name: for reports.
        rows: the work that one problem needs.
        judge: the verdict on what came back, in the order of the rows.
        generates: whether answers are generated (and so not resumed from a layer).
    """

    name: str
    rows: Callable[[Model, Problem], list[TokenRow]]
    judge: Callable[[Model, Problem, Sequence[Answer]], Outcome]
    generates: bool = False


def encode_prompt(model: Model, problem: Problem) -> list[int]:
    """Token ids of the prompt.

    Raises:
        ValueError: an empty prompt on a model without a beginning-of-sequence token, token ids that the model lacks, or a prompt beyond the
            context.
    """
    ids = _encoded(model, problem, problem.prompt)
    if not ids:
        raise InputError(f"problem {problem.id!r}: the prompt is empty and the model prepends no token; there is nothing to read from")
    return _fits(model, problem, ids)


class TooLongError(InputError):
    """A problem that does not fit into the model's context: how many tokens it has, those to generate included, and how many too many."""

    def __init__(self, message: str, length: int, excess: int) -> None:
        super().__init__(message)
        self.length, self.excess = length, excess


def _encoded(model: Model, problem: Problem, text: Text) -> list[int]:
    if isinstance(text, str) and model.tokenizer is None:
        raise InputError(
            f"problem {problem.id!r} is text, and this model has no tokenizer; give token ids, e.g. Problem(prompt=(5, 7, 1), choices=((3,), (4,))), or "
            "add tokenizer.json to the model's directory"
        )
    ids = token_ids(model, text) if isinstance(text, str) else list(text)
    size = int(model.cfg.d_vocab)
    strange = [token for token in ids if not 0 <= token < size]
    if strange:
        what = "its tokenizer gives" if isinstance(text, str) else "the problem has"
        raise InputError(f"problem {problem.id!r}: {what} the token {strange[0]}; this model has tokens 0 to {size - 1}")
    return ids


def _fits(model: Model, problem: Problem, ids: list[int], more: int = 0) -> list[int]:
    length, context = len(ids) + more, context_length(model)
    if length > context:
        extra = f" and {more} to generate" if more else ""
        message = (
            f"problem {problem.id!r}: {len(ids)} tokens{extra}, but this model's context is {context}; shorten the prompt, or leave out or cut what is too long "
            "with steerlab.fit_to_context(..., too_long='drop' or 'truncate') (in scripts: --too-long)"
        )
        raise TooLongError(message, length, length - context)
    return ids


def encode_continuation(model: Model, problem: Problem, text: Text) -> tuple[list[int], int]:
    """Token ids of prompt and continuation together, and where the continuation begins.

    The two are tokenised as one text, as they would be read; the continuation begins at the first token that the
    prompt alone does not have. (Several choices are scored from one place, see `encode_choices`.)

    Raises:
        ValueError: a continuation that adds no token, has none before it, exceeds the context or has tokens that the model cannot say.
    """
    return _continued(model, problem, encode_prompt(model, problem), text)


def _continued(model: Model, problem: Problem, prompt: list[int], text: Text) -> tuple[list[int], int]:
    whole = _encoded(model, problem, problem.prompt + text)  # type: ignore[operator]  # a problem checks that both are of one kind
    _fits(model, problem, whole[:-1])  # the last token is read, never fed
    start = next((i for i, (a, b) in enumerate(zip(prompt, whole, strict=False)) if a != b), min(len(prompt), len(whole)))
    if start == len(whole):
        raise InputError(f"problem {problem.id!r}: the answer {text!r} adds no token to the prompt")
    if start == 0:
        raise InputError(f"problem {problem.id!r}: no token stands before the answer {text!r}; give a prompt or prepend a token")
    sayable = n_outputs(model)
    silent = [token for token in whole[start:] if token >= sayable]
    if silent:
        raise InputError(
            f"problem {problem.id!r}: the answer {text!r} has the token {token_names(model, silent[:1])}; this model's output has tokens 0 to {sayable - 1}"
        )
    return whole, start


def encode_choices(model: Model, problem: Problem) -> tuple[list[list[int]], int]:
    """Token ids of the prompt with each choice, and the one place from which all of them are scored.

    A choice may merge with the end of the prompt ("(" and "A)" into "(A" and ")"). All choices are then scored from the earliest place at which
    any of them parts from the prompt alone: what is compared are probabilities of different endings of the same tokens. That place is also where the
    prompt ends for steering: "last" is the token before it, the last one that all choices share with the prompt.

    Raises:
        ValueError: no choices, two that become the same tokens, or what `encode_continuation` refuses.
    """
    choices, prompt = _choices(problem), encode_prompt(model, problem)
    found = [_continued(model, problem, prompt, choice) for choice in choices]
    start = min(begin for _, begin in found)
    seen: dict[tuple[int, ...], Text] = {}
    for (whole, _), choice in zip(found, choices, strict=True):
        twin = seen.setdefault(tuple(whole), choice)
        if twin != choice:
            raise InputError(
                f"problem {problem.id!r}: the choices {twin!r} and {choice!r} are the same tokens behind the prompt for this model, "
                f"{token_names(model, whole[start:])}, so that no model can tell them apart; does a space belong before them?"
            )
    return [whole for whole, _ in found], start


def encode_answer(model: Model, problem: Problem) -> tuple[list[int], int]:
    """Token ids of the prompt with its right answer, and where scorers begin to read the answer.

    Raises:
        ValueError: what `encode_continuation` or `encode_choices` refuses.
    """
    if problem.choices is None:
        return encode_continuation(model, problem, problem.answer)
    whole, start = encode_choices(model, problem)
    return whole[problem.target_index], start


# --- multiple choice by the answer letter's logit (the sources' way) -------------------------------------------------


def _choice_rows(model: Model, problem: Problem) -> list[TokenRow]:
    prompt = encode_prompt(model, problem)
    wholes, start = encode_choices(model, problem)
    for choice, whole in zip(_choices(problem), wholes, strict=True):
        if whole[: len(prompt)] != prompt:
            raise InputError(
                f"problem {problem.id!r}: the choice {choice!r} merges with the end of the prompt into {token_names(model, whole[start:])} where the prompt "
                f"alone has {token_names(model, prompt[start:])}, and this scorer reads one logit behind the prompt; begin choices with a space, or use "
                "scorer='continuation', which scores all choices from one common start"
            )
        if len(whole) != len(prompt) + 1:
            raise InputError(
                f"problem {problem.id!r}: the choice {choice!r} is {len(whole) - len(prompt)} tokens for this model, and this scorer "
                "reads one logit per choice; use scorer='continuation'"
            )
    tokens = [whole[-1] for whole in wholes]
    return [TokenRow(tuple(prompt), len(prompt), (Read(len(prompt) - 1, tuple(tokens), log_prob=False),))]


def _choices(problem: Problem) -> tuple[Text, ...]:
    if problem.choices is None:
        raise InputError(f"problem {problem.id!r} has no choices; use scorer='numeric' or 'text'")
    return problem.choices


def _judge_choice(model: Model, problem: Problem, answers: Sequence[Answer]) -> Outcome:
    return _best(problem, list(answers[0].reads[0]))


def _best(problem: Problem, scores: Sequence[float], log_likelihood: float | None = None) -> Outcome:
    """The highest score wins; a tie for first place predicts nothing and counts as wrong."""
    target, choices = problem.target_index, _choices(problem)
    if any(math.isnan(score) for score in scores):
        return Outcome("", False, math.nan, math.nan)
    top = max(scores)
    winners = [choice for choice, score in zip(choices, scores, strict=True) if score == top]
    prediction = written(winners[0]).strip() if len(winners) == 1 else ""
    margin = scores[target] - max(score for i, score in enumerate(scores) if i != target)
    nll = top + math.log(sum(math.exp(score - top) for score in scores)) - scores[target]
    return Outcome(prediction, margin > 0, margin, nll if log_likelihood is None else -log_likelihood)


# --- continuation log-likelihood (as lm-evaluation-harness) -----------------------------------------------------------


def _continuation_rows(model: Model, problem: Problem) -> list[TokenRow]:
    wholes, start = encode_choices(model, problem)
    return [likelihood_row(whole, start) for whole in wholes]


def likelihood_row(whole: list[int], start: int) -> TokenRow:
    """The row that reads the log-probability of every token from `start` on, each behind the ones before it."""
    reads = tuple(Read(i - 1, (whole[i],), log_prob=True) for i in range(start, len(whole)))
    return TokenRow(tuple(whole[:-1]), start, reads)


def _likelihood(answer: Answer) -> float:
    return math.fsum(read[0] for read in answer.reads)


def _judge_continuation(normalise: bool) -> Callable[[Model, Problem, Sequence[Answer]], Outcome]:
    def judge(model: Model, problem: Problem, answers: Sequence[Answer]) -> Outcome:
        sums = [_likelihood(answer) for answer in answers]
        scale = [_size(choice) if normalise else 1 for choice in _choices(problem)]
        return _best(problem, [s / n for s, n in zip(sums, scale, strict=True)], sums[problem.target_index])

    return judge


def _size(choice: Text) -> int:
    """Bytes of a text, as lm-evaluation-harness counts them; of token ids their number."""
    return max(1, len(choice.encode() if isinstance(choice, str) else choice))


def _pair_rows(model: Model, problem: Problem) -> list[TokenRow]:
    if len(_choices(problem)) != 2:
        raise InputError(f"problem {problem.id!r}: {len(_choices(problem))} choices; a minimal pair has exactly 2")
    return _continuation_rows(model, problem)


# --- generated answers ------------------------------------------------------------------------------------------------


def _generation_rows(new_tokens: int, *, number: bool) -> Callable[[Model, Problem], list[TokenRow]]:
    def rows(model: Model, problem: Problem) -> list[TokenRow]:
        if number and isinstance(problem.prompt, tuple):
            raise InputError(
                f"problem {problem.id!r} is token ids, in which no number can be read; use scorer='text', which compares tokens"
            )
        prompt = _fits(model, problem, encode_prompt(model, problem), new_tokens)
        likelihood = likelihood_row(*encode_continuation(model, problem, problem.answer))
        return [TokenRow(tuple(prompt), len(prompt), new_tokens=new_tokens), likelihood]

    return rows


def _judge_generated(matches: Callable[[Problem, str], tuple[str, bool]]) -> Callable[[Model, Problem, Sequence[Answer]], Outcome]:
    def judge(model: Model, problem: Problem, answers: Sequence[Answer]) -> Outcome:
        generated = answers[0].generated
        if isinstance(problem.answer, tuple):
            prediction, correct = written(generated), generated == problem.answer
        else:
            text = model.tokenizer.decode(generated, skip_special_tokens=True)
            prediction, correct = matches(problem, before_next_question(text))
        log_p = _likelihood(answers[1])
        odds = log_p - math.log(-math.expm1(min(log_p, -1e-12)))
        return Outcome(prediction, correct, odds, -log_p)

    return judge


def _same_number(problem: Problem, text: str) -> tuple[str, bool]:
    if exact_number(problem.target) is None:
        raise InputError(f"problem {problem.id!r}: target={problem.target!r} is not a number; use scorer='text'")
    number = find_number(text)
    return ("", False) if number is None else (decimal_text(number), same_number(problem.target, number))


def _same_text(problem: Problem, text: str) -> tuple[str, bool]:
    return text.strip(), text.strip() == written(problem.answer).strip()


def numeric(new_tokens: int = 32) -> Scorer:
    """A number by greedy generation of up to `new_tokens` tokens; `steerlab.tasks.numbers` has the rule.

    `margin` is the log-odds of the target written right behind the prompt, `nll` its negative log-probability there.
    """
    return Scorer("numeric", _generation_rows(new_tokens, number=True), _judge_generated(_same_number), generates=True)


def text(new_tokens: int = 32) -> Scorer:
    """A generated text that must equal the target, white space at its ends aside; of token ids, the same ids up to the end token."""
    return Scorer("text", _generation_rows(new_tokens, number=False), _judge_generated(_same_text), generates=True)


SCORERS: dict[str, Scorer] = {
    "choice": Scorer("choice", _choice_rows, _judge_choice),
    "continuation": Scorer("continuation", _continuation_rows, _judge_continuation(normalise=False)),
    "continuation_norm": Scorer("continuation_norm", _continuation_rows, _judge_continuation(normalise=True)),
    "minimal_pair": Scorer("minimal_pair", _pair_rows, _judge_continuation(normalise=False)),
    "numeric": numeric(),
    "text": text(),
}


def scorer_for(problems: Sequence[Problem], scorer: "str | Scorer | None" = None) -> Scorer:
    """The scorer asked for, or the one that the problems' form implies.

    Without a name it is the one that the problems' task names, and for problems of no task: answer letters by their
    logits, longer choices by their log-likelihood, and generated numbers (of token ids, generated tokens) where there are no choices.

    Raises:
        ValueError: an unknown name, or no problems.
    """
    if isinstance(scorer, Scorer):
        return scorer
    as_problems(problems)
    if not problems:
        raise InputError("no problems given; an empty split cannot be scored")
    name = scorer if scorer is not None else problems[0].scorer
    if name is not None:
        if name not in SCORERS:
            raise InputError(f"scorer={name!r}; use one of {', '.join(SCORERS)} or a steerlab Scorer")
        return SCORERS[name]
    choices = problems[0].choices
    if choices is None:
        return SCORERS["text" if isinstance(problems[0].prompt, tuple) else "numeric"]
    letters = all(isinstance(choice, str) and len(choice.strip()) == 1 and choice.strip().isalpha() for choice in choices)
    return SCORERS["choice" if letters else "continuation"]


Target = Callable[[Model, Problem], TokenRow]


def whole_answer(model: Model, problem: Problem) -> TokenRow:
    """Every token of the right answer, each behind the ones before it, from where its scorer begins to read it.

    Raises:
        ValueError: a prompt or an answer that the model cannot take.
    """
    return likelihood_row(*encode_answer(model, problem))


def first_token(model: Model, problem: Problem) -> TokenRow:
    """The first token of the right answer alone, however many it has (the sources' ``target_ids[0]``).

    Raises:
        ValueError: a prompt or an answer that the model cannot take.
    """
    whole, start = encode_answer(model, problem)
    return TokenRow(tuple(whole[:start]), start, (Read(start - 1, (whole[start],), log_prob=True),))


TARGETS: dict[str, Target] = {"answer": whole_answer, "first": first_token}


def target_named(loss: str | Target) -> Target:
    """Look a target up; a function of (model, problem) is taken as it is.

    Raises:
        ValueError: an unknown name.
    """
    if callable(loss):
        return loss
    if loss not in TARGETS:
        raise InputError(
            f"loss={loss!r}; use 'answer' (every token of the right answer), 'first' (its first token alone) "
            "or a function of (model, problem) that gives a Row"
        )
    return TARGETS[loss]
