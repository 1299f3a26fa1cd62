"""What a reader must know before believing an experiment: each warning is a tested rule and a sentence."""

from collections import Counter

from scipy import stats

from steerlab.controls.pipelines import unusual_rank
from steerlab.statistics._format import format_p
from steerlab.statistics.dose_response import DoseResponse
from steerlab.statistics.multiplicity import LEVEL, holm
from steerlab.studies.protocol import Experiment
from steerlab.tasks.evaluation import Evaluation
from steerlab.tasks.groups import spread_groups
from steerlab.tasks.problems import content, left_out

UNLIKELY = 0.01  # of the splits' differences: rarer than this is worth a sentence
FEW = 30  # problems of a kind; a direction from fewer is noisy
MOST_ANSWERS = 10  # different predictions; more are no fixed set of answers
LOPSIDED = 0.2  # of the train problems; below it a kind is rare


def cautions(experiment: Experiment, *, dose: DoseResponse, chosen_p: float) -> list[str]:
    """Every caution about an experiment, the gravest first.

    Args:
        experiment: what was measured.
        dose: the response on test at the layer chosen first.
        chosen_p: of the chosen cell on validation, corrected for all that were compared.

    Returns:
        Sentences: interventions that did nothing, flat sweeps, problems or groups of one split in another, too few controls for any
        corrected p-value of 0.05, answers or distributions that change unusually much, splits that differ, responses that are not
        monotonic, contrasts that are worth little.
    """
    return [
        *_inert(experiment),
        *_too_long(experiment),
        *_leaks(experiment),
        *_few_controls(experiment),
        *_unusual(experiment),
        *_chance(experiment, chosen_p),
        *_splits(experiment),
        *(f"Dose-response: {said}" for said in dose.warnings()),
        *_preference(experiment),
        *_contrast(experiment),
    ]


def _inert(e: Experiment) -> list[str]:
    said = [f"Validation: {w}" for w in e.validation.warnings()] + [f"Test: {w}" for w in e.test.warnings()]
    for control in e.controls:
        said += [f"Control at layer {control.layer}, alpha {control.alpha:+g}: {w}" for w in control.warnings()]
    for control in e.families:
        said += [f"Controls of kind {control.family}: {w}" for w in control.warnings()]
    said += [f"Controls of kind {family}: {remark}" for family, remark in e.settings["families"].items()]
    return said + [f"Side effects: {w}" for w in e.side_effects.warnings()]


def _too_long(e: Experiment) -> list[str]:
    """Problems that the model has no room for, left out or cut."""
    said = left_out({"too_long": e.settings["task"].get("too_long")})
    return [f"Problems were {one}; the results are about the problems as they were asked." for one in said]


def _leaks(e: Experiment) -> list[str]:
    """Leaks: problems, by name or by prompt and choices, that stand in two splits."""
    splits = {"train": e.train, "validation": e.validation.baseline, "test": e.test.baseline}
    found = []
    pairs = {
        ("train", "test"): "Training on test: {shared}; the direction was found on problems that it is tested on.",
        ("validation", "test"): "Selection on test: {shared}; what was chosen there was chosen on test problems.",
        ("train", "validation"): "Training on validation: {shared}; the choice was made on problems that the direction was found on.",
    }
    for (one, other), sentence in pairs.items():
        ours, theirs = ({content(p) for p in splits[name].problems} for name in (one, other))
        names = [{p.id for p in splits[name].problems} for name in (one, other)]
        common = max(len(ours & theirs), len(names[0] & names[1]))
        if common:
            found.append(sentence.format(shared=f"{common} problems of {one} are also in {other}"))
    return found + spread_groups(**{name: one.problems for name, one in splits.items()})


def _few_controls(e: Experiment) -> list[str]:
    """Too few pipelines for a verdict: with a clear effect each kind's p-value is corrected for the kinds."""
    least, kinds = min(one.planned for one in e.pipelines), len(e.pipelines)
    if kinds / (least + 1) <= LEVEL:
        return []
    return [
        f"With {least} pipelines of each of {kinds} kinds their corrected p-values cannot fall below {kinds / (least + 1):.2g}; use at least "
        f"{round(kinds / LEVEL) - 1} to be able to reach {LEVEL}."
    ]


