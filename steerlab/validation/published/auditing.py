"""Recompute every claim from the printed numbers and say whether it follows."""

import inspect
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import pandas as pd

from steerlab._checks import InputError, MissingFileError
from steerlab._html import Result
from steerlab.validation.published.answers import VERDICTS, Answer, Judgement
from steerlab.validation.published.counting import COUNTING
from steerlab.validation.published.evidence import EVIDENCE
from steerlab.validation.published.numbers import Range, printed
from steerlab.validation.published.recipes import ARITHMETIC
from steerlab.validation.published.tables import CLAIM_COLUMNS, Cells, Numbers, check_columns, read_folder

RECIPES: dict[str, Callable[..., Answer]] = {recipe.__name__: recipe for recipe in (*ARITHMETIC, *COUNTING, *EVIDENCE)}
CHECKOUT = Path(__file__).parents[3] / "data" / "published"
AUDIT_COLUMNS = ["document", "heading", "id", "claim", "claimed", "recomputed_low", "recomputed_high", "verdict", "reason", "repeats"]
MARKS = dict(zip(VERDICTS, "✓✗?", strict=True))


@dataclass(frozen=True, eq=False)
class Audit(Result):
    """Published claims, each with its recomputed value and whether it follows.

    Attributes:
        frame: one line a claim: document, heading, id, claim, claimed (as printed), recomputed_low and recomputed_high
            (in the claim's own units, of the reading that fits where there are several; missing where the print says
            nothing), verdict ("follows", "does not follow", "cannot be checked"), reason and repeats (the id of the claim
            that this one says again in the same document, else empty).
        numbers: the printed numbers it rests on: document, heading, table, row, column, printed.
        claims: the claims as they were given.
    """

    frame: pd.DataFrame
    numbers: pd.DataFrame
    claims: pd.DataFrame

    @property
    def distinct(self) -> pd.DataFrame:
        """The claims without those that say another one again; again holds the headings under which they do."""
        headings = {first: "; ".join(dict.fromkeys(part["heading"])) for first, part in self.frame.groupby("repeats")}
        once = self.frame[self.frame["repeats"] == ""].drop(columns="repeats")
        return once.assign(again=[headings.get(claim, "") for claim in once["id"]])

    def summary(self) -> pd.DataFrame:
        """How many claims of each document got which verdict, and in all; repetitions are beside, not among them."""
        once = self.distinct
        counts = pd.crosstab(once["document"], once["verdict"]).reindex(columns=list(VERDICTS), fill_value=0)
        counts = counts.loc[list(dict.fromkeys(once["document"]))].assign(claims=once["document"].value_counts())
        counts["repetitions"] = self.frame["document"].value_counts() - counts["claims"]
        counts.loc["in all"] = counts.sum()
        counts.columns.name = None
        return counts.reset_index()

    def __str__(self) -> str:
        once = self.distinct
        counts, again = once["verdict"].value_counts(), len(self.frame) - len(once)
        said = f"{len(once)} claims: " + ", ".join(f"{counts.get(verdict, 0)} {_plural(verdict)}" for verdict in VERDICTS)
        return said + (f"; {again} repetitions beside" if again else "")

    def text(self, width: int = 120) -> str:
        """Claim, recomputed value, verdict and reason, document by document, for a terminal; the counts at the end."""
        lines = []
        for document, part in self.distinct.groupby("document", sort=False):
            lines += [f"{document}: {len(part)} claims", "=" * width]
            for _, claims in part.groupby((part["heading"] != part["heading"].shift()).cumsum(), sort=False):
                lines += ["", f"# {claims['heading'].iloc[0]}"]
                for claim in claims.to_dict("records"):
                    first = f"{MARKS[claim['verdict']]} {claim['claim']}: claimed {claim['claimed']}, recomputed {_recomputed(claim)}"
                    reason = f"{claim['verdict']}: {claim['reason']}"
                    lines += textwrap.wrap(first, width, subsequent_indent="    ")
                    lines += textwrap.wrap(reason, width, initial_indent="    ", subsequent_indent="    ")
                    if claim["again"]:
                        lines += textwrap.wrap(f"again: {claim['again']}", width, initial_indent="    ", subsequent_indent="    ")
            lines.append("")
        return "\n".join([*lines, self.summary().to_string(index=False), "", str(self), ""])

    def markdown(self, head: str = "") -> str:
        """The same as Markdown tables: counts first, then one table a document.

        Args:
            head: a paragraph to put under the title.
        """
        lines = ["# What follows from what was printed", "", *([head, ""] if head else []), f"{self}.", ""]
        lines += _table(self.summary().to_dict("records"))
        for document, part in self.distinct.groupby("document", sort=False):
            rows = [
                {
                    "heading": claim["heading"],
                    "claim": claim["claim"],
                    "claimed": claim["claimed"],
                    "recomputed": _recomputed(claim),
                    "verdict": f"**{claim['verdict']}**" if claim["verdict"] != VERDICTS[0] else claim["verdict"],
                    "reason": claim["reason"],
                    "again": claim["again"],
                }
                for claim in part.to_dict("records")
            ]
            lines += ["", f"## {document}", "", *_table(rows)]
        return "\n".join([*lines, ""])


