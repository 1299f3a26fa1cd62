"""Compare methods of steering at equal norm and at equal KL: tables of methods and of pairs, and the sentences that follow from them.

All methods see the same train problems. Layer, sign and level are chosen on validation with equally many comparisons each, then
tested once, against the unsteered model, prompts that ask otherwise, and random vectors at the same places and levels.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
import pandas as pd

from steerlab._checks import InputError
from steerlab._html import Plotted, figure
from steerlab._progress import Stages, job
from steerlab.activations.positions import MEASURED, Positions, TokenPositions
from steerlab.controls.side_effects import side_texts
from steerlab.directions.direction import Direction
from steerlab.models.backends import Model
from steerlab.models.forecasts import Work, forecast
from steerlab.models.model import n_layers
from steerlab.statistics._format import format_p
from steerlab.statistics.controls import rank_test
from steerlab.statistics.multiplicity import LEVEL, holm, significant
from steerlab.statistics.paired import sign_test
from steerlab.statistics.power import controls_needed, smallest_detectable_change
from steerlab.steering.work import rows_of, unsteered
from steerlab.studies import KL_LEVELS, METHODS
from steerlab.studies.method_trials import MATCHINGS, Setting, Tested, choose, score_selected, trials_work, validation_grid
from steerlab.studies.method_vectors import MethodVectors, check_methods, contenders_work, label, method_vectors, wordings
from steerlab.studies.protocol import STREAMS
from steerlab.sweeps.effects import change_of, points
from steerlab.tasks.evaluation import Evaluation, evaluate
from steerlab.tasks.problems import Problem, Task, as_texts, check_task, in_both

MOST_SHOWN = 5  # differences that the summary names
SAID = {"norm": "at equal norm", "kl": "at equal KL", "own": "each at its own norm", "none": "without steering"}
METHOD_COLUMNS = [
    "matching", "method", "layers", "alpha", "norm", "kl", "comparisons", "validation_change", "n", "accuracy", "change", "low", "high",
    "became_right", "became_wrong", "p", "p_holm", "controls", "controls_change", "p_controls", "p_controls_holm", "p_margin",
]  # fmt: skip
PAIR_COLUMNS = {"matching": "matching", "method": "method", "other": "other", "change": "difference", "low": "low", "high": "high"}
PAIR_COLUMNS |= {"became_right": "only_method", "became_wrong": "only_other", "p": "p"}
NORM_SHARES = (0.1, 0.3, 1.0)
TEXTS = 12  # prompts, where a model cannot read sentences: KL is measured thousands of times


@dataclass(frozen=True, eq=False)
class MethodComparison(Plotted, figure="forest", drawn="effects"):
    """Test results of several steering methods at equal norm or KL.

    Attributes:
        baseline: the unsteered evaluation of the test problems.
        chosen: one line a matching and method: what was chosen on validation.
        outcomes: one line a matching, method and test problem: prediction, correct, margin, nll.
        controls: one line a matching, method and random control: norm, kl, reached, accuracy and mean margin on test.
        doses: one line a matching, method and level, at the chosen layer and sign, on test: alpha, norm, kl, reached, accuracy, chosen.
        validation_grid: every cell that was scored on validation.
        vectors: what was added for each matching and method, as directions at alpha = 1.
        notes: for each method, where its vectors come from.
        missing: methods that were left out, with the reason.
        settings: sizes, levels and options.
    """

    baseline: Evaluation
    chosen: pd.DataFrame
    outcomes: pd.DataFrame
    controls: pd.DataFrame
    doses: pd.DataFrame
    validation_grid: pd.DataFrame
    vectors: Mapping[str, Direction]
    notes: Mapping[str, str]
    missing: Mapping[str, str]
    settings: Mapping[str, Any]

    @property
    def frame(self) -> pd.DataFrame:
        """One line a method and matching; the unsteered model first, then what is not matched.

        Columns: matching ("norm", "kl", "own" or "none"); method; layers; alpha, on the vector as it was found; norm of all that is added; kl
        (nats a token); comparisons on validation and the change of accuracy there; n, accuracy, change from the baseline on test with low and high
        (95%, paired), became_right and became_wrong; p of the sign test and p_holm over all lines; controls, their mean change, p_controls of
        the rank test (p_margin: of the mean margin) and p_controls_holm over the methods of the matching.
        """
        return self._frame.copy()

    @cached_property
    def _frame(self) -> pd.DataFrame:
        lines = [self._line(row) for row in self.chosen.to_dict("records")]
        first = {"matching": "none", "method": "baseline", "alpha": 0.0, "norm": 0.0, "kl": 0.0, "comparisons": 0, "validation_change": 0.0}
        first |= {"n": self.baseline.n, "accuracy": self.baseline.accuracy, "change": 0.0, "controls": 0}
        table = pd.DataFrame([first, *sorted(lines, key=lambda line: line["matching"] != "none")], columns=METHOD_COLUMNS)
        known = table["p"].notna()
        table.loc[known, "p_holm"] = holm(table.loc[known, "p"].to_numpy(float)) if known.any() else np.nan
        for _, part in table[table["p_controls"].notna()].groupby("matching"):
            table.loc[part.index, "p_controls_holm"] = holm(part["p_controls"].to_numpy(float))
        return table

    def _line(self, row: dict[Hashable, Any]) -> dict[str, Any]:
        mine = self._outcomes(row["matching"], row["method"])
        change = change_of(sign_test(self.baseline.frame["correct"].to_numpy(bool), mine["correct"].to_numpy(bool)))
        line = (
            {str(key): value for key, value in row.items()}
            | change
            | {"accuracy": float(mine["correct"].to_numpy(bool).mean()), "controls": 0}
        )
        if row["matching"] == "none":
            return line
        controls = self.controls[(self.controls["matching"] == row["matching"]) & (self.controls["method"] == row["method"])]
        effects = controls["accuracy"].to_numpy(float) - self.baseline.accuracy
        line |= {"controls": len(controls), "controls_change": float(effects.mean())}
        line["p_controls"] = rank_test(change["change"], effects).pvalue
        margins, margin = controls["margin"].to_numpy(float), float(mine["margin"].mean())
        if np.isfinite([*margins, margin]).all():
            line["p_margin"] = rank_test(margin, margins).pvalue
        return line

    def _outcomes(self, matching: str, method: str) -> pd.DataFrame:
        rows = self.outcomes[(self.outcomes["matching"] == matching) & (self.outcomes["method"] == method)]
        return rows.set_index("problem_id").loc[self.baseline.frame["problem_id"]]

    @property
    def pairs(self) -> pd.DataFrame:
        """Which differences are real: one line a matching and pair of methods, on the same test problems.

        Columns: matching, method, other, difference (accuracy of method minus that of other), low and high (95%, paired), only_method and
        only_other (problems that only one of them answers rightly), p of the sign test, and p_holm over all lines.
        """
        return self._pairs.copy()

    @cached_property
    def _pairs(self) -> pd.DataFrame:
        lines = []
        for matching in [m for m in dict.fromkeys(self.chosen.get("matching", [])) if m != "none"]:
            mine = self.chosen[self.chosen["matching"].isin([matching, "none"])]
            right = {m: self._outcomes(k, m)["correct"].to_numpy(bool) for k, m in zip(mine["matching"], mine["method"], strict=True)}
            for one, other in combinations(right, 2):
                lines.append({"matching": matching, "method": one, "other": other, **change_of(sign_test(right[other], right[one]))})
        table = pd.DataFrame(lines, columns=list(PAIR_COLUMNS)).rename(columns=PAIR_COLUMNS)
        return table.assign(p_holm=holm(table["p"].to_numpy(float)) if lines else np.array([]))

    def effects(self) -> pd.DataFrame:
        """What `steerlab.plots.effects` draws: name, change, low, high, n, p."""
        table = self._frame[self._frame["method"] != "baseline"]
        names = [m if k == "none" else f"{m}, {k}" for k, m in zip(table["matching"], table["method"], strict=True)]
        return table.assign(name=names)[["name", "change", "low", "high", "n", "p"]].reset_index(drop=True)

    def against_kl(self) -> tuple[str, pd.DataFrame, pd.DataFrame]:
        """A matching, and what `steerlab.plots.effect_against_kl` draws of it: doses and controls with their change of accuracy.

        Raises:
            ValueError: nothing was steered.
        """
        if self.doses.empty:
            raise InputError("no method added a vector; there is nothing to draw")
        matching = "kl" if "kl" in set(self.doses["matching"]) else str(self.doses["matching"].iloc[0])
        parts = (one[one["matching"] == matching] for one in (self.doses, self.controls))
        doses, controls = (part.assign(change=part["accuracy"] - self.baseline.accuracy) for part in parts)
        return matching, doses, controls

    @property
    def _steered(self) -> pd.DataFrame:
        return self._frame[self._frame["controls"] > 0]

    def __str__(self) -> str:
        """What was found, in a paragraph."""
        base, table = self.baseline, self._frame[self._frame["method"] != "baseline"]
        interval = base.interval()
        changed = table[significant(table["p_holm"])]
        shown = [
            f"{row['method']} {SAID[row['matching']]} {points(row['change'])} points ({points(row['low'], row['high'])})"
            for row in changed.to_dict("records")
        ]
        said = [
            f"Unsteered, {100 * base.accuracy:.1f}% of {base.n} test problems are answered rightly (95% interval {100 * interval.low:.1f}% to "
            f"{100 * interval.high:.1f}%).",
            f"{len(changed)} of {len(table)} lines of the table differ from that after Holm's correction over all of them"
            + (f": {'; '.join(shown)}." if shown else "."),
        ]
        for matching, part in self._steered.groupby("matching", sort=False):
            special = part[significant(part["p_controls_holm"])]
            names = ", ".join(f"{row['method']} ({format_p(row['p_controls_holm'], digits=2)})" for row in special.to_dict("records"))
            at = f"norm {part['norm'].iloc[0]:.3g}" if matching == "norm" else f"KL {part['kl'].median():.3g} nats a token"
            where = SAID[str(matching)] + ("" if matching == "own" else f" ({at})")
            said.append(
                f"{_begun(where)}, the effects of {len(special)} of {len(part)} methods on accuracy differ from those of random vectors at the same layers "
                f"and level after Holm's correction over these methods{f': {names}' if names else ''}."
            )
        return " ".join([*said, *self._differences(), *self._undetected()])

    def _differences(self) -> list[str]:
        """Which pairs differ: steering methods one by one, steering and prompting together."""
        pairs = self._pairs
        asking = (pairs[["method", "other"]] == "prompt").any(axis=1)
        real = pairs[~asking & significant(pairs["p_holm"])]
        shown = "; ".join(
            f"{row['method']} over {row['other']} {SAID[row['matching']]} by {points(row['difference'])} points ({points(row['low'], row['high'])})"
            for row in real.sort_values("p", kind="stable").head(MOST_SHOWN).to_dict("records")
        )
        more = f"; and {len(real) - MOST_SHOWN} more" if len(real) > MOST_SHOWN else ""
        every = int(significant(pairs["p_holm"]).sum())
        said = [
            f"Of {len(pairs)} differences between two methods, {every} are significant after Holm's correction over all of them, {len(real)} of these between two "
            f"steering methods{f': {shown}{more}' if shown else ''}."
        ]
        against = pairs[asking]
        if len(against):
            # seen from steering, whichever stands first
            gains = against["difference"].where(against["other"] == "prompt", -against["difference"])[significant(against["p_holm"])]
            for which, verb in ((gains[gains > 0], "steering"), (gains[gains < 0], "prompting")):
                if len(which):
                    said.append(
                        f"{len(which)} of {len(against)} comparisons of steering with prompting favour {verb} after that correction, by {100 * which.abs().min():.1f} to "
                        f"{100 * which.abs().max():.1f} points."
                    )
            if not len(gains):
                said.append(f"None of {len(against)} comparisons of steering with prompting is significant after that correction.")
        return said

    def _undetected(self) -> list[str]:
        """Which differences this many problems could not have detected."""
        quiet, n = self._pairs[~significant(self._pairs["p_holm"])], self.baseline.n
        if quiet.empty:
            return []
        share = float(((quiet["only_method"] + quiet["only_other"]) / n).median())
        smallest = smallest_detectable_change(n, discordant=share) if share > 0 else None
        if smallest is None:
            return [
                f"The other pairs disagree on {100 * share:.1f}% of {n} problems (the median of them): too few for a difference of any size to be "
                "found with 80% power."
            ]
        return [
            f"For the other pairs there is no evidence either way: a pair that disagrees on {100 * share:.0f}% of {n} problems (the median of them) must differ by "
            f"{100 * smallest:.1f} points to be found with 80% power, uncorrected."
        ]

    def method(self) -> list[str]:
        """How the numbers came about, in paragraphs."""
        sizes = self.settings
        counts = [
            f"{'/'.join(str(int(n)) for n in sorted(part['comparisons'].unique()))} ({SAID[str(matching)]})"
            for matching, part in self._steered.groupby("matching", sort=False)
        ]
        return [
            f"Every method found its vectors on the same {sizes['n_train']} train problems: "
            + "; ".join(f"{name}: {about}" for name, about in self.notes.items())
            + ".",
            f"On {sizes['n_validation']} validation problems each method that adds a vector was compared {' and '.join(counts) or '0'} times: every candidate layer, "
            "every level, both signs. Learned vectors trained for a fixed number of epochs and did not use them in training. The level is common to all "
            "methods of a matching: the one with the highest mean of the methods' best accuracies. The prompt was compared once for each wording.",
            f"On {sizes['n_test']} test problems the choices were scored once. The other levels were scored there, too, for the figure; nothing was "
            "chosen by them. Norm is that of all that is added, over all layers where it acts. KL is that of next-token distributions, unsteered against "
            f"steered, on {sizes['texts']}. Controls are random vectors at the same layers (and in the same proportions), of the same norm or KL; methods "
            "that chose the same place share them, so their p-values are dependent, which Holm's correction allows.",
        ]

    def warnings(self) -> list[str]:
        """What a reader must know."""
        said = [f"{name} was left out: {why}." for name, why in self.missing.items()]
        said += [f"{name}: {about}." for name, about in self.notes.items() if "cannot read" in about]
        for matching, part in self._steered.groupby("matching", sort=False):
            least = len(part) / (int(part["controls"].min()) + 1)
            if not significant(least):
                said.append(
                    f"With {part['controls'].min()} controls and {len(part)} methods {SAID[str(matching)]} the corrected p of a rank test cannot fall below "
                    f"{least:.2g}; use at least {controls_needed(LEVEL, len(part), 'two-sided')} controls."
                )
        for name, table in (("cells on validation", self.validation_grid), ("test cells", self.doses), ("controls", self.controls)):
            if "reached" in table and len(missed := table[table["reached"].eq(other=False)]):
                said.append(
                    f"{len(missed)} of {len(table)} {name} do not reach the KL of their level within 2% at any length tried and act at the nearest found."
                )
        for matching in self._steered.loc[self._steered["matching"] != "own", "matching"].unique():
            levels = self.settings["levels"][matching]
            level = self.chosen.loc[self.chosen["matching"] == matching, "level"].iloc[0]
            if len(levels) > 1 and level in (min(levels), max(levels)):
                end = "lowest" if level == min(levels) else "highest"
                said.append(
                    f"{_begun(SAID[str(matching)])}, validation chose the {end} of the levels tried, {level:g}; a better one may lie beyond."
                )
        return said

    def report_parts(self) -> dict[str, Any]:
        """What `steerlab.write_report` shows of it: question, answer, figures and tables in words."""
        figures = [("Change of accuracy on test, with 95% paired intervals of one line each.", self.plot())]
        if len(self.doses):
            matching, doses, controls = self.against_kl()
            caption = f"Test accuracy against KL at the layer and sign chosen on validation ({matching} matched)."
            figures.append((caption, figure("effect_against_kl", doses, controls=controls)))
        methods = (
            "Every method on test. p: sign test against no steering (Holm over all lines); p_controls: rank among random vectors at the same place and "
            "level (Holm over the methods of a matching)."
        )
        tables = {
            "methods": (methods, self.frame),
            "pairs": ("Methods against each other on the same problems; sign tests, Holm over all lines.", self.pairs),
            "levels": ("Test accuracy at every level, at the layer and sign that were chosen.", self.doses),
            "validation_grid": ("Every cell scored on validation.", self.validation_grid),
            "controls": ("", self.controls),
            "outcomes": ("", self.outcomes),
        }
        question = "Which ways to steer change accuracy, more than random vectors of the same norm or KL, and which of their differences are more than chance?"
        return self._page("Methods compared", question, "", tables, figures=figures, directions=self.vectors, method=self.method())

    def __repr__(self) -> str:
        return (
            f"MethodComparison({self._steered['method'].nunique()} methods, {len(self._frame) - 1} lines, {self.baseline.n} test problems, "
            f"{int(significant(self._pairs['p_holm']).sum())} of {len(self._pairs)} differences significant)"
        )

    def summary(self) -> pd.DataFrame:
        """The main columns of `frame`."""
        return self._frame[["matching", "method", "kl", "accuracy", "change", "low", "high", "p_holm", "p_controls_holm"]]


def _begun(text: str) -> str:
    """A sentence's beginning; the rest keeps its capitals."""
    return text[:1].upper() + text[1:]


