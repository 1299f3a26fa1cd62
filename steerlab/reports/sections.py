"""The sections of an experiment's report: figures, tables, how the numbers came about, and a methods paragraph for a paper."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from steerlab import plots
from steerlab._checks import InputTypeError
from steerlab.controls import FAMILIES, PIPELINES
from steerlab.controls.control import ControlResult
from steerlab.controls.pipelines import PipelineControl
from steerlab.plots.theme import words
from steerlab.reports.blocks import Drawing, Examples, Part, Report, Section, Table
from steerlab.reports.evidence import P_COLUMNS, Finding, Significance, percent
from steerlab.statistics._format import format_p
from steerlab.studies.protocol import Experiment
from steerlab.sweeps.changes import changed_problems
from steerlab.tasks.problems import left_out

REFERENCES: Mapping[str, str] = {
    "Barnard 1963": "Barnard, G. A. (1963). Discussion of Bartlett, The spectral analysis of point processes. Journal of the Royal Statistical Society B 25, 294.",
    "Besag and Clifford 1991": "Besag, J., and Clifford, P. (1991). Sequential Monte Carlo p-values. Biometrika 78, 301-304.",
    "Holm 1979": "Holm, S. (1979). A simple sequentially rejective multiple test procedure. Scandinavian Journal of Statistics 6, 65-70.",
    "Nanda and Bloom 2022": "Nanda, N., and Bloom, J. (2022). TransformerLens. Software, github.com/TransformerLensOrg/TransformerLens.",
    "Phipson and Smyth 2010": "Phipson, B., and Smyth, G. K. (2010). Permutation P-values should never be zero. Statistical Applications in Genetics and "
    "Molecular Biology 9, article 39.",
    "Rimsky et al. 2024": "Rimsky, N., Gabrieli, N., Schulz, J., Tong, M., Hubinger, E., and Turner, A. (2024). Steering Llama 2 via Contrastive Activation "
    "Addition. ACL 2024.",
}


def method(significance: Significance) -> list[str]:
    """How the numbers came about, split by split."""
    e = significance.experiment
    d, n, first = e.direction, e.settings["n_controls"], e.pipelines[0]
    cells = len(e.validation.accuracy().query("alpha != 0"))
    chosen = " and ".join(f"layer {e.cell(goal).layer}, alpha {e.cell(goal).alpha:+g} to {goal} {e.measure}" for goal in e.goals)
    nulls = "; ".join(
        f"{kind.words}: exact where {kind.null}" for kind in PIPELINES.values() if kind.words in {one.kind for one in e.pipelines}
    )
    return [
        *(f"Data: {said}." for said in left_out(e.settings["task"])),
        f"Train ({e.train.n} problems, accuracy {percent(e.train.accuracy)}): {d.method.get('n_correct')} problems answered rightly and as many "
        f"answered wrongly were drawn; at each layer the direction is the difference of their mean activations at {d.site}, position {e.settings['cache_positions']}.",
        f"Validation ({e.validation.baseline.n} problems, accuracy {percent(e.validation.baseline.accuracy)}): candidates were {first.rule}, named before "
        f"any steered outcome was seen. {_choosing(e)} Chosen were {chosen}. The heatmap shows all {cells} cells; it took no part in the choice"
        f"{' beyond that' if e.settings['choose'] == 'grid' else ''}.",
        f"Test ({e.test.baseline.n} problems) took no part in any choice. Operator {e.settings['operator']}, positions "
        f"{e.settings['positions']}; scorer {e.test.baseline.scorer}.",
        "Effect: a sign-flip test of the change from the baseline at the chosen cell, one-sided as named beforehand (greater for the cell chosen to raise, "
        "less for the cell chosen to lower); groups of problems flip as a whole.",
        f"Controls: whole pipelines. Each has directions of its own at every layer, with the norms of the direction's, names its candidates by the same rule, "
        f"chooses among them on validation as the direction's pipeline did, and is scored on test at the cell that it chose. Net changes are divided by the root "
        f"of the sum of squared changes of the groups. p = (1 + pipelines at least as good) / ({n} + 1), one-sided, ties counted against the direction"
        f"{_stopping(first)}. {nulls[:1].upper()}{nulls[1:]}.",
        "Verdict: Holm's correction over the tests of one chosen cell; a specific effect needs all of them.",
        "Directions at the same cell had no choice of their own, which favours the direction. The t-test and Cohen's d compare them with the direction's effect "
        "as if that were known without error; they are shown because the field reports them, and no conclusion rests on them.",
        *(
            [
                f"Controls of other kinds answer other questions. {'; '.join(FAMILIES[c.family].doubt for c in e.families if c.family in FAMILIES)}."
            ]
            if e.families
            else []
        ),
        *([str(d.model["special_tokens"])] if "special_tokens" in d.model else []),
        f"Side effects: KL(unsteered || steered) of next-token distributions, perplexity, entropy and changed predictions, on {e.settings['texts']}.",
        "Intervals of paired changes are Newcombe's method 10, by group cluster-robust t; those of single proportions are Wilson's.",
    ]


def planned(e: Experiment) -> list[str]:
    """Whether there was a plan and what was done otherwise, and which test set was scored."""
    test = f"Test problems: SHA-256 {e.settings['test_problems'][:12]}."
    if "plan" not in e.settings:
        return [f"There was no written plan. {test}"]
    plan = e.settings["plan"]
    kept = "It was followed." if not plan["deviations"] else f"Deviations: {'; '.join(plan['deviations'])}."
    return [f"Plan {plan['sha256'][:12]} was given to the run. {kept} {test}"]


def _choosing(e: Experiment) -> str:
    """How a pipeline chose among its candidates, in a sentence."""
    if e.settings["choose"] == "preset":
        return "There was nothing to choose."
    *screens, most = e.pipelines[0].choice.stages(e.validation.baseline.n)
    kept = (
        f"All were compared on {screens[0]} problems and the best {e.pipelines[0].choice.keep} for each goal on {most}"
        if screens
        else f"All were compared on {most} problems"
    )
    return f"{kept}: by mean {e.measure}, {'' if e.measure == 'margin' else 'then mean margin, '}then the smaller alpha."


def _stopping(control: PipelineControl) -> str:
    if control.stop_after is None:
        return ""
    return (
        f"; drawing ends when {control.stop_after} are at least as good for each goal, and p is then their share (Besag and Clifford 1991)"
    )


def paragraph(significance: Significance, provenance: Mapping[str, Any]) -> str:
    """A Methods paragraph to paste into a paper: what was done, with the numbers, and whose methods they are.

    Args:
        significance: the evidence.
        provenance: of the run: model and versions.
    """
    e, model, versions = significance.experiment, provenance["model"], provenance["versions"]
    s, d = e.settings, e.direction
    n = s["n_controls"]
    size = (
        f" ({model['n_layers']} blocks, residual stream of {model['d_model']} dimensions, {model['processing']} weights, {model['dtype']})"
        if "n_layers" in model
        else ""
    )
    acted = {"all": "every position", "last": "the last position"}.get(str(s["positions"]), f"positions {s['positions']}")
    kinds = " and ".join(f"{n} {one.kind}" for one in e.pipelines)
    groups = significance.findings[0].groups
    sentences = [
        f"We steered {model['name']}{size} with TransformerLens {versions.get('transformer-lens', '')} (Nanda and Bloom 2022).",
        *([str(model["special_tokens"])] if "special_tokens" in model else []),
        f"The task was {e.task}, with {e.train.n} training, {e.validation.baseline.n} validation and {e.test.baseline.n} test problems"
        f"{'' if groups is None else f' ({groups.n_groups} groups)'}.",
        f"At each block the steering direction was the difference between the mean activations of {d.method.get('n_correct')} training problems that the model "
        f"answered rightly and as many that it answered wrongly (Rimsky et al. 2024), at {d.site}, {_measured(s['cache_positions'])}.",
        f"It was applied at {acted} (operator: {s['operator']}, coefficient alpha times the direction).",
        f"Candidate cells were {e.pipelines[0].rule}, named without a steered outcome. {_choosing(e)}",
        *(
            f"To {found.goal} {e.measure} this chose block {found.cell.layer} (counted from 0) and alpha {found.cell.alpha:+g}{found.relative and f' ({found.relative[:-2]})'}."
            for found in significance.findings
        ),
        "Test problems took no part in any choice. The change from the baseline was tested by a one-sided sign-flip test, by group where problems have groups.",
        f"To see whether the effect is this direction's, we compared it with up to {kinds}: pipelines with directions of their own and the same norms that chose "
        "their cells by the same rule on the same validation problems (Barnard 1963; Phipson and Smyth 2010), one-sided, by studentised net changes"
        f"{', with sequential stopping (Besag and Clifford 1991)' if s['stop_after'] else ''}, and Holm's correction over the "
        f"{1 + len(e.pipelines)} tests of a cell (Holm 1979).",
        *(f"{found.size} {found.compared} Verdict: {found.verdict.text}." for found in significance.findings),
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
        "title": f"Steering experiment: {significance.experiment.task}, {provenance['model']['name']}",
        "question": significance.question(),
        "answer": significance.answer(),
        "warnings": [*significance.warnings(), *provenance.get("scored", [])],
        "figures": figures(significance),
        "tables": tables(significance),
        "sections": sections(significance),
        "method": [*planned(significance.experiment), *method(significance)],
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
    moved, dose = changed_problems(e.test), e.test.accuracy().query("layer == @e.layer")
    drawn = [
        Drawing(
            f"Test split: dose-response of layer {e.layer}, with 95% Wilson intervals and random directions at the chosen cell.",
            plots.alpha_progression(e.test, e.layer, control=[one for one in e.controls if one.layer == e.layer]),
            f"Accuracy against alpha at layer {e.layer}, from {percent(dose['accuracy'].min())} to {percent(dose['accuracy'].max())}.",
            moved,
        )
    ]
    for one in e.pipelines:
        for goal in e.goals:
            test = one.test(goal)
            drawn.append(
                Drawing(
                    f"Test split: studentised net change of {test.n_controls} {one.kind} at the cells they chose to {goal} {e.measure}, and of the direction.",
                    plots.null_distribution(one, goal=goal),
                    f"Histogram of {test.n_controls} control pipelines; the direction's is {test.observed:+.2f}; {test.exceeds} are at least as good.",
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
            f"Validation split: change of {e.measure} by layer and alpha.",
            plots.layer_alpha_heatmap(e.validation, measure=e.measure, tested=significance.questions.best_cell),
            f"{len(e.directions)} layers by {e.validation.accuracy()['alpha'].nunique()} alphas; the most extreme cell is {significance.questions.most_extreme()}.",
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
    dose = _plain(e.test.accuracy().merge(e.test.transitions(), on=["layer", "direction", "alpha"]))
    cells = _plain(e.validation.accuracy())
    return [
        Table("Test split: the tests of each chosen cell; Holm's correction is over those of its goal.", with_p(significance.tests)),
        Table(
            "Secondary analyses; intervals are 95%, and p-values are not corrected for each other.",
            significance.questions.frame,
        ),
        Table(
            "Test split: dose-response, with 95% Wilson intervals and transitions; dose is relative to the median activation's norm.", dose
        ),
        Table(f"Validation split: all {int((cells['alpha'] != 0).sum())} cells, and alpha = 0.", cells),
    ]


def sections(significance: Significance) -> list[Section]:
    """The sections between tables and method: groups, changed problems, the contrast, directions at the same cell, side effects."""
    e = significance.experiment
    found: list[Section] = [
        ("Groups of problems", [f"{_at(one)}: {one.groups}." for one in significance.findings if one.groups is not None]),
        ("Prompt templates", _templates(significance)),
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
    found.append(
        (
            "Directions at the same cell",
            [
                "These acted where the direction's pipeline had chosen to act, and had no choice of their own. No conclusion rests on them.",
                Table("Test split: other directions at the chosen cells; p-values are not corrected.", with_p(significance.same_cell)),
            ],
        )
    )
    found.append(("Side effects", _side_effects(significance)))
    return found


def _templates(significance: Significance) -> list[Part]:
    """The effect by prompt template, where there are several."""
    parts: list[Part] = []
    for found in significance.findings:
        effects = significance.templates(found.goal)
        if effects is not None:
            parts += [f"{_at(found)}: {effects}.", Table(f"{_at(found)}: change of {found.measure} by prompt template.", effects.frame)]
    return parts


def _at(found: Finding) -> str:
    return f"At layer {found.cell.layer}, alpha {found.cell.alpha:+g}"


def changed(significance: Significance) -> list[Part]:
    """The problems that became right or wrong under the direction, at each alpha that has controls."""
    return [part for control in significance.experiment.controls for part in _moved(significance, control)]


def _moved(significance: Significance, control: ControlResult) -> list[Part]:
    e, sign = significance.experiment, control.sign_test()
    moved = changed_problems(e.test, layer=control.layer, alpha=control.alpha)
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
        said = f"At layer {control.layer}, alpha {control.alpha:+g}: {significance.questions.beside(control)}."
        shown.append(said)
        table = significance.questions.tradeoff(control)
        if table is not None:
            shown.append(
                Drawing(
                    f"Effect on the task against side effect at layer {control.layer}, alpha {control.alpha:+g}. On the front: no other direction changes accuracy more, "
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