def published_audit(folder: str | Path | None = None) -> Audit:
    """Published claims in a folder of CSV files, recomputed from their own tables.

    Args:
        folder: holds claims.csv and one CSV of printed numbers per document; by default ``data/published`` of the
            checkout that this library runs from (an installed package has none: give a folder).

    Returns:
        Every claim with the range of values that the printed numbers allow, a verdict and its reason.

    Raises:
        FileNotFoundError: no such folder or files.
        ValueError: a file that is not such a table, or what `judge` says.

    Source:
        Rounding as in the GRIM test of Brown and Heathers (2017), Social Psychological and Personality Science 8,
        363-369: a printed number stands for every value that rounds to it, and percentages of n problems are whole counts.

    Example:
        >>> result = published_audit()
        >>> result.frame.set_index("id").loc["gpt2-control-t", ["claimed", "verdict"]].tolist()
        ['p<0.01', 'does not follow']
    """
    if folder is None and not CHECKOUT.is_dir():
        raise MissingFileError(
            "folder=None: this installation comes without the published tables; give folder=, data/published of a checkout or source archive of steerlab"
        )
    return judge(*read_folder(CHECKOUT if folder is None else folder))


def judge(numbers: pd.DataFrame, claims: pd.DataFrame) -> Audit:
    """Recompute claims from printed numbers.

    Args:
        numbers: columns document, heading, table, row, column and printed, all of them text; see `printed`.
        claims: columns document, heading, id, claim, claimed (as printed), reading (the claim as a printed number where
            claimed is not one, else empty), recipe (a name in `RECIPES`), arguments (``name=value; name=value``, where a
            value is a place ``table/row/column``, with ``*`` and ``|``, or a word), note (added to the reason) and repeats (the
            id of a claim of the same document that this one says again, else empty).

    Returns:
        The audit. Rounding, and questions that can be read in several ways, count in a claim's favour. Where numbers
        that were not printed decide, or words that were not defined, a claim follows if every possible value fits it,
        does not follow if none does, and cannot be checked otherwise.

    Raises:
        ValueError: other columns, an id given twice, an unknown recipe, arguments that do not fit it, places and numbers
            that cannot be read, or a repetition of no such claim or with another verdict; the message names the claim.

    Example:
        >>> numbers = pd.DataFrame(
        ...     [("paper", "Results", "accuracy", "before", "share", "32.6%"), ("paper", "Results", "accuracy", "after", "share", "34.9%")],
        ...     columns=["document", "heading", "table", "row", "column", "printed"],
        ... )
        >>> arguments = "after=accuracy/after/share; before=accuracy/before/share"
        >>> claims = pd.DataFrame([("paper", "Abstract", "gain", "accuracy rises", "+3.3 pts", "", "difference", arguments, "", "")],
        ...     columns=["document", "heading", "id", "claim", "claimed", "reading", "recipe", "arguments", "note", "repeats"],
        ... )
        >>> print(judge(numbers, claims))
        1 claims: 0 follow, 1 do not follow, 0 cannot be checked
    """
    check_columns(claims, CLAIM_COLUMNS, "claims")
    if claims.empty:
        raise InputError("claims: none given; at least 1 needed")
    twice = claims.loc[claims["id"].duplicated(), "id"]
    if len(twice):
        raise InputError(f"claims: id={twice.iloc[0]!r} is there twice; give every claim its own")
    cells = Numbers(numbers)
    lines = []
    for claim in claims.to_dict("records"):
        try:
            lines.append(_judged(claim, cells))
        except ValueError as error:
            raise InputError(f"claim {claim['id']}: {error}") from error
    frame = pd.DataFrame(lines, columns=AUDIT_COLUMNS).astype({"recomputed_low": "Float64", "recomputed_high": "Float64"})
    _check_repetitions(frame)
    return Audit(frame, numbers, claims)


