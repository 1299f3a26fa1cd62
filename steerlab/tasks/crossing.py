"""Problems crossed with prompt templates: each problem is asked in each of several ways, so that an effect is not one wording's."""

from collections.abc import Sequence
from dataclasses import replace

from steerlab._checks import InputError
from steerlab.tasks.problems import Problem, Task

PLACE, TEMPLATE = "{prompt}", "template"  # where a template has the prompt; under which name a problem's `meta` has its template


def crossed(task: Task, templates: Sequence[str]) -> Task:
    """A task in which each problem is asked with each template; all askings of a problem are one group (or its own, where it has one).

    Args:
        task: its prompts are texts.
        templates: two or more, each with the place `{prompt}` once, such as "{prompt}" and "Please answer. {prompt}".

    Returns:
        The task; a problem's id ends in "|template k", its `meta["template"]` is the template.

    Raises:
        ValueError: fewer than two templates, repeated ones, one without or with several places, or a prompt of token ids.

    Example:
        >>> task = Task("sums", [], [], [Problem("a", "1 + 1 =", 2)], "numeric")
        >>> [(p.prompt, p.group) for p in crossed(task, ["{prompt}", "Answer: {prompt}"]).test]
        [('1 + 1 =', 'problem a'), ('Answer: 1 + 1 =', 'problem a')]
    """
    templates = [templates] if isinstance(templates, str) else list(templates)
    for template in templates:
        if not isinstance(template, str) or template.count(PLACE) != 1:
            raise InputError(f"templates: {template!r} must be a text with {PLACE} in it once, where the problem's prompt goes")
    if len(templates) < 2 or len(set(templates)) < len(templates):
        raise InputError(f"templates={templates!r}; give at least two different ones")
    splits = {
        split: [_asked(problem, k, template) for problem in getattr(task, split) for k, template in enumerate(templates)]
        for split in ("train", "validation", "test")
    }
    return Task(task.name, **splits, scorer=task.scorer, about={**task.about, "templates": templates})


def _asked(problem: Problem, k: int, template: str) -> Problem:
    if not isinstance(problem.prompt, str):
        raise InputError(f"problem {problem.id!r}: a prompt of token ids has no place in a template; give text")
    return replace(
        problem,
        id=f"{problem.id}|template {k}",
        prompt=template.replace(PLACE, problem.prompt),
        group=problem.group or f"problem {problem.id}",
        meta={**problem.meta, TEMPLATE: template},
    )


def templates_of(problems: Sequence[Problem]) -> tuple[str, ...] | None:
    """The template of each problem; None where not all have one, or all the same."""
    found = tuple(str(problem.meta.get(TEMPLATE, "")) for problem in problems)
    return found if all(found) and len(set(found)) > 1 else None
