"""Groups of problems that are not independent: those that share a noun pair, a template or a source row (`Problem.group`)."""

from collections.abc import Sequence

from steerlab.tasks.problems import Problem, as_problems


def groups_of(problems: Sequence[Problem]) -> tuple[str, ...]:
    """The group of each problem; a problem without one is a group of its own, called by its id.

    Raises:
        TypeError: something else than a sequence of problems.

    Example:
        >>> groups_of([Problem("a", "this", " cat", group="cat/cats"), Problem("b", "these", " cats", group="cat/cats"), Problem("c", "2 + 2 =", 4)])
        ('cat/cats', 'cat/cats', 'problem c')
    """
    return tuple(f"problem {p.id}" if p.group is None else p.group for p in as_problems(problems))
