"""Emergent Activation Snapping against its baselines on one stream: is a change the Watcher's doing, or any nudge's?

All variants see the same problems, so the comparison is paired and each prompt runs to the watched layer once. Two variants are
compared by the exact sign test on the problems that they answer differently. It stays exact although a Watcher depends on its
earlier answers: given the past, each such problem is a fair coin if neither is better.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Unpack

import numpy as np
import pandas as pd

from steerlab._checks import InputError, count, one_of, only, takes_options
from steerlab._html import OneLine, Plotted, figure
from steerlab._progress import job
from steerlab.models.backends import Model
from steerlab.models.forecasts import Work, forecast
from steerlab.models.memory import Limits, PassOptions
from steerlab.models.model import d_model
from steerlab.statistics._format import format_p
from steerlab.statistics.intervals import wilson_interval
from steerlab.statistics.multiplicity import holm
from steerlab.statistics.paired import SignTest, sign_test
from steerlab.studies.eas.stream import STREAM_COLUMNS, check_stream, run_eas, stream
from steerlab.studies.eas.watcher import VARIANTS, Watcher, Watching, random_attractors, variant_named
from steerlab.sweeps.effects import change_of, points
from steerlab.tasks.problems import Problem
from steerlab.tasks.scorers import Scorer, scorer_for

Window = Literal["all", "before", "after"]
Verdict = Literal["held", "did not hold", "undecided", "not tested"]
FEWEST = 30  # problems after the last update in question, below which nothing is said about them


@dataclass(frozen=True)
class Claim(OneLine, shown="points updates n change low high pvalue verdict"):
    """Did a Watcher gain so many points of accuracy within so many updates?

    Attributes:
        points, updates: what was claimed: a share of 1, and a number of updates.
        n: problems answered after so many updates.
        change, low, high: accuracy there, with the Watcher minus without, and its 95% paired interval; NaN without such problems.
        pvalue: of the two-sided sign test there.
        over_random: the same change against random attractors that are never updated, and its p-value.
        verdict: "held" if the whole interval is at or above the claim, "did not hold" if all of it is below, "undecided" if it holds both,
            "not tested" if the stream ended too early.
    """

    points: float
    updates: int
    n: int
    change: float
    low: float
    high: float
    pvalue: float
    over_random: tuple[float, float]
    verdict: Verdict

    def __str__(self) -> str:
        claim = f"The claim, {100 * self.points:+g} points within {self.updates} updates, "
        if self.verdict == "not tested":
            return claim + f"was not tested: the stream has {self.n} problems after update {self.updates}, and {FEWEST} are needed."
        random, p = self.over_random
        beside = "" if math.isnan(random) else f" Against random attractors that never learn: {points(random)} points, {format_p(p)}."
        word = "is undecided" if self.verdict == "undecided" else self.verdict
        return (
            f"{claim}{word}: {points(self.change)} points on the {self.n} problems after update {self.updates} (95% interval "
            f"{points(self.low, self.high)}, sign test {format_p(self.pvalue)}).{beside}"
        )


@dataclass(frozen=True, eq=False)
class EASComparison(Plotted, figure="eas_stream"):
    """Outcomes of a Watcher and its baselines on one stream of problems.

    Attributes:
        frame: one line a variant, repeat and problem: variant, repeat, then the columns of the frame of `steerlab.EASResult`. Repeats differ in
            the attractors that they start from; "no_watcher" has one.
        watcher: the settings that the variants change.
        layer: the watched layer.
        variants: their names, in order.
        repeats: starts of the attractors.
        latency: median seconds of a problem under each variant alone; empty where it was not measured.
        scorer: name of the scorer.
    """

    frame: pd.DataFrame
    watcher: Watcher
    layer: int
    variants: tuple[str, ...]
    repeats: int
    latency: "pd.Series[float]"
    scorer: str

    def outcomes(self, variant: str, repeat: int = 0) -> pd.DataFrame:
        """The lines of one variant and repeat, in the order of the stream.

        Raises:
            ValueError: a variant or repeat that was not run.
        """
        if variant not in self.variants:
            raise InputError(f"variant={variant!r} was not run; use one of {', '.join(self.variants)}")
        repeat = 0 if variant == "no_watcher" else repeat
        mine = self.frame[(self.frame["variant"] == variant) & (self.frame["repeat"] == repeat)]
        if mine.empty:
            raise InputError(f"repeat={repeat}: there are {self.repeats}; use 0 to {self.repeats - 1}")
        return mine.reset_index(drop=True)

    def sign_test(
        self, variant: str, against: str = "no_watcher", *, repeat: int = 0, window: Window = "all", updates: int = 30
    ) -> SignTest:
        """One variant against another on the same problems.

        Args:
            variant, against: their names.
            repeat: which start of the attractors.
            window: "all" problems, or those "before" or "after" the variant had time for so many updates.
            updates: how many.

        Raises:
            ValueError: a variant, repeat or window that there is not, or a window without problems.
        """
        mine, theirs = self.outcomes(variant, repeat), self.outcomes(against, repeat)
        where = self._window(mine, window, updates)
        if not where.any():
            raise InputError(f"window={window!r}: no problem is {window} update {updates}; give a longer stream")
        return sign_test(theirs["correct"][where], mine["correct"][where])

    def _window(self, mine: pd.DataFrame, window: Window, updates: int) -> "pd.Series[bool]":
        one_of(window, "window", ("all", "before", "after"))
        late = mine["wins"] >= count(updates, "updates", at_least=1) * self.watcher.every
        return late if window == "after" else ~late if window == "before" else late | True

    def summary(self, *, against: str = "no_watcher", window: Window = "all", updates: int = 30) -> pd.DataFrame:
        """One line a variant: accuracy, paired change against a baseline, its sign test (Holm over the variants), and what was logged.

        The test is that of the first repeat; `worst` and `best` are the smallest and largest change over all repeats, which differ in
        chance alone. `entropy` is in bits at the stream's end, `moved` the median size of a nudge relative to the stream.

        Raises:
            ValueError: see `sign_test`.
        """
        lines = []
        for variant in self.variants:
            repeats = 1 if variant == "no_watcher" else self.repeats
            tests = [self.sign_test(variant, against, repeat=r, window=window, updates=updates) for r in range(repeats)]
            mine = self.outcomes(variant)
            part = mine[self._window(mine, window, updates)]
            low, high = wilson_interval(int(part["correct"].sum()), len(part))
            change = change_of(tests[0])
            acted = part.loc[part["nudge"] > 0, "moved"]
            line = {"variant": variant, "n": len(part), "accuracy": part["correct"].mean(), "low": low, "high": high}
            line |= {"change": change["change"], "change_low": change["low"], "change_high": change["high"]}
            line |= {"became_right": change["became_right"], "became_wrong": change["became_wrong"]}
            line |= {"p": math.nan if variant == against else change["p"], "p_holm": math.nan}
            line |= {"worst": min(test.change for test in tests), "best": max(test.change for test in tests)}
            line |= {"updates": int(mine["updates"].iloc[-1]), "entropy": mine["entropy"].iloc[-1]}
            lines.append(line | {"moved": float(acted.median()) if len(acted) else 0.0})
        table = pd.DataFrame(lines)
        compared = table["p"].notna()
        if compared.any():
            table.loc[compared, "p_holm"] = holm(table.loc[compared, "p"])
        return table

    def claim(self, *, points: float = 0.15, updates: int = 30) -> Claim:
        """Did the Watcher gain so many points within so many updates? Judged on the problems after that many updates, first repeat.

        Raises:
            ValueError: the Watcher or no Watcher was not run, or points that are no share above 0.
        """
        if not 0 < points < 1:
            raise InputError(f"points={points}; use a share above 0 and below 1 (0.15 is fifteen points)")
        mine, plain = self.outcomes("watcher"), self.outcomes("no_watcher")
        late = self._window(mine, "after", updates)
        n, nan = int(late.sum()), math.nan
        if n < FEWEST:
            return Claim(points, updates, n, nan, nan, nan, nan, (nan, nan), "not tested")
        test, random = sign_test(plain["correct"][late], mine["correct"][late]), (nan, nan)
        if "no_updates" in self.variants:
            other = sign_test(self.outcomes("no_updates")["correct"][late], mine["correct"][late])
            random = other.change, other.pvalue
        low, high = test.interval()
        verdict: Verdict = "held" if low >= points else "did not hold" if high < points else "undecided"
        return Claim(points, updates, n, test.change, low, high, test.pvalue, random, verdict)

    def report_parts(self) -> dict[str, Any]:
        """What `steerlab.write_report` shows of it: question, answer, figures and tables in words."""
        table = self.summary()
        changes = table[table["variant"] != "no_watcher"].drop(columns=["low", "high"])
        changes = changes.rename(columns={"variant": "name", "change_low": "low", "change_high": "high"})
        question = f"Does a Watcher at layer {self.layer} raise accuracy along a stream of problems as it learns?"
        figures = [
            (
                "Change in accuracy against no Watcher, over the whole stream.",
                figure("forest", changes),
                "Change in accuracy of each variant.",
            ),
            ("Right answers won along the stream.", self.plot(), "Cumulated difference to no Watcher."),
            ("How evenly the attractors are used.", self.plot(measure="entropy"), "Entropy of attractor use."),
            ("How far the nudges go.", self.plot(measure="moved"), "Size of the nudges relative to the stream."),
        ]
        tables = {
            "variants": ("Against no Watcher: paired changes, exact sign tests, p corrected by Holm over the variants.", table),
            "against_random": ("Against attractors that never learn.", self.summary(against="no_updates")),
            "results": ("", self.frame),
        }
        answer = str(self.claim())
        return self._page("Emergent Activation Snapping", question, "", tables, answer=answer, figures=figures)

    def __repr__(self) -> str:
        n = len(self.frame) // len(self.frame[["variant", "repeat"]].drop_duplicates())
        return f"EASComparison({len(self.variants)} variants x {self.repeats} starts, layer={self.layer}, n={n})"


@job("problems", "variants", "repeats", "timed")
@takes_options
def compare_eas(
    model: Model,
    problems: Sequence[Problem],
    *,
    layer: int,
    rng: np.random.Generator,
    watcher: Watcher | None = None,
    variants: Sequence[str] = tuple(VARIANTS),
    repeats: int = 1,
    timed: int = 0,
    scorer: str | Scorer | None = None,
    **options: Unpack[PassOptions],
) -> EASComparison:
    """A Watcher and its baselines, run on one stream and compared.

    Args:
        model, problems, layer, watcher, scorer: as in `steerlab.studies.eas.stream.run_eas`.
        rng: draws the attractors, the same for all variants of a repeat.
        variants: see `steerlab.studies.eas.watcher.VARIANTS`; "no_watcher" is always run.
        repeats: how many starts of the attractors.
        timed: problems on which each variant runs alone, once more, for its latency; 0 measures none.

    Raises:
        ValueError: bad input, found before the first run.
        RuntimeError: the resumed run disagrees with a plain hooked run.

    Example:
        >>> import steerlab as sl
        >>> stream = sl.load_task("arithmetic", n_train=12, n_validation=0, n_test=0).train
        >>> model = sl.load_model("tiny-arithmetic")
        >>> found = compare_eas(model, stream, layer=3, rng=np.random.default_rng(0), variants=["watcher", "no_updates"])
        >>> list(found.variants)
        ['no_watcher', 'watcher', 'no_updates']
    """
    check_stream(model, problems, layer, rng)
    repeats, timed, watcher = count(repeats, "repeats", at_least=1), count(timed, "timed", at_least=0), watcher or Watcher()
    names = tuple(dict.fromkeys(["no_watcher", *variants]))
    settings = {name: variant_named(watcher, name) for name in names}
    starts = [random_attractors(watcher.attractors, d_model(model), rng=rng) for _ in range(repeats)]
    runs: list[tuple[str, int, Watching | None]] = []
    for name, chosen in settings.items():
        runs += [(name, 0, None)] if chosen is None else [(name, r, Watching(chosen, start)) for r, start in enumerate(starts)]
    states = [state for _, _, state in runs]
    limits = only(options, Limits)
    if options["progress"]:

        def some_of(some: Sequence[Problem]) -> int:
            fresh = [None if state is None else Watching(state.watcher, state.attractors.copy()) for state in states]
            stream(model, some, fresh, layer=layer, scorer=scorer, **limits)
            return len(some) * len(fresh)

        # A problem alone under one variant takes about as long as under all of them.
        alone = len(problems[:timed]) * len(names) * len(states)
        work = Work("stream", len(problems) * len(states), problems, some_of, alone)
        forecast(model, [work], show=True, extra=f" in {len(problems)} problems")
    frames, _ = stream(model, problems, states, layer=layer, scorer=scorer, **options)
    frame = pd.concat([f.assign(variant=name, repeat=r) for (name, r, _), f in zip(runs, frames, strict=True)], ignore_index=True)
    frame = frame[["variant", "repeat", *STREAM_COLUMNS]]
    how: dict[str, Any] = {"layer": layer, "watcher": watcher, "scorer": scorer, **limits}
    few = {name: run_eas(model, problems[:timed], rng=np.random.default_rng(0), variant=name, **how) for name in (names if timed else ())}
    latency = pd.Series({name: float(np.median(one.seconds)) for name, one in few.items()}, dtype=float, name="seconds")
    return EASComparison(frame, watcher, int(layer), names, repeats, latency, scorer_for(problems, scorer).name)