@job("task", "methods", "matchings", "layers", "norms", "kls", "n_controls", "epochs")
def compare_methods(
    model: Model,
    task: Task,
    *,
    seed: int,
    methods: Sequence[str] = METHODS,
    matchings: Sequence[str] = ("norm", "kl"),
    layers: Sequence[int] | None = None,
    norms: Sequence[float] | None = None,
    kls: Sequence[float] = KL_LEVELS,
    n_controls: int = 99,
    epochs: int = 3,
    lr: float = 1e-2,
    batch_size: int = 8,
    texts: Sequence[str | Sequence[int]] | None = None,
    cache_positions: Positions = "last",
    positions: Positions = "all",
    progress: bool = False,
) -> MethodComparison:
    """Steering methods on one task, compared at equal norm and equal KL.

    Args:
        task: with train (vectors come from it), validation (choices) and test problems (claims).
        seed: of balancing, of the order of training and of the controls.
        methods: any of `steerlab.studies.KNOWN_METHODS`.
        matchings: "norm" and "kl" put all methods at one common level; "own" lets each choose among the norms.
        layers: candidates; default all.
        norms: levels of the norm of all that is added; default 0.1, 0.3 and 1 times the median norm of the mean difference over layers (where
            that is not among the methods, of the first method's vectors).
        kls: levels of the KL, in nats a token.
        n_controls: random vectors for each method and matching.
        epochs, lr, batch_size: of learned vectors.
        texts: texts to measure KL on; default everyday sentences or, for a model that cannot read them, prompts of the validation split.
        cache_positions: where estimated directions are measured.
        positions: where all of them act.

    Example:
        >>> import steerlab as sl
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic", limit=24)
        >>> found = sl.compare_methods(
        ...     model, task, seed=0, methods=["mean_difference", "probe"], matchings=["norm"], layers=[3, 5], norms=[4.0], n_controls=4
        ... )
        >>> found.frame[["method", "norm", "comparisons"]].to_numpy().tolist()
        [['baseline', 0.0, 0], ['mean difference', 4.0, 4], ['probe', 4.0, 4]]
    """
    methods, matchings = check_methods(methods), list(dict.fromkeys(matchings))
    _check(task, matchings, [*(norms or []), *kls], n_controls)
    texts, about = side_texts(model, task.validation, n=TEXTS) if texts is None else (as_texts(texts), f"{len(texts)} given texts")
    learning: dict[str, Any] = {"epochs": epochs, "lr": lr, "batch_size": batch_size, "seed": seed, "positions": positions}
    stages = Stages(2 + ("prompt" in methods) + len(matchings), show=progress)
    bench = Setting(model, texts, positions, progress)
    if progress:
        sizes = {"kl": len(kls), "norm": len(NORM_SHARES) if norms is None else len(norms)}
        made_of = _work(bench, task, methods, matchings, layers, sizes, n_controls, epochs=epochs, batch_size=batch_size)
        more = ", beside a search for equal KL" if "kl" in matchings and set(methods) != {"prompt"} else ""
        forecast(model, made_of, show=True, extra=f" in {stages.total} stages, at most{more}")
    stages.next(f"find vectors in {len(methods)} ways")
    found, missing = method_vectors(
        model, task.train, methods=methods, layers=layers, cache_positions=cache_positions, progress=progress, **learning
    )
    notes = {one.name: one.about for one in found}
    stages.next("test without steering")
    baseline = evaluate(model, task.test, progress=progress)
    asked = None
    if "prompt" in methods:
        stages.next("wordings of the prompt")
        asked, said = _asked(model, task, progress)
        (missing if asked is None else notes)[label("prompt")] = said
    tried: dict[str, tuple[pd.DataFrame, pd.DataFrame, Tested]] = {}
    levels = {"kl": [float(kl) for kl in kls]}
    levels["norm"] = levels["own"] = _norms(found, norms)
    for k, matching in enumerate(matchings):
        stages.next(f"choose and test, matched by {matching}")
        if not found:
            continue
        seen = validation_grid(bench, task.validation, found, levels[matching], matching)
        chosen = choose(seen, matching)
        stream = [seed, STREAMS["raise"], k]
        tried[matching] = (
            seen,
            chosen,
            score_selected(bench, task.test, found, chosen, levels[matching], matching, n_controls=n_controls, seed=stream),
        )
    settings: dict[str, Any] = {"task": task.name, **{f"n_{split}": len(getattr(task, split)) for split in ("train", "validation", "test")}}
    settings |= {"levels": {matching: levels[matching] for matching in tried}, "n_controls": n_controls, "texts": about}
    settings |= learning | {"cache_positions": TokenPositions.of(cache_positions, MEASURED).describe()}
    settings["positions"] = TokenPositions.of(positions).describe()
    return _comparison(baseline, found, tried, asked, notes, missing, settings)


