"""Tests, intervals, corrections and power: arrays and Series in, frozen results out; no model and no torch.

Paired outcomes are compared by `sign_test` (with `paired_interval`), paired margins by `paired_t_test`, and an effect
is held against control directions by `rank_test`, with `one_sample_t_test` and `cohens_d` reported next to it.
"""

from steerlab.statistics._display import format_p
from steerlab.statistics._input import Alternative
from steerlab.statistics._student import TTest
from steerlab.statistics.against_controls import RankTest, cohens_d, one_sample_t_test, rank_test
from steerlab.statistics.corrections import benjamini_hochberg, holm
from steerlab.statistics.dose_curves import IsotonicFit, SpearmanCorrelation, isotonic_fit, spearman
from steerlab.statistics.dose_lines import Asymmetry, LinearFit, asymmetry, linear_fit
from steerlab.statistics.dose_response import DoseResponse, dose_response
from steerlab.statistics.equivalence import EquivalenceTest, equivalence_test
from steerlab.statistics.intervals import Interval, paired_interval, wilson_interval
from steerlab.statistics.many_looks import MaxStatisticTest, max_statistic_test
from steerlab.statistics.paired import SignTest, paired_t_test, sign_test
from steerlab.statistics.planning import Plan, plan
from steerlab.statistics.power import power_curve, power_of_sign_test, power_of_t_test, smallest_detectable_change
from steerlab.statistics.trends import Reversal, TrendTest, largest_reversal, trend_test

__all__ = [
    "Alternative",
    "Asymmetry",
    "DoseResponse",
    "EquivalenceTest",
    "Interval",
    "IsotonicFit",
    "LinearFit",
    "MaxStatisticTest",
    "Plan",
    "RankTest",
    "Reversal",
    "SignTest",
    "SpearmanCorrelation",
    "TTest",
    "TrendTest",
    "asymmetry",
    "benjamini_hochberg",
    "cohens_d",
    "dose_response",
    "equivalence_test",
    "format_p",
    "holm",
    "isotonic_fit",
    "largest_reversal",
    "linear_fit",
    "max_statistic_test",
    "one_sample_t_test",
    "paired_interval",
    "paired_t_test",
    "plan",
    "power_curve",
    "power_of_sign_test",
    "power_of_t_test",
    "rank_test",
    "sign_test",
    "smallest_detectable_change",
    "spearman",
    "trend_test",
    "wilson_interval",
]
