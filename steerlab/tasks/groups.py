"""Groups of problems that are not independent: those that share a noun pair, a template or a source row (`Problem.group`)."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from steerlab._checks import InputError
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


def shared_groups(*splits: Sequence[Problem]) -> dict[str, tuple[int, ...]]:
    """The groups that stand in more than one of several lists of problems, and how many problems of each list are theirs.

    What is learned or chosen on one list is then tested on problems that are related to it. Problems without a group share nothing.

    Args:
        *splits: lists of problems, such as task.train, task.validation, task.test.

    Raises:
        TypeError: something else than sequences of problems.

    Example:
        >>> train = [Problem("a", "this", " cat", group="cat/cats"), Problem("b", "these", " cats", group="cat/cats")]
        >>> test = [Problem("c", "those", " cats", group="cat/cats"), Problem("d", "that", " dog", group="dog/dogs")]
        >>> shared_groups(train, test)
        {'cat/cats': (2, 1)}
    """
    counts = [Counter(p.group for p in as_problems(split) if p.group is not None) for split in splits]
    found = {group: tuple(count[group] for count in counts) for group in sorted(set().union(*counts))}
    return {group: sizes for group, sizes in found.items() if sum(n > 0 for n in sizes) > 1}


def whole_parts(problems: Sequence[Problem], sizes: Sequence[int]) -> list[list[Problem]]:
    """A shuffled list, cut into parts of about these sizes, none of them empty, so that no group stands in two; the order stays within each part.

    Groups are dealt in the order in which one member of each stands in the list: the one whose id comes first, so that large groups come no sooner than
    small ones. Each cut is the one between two groups that is nearest to the size asked for. Where all problems stand alone, the sizes are exact and
    the parts are consecutive.

    Args:
        problems: in random order.
        sizes: of the parts, 1 or more each; together as many as there are problems.

    Raises:
        ValueError: fewer groups than parts.

    Example:
        >>> problems = [Problem(str(i), f"{i} =", i, group=group) for i, group in enumerate("abbbc")]
        >>> [[p.id for p in part] for part in whole_parts(problems, (2, 3))]
        [['0'], ['1', '2', '3', '4']]
    """
    groups = groups_of(problems)
    leads: dict[str, int] = {}
    for i in sorted(range(len(problems)), key=lambda i: problems[i].id):
        leads.setdefault(groups[i], i)
    order, members = sorted(leads, key=leads.__getitem__), Counter(groups)
    if len(order) < len(sizes):
        raise InputError(
            f"{len(problems)} problems in {len(order)} group(s) are too few for {len(sizes)} splits that keep groups whole; use more groups, or fewer shares"
        )
    ends, cuts = np.cumsum([members[group] for group in order]), [0]
    for k, goal in enumerate(np.cumsum(sizes[:-1]), start=1):
        left = ends[cuts[-1] : len(order) - len(sizes) + k]  # each part to come has a group
        cuts.append(cuts[-1] + 1 + int(np.abs(left - goal).argmin()))
    part_of = {group: int(np.searchsorted(cuts, place, side="right")) - 1 for place, group in enumerate(order)}
    return [[p for p, group in zip(problems, groups, strict=True) if part_of[group] == k] for k in range(len(sizes))]


def spread_groups(**splits: Sequence[Problem]) -> list[str]:
    """A sentence on groups that stand in more than one split, with counts; an empty list where each group stands in one.

    Example:
        >>> problems = [Problem(str(i), f"{i} =", i, group=group) for i, group in enumerate("aab")]
        >>> spread_groups(train=problems[:1], test=problems[1:])
        ['1 of 2 groups in more than one split (1 of 1 train and 1 of 2 test problems): related problems are on both sides']
    """
    shared = shared_groups(*splits.values())
    if not shared:
        return []
    total = len({p.group for split in splits.values() for p in split} - {None})
    parts = [
        f"{n} of {len(split)} {name}" for (name, split), n in zip(splits.items(), np.sum(list(shared.values()), axis=0), strict=True) if n
    ]
    said = " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))
    return [f"{len(shared)} of {total} groups in more than one split ({said} problems): related problems are on both sides"]
