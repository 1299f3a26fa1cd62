"""A report as Markdown, for a repository, an issue or a lab notebook; all text is escaped."""

import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from jinja2 import Environment
from markupsafe import Markup

from steerlab import _html
from steerlab._checks import InputError
from steerlab.plots import theme
from steerlab.reports.blocks import Drawing, Report


def render_markdown(report: Report, *, pictures: Sequence[str] = ()) -> str:
    """A report as Markdown (with GitHub's tables), in the order of the page and from the same parts.

    Markup in outside text is escaped, prompts stand in fenced blocks that they cannot close, and characters that would
    reorder a line are spelled out.

    Args:
        report: its parts.
        pictures: where the picture of each figure stands, in their order; without it a figure is its words.

    Raises:
        ValueError: There are pictures for some figures only.

    Example:
        >>> print(render_markdown(Report("A report", "Does it?", "It does *not*.")))
        # A report
        <BLANKLINE>
        ## Question
        <BLANKLINE>
        Does it?
        <BLANKLINE>
        ## Answer
        <BLANKLINE>
        It does \\*not\\*.
        <BLANKLINE>
        ## Warnings
        <BLANKLINE>
        No warnings.
        <BLANKLINE>
    """
    n = len(report.all(Drawing))
    if pictures and len(pictures) != n:
        raise InputError(f"pictures: {len(pictures)} for {n} figures; give one for each, or none")
    return _templates().get_template("report.md.jinja").render(report=report, pictures=pictures).rstrip("\n") + "\n"


@cache
def _templates() -> Environment:
    # Whatever a template inserts is escaped as Markdown, unless a filter already did.
    env = _html.templates().overlay(finalize=lambda value: value if hasattr(value, "__html__") else _lines(value))
    env.filters = env.filters | {"lines": _lines, "line": _line, "fenced": _fenced}
    env.filters["titles"] = lambda fig: theme.without_title(fig)[:2] if theme.is_own(fig) else ("", [])
    return env


def _fenced(said: str) -> Markup:
    said = "".join(character if character == "\n" else theme.visible(character) for character in said)
    fence = "`" * (max([2, *(len(run) for run in re.findall("`+", said))]) + 1)
    return Markup(f"{fence}text\n{said}\n{fence}")


def _line(value: object, limit: int = _html.LINE_LENGTH) -> Markup:
    return Markup(_escaped(" ".join(_html.plain(value, limit).split())))


def _lines(value: Any, indent: str = "") -> Markup:
    """A paragraph whose line breaks show, and no line of which can become a heading, a list or a block of code."""
    shown = [_escaped(line.strip()) for line in _html.plain(value, _html.PARAGRAPH_LENGTH).split("\n")]
    starts = [re.sub(r"^(\d+)([.)])", r"\1\\\2", re.sub(r"^([#+\-=:])", r"\\\1", line)) for line in shown]
    return Markup(f"  \n{indent}".join(line for line in starts if line))


def _escaped(line: str) -> str:
    line = "".join(theme.visible(character) for character in line)
    line = re.sub(r"([\\`*_\[\]|~$])", r"\\\1", line)
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
