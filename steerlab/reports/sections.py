"""The sections of an experiment's report: figures, tables, how the numbers came about, and a methods paragraph for a paper."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from steerlab import plots
from steerlab._checks import InputTypeError
from steerlab.controls import FAMILIES
from steerlab.controls.control import ControlResult
from steerlab.plots.theme import words
from steerlab.reports.blocks import Drawing, Examples, Part, Report, Section, Table
from steerlab.reports.evidence import P_COLUMNS, Significance, percent, points
from steerlab.reports.secondary import KINDS
from steerlab.statistics._format import format_p
from steerlab.sweeps.changes import changed_problems
from steerlab.tasks.problems import left_out

REFERENCES: Mapping[str, str] = {
    "Davison and Hinkley 1997": "Davison, A. C., and Hinkley, D. V. (1997). Bootstrap Methods and their Application. Cambridge University Press.",
    "Holm 1979": "Holm, S. (1979). A simple sequentially rejective multiple test procedure. Scandinavian Journal of Statistics 6, 65-70.",
    "McNemar 1947": "McNemar, Q. (1947). Note on the sampling error of the difference between correlated proportions or percentages. Psychometrika 12, 153-157.",
    "Nanda and Bloom 2022": "Nanda, N., and Bloom, J. (2022). TransformerLens. Software, github.com/TransformerLensOrg/TransformerLens.",
    "Newcombe 1998": "Newcombe, R. G. (1998). Improved confidence intervals for the difference between binomial proportions based on paired data. "
    "Statistics in Medicine 17, 2635-2650.",
    "Phipson and Smyth 2010": "Phipson, B., and Smyth, G. K. (2010). Permutation P-values should never be zero. Statistical Applications in Genetics and "
    "Molecular Biology 9, article 39.",
    "Rimsky et al. 2024": "Rimsky, N., Gabrieli, N., Schulz, J., Tong, M., Hubinger, E., and Turner, A. (2024). Steering Llama 2 via Contrastive Activation "
    "Addition. ACL 2024.",
    "Westfall and Young 1993": "Westfall, P. H., and Young, S. S. (1993). Resampling-Based Multiple Testing. Wiley.",
}


def method(significance: Significance) -> list[str]:
    """How the numbers came about, split by split."""
    e = significance.experiment
    d, n = e.direction, e.settings["n_controls"]
    cells = len(e.validation.accuracy().query("alpha != 0"))
    return [
        *(f"Data: {said}." for said in left_out(e.settings["task"])),
        f"Train ({e.train.n} problems, accuracy {percent(e.train.accuracy)}): {d.method.get('n_correct')} problems answered rightly and as many "
        f"answered wrongly were drawn; the direction is the difference of their mean activations at {d.site}, position {e.settings['cache_positions']}.",
        f"Validation ({e.validation.baseline.n} problems, accuracy {percent(e.validation.baseline.accuracy)}): {cells} cells of layer and alpha were "
        f"compared; layer {e.layer} and alpha {e.alpha:+g} had the highest accuracy (ties: the larger mean margin). The max-statistic test corrects for "
        "all of them: it flips the sign of each problem's whole row of changes, which keeps the dependence between cells.",
        f"Test ({e.test.baseline.n} problems) took no part in any choice. Operator {e.settings['operator']}, positions "
        f"{e.settings['positions']}; scorer {e.test.baseline.scorer}.",
        f"Controls: {n} isotropic Gaussian directions with the direction's norm, at the same place and alpha. How extreme an effect is, is its "
        f"distance from the median of all {n + 1} effects, on either side. The p-value is (1 + the number of controls at least as extreme) / ({n} + 1), ties counted "
        f"against the direction; it cannot be below {1 / (n + 1):.2g}. "
        "The t-test and Cohen's d compare the controls with the direction's effect as if that were known without error; they are shown because "
        "the field reports them, and no conclusion rests on them.",
        *(
            [
                f"Controls of other kinds answer other questions. {'; '.join(FAMILIES[c.family].doubt for c in e.families if c.family in FAMILIES)}."
            ]
            if e.families
            else []
        ),
        *([str(d.model["special_tokens"])] if "special_tokens" in d.model else []),
        f"Side effects: KL(unsteered || steered) of next-token distributions, perplexity, entropy and changed predictions, on {e.settings['texts']}.",
        "Paired comparisons use the exact sign test on problems that became right or wrong; their interval is Newcombe's method 10. Intervals of single "
        "proportions are Wilson's.",
    ]


def paragraph(significance: Significance, provenance: Mapping[str, Any]) -> str:
    """A Methods paragraph to paste into a paper: what was done, with the numbers, and whose methods they are.

    Args:
        significance: the evidence.
        provenance: of the run: model and versions.
    """
    e, model, versions = significance.experiment, provenance["model"], provenance["versions"]
    s, d = e.settings, e.direction
    cells = len(e.validation.accuracy().query("alpha != 0"))
    n, tests = s["n_controls"], len(significance.tests)
    size = (
        f" ({model['n_layers']} blocks, residual stream of {model['d_model']} dimensions, {model['processing']} weights, {model['dtype']})"
        if "n_layers" in model
        else ""
    )
    others = "; ".join(KINDS.get(c.family, c.family) for c in e.families)
    alphas = ", ".join(f"{c.alpha:+g}" for c in e.controls)
    acted = {"all": "every position", "last": "the last position"}.get(str(s["positions"]), f"positions {s['positions']}")
    sentences = [
        f"We steered {model['name']}{size} with TransformerLens {versions.get('transformer-lens', '')} (Nanda and Bloom 2022).",
        *([str(model["special_tokens"])] if "special_tokens" in model else []),
        f"The task was {e.task}, with {e.train.n} training, {e.validation.baseline.n} validation and {e.test.baseline.n} test problems.",
        f"The steering direction was the difference between the mean activations of {d.method.get('n_correct')} training problems that the model answered "
        f"rightly and as many that it answered wrongly (Rimsky et al. 2024), at {d.site} of block {e.layer} (counted from 0), {_measured(s['cache_positions'])}.",
        f"It was applied at {acted} (operator: {s['operator']}, coefficient alpha times the direction of norm {d.norm:.3g}).",
        f"Block and alpha ({e.alpha:+g}) were chosen on the validation problems among {cells} combinations; the familywise p-value of that choice comes from a "
        f"max-statistic permutation test (Westfall and Young 1993): {format_p(significance.questions.chosen_p, digits=2)}. Test problems took no part in any choice.",
        f"At alpha {alphas} we compared the direction with {n} isotropic Gaussian directions of equal norm: p = (1 + r) / ({n} + 1), where r counts the controls "
        "whose effect lies at least as far from the median of all effects (two-sided; Davison and Hinkley 1997; Phipson and Smyth 2010), with Holm's correction "
        f"over {tests} tests (Holm 1979).",
        *([f"At alpha {e.alpha:+g} we also used {n} controls of each of these kinds: {others}."] if others else []),
        "Accuracies with and without steering were compared by the exact McNemar test (McNemar 1947), with 95% intervals by Newcombe's method 10 (Newcombe 1998).",
        f"All randomness derives from seed {s['seed']}; the analysis was run with steerlab {versions.get('steerlab', '')}, torch {versions.get('torch', '')}.",
    ]
    return " ".join(sentences)


def _measured(positions: object) -> str:
    return {"last": "at the last prompt token", "mean": "averaged over prompt tokens"}.get(str(positions), f"at positions {positions}")


def references(text: str) -> list[str]:
    """The references that a text cites, in alphabetical order."""
    return [entry for key, entry in sorted(REFERENCES.items()) if key in text]


def report_parts(significance: Significance, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of one experiment's report; see `steerlab.Report`."""
    text = paragraph(significance, provenance)
    return {
        "title": f"Random-direction control: {significance.experiment.task}, {provenance['model']['name']}",
        "question": significance.question(),
        "answer": significance.answer(),
        "warnings": significance.warnings(),
        "figures": figures(significance),
        "tables": tables(significance),
        "sections": sections(significance),
        "method": method(significance),
        "provenance": flat_provenance(provenance),
        "methods_paragraph": text,
        "references": references(text),
    }


