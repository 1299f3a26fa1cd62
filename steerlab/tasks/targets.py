"""What a learned vector is trained to say: the row of a problem whose reads are the log-probabilities of its right answer."""

from collections.abc import Callable

from steerlab._checks import InputError
from steerlab.models.backends import Model
from steerlab.models.batches import Read, Row
from steerlab.tasks.problem import Problem, Text
from steerlab.tasks.scorers import encode_answer, likelihood_row

Target = Callable[[Model, Problem], Row]


def answer_text(problem: Problem) -> Text:
    """The right answer as it is written behind the prompt, see `Problem.answer`: what scorers read is what is trained."""
    return problem.answer


def whole_answer(model: Model, problem: Problem) -> Row:
    """Every token of the right answer, each behind the ones before it, from where its scorer begins to read it.

    Raises:
        ValueError: a prompt or an answer that the model cannot take.
    """
    return likelihood_row(*encode_answer(model, problem))


def first_token(model: Model, problem: Problem) -> Row:
    """The first token of the right answer alone, however many it has (the sources' ``target_ids[0]``).

    Raises:
        ValueError: a prompt or an answer that the model cannot take.
    """
    whole, start = encode_answer(model, problem)
    return Row(tuple(whole[:start]), start, (Read(start - 1, (whole[start],), log_prob=True),))


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