def _work(
    bench: Setting,
    task: Task,
    methods: Sequence[str],
    matchings: Sequence[str],
    layers: Sequence[int] | None,
    levels: Mapping[str, int],
    n_controls: int,
    **learning: int,
) -> list[Work]:
    """What the comparison is made of."""
    model, where = bench.model, list(range(n_layers(bench.model))) if layers is None else list(layers)
    vectors = [method for method in methods if method != "prompt"]
    spread = "multilayer_aft" in vectors
    made_of = contenders_work(model, task.train, methods=vectors, layers=where, positions=bench.positions, **learning)
    test, validation = rows_of(model, task.test), rows_of(model, task.validation)
    ways = len(wordings(model, task.train, [*task.validation, *task.test])[0]) if "prompt" in methods else 0
    made_of.append(unsteered(model, task.test, test * (1 + bool(ways)) + validation * (ways + bool(ways))))
    if vectors:
        # Methods that choose one layer and level share their controls; a multi-layer vector has its own.
        alone = len(vectors) - spread
        places = {"own": min(alone, len(where) * levels["norm"]) + spread} | dict.fromkeys(("norm", "kl"), min(alone, len(where)) + spread)
        count: dict[str, Any] = {"levels": {**levels, "own": levels["norm"]}, "contenders": len(vectors), "places": places}
        made_of += trials_work(bench, task.validation, task.test, matchings, layers=where, n_controls=n_controls, **count)
    return made_of


