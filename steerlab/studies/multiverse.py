"""Many worlds: does a claim hold over all the ways in which it might have been tested, taken together?

Each specification (estimator, rule for the layer, where activations are measured and where the direction acts, operator, length; on each template of the
task) is run at one cell that its rules fix without a steered outcome. The specification curve shows all effects; the joint test permutes the labels,
estimates every specification again from the same permuted labels and runs it again, so that it counts how alike specifications are.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, fields
from functools import partial
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, Unpack

import numpy as np
import pandas as pd
import torch

from steerlab import _files
from steerlab._checks import InputError, count, is_number, one_of, only, takes_options
from steerlab._html import Plotted
from steerlab._progress import job, progress_bar
from steerlab.activations.cache import Activations
from steerlab.controls.pipelines import MEASURES, SIDES
from steerlab.directions import ESTIMATORS
from steerlab.directions.contrasts import balanced_activations
from steerlab.directions.direction import Direction
from steerlab.directions.estimators import mean_difference
from steerlab.directions.random import permuted, separability
from steerlab.models.backends import Model
from steerlab.models.forecasts import forecast
from steerlab.models.memory import Limits, PassOptions
from steerlab.models.model import describe, n_layers
from steerlab.models.threads import on_suitable_threads
from steerlab.models.weights import brief
from steerlab.statistics._format import format_p
from steerlab.statistics.multiplicity import LEVEL, significant
from steerlab.statistics.sequential import OneSided, SequentialTest, sequential_test, studentised
from steerlab.steering import OPERATORS
from steerlab.steering.work import rows_of, steered, unsteered
from steerlab.sweeps.candidates import GOALS, Goal, relative_dose
from steerlab.sweeps.effects import change_interval, score_vectors
from steerlab.sweeps.sweep import SCALED, inert
from steerlab.tasks.evaluation import evaluate
from steerlab.tasks.groups import groups_of, spread_groups
from steerlab.tasks.problems import Problem, Task, check_task, content, in_both

LAYER_RULES = {"separable": None, "early": 0.25, "middle": 0.5, "late": 0.75}  # the best held-out separability, or a share of the depth
MEASURED, ACTING, LENGTHS = ("last", "mean"), ("all", "last"), ("contrast", "relative")
NO_LENGTH = "none"  # of operators under which a vector's length does not count
SCORES = ("accuracy", "margin", "nll")
STATISTICS: dict[str, Callable[..., Any]] = {"median": np.median, "mean": np.mean, "share": np.mean}
TOGETHER = 10  # permutations that are run, and kept, at once
BALANCE, FOLDS, PERMUTE = 0, 1, 2  # streams of the seed
SETTINGS, WORLDS = "steerlab-multiverse-1", "steerlab-multiverse-worlds-1"
FILE = "multiverse.json"
RESULTS = ("layer", "alpha", "dose", "n", "baseline", "change", "low", "high", "z")


@dataclass(frozen=True)
class Specification:
    """One way to test the claim, as a small picklable description.

    Attributes:
        estimator: a name in `steerlab.ESTIMATORS`.
        layer_rule: "separable" (the layer whose contrast separates held-out problems best), or "early", "middle", "late" (a quarter, a half, three
            quarters of the candidate layers).
        measured: where activations are read: "last" (of the prompt) or "mean".
        positions: where the direction acts: "all" or "last".
        operator: a name in `steerlab.OPERATORS`.
        normalisation: "contrast" (the length of the true labels' mean difference) or "relative" (a fixed share of the median activation's length); "none"
            under operators to which length does not matter.

    Raises:
        ValueError: an unknown choice.

    Example:
        >>> Specification(operator="ablate").normalisation
        'none'
    """

    estimator: str = "mean_difference"
    layer_rule: str = "separable"
    measured: str = "last"
    positions: str = "all"
    operator: str = "add"
    normalisation: str = "contrast"

    def __post_init__(self) -> None:
        known: tuple[Collection[str], ...] = (ESTIMATORS, LAYER_RULES, MEASURED, ACTING, OPERATORS, (*LENGTHS, NO_LENGTH))
        for name, choices in zip(CHOICES, known, strict=True):
            one_of(getattr(self, name), name, choices)
        if (self.normalisation == NO_LENGTH) == (self.operator in SCALED):
            if self.operator in SCALED:
                raise InputError(f"normalisation={NO_LENGTH!r}: under {self.operator} length matters; use {' or '.join(LENGTHS)}")
            object.__setattr__(self, "normalisation", NO_LENGTH)


CHOICES = tuple(field.name for field in fields(Specification))


def specifications(
    *,
    estimators: Sequence[str] = ("mean_difference", "lda"),
    layer_rules: Sequence[str] = ("separable", "middle"),
    measured: Sequence[str] = ("last",),
    positions: Sequence[str] = ACTING,
    operators: Sequence[str] = ("add", "ablate"),
    normalisations: Sequence[str] = LENGTHS,
) -> list[Specification]:
    """Every combination of choices, each once; see `Specification` for what they are.

    Raises:
        ValueError: an unknown choice, or none of a kind.

    Example:
        >>> len(specifications()), len(specifications(estimators=["probe"], positions=["last"], operators=["ablate", "clamp"]))
        (24, 4)
    """
    given = dict(zip(CHOICES, (estimators, layer_rules, measured, positions, operators, normalisations), strict=True))
    for name, values in given.items():
        if not values:
            raise InputError(f"{name}: none given; give at least one")
    return list(dict.fromkeys(Specification(*values) for values in product(*given.values())))


@dataclass(frozen=True, eq=False)
class Multiverse(Plotted, figure="specification_curve"):
    """Effects of all specifications, and of the same with permuted labels.

    Attributes:
        frame: one line a specification and template: template, the choices (see `Specification`), layer, alpha, dose (relative; missing where length does
            not matter), n, baseline, change (on test) with low and high (95%, paired, by group), z (studentised, by group), and p_uncorrected (against
            the same specification with permuted labels).
        draws: one line a permutation and line of the frame: permutation, specification (the frame's line), layer, alpha, change, z.
        goal: what the specifications are meant to do, named beforehand: "raise" or "lower".
        measure: what is compared: accuracy, margin or nll.
        remarks: sentences on interventions that did nothing, and on groups of several splits.
    """

    frame: pd.DataFrame
    draws: pd.DataFrame
    goal: Goal
    measure: str
    remarks: tuple[str, ...]

    @property
    def n_permutations(self) -> int:
        """How many."""
        return int(self.draws["permutation"].nunique())

    @property
    def choices(self) -> tuple[str, ...]:
        """The columns in which specifications differ."""
        return tuple(name for name in ("template", *CHOICES) if self.frame[name].nunique() > 1)

    def test(self, statistic: str = "median") -> SequentialTest:
        """The joint permutation test: p = (1 + permutations at least as extreme) / (permutations + 1), one-sided towards the goal.

        Args:
            statistic: of the studentised changes of all specifications: "median", "mean", or "share" (of specifications with a change towards the goal).

        Raises:
            ValueError: another statistic.
        """
        one_of(statistic, "statistic", STATISTICS)
        alternative: OneSided = "greater"
        observed, drawn = self.frame["z"].to_numpy(float), self.draws["z"].to_numpy(float).reshape(self.n_permutations, -1)
        if statistic == "share":
            sign = 1 if self.goal == "raise" else -1
            observed, drawn = sign * observed > 0, sign * drawn > 0
        else:
            alternative = SIDES[self.goal]  # type: ignore[assignment]
        of = STATISTICS[statistic]
        return sequential_test(float(of(observed)), of(drawn, axis=1), planned=len(drawn), stop_after=None, alternative=alternative)

    def tests(self) -> pd.DataFrame:
        """The joint test by each statistic: statistic, observed, permuted (median), exceeds, p. The median decides; the others are not corrected for."""
        found = {name: self.test(name) for name in STATISTICS}
        return pd.DataFrame(
            [
                {
                    "statistic": name,
                    "observed": one.observed,
                    "permuted": float(np.median(one.controls)),
                    "exceeds": one.exceeds,
                    "p": one.pvalue,
                }
                for name, one in found.items()
            ]
        )

    def needed(self, level: float = LEVEL) -> float:
        """The median studentised change beyond which it would have been significant; infinite where so few permutations could show nothing."""
        sign = 1 if self.goal == "raise" else -1
        drawn = np.sort(sign * np.array(self.test().controls))[::-1]
        allowed = int(level * (len(drawn) + 1) * (1 + 1e-12)) - 1  # so many permutations may be as extreme
        return sign * (float(drawn[allowed]) if allowed >= 0 else np.inf)

    def summary(self) -> pd.DataFrame:
        """One line a choice, with all specifications that made it: choice, value, n, change and z (medians), towards_goal (share), permuted_z (median)."""
        sign = 1 if self.goal == "raise" else -1
        permuted_z = self.draws.groupby("specification")["z"].median()
        lines = []
        for name in self.choices or ("estimator",):
            for value, part in self.frame.groupby(name, sort=False):
                lines.append(
                    {"choice": name, "value": value, "n": len(part), "change": part["change"].median(), "z": part["z"].median(),
                     "towards_goal": float((sign * part["z"] > 0).mean()), "permuted_z": permuted_z[part.index].median()}
                )  # fmt: skip
        return pd.DataFrame(lines)

    def warnings(self) -> list[str]:
        """What a reader must know: interventions that did nothing, specifications that are the same, permutations too few."""
        said, cells = list(self.remarks), self.frame[["template", "estimator", "measured", "positions", "operator", "layer", "alpha"]]
        if same := int(cells.duplicated().sum()):
            said.append(
                f"{same} of {len(cells)} specifications came to the cell of another one; they count as often in the joint statistic."
            )
        if not np.isfinite(self.needed()):
            said.append(f"{self.n_permutations} permutations cannot give p at or below {LEVEL:g}; use at least {round(1 / LEVEL) - 1}.")
        return said

    def __str__(self) -> str:
        """The answer: verdict, sizes, what they were compared with, what could have been missed."""
        found, change = self.test(), self.frame["change"]
        towards = int(((1 if self.goal == "raise" else -1) * self.frame["z"] > 0).sum())
        held = significant(found.pvalue)
        beside = {row["statistic"]: format_p(row["p"], digits=2) for row in self.tests().to_dict("records")}
        needed = self.needed()
        return " ".join(
            [
                f"{'The labels matter' if held else 'No evidence that the labels matter'} over all {len(change)} specifications taken together.",
                f"Steering meant to {self.goal} {self.measure} changed it by {self._said(change.median())} in the median "
                f"({self._said(change.min(), change.max())}); {towards} of {len(change)} specifications {self.goal} it.",
                f"Against {self.n_permutations} joint permutations of the labels: {format_p(found.pvalue, digits=2)} (median studentised change "
                f"{found.observed:+.2f}; {np.median(found.controls):+.2f} in the median of permutations). By the mean {beside['mean']} and by the share of "
                f"specifications {beside['share']}, both uncorrected.",
                f"A median studentised change beyond {needed:+.2f} would have been significant." if np.isfinite(needed) else "",
            ]
        ).strip()

    def _said(self, *changes: float) -> str:
        scale, unit = (100, " points") if self.measure == "accuracy" else (1, "")
        return " to ".join(f"{scale * one:+.{1 if unit else 3}f}" for one in changes) + unit

    def __repr__(self) -> str:
        return f"Multiverse({len(self.frame)} specifications, {self.n_permutations} permutations, to {self.goal} {self.measure}, p={self.test().pvalue:.3g})"

    def report_parts(self) -> dict[str, Any]:
        """What `steerlab.write_report` shows of it: question, answer, figures and tables in words."""
        tables = {
            "specifications": ("Every specification, with its change on test.", self.frame),
            "choices": ("Medians over the specifications that made each choice.", self.summary()),
            "tests": ("The joint test by each statistic; the median decides, the others are not corrected for.", self.tests()),
            "permutations": ("", self.draws),
        }
        question = f"Do directions of right against wrong problems {self.goal} {self.measure}, however they are found and used?"
        caption = "Changes on test, sorted; the grey band holds 95% of the curves with permuted labels, rank by rank. Dots: what each specification chose."
        method = [
            "Every specification acts at one cell, which its rules fix before any steered outcome is seen, and is scored on test.",
            "In each permutation the labels of the train problems are permuted once, by group, and every specification is estimated and scored again. Exact "
            "under the null that labels are exchangeable given the activations, where lengths are relative; 'contrast' keeps the true labels' length, for "
            "permuted ones give shorter differences, which would do less by that alone.",
        ]
        return self._page(f"{len(self.frame)} specifications of one claim", question, caption, tables, method=method)


Labels = Mapping[str, tuple[Sequence[str], Sequence[str]]]  # of each template, ids that are called right and wrong


@dataclass(frozen=True)
class _Template:
    """One wording of the task: what directions are estimated from, and what they are tested on."""

    acts: Mapping[str, Activations]  # by where they are measured
    right: tuple[str, ...]
    wrong: tuple[str, ...]
    groups: Mapping[str, str]
    test: Sequence[Problem]
    lengths: Mapping[tuple[str, int], float]
    resid: Mapping[tuple[str, int], float]


class _World(NamedTuple):
    """A specification on a template with some labels, ready to run."""

    template: str
    specification: Specification
    direction: Direction
    alpha: float
    dose: float | None


@job("tasks", "specs", "n_permutations", "layers")
@takes_options
@on_suitable_threads
def multiverse(
    model: Model,
    tasks: Task | Mapping[str, Task],
    *,
    seed: int,
    specs: Iterable[Specification] | None = None,
    n_permutations: int = 99,
    goal: Goal = "lower",
    dose: float = 0.5,
    measure: str = "accuracy",
    layers: Sequence[int] | None = None,
    folder: str | Path | None = None,
    **options: Unpack[PassOptions],
) -> Multiverse:
    """The specification curve of a claim, with a joint permutation test over all specifications.

    Directions go from wrong to right problems. A goal of "raise" adds them, "lower" subtracts them; an operator without a sign, such as "ablate",
    does the same for both, and goes with "lower".

    Args:
        tasks: the task, or several wordings of it by name (templates); train and test problems are used, nothing is chosen. Labels of problems with one
            `Problem.group`, or without one with one id, in several templates are permuted together.
        seed: balancing, folds and permutations draw from streams that it determines.
        specs: what `specifications` gives; default its own default.
        n_permutations: of the labels, the same for all specifications; the smallest p-value is 1 / (n_permutations + 1).
        goal: the direction of the claim, named beforehand: "raise" or "lower" the measure.
        dose: length of an added vector relative to the median activation, for specifications that have it so.
        measure: "accuracy", "margin" or "nll".
        layers: candidates; default all.
        folder: keep what is finished there; a later call with the same settings goes on from it and comes to the same result.

    Raises:
        ValueError: unknown choices, templates without train or test problems, or that test what another one trains on, or nothing right or wrong.
        FileExistsError, OSError: a folder of something else, or of other settings, or with damaged files.

    Source:
        Simonsohn, Simmons and Nelson (2020), Specification curve analysis, Nature Human Behaviour 4, 1208-1214; Steegen et al. (2016), Perspectives on
        Psychological Science 11, 702-712 (multiverse).

    Example:
        >>> import steerlab as sl
        >>> model, task = sl.load_model("tiny-arithmetic"), sl.load_task("arithmetic", limit=24)
        >>> some = sl.specifications(estimators=["mean_difference"], positions=["last"], operators=["add"])
        >>> found = sl.multiverse(model, task, seed=0, specs=some, n_permutations=3, layers=[2, 3])
        >>> len(found.frame), found.test().smallest_p
        (4, 0.25)
    """
    wanted = specifications() if specs is None else list(dict.fromkeys(specs))
    if not wanted:
        raise InputError("specs: none given; give at least one")
    n_permutations = count(n_permutations, "n_permutations", at_least=1)
    one_of(goal, "goal", GOALS)
    one_of(measure, "measure", SCORES)
    if not is_number(dose, 0):
        raise InputError(f"dose={dose!r}; use a positive number, such as 0.5")
    named = dict(tasks) if isinstance(tasks, Mapping) else {getattr(tasks, "name", ""): tasks}
    _check_templates(named)
    where = list(range(n_layers(model))) if layers is None else list(layers)
    blocks = [range(1), *(range(k, min(k + TOGETHER, n_permutations + 1)) for k in range(1, n_permutations + 1, TOGETHER))]
    if options["progress"]:
        work = [unsteered(model, task.train, rows_of(model, task.train)) for task in named.values()]
        for task in named.values():
            runs = (1 + n_permutations) * (len(wanted) + 1) * rows_of(model, task.test)
            work.append(steered(model, task.test, runs, layers=where, together=len(wanted) * TOGETHER, **only(options, Limits)))
        forecast(model, work, show=True, extra=f" in {len(blocks)} parts, at most")
    settings = {
        "seed": seed, "n_permutations": n_permutations, "goal": goal, "dose": dose, "measure": measure, "layers": where,
        "specifications": [asdict(one) for one in wanted], "templates": {name: _digest(task) for name, task in named.items()},
        "model": brief(describe(model)),
    }  # fmt: skip
    with nullcontext() if folder is None else _files.locked(folder):
        store = _Store(folder, settings)
        parts: dict[str, _Template] = {}
        run = partial(_run, model, parts, wanted, seed=seed, goal=goal, dose=dose, measure=measure, limits=only(options, Limits))
        found: list[dict[str, Any]] = []
        remarks: list[str] = []
        for block in progress_bar(blocks, desc="permutations", unit="part", show=options["progress"], foretold=True):
            kept = store.read(block)
            if kept is None:
                if not parts:
                    parts |= {
                        name: _template(model, task, wanted, where, np.random.default_rng([seed, BALANCE, k]), options)
                        for k, (name, task) in enumerate(named.items())
                    }
                lines, said = run(block)
                kept = store.write(block, {"lines": lines, "remarks": said})
            found += kept["lines"]
            remarks += kept["remarks"]
    table = pd.DataFrame(found)
    frame, draws = (part.reset_index(drop=True) for part in (table[table["permutation"] == 0], table[table["permutation"] > 0]))
    frame = frame[["template", *CHOICES, *RESULTS]].astype({"dose": float, "n": int})
    frame["p_uncorrected"] = [
        sequential_test(z, draws["z"][draws["specification"] == k], planned=n_permutations, stop_after=None, alternative=SIDES[goal]).pvalue  # type: ignore[arg-type]
        for k, z in enumerate(frame["z"].tolist())
    ]
    for name, task in named.items():
        remarks += [f"{name}: {said}." for said in spread_groups(train=task.train, test=task.test)]
    return Multiverse(
        frame, draws[["permutation", "specification", "layer", "alpha", "change", "z"]], goal, measure, tuple(dict.fromkeys(remarks))
    )


def _check_templates(tasks: Mapping[str, Task]) -> None:
    if not tasks:
        raise InputError("tasks: none given; give at least one")
    for name, task in tasks.items():
        check_task(task)
        for split in ("train", "test"):
            if not getattr(task, split):
                raise InputError(f"the {split} split of {name!r} is empty; every template needs train and test problems")
        for other, tested in tasks.items():
            if both := in_both(task.train, tested.test):
                raise InputError(f"{both[0].id!r} is trained on in {name!r} and tested in {other!r}; keep what is tested out of train")


def _digest(task: Task) -> str:
    """Of the problems that are used, in their order."""
    said = repr([[(p.id, *content(p), p.group) for p in split] for split in (task.train, task.test)])
    return sha256(f"{said} {task.scorer}".encode(errors="surrogatepass")).hexdigest()


def _template(
    model: Model, task: Task, specs: Sequence[Specification], layers: Sequence[int], rng: np.random.Generator, options: PassOptions
) -> _Template:
    """Evaluate train, balance right and wrong, and cache where specifications measure."""
    limits = only(options, Limits)
    evaluation, state = evaluate(model, task.train, **limits), rng.bit_generator.state
    acts: dict[str, Activations] = {}
    lengths, resid = dict[tuple[str, int], float](), dict[tuple[str, int], float]()
    right: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()
    for measured in dict.fromkeys(one.measured for one in specs):
        rng.bit_generator.state = state  # the same problems wherever they are measured
        both, ours, theirs = balanced_activations(model, evaluation, rng=rng, layers=layers, positions=measured, **limits)
        acts[measured], right, wrong = both, ours.problem_ids, theirs.problem_ids
        for layer in layers:
            lengths[measured, layer] = mean_difference(ours, theirs, layer=layer).norm
            resid[measured, layer] = float(np.median(both.at(layer)[both.mask].norm(dim=-1).double().cpu().numpy()))
    groups = dict(zip((p.id for p in task.train), groups_of(task.train), strict=True))
    return _Template(acts, right, wrong, groups, task.test, lengths, resid)


def _relabelling(parts: Mapping[str, _Template]) -> Callable[[np.random.Generator], Labels]:
    """Permutations of all templates' labels: each template by itself, or all at once where they share groups, whose labels then stay together."""
    of = [{part.groups[one] for one in (*part.right, *part.wrong)} for part in parts.values()]
    together = len(set().union(*of)) < sum(map(len, of))
    pools = [list(parts)] if together else [[name] for name in parts]
    names = list(parts)
    shuffles = []
    for pool in pools:
        sides = [[f"{names.index(name)} {one}" for name in pool for one in getattr(parts[name], side)] for side in ("right", "wrong")]
        groups = {f"{names.index(name)} {one}": group for name in pool for one, group in parts[name].groups.items()}
        shuffles.append(permuted(*(_places(ids) for ids in sides), groups=groups))

    def draw(rng: np.random.Generator) -> Labels:
        while True:
            found: dict[str, tuple[list[str], list[str]]] = {name: ([], []) for name in names}
            for shuffle in shuffles:
                for side, group in enumerate(shuffle(rng)):
                    for place, _, one in (key.partition(" ") for key in group.problem_ids):
                        found[names[int(place)]][side].append(one)
            if all(ours and theirs for ours, theirs in found.values()):  # where templates share groups, one might be left without a side
                return found

    return draw


def _places(ids: Sequence[str]) -> Activations:
    """Problems without activations: what is permuted are their labels, for whatever was measured of them."""
    return Activations(
        torch.zeros(len(ids), 1, 1, 1), torch.ones(len(ids), 1, dtype=torch.bool), tuple(ids), (0,), "resid_post", "last", {}
    )


def _worlds(
    part: _Template, name: str, specs: Sequence[Specification], labels: tuple[Sequence[str], Sequence[str]], *, rng: np.random.Generator,
    goal: Goal, dose: float,
) -> list[_World]:  # fmt: skip
    """Every specification on one template with these labels: its layer, direction and alpha."""
    sides = {measured: (acts.select(labels[0]), acts.select(labels[1])) for measured, acts in part.acts.items()}
    worth = {}
    if any(one.layer_rule == "separable" for one in specs):
        worth = {measured: separability(both[0], both[1], both[0].layers, rng=rng) for measured, both in sides.items()}
    made: dict[tuple[str, str, int], Direction] = {}
    found, sign = [], 1 if goal == "raise" else -1
    for one in specs:
        layer = _layer(one, sides[one.measured][0].layers, worth.get(one.measured))
        key, length = (one.estimator, one.measured, layer), part.lengths[one.measured, layer]
        if key not in made:
            vector = ESTIMATORS[one.estimator](*sides[one.measured], layer=layer)
            made[key] = vector.with_vector(vector.vector * (length / vector.norm), f"{one.estimator}, {one.measured}")
        direction, resid = made[key], part.resid[one.measured, layer]
        alpha = {"contrast": sign, "relative": sign * dose * resid / direction.norm}.get(one.normalisation, sign)
        alpha = 1.0 if one.operator == "ablate" else float(alpha)
        found.append(_World(name, one, direction, alpha, relative_dose(direction, alpha, resid) if one.operator in SCALED else None))
    return found


def _layer(one: Specification, layers: Sequence[int], worth: Mapping[int, float] | None) -> int:
    share = LAYER_RULES[one.layer_rule]
    if share is not None or worth is None:  # too few problems to tell: the middle
        return sorted(layers)[int(len(layers) * (0.5 if share is None else share))]
    return min(layers, key=lambda layer: (-worth[layer], layer))


def _run(
    model: Model, parts: Mapping[str, _Template], specs: Sequence[Specification], block: range, *, seed: int, goal: Goal, dose: float, measure: str,
    limits: Limits,
) -> tuple[list[dict[str, Any]], list[str]]:  # fmt: skip
    """What every specification did under some permutations (0: the true labels), and what must be known of it."""
    relabelled = _relabelling(parts)
    worlds: list[tuple[int, int, _World]] = []
    for k in block:
        labels: Labels = {name: (part.right, part.wrong) for name, part in parts.items()}
        if k:
            labels = relabelled(np.random.default_rng([seed, PERMUTE, k]))
        rng = np.random.default_rng([seed, FOLDS, k])
        each = [one for name, part in parts.items() for one in _worlds(part, name, specs, labels[name], rng=rng, goal=goal, dose=dose)]
        worlds += [(k, number, one) for number, one in enumerate(each)]
    lines: dict[tuple[int, int], dict[str, Any]] = {}
    said: list[str] = []
    ways = dict.fromkeys((one.template, one.specification.operator, one.specification.positions) for *_, one in worlds)
    for way in ways:
        name, operator, positions = way
        mine = [w for w in worlds if (w[2].template, w[2].specification.operator, w[2].specification.positions) == way]
        cells = {(id(one.direction), one.alpha): (one.direction, one.alpha) for *_, one in mine}
        done = score_vectors(model, parts[name].test, list(cells.values()), operator=operator, positions=positions, **limits)
        after = dict(zip(cells, done.frames, strict=True))
        for k, number, one in mine:
            effect = _effect(done.baseline.frame, after[id(one.direction), one.alpha], measure, groups_of(parts[name].test), full=k == 0)
            place: dict[str, Any] = {"permutation": k, "specification": number, "layer": one.direction.layer, "alpha": one.alpha}
            about = {} if k else {"template": name, **asdict(one.specification)}
            lines[k, number] = about | place | ({} if k else {"dose": one.dose}) | effect
        if 0 in block:
            said += [f"{name}, {operator} at {positions}: {one}" for one in inert(done.checks)]
    return [lines[key] for key in sorted(lines)], said


def _effect(before: pd.DataFrame, after: pd.DataFrame, measure: str, groups: Sequence[str], *, full: bool) -> dict[str, Any]:
    """Change of the measure, studentised, and where `full`, its interval."""
    column = MEASURES.get(measure, measure)
    was, now = before[column].to_numpy(), after[column].to_numpy()
    change = now.astype(float) - was.astype(float)
    found = {"change": float(change.mean()), "z": float(studentised(change, groups))}
    if not full:
        return found
    interval = change_interval(was, now, groups)
    return {"n": len(was), "baseline": float(was.mean()), **found, "low": interval.low, "high": interval.high}


class _Store:
    """Finished parts in a folder, sealed, and read again only under the same settings; without a folder nothing is kept."""

    def __init__(self, folder: str | Path | None, settings: Mapping[str, Any]) -> None:
        self._folder, self._settings = None if folder is None else Path(folder), settings
        if self._folder is not None:
            self._check(self._folder)

    def _check(self, folder: Path) -> None:
        if not (folder / FILE).is_file():
            _files.check_vacant(folder, "a multiverse of ours")
            _files.writable_folder(folder / "permutations")
            _files.write_sealed(folder / FILE, SETTINGS, self._settings)
            return
        kept = _files.read_sealed(folder / FILE, SETTINGS, "give another folder, or remove this one to begin anew")
        for name, wanted in self._settings.items():
            if kept.get(name) != wanted:
                shown = "" if isinstance(wanted, list | dict) else f" was {kept.get(name)!r} and is {wanted!r} now"
                raise InputError(f"{folder} is of another multiverse: {name}{shown or ' differ'}; use its settings, or another folder")

    def _file(self, block: range) -> Path:
        return Path(self._folder or "") / "permutations" / f"{block[0]:05d}-{block[-1]:05d}.json"

    def read(self, block: range) -> dict[str, Any] | None:
        """A finished part, if it is one."""
        if self._folder is None or not self._file(block).is_file():
            return None
        return _files.read_sealed(self._file(block), WORLDS, "remove it, and it is run again")

    def write(self, block: range, found: dict[str, Any]) -> dict[str, Any]:
        """Keep a part."""
        if self._folder is not None:
            _files.write_sealed(self._file(block), WORLDS, found)
        return found
