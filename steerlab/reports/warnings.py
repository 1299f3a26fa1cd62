"""What a reader must know before believing an experiment: each warning is a tested rule and a sentence."""

from collections import Counter

from scipy import stats

from steerlab.statistics._format import format_p
from steerlab.statistics.dose_response import DoseResponse
from steerlab.statistics.multiplicity import LEVEL, holm
from steerlab.studies.protocol import Experiment
from steerlab.tasks.evaluation import Evaluation
from steerlab.tasks.problems import content, left_out

UNLIKELY = 0.01  # of the splits' differences: rarer than this is worth a sentence
FEW = 30  # problems of a kind; a direction from fewer is noisy
MOST_ANSWERS = 10  # different predictions; more are no fixed set of answers
LOPSIDED = 0.2  # of the train problems; below it a kind is rare


def cautions(experiment: Experiment, *, n_tests: int, dose: DoseResponse, chosen_p: float) -> list[str]:
    """Every caution about an experiment, the gravest first.

    Args:
        experiment: what was measured.
        n_tests: how many rank tests are corrected for.
        dose: the response on test at the chosen layer.
        chosen_p: of the chosen cell on validation, corrected for all that were compared.

    Returns:
        Sentences: interventions that did nothing, flat sweeps, problems of one split in another, too few controls for any
        corrected p-value below 0.05, splits that differ, responses that are not monotonic, contrasts that are worth little.
    """
    return [
        *_inert(experiment),
        *_too_long(experiment),
        *_leaks(experiment),
        *_few_controls(experiment, n_tests),
        *_easy_controls(experiment),
        *_chance(experiment, chosen_p),
        *_splits(experiment),
        *(f"Dose-response: {said}" for said in dose.warnings()),
        *_preference(experiment),
        *_contrast(experiment),
    ]


def _inert(e: Experiment) -> list[str]:
    said = [f"Validation: {w}" for w in e.validation.warnings()] + [f"Test: {w}" for w in e.test.warnings()]
    for control in e.controls:
        said += [f"Control at alpha = {control.alpha:+g}: {w}" for w in control.warnings()]
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
    return found


def _few_controls(e: Experiment, n_tests: int) -> list[str]:
    least = min(control.n for control in e.controls)
    if n_tests / (least + 1) < LEVEL:
        return []
    return [
        f"With {least} controls and {n_tests} tests the corrected p-value cannot fall below {n_tests / (least + 1):.2g}; "
        f"use at least {round(n_tests / LEVEL)} controls to be able to get below {LEVEL}."
    ]


def _easy_controls(e: Experiment) -> list[str]:
    """Isotropic controls that the direction beats, where the same estimator on labels that mean nothing does as much."""
    at = next(control for control in e.controls if control.alpha == e.alpha)
    isotropic = at.rank_test().pvalue
    if isotropic >= LEVEL:
        return []
    why = (
        "where a model depends on the dimensions in which its activations vary most, random directions are easy to beat: in simulations a true null is then "
        "rejected at 0.05 in a quarter of cases"
    )
    shuffled = [control for control in e.families if control.family == "shuffled_labels"]
    if not shuffled:
        return [f"No controls of shuffled labels were run, and {why}. Ask for the family shuffled_labels."]
    p = shuffled[0].rank_test().pvalue
    if p < LEVEL:
        return []
    return [
        f"At alpha = {e.alpha:+g} the direction differs from {at.n} random directions ({format_p(isotropic, digits=2)}, not corrected) but not from "
        f"{shuffled[0].n} mean differences of shuffled labels ({format_p(p, digits=2)}); {why}."
    ]


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
        cells = e.test.frame[e.test.frame["alpha"] == control.alpha].set_index("problem_id")["prediction"]
        old, new = before.loc[cells.index], cells
        moved = (old != new).to_numpy()
        names = sorted(set(old[moved]) | set(new[moved]))
        counts = [(int((new[moved] == name).sum()), int((old[moved] == name).sum())) for name in names]
        ps: list[float] = holm([float(stats.binomtest(gained, gained + lost).pvalue) for gained, lost in counts]).tolist() if names else []
        clear = [f"{name!r} +{gained} -{lost}" for name, (gained, lost), p in zip(names, counts, ps, strict=True) if p < UNLIKELY]
        if clear:
            said.append(
                f"At alpha = {control.alpha:+g} the {int(moved.sum())} predictions that changed favour some answers ({', '.join(clear)}; exact sign tests, Holm over "
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