def _judged(claim: dict[Any, Any], cells: Numbers) -> dict[str, Any]:
    recipe = RECIPES.get(claim["recipe"])
    if recipe is None:
        raise InputError(f"recipe={claim['recipe']!r}: unknown; use {', '.join(sorted(RECIPES))}")
    answer = recipe(**dict(_arguments(claim, recipe, cells)))
    reason = "; ".join(part for part in (answer.said, claim["note"]) if part)
    if not reason:
        raise InputError("no reason; say in its note why nothing that was printed bears on it")
    # What cannot be recomputed need not be a number either.
    judgement = (
        answer.judged(printed(claim["reading"] or claim["claimed"])) if answer.ranges else Judgement("cannot be checked", None, None)
    )
    return {
        **{name: claim[name] for name in ("document", "heading", "id", "claim", "claimed", "repeats")},
        "recomputed_low": judgement.low,
        "recomputed_high": judgement.high,
        "verdict": judgement.verdict,
        "reason": reason,
    }


def _arguments(claim: dict[Any, Any], recipe: Callable[..., Answer], cells: Numbers) -> Iterator[tuple[str, Cells | str]]:
    parameters, hints = inspect.signature(recipe).parameters, get_type_hints(recipe)
    given = {}
    for part in filter(None, (part.strip() for part in claim["arguments"].split(";"))):
        name, equals, value = part.partition("=")
        if not equals or name not in parameters or name in given:
            raise InputError(f"{part!r}: {claim['recipe']} takes {', '.join(parameters) or 'nothing'}, each once, as name=value")
        given[name] = value
    missing = [name for name, parameter in parameters.items() if parameter.default is parameter.empty and name not in given]
    if missing:
        raise InputError(f"{claim['recipe']} needs {', '.join(missing)} as well")
    for name, value in given.items():
        yield name, value if hints[name] in (str, str | None) else cells.find(value, claim["document"])


def _check_repetitions(frame: pd.DataFrame) -> None:
    firsts = {claim["id"]: (claim["document"], claim["verdict"]) for claim in frame[frame["repeats"] == ""].to_dict("records")}
    for claim in frame[frame["repeats"] != ""].to_dict("records"):
        document, verdict = firsts.get(claim["repeats"], (None, None))
        if document != claim["document"]:
            raise InputError(f"claim {claim['id']}: repeats={claim['repeats']!r}: no claim of {claim['document']} that is none itself")
        if verdict != claim["verdict"]:
            raise InputError(f"claim {claim['id']}: {claim['verdict']}, but {claim['repeats']} {verdict}; it is no repetition of it")


def _recomputed(claim: dict[Any, Any]) -> str:
    low, high = claim["recomputed_low"], claim["recomputed_high"]
    return "–" if pd.isna(low) else str(Range(low, high))


def _plural(verdict: str) -> str:
    return {"follows": "follow", "does not follow": "do not follow"}.get(verdict, verdict)


def _table(rows: list[dict[Any, Any]]) -> list[str]:
    """A Markdown table."""
    lines = [list(map(str, rows[0])), ["---"] * len(rows[0]), *([str(value) for value in row.values()] for row in rows)]
    return ["| " + " | ".join(cell.replace("|", "\\|").replace("<", "&lt;") for cell in line) + " |" for line in lines]
