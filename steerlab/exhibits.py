"""What a report shows of an experiment: its figures and its tables."""

from typing import Any

import pandas as pd

from steerlab import plots
from steerlab.significance import P_COLUMNS, Significance, percent, points
from steerlab.statistics import format_p


def figures(significance: Significance) -> list[tuple[str, Any, str]]:
    """Caption, figure and text alternative of each picture of the report."""
    e = significance.experiment
    best = e.validation.best()
    drawn: list[tuple[str, Any, str]] = [
        (
            "Test split: dose-response of the chosen layer, with 95% Wilson intervals and the random directions.",
            plots.alpha_progression(e.test, control=e.controls[0]),
            f"Accuracy against alpha at layer {e.layer}, from {percent(e.test.accuracy()['accuracy'].min())} to "
            f"{percent(e.test.accuracy()['accuracy'].max())}.",
        )
    ]
    for control in e.controls:
        rank = control.rank_test()
        drawn.append(
            (
                f"Test split: change of accuracy under {control.n} random directions at alpha = {control.alpha:+g}, and under the direction.",
                plots.null_distribution(control),
                f"Histogram of {control.n} control effects; the direction's is {points(rank.observed)}; {rank.exceeds} controls lie at least as far from the median.",
            )
        )
    drawn += [
        (
            "Test split: problems that became right and that became wrong, against alpha.",
            plots.transition_matrix(e.test),
            "Counts of problems that changed sides at each alpha.",
        ),
        (
            "Validation split: change of accuracy by layer and alpha; the choice was made here.",
            plots.layer_alpha_heatmap(e.validation, tested=significance.questions.best_cell),
            f"The best cell is layer {int(best['layer'])}, alpha {best['alpha']:+g}, with {points(best['change'])}.",
        ),
        (
            "The directions of all layers, by dimension.",
            plots.direction_heatmap(list(e.directions.values())),
            "Heatmap of the mean differences, layers by dimensions.",
        ),
    ]
    if e.diagnostics is not None:
        at = e.diagnostics.at(e.layer)
        drawn.append(
            (
                "Train split: how well held-out right and wrong problems are told apart at each layer, and how stable the direction is.",
                plots.separability(e.diagnostics),
                f"At layer {e.layer}: {at.auc}; {at.stability}.",
            )
        )
    for control in e.controls:
        table = significance.questions.tradeoff(control)
        if table is not None:
            drawn.append(
                (
                    f"Effect on the task against side effect at alpha = {control.alpha:+g}: KL was measured on {e.settings['texts']}.",
                    plots.pareto(table),
                    f"The direction: {significance.questions.beside(control)}.",
                )
            )
    return drawn


def tables(significance: Significance) -> list[tuple[str, pd.DataFrame]]:
    """Caption and table."""
    e = significance.experiment
    n = significance.tests["alpha"].size
    shown = significance.tests.copy()
    others, side = significance.others, e.side_effects.frame
    for table in (shown, others):
        for column in table.columns.intersection(P_COLUMNS):
            table[column] = [None if pd.isna(p) else format_p(p).removeprefix("p = ").removeprefix("p ") for p in table[column]]
    dose = e.test.accuracy().merge(e.test.transitions(), on=["layer", "direction", "alpha"])
    return [
        (f"Test split: the direction against its controls; Holm's correction is over these {n} tests.", shown),
        (
            "What else a reader asks; intervals are of 95%, and these p-values are not corrected for each other.",
            significance.questions.frame,
        ),
        ("Test split: dose-response, with 95% Wilson intervals and transitions.", dose),
        ("Validation split: every cell that was looked at.", e.validation.accuracy()),
        *([("Controls of other kinds, test split; these p-values are not corrected.", others)] if e.families else []),
        *([("The contrast of train problems at each layer.", e.diagnostics.frame)] if e.diagnostics is not None else []),
        (
            f"Side effects on {e.settings['texts']}: the direction at each alpha.",
            side[side["direction"] == e.direction.name].drop(columns="direction"),
        ),
    ]