def result_parts(result: Any, provenance: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """What the page and the run folder of a result hold: what its `report_parts` says, and whose result it is.

    Args:
        result: of a study, with a `report_parts`, or the parts themselves: those of `steerlab.Report`, with tables as {file: (caption, frame)},
            figures of ours as (caption, figure), perhaps with words and details, and `directions`.
        provenance: of the run; the title names its task and model.
        more: parts in place of the result's own; tables are added to them.

    Raises:
        TypeError: a result without a page.
    """
    if not isinstance(result, Mapping) and not hasattr(result, "report_parts"):
        raise InputTypeError(
            f"result is a {type(result).__name__}, which has no page; give a study's result, an Experiment, or the parts of a page"
        )
    own = dict(result if isinstance(result, Mapping) else result.report_parts())
    parts = {"answer": "This page describes; it tests nothing.", "warnings": (), "directions": (), "figures": (), **own, **more}
    parts["tables"] = {**own.get("tables", {}), **more.get("tables", {})}
    names = [name for name in (provenance.get(kind, {}).get("name") for kind in ("task", "model")) if isinstance(name, str)]
    if names and "title" not in more:
        parts["title"] = f"{parts['title']}: {', '.join(names)}"
    parts["figures"] = [
        one if isinstance(one, Drawing) else Drawing(one[0], one[1], (one[2] if len(one) > 2 else "") or words(one[1]), *one[3:])
        for one in parts["figures"]
    ]
    parts["warnings"] = [*parts["warnings"], *(f"Data: {said}." for said in left_out(provenance.get("task", {})))]
    return parts | {"provenance": flat_provenance(provenance)}


def page(parts: Mapping[str, Any]) -> Report:
    """The page of a result; a table without a caption, or of over 1,000 lines, stays in the run folder."""
    shown = [(caption, table) for caption, table in parts["tables"].values() if caption and len(table) <= 1000]
    return Report(**{name: part for name, part in parts.items() if name != "directions"} | {"tables": shown})


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
    moved, dose = changed_problems(e.test), e.test.accuracy()
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
                f"Histogram of {control.n} control effects; the direction's is {points(rank.observed)}; {rank.exceeds} controls are at least as extreme.",
            )
        )
    drawn += [
        Drawing(
            "Test split: problems that became right and that became wrong, against alpha.",
            plots.transition_matrix(e.test),
            "Counts of problems that became right and wrong at each alpha.",
            moved,
        ),
        Drawing(
            "Validation split: change of accuracy by layer and alpha; the choice was made here.",
            plots.layer_alpha_heatmap(e.validation, tested=significance.questions.best_cell),
            f"The best cell is layer {int(best['layer'])}, alpha {best['alpha']:+g}, with {points(best['change'])}.",
            changed_problems(e.validation),
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
            "Secondary analyses; intervals are 95%, and p-values are not corrected for each other.",
            significance.questions.frame,
        ),
        Table("Test split: dose-response, with 95% Wilson intervals and transitions.", dose),
        Table(f"Validation split: all {int((cells['alpha'] != 0).sum())} cells compared, and alpha = 0.", cells),
    ]


