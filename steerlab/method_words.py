"""A comparison of methods in words: what was found, how, and what a reader must know first."""

from collections.abc import Hashable, Mapping
from typing import Any, Protocol

import pandas as pd

from steerlab.statistics._display import format_p
from steerlab.statistics.power import smallest_detectable_change
from steerlab.tasks.evaluation import Evaluation

LEVEL = 0.05
MOST_SHOWN = 5  # differences that the summary names
SAID = {"norm": "at equal norm", "kl": "at equal KL", "own": "each at its own norm", "none": "without steering"}


class Compared(Protocol):
    """The part of a `MethodComparison` that is put into words."""

    @property
    def baseline(self) -> Evaluation: ...
    @property
    def frame(self) -> pd.DataFrame: ...
    @property
    def pairs(self) -> pd.DataFrame: ...
    @property
    def chosen(self) -> pd.DataFrame: ...
    @property
    def controls(self) -> pd.DataFrame: ...
    @property
    def doses(self) -> pd.DataFrame: ...
    @property
    def looks(self) -> pd.DataFrame: ...
    @property
    def notes(self) -> Mapping[str, str]: ...
    @property
    def missing(self) -> Mapping[str, str]: ...
    @property
    def settings(self) -> Mapping[str, Any]: ...


def summary(found: Compared) -> str:
    """What was found, in a paragraph."""
    base, table = found.baseline, found.frame[found.frame["method"] != "baseline"]
    interval = base.interval()
    said = [
        f"Unsteered, {100 * base.accuracy:.1f}% of {base.n} test problems are answered rightly (95% interval {100 * interval.low:.1f}% to "
        f"{100 * interval.high:.1f}%)."
    ]
    changed = table[table["p_holm"] < LEVEL]
    said.append(
        f"{len(changed)} of {len(table)} lines of the table differ from that after Holm's correction over all of them"
        + (f": {'; '.join(_shown(row) for row in changed.to_dict('records'))}." if len(changed) else ".")
    )
    steered = table[table["controls"] > 0]
    for matching, part in steered.groupby("matching", sort=False):
        special = part[part["p_controls_holm"] < LEVEL]
        names = ", ".join(f"{row['method']} ({format_p(row['p_controls_holm'], digits=2)})" for row in special.to_dict("records"))
        at = f"norm {part['norm'].iloc[0]:.3g}" if matching == "norm" else f"KL {part['kl'].median():.3g} nats a token"
        where = SAID[str(matching)] + ("" if matching == "own" else f" ({at})")
        said.append(
            f"{_begun(where)}, {len(special)} of {len(part)} methods do to accuracy what random vectors at the same place and level do not, "
            f"after Holm's correction over these methods{f': {names}' if names else ''}."
        )
    said += _differences(found.pairs)
    return " ".join([*said, *_null(found)])


def _differences(pairs: pd.DataFrame) -> list[str]:
    """Which pairs differ: two ways to steer one by one, steering and asking otherwise together."""
    asking = (pairs[["method", "other"]] == "prompt").any(axis=1)
    steering = pairs[~asking]
    real = steering[steering["p_holm"] < LEVEL]
    shown = "; ".join(
        f"{row['method']} over {row['other']} {SAID[row['matching']]} by {100 * row['difference']:+.1f} points "
        f"({100 * row['low']:+.1f} to {100 * row['high']:+.1f})"
        for row in real.sort_values("p", kind="stable").head(MOST_SHOWN).to_dict("records")
    )
    more = f"; and {len(real) - MOST_SHOWN} more" if len(real) > MOST_SHOWN else ""
    every = int((pairs["p_holm"] < LEVEL).sum())
    said = [
        f"Of {len(pairs)} differences between two methods, {every} hold after Holm's correction over all of them, {len(real)} of these between two ways to "
        f"steer{f': {shown}{more}' if shown else ''}."
    ]
    against = pairs[asking]
    if len(against):
        # seen from steering, whichever stands first
        gains = against["difference"].where(against["other"] == "prompt", -against["difference"])[against["p_holm"] < LEVEL]
        for which, verb in ((gains[gains > 0], "above"), (gains[gains < 0], "below")):
            if len(which):
                said.append(
                    f"{len(which)} of {len(against)} lines of steering lie {verb} asking otherwise after that correction, by {100 * which.abs().min():.1f} to "
                    f"{100 * which.abs().max():.1f} points."
                )
        if not len(gains):
            said.append(f"None of {len(against)} lines of steering differs from asking otherwise after that correction.")
    return said


