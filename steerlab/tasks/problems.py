"""The `Problem` and `Task` types, and what is made of several tasks: overlap, samples, mixtures, shuffled targets."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from html import escape
from numbers import Integral, Real
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from steerlab._checks import InputError, InputTypeError, check_rng, is_whole
from steerlab._html import Result
from steerlab.models.encoding import check_text
from steerlab.tasks.numbers import as_printed, parse_number

if TYPE_CHECKING:
    from pandas import DataFrame
else:
    DataFrame = Any  # a script's --help needs the names of tasks, and no pandas

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
    """One question to a model, with its right answer.

    Attributes:
        id: unique within its task; results are joined on it.
        prompt: the text before the answer; or, as a tuple, the ids of its tokens, taken as they are (for models without a tokenizer).
        target: without choices, the number or text to generate. With choices, the right one: a text is the text of a choice (white space at its ends
            aside), a whole number is the index of a choice, counted from 0. A number that is no index may also be a choice's text. Where a number is both,
            of different choices, as in ``target=2, choices=("1", "2", "3")``, it is refused; the text of the right choice, ``"2"`` or ``"3"``, is always clear.
            NumPy's numbers become Python's. Token ids where the prompt is.
        choices: the answers scored after the prompt, with their leading space, e.g. ``(" A", " B")``;
            None when the answer is generated. Behind a prompt of token ids each is a tuple of them, e.g. ``((3,), (4,))``.
        meta: what else is known (number of steps, template, source row); never read by a scorer.
        scorer: name of the scorer that its task is judged by; None where it belongs to no task.
        group: what it shares with other problems (a noun pair, a template, a source row), so that their outcomes are not independent; None for a problem
            that stands alone. Splits keep groups whole; see `steerlab.tasks.groups`.

    Raises:
        TypeError: a target that is neither text nor a number, or a group that is no text.
        ValueError: fewer than two choices, repeated choices, a target that is not among them or could be two of them, a target that is not finite, text
            beside token ids, half of a surrogate pair in a text, or an empty group.

    Example:
        >>> problem = Problem("one", "2 + 3 =", target=" 5", choices=(" 4", " 5"))
        >>> problem.target_index
        1
    """

    id: str
    prompt: Text
    target: str | int | float | np.number[Any] | Tokens
    choices: tuple[Text, ...] | None = None
    meta: Mapping[str, Any] = field(default_factory=dict, compare=False)
    scorer: str | None = None
    group: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "meta", MappingProxyType(dict(self.meta)))
        if not isinstance(self.target, str | Sequence):
            object.__setattr__(self, "target", _plain_target(self))
        check_text(str(self.id), "a problem's id")
        if self.group is not None:
            if not isinstance(self.group, str):
                raise InputTypeError(
                    f"problem {self.id!r}: group={self.group!r} is {_a(self.group)}; give text, or None for a problem that stands alone"
                )
            if not self.group:
                raise InputError(f"problem {self.id!r}: group=''; give a name, or None for a problem that stands alone")
            check_text(self.group, f"problem {self.id!r}: the group")
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
        if not known or not all(is_whole(i, 0) for i in given):
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
        return Problem, (self.id, self.prompt, self.target, self.choices, dict(self.meta), self.scorer, self.group)

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
        by_text, by_index = readings(self.target, self.choices)
        if by_text is not None and by_index is not None and by_text != by_index:
            raise InputError(
                f"problem {self.id!r}: target={self.target} is the choice {self.choices[by_text]!r} by its text and the choice {self.choices[by_index]!r} by "
                f"its index; give the right one's text, target={str(self.choices[by_text])!r} or target={str(self.choices[by_index])!r} (in a file: the column "
                "target_text or target_index instead of target)"
            )
        found = by_text if by_index is None else by_index
        if found is not None:
            return found
        if isinstance(self.target, int):
            raise InputError(f"problem {self.id!r}: target={self.target}; use an index from 0 to {len(self.choices) - 1}")
        raise InputError(f"problem {self.id!r}: target={self.target!r} is not one of the choices {self.choices}")


def _plain_target(problem: Problem) -> Any:
    """The target, with NumPy's numbers as Python's."""
    target: Any = problem.target
    if isinstance(target, bool | np.bool_) or not isinstance(target, Integral | Real | Decimal):
        raise InputTypeError(f"problem {problem.id!r}: target={target!r} is {_a(target)}; give text or a number")
    if isinstance(target, Integral):
        return int(target)
    if not np.isfinite(float(target)):
        raise InputError(f"problem {problem.id!r}: target={target}; give text or a finite number")
    return parse_number(target) if isinstance(target, Decimal) else as_printed(target)


def whole_text(value: object) -> bool:
    """Whether a text can be written as UTF-8; half of a surrogate pair cannot. What is no text is whole."""
    try:
        return not isinstance(value, str) or value.encode() is not None
    except UnicodeEncodeError:
        return False


def readings(target: object, choices: Sequence[Any]) -> tuple[int | None, int | None]:
    """Which choice a target is by its text, and which by its index; None where it is none that way.

    A text is no index. A number is a choice's text if it prints so.

    Example:
        >>> readings("2", ("1", "2", "3")), readings(2, ("1", "2", "3")), readings(1.0, (" A", " B"))
        ((1, None), (1, 2), (None, 1))
    """
    if target in choices:
        return list(choices).index(target), None
    number = None if isinstance(target, str) else parse_number(target)
    wanted = {target.strip()} if isinstance(target, str) else {str(target), str(number)}
    same = [i for i, choice in enumerate(choices) if isinstance(choice, str) and choice.strip() in wanted]
    index = number if isinstance(number, int) and 0 <= number < len(choices) else None
    return (same[0] if len(same) == 1 else None), index


def naming(choices: Sequence[Any], index: int) -> Any:
    """A target that means the choice at an index: the index or, where that could be taken for the text of another choice, the choice itself.

    Example:
        >>> naming((" A", " B"), 1), naming(("1", "2", "3"), 2)
        (1, '3')
    """
    by_text, _ = readings(index, choices)
    return index if by_text in (None, index) else choices[index]


def content(problem: Problem) -> tuple[Any, ...]:
    """What makes two problems the same, whatever their ids and however the target is written: prompt, choices and the right answer.

    Example:
        >>> content(Problem("a", "1 + 1 =", "2")) == content(Problem("b", "1 + 1 =", 2.0))
        True
    """
    if problem.choices is not None:
        return problem.prompt, problem.choices, problem.target_index
    number = None if isinstance(problem.target, str) else parse_number(problem.target)
    return problem.prompt, None, str(problem.target if number is None else number)


@dataclass(frozen=True)
class Task(Result):
    """A task: train, validation and test problems, and the scorer that judges them.

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
        return f"Task({self.name!r}, {sizes}, scorer={self.scorer!r}{''.join(f'; {said}' for said in self.left_out())})"

    def left_out(self) -> list[str]:
        """What was left out and why, as far as `about` says: rows that no problem comes from.

        Example:
            >>> Task("pairs", [], [], [], "choice", about={"dropped": {"duplicate": 2, "no label": 0}}).left_out()
            ['left out: 2 duplicate']
        """
        return left_out(self.about)

    @property
    def frame(self) -> DataFrame:
        """One line a problem: problem_id, split, prompt, target, choices, group."""
        splits = [(split, p) for split in ("train", "validation", "test") for p in getattr(self, split)]
        lines = [(p.id, split, p.prompt, p.target, p.choices, p.group) for split, p in splits]
        import pandas as pd

        return pd.DataFrame(lines, columns=["problem_id", "split", "prompt", "target", "choices", "group"])

    def summary(self) -> DataFrame:
        """One line a split: split, n."""
        import pandas as pd

        return pd.DataFrame([(split, len(getattr(self, split))) for split in ("train", "validation", "test")], columns=["split", "n"])

    def warnings(self) -> list[str]:
        """What was left out and why, and how many groups stand in more than one split.

        Example:
            >>> problems = [Problem(str(i), f"{i} =", i, group="sums") for i in range(3)]
            >>> Task("sums", problems[:1], problems[1:2], problems[2:], "number").warnings()
            ['1 of 1 groups in more than one split (1 of 1 train, 1 of 1 validation and 1 of 1 test problems): related problems are on both sides']
        """
        from steerlab.tasks.groups import spread_groups

        return [*self.left_out(), *spread_groups(train=self.train, validation=self.validation, test=self.test)]