def _unusual(e: Experiment) -> list[str]:
    """Answers, or distributions on other text, that the direction changes unusually much or little, whatever its net effect."""
    said = list(dict.fromkeys(w for one in e.pipelines for w in one.unusual()))
    for control in e.controls:
        cells = e.side_effects.frame
        kl = cells[(cells["layer"] == control.layer) & (cells["alpha"] == control.alpha)].set_index("direction")["kl"]
        names = control.frame.loc[control.frame["is_control"].astype(bool), "direction"].unique()
        if control.direction.name not in kl.index or not kl.index.isin(names).any():
            continue
        mine, theirs = float(kl[kl.index == control.direction.name].iloc[0]), kl.loc[names].to_numpy(float)
        p = unusual_rank(mine, theirs)
        if p is not None:
            said.append(
                f"At layer {control.layer}, alpha {control.alpha:+g} the direction's KL on other text is {mine:.3g}, unlike those of {len(theirs)} random directions "
                f"of its norm there ({theirs.min():.3g} to {theirs.max():.3g}; two-sided rank test, {format_p(p, digits=2)}, uncorrected)."
            )
    return said


def _splits(e: Experiment) -> list[str]:
    """Splits that differ from each other, and answers or outcomes of which one kind is rare."""
    said = []
    right = round(e.train.accuracy * e.train.n)
    if min(right, e.train.n - right) < LOPSIDED * e.train.n:
        said.append(
            f"Unbalanced: {right} of {e.train.n} train problems were answered rightly; the direction is from {e.direction.method.get('n_correct', 0)} of "
            "each kind, and the rarer kind may also differ in other ways."
        )
    one, other = e.validation.baseline, e.test.baseline
    p = _differ(one, other)
    if p < UNLIKELY:
        said.append(
            f"The splits differ: unsteered accuracy is {100 * one.accuracy:.1f}% on validation and {100 * other.accuracy:.1f}% on test "
            f"(Fisher's exact test, n = {one.n} and {other.n}, p = {p:.2g}); what was chosen on one may not suit the other."
        )
    targets = [p.target_index for p in other.problems if p.choices]
    if len(targets) == other.n and len(sizes := {len(p.choices or ()) for p in other.problems}) == 1:
        counts = Counter(targets)
        observed = [counts[k] for k in range(sizes.pop())]
        p = float(stats.chisquare(observed).pvalue)
        if p < UNLIKELY:
            said.append(
                f"Unbalanced answers: the right choice of the test problems is {', '.join(f'number {k + 1} {n} times' for k, n in enumerate(observed))} "
                f"(chi-squared test, n = {other.n}, p = {p:.2g}); a direction that merely favours one choice may seem to work."
            )
    return said


def _chance(e: Experiment, chosen_p: float) -> list[str]:
    if chosen_p < LEVEL:
        return []
    cells = int((e.validation.accuracy()["alpha"] != 0).sum())
    return [
        f"{cells} cells compared on validation; the chosen one is consistent with chance (max-statistic test, {format_p(chosen_p, digits=2)}): no "
        "evidence that this layer and alpha do more than any others."
    ]


def _preference(e: Experiment) -> list[str]:
    """Answers that the changed predictions move to, or away from, whatever the problem."""
    before = e.test.baseline.frame.set_index("problem_id")["prediction"]
    if not 2 <= before.nunique() <= MOST_ANSWERS:
        return []
    said = []
    for control in e.controls:
        frame = e.test.frame[(e.test.frame["layer"] == control.layer) & (e.test.frame["alpha"] == control.alpha)]
        cells = frame.set_index("problem_id")["prediction"]
        old, new = before.loc[cells.index], cells
        moved = (old != new).to_numpy()
        names = sorted(set(old[moved]) | set(new[moved]))
        counts = [(int((new[moved] == name).sum()), int((old[moved] == name).sum())) for name in names]
        ps: list[float] = holm([float(stats.binomtest(gained, gained + lost).pvalue) for gained, lost in counts]).tolist() if names else []
        clear = [f"{name!r} +{gained} -{lost}" for name, (gained, lost), p in zip(names, counts, ps, strict=True) if p < UNLIKELY]
        if clear:
            said.append(
                f"At layer {control.layer}, alpha {control.alpha:+g} the {int(moved.sum())} predictions that changed favour some answers ({', '.join(clear)}; exact sign tests, Holm over "
                f"{len(names)} answers, p < {UNLIKELY}): this may be a preference for an answer, whatever the problem."
            )
    return said


def _differ(one: Evaluation, other: Evaluation) -> float:
    table = [[round(part.accuracy * part.n), part.n - round(part.accuracy * part.n)] for part in (one, other)]
    return float(stats.fisher_exact(table).pvalue)


def _contrast(e: Experiment) -> list[str]:
    said = [] if e.diagnostics is None else [f"Contrast: {w}" for w in e.diagnostics.warnings()]
    n = e.direction.method.get("n_correct", 0)
    if n < FEW:
        said.append(f"The direction is from {n} right and {n} wrong problems; directions from so few are noisy.")
    return said
