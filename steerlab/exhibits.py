"""What a report shows of an experiment: its figures, its tables, and what stands between them and the method."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from steerlab import methods, plots
from steerlab.controls.control import ControlResult
from steerlab.parts import Drawing, Examples, Part, Section, Table
from steerlab.significance import P_COLUMNS, Significance, percent, points
from steerlab.statistics._format import format_p
from steerlab.sweeps.changes import changes


def report_parts(significance: Significance, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of one experiment's report; see `steerlab.report.render_report`."""
    text = methods.paragraph(significance, provenance)
    return {
        "title": f"Random-direction control: {significance.experiment.task}, {provenance['model']['name']}",
        "question": significance.question(),
        "answer": significance.answer(),
        "warnings": significance.warnings(),
        "figures": figures(significance),
        "tables": tables(significance),
        "sections": sections(significance),
        "method": methods.method(significance),
        "provenance": flat_provenance(provenance),
        "methods_paragraph": text,
        "references": methods.references(text),
    }


def flat_provenance(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Provenance as one table for a report."""
    groups = ("config", "model", "versions", "task")
    return {f"{group}: {key}": _shown(value) for group in groups for key, value in sorted(provenance.get(group, {}).items())}


def _shown(value: Any) -> Any:
    """A table within the table in one order, whether it was just measured or read back."""
    return ", ".join(f"{key}: {_shown(value[key])}" for key in sorted(value)) if isinstance(value, Mapping) else value


def figures(significance: Significance) -> list[Drawing]:
    """The pictures of the main question."""
    e = significance.experiment
    best = e.validation.best()
    moved, dose = changes(e.test), e.test.accuracy()
    drawn = [
        Drawing(
            "Test split: dose-response of the chosen layer, with 95% Wilson intervals and the random directions.",
            plots.alpha_progression(e.test, control=list(e.controls)),
            f"Accuracy against alpha at layer {e.layer}, from {percent(dose['accuracy'].min())} to {percent(dose['accuracy'].max())}.",
            moved,
        )
    ]
    for control in e.controls:
        rank = control.rank_test()
        drawn.append(
            Drawing(
                f"Test split: change of accuracy under {control.n} random directions at alpha = {control.alpha:+g}, and under the direction.",
                plots.null_distribution(control),
                f"Histogram of {control.n} control effects; the direction's is {points(rank.observed)}; {rank.exceeds} controls lie at least as far from the median.",
            )
        )
    drawn += [
        Drawing(
            "Test split: problems that became right and that became wrong, against alpha.",
            plots.transition_matrix(e.test),
            "Counts of problems that changed sides at each alpha.",
            moved,
        ),
        Drawing(
            "Validation split: change of accuracy by layer and alpha; the choice was made here.",
            plots.layer_alpha_heatmap(e.validation, tested=significance.questions.best_cell),
            f"The best cell is layer {int(best['layer'])}, alpha {best['alpha']:+g}, with {points(best['change'])}.",
            changes(e.validation),
        ),
        Drawing(
            "The directions of all layers, by dimension.",
            plots.direction_heatmap(list(e.directions.values())),
            "Heatmap of the mean differences, layers by dimensions.",
        ),
    ]
    return drawn


def tables(significance: Significance) -> list[Table]:
    """The tables of the main question."""
    e = significance.experiment
    n = significance.tests["alpha"].size
    dose = _plain(e.test.accuracy().merge(e.test.transitions(), on=["layer", "direction", "alpha"]))
    cells = _plain(e.validation.accuracy())
    return [
        Table(f"Test split: the direction against its controls; Holm's correction is over these {n} tests.", with_p(significance.tests)),
        Table(
            "What else a reader asks; intervals are of 95%, and these p-values are not corrected for each other.",
            significance.questions.frame,
        ),
        Table("Test split: dose-response, with 95% Wilson intervals and transitions.", dose),
        Table(f"Validation split: every cell that was looked at ({int((cells['alpha'] != 0).sum())} looks, alpha = 0 aside).", cells),
    ]


def sections(significance: Significance) -> list[Section]:
    """What stands between tables and method: the findings in full, what moved, the contrast, other controls, side effects."""
    e = significance.experiment
    found: list[Section] = [
        ("The findings in full", [f"{significance.place(c).capitalize()}: {significance.finding(c)}" for c in e.controls]),
        ("What was moved", [part for control in e.controls for part in _moved(significance, control)]),
    ]
    if e.diagnostics is not None:
        at = e.diagnostics.at(e.layer)
        found.append(
            (
                "The contrast set",
                [
                    f"Before anything was steered: how well held-out right and wrong train problems are told apart, and how much the direction depends "
                    f"on which problems were drawn. At layer {e.layer}: {at.auc}; {at.stability}.",
                    Drawing(
                        "Train split: separability of held-out problems and stability of the direction, at each layer.",
                        plots.separability(e.diagnostics),
                        f"At layer {e.layer}: {at.auc}; {at.stability}.",
                    ),
                    Table("The contrast of train problems at each layer.", e.diagnostics.frame),
                ],
            )
        )
    if e.families:
        found.append(("Controls of other kinds", [Table("Test split; these p-values are not corrected.", with_p(significance.others))]))
    found.append(("Side effects", _side_effects(significance)))
    return found


def _moved(significance: Significance, control: ControlResult) -> list[Part]:
    e, sign = significance.experiment, control.sign_test()
    moved = changes(e.test, alpha=control.alpha)
    at = significance.place(control)
    said = (
        f"{at.capitalize()}, {sign.became_right} of {sign.n} problems became right and {sign.became_wrong} became wrong; the examples are the first of "
        "each in the order of the data, not a selection."
    )
    return [said, Examples(f"Problems that changed sides {at}.", moved)] if len(moved) else [said]


def _side_effects(significance: Significance) -> list[Part]:
    e, side = significance.experiment, significance.experiment.side_effects.frame
    shown: list[Part] = [f"Measured on {e.settings['texts']}."]
    for control in e.controls:
        said = f"At alpha = {control.alpha:+g}: {significance.questions.beside(control)}."
        shown.append(said)
        table = significance.questions.tradeoff(control)
        if table is not None:
            shown.append(
                Drawing(
                    f"Effect on the task against side effect at alpha = {control.alpha:+g}. On the front: no other direction changes accuracy more, "
                    "either way, at no more KL.",
                    plots.pareto(table),
                    said,
                )
            )
    shown.append(Table("The direction at each alpha.", side[side["direction"] == e.direction.name].drop(columns="direction")))
    return shown


def _plain(cells: pd.DataFrame) -> pd.DataFrame:
    """Without the direction's name where there is only one."""
    return cells.drop(columns="direction") if cells["direction"].nunique() == 1 else cells


def with_p(table: pd.DataFrame) -> pd.DataFrame:
    """A table whose p-values are text, never 0."""
    shown = table.copy()
    for column in shown.columns.intersection(P_COLUMNS):
        shown[column] = [None if pd.isna(p) else format_p(p).removeprefix("p = ").removeprefix("p ") for p in shown[column]]
    return shown
