"""`write_report`: the report of one finished run, or of several side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from steerlab import plots
from steerlab._checks import InputError
from steerlab.reports import runs as store
from steerlab.reports import sections
from steerlab.reports.blocks import Drawing, Report, Section, Table
from steerlab.reports.evidence import Comparison, Significance, evidence
from steerlab.reports.export import write_page
from steerlab.reports.runs import load_experiment
from steerlab.studies.protocol import Experiment


def write_report(path: str | Path, *what: Any, provenance: Mapping[str, Any] | None = None, **parts: Any) -> Path:
    """Write one self-contained HTML page (Markdown where `path` ends in .md): of a result, of run folders, or of parts given.

    Args:
        path: the page.
        what: a result (of `steerlab.run_experiment`, a sweep or a study), or run folders of random_control.py or `steerlab.save_experiment`;
            one folder gives its report, several a comparison.
        provenance: of a result, what `steerlab.reports.runs.provenance` says; default what the result knows of its model, and versions.
        parts: the parts of the page (title, question, answer, figures, …), see `steerlab.Report`; with a result, in place of its own.

    Raises:
        FileNotFoundError: a run folder that is none.
        TypeError: a result without a page.
        ValueError: runs and parts both, two runs of one name, an incomplete run, or a page above the size limit.
        OSError: the page cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     page = write_report(f"{folder}/report.html", title="Steering", question="Does it matter?", answer="p = 0.01")
        ...     "Does it matter?" in page.read_text(encoding="utf-8")
        True
    """
    folders = [isinstance(one, str | Path) for one in what]
    if not what:
        return write_page(path, Report(**parts))
    if all(folders):
        if parts:
            raise InputError(f"{len(what)} runs and the parts {', '.join(parts)} given; give one or the other")
        return write_page(path, Report(**run_parts(*what)))
    if len(what) > 1:
        raise InputError(f"{len(what)} results given; give one (several run folders are compared)")
    return write_page(path, _of(what[0], provenance, parts))


def _of(result: Any, provenance: Mapping[str, Any] | None, parts: Mapping[str, Any]) -> Report:
    """The page of one result."""
    if isinstance(result, Experiment):
        e = result
        known = provenance or store.provenance(e.direction.model, {"seed": e.settings["seed"]}, e.settings["task"])
        return Report(**sections.report_parts(evidence(e), known) | dict(parts))
    known = provenance or store.provenance(_model(result))
    return sections.page(sections.result_parts(result, known, **parts))


def _model(result: Any) -> Mapping[str, Any]:
    """What a result's directions say of the model that they were found in."""
    directions = next((found for name in ("vectors", "directions", "direction") if (found := getattr(result, name, None))), ())
    first = next(
        iter(directions.values() if isinstance(directions, Mapping) else directions if isinstance(directions, Sequence) else [directions]),
        None,
    )
    return getattr(first, "model", {})


def run_parts(*runs: str | Path) -> dict[str, Any]:
    """The parts of a report of one or several run folders.

    Raises:
        FileNotFoundError, ValueError: what `steerlab.load_experiment` says, no runs, or two of one name.
    """
    if not runs:
        raise InputError("no runs given; give at least one run folder")
    found = {}
    for name, path in zip(_names([Path(path) for path in runs]), runs, strict=True):
        experiment, provenance = load_experiment(path)
        found[name] = evidence(experiment), provenance
    return comparison_parts(found) if len(found) > 1 else sections.report_parts(*next(iter(found.values())))


def _names(paths: list[Path]) -> list[str]:
    """The shortest ends of the paths that tell them apart."""
    whole = [path.resolve().parts for path in paths]
    if len(set(whole)) < len(paths):
        raise InputError(f"a run is given twice among {', '.join(str(path) for path in paths)}; give each once")
    ends = (["/".join(parts[-n:]) for parts in whole] for n in range(1, max(map(len, whole)) + 1))
    return next(names for names in ends if len(set(names)) == len(names))


def comparison_parts(runs: Mapping[str, tuple[Significance, Mapping[str, Any]]]) -> dict[str, Any]:
    """The parts of a report of several runs: evidence and provenance by name."""
    both = Comparison({name: significance for name, (significance, _) in runs.items()})
    forest = Drawing(
        "Change of the measure on test at each run's chosen cells, with 95% intervals of one run each.",
        plots.forest(both.effects),
        both.answer(),
    )
    each: list[Section] = []
    method: list[str] = []
    provenance: dict[str, Any] = {}
    drawn = [forest]
    for name, (significance, about) in runs.items():
        one = sections.report_parts(significance, about)
        each.append((name, [one["question"], one["answer"], *sections.changed(significance)]))
        first = one["figures"][0]
        drawn.append(Drawing(f"{name}. {first.caption}", first.figure, first.words))
        method += [f"{name}: {paragraph}" for paragraph in one["method"]]
        provenance |= {f"{name}: {key}": value for key, value in one["provenance"].items()}
    return {
        "title": f"Steering experiments: {len(runs)} runs",
        "question": both.question(),
        "answer": both.answer(),
        "warnings": both.warnings(),
        "figures": drawn,
        "tables": [
            Table("Every run at its chosen cells.", both.effects),
            Table(f"The tests of every run; {len(both.tests)} in all.", sections.with_p(both.tests)),
        ],
        "sections": each,
        "method": method,
        "provenance": provenance,
    }
