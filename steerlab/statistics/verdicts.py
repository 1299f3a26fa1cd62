"""One verdict on one cell, from named tests: does it have an effect, and is it this direction's?"""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from steerlab._checks import InputError, open_share
from steerlab._html import Result
from steerlab.statistics._format import format_p
from steerlab.statistics.multiplicity import LEVEL, holm, significant

SPECIFIC = "specific effect"
NOT_SPECIFIC = "effect that is not specific to this direction"
UNUSUAL = "unusual, but no net effect"
NOTHING = "no effect detected"
VERDICTS = {(True, True): SPECIFIC, (True, False): NOT_SPECIFIC, (False, True): UNUSUAL, (False, False): NOTHING}
"""By whether there is an effect, and whether it is beyond those of all kinds of controls."""


@dataclass(frozen=True)
class Verdict(Result):
    """What the tests of one cell say together.

    Attributes:
        text: one of `VERDICTS`.
        effect: the p-value of the effect, uncorrected.
        controls: the p-values against each kind of controls, uncorrected.
        level: at or below which a corrected p-value counts.

    Example:
        >>> print(verdict(0.0001, {"random pipelines": 0.01, "shuffled labels": 0.01}))
        specific effect (effect p = 0.0003, random pipelines p = 0.0200, shuffled labels p = 0.0200; Holm over 3 tests)
    """

    text: str
    effect: float
    controls: Mapping[str, float]
    level: float

    @property
    def frame(self) -> pd.DataFrame:
        """One line a test: test, p_uncorrected, p_holm, significant."""
        table = pd.DataFrame({"test": ["effect", *self.controls], "p_uncorrected": [self.effect, *self.controls.values()]})
        table["p_holm"] = holm(table["p_uncorrected"].to_numpy(float))
        return table.assign(significant=significant(table["p_holm"], self.level))

    def __str__(self) -> str:
        lines = self.frame.itertuples()
        return f"{self.text} ({', '.join(f'{line.test} {format_p(float(str(line.p_holm)))}' for line in lines)}; Holm over {len(self.controls) + 1} tests)"


def verdict(effect: float, controls: Mapping[str, float], *, level: float = LEVEL) -> Verdict:
    """The verdict on one cell: whether it has an effect, and whether the effect is beyond those of every kind of controls.

    Args:
        effect: p-value of the effect at this cell, such as `sign_flip_test`'s, one-sided as named beforehand.
        controls: p-values against controls, by kind, such as `sequential_test`'s.
        level: of Holm's correction over all of them; a corrected p-value counts at or below it.

    Raises:
        ValueError: no controls, p-values that are none, or a level outside (0, 1).

    Source:
        Holm (1979), Scandinavian Journal of Statistics 6, 65-70; "specific effect" needs every test, as in Berger (1982),
        Technometrics 24, 295-300 (intersection-union).

    Example:
        >>> verdict(0.3, {"random pipelines": 0.4, "shuffled labels": 0.01}).text
        'no effect detected'
    """
    if not controls:
        raise InputError("controls: no p-values; without controls nothing is said about this direction")
    open_share(level, "level")
    found = Verdict("", float(effect), dict(controls), level)
    counts = found.frame["significant"].tolist()
    return Verdict(VERDICTS[counts[0], all(counts[1:])], found.effect, found.controls, level)