def _null(found: Compared) -> list[str]:
    """What differences this many problems could not have shown."""
    quiet = found.pairs[found.pairs["p_holm"] >= LEVEL]
    if quiet.empty:
        return []
    share = float(((quiet["only_method"] + quiet["only_other"]) / found.baseline.n).median())
    smallest = smallest_detectable_change(found.baseline.n, discordant=share) if share > 0 else None
    if smallest is None:
        return [
            f"The other pairs disagree on {100 * share:.1f}% of {found.baseline.n} problems (the median of them): too few for a difference of any size to be "
            "found with 80% power."
        ]
    return [
        f"For the others nothing is shown either way: a pair that disagrees on {100 * share:.0f}% of {found.baseline.n} problems (the median of them) must differ by "
        f"{100 * smallest:.1f} points to be found with 80% power, uncorrected."
    ]


def method(found: Compared) -> list[str]:
    """How the numbers came about, in paragraphs."""
    looked = found.frame[found.frame["controls"] > 0]
    sizes = found.settings
    return [
        f"Every method found its vectors on the same {sizes['n_train']} train problems: "
        + "; ".join(f"{name}: {about}" for name, about in found.notes.items())
        + ".",
        f"On {sizes['n_validation']} validation problems each method that adds a vector was looked at {_counts(looked)} times: every candidate layer, "
        "every level, both signs. Learned vectors trained for a fixed number of epochs and did not look there in training. The level is common to all "
        "methods of a matching: the one with the highest mean of the methods' best accuracies. The prompt had as many looks as it has wordings.",
        f"On {sizes['n_test']} test problems the chosen looks were scored once. The other levels were scored there, too, for the figure; nothing was "
        "chosen by them. Norm is that of all that is added, over all layers where it acts. KL is that of next-token distributions, unsteered against "
        f"steered, on {sizes['texts']}. Controls are random vectors at the same layers (and in the same proportions), of the same norm or KL; methods "
        "that chose the same place share them, so their p-values hang together, which Holm's correction allows.",
    ]


def cautions(found: Compared) -> list[str]:
    """What a reader must know."""
    said = [f"{name} was left out: {why}." for name, why in found.missing.items()]
    said += [f"{name}: {about}." for name, about in found.notes.items() if "cannot read" in about]
    steered = found.frame[found.frame["controls"] > 0]
    for matching, part in steered.groupby("matching", sort=False):
        least = len(part) / (int(part["controls"].min()) + 1)
        if least >= LEVEL:
            said.append(
                f"With {part['controls'].min()} controls and {len(part)} methods {SAID[str(matching)]} the corrected p of a rank test cannot fall below "
                f"{least:.2g}; use at least {int(len(part) / LEVEL)} controls."
            )
    for name, table in (("looks on validation", found.looks), ("test cells", found.doses), ("controls", found.controls)):
        if "reached" in table and len(missed := table[table["reached"].eq(other=False)]):
            said.append(
                f"{len(missed)} of {len(table)} {name} do not reach the KL of their level within 2% at any length tried and act at the nearest "
                "found."
            )
    levels = found.settings.get("levels", {})
    for matching in steered.loc[steered["matching"] != "own", "matching"].unique():
        level = found.chosen.loc[found.chosen["matching"] == matching, "level"].iloc[0]
        if len(levels[matching]) > 1 and level in (min(levels[matching]), max(levels[matching])):
            end = "lowest" if level == min(levels[matching]) else "highest"
            said.append(
                f"{_begun(SAID[str(matching)])}, validation chose the {end} of the levels tried, {level:g}; a better one may lie beyond."
            )
    return said


def _counts(lines: pd.DataFrame) -> str:
    """Numbers of looks by matching, in words."""
    parts = [
        f"{'/'.join(str(int(n)) for n in sorted(part['looks'].unique()))} ({SAID[str(matching)]})"
        for matching, part in lines.groupby("matching", sort=False)
    ]
    return " and ".join(parts) or "0"


def _begun(text: str) -> str:
    """A sentence's beginning; the rest keeps its capitals."""
    return text[:1].upper() + text[1:]


def _shown(row: dict[Hashable, Any]) -> str:
    return (
        f"{row['method']} {SAID[row['matching']]} {100 * row['change']:+.1f} points ({100 * row['low']:+.1f} to {100 * row['high']:+.1f})"
    )
