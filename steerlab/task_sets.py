"""Several tasks side by side: are they apart, what is drawn from each, a mixture of them, and targets that mean nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

import numpy as np

from steerlab._checks import InputError, InputTypeError, check_rng
from steerlab.tasks.problem import Problem, Task, as_problems, content, naming

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
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or not 1 <= n <= len(problems):
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
