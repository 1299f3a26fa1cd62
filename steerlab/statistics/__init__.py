"""Tests, intervals, corrections and power: arrays and Series in, frozen results out; no model and no torch.

Paired outcomes are compared by `sign_test` (with `paired_interval`), paired margins by `paired_t_test`, and an effect
is held against control directions by `rank_test`, with `one_sample_t_test` and `cohens_d` reported next to it.
"""

from steerlab.statistics._display import format_p
from steerlab.statistics._input import Alternative
from steerlab.statistics._student import TTest
from steerlab.statistics.against_controls import RankTest, cohens_d, one_sample_t_test, rank_test
from steerlab.statistics.corrections import benjamini_hochberg, holm
from steerlab.statistics.intervals import Interval, paired_interval, wilson_interval
from steerlab.statistics.paired import SignTest, paired_t_test, sign_test
from steerlab.statistics.power import smallest_detectable_change

__all__ = [
    "Alternative",
    "Interval",
    "RankTest",
    "SignTest",
    "TTest",
    "benjamini_hochberg",
    "cohens_d",
    "format_p",
    "holm",
    "one_sample_t_test",
    "paired_interval",
    "paired_t_test",
    "rank_test",
    "sign_test",
    "smallest_detectable_change",
    "wilson_interval",
]