def sections(significance: Significance) -> list[Section]:
    """The sections between tables and method: findings in full, changed problems, the contrast, other controls, side effects."""
    e = significance.experiment
    found: list[Section] = [
        ("The findings in full", [f"{significance.place(c).capitalize()}: {significance.finding(c)}" for c in e.controls]),
        ("Problems that became right or wrong", changed(significance)),
    ]
    if e.diagnostics is not None:
        at = e.diagnostics.at(e.layer)
        found.append(
            (
                "The contrast set",
                [
                    f"Before anything was steered: how well the direction separates held-out right and wrong train problems, and how much it depends "
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


def changed(significance: Significance) -> list[Part]:
    """The problems that became right or wrong under the direction, at each alpha that has controls."""
    return [part for control in significance.experiment.controls for part in _moved(significance, control)]


def _moved(significance: Significance, control: ControlResult) -> list[Part]:
    e, sign = significance.experiment, control.sign_test()
    moved = changed_problems(e.test, alpha=control.alpha)
    at = significance.place(control)
    said = (
        f"{at.capitalize()}, {sign.became_right} of {sign.n} problems became right and {sign.became_wrong} became wrong; the examples are the first of "
        "each in the order of the data, not a selection."
    )
    return [said, Examples(f"Problems that became right or wrong {at}.", moved)] if len(moved) else [said]


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
                    "up or down, at the same KL or less.",
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