def left_out(about: Mapping[str, Any]) -> list[str]:
    """What a task's `about` says of rows that no problem comes from, and of problems that are too long for a model, in words.

    Example:
        >>> left_out({"too_long": {"rule": "truncate", "context": 128, "splits": {"test": {"n": 9, "dropped": 1, "cut": 3}}}})
        ['too long for a context of 128 tokens: 1 of 9 test left out, 3 of 9 test cut from the left']
    """
    said = []
    counts = [f"{n} {reason}" for reason, n in about.get("dropped", {}).items() if n]
    if counts:
        said.append(f"left out: {', '.join(counts)}")
    long = about.get("too_long")
    if long:
        kinds = {"dropped": "left out", "cut": "cut from the left"}
        parts = [f"{c[kind]} of {c['n']} {split} {word}" for kind, word in kinds.items() for split, c in long["splits"].items() if c[kind]]
        said.append(f"too long for a context of {long['context']} tokens: {', '.join(parts)}")
    return said


LETTERS = "ABCDEFGHIJ"


def lettered(options: Sequence[object]) -> tuple[str, tuple[str, ...]]:
    """The option lines "A. first" of a multiple-choice prompt, and the answer strings " A", " B" that follow it."""
    if len(options) > len(LETTERS):
        raise InputError(f"{len(options)} options; a lettered question has at most {len(LETTERS)}")
    lines = "\n".join(f"{letter}. {option}" for letter, option in zip(LETTERS, options, strict=False))
    return lines, tuple(f" {letter}" for letter in LETTERS[: len(options)])


