"""The unit of every experiment: a problem, and a task made of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from html import escape
from types import MappingProxyType
from typing import Any

import numpy as np

from steerlab._errors import InputError
from steerlab.encoding import check_text

Tokens = tuple[int, ...]
Text = str | Tokens  # as people write it, or as the ids of a model's tokens


def written(text: Text) -> str:
    """A prompt or an answer as people read it: text as it is, token ids with spaces between them.

    Example:
        >>> written(" yes"), written((5, 7, 1))
        (' yes', '5 7 1')
    """
    return text if isinstance(text, str) else " ".join(map(str, text))


@dataclass(frozen=True)
class Problem:
    """One question to a model.

    Attributes:
        id: unique within its task; results are joined on it.
        prompt: the text before the answer; or, as a tuple, the ids of its tokens, taken as they are (for models without a tokenizer).
        target: with choices, the right one (its text or its index); without, the number or text to generate. Token ids where the prompt is.
        choices: the answers scored after the prompt, with their leading space, e.g. ``(" A", " B")``;
            None when the answer is generated. Behind a prompt of token ids each is a tuple of them, e.g. ``((3,), (4,))``.
        meta: what else is known (number of steps, template, source row); never read by a scorer.
        scorer: name of the scorer that its task is judged by; None where it belongs to no task.

    Raises:
        ValueError: fewer than two choices, repeated choices, a target that is not among them, text beside token ids, or text that is not
            Unicode.

    Example:
        >>> problem = Problem("one", "2 + 3 =", target=" 5", choices=(" 4", " 5"))
        >>> problem.target_index
        1
    """

    id: str
    prompt: Text
    target: str | int | float | Tokens
    choices: tuple[Text, ...] | None = None
    meta: Mapping[str, Any] = field(default_factory=dict, compare=False)
    scorer: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "meta", MappingProxyType(dict(self.meta)))
        self._check_texts()
        if self.choices is None:
            return
        if len(self.choices) < 2:
            raise InputError(f"problem {self.id!r}: {len(self.choices)} choice given; a choice needs at least 2")
        if len(set(self.choices)) < len(self.choices):
            raise InputError(f"problem {self.id!r}: choices {self.choices} repeat; each must differ from the others")
        self.target_index  # noqa: B018 - checks that the target is among the choices

    def _check_texts(self) -> None:
        """Make sure that prompt, choices and target are all text, or all token ids; lists of these become tuples."""
        object.__setattr__(self, "prompt", self._checked(self.prompt, "prompt"))
        if self.choices is not None:
            object.__setattr__(self, "choices", tuple(self._checked(choice, "choice") for choice in self.choices))
        if isinstance(self.target, str | Sequence):
            object.__setattr__(self, "target", self._checked(self.target, "target"))
        tokens = isinstance(self.prompt, tuple)
        if any(isinstance(choice, tuple) != tokens for choice in self.choices or ()):
            raise InputError(
                f"problem {self.id!r}: prompt {self.prompt!r} and choices {self.choices!r}; give text for all, or token ids for all, e.g. "
                "prompt=(5, 7, 1), choices=((3,), (4,))"
            )
        if isinstance(self.target, tuple) != tokens and not (tokens and self.choices is not None and isinstance(self.target, int)):
            wanted = "token ids, e.g. target=(3,)" if tokens else "text or a number"
            more = ", or the index of a choice" if tokens and self.choices is not None else ""
            raise InputError(f"problem {self.id!r}: target={self.target!r} beside the prompt {self.prompt!r}; give {wanted}{more}")

    def _checked(self, given: Any, what: str) -> Any:
        if isinstance(given, str):
            check_text(given, f"problem {self.id!r}: the {what}")
            return given
        known = isinstance(given, Sequence) and not isinstance(given, bytes)
        if not known or not all(isinstance(i, int | np.integer) and not isinstance(i, bool) and i >= 0 for i in given):
            raise InputError(f"problem {self.id!r}: {what} {given!r}; give text, or a tuple of token ids such as (5, 7, 1)")
        return tuple(int(i) for i in given)

    @property
    def answer(self) -> Text:
        """The right answer as it is written behind the prompt: the right choice, or the target.

        A target that begins with white space is taken as written; any other text or number gets a space before it.

        Example:
            >>> Problem("one", "2 + 3 =", 5).answer, Problem("two", "She is", " happy").answer
            (' 5', ' happy')
        """
        if self.choices is not None:
            return self.choices[self.target_index]
        if isinstance(self.target, tuple):
            return self.target
        text = str(self.target)
        return text if text[:1].isspace() else f" {text}"

    def __reduce__(self) -> tuple[Any, ...]:
        return Problem, (self.id, self.prompt, self.target, self.choices, dict(self.meta), self.scorer)

    def _repr_html_(self) -> str:
        asked = f"<p>{escape(self.id)}</p><pre>{escape(written(self.prompt))}</pre>"
        choices = "" if self.choices is None else f"<p>choices: {escape(', '.join(repr(choice) for choice in self.choices))}</p>"
        right = self.target if self.choices is None else self.choices[self.target_index]
        return f"{asked}{choices}<p>right: {escape(repr(right))}</p>"

    @property
    def target_index(self) -> int:
        """Index of the right choice.

        Raises:
            ValueError: no choices, or a target that is not among them.
        """
        if self.choices is None:
            raise InputError(f"problem {self.id!r} has no choices; its target {self.target!r} is generated")
        if isinstance(self.target, tuple):
            if self.target in self.choices:
                return self.choices.index(self.target)
            raise InputError(f"problem {self.id!r}: target={self.target!r} is not one of the choices {self.choices}")
        if isinstance(self.target, int):
            if 0 <= self.target < len(self.choices):
                return self.target
            raise InputError(f"problem {self.id!r}: target={self.target}; use an index from 0 to {len(self.choices) - 1}")
        wanted = str(self.target).strip()
        matches = [i for i, choice in enumerate(self.choices) if written(choice).strip() == wanted]
        if len(matches) != 1:
            raise InputError(f"problem {self.id!r}: target={self.target!r} is not one of the choices {self.choices}")
        return matches[0]


@dataclass(frozen=True)
class Task:
    """Three disjoint lists of problems and the name of the scorer that judges them.

    Attributes:
        name: what reports call it.
        train, validation, test: the splits. Directions come from train, choices of layer and alpha from
            validation, claims from test.
        scorer: name of the scorer in `steerlab.tasks.scorers` that this task is judged by; its problems carry it.
        about: where the problems come from, for provenance.

    Example:
        >>> problems = [Problem(name, f"Is {name} a letter?", target=" yes", choices=(" yes", " no")) for name in "abc"]
        >>> Task("letters", problems[:1], problems[1:2], problems[2:], scorer="choice")
        Task('letters', train=1, validation=1, test=1, scorer='choice')
    """

    name: str
    train: list[Problem]
    validation: list[Problem]
    test: list[Problem]
    scorer: str
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        seen: dict[str, str] = {}
        for split in ("train", "validation", "test"):
            stamped = [problem if problem.scorer else replace(problem, scorer=self.scorer) for problem in getattr(self, split)]
            object.__setattr__(self, split, stamped)
        for split in ("train", "validation", "test"):
            for problem in getattr(self, split):
                if problem.id in seen:
                    raise InputError(
                        f"task {self.name!r}: problem id {problem.id!r} stands in {seen[problem.id]} and in {split}; "
                        "ids must be unique and splits disjoint"
                    )
                seen[problem.id] = split

    def scored_by(self, scorer: str) -> "Task":
        """The same problems, judged by another scorer."""
        splits = {split: [replace(p, scorer=scorer) for p in getattr(self, split)] for split in ("train", "validation", "test")}
        return Task(self.name, **splits, scorer=scorer, about=self.about)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{split}={len(getattr(self, split))}" for split in ("train", "validation", "test"))
        return f"Task({self.name!r}, {sizes}, scorer={self.scorer!r})"

    def _repr_html_(self) -> str:
        return f"<p>{escape(repr(self))}</p>"


LETTERS = "ABCDEFGHIJ"


def lettered(options: Sequence[object]) -> tuple[str, tuple[str, ...]]:
    """The option lines "A. first" of a multiple-choice prompt, and the answer strings " A", " B" that follow it."""
    if len(options) > len(LETTERS):
        raise InputError(f"{len(options)} options; a lettered question has at most {len(LETTERS)}")
    lines = "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False))
    return lines, tuple(f" {letter}" for letter in LETTERS[: len(options)])


def in_both(problems: Sequence[Problem], others: Sequence[Problem]) -> list[Problem]:
    """The problems that stand among others, too: under the same id, or with the same prompt, choices and target.

    Example:
        >>> [p.id for p in in_both([Problem("a", "1 + 1 =", "2"), Problem("b", "2 + 1 =", "3")], [Problem("c", "2 + 1 =", "3")])]
        ['b']
    """
    ids, contents = {p.id for p in others}, {(p.prompt, p.choices, str(p.target)) for p in others}
    return [p for p in problems if p.id in ids or (p.prompt, p.choices, str(p.target)) in contents]
