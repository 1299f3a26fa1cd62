"""Whole pipelines: choose a cell on validation, test it on other problems, compare it with controls, and say a verdict.

Simulated answers stand for a language model's. The rows "as before" are what a protocol gets wrong that pays for the choice on one
side, takes problems as independent, counts churn as an effect, or compares with isotropic directions alone.
"""

from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from steerlab import statistics as st
from steerlab.activations.cache import Activations
from steerlab.directions.estimators import mean_difference
from steerlab.directions.random import Drawn, random_pipelines, shuffled_pipelines
from steerlab.statistics.sequential import studentised
from steerlab.statistics.verdicts import VERDICTS
from steerlab.validation.scenarios._common import LEVELS, Outcome, Scenario, rejected
from steerlab.validation.scenarios.against_controls import effects
from steerlab.validation.scenarios.families import DIMENSIONS, SPREAD, reader

Side = Literal["greater", "less"]
CONTROLS, STOP = 99, 10  # pipelines of each kind at most, and how many at least as good end a test
VALIDATION, TEST, CELLS, TOGETHER = 300, 400, 72, 4
FLIPS = 2000  # sign-flips of one test
SPECIFIC, NOT_SPECIFIC, UNUSUAL, NOTHING = (VERDICTS[key] for key in ((True, True), (True, False), (False, True), (False, False)))

SELECTION = "the direction has the best of 72 cells, its controls have no choice; let each choose for itself"
CLUSTERS = "problems of one group share their fate; flip whole groups"
CHURN = "it flips more answers than its controls, so that its net change varies more by chance alone; studentise it"
ESTIMATED = (
    "an estimated direction lies where activations vary, also with labels that mean nothing; "
    "if the model reads more there, it moves more than random ones; ask for shuffled labels, too"
)