def _a(value: object) -> str:
    """The kind of a value, for messages."""
    kind = type(value).__name__
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def as_problems(problems: Any, name: str = "problems", *, texts: bool = False) -> list[Problem]:
    """The problems, checked to be a sequence of nothing else: the one check of every function that takes problems.

    Args:
        problems: a list, a tuple or any other sequence of problems.
        name: of the argument, for messages.
        texts: take texts, too, as the prompts of problems called text-0, text-1, … that have no answer.

    Raises:
        TypeError: anything else, such as a task, one problem, a frame, or what can be read only once.

    Example:
        >>> [p.prompt for p in as_problems(["Once", "twice"], texts=True)]
        ['Once', 'twice']
    """
    kind = type(problems).__name__
    fix = "give a list of problems, e.g. task.test" + (", or a list of texts" if texts else "")
    if isinstance(problems, Problem | str):
        raise InputTypeError(f"{name} is one {'text' if isinstance(problems, str) else 'Problem'}; {fix}")
    if not isinstance(problems, Sequence):
        if isinstance(problems, Iterator):
            fix = f"it can be read only once, so give list(...) of it: {fix}"
        elif kind == "DataFrame":
            fix = "make a Problem of each row, e.g. [steerlab.Problem(str(i), row.prompt, row.target) for i, row in frame.iterrows()]"
        raise InputTypeError(f"{name} is {_a(problems)}; {fix}")
    for i, problem in enumerate(problems):
        if isinstance(problem, Problem) or (texts and isinstance(problem, str) and isinstance(problems[0], str)):
            continue
        if not isinstance(problem, str):
            raise InputTypeError(f"{name}[{i}] is {_a(problem)}; {fix}")
        why = (
            "beside problems; give texts alone or problems alone"
            if texts
            else "and a text has no answer to score; give steerlab.Problem(id, prompt, target)"
        )
        raise InputTypeError(f"{name}[{i}] is the text {problem[:40]!r}, {why}")
    return [Problem(f"text-{i}", problem, "") if isinstance(problem, str) else problem for i, problem in enumerate(problems)]


def as_texts(texts: Any, name: str = "texts") -> list[Any]:
    """Texts, or lists of token ids, checked to be a sequence of nothing else.

    Raises:
        TypeError: one text, problems, or anything else.
        ValueError: half of a surrogate pair in a text.

    Example:
        >>> as_texts(("Once", "twice"))
        ['Once', 'twice']
    """
    fix = "give a list of texts, e.g. [problem.prompt for problem in task.test]"
    if isinstance(texts, str | Problem) or not isinstance(texts, Sequence):
        raise InputTypeError(f"{name} is {'one text' if isinstance(texts, str) else _a(texts)}; {fix}")
    for i, text in enumerate(texts):
        if isinstance(text, Problem | Mapping | bool | int | float) or text is None:
            raise InputTypeError(f"{name}[{i}] is {_a(text)}; {fix}")
        if not whole_text(text):
            raise InputError(f"{name}[{i}]={text!r} has half of a surrogate pair in it; write the whole character")
    return list(texts)


def check_task(task: Any) -> None:
    """Make sure that a task is one.

    Raises:
        TypeError: it is something else, such as a list of problems.
    """
    if not isinstance(task, Task):
        raise InputTypeError(
            f"task is {_a(task)}; give a Task, as steerlab.load_task returns it, or steerlab.Task(name, train, validation, test, scorer=...)"
        )


def in_both(problems: Sequence[Problem], others: Sequence[Problem]) -> list[Problem]:
    """The problems that stand among others, too: under the same id, or with the same prompt, choices and target.

    Example:
        >>> [p.id for p in in_both([Problem("a", "1 + 1 =", "2"), Problem("b", "2 + 1 =", "3")], [Problem("c", "2 + 1 =", "3")])]
        ['b']
    """
    ids, contents = {p.id for p in others}, {content(p) for p in others}
    return [p for p in problems if p.id in ids or content(p) in contents]


SPLITS = ("train", "validation", "test")


