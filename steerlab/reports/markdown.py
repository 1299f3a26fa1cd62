"""A report as Markdown, for a repository, an issue or a lab notebook; all text is escaped."""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from steerlab import _html
from steerlab._checks import InputError
from steerlab._html import ANSWER_LENGTH, CELL_LENGTH, LINE_LENGTH, PARAGRAPH_LENGTH, PROMPT_LENGTH
from steerlab.plots import theme
from steerlab.reports import blocks as parts
from steerlab.reports.blocks import Drawing, Examples, Section, Table


def render_markdown(
    *,
    title: str,
    question: str,
    answer: str,
    warnings: Sequence[str] = (),
    figures: Sequence[Drawing | tuple[str, go.Figure, str]] = (),
    tables: Sequence[Table | tuple[str, pd.DataFrame]] = (),
    sections: Sequence[Section] = (),
    method: Sequence[str] = (),
    provenance: Mapping[str, object] | None = None,
    methods_paragraph: str = "",
    references: Sequence[str] = (),
    pictures: Sequence[str] = (),
) -> str:
    """A report as Markdown (with GitHub's tables), in the order of the page and from the same parts.

    Markup in outside text is escaped, prompts stand in fenced blocks that they cannot close, and characters that would
    reorder a line are spelled out.

    Args:
        title, question, answer, warnings, figures, tables, sections, method, provenance, methods_paragraph, references: as
            in `steerlab.reports.html.render_report`.
        pictures: where the picture of each figure stands, in their order; without it a figure is its words.

    Raises:
        TypeError: A part is of another type; the message names it.
        ValueError: A required text is empty, or there are pictures for some figures only.

    Example:
        >>> print(render_markdown(title="A report", question="Does it?", answer="It does *not*."))
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
    for name, said in (("title", title), ("question", question), ("answer", answer)):
        parts.required(said, name)
    writer = _Writer(pictures)
    blocks = [f"# {_line(title)}", "## Question", _lines(question), "## Answer", _lines(answer), "## Warnings"]
    blocks += [f"- {_lines(said, '  ')}" for said in parts.texts(warnings, "warnings")] or ["No warnings."]
    drawings = [parts.as_drawing(entry, f"figures[{place}]") for place, entry in enumerate(figures)]
    listed = [parts.as_table(entry, f"tables[{place}]") for place, entry in enumerate(tables)]
    everything: list[tuple[str, Sequence[str | Drawing | Table | Examples]]] = [("Figures", drawings), ("Tables", listed)]
    for heading, content in [*everything, *parts.as_sections(sections)]:
        if content:
            blocks += [f"## {_line(heading)}", *(block for part in content for block in writer.part(part))]
    for heading, paragraphs in (("Method", parts.texts(method, "method")),):
        blocks += [f"## {heading}", *map(_lines, paragraphs)] if paragraphs else []
    if provenance is not None:
        known = parts.as_provenance(provenance)
        blocks += ["## Provenance", _table(["what", "value"], [[name, value] for name, value in known.items()], [False, False])]
    cited = parts.texts(references, "references")
    if methods_paragraph or cited:
        blocks += ["## For a paper", _lines(parts.required(methods_paragraph, "methods_paragraph"))]
        blocks += ["\n".join(f"- {_lines(said, '  ')}" for said in cited)] if cited else []
    if pictures and len(pictures) != writer.figures:
        raise InputError(f"pictures: {len(pictures)} for {writer.figures} figures; give one for each, or none")
    return "\n\n".join(blocks) + "\n"


class _Writer:
    """Numbers figures and tables as they come."""

    def __init__(self, pictures: Sequence[str]) -> None:
        self.figures = 0
        self._pictures = list(pictures)
        self._tables = count(1)

    def part(self, part: str | Drawing | Table | Examples) -> Iterator[str]:
        if isinstance(part, Drawing):
            yield from self._drawing(part)
        elif isinstance(part, Table):
            frame = part.frame
            yield f"**Table {next(self._tables)}.** {_lines(part.caption)}{_html.left_out(frame)}"
            yield _table(_html.names_of(frame), _html.rows_of(frame.head(_html.MOST_ROWS)), _html.numeric(frame))
        elif isinstance(part, Examples):
            yield from _examples(part)
        else:
            yield _lines(part)

    def _drawing(self, drawing: Drawing) -> Iterator[str]:
        self.figures += 1
        if theme.is_own(drawing.figure):
            headline, notes, _ = theme.without_title(drawing.figure)
            yield f"### {_line(headline)}"
            if notes:
                yield _lines(" ".join(notes))
        words = _lines(drawing.words)
        picture = self._pictures[self.figures - 1] if self.figures <= len(self._pictures) else None
        yield f"![{_line(drawing.words, PARAGRAPH_LENGTH)}](<{picture}>)" if picture else words
        yield f"**Figure {self.figures}.** {_lines(drawing.caption)}"


def _examples(examples: Examples) -> Iterator[str]:
    yield _lines(examples.caption)
    for became in ("right", "wrong"):
        rows = examples.frame[examples.frame["became"] == became]
        shown = rows.head(examples.most)
        yield f"### Became {became}: {len(rows)}{f', the first {len(shown)} shown' if len(shown) < len(rows) else ''}"
        for row in shown.to_dict("records"):
            yield f"{_line(row['problem_id'])}:"
            yield _fenced(_html.middle(row["prompt"], PROMPT_LENGTH))
            before, after, target = (_line(row[key], ANSWER_LENGTH) or "(no answer, or a tie)" for key in ("before", "after", "target"))
            marks = ("wrong", "right") if became == "right" else ("right", "wrong")
            yield f"Unsteered {before} ({marks[0]}), steered {after} ({marks[1]}); right is {target}."


def _fenced(said: str) -> str:
    said = "".join(character if character == "\n" else theme.visible(character) for character in said)
    fence = "`" * (max([2, *(len(run) for run in re.findall("`+", said))]) + 1)
    return f"{fence}text\n{said}\n{fence}"


def _table(names: Sequence[object], rows: Sequence[Sequence[Any]], right: Sequence[bool]) -> str:
    lines = [[_line(name, CELL_LENGTH) for name in names], ["---:" if number else "---" for number in right]]
    lines += [[_line(_html.cell(value), CELL_LENGTH) for value in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _line(value: object, limit: int = LINE_LENGTH) -> str:
    return _escaped(" ".join(_html.plain(value, limit).split()))


def _lines(value: str, indent: str = "") -> str:
    """A paragraph whose line breaks show, and no line of which can become a heading, a list or a block of code."""
    shown = [_escaped(line.strip()) for line in _html.plain(value, PARAGRAPH_LENGTH).split("\n")]
    starts = [re.sub(r"^(\d+)([.)])", r"\1\\\2", re.sub(r"^([#+\-=:])", r"\\\1", line)) for line in shown]
    return f"  \n{indent}".join(line for line in starts if line)


def _escaped(line: str) -> str:
    line = "".join(theme.visible(character) for character in line)
    line = re.sub(r"([\\`*_\[\]|~$])", r"\\\1", line)
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
