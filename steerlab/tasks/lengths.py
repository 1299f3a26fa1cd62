"""Problems that are too long for a model's context: named, left out, or cut from the left."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, overload

from steerlab._checks import InputError, one_of
from steerlab.models.backends import Model
from steerlab.models.model import context_length
from steerlab.tasks.problems import Problem, Task, as_problems
from steerlab.tasks.scorers import Scorer, TooLongError, scorer_for
from steerlab.tasks.sources import shown

TOO_LONG = ("error", "drop", "truncate")
SPLITS = ("train", "validation", "test")


class FittedProblems(list[Problem]):
    """A list of problems that fit into a model's context.

    Attributes:
        about: what was left out or cut: see `fit_to_context`.
    """

    def __init__(self, problems: Sequence[Problem], about: Mapping[str, Any]) -> None:
        super().__init__(problems)
        self.about = dict(about)


@overload
def fit_to_context(model: Model, problems: Task, *, too_long: str = "error", scorer: str | Scorer | None = None) -> Task: ...
@overload
def fit_to_context(
    model: Model, problems: Sequence[Problem], *, too_long: str = "error", scorer: str | Scorer | None = None
) -> FittedProblems: ...
def fit_to_context(
    model: Model, problems: Task | Sequence[Problem], *, too_long: str = "error", scorer: str | Scorer | None = None
) -> Task | FittedProblems:
    """The problems that fit into the model's context together with their answers.

    Args:
        model: a TransformerLens model.
        problems: a task, all of whose splits are looked at, or a list of problems.
        too_long: "error" says how many do not fit; "drop" leaves them out; "truncate" cuts their prompts from the left, by whole tokens and no more than is
            needed, keeps a beginning-of-sequence token in front, and says in ``meta["truncated"]`` how many tokens were cut, of how many, and which text.
            A problem whose answers alone do not fit is left out then, too.
        scorer: default the task's own; it decides how much room the answer takes.

    Returns:
        A task, or a list with the attribute `about`. ``about["too_long"]`` has the rule, the context, and for each split how many of how many problems were
        dropped and cut; it is missing where everything fits.

    Raises:
        ValueError: problems that do not fit, and too_long="error"; nothing left; an unknown rule; or problems that the scorer cannot take.

    Example:
        >>> import steerlab as sl
        >>> model = sl.load_model("tiny-arithmetic")
        >>> problems = [sl.Problem("short", "Tom has 3", " A", (" A", " B")), sl.Problem("long", "Tom has 3 " * 99, " A", (" A", " B"))]
        >>> [p.id for p in sl.fit_to_context(model, problems, too_long="drop")]
        ['short']
        >>> cut = sl.fit_to_context(model, problems, too_long="truncate")
        >>> cut.about["too_long"]["splits"], cut[1].meta["truncated"]["tokens_cut"]
        ({'problems': {'n': 2, 'dropped': 0, 'cut': 1}}, 170)
    """
    one_of(too_long, "too_long", TOO_LONG)
    if isinstance(problems, Task):
        pools = {split: getattr(problems, split) for split in SPLITS}
    else:
        pools = {"problems": as_problems(problems)}
    every = [problem for pool in pools.values() for problem in pool]
    if not every:
        raise InputError("no problems given; there is nothing to fit")
    chosen = scorer_for(every, scorer)
    context = context_length(model)
    kept: dict[str, list[Problem]] = {}
    counts: dict[str, dict[str, int]] = {}
    refused: list[tuple[Problem, TooLongError]] = []
    for split, pool in pools.items():
        kept[split], cut = [], 0
        for problem in pool:
            error = _refusal(model, problem, chosen)
            if error is None:
                kept[split].append(problem)
                continue
            refused.append((problem, error))
            shorter = _shortened(model, problem, chosen, error.excess) if too_long == "truncate" else None
            if shorter is not None:
                cut += 1
                kept[split].append(shorter)
        counts[split] = {"n": len(pool), "dropped": len(pool) - len(kept[split]), "cut": cut}
    if refused and too_long == "error":
        raise InputError(
            f"{len(refused)} of {len(every)} problems do not fit into this model's context of {context} tokens, {refused[0][0].id!r} first ({refused[0][1].length} "
            "tokens with its answer); too_long='drop' leaves such problems out, too_long='truncate' cuts their prompts from the left (in scripts: --too-long)"
        )
    if not any(kept.values()):
        raise InputError(f"none of {len(every)} problems fits into this model's context of {context} tokens; give shorter ones")
    about = {"too_long": {"rule": too_long, "context": context, "splits": counts}} if refused else {}
    if not isinstance(problems, Task):
        return FittedProblems(kept["problems"], about)
    return Task(problems.name, **kept, scorer=problems.scorer, about={**problems.about, **about}) if refused else problems


def _refusal(model: Model, problem: Problem, scorer: Scorer) -> TooLongError | None:
    try:
        scorer.rows(model, problem)
    except TooLongError as error:
        return error
    return None


def _shortened(model: Model, problem: Problem, scorer: Scorer, excess: int) -> Problem | None:
    """The problem with so many tokens less at its prompt's left, and as many more as its answers need; None where nothing of the prompt would be left."""
    cut, (ids, kept) = 0, _cuts(model, problem)
    while True:
        cut += excess
        if cut >= len(ids):
            return None
        whole, gone, prompt = kept(cut)
        shorter = replace(
            problem, prompt=prompt, meta={**problem.meta, "truncated": {"tokens_cut": whole, "tokens": len(ids), "text": shown(gone, 200)}}
        )
        error = _refusal(model, shorter, scorer)
        if error is None:
            return shorter
        excess = error.excess


def _cuts(model: Model, problem: Problem) -> tuple[Sequence[int], Any]:
    """The prompt's tokens without a beginning-of-sequence token, and a function: from how many go to how many went, which text, and the prompt that is left."""
    prompt: Any = problem.prompt
    start = getattr(model.tokenizer, "bos_token_id", None)
    if not isinstance(prompt, str):
        first = 1 if len(prompt) and prompt[0] == start else 0
        ids = tuple(prompt[first:])
        return ids, lambda n: (n, ids[:n], tuple(prompt[:first]) + ids[n:])
    tokenizer = model.tokenizer
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(
            f"problem {problem.id!r} is too long, and this model's tokenizer does not say where in the text its tokens begin; use too_long='drop'"
        )
    found = tokenizer(prompt, add_special_tokens=False, return_offsets_mapping=True)
    every, spans = found["input_ids"], found["offset_mapping"]
    first = 1 if every and every[0] == start else 0
    head = prompt[: spans[0][1]] if first else ""
    ids, spans = every[first:], spans[first:]

    def kept(n: int) -> tuple[int, str, str]:
        while n < len(ids) - 1 and spans[n][0] < spans[n - 1][1]:  # several tokens of one letter stay together
            n += 1
        begin = spans[n][0]
        # A tokenizer may put a space of its own in front of a text: then the space that the token has goes, so that the tokens stay the same.
        for text in (prompt[begin:], prompt[begin:].removeprefix(" ")):
            if tokenizer(head + text, add_special_tokens=False)["input_ids"][first:] == ids[n:]:
                return n, prompt[len(head) : begin], head + text
        return n, prompt[len(head) : begin], head + prompt[begin:]

    return ids, kept