@dataclass(frozen=True)
class World:
    """What steering does to answers: at every cell a share of them flips, and accuracy changes by the cell's true effect.

    Attributes:
        flips: share of answers that flip; more where the effect alone takes more.
        own_flips: the same, of the direction under test; default the same.
        sd: of true effects, which each direction draws for each cell.
        shared: true effect at all cells of all directions, added.
        own: true effect of the direction under test at its last `places` cells, added.
        places: how many.
        cells: how many a pipeline chooses from.
        groups: whether test problems come in groups of four that share their fate. Validation problems are independent.
    """

    flips: float = 0.1
    own_flips: float | None = None
    sd: float = 0.0
    shared: float = 0.0
    own: float = 0.0
    places: int = 6
    cells: int = CELLS
    groups: bool = False

    def effects(self, rng: np.random.Generator, k: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """True effects, and shares that flip, of the direction (first) and k controls: [direction, cell]."""
        true = self.shared + self.sd * rng.normal(size=(k + 1, self.cells))
        true[0, self.cells - self.places :] += self.own
        flips = np.full((k + 1, 1), self.flips)
        flips[0] = self.flips if self.own_flips is None else self.own_flips
        return true, np.maximum(flips, np.abs(true))


def mean_changes(rng: np.random.Generator, n: int, effect: NDArray[np.float64], flips: NDArray[np.float64]) -> NDArray[np.float64]:
    """Changes of accuracy on n problems, half of which are right in the mean; wrong ones flip with probability flips + effect, right ones with flips - effect."""
    wrong = rng.binomial(n, 0.5)
    return np.asarray((rng.binomial(wrong, _share(flips + effect)) - rng.binomial(n - wrong, _share(flips - effect))) / n)


def answers(
    rng: np.random.Generator, groups: NDArray[np.intp], effect: NDArray[np.float64], flips: NDArray[np.float64], together: float = 1.0
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Right or wrong before [problem] and after [direction, problem]; a share of the problems do as their group does, the others alone."""
    n = groups.size
    follows = rng.random(n) < together
    place = np.where(follows, groups, n + np.arange(n))  # where a problem's luck stands: its group's, or its own
    before = (rng.random(2 * n) < 0.5)[place]
    luck = rng.random((effect.size, 2 * n))[:, place]
    up, down = _share(flips + effect)[:, None], _share(flips - effect)[:, None]
    return before, before ^ (luck < np.where(before, down, up))


def _share(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.clip(values, 0.0, 1.0)


class Run(NamedTuple):
    """Test outcomes before, and after at the cell of each pipeline; the direction's is the first."""

    before: NDArray[np.bool_]
    after: NDArray[np.bool_]
    groups: NDArray[np.intp] | None = None

    def net(self) -> tuple[float, NDArray[np.float64]]:
        """Net changes: the direction's, and the controls'."""
        observed, *controls = self.after.mean(1) - self.before.mean()
        return observed, np.array(controls)

    def against(self, which: slice, side: Side, *, planned: int = CONTROLS, stop_after: int | None = STOP) -> st.SequentialTest:
        """The direction among some of the controls, by studentised changes."""
        observed = st.studentised_change(self.before, self.after[0], groups=self.groups)
        controls = studentised(self.after[1:][which].astype(float) - self.before, self.groups)
        return st.sequential_test(observed, controls, planned=planned, stop_after=stop_after, alternative=side)

    def effect(self, rng: np.random.Generator, side: Side) -> float:
        """P-value of the direction's own net change."""
        test = st.sign_flip_test(self.before, self.after[0], rng=rng, groups=self.groups, n_resamples=FLIPS, alternative=side)
        return test.pvalue


def run(rng: np.random.Generator, world: World, k: int, *, side: Side = "greater", matched: bool = True) -> Run:
    """The direction's pipeline and k controls: each at the cell that is best for itself on validation, or all at the direction's."""
    true, flips = world.effects(rng, k)
    seen = mean_changes(rng, VALIDATION, true, flips) if world.cells > 1 else np.zeros_like(true)
    best = (seen if side == "greater" else -seen).argmax(1)
    at = (np.arange(k + 1), best if matched else np.full(k + 1, best[0]))
    groups = np.arange(TEST) // (TOGETHER if world.groups else 1)
    return Run(*answers(rng, groups, true[at], flips[at]), groups if world.groups else None)


def _same_cell(world: World, rng: np.random.Generator) -> NDArray[np.float64]:
    """As before: controls have no choice, net changes are as they are, extreme is far from the median."""
    return rejected(st.rank_test(*run(rng, world, CONTROLS, matched=False).net()).pvalue)


def _matched(world: World, side: Side, rng: np.random.Generator) -> NDArray[np.float64]:
    return rejected(run(rng, world, CONTROLS, side=side).against(slice(None), side).pvalue)


def _stopped(shift: float, stop_after: int | None, rng: np.random.Generator) -> NDArray[np.float64]:
    observed, controls = effects(rng, CONTROLS, shift, "skewed")
    return rejected(st.sequential_test(observed, controls, planned=CONTROLS, stop_after=stop_after).pvalue)


def _clustered(how: Literal["sign", "flips", "groups"], change: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """300 problems in 77 groups; a half of them do as their group does."""
    groups = np.arange(300) % 77
    before, (after,) = answers(rng, groups, np.array([change]), np.array([0.2]), 0.5)
    if how == "sign":
        return rejected(st.sign_test(before, after).pvalue)
    return rejected(st.sign_flip_test(before, after, rng=rng, groups=groups if how == "groups" else None, n_resamples=FLIPS).pvalue)


def _with_a_harmful_one(old: bool, shift: float, k: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Among the controls one does great harm."""
    observed, controls = effects(rng, k, shift)
    controls[0] = -20.0
    if old:
        return rejected(st.rank_test(observed, controls).pvalue)
    return rejected(st.sequential_test(observed, controls, planned=k, stop_after=STOP).pvalue)


def _kinds(found: Run, side: Side) -> dict[str, st.SequentialTest]:
    """The tests against the first half of the controls, and against the second."""
    return {"random": found.against(slice(CONTROLS), side), "shuffled": found.against(slice(CONTROLS, None), side)}


def _judged(found: Run, side: Side, rng: np.random.Generator) -> NDArray[np.float64]:
    """Which verdict it is, and what share of the planned controls were drawn: [outcome, level]."""
    kinds = _kinds(found, side)
    effect, against = found.effect(rng, side), {name: test.pvalue for name, test in kinds.items()}
    said = [st.verdict(effect, against, level=level).text for level in LEVELS]
    drawn = sum(test.n_controls for test in kinds.values()) / (len(kinds) * CONTROLS)
    return np.array([*([text == one for one in said] for text in VERDICTS.values()), [drawn] * len(LEVELS)], float)


def _verdict(world: World, rng: np.random.Generator) -> NDArray[np.float64]:
    return _judged(run(rng, world, 2 * CONTROLS), "greater", rng)


# Estimated directions


N, HELD_OUT, SCORED = 40, 100, 300  # activations that directions are estimated from; validation and test problems
LAYERS, ALPHAS = (0, 1), (-1.0, -0.5, -0.25, 0.25, 0.5, 1.0)


def _activations(rng: np.random.Generator, n: int, real: float = 0.0) -> Activations:
    """Activations that vary much in few dimensions, alike at both layers; of a real contrast the first half lies further along what is read."""
    values = rng.normal(size=(n, 1, 1, DIMENSIONS)) + 0.5 * rng.normal(size=(n, len(LAYERS), 1, DIMENSIONS))
    values = values * SPREAD + 1
    values[: n // 2] += real * reader("varied")[0]
    mask = torch.ones(n, 1, dtype=torch.bool)
    return Activations(torch.from_numpy(values).float(), mask, tuple(map(str, range(n))), LAYERS, "resid_post", "last", {})


def right(values: NDArray[np.floating], moves: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Whether a reader that reads where activations vary says yes: [move, problem]; it says so to somewhat more than half when nothing moves."""
    linear, into, out = (part.astype(np.float32) for part in reader("varied"))
    read = values @ linear + (moves @ linear)[:, None] + np.tanh(values @ into + (moves @ into)[:, None]) @ out
    still = linear.sum() + np.tanh(into.sum(0)) @ out  # at the mean activation
    return np.asarray(read > still)


def _estimated(
    rng: np.random.Generator,
    *,
    real: float = 0.0,
    side: Side = "less",
    kinds: tuple[str, ...] = ("random", "shuffled"),
    fixed: bool = False,
) -> Run:
    """A mean difference of labels by chance (or a real contrast), and control pipelines: each chooses a layer and alpha, or random ones alone, all at the most negative alpha."""
    acts = _activations(rng, N, real)
    sides = [acts.select(acts.problem_ids[some]) for some in (slice(N // 2), slice(N // 2, None))]
    mine = {layer: mean_difference(*sides, layer=layer) for layer in LAYERS}
    drawn = [Drawn(mine)]
    for draw in (random_pipelines, shuffled_pipelines(*sides, folds=0))[: 1 if fixed else 2]:
        drawn += islice(draw(mine, rng), CONTROLS)
    vectors = np.array([[one.directions[layer].vector.numpy() for layer in LAYERS] for one in drawn])
    cells = [(0, min(ALPHAS))] if fixed else [(layer, alpha) for layer in LAYERS for alpha in ALPHAS]
    moves = np.stack([alpha * vectors[:, layer] for layer, alpha in cells], axis=1)
    seen, scored = (_activations(rng, n).at(0)[:, 0].numpy() for n in (HELD_OUT, SCORED))
    accuracy = right(seen, moves.reshape(-1, DIMENSIONS)).mean(1).reshape(moves.shape[:2])
    best = (accuracy if side == "greater" else -accuracy).argmax(1)
    after = right(scored, moves[np.arange(len(drawn)), best])
    return Run(right(scored, np.zeros((1, DIMENSIONS), np.float32))[0], after)


def _most_negative(rng: np.random.Generator) -> NDArray[np.float64]:
    return rejected(st.rank_test(*_estimated(rng, fixed=True).net()).pvalue)


def _estimated_verdict(real: float, side: Side, rng: np.random.Generator) -> NDArray[np.float64]:
    """Whether each kind of controls alone rejects, and the verdict: [outcome, level]."""
    found = _estimated(rng, real=real, side=side)
    alone = [rejected(test.pvalue) for test in _kinds(found, side).values()]
    return np.concatenate([alone, _judged(found, side, rng)])


def _detectable(rng: np.random.Generator) -> NDArray[np.float64]:
    """One-sided flips of 400 problems in groups, with the change that other problems say would be detected in 80% of cases."""
    groups, nothing, flips = np.arange(TEST) // TOGETHER, np.zeros(1), np.array([0.2])
    before, (after,) = answers(rng, groups, nothing, flips)
    change = st.detectable_change(before, after, groups=groups) or 0.0
    before, (after,) = answers(rng, groups, np.array([change]), flips)
    return rejected(st.sign_flip_test(before, after, rng=rng, groups=groups, n_resamples=FLIPS, alternative="greater").pvalue)


DRAWN = "share of the 99 controls that were drawn"


def _told(*right: str, power: bool = False, alone: bool = False) -> tuple[Outcome, ...]:
    """What a verdict's simulation tells: verdicts other than those that are right are false, unless a real effect may be missed."""
    kinds = (Outcome("beats random ones alone", not power, ESTIMATED), Outcome("beats those of shuffled labels", not power))
    verdicts = (Outcome(f'"{text}"', not power and text not in right) for text in VERDICTS.values())
    return (*(kinds if alone else ()), *verdicts, Outcome(DRAWN, False))


OLD, NEW = "as before: rank test at the direction's cell", "99 pipelines that choose for themselves"
JUDGED = "99 pipelines of two kinds"
VARY_2, VARY_4 = World(sd=0.02), World(sd=0.04)
CHOSEN: tuple[tuple[World, Side, str], ...] = ((VARY_2, "greater", ""), (VARY_4, "greater", ""), (VARY_4, "less", ", to lower"))
CHURNS = "flips 6.8% of answers, its controls 2.5%, no net effect"
ONE_CELL = World(flips=0.025, own_flips=0.068, cells=1)
REAL = World(sd=0.02, own=0.06)
IN_72, OF_72 = "a random direction, 72 cells, 10% of answers flip, effects of sd", "+6 points in 6 of 72 cells, other effects of sd 2"
CLUSTERED = "300 problems in 77 groups"

SCENARIOS: list[Scenario] = [
    # Selection
    *(
        Scenario(OLD, f"{IN_72} {100 * world.sd:g} points", partial(_same_cell, world), why=SELECTION, share=0.1)
        for world in (VARY_2, VARY_4)
    ),
    *(Scenario(NEW, f"{IN_72} {100 * world.sd:g} points{said}", partial(_matched, world, side), share=0.1) for world, side, said in CHOSEN),
    *(Scenario(f"sequential test, stops at {stop}", "99 controls, skewed", partial(_stopped, 0.0, stop)) for stop in (STOP, 3)),
    # Groups
    Scenario("as before: sign test", CLUSTERED, partial(_clustered, "sign", 0.0), why=CLUSTERS, share=0.3),
    Scenario("as before: sign flips of problems", CLUSTERED, partial(_clustered, "flips", 0.0), why=CLUSTERS, share=0.3),
    Scenario("sign flips of groups", CLUSTERED, partial(_clustered, "groups", 0.0), share=0.3),
    # Churn
    Scenario(OLD, f"one cell, {CHURNS}", partial(_same_cell, ONE_CELL), why=CHURN, share=0.3),
    Scenario(NEW, f"one cell, {CHURNS}", partial(_matched, ONE_CELL, "greater"), share=0.3),
    Scenario(NEW, f"one cell, {CHURNS}, to lower", partial(_matched, ONE_CELL, "less"), share=0.3),
    # Estimated directions, and verdicts
    Scenario(
        "as before: 99 isotropic directions at the most negative alpha",
        "chance labels, reader where activations vary",
        _most_negative,
        why=ESTIMATED,
        share=0.05,
    ),
    Scenario(
        JUDGED,
        "chance labels, reader where activations vary, to lower",
        partial(_estimated_verdict, 0.0, "less"),
        share=0.04,
        outcomes=_told(NOT_SPECIFIC, NOTHING, alone=True),
    ),
    *(
        Scenario(JUDGED, setting, partial(_verdict, world), share=0.1, outcomes=_told(*right))
        for setting, world, right in (
            ("no effect", World(cells=12), (NOTHING,)),
            ("no effect, groups of 4", World(cells=12, groups=True), (NOTHING,)),
            (CHURNS, World(cells=12, flips=0.025, own_flips=0.068), (NOTHING,)),
            ("effects of sd 2 points in all directions", World(cells=12, sd=0.02), (NOT_SPECIFIC, NOTHING)),
            ("+6 points in all directions", World(cells=12, shared=0.06), (NOT_SPECIFIC, NOTHING)),
            ("no effect, -6 points in all other directions", World(cells=12, shared=-0.06, own=0.06, places=12), (UNUSUAL, NOTHING)),
        )
    ),
    # A real effect
    Scenario(OLD, OF_72, partial(_same_cell, REAL), null=False, share=0.1),
    Scenario(NEW, OF_72, partial(_matched, REAL, "greater"), null=False, share=0.1),
    Scenario("sequential test, stops at 10", "99 controls, skewed, 3 sd away", partial(_stopped, 3.0, STOP), null=False),
    Scenario("as before: sign flips of problems", f"{CLUSTERED}, +8 points", partial(_clustered, "flips", 0.08), null=False, share=0.3),
    Scenario("sign flips of groups", f"{CLUSTERED}, +8 points", partial(_clustered, "groups", 0.08), null=False, share=0.3),
    Scenario(
        "sign flips of groups, one-sided",
        "100 groups of 4, the change that is called detectable in 80%",
        _detectable,
        null=False,
        share=0.3,
    ),
    *(
        Scenario(name, f"{k} controls, one of which does great harm, 3 sd away", partial(_with_a_harmful_one, old, 3.0, k), null=False)
        for k in (19, CONTROLS)
        for name, old in (("as before: two-sided rank test", True), ("one-sided sequential test", False))
    ),
    *(
        Scenario(JUDGED, setting, partial(_verdict, world), share=0.1, outcomes=_told(power=True))
        for setting, world in (
            ("+4 points in 2 of 12 cells, no other effects", World(cells=12, places=2, own=0.04)),
            ("+6 points in 2 of 12 cells, other effects of sd 2", World(cells=12, places=2, own=0.06, sd=0.02)),
        )
    ),
    Scenario(
        JUDGED,
        "groups differ along what is read, to raise",
        partial(_estimated_verdict, 5.0, "greater"),
        share=0.02,
        outcomes=_told(power=True, alone=True),
    ),
]
