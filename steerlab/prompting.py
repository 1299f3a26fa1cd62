"""Asking otherwise instead of steering: prompts that ask to think step by step, and what stands in where a model cannot read that."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from steerlab.directions.function_vectors import reasoning_pairs
from steerlab.models.backends import Model
from steerlab.models.encoding import token_ids
from steerlab.models.model import context_length, readable
from steerlab.tasks.problems import Problem, Text, written

STEP_BY_STEP = "Let's think step by step."
PAIRS = 64  # prompts with and without a solved example, at most


@dataclass(frozen=True)
class Wording:
    """A way to ask a problem.

    Attributes:
        name: for tables.
        before: text in front of the prompt, or, of prompts that are token ids, tokens.
        cue: text in front of the prompt's last line.
    """

    name: str
    before: Text = ""
    cue: str = ""

    def asked(self, problem: Problem) -> Problem:
        """The problem asked so; everything else about it stays.

        Example:
            >>> Wording("appended", cue="Think.\\n").asked(Problem("one", "2 + 2?\\nAnswer:", " 4")).prompt
            '2 + 2?\\nThink.\\nAnswer:'
        """
        if isinstance(problem.prompt, tuple):
            return replace(problem, prompt=(*self.before, *problem.prompt))
        head, newline, last = problem.prompt.rpartition("\n")
        return replace(problem, prompt=f"{self.before}{head}{newline}{self.cue}{last}")


def solved(problem: Problem) -> Text:
    """A problem with its right answer behind it, as it is scored and trained.

    Example:
        >>> solved(Problem("one", "2 + 2 =", target=" 4", choices=(" 3", " 4")))
        '2 + 2 = 4'
    """
    return problem.prompt + problem.answer  # type: ignore[operator]  # a problem checks that both are text, or both tokens


def _in_front(example: Problem) -> Text:
    """A solved problem, and the line break that parts it from the next; tokens have none that every model knows."""
    text = solved(example)
    return f"{text}\n" if isinstance(text, str) else text


def wordings(model: Model, train: Sequence[Problem], asked: Sequence[Problem]) -> tuple[list[Wording], str]:
    """Prompt baselines: think step by step, in front of the prompt and in front of its answer cue; else a solved example in front.

    A prompt whose last line ends with a colon has an answer cue ("Answer:"); any other goes on in its answer, and words between the two would
    tear them apart. A model that cannot read the words gets one of the two shortest train problems, solved, in front.

    Args:
        model: a TransformerLens model.
        train: where solved examples come from.
        asked: the problems that will be asked, which must fit into the context.

    Returns:
        The wordings, none if none fits, and what they are or why there are none.

    Example:
        >>> import steerlab as sl
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic", n_train=20, n_validation=4, n_test=4)
        >>> found, about = wordings(model, task.train, task.test)
        >>> [wording.name for wording in found]
        ['solved example 1', 'solved example 2']
    """
    if readable(model, [STEP_BY_STEP]):
        found = [Wording("prepended", before=f"{STEP_BY_STEP}\n")]
        if all(written(problem.prompt).rstrip().endswith(":") for problem in asked):
            found.append(Wording("appended", cue=f"{STEP_BY_STEP}\n"))
        about = f'"{STEP_BY_STEP}" in the prompt: {" or ".join(wording.name for wording in found)}'
    else:
        shortest = sorted(train, key=lambda p: (len(p.prompt), p.id))[:2]
        found = [Wording(f"solved example {i + 1}", before=_in_front(problem)) for i, problem in enumerate(shortest)]
        about = "one solved train problem in front of the prompt, because this model cannot read a request to think step by step"
    room = context_length(model)
    kept = [wording for wording in found if all(max(_lengths(model, wording.asked(problem))) <= room for problem in asked)]
    return kept, about if kept else f"{about}: left out, because such prompts exceed this model's context of {room} tokens"


def _lengths(model: Model, problem: Problem) -> list[int]:
    ends: Sequence[Text] = problem.choices or (problem.prompt[:0],)
    wholes: list[Text] = [problem.prompt + end for end in ends]  # type: ignore[operator]  # both text, or both tokens
    return [_length(model, whole) for whole in wholes]


def _length(model: Model, text: Text) -> int:
    return len(text if isinstance(text, tuple) else token_ids(model, text))


def contrast_pairs(model: Model, train: Sequence[Problem]) -> tuple[Sequence[tuple[Text, Text]], str]:
    """Pairs of prompts for a function vector: reasoning against direct, or, where a model cannot read them, with and without a solved example.

    Args:
        model: a TransformerLens model.
        train: where examples, and prompts to put them before, come from.

    Returns:
        The pairs, none if none fits into the context, and what they are.

    Example:
        >>> import steerlab as sl
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic", n_train=20, n_validation=4, n_test=4)
        >>> pairs, about = contrast_pairs(model, task.train)
        >>> len(pairs), pairs[0][0].endswith(pairs[0][1])
        (19, True)
    """
    pairs = reasoning_pairs()
    if readable(model, [with_it for with_it, _ in pairs]):
        return pairs, f"{len(pairs)} questions, asked to reason and asked directly"
    example = min(train, key=lambda p: (len(p.prompt), p.id))
    others = [problem for problem in train if problem is not example and written(problem.prompt).strip()]
    found = [(Wording("", before=_in_front(example)).asked(problem).prompt, problem.prompt) for problem in others]
    room = context_length(model)
    kept = [pair for pair in found[: 4 * PAIRS] if _length(model, pair[0]) <= room][:PAIRS]
    about = "train prompts with and without a solved one in front, because this model cannot read questions in words"
    return kept, f"{len(kept)} {about}"