def _check(task: Task, matchings: Sequence[str], levels: Sequence[float], n_controls: int) -> None:
    check_task(task)
    unknown = [matching for matching in matchings if matching not in MATCHINGS]
    if unknown or not matchings:
        raise InputError(f"matchings={list(matchings)}; use any of {', '.join(MATCHINGS)}")
    if any(not np.isfinite(level) or level <= 0 for level in levels):
        raise InputError(f"levels {list(levels)}: norms and KLs must be finite and above 0")
    if n_controls < 1:
        raise InputError(f"n_controls={n_controls}; use at least 1 (99 give p-values down to 0.01)")
    for split in ("train", "validation", "test"):
        if not getattr(task, split):
            raise InputError(f"the {split} split of task {task.name!r} is empty; the comparison needs all three")
    for split in ("train", "validation"):
        if both := in_both(task.test, getattr(task, split)):
            raise InputError(
                f"{len(both)} test problems stand in {split}, too, {both[0].id!r} first; what was found or chosen there cannot be tested on them"
            )


def _norms(found: Sequence[MethodVectors], norms: Sequence[float] | None) -> list[float]:
    if norms is not None:
        return [float(norm) for norm in norms]
    if not found:
        return []
    reference = next((one for one in found if one.name == label("mean_difference")), found[0])
    middle = float(np.median([reference.norm(layer) for layer in reference.candidates]))
    return [float(f"{share * middle:.3g}") for share in NORM_SHARES]