def check_tasks(tasks: Mapping[str, Task], *, least: int = 2) -> None:
    """Make sure that tasks can be compared: enough of them, none without a split, and nothing tested that another one trains or chooses on.

    Raises:
        TypeError: not a mapping of names to tasks.
        ValueError: fewer tasks than `least`, an empty split, or the same problem in one task's test and another's train or validation.

    Example:
        >>> import steerlab as sl
        >>> check_tasks({name: sl.load_task("arithmetic", variant=name, limit=4) for name in ("story", "largest")})
    """
    if not isinstance(tasks, Mapping) or not all(isinstance(task, Task) for task in tasks.values()):
        raise InputTypeError(f"tasks: got {type(tasks).__name__}; give a dict of names and tasks, as steerlab.load_task returns them")
    if len(tasks) < least:
        raise InputError(f"{len(tasks)} task(s) given ({', '.join(tasks)}); at least {least} are needed")
    for name, task in tasks.items():
        for split in SPLITS:
            if not getattr(task, split):
                raise InputError(f"task {name!r} has no {split} problems; choose other shares, a larger limit, or another task")
    seen = {content(p): name for name, task in tasks.items() for p in (*task.train, *task.validation)}
    for name, task in tasks.items():
        both = [p for p in task.test if content(p) in seen]
        if both:
            raise InputError(
                f"{len(both)} test problems of {name!r} stand in train or validation of {seen[content(both[0])]!r} ({both[0].id!r} first); "
                "what was learned there cannot be tested on them: leave them out of one of the tasks"
            )


def drawn(problems: Sequence[Problem], n: int, *, rng: np.random.Generator, what: str = "problems") -> list[Problem]:
    """So many problems, drawn without replacement.

    Raises:
        ValueError: fewer are there, or n below 1.

    Example:
        >>> problems = [Problem(str(k), f"{k} =", str(k)) for k in range(9)]
        >>> len({p.id for p in drawn(problems, 4, rng=np.random.default_rng(0))})
        4
    """
    check_rng(rng)
    as_problems(problems, what)
    if not is_whole(n, 1, len(problems)):
        raise InputError(f"{n!r} {what} asked for, {len(problems)} there; use 1 to {len(problems)}, or a larger task")
    return [problems[i] for i in rng.permutation(len(problems))[:n]]


def mixture(parts: Mapping[str, Sequence[Problem]], n: int, *, rng: np.random.Generator) -> list[Problem]:
    """Equal shares of several lists of problems, in random order; each problem's id gets its list's name in front.

    Args:
        parts: names and problems.
        n: problems of all together; where they do not divide, the first lists give one more.
        rng: draws problems and order.

    Raises:
        ValueError: too few problems, fewer than one a list, or lists that are judged by different scorers.

    Example:
        >>> parts = {name: [Problem(str(k), f"{name}{k} =", str(k)) for k in range(5)] for name in "ab"}
        >>> sorted(p.id for p in mixture(parts, 3, rng=np.random.default_rng(0)))[-1][:2]
        'b/'
    """
    if n < len(parts):
        raise InputError(f"{n} problems of {len(parts)} tasks; a mixture needs at least one of each")
    scorers = {name: problems[0].scorer if problems else None for name, problems in parts.items()}
    if len(set(scorers.values())) > 1:
        said = ", ".join(f"{name}: {scorer}" for name, scorer in scorers.items())
        raise InputError(f"the tasks are judged by different scorers ({said}); give one scorer for all, or tasks of one form")
    share, more = divmod(n, len(parts))
    found = [
        replace(p, id=f"{name}/{p.id}")
        for place, (name, problems) in enumerate(parts.items())
        for p in drawn(problems, share + (place < more), rng=rng, what=f"problems of {name!r}")
    ]
    return [found[i] for i in rng.permutation(len(found))]


def shuffled_targets(problems: Sequence[Problem], *, rng: np.random.Generator) -> list[Problem]:
    """The same problems with right answers that mean nothing: permuted among problems with as many choices, or as generated answers.

    How often each place is right stays as it was, so that what a vector gains by preferring a letter remains. Where one place is always right
    (minimal pairs), it is drawn evenly instead.

    Args:
        problems: the problems.
        rng: permutes.

    Example:
        >>> problems = [Problem(str(k), f"{k} =", k % 2, (" A", " B")) for k in range(6)]
        >>> sum(p.target_index for p in shuffled_targets(problems, rng=np.random.default_rng(0)))
        3
    """
    check_rng(rng)
    groups: dict[int, list[int]] = {}
    for place, problem in enumerate(problems):
        groups.setdefault(0 if problem.choices is None else len(problem.choices), []).append(place)
    found = list(problems)
    for size, places in sorted(groups.items()):
        targets = [problems[i].target_index if size else problems[i].target for i in places]
        if size and len(set(targets)) == 1:
            targets = rng.integers(size, size=len(places)).tolist()
        else:
            targets = [targets[i] for i in rng.permutation(len(places))]
        for i, target in zip(places, targets, strict=True):
            choices = problems[i].choices
            found[i] = replace(problems[i], target=target if choices is None else naming(choices, cast("int", target)))
    return found