def _asked(model: Model, task: Task, progress: bool) -> tuple[tuple[pd.DataFrame, pd.DataFrame] | None, str]:
    """The wordings of the prompt on validation, one of them chosen, and its outcomes on test; and what they are, or why there are none."""
    ways, about = wordings(model, task.train, [*task.validation, *task.test])
    if not ways:
        return None, about

    def ask(problems: Sequence[Problem], k: int) -> Evaluation:
        return evaluate(model, [ways[k].asked(problem) for problem in problems], progress=progress)

    base = evaluate(model, task.validation, progress=progress)
    seen = [ask(task.validation, k) for k in range(len(ways))]
    lines = [
        (way.name, one.accuracy, one.accuracy - base.accuracy, float(one.frame["margin"].mean()))
        for way, one in zip(ways, seen, strict=True)
    ]
    table = pd.DataFrame(lines, columns=["wording", "accuracy", "change", "margin"])
    table.insert(0, "method", label("prompt"))
    best = int(table.sort_values(["accuracy", "margin"], ascending=False, kind="stable").index[0])
    test = ask(task.test, best).frame.assign(method=label("prompt"))
    return (table.assign(matching="none", chosen=table.index == best), test), f"{about}; {ways[best].name} was chosen on validation"


def _comparison(
    baseline: Evaluation,
    found: Sequence[MethodVectors],
    tried: dict[str, tuple[pd.DataFrame, pd.DataFrame, Tested]],
    asked: tuple[pd.DataFrame, pd.DataFrame] | None,
    notes: dict[str, str],
    missing: dict[str, str],
    settings: dict[str, Any],
) -> MethodComparison:
    by_name = {one.name: one for one in found}
    parts: dict[str, list[pd.DataFrame]] = {name: [] for name in ("chosen", "outcomes", "controls", "doses", "validation_grid")}
    vectors: dict[str, Direction] = {}
    for matching, (table, picked, done) in tried.items():
        own = done.doses[done.doses["chosen"]].set_index("method")
        picks = picked.assign(
            matching=matching,
            comparisons=picked["method"].map(table.groupby("method").size()),
            layers=[
                "+".join(str(d.layer) for d in by_name[m].candidates[layer])
                for m, layer in zip(picked["method"], picked["layer"], strict=True)
            ],
            **{column: picked["method"].map(own[column]) for column in ("alpha", "norm", "kl", "reached")},
        )
        marked = table.merge(picks[["method", "layer", "sign", "level"]].assign(chosen=True), how="left")
        marked["chosen"] = marked["chosen"].fillna(value=False).astype(bool)
        new = {"chosen": picks.rename(columns={"change": "validation_change"}), "validation_grid": marked}
        new |= {"outcomes": done.outcomes, "controls": done.controls, "doses": done.doses}
        for which, frame in new.items():
            parts[which].append(frame.assign(matching=matching))
        for method, layer, alpha in zip(picks["method"], picks["layer"], picks["alpha"], strict=True):
            for direction in by_name[method].candidates[layer]:
                name = f"{matching}-{method}-layer-{direction.layer:03d}".replace(" ", "-")
                about = {**direction.method, "matching": matching, "alpha": float(alpha)}
                vectors[name] = direction.with_vector(direction.vector * alpha, method=about)
    if asked is not None:
        table, test = asked
        line = {"method": label("prompt"), "matching": "none", "comparisons": len(table)}
        line["validation_change"] = table.loc[table["chosen"], "change"].iloc[0]
        for which, frame in (("chosen", pd.DataFrame([line])), ("outcomes", test), ("validation_grid", table)):
            parts[which].append(frame.assign(matching="none"))
    tables = {name: pd.concat(some, ignore_index=True) if some else pd.DataFrame() for name, some in parts.items()}
    return MethodComparison(baseline, **tables, vectors=vectors, notes=notes, missing=missing, settings=settings)
